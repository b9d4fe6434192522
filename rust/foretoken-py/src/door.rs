//! The one door to the core: leave the interpreter, call, catch panics, turn errors into Python's.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use foretoken_core::error::{Error, Kind, Result};
use pyo3::prelude::*;
use pyo3::types::PyType;

/// Runs `call` without the interpreter lock and maps what goes wrong to a class of `foretoken.errors`.
///
/// A panic is a bug of ours; it becomes `InternalError` instead of unwinding into Python.
pub fn enter<T: Send>(py: Python<'_>, call: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(call))) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(to_python(py, &error)),
        Err(panic) => Err(raise(py, "InternalError", describe(panic.as_ref()))),
    }
}

/// As `enter`, for calls shorter than what leaving the interpreter costs.
pub fn enter_short<T>(py: Python<'_>, call: impl FnOnce() -> Result<T>) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(to_python(py, &error)),
        Err(panic) => Err(raise(py, "InternalError", describe(panic.as_ref()))),
    }
}

/// The Python error of an error of the core.
pub fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error.kind() {
        Kind::InvalidArgument => "InvalidArgument",
        Kind::Shape => "ShapeError",
        Kind::Logits => "LogitsError",
        Kind::Draft => "DraftError",
        Kind::Limit => "LimitExceeded",
        Kind::Checkpoint => "CheckpointError",
    };
    raise(py, class, error.to_string())
}

/// An error of the class of that name in `foretoken.errors`.
pub fn raise(py: Python<'_>, class: &str, message: String) -> PyErr {
    // Imported when needed: most processes never raise, and an import here at load time would be a cycle.
    match py.import("foretoken.errors").and_then(|module| module.getattr(class)) {
        Ok(found) => match found.cast_into::<PyType>() {
            Ok(class) => PyErr::from_type(class, message),
            Err(error) => error.into(),
        },
        Err(error) => error,
    }
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("the core panicked ({said}): this is a bug in foretoken, please report it")
}

/// Panics in the core on purpose, to prove that a panic reaches Python as `InternalError`.
#[pyfunction]
#[pyo3(name = "_panic")]
fn panic_on_purpose(py: Python<'_>) -> PyResult<()> {
    enter(py, || panic!("on purpose"))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(panic_on_purpose, module)?)
}
