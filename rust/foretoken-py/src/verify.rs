//! `verify` for Python.

use foretoken_core::verify::{Draft, Rule, verify as verify_core};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

use crate::arguments::Whole;
use crate::arrays::{Borrowed, integers};
use crate::door::enter;
use crate::sample::{Chosen, Rows, check_size, count_of, to_arrays};
use crate::sampler;

/// The accepted part of each row's draft, and one token more.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // positional, because `kernels.py` is the one caller and keywords cost time
fn verify<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    draft: &Bound<'py, PyAny>,
    sampler: &Bound<'py, PyAny>,
    seeds: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    lengths: Option<&Bound<'py, PyAny>>,
    rows: Option<&Bound<'py, PyAny>>,
    rejection: bool,
    draft_probs: Option<&Bound<'py, PyAny>>,
    history: Option<&Bound<'py, PyAny>>,
    logprobs: Option<Whole>,
    threads: Whole,
) -> PyResult<(Bound<'py, PyArray1<i64>>, Chosen<'py>)> {
    let (logprobs, threads) =
        (logprobs.map(|n| count_of(py, "logprobs", n)).transpose()?, count_of(py, "threads", threads)?);
    let sampler = sampler::borrow(sampler)?;
    let logits = Borrowed::<f32>::new("logits", logits, "float32", 3)?;
    let draft = Borrowed::<i64>::new("draft", draft, "int64", 2)?;
    let draft_probs = draft_probs.filter(|_| rejection);
    let laws = draft_probs.map(|laws| Borrowed::<f64>::new("draft_probs", laws, "float64", 3)).transpose()?;
    let (count, places) = (logits.shape()[0], draft.shape()[1]);
    check_size(py, "logits", "columns", logits.shape()[2], sampler.vocab_size)?;
    check_size(py, "logits", "places", logits.shape()[1], places + 1)?;
    check_size(py, "draft", "rows", draft.shape()[0], count)?;
    if let Some(laws) = &laws {
        check_size(py, "draft_probs", "rows", laws.shape()[0], count)?;
        check_size(py, "draft_probs", "places", laws.shape()[1], places)?;
        check_size(py, "draft_probs", "columns", laws.shape()[2], sampler.vocab_size)?;
    }
    let lengths = lengths.map(|lengths| integers("lengths", lengths)).transpose()?;
    let rows = Rows::new(seeds, positions, rows, history)?;
    let (locks, logits) = (rows.locks(), logits.slice()?);
    let batch = rows.batch(logits, count, locks.as_deref(), logprobs, threads);
    let laws = laws.as_ref().map(Borrowed::slice).transpose()?;
    let rule = if rejection { Rule::Rejection(laws) } else { Rule::Coupled };
    let draft = Draft { tokens: draft.slice()?, places, lengths: lengths.as_deref(), rule };
    let mut output = enter(py, || verify_core(sampler, &batch, &draft))?;
    let accepted = std::mem::take(&mut output.accepted).into_pyarray(py);
    Ok((accepted, to_arrays(py, output, &[count, places + 1], logprobs)?))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verify, module)?)
}
