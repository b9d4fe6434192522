//! The noise itself, so that tests can compare it with the torch twin bit for bit.

use foretoken_core::noise::{self, Place};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

/// The ten rounds of Philox4x32.
#[pyfunction]
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    noise::philox(counter, key)
}

/// Uniform noise of tokens at one place.
#[pyfunction]
fn uniform<'py>(
    py: Python<'py>,
    seed: u64,
    row: u32,
    position: u32,
    tokens: PyReadonlyArray1<'py, i64>,
    stream: u32,
) -> Bound<'py, PyArray1<f64>> {
    let place = Place { seed, row, position, stream };
    let noise: Vec<f64> = tokens.as_array().iter().map(|&token| place.uniform(token as u32)).collect();
    noise.into_pyarray(py)
}

/// Gumbel noise of tokens at one place.
#[pyfunction]
fn gumbel<'py>(
    py: Python<'py>,
    seed: u64,
    row: u32,
    position: u32,
    tokens: PyReadonlyArray1<'py, i64>,
    stream: u32,
) -> Bound<'py, PyArray1<f64>> {
    let place = Place { seed, row, position, stream };
    let noise: Vec<f64> = tokens.as_array().iter().map(|&token| place.gumbel(token as u32)).collect();
    noise.into_pyarray(py)
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(philox, module)?)?;
    module.add_function(wrap_pyfunction!(uniform, module)?)?;
    module.add_function(wrap_pyfunction!(gumbel, module)?)
}
