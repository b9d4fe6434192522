//! A row's past for Python.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foretoken_core::error::Error;
use foretoken_core::history::History;
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyType;

use crate::arrays::{integers, type_name};
use crate::door::{raise, to_python};

/// What a row has seen: its prompt, then its output, and Mirostat's state.
///
/// `sample` and `verify` add the tokens they return, once every row has succeeded. Threads may share an object.
///
/// Args:
///     prompt: token ids in [0, 2**31), an int64 array or a sequence of int; may be empty.
///     mu: Mirostat's bound on surprise in bits; None to begin with twice its target.
///
/// Raises:
///     InvalidArgument: an id is out of range.
///     ArgumentTypeError: the ids are no whole numbers.
///
/// Example:
///     >>> history = History([5, 6])
///     >>> history.extend([7])
///     >>> history.tokens, history.output, len(history)
///     (array([5, 6, 7]), array([7]), 3)
#[pyclass(frozen, name = "History", module = "foretoken._rust")]
pub struct PyHistory(pub Mutex<History>);

impl PyHistory {
    /// Waits outside the interpreter: a kernel holds the lock as long as it works on the row.
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, History> {
        self.0.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The arguments of `History`, and its state, for pickle.
type Reduced<'py> = (Bound<'py, PyType>, (Bound<'py, PyArray1<i64>>,), (Bound<'py, PyArray1<i64>>, Option<f64>));

#[pymethods]
impl PyHistory {
    #[new]
    #[pyo3(signature = (prompt = None, *, mu = None), text_signature = "(prompt=(), *, mu=None)")]
    fn new(prompt: Option<Bound<'_, PyAny>>, mu: Option<f64>) -> PyResult<Self> {
        let prompt = prompt.map_or_else(|| Ok(Vec::new()), |prompt| tokens("prompt", &prompt))?;
        let mut history = History::new(prompt);
        history.mu = mu;
        Ok(Self(Mutex::new(history)))
    }

    /// Adds tokens to the output; either all are taken or none. Takes and raises what the class does for a prompt.
    fn extend(&self, tokens: Bound<'_, PyAny>) -> PyResult<()> {
        let py = tokens.py();
        let tokens = self::tokens("tokens", &tokens)?;
        let mut history = self.lock(py);
        for token in tokens {
            history.push(token);
        }
        Ok(())
    }

    /// The same past, to go on from by itself.
    fn copy(&self, py: Python<'_>) -> Self {
        Self(Mutex::new(self.lock(py).clone()))
    }

    /// Prompt and output.
    #[getter]
    fn tokens<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        to_array(py, self.lock(py).tokens())
    }

    /// The tokens after the prompt.
    #[getter]
    fn output<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        to_array(py, self.lock(py).output())
    }

    /// How many tokens came from the user.
    #[getter]
    fn prompt_length(&self, py: Python<'_>) -> usize {
        self.lock(py).prompt_length()
    }

    /// Mirostat's bound on surprise in bits; None until a token was drawn under Mirostat.
    #[getter]
    fn mu(&self, py: Python<'_>) -> Option<f64> {
        self.lock(py).mu
    }

    #[setter]
    fn set_mu(&self, py: Python<'_>, mu: Option<f64>) {
        self.lock(py).mu = mu;
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        self.lock(py).tokens().len()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> Reduced<'py> {
        let (py, history) = (slf.py(), slf.get().lock(slf.py()));
        let prompt = to_array(py, &history.tokens()[..history.prompt_length()]);
        (slf.get_type(), (prompt,), (to_array(py, history.output()), history.mu))
    }

    fn __setstate__(&self, py: Python<'_>, state: (Bound<'_, PyAny>, Option<f64>)) -> PyResult<()> {
        self.extend(state.0)?;
        self.set_mu(py, state.1);
        Ok(())
    }
}

fn to_array<'py>(py: Python<'py>, tokens: &[u32]) -> Bound<'py, PyArray1<i64>> {
    tokens.iter().map(|&token| i64::from(token)).collect::<Vec<_>>().into_pyarray(py)
}

fn tokens(name: &'static str, value: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    /// Ids below this fit every vocabulary.
    const IDS: i64 = 1 << 31;
    let check = |token: i64| match token {
        0..IDS => Ok(token as u32),
        _ => Err(to_python(value.py(), &Error::Token { name, token, vocabulary: IDS as usize })),
    };
    integers(name, value)?.into_iter().map(check).collect()
}

/// The histories of a batch, held for a call.
pub fn histories<'py>(value: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Vec<Bound<'py, PyHistory>>>> {
    let Some(value) = value else { return Ok(None) };
    let refuse = |value: &Bound<'py, PyAny>, what: &str| {
        raise(value.py(), "ArgumentTypeError", format!("history {what} a {}: give a list of History", type_name(value)))
    };
    let items = value.try_iter().map_err(|_| refuse(value, "is"))?;
    let histories = items.map(|item| item?.cast_into().map_err(|error| refuse(&error.into_inner(), "holds")));
    histories.collect::<PyResult<_>>().map(Some)
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyHistory>()
}
