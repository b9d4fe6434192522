//! The Python binding: borrow, call, convert. Nothing is computed here.

mod door;
mod noise;

use pyo3::prelude::*;

/// The kernels; `foretoken.kernels` is the one importer.
#[pymodule(gil_used = false)]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    noise::register(module)?;
    door::register(module)
}
