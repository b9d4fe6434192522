//! `sample` and `process` for Python.

use std::sync::Mutex;

use foretoken_core::batch::{Batch, Output};
use foretoken_core::error::Error;
use foretoken_core::history::History;
use foretoken_core::sample::STREAMS;
use numpy::{Element, IntoPyArray, PyArray2, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;

use crate::arguments::Whole;
use crate::arrays::{Borrowed, integers, seeds};
use crate::door::{enter, to_python};
use crate::history::{PyHistory, histories};
use crate::sampler;

/// What is given for each row: seeds, positions, sample indices, histories.
pub struct Rows<'py> {
    seeds: Vec<u64>,
    positions: Vec<i64>,
    samples: Option<Vec<i64>>,
    history: Option<Vec<Bound<'py, PyHistory>>>,
}

impl<'py> Rows<'py> {
    /// Copies the numbers; holds the histories.
    pub fn new(
        seeds: &Bound<'py, PyAny>,
        positions: &Bound<'py, PyAny>,
        rows: Option<&Bound<'py, PyAny>>,
        history: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            seeds: self::seeds(seeds)?,
            positions: integers("positions", positions)?,
            samples: rows.map(|rows| integers("rows", rows)).transpose()?,
            history: histories(history)?,
        })
    }

    /// The locks of the histories.
    pub fn locks(&self) -> Option<Vec<&Mutex<History>>> {
        self.history.as_ref().map(|histories| histories.iter().map(|history| &history.get().0).collect())
    }

    /// The batch that the core works on.
    pub fn batch<'a>(
        &'a self,
        logits: &'a [f32],
        count: usize,
        history: Option<&'a [&'a Mutex<History>]>,
        logprobs: Option<usize>,
        threads: usize,
    ) -> Batch<'a> {
        let Self { seeds, positions, samples, .. } = self;
        Batch { logits, count, seeds, positions, rows: samples.as_deref(), history, logprobs, threads }
    }
}

/// Tokens, gaps, and if asked for log probabilities of the tokens and the most probable tokens with theirs.
pub type Chosen<'py> = (
    Bound<'py, PyArrayDyn<i64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Option<Bound<'py, PyArrayDyn<f64>>>,
    Option<Bound<'py, PyArrayDyn<i64>>>,
    Option<Bound<'py, PyArrayDyn<f64>>>,
);

/// The results as arrays of this shape, those of the most probable tokens with one axis more.
pub fn to_arrays<'py>(py: Python<'py>, output: Output, shape: &[usize], count: Option<usize>) -> PyResult<Chosen<'py>> {
    let deep: Vec<usize> = shape.iter().copied().chain(count).collect();
    let on = |logprobs| count.map(|_| logprobs);
    Ok((
        shaped(py, output.tokens, shape)?,
        shaped(py, output.gaps, shape)?,
        on(output.logprobs).map(|numbers| shaped(py, numbers, shape)).transpose()?,
        count.map(|_| shaped(py, output.top_tokens, &deep)).transpose()?,
        on(output.top_logprobs).map(|numbers| shaped(py, numbers, &deep)).transpose()?,
    ))
}

fn shaped<'py, T: Element>(py: Python<'py>, numbers: Vec<T>, shape: &[usize]) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let flat = numbers.into_pyarray(py);
    if shape.len() == 1 { Ok(flat.to_dyn().clone()) } else { flat.reshape(shape) }
}

/// Refuses a size that does not fit the others.
pub fn check_size(
    py: Python<'_>,
    name: &'static str,
    unit: &'static str,
    given: usize,
    expected: usize,
) -> PyResult<()> {
    if given == expected { Ok(()) } else { Err(to_python(py, &Error::Shape { name, unit, given, expected })) }
}

/// A number of things, which cannot be negative.
pub fn count_of(py: Python<'_>, name: &'static str, number: Whole) -> PyResult<usize> {
    let outside = Error::Range { name, value: number.0 as f64, expected: "0 or more" };
    usize::try_from(number.0).map_err(|_| to_python(py, &outside))
}

/// Which noise decides.
pub fn stream_of(py: Python<'_>, number: Whole) -> PyResult<u32> {
    let outside = Error::Range { name: "stream", value: number.0 as f64, expected: STREAMS };
    u32::try_from(number.0).map_err(|_| to_python(py, &outside))
}

/// One token for each row of logits.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // positional, because `kernels` is the one caller and keywords cost time
fn sample<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    sampler: &Bound<'py, PyAny>,
    seeds: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    rows: Option<&Bound<'py, PyAny>>,
    history: Option<&Bound<'py, PyAny>>,
    logprobs: Option<Whole>,
    stream: Whole,
    commit: bool,
    threads: Whole,
) -> PyResult<Chosen<'py>> {
    let (logprobs, threads) =
        (logprobs.map(|n| count_of(py, "logprobs", n)).transpose()?, count_of(py, "threads", threads)?);
    let stream = stream_of(py, stream)?;
    let sampler = sampler::borrow(sampler)?;
    let logits = Borrowed::<f32>::new("logits", logits, "float32", 2)?;
    let count = logits.shape()[0];
    check_size(py, "logits", "columns", logits.shape()[1], sampler.vocab_size)?;
    let rows = Rows::new(seeds, positions, rows, history)?;
    let (locks, logits) = (rows.locks(), logits.slice()?);
    let batch = rows.batch(logits, count, locks.as_deref(), logprobs, threads);
    let output = enter(py, || foretoken_core::sample::sample(sampler, &batch, stream, commit))?;
    to_arrays(py, output, &[count], logprobs)
}

/// The law that `sample` would draw from.
#[pyfunction]
fn process<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    sampler: &Bound<'py, PyAny>,
    seeds: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    rows: Option<&Bound<'py, PyAny>>,
    history: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let sampler = sampler::borrow(sampler)?;
    let logits = Borrowed::<f32>::new("logits", logits, "float32", 2)?;
    let count = logits.shape()[0];
    check_size(py, "logits", "columns", logits.shape()[1], sampler.vocab_size)?;
    let rows = Rows::new(seeds, positions, rows, history)?;
    let (locks, logits) = (rows.locks(), logits.slice()?);
    let batch = rows.batch(logits, count, locks.as_deref(), None, 1);
    let laws = enter(py, || {
        let mut laws = vec![0.0; logits.len()];
        foretoken_core::sample::process(sampler, &batch, &mut laws).map(|()| laws)
    })?;
    laws.into_pyarray(py).reshape([count, sampler.vocab_size])
}

/// Ids and probabilities (rows, m).
type SparseLaws<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<f64>>);

/// The same law as ids and probabilities of the tokens it allows.
#[pyfunction]
fn process_sparse<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    sampler: &Bound<'py, PyAny>,
    seeds: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    rows: Option<&Bound<'py, PyAny>>,
    history: Option<&Bound<'py, PyAny>>,
) -> PyResult<SparseLaws<'py>> {
    let sampler = sampler::borrow(sampler)?;
    let logits = Borrowed::<f32>::new("logits", logits, "float32", 2)?;
    let count = logits.shape()[0];
    check_size(py, "logits", "columns", logits.shape()[1], sampler.vocab_size)?;
    let rows = Rows::new(seeds, positions, rows, history)?;
    let (locks, logits) = (rows.locks(), logits.slice()?);
    let batch = rows.batch(logits, count, locks.as_deref(), None, 1);
    let sparse = enter(py, || foretoken_core::sample::process_sparse(sampler, &batch))?;
    let shape = [count, sparse.width];
    Ok((sparse.ids.into_pyarray(py).reshape(shape)?, sparse.laws.into_pyarray(py).reshape(shape)?))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sample, module)?)?;
    module.add_function(wrap_pyfunction!(process, module)?)?;
    module.add_function(wrap_pyfunction!(process_sparse, module)?)
}
