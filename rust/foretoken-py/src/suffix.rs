//! Suffix look-up for Python.

use std::path::PathBuf;
use std::sync::Arc;

use foretoken_core::corpus::Corpus;
use foretoken_core::suffix::Suffix;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use crate::arguments::{Tokens, Whole};
use crate::door::{enter, raise, to_python};
use crate::ngram::{Texts, to_arrays};

/// Documents in one automaton, for many `Suffix` to look up in; the oldest leave when the memory is used up.
///
/// Dropping documents builds the automaton anew, down to three quarters of the limit: half a second for a million tokens.
/// Threads may share an object. A look-up never waits for a change: meanwhile it sees the row alone.
///
/// Args:
///     memory_limit_bytes: bytes that may be held; about 66 a token of prose, never more than 256.
///     max_match: the longest context that is counted, in tokens, in [1, 1024].
///
/// Raises:
///     InvalidArgument: a number is out of range.
///
/// Example:
///     >>> corpus = SuffixCorpus(1 << 20)
///     >>> corpus.add([7, 8, 9])
///     >>> drafter = Suffix(corpus=corpus)
///     >>> drafter.start(0, [1, 7, 8])
///     >>> drafter.propose(0, 4)
///     (array([9]), array([1.]), 2)
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

    /// Adds a document: at least one id in [0, 2**31), an int64 array or a sequence of int.
    ///
    /// Raises:
    ///     InvalidArgument: there is no id, or one is out of range.
    ///     LimitExceeded: the document does not fit even alone; nothing was dropped for it.
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

    /// Writes the documents to a file, first under a temporary name beside it: four bytes a token; with `index` also the
    /// automaton: sixteen times as many, and `load` has nothing to build.
    ///
    /// Raises:
    ///     CheckpointError: it cannot be written.
    #[pyo3(signature = (path, *, index = false))]
    fn save(&self, py: Python<'_>, path: PathBuf, index: bool) -> PyResult<()> {
        enter(py, || self.0.save(&path, index))
    }

    /// Reads a file that `save` wrote; an automaton that is not in it is built anew, half a second for a million tokens.
    ///
    /// Raises:
    ///     CheckpointError: it cannot be read, is cut short, damaged or something else.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        enter(py, || Corpus::load(&path)).map(|corpus| Self(Arc::new(corpus)))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let (py, this) = (slf.py(), slf.get());
        let bytes = enter(py, || Ok(this.0.to_bytes(false)))?;
        Ok((slf.get_type().getattr("_from_bytes")?, (PyBytes::new(py, &bytes),)))
    }

    /// What pickle builds it from.
    #[classmethod]
    fn _from_bytes(_class: &Bound<'_, PyType>, py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        enter(py, || Corpus::from_bytes(bytes)).map(|corpus| Self(Arc::new(corpus)))
    }
}

/// Guesses, token by token, what most often followed the longest match (2411.04975, 2411.10666).
///
/// Each guess is the token that most often (among equals, most recently) followed the longest end of row + draft, of at
/// most `max_match` tokens, that anything followed: in the row itself, or in the corpus where that match is longer. The
/// draft ends where the match is shorter than `min_match`. Threads may share an object; rows do not wait for each other.
///
/// Args:
///     max_match: the longest match, in tokens, in [1, 1024] and at most the corpus'.
///     corpus: a `SuffixCorpus` to look in as well, or None.
///     min_match: the shortest match that is worth a guess, in [1, max_match].
///
/// Raises:
///     InvalidArgument: a length is out of range or more than the corpus counts.
///     ArgumentTypeError: `corpus` is something else.
///
/// Example:
///     >>> drafter = Suffix()
///     >>> drafter.start(0, [1, 2, 1, 3, 1, 2, 9, 1])
///     >>> tokens, probs, match_length = drafter.propose(0, 2)
///     >>> tokens, probs.round(2), match_length
///     (array([2, 9]), array([0.67, 0.5 ]), 1)
#[pyclass(frozen, name = "Suffix", module = "foretoken._rust")]
struct PySuffix {
    suffix: Suffix,
    corpus: Option<Py<PySuffixCorpus>>,
}

/// Ids, their probabilities and the length of the first match.
type Guess<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>, usize);
/// The same of several rows, and how many ids each has.
type Guesses<'py> =
    (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);
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

    /// Begins a row with a prompt: ids in [0, 2**31), an int64 array or a sequence of int; may be empty.
    ///
    /// Raises:
    ///     InvalidArgument: the row is started already, or an id is out of range.
    ///     ArgumentTypeError: the ids are no whole numbers.
    fn start(&self, py: Python<'_>, row: Whole, prompt: Tokens) -> PyResult<()> {
        enter(py, || self.suffix.start(row.0, &prompt.0))
    }

    /// Continues a row; either all the tokens are taken or none. Takes and raises what `start` does.
    fn extend(&self, py: Python<'_>, row: Whole, tokens: Tokens) -> PyResult<()> {
        enter(py, || self.suffix.extend(row.0, &tokens.0))
    }

    /// What may come next, at most `k` tokens (k in [0, 65536]): int64 ids; for each, float64, its share among the tokens
    /// that followed its match; and how many tokens at the end of the row the first was looked up by, 0 without a guess.
    ///
    /// Raises:
    ///     InvalidArgument: the row is unknown, or `k` is out of range.
    fn propose<'py>(&self, py: Python<'py>, row: Whole, k: Whole) -> PyResult<Guess<'py>> {
        let guess = enter(py, || self.suffix.propose(row.0, k.0))?;
        Ok((guess.tokens.into_pyarray(py), guess.probabilities.into_pyarray(py), guess.match_length))
    }

    /// `propose` for several rows, in one call: tokens (rows, k) padded with -1, shares (rows, k) padded with 0, how many
    /// tokens each row has, and its match length.
    ///
    /// Raises:
    ///     InvalidArgument: a row is unknown, or `k` is out of range.
    ///     LimitExceeded: that would be more than 2^26 tokens.
    fn propose_rows<'py>(&self, py: Python<'py>, rows: Tokens, k: Whole) -> PyResult<Guesses<'py>> {
        let all = enter(py, || self.suffix.propose_rows(&rows.0, k.0))?;
        let shape = [rows.0.len(), k.0 as usize];
        Ok((
            all.tokens.into_pyarray(py).reshape(shape)?,
            all.probabilities.into_pyarray(py).reshape(shape)?,
            all.counts.into_pyarray(py),
            all.match_lengths.into_pyarray(py),
        ))
    }

    /// Forgets a row.
    ///
    /// Raises:
    ///     InvalidArgument: the row is unknown.
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
