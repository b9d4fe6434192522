//! Stop strings for Python.

use foretoken_core::stop::StopStrings;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use crate::arguments::Whole;
use crate::door::{enter, enter_short, raise};

/// Bytes from which on a piece takes microseconds, in which other threads of Python had better run.
const LONG: usize = 4096;

/// Finds the first stop string of a stream of bytes (Aho & Corasick 1975).
///
/// Args:
///     strings: what to look for, none empty, 65,536 bytes together at most.
///
/// Raises:
///     InvalidArgument: a string is empty.
///     ArgumentTypeError: a string is not bytes.
///     LimitExceeded: they are too long.
///
/// Example:
///     >>> matcher = StopStrings([b"END"])
///     >>> state, hold, match_start = matcher.feed(0, b"the E")
///     >>> hold, match_start
///     (1, None)
///     >>> matcher.feed(state, b"ND.")
///     (0, 0, -1)
#[pyclass(frozen, name = "StopStrings", module = "foretoken._rust")]
struct PyStopStrings(StopStrings);

#[pymethods]
impl PyStopStrings {
    #[new]
    fn new(py: Python<'_>, strings: &Bound<'_, PyAny>) -> PyResult<Self> {
        let strings = strings.extract::<Vec<Bound<'_, PyBytes>>>().map_err(|_| {
            let message = "stop strings come as a sequence of bytes: encode text as the tokenizer does, mostly UTF-8";
            raise(py, "ArgumentTypeError", message.to_owned())
        })?;
        let strings = strings.iter().map(|string| string.as_bytes().to_vec()).collect();
        enter(py, || StopStrings::new(strings)).map(Self)
    }

    /// The strings it looks for.
    #[getter]
    fn strings<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.0.strings().iter().map(|string| PyBytes::new(py, string)).collect()
    }

    /// Reads the next piece of a stream: from 0, or the state the last call returned, to the next state, how many bytes at the
    /// end may still be the beginning of a stop string, and where the match begins or None.
    ///
    /// That place counts from the beginning of this piece (negative: in an earlier one). The match that counts is the one that
    /// ends first, and among those that end together the longest: so the answer does not depend on how the stream was cut.
    /// After a match the rest of the piece is not read and the state is 0.
    ///
    /// Raises:
    ///     InvalidArgument: this object has no such state.
    ///     ArgumentTypeError: `data` is not bytes.
    fn feed(&self, py: Python<'_>, state: Whole, data: &Bound<'_, PyAny>) -> PyResult<(u32, usize, Option<i64>)> {
        let Ok(data) = data.cast::<PyBytes>() else {
            return Err(raise(py, "ArgumentTypeError", "data is not bytes: encode the text first".to_owned()));
        };
        let data = data.as_bytes();
        let feed = || self.0.feed(state.0, data);
        // One look-up a byte: the few bytes of a token take less than leaving the interpreter.
        let found = if data.len() < LONG { enter_short(py, feed) } else { enter(py, feed) }?;
        Ok((found.state, found.hold, found.match_start))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (Vec<Bound<'py, PyBytes>>,)) {
        (slf.get_type(), (slf.get().strings(slf.py()),))
    }
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyStopStrings>()
}
