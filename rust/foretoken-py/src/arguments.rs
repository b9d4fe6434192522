//! Arguments of the look-up classes: whole numbers and lists of token ids.

use numpy::{PyReadonlyArray1, PyUntypedArray};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

use crate::door::raise;

/// A whole number; what is no `int` is an `ArgumentTypeError`, one beyond 64 bits an `InvalidArgument`.
#[derive(Clone, Copy)]
pub struct Whole(pub i64);

impl FromPyObject<'_, '_> for Whole {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        value.extract().map(Self).map_err(|error| {
            let py = value.py();
            if error.is_instance_of::<PyOverflowError>(py) {
                raise(py, "InvalidArgument", format!("{} does not fit 64 bits: give a smaller number", show(value)))
            } else {
                raise(py, "ArgumentTypeError", format!("expected a whole number, got {}", show(value)))
            }
        })
    }
}

/// Token ids, copied: a drafter keeps them.
pub struct Tokens(pub Vec<i64>);

impl FromPyObject<'_, '_> for Tokens {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Ok(array) = value.extract::<PyReadonlyArray1<'_, i64>>() {
            return Ok(Self(array.as_array().iter().copied().collect()));
        }
        let py = value.py();
        if value.cast::<PyUntypedArray>().is_ok() {
            let kind = value.getattr("dtype")?;
            let shape = value.getattr("shape")?;
            let message = format!("token ids come as a one-dimensional int64 array, got {kind} of shape {shape}");
            return Err(raise(py, "ArgumentTypeError", message));
        }
        let numbers: Vec<Whole> = value.extract().map_err(|error: PyErr| {
            if error.get_type(py).is(py.get_type::<pyo3::exceptions::PyTypeError>()) {
                let message = format!("token ids come as an int64 array or a sequence of int, got {}", show(value));
                raise(py, "ArgumentTypeError", message)
            } else {
                error
            }
        })?;
        Ok(Self(numbers.into_iter().map(|number| number.0).collect()))
    }
}

/// The value for a message, or only its type if it cannot be shown.
fn show(value: Borrowed<'_, '_, PyAny>) -> String {
    let name = value.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string());
    match value.repr() {
        Ok(text) if text.to_string_lossy().len() <= 80 => format!("{text} ({name})"),
        _ => name,
    }
}
