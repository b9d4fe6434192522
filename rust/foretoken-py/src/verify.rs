//! `verify` for Python.

use foretoken_core::error::Error;
use foretoken_core::verify::{Draft, Laws, Rule, verify as verify_core};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;

use crate::arguments::Whole;
use crate::arrays::{Borrowed, integers};
use crate::door::{enter, to_python};
use crate::sample::{Chosen, Rows, check_size, count_of, to_arrays};
use crate::sampler;

/// What the tokens were drawn from: the numbers, and in sparse form whose they are.
struct GivenLaws<'py> {
    ids: Option<Borrowed<'py, i64>>,
    probs: Borrowed<'py, f64>,
}

impl<'py> GivenLaws<'py> {
    fn new(
        py: Python<'py>,
        probs: &Bound<'py, PyAny>,
        ids: Option<&Bound<'py, PyAny>>,
        (count, places, vocabulary): (usize, usize, usize),
    ) -> PyResult<Self> {
        let probs = Borrowed::<f64>::new("draft_probs", probs, "float64", 3)?;
        let ids = ids.map(|ids| Borrowed::<i64>::new("ids of draft_probs", ids, "int64", 3)).transpose()?;
        let width = ids.as_ref().map_or(vocabulary, |ids| ids.shape()[2]);
        for shape in [Some(probs.shape()), ids.as_ref().map(Borrowed::shape)].into_iter().flatten() {
            check_size(py, "draft_probs", "rows", shape[0], count)?;
            check_size(py, "draft_probs", "places", shape[1], places)?;
            check_size(py, "draft_probs", "columns", shape[2], width)?;
        }
        Ok(Self { ids, probs })
    }

    fn laws(&self) -> PyResult<Laws<'_>> {
        let probs = self.probs.slice()?;
        Ok(match &self.ids {
            Some(ids) => Laws::Sparse { ids: ids.slice()?, probs, width: ids.shape()[2] },
            None => Laws::Dense(probs),
        })
    }
}

/// Rows of accepted places, and what was emitted.
type Emitted<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray2<i64>>, Chosen<'py>);

/// The accepted part of each row's draft, and one token more.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // positional, because `kernels` is the one caller and keywords cost time
fn verify<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    draft: &Bound<'py, PyAny>,
    sampler: &Bound<'py, PyAny>,
    seeds: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    lengths: Option<&Bound<'py, PyAny>>,
    parents: Option<&Bound<'py, PyAny>>,
    rows: Option<&Bound<'py, PyAny>>,
    rejection: bool,
    block: bool,
    draft_probs: Option<&Bound<'py, PyAny>>,
    draft_ids: Option<&Bound<'py, PyAny>>,
    history: Option<&Bound<'py, PyAny>>,
    logprobs: Option<Whole>,
    threads: Whole,
) -> PyResult<Emitted<'py>> {
    let rule = match (rejection, block) {
        (false, false) => Rule::Coupled,
        (true, false) => Rule::Rejection,
        (true, true) => Rule::Block,
        (false, true) => {
            let reason = "only the ratio test judges whole blocks, so turn rejection on";
            return Err(to_python(py, &Error::Contradiction { first: "block", second: "rejection", reason }));
        }
    };
    let (logprobs, threads) =
        (logprobs.map(|n| count_of(py, "logprobs", n)).transpose()?, count_of(py, "threads", threads)?);
    let sampler = sampler::borrow(sampler)?;
    let logits = Borrowed::<f32>::new("logits", logits, "float32", 3)?;
    let draft = Borrowed::<i64>::new("draft", draft, "int64", 2)?;
    let parents = parents.map(|parents| Borrowed::<i64>::new("parents", parents, "int64", 2)).transpose()?;
    let (count, places) = (logits.shape()[0], draft.shape()[1]);
    check_size(py, "logits", "columns", logits.shape()[2], sampler.vocab_size)?;
    check_size(py, "logits", "places", logits.shape()[1], places + 1)?;
    check_size(py, "draft", "rows", draft.shape()[0], count)?;
    if let Some(parents) = &parents {
        check_size(py, "parents", "rows", parents.shape()[0], count)?;
        check_size(py, "parents", "places", parents.shape()[1], places)?;
    }
    let draft_probs = draft_probs.filter(|_| rejection);
    let given = draft_probs.map(|probs| GivenLaws::new(py, probs, draft_ids, (count, places, sampler.vocab_size)));
    let given = given.transpose()?;
    let lengths = lengths.map(|lengths| integers("lengths", lengths)).transpose()?;
    let rows = Rows::new(seeds, positions, rows, history)?;
    let (locks, logits) = (rows.locks(), logits.slice()?);
    let batch = rows.batch(logits, count, locks.as_deref(), logprobs, threads);
    let draft = Draft {
        tokens: draft.slice()?,
        places,
        lengths: lengths.as_deref(),
        parents: parents.as_ref().map(Borrowed::slice).transpose()?,
        laws: given.as_ref().map_or(Ok(Laws::Certain), GivenLaws::laws)?,
        rule,
    };
    let mut output = enter(py, || verify_core(sampler, &batch, &draft))?;
    let accepted = std::mem::take(&mut output.accepted).into_pyarray(py);
    let path = std::mem::take(&mut output.path).into_pyarray(py).reshape([count, places])?;
    Ok((accepted, path, to_arrays(py, output, &[count, places + 1], logprobs)?))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verify, module)?)
}
