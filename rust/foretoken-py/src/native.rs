//! Small models on the CPU for Python.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foretoken_core::error::{Error, Result};
use foretoken_core::native::config::Config;
use foretoken_core::native::draft::Draws;
use foretoken_core::native::matrix::{Dtype, Matrix};
use foretoken_core::native::model::{BlockWeights, Model, Weights};
use foretoken_core::native::session::Session;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyArray4, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyDict, PyType};

use crate::arguments::Whole;
use crate::arrays::{Borrowed, integers, seeds};
use crate::door::{enter, raise, to_python};
use crate::history::histories;
use crate::sample::{count_of, stream_of};
use crate::sampler;

/// The sizes of a model, in the order of `Config`, then epsilon and theta.
pub type Shape = ([usize; 8], f64, f64);

/// The shape that they say.
pub fn config((sizes, eps, theta): Shape) -> Config {
    let [vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, head_dim, context] = sizes;
    let eps = eps as f32;
    Config { vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, head_dim, context, eps, theta }
}

fn shape(model: &Model) -> Shape {
    let c = model.config();
    let sizes =
        [c.vocab_size, c.hidden_size, c.intermediate_size, c.layers, c.heads, c.kv_heads, c.head_dim, c.context];
    (sizes, f64::from(c.eps), c.theta)
}

const DTYPES: [(&str, Dtype); 3] = [("float32", Dtype::Float32), ("bfloat16", Dtype::BFloat16), ("int8", Dtype::Int8)];

/// How weights are kept, by name.
pub fn dtype(py: Python<'_>, name: &str) -> PyResult<Dtype> {
    let found = DTYPES.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, dtype)| *dtype)
        .ok_or_else(|| raise(py, "InvalidArgument", format!("dtype is {name}: give float32, bfloat16 or int8")))
}

fn name_of(dtype: Dtype) -> &'static str {
    DTYPES.iter().find(|(_, known)| *known == dtype).map_or("", |(name, _)| name)
}

/// The weights of a small Llama, packed for the CPU.
///
/// Args:
///     shape: eight sizes (vocabulary, hidden, intermediate, layers, heads, key-value heads, head width, context), the
///         epsilon of the norms, and the base of the rotary frequencies.
///     weights: the names of transformers' `LlamaForCausalLM` to float32 arrays; without `lm_head.weight` the head is the
///         embedding.
///     dtype: "float32", "bfloat16" or "int8"; None for bfloat16 if that loses nothing, else float32.
///
/// Raises:
///     InvalidArgument: a size or the dtype is out of range, or a weight is NaN or infinite.
///     ShapeError: a weight does not fit the shape.
///     ArgumentTypeError: a weight is missing or no float32 array.
#[pyclass(frozen, name = "NativeModel", module = "foretoken._rust")]
pub struct PyNativeModel(Arc<Model>);

/// Weights by name.
pub struct Lookup<'py, 'a>(pub &'a Bound<'py, PyDict>);

impl<'py> Lookup<'py, '_> {
    /// A float32 array of this name and rank.
    pub fn get(&self, name: &str, rank: usize) -> PyResult<Borrowed<'py, f32>> {
        match self.0.get_item(name)? {
            Some(weight) => Borrowed::new("a weight", &weight, "float32", rank),
            None => Err(raise(self.0.py(), "ArgumentTypeError", format!("weights has no {name}: give every weight"))),
        }
    }
}

/// The nine weights of a block, in the order of `BlockWeights`.
const BLOCK: [(&str, usize); 9] = [
    ("self_attn.q_proj", 2),
    ("self_attn.k_proj", 2),
    ("self_attn.v_proj", 2),
    ("self_attn.o_proj", 2),
    ("mlp.gate_proj", 2),
    ("mlp.up_proj", 2),
    ("mlp.down_proj", 2),
    ("input_layernorm", 1),
    ("post_attention_layernorm", 1),
];

/// Nine weights as those of a block.
pub fn block<'a>(weights: &'a [Borrowed<'_, f32>]) -> PyResult<BlockWeights<'a>> {
    let slice = |i: usize| weights[i].slice();
    Ok(BlockWeights {
        query: slice(0)?,
        key: slice(1)?,
        value: slice(2)?,
        out: slice(3)?,
        gate: slice(4)?,
        up: slice(5)?,
        down: slice(6)?,
        attention_norm: slice(7)?,
        mlp_norm: slice(8)?,
    })
}

/// What pickle keeps of a matrix: outputs, inputs, words, scales.
type Packed<'py> = (usize, usize, Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<f32>>);

/// What pickle keeps of a model.
type Parts<'py> = (Shape, &'static str, Vec<Packed<'py>>, Vec<Bound<'py, PyArray1<f32>>>);

#[pymethods]
impl PyNativeModel {
    #[new]
    #[pyo3(signature = (shape, weights, dtype = None))]
    fn new(py: Python<'_>, shape: Shape, weights: &Bound<'_, PyDict>, dtype: Option<&str>) -> PyResult<Self> {
        let config = config(shape);
        config.check().map_err(|error| to_python(py, &error))?;
        let dtype = dtype.map(|name| self::dtype(py, name)).transpose()?;
        let weights = Lookup(weights);
        let (embedding, norm) = (weights.get("model.embed_tokens.weight", 2)?, weights.get("model.norm.weight", 1)?);
        let head = weights.0.contains("lm_head.weight")?.then(|| weights.get("lm_head.weight", 2)).transpose()?;
        let mut blocks = Vec::new();
        for layer in 0..config.layers {
            let get = |&(name, rank): &(&str, usize)| weights.get(&format!("model.layers.{layer}.{name}.weight"), rank);
            blocks.push(BLOCK.iter().map(get).collect::<PyResult<Vec<_>>>()?);
        }
        let weights = Weights {
            embedding: embedding.slice()?,
            blocks: blocks.iter().map(|weights| block(weights)).collect::<PyResult<_>>()?,
            norm: norm.slice()?,
            head: head.as_ref().map(Borrowed::slice).transpose()?,
        };
        enter(py, || Model::new(config, &weights, dtype)).map(|model| Self(Arc::new(model)))
    }

    /// How the weights are kept: "float32", "bfloat16" or "int8".
    #[getter]
    fn dtype(&self) -> &'static str {
        name_of(self.0.dtype())
    }

    /// Bytes of the packed weights.
    #[getter]
    fn memory(&self) -> usize {
        self.0.bytes()
    }

    /// The model of the first blocks under the same head; shares the weights.
    fn first(&self, py: Python<'_>, layers: Whole) -> PyResult<Self> {
        let layers = count_of(py, "layers", layers)?;
        self.0.first(layers).map(|model| Self(Arc::new(model))).map_err(|error| to_python(py, &error))
    }

    /// The embeddings, (vocabulary, hidden) float32.
    fn embedding<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let config = self.0.config();
        self.0.embedding().into_pyarray(py).reshape([config.vocab_size, config.hidden_size])
    }

    /// What makes logits of normed states, (vocabulary, hidden) float32.
    fn unembedding<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let config = self.0.config();
        self.0.unembedding().into_pyarray(py).reshape([config.vocab_size, config.hidden_size])
    }

    /// An empty past for some rows, with room for a tree of so many nodes behind each; some layers may be tapped.
    #[pyo3(signature = (rows, capacity, nodes, threads, taps = None))]
    fn open(
        &self,
        py: Python<'_>,
        rows: Whole,
        capacity: Whole,
        nodes: Whole,
        threads: Whole,
        taps: Option<Vec<Whole>>,
    ) -> PyResult<PyNativeSession> {
        let (rows, capacity) = (count_of(py, "rows", rows)?, count_of(py, "capacity", capacity)?);
        let (nodes, threads) = (count_of(py, "nodes", nodes)?, count_of(py, "threads", threads)?);
        let taps = taps.unwrap_or_default().into_iter().map(|tap| count_of(py, "taps", tap));
        let taps = taps.collect::<PyResult<Vec<_>>>()?;
        let session = enter(py, || Session::new(self.0.clone(), rows, capacity, nodes, threads)?.tapped(taps))?;
        Ok(PyNativeSession(Mutex::new(session)))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Parts<'py>)> {
        let (py, model) = (slf.py(), &slf.get().0);
        let pack = |matrix: &Matrix| {
            let (outputs, inputs) = matrix.shape();
            (outputs, inputs, matrix.words().into_pyarray(py), matrix.scales().to_vec().into_pyarray(py))
        };
        let gains = model.gains().map(|gain| gain.to_vec().into_pyarray(py)).collect();
        let parts = (shape(model), name_of(model.dtype()), model.matrices().map(pack).collect(), gains);
        Ok((slf.get_type().getattr("_from_parts")?, parts))
    }

    #[classmethod]
    fn _from_parts(
        class: &Bound<'_, PyType>,
        shape: Shape,
        dtype: &str,
        matrices: Vec<Packed<'_>>,
        gains: Vec<Bound<'_, PyArray1<f32>>>,
    ) -> PyResult<Self> {
        let py = class.py();
        let dtype = self::dtype(py, dtype)?;
        let mut unpacked = Vec::new();
        for (outputs, inputs, words, scales) in &matrices {
            let (words, scales) = (words.readonly(), scales.readonly());
            let matrix = Matrix::from_parts(dtype, *outputs, *inputs, words.as_slice()?, scales.as_slice()?.to_vec());
            let (given, expected) = (words.as_slice()?.len(), outputs * inputs / dtype.per_word());
            unpacked.push(matrix.ok_or_else(|| to_python(py, &Error::Part { name: "a matrix", given, expected }))?);
        }
        let gains = gains.iter().map(|gain| Ok(gain.readonly().as_slice()?.to_vec())).collect::<PyResult<_>>()?;
        let model = enter(py, || Model::from_parts(config(shape), dtype, unpacked, gains))?;
        Ok(Self(Arc::new(model)))
    }
}

/// The past of some rows; `NativeModel.open` makes it. Threads may share an object, one call at a time gets through.
#[pyclass(frozen, name = "NativeSession", module = "foretoken._rust")]
pub struct PyNativeSession(Mutex<Session>);

/// Guesses (rows, k), and their laws (rows, k, vocabulary) if the ratio test needs them.
type Guessed<'py> = (Bound<'py, PyArray2<i64>>, Option<Bound<'py, PyArray3<f64>>>);

#[pymethods]
impl PyNativeSession {
    /// Units read by each row, (rows,) int64.
    #[getter]
    fn lengths<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        let lengths: Vec<i64> = self.attached(py).lengths().iter().map(|&length| length as i64).collect();
        lengths.into_pyarray(py)
    }

    /// What the tapped layers said of the units of the last forward, (rows, width, taps, hidden) float32.
    fn states<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let session = self.attached(py);
        let (rows, taps, hidden) =
            (session.lengths().len(), session.taps().len(), session.model().config().hidden_size);
        let width = session.states().len() / (rows * taps * hidden).max(1);
        session.states().to_vec().into_pyarray(py).reshape([rows, width, taps, hidden])
    }

    /// Reads (rows, width) int64 ids and predicts what follows: logits (rows, width or 1, vocabulary) float32.
    fn forward<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
        counts: Option<&Bound<'py, PyAny>>,
        last: bool,
    ) -> PyResult<Bound<'py, PyArray3<f32>>> {
        let (tokens, counts) = read(tokens, counts)?;
        let slice = tokens.slice()?;
        let (rows, width) = (tokens.shape()[0], if last { 1 } else { tokens.shape()[1] });
        let (vocabulary, logits) = self.within(py, rows, |session| {
            let logits = session.forward(slice, counts.as_deref(), last)?;
            Ok((session.model().config().vocab_size, logits))
        })?;
        logits.into_pyarray(py).reshape([rows, width, vocabulary])
    }

    /// Reads ids as `forward` does, then guesses `k` for each row and reads all but the last of them.
    #[allow(clippy::too_many_arguments)] // positional, as `sample` takes them
    fn draft<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
        counts: Option<&Bound<'py, PyAny>>,
        k: Whole,
        sampler: &Bound<'py, PyAny>,
        seeds: &Bound<'py, PyAny>,
        rows: Option<&Bound<'py, PyAny>>,
        history: Option<&Bound<'py, PyAny>>,
        stream: Whole,
    ) -> PyResult<Guessed<'py>> {
        let (k, stream) = (count_of(py, "k", k)?, stream_of(py, stream)?);
        let sampler = sampler::borrow(sampler)?;
        let (tokens, counts) = read(tokens, counts)?;
        let seeds = self::seeds(seeds)?;
        let numbers = rows.map(|rows| integers("rows", rows)).transpose()?;
        let history = histories(history)?;
        let locks: Option<Vec<_>> = history.as_ref().map(|all| all.iter().map(|history| &history.get().0).collect());
        let draws = Draws { sampler, seeds: &seeds, samples: numbers.as_deref(), history: locks.as_deref(), stream };
        let (slice, rows) = (tokens.slice()?, tokens.shape()[0]);
        let guesses = self.within(py, rows, |session| session.draft(slice, counts.as_deref(), k, &draws))?;
        let laws =
            (stream != 0).then(|| guesses.laws.into_pyarray(py).reshape([rows, k, sampler.vocab_size])).transpose()?;
        Ok((guesses.tokens.into_pyarray(py).reshape([rows, k])?, laws))
    }

    /// Reads a tree of (rows, width) int64 ids behind each row: logits (rows, width, vocabulary) float32.
    fn forward_tree<'py>(
        &self,
        py: Python<'py>,
        tokens: &Bound<'py, PyAny>,
        parents: &Bound<'py, PyAny>,
        counts: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray3<f32>>> {
        let (tokens, counts) = read(tokens, counts)?;
        let parents = Borrowed::new("parents", parents, "int64", 2)?;
        let (slice, above, [rows, width]) = (tokens.slice()?, parents.slice()?, [tokens.shape()[0], tokens.shape()[1]]);
        let (vocabulary, logits) = self.within(py, rows, |session| {
            let logits = session.forward_tree(slice, above, counts.as_deref())?;
            Ok((session.model().config().vocab_size, logits))
        })?;
        logits.into_pyarray(py).reshape([rows, width, vocabulary])
    }

    /// Keeps one path of each row's tree, (rows, n) int64 places of which the first `counts` count.
    fn keep(&self, py: Python<'_>, path: &Bound<'_, PyAny>, counts: &Bound<'_, PyAny>) -> PyResult<()> {
        let (path, counts) = (Borrowed::new("path", path, "int64", 2)?, integers("counts", counts)?);
        let (slice, rows) = (path.slice()?, path.shape()[0]);
        self.within(py, rows, |session| session.keep(slice, &counts))
    }

    /// Forgets, row by row, everything behind `lengths` (rows,) units.
    fn truncate(&self, py: Python<'_>, lengths: &Bound<'_, PyAny>) -> PyResult<()> {
        let lengths = integers("lengths", lengths)?;
        self.attached(py).truncate(&lengths).map_err(|error| to_python(py, &error))
    }

    /// Keeps these rows, in this order; a row may be named more than once.
    fn select(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let rows = integers("rows", rows)?;
        enter(py, || self.lock().select(&rows))
    }
}

impl PyNativeSession {
    /// A panic is a bug of ours; lengths only change once a forward is done, so the rows are whole even then.
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same from inside the interpreter, which goes on while another thread's forward is waited for.
    fn attached(&self, py: Python<'_>) -> MutexGuard<'_, Session> {
        self.0.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    fn within<T: Send>(
        &self,
        py: Python<'_>,
        rows: usize,
        work: impl FnOnce(&mut Session) -> Result<T> + Send,
    ) -> PyResult<T> {
        enter(py, || {
            let mut session = self.lock();
            let expected = session.lengths().len();
            if rows != expected {
                return Err(Error::Shape { name: "tokens", unit: "rows", given: rows, expected });
            }
            work(&mut session)
        })
    }
}

/// Ids, borrowed, and counts, copied.
fn read<'py>(
    tokens: &Bound<'py, PyAny>,
    counts: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Borrowed<'py, i64>, Option<Vec<i64>>)> {
    let counts = counts.map(|counts| integers("counts", counts)).transpose()?;
    Ok((Borrowed::new("tokens", tokens, "int64", 2)?, counts))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyNativeModel>()?;
    module.add_class::<PyNativeSession>()
}
