//! Prompt look-up for Python.

use foretoken_core::ngram::NGram;
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::arguments::{Tokens, Whole};
use crate::door::{enter, to_python};

/// Rows as pickle keeps them.
pub type Texts<'py> = Vec<(i64, Bound<'py, PyArray1<i64>>)>;

/// Guesses what followed the newest earlier occurrence of the longest n-gram at the end of a row (Saxena 2023).
///
/// A copy that reaches the end of the row goes on with the tokens it has just proposed, so that a loop goes on looping.
/// Threads may share an object; rows do not wait for each other.
///
/// Args:
///     max_n: the longest n-gram that is looked for, in tokens, in [1, 64].
///     min_n: the shortest, in [1, max_n].
///
/// Raises:
///     InvalidArgument: a length is out of range.
///
/// Example:
///     >>> drafter = NGram()
///     >>> drafter.start(0, [7, 8, 9, 1, 7, 8])
///     >>> drafter.propose(0, 5)
///     (array([9, 1, 7, 8, 9]), 2)
#[pyclass(frozen, name = "NGram", module = "foretoken._rust")]
struct PyNGram(NGram);

#[pymethods]
impl PyNGram {
    #[new]
    #[pyo3(signature = (max_n = Whole(4), min_n = Whole(1)), text_signature = "(max_n=4, min_n=1)")]
    fn new(py: Python<'_>, max_n: Whole, min_n: Whole) -> PyResult<Self> {
        NGram::new(max_n.0, min_n.0).map(Self).map_err(|error| to_python(py, &error))
    }

    /// The most tokens an n-gram has.
    #[getter]
    fn max_n(&self) -> usize {
        self.0.sizes().0
    }

    /// The fewest tokens an n-gram has.
    #[getter]
    fn min_n(&self) -> usize {
        self.0.sizes().1
    }

    /// Begins a row with a prompt: ids in [0, 2**31), an int64 array or a sequence of int; may be empty.
    ///
    /// Raises:
    ///     InvalidArgument: the row is started already, or an id is out of range.
    ///     ArgumentTypeError: the ids are no whole numbers.
    fn start(&self, py: Python<'_>, row: Whole, prompt: Tokens) -> PyResult<()> {
        enter(py, || self.0.start(row.0, &prompt.0))
    }

    /// Continues a row; either all the tokens are taken or none. Takes and raises what `start` does.
    fn extend(&self, py: Python<'_>, row: Whole, tokens: Tokens) -> PyResult<()> {
        enter(py, || self.0.extend(row.0, &tokens.0))
    }

    /// What may come next: `k` int64 ids (k in [0, 65536]), or none if no n-gram stood there before; and how many tokens
    /// the n-gram has, 0 if there is none.
    ///
    /// Raises:
    ///     InvalidArgument: the row is unknown, or `k` is out of range.
    fn propose<'py>(&self, py: Python<'py>, row: Whole, k: Whole) -> PyResult<(Bound<'py, PyArray1<i64>>, usize)> {
        enter(py, || self.0.propose(row.0, k.0)).map(|(tokens, matched)| (tokens.into_pyarray(py), matched))
    }

    /// Forgets a row.
    ///
    /// Raises:
    ///     InvalidArgument: the row is unknown.
    fn stop(&self, py: Python<'_>, row: Whole) -> PyResult<()> {
        enter(py, || self.0.stop(row.0))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, (usize, usize), Texts<'py>)> {
        let (py, this) = (slf.py(), slf.get());
        let texts = enter(py, || Ok(this.0.texts()))?;
        Ok((slf.get_type(), this.0.sizes(), to_arrays(py, texts)))
    }

    fn __setstate__(&self, py: Python<'_>, state: Vec<(i64, Tokens)>) -> PyResult<()> {
        enter(py, || state.iter().try_for_each(|(row, tokens)| self.0.start(*row, &tokens.0)))
    }
}

/// Rows as arrays, for pickle.
pub fn to_arrays(py: Python<'_>, texts: Vec<(i64, Vec<i64>)>) -> Texts<'_> {
    texts.into_iter().map(|(row, tokens)| (row, tokens.into_pyarray(py))).collect()
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyNGram>()
}
