//! Block drafters for Python.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foretoken_core::native::block::{BlockShape, Drafter, DrafterWeights};
use foretoken_core::native::blocks::{Draw, Ring};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::Whole;
use crate::arrays::{Borrowed, seeds};
use crate::door::enter;
use crate::history::histories;
use crate::native::{Lookup, Shape, block, config, dtype};
use crate::sample::{count_of, stream_of};
use crate::sampler;

/// The nine weights of a draft layer, in the order of `BlockWeights`.
const LAYER: [(&str, usize); 9] = [
    ("q_proj.weight", 2),
    ("k_proj.weight", 2),
    ("v_proj.weight", 2),
    ("o_proj.weight", 2),
    ("mlp.gate_proj.weight", 2),
    ("mlp.up_proj.weight", 2),
    ("mlp.down_proj.weight", 2),
    ("attention_norm.weight", 1),
    ("mlp_norm.weight", 1),
];

/// A block drafter with at least one layer and no shared imagination, packed for the CPU.
///
/// Args:
///     shape: that of a draft layer, as `NativeModel` takes it; the context is the most that a position may be.
///     sizes: taps, block, reach, rank, order.
///     weights: those of the module by name, and `embedding` and `unembedding` of the target.
///     dtype: "float32", "bfloat16" or "int8".
///
/// Raises:
///     InvalidArgument: a size or the dtype is out of range.
///     ShapeError: a weight does not fit the shape.
///     ArgumentTypeError: a weight is missing or no float32 array.
#[pyclass(frozen, name = "NativeBlock", module = "foretoken._rust")]
pub struct PyBlock(Arc<Drafter>);

#[pymethods]
impl PyBlock {
    #[new]
    fn new(
        py: Python<'_>,
        shape: Shape,
        sizes: [usize; 5],
        weights: &Bound<'_, PyDict>,
        dtype: &str,
    ) -> PyResult<Self> {
        let (config, dtype) = (config(shape), self::dtype(py, dtype)?);
        let [taps, block_, reach, rank, order] = sizes;
        let shape = BlockShape { config, taps, block: block_, reach, rank, order };
        let weights = Lookup(weights);
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            let get = |&(name, rank): &(&str, usize)| weights.get(&format!("layers.{layer}.{name}"), rank);
            layers.push(LAYER.iter().map(get).collect::<PyResult<Vec<_>>>()?);
        }
        let past = (0..order).map(|i| weights.get(&format!("past.{i}.weight"), 2)).collect::<PyResult<Vec<_>>>()?;
        let (mix, mix_norm) = (weights.get("mix.weight", 2)?, weights.get("mix_norm.weight", 1)?);
        let (masks, norm) = (weights.get("embed_masks", 2)?, weights.get("norm.weight", 1)?);
        let (state, state_bias) = (weights.get("state.weight", 2)?, weights.get("state.bias", 1)?);
        let (correction, confidence) = (weights.get("correction.weight", 2)?, weights.get("confidence", 1)?);
        let (embedding, unembedding) = (weights.get("embedding", 2)?, weights.get("unembedding", 2)?);
        let weights = DrafterWeights {
            mix: mix.slice()?,
            mix_norm: mix_norm.slice()?,
            layers: layers.iter().map(|weights| block(weights)).collect::<PyResult<_>>()?,
            masks: masks.slice()?,
            norm: norm.slice()?,
            past: past.iter().map(Borrowed::slice).collect::<PyResult<_>>()?,
            state: state.slice()?,
            state_bias: state_bias.slice()?,
            correction: correction.slice()?,
            confidence: confidence.slice()?,
            embedding: embedding.slice()?,
            unembedding: unembedding.slice()?,
        };
        enter(py, || Drafter::new(shape, &weights, dtype)).map(|drafter| Self(Arc::new(drafter)))
    }

    /// What is to be remembered of one row.
    fn open(&self, py: Python<'_>) -> PyResult<PyRing> {
        enter(py, || Ring::new(self.0.clone())).map(|ring| PyRing(Mutex::new(ring)))
    }
}

/// What a block drafter remembers of one row; `NativeBlock.open` makes it.
#[pyclass(frozen, name = "BlockRing", module = "foretoken._rust")]
pub struct PyRing(Mutex<Ring>);

/// Tokens, how likely each is to be right, and the laws (k, vocabulary) if the ratio test needs them.
type Guessed<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>, Option<Bound<'py, PyArray2<f64>>>);

#[pymethods]
impl PyRing {
    /// Reads what the target's layers said of units (n, taps, hidden) float32, the first of which stands at `first`.
    fn read(&self, py: Python<'_>, states: &Bound<'_, PyAny>, first: Whole) -> PyResult<()> {
        let first = count_of(py, "first", first)?;
        let states = Borrowed::<f32>::new("states", states, "float32", 3)?;
        let slice = states.slice()?;
        enter(py, || self.lock().read(slice, first))
    }

    /// Guesses at most `k` tokens behind the newest one; fewer where that does not pay at these `costs`.
    #[allow(clippy::too_many_arguments)] // positional, as `sample` takes them
    fn draft<'py>(
        &self,
        py: Python<'py>,
        newest: Whole,
        k: Whole,
        sampler: &Bound<'py, PyAny>,
        seeds: &Bound<'py, PyAny>,
        row: Whole,
        history: Option<&Bound<'py, PyAny>>,
        stream: Whole,
        costs: Option<Vec<f64>>,
    ) -> PyResult<Guessed<'py>> {
        let (k, stream) = (count_of(py, "k", k)?, stream_of(py, stream)?);
        let sampler = sampler::borrow(sampler)?;
        let seed = self::seeds(seeds)?.first().copied().unwrap_or(0);
        let history = histories(history)?;
        let lock = history.as_ref().and_then(|all| all.first()).map(|history| &history.get().0);
        let draw = Draw { sampler, seed, sample: row.0, history: lock, stream, costs: costs.as_deref() };
        let draft = enter(py, || self.lock().draft(newest.0, k, &draw))?;
        let count = draft.tokens.len();
        let laws =
            (stream != 0).then(|| draft.laws.into_pyarray(py).reshape([count, sampler.vocab_size])).transpose()?;
        Ok((draft.tokens.into_pyarray(py), draft.chances.into_pyarray(py), laws))
    }
}

impl PyRing {
    /// A panic is a bug of ours; what a ring knows only changes once it is read.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyBlock>()?;
    module.add_class::<PyRing>()
}
