//! Suffix look-up for Python.

use std::path::PathBuf;
use std::sync::Arc;

use foretoken_core::corpus::Corpus;
use foretoken_core::suffix::Suffix;
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use crate::arguments::{Tokens, Whole};
use crate::door::{enter, raise, to_python};
use crate::ngram::{Texts, to_arrays};

/// Documents in one automaton, the oldest leaving when the memory is used up.
#[pyclass(frozen, name = "SuffixCorpus", module = "foretoken._rust")]
struct PySuffixCorpus(Arc<Corpus>);

#[pymethods]
impl PySuffixCorpus {
    #[new]
    #[pyo3(
        signature = (memory_limit_bytes, *, max_match = Whole(64)),
        text_signature = "(memory_limit_bytes, *, max_match=64)"
    )]
    fn new(py: Python<'_>, memory_limit_bytes: Whole, max_match: Whole) -> PyResult<Self> {
        match Corpus::new(memory_limit_bytes.0, max_match.0) {
            Ok(corpus) => Ok(Self(Arc::new(corpus))),
            Err(error) => Err(to_python(py, &error)),
        }
    }

    fn add(&self, py: Python<'_>, tokens: Tokens) -> PyResult<()> {
        enter(py, || self.0.add(&tokens.0))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        enter(py, || Ok(self.0.len()))
    }

    /// The number of tokens of all documents held.
    #[getter]
    fn tokens(&self, py: Python<'_>) -> PyResult<usize> {
        enter(py, || Ok(self.0.tokens()))
    }

    /// Bytes held.
    #[getter]
    fn memory(&self, py: Python<'_>) -> PyResult<usize> {
        enter(py, || Ok(self.0.memory()))
    }

    /// Bytes that may be held.
    #[getter]
    fn memory_limit_bytes(&self) -> usize {
        self.0.memory_limit()
    }

    /// The longest context that is counted.
    #[getter]
    fn max_match(&self) -> u32 {
        self.0.max_match()
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        enter(py, || self.0.save(&path))
    }

    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        enter(py, || Corpus::load(&path)).map(|corpus| Self(Arc::new(corpus)))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let (py, this) = (slf.py(), slf.get());
        let bytes = enter(py, || Ok(this.0.to_bytes()))?;
        Ok((slf.get_type().getattr("_from_bytes")?, (PyBytes::new(py, &bytes),)))
    }

    /// What pickle builds it from.
    #[classmethod]
    fn _from_bytes(_class: &Bound<'_, PyType>, py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        enter(py, || Corpus::from_bytes(bytes)).map(|corpus| Self(Arc::new(corpus)))
    }
}

/// Guesses, token by token, what most often followed the longest match.
#[pyclass(frozen, name = "Suffix", module = "foretoken._rust")]
struct PySuffix {
    suffix: Suffix,
    corpus: Option<Py<PySuffixCorpus>>,
}

/// Ids, their probabilities and the length of the first match.
type Guess<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>, usize);
/// The arguments of `Suffix`, for pickle.
type Arguments = (u32, Option<Py<PySuffixCorpus>>, u32);

#[pymethods]
impl PySuffix {
    #[new]
    #[pyo3(
        signature = (max_match = Whole(64), corpus = None, min_match = Whole(1)),
        text_signature = "(max_match=64, corpus=None, min_match=1)"
    )]
    fn new(py: Python<'_>, max_match: Whole, corpus: Option<Bound<'_, PyAny>>, min_match: Whole) -> PyResult<Self> {
        let corpus = corpus.map(Bound::cast_into::<PySuffixCorpus>).transpose().map_err(|_| {
            raise(py, "ArgumentTypeError", "corpus is not a SuffixCorpus: give one, or None".to_owned())
        })?;
        let corpus = corpus.map(Bound::unbind);
        let shared = corpus.as_ref().map(|corpus| Arc::clone(&corpus.get().0));
        match Suffix::new(max_match.0, shared, min_match.0) {
            Ok(suffix) => Ok(Self { suffix, corpus }),
            Err(error) => Err(to_python(py, &error)),
        }
    }

    /// The longest match.
    #[getter]
    fn max_match(&self) -> u32 {
        self.suffix.sizes().0
    }

    /// The shortest match.
    #[getter]
    fn min_match(&self) -> u32 {
        self.suffix.sizes().1
    }

    /// The corpus it also looks in.
    #[getter]
    fn corpus(&self, py: Python<'_>) -> Option<Py<PySuffixCorpus>> {
        self.corpus.as_ref().map(|corpus| corpus.clone_ref(py))
    }

    fn start(&self, py: Python<'_>, row: Whole, prompt: Tokens) -> PyResult<()> {
        enter(py, || self.suffix.start(row.0, &prompt.0))
    }

    fn extend(&self, py: Python<'_>, row: Whole, tokens: Tokens) -> PyResult<()> {
        enter(py, || self.suffix.extend(row.0, &tokens.0))
    }

    fn propose<'py>(&self, py: Python<'py>, row: Whole, k: Whole) -> PyResult<Guess<'py>> {
        let guess = enter(py, || self.suffix.propose(row.0, k.0))?;
        Ok((guess.tokens.into_pyarray(py), guess.probabilities.into_pyarray(py), guess.match_length))
    }

    fn stop(&self, py: Python<'_>, row: Whole) -> PyResult<()> {
        enter(py, || self.suffix.stop(row.0))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Arguments, Texts<'py>)> {
        let (py, this) = (slf.py(), slf.get());
        let texts = enter(py, || Ok(this.suffix.texts()))?;
        let (max_match, min_match) = this.suffix.sizes();
        Ok((slf.get_type(), (max_match, this.corpus(py), min_match), to_arrays(py, texts)))
    }

    fn __setstate__(&self, py: Python<'_>, state: Vec<(i64, Tokens)>) -> PyResult<()> {
        enter(py, || state.iter().try_for_each(|(row, tokens)| self.suffix.start(*row, &tokens.0)))
    }
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySuffixCorpus>()?;
    module.add_class::<PySuffix>()
}
