//! Prompt look-up for Python.

use foretoken_core::ngram::NGram;
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::arguments::{Tokens, Whole};
use crate::door::{enter, to_python};

/// Rows as pickle keeps them.
pub type Texts<'py> = Vec<(i64, Bound<'py, PyArray1<i64>>)>;

/// Guesses what followed the newest earlier occurrence of the longest n-gram at the end of a row.
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

    fn start(&self, py: Python<'_>, row: Whole, prompt: Tokens) -> PyResult<()> {
        enter(py, || self.0.start(row.0, &prompt.0))
    }

    fn extend(&self, py: Python<'_>, row: Whole, tokens: Tokens) -> PyResult<()> {
        enter(py, || self.0.extend(row.0, &tokens.0))
    }

    fn propose<'py>(&self, py: Python<'py>, row: Whole, k: Whole) -> PyResult<Bound<'py, PyArray1<i64>>> {
        enter(py, || self.0.propose(row.0, k.0)).map(|tokens| tokens.into_pyarray(py))
    }

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
