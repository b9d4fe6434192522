//! Sound as numbers, and at other rates, for Python.

use foretoken_core::error::Result;
use foretoken_core::wave::resample::{Filter, length};
use foretoken_core::wave::{self, Coded, mu_law};
use numpy::PyArrayDyn;
use pyo3::prelude::*;

use crate::arguments::Whole;
use crate::arrays::Borrowed;
use crate::door::{enter, raise};
use crate::quantize::shaped;

/// Ids, and how many samples were clipped.
type Codes<'py> = (Bound<'py, PyArrayDyn<i64>>, usize);

fn encode<'py>(
    samples: &Bound<'py, PyAny>,
    encode: impl FnOnce(&[f32]) -> Result<Coded> + Send,
) -> PyResult<Codes<'py>> {
    let (py, samples) = (samples.py(), Borrowed::<f32>::any("samples", samples, "float32")?);
    let numbers = samples.slice()?;
    let coded = enter(py, || encode(numbers))?;
    Ok((shaped(py, coded.ids, samples.shape())?, coded.clipped))
}

fn decode<'py>(
    ids: &Bound<'py, PyAny>,
    decode: impl FnOnce(&[i64]) -> Result<Vec<f32>> + Send,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let (py, ids) = (ids.py(), Borrowed::<i64>::any("ids", ids, "int64")?);
    let numbers = ids.slice()?;
    shaped(py, enter(py, || decode(numbers))?, ids.shape())
}

/// Linear codes of samples.
#[pyfunction]
fn pcm_encode<'py>(samples: &Bound<'py, PyAny>, bits: Whole) -> PyResult<Codes<'py>> {
    encode(samples, |samples| wave::encode(samples, bits.0))
}

/// Samples of linear codes.
#[pyfunction]
fn pcm_decode<'py>(ids: &Bound<'py, PyAny>, bits: Whole) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    decode(ids, |ids| wave::decode(ids, bits.0))
}

/// μ-law codes of samples.
#[pyfunction]
fn mu_law_encode<'py>(samples: &Bound<'py, PyAny>) -> PyResult<Codes<'py>> {
    encode(samples, mu_law::encode)
}

/// Samples of μ-law codes.
#[pyfunction]
fn mu_law_decode<'py>(ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    decode(ids, mu_law::decode)
}

/// Sounds at another rate.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // positional, because `kernels` is the one caller
fn resample<'py>(
    py: Python<'py>,
    samples: &Bound<'py, PyAny>,
    source: Whole,
    target: Whole,
    width: Whole,
    rolloff: f64,
    beta: f64,
    threads: Whole,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let samples = Borrowed::<f32>::any("samples", samples, "float32")?;
    let Some((&count, rows)) = samples.shape().split_last() else {
        let message = "samples has no axes: the last one is that of time".to_owned();
        return Err(raise(py, "ShapeError", message));
    };
    let (numbers, filter) = (samples.slice()?, Filter { width: width.0, rolloff, beta });
    let rates = (source.0, target.0);
    let (wanted, made) = enter(py, || {
        let wanted = length(count, source.0, target.0)?;
        Ok((wanted, wave::resample::resample(numbers, count, rates, filter, threads.0)?))
    })?;
    let shape: Vec<usize> = rows.iter().copied().chain([wanted]).collect();
    shaped(py, made, &shape)
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(pcm_encode, module)?)?;
    module.add_function(wrap_pyfunction!(pcm_decode, module)?)?;
    module.add_function(wrap_pyfunction!(mu_law_encode, module)?)?;
    module.add_function(wrap_pyfunction!(mu_law_decode, module)?)?;
    module.add_function(wrap_pyfunction!(resample, module)?)
}
