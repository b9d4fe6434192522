//! Colours as numbers for Python.

use foretoken_core::error::Result;
use foretoken_core::pixel::{self, Colour};
use numpy::{IntoPyArray, PyArray2, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;

use crate::arguments::Whole;
use crate::arrays::Borrowed;
use crate::door::{enter, raise};
use crate::quantize::shaped;

/// Pixels (..., 3), borrowed.
struct Pixels<'py>(Borrowed<'py, u8>);

impl<'py> Pixels<'py> {
    fn new(name: &'static str, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        let pixels = Borrowed::<u8>::any(name, value, "uint8")?;
        if pixels.shape().last() != Some(&3) {
            let message = format!("{name} has shape {:?}: the last axis must be red, green and blue", pixels.shape());
            return Err(raise(value.py(), "ShapeError", message));
        }
        Ok(Self(pixels))
    }

    fn colours(&self) -> PyResult<&[Colour]> {
        Ok(self.0.slice()?.as_chunks().0)
    }

    /// One number a pixel.
    fn encode(
        &self,
        py: Python<'py>,
        encode: impl FnOnce(&[Colour]) -> Result<Vec<i64>> + Send,
    ) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
        let (colours, shape) = (self.colours()?, self.0.shape());
        shaped(py, enter(py, || encode(colours))?, &shape[..shape.len() - 1])
    }
}

/// Three numbers for each id.
fn decode<'py>(
    ids: &Bound<'py, PyAny>,
    decode: impl FnOnce(&[i64]) -> Result<Vec<Colour>> + Send,
) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
    let (py, ids) = (ids.py(), Borrowed::<i64>::any("ids", ids, "int64")?);
    let numbers = ids.slice()?;
    let shape: Vec<usize> = ids.shape().iter().copied().chain([3]).collect();
    shaped(py, enter(py, || decode(numbers))?.into_flattened(), &shape)
}

/// Numbers of 24 bits.
#[pyfunction]
fn rgb24_encode<'py>(py: Python<'py>, pixels: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    Pixels::new("pixels", pixels)?.encode(py, |colours| Ok(pixel::encode_24(colours)))
}

/// Pixels of numbers of 24 bits.
#[pyfunction]
fn rgb24_decode<'py>(ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
    decode(ids, pixel::decode_24)
}

/// Numbers of 16 bits.
#[pyfunction]
fn rgb565_encode<'py>(py: Python<'py>, pixels: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    Pixels::new("pixels", pixels)?.encode(py, |colours| Ok(pixel::encode_565(colours)))
}

/// Pixels of numbers of 16 bits.
#[pyfunction]
fn rgb565_decode<'py>(ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
    decode(ids, pixel::decode_565)
}

/// Numbers of the nearest colours.
#[pyfunction]
fn palette_encode<'py>(
    py: Python<'py>,
    pixels: &Bound<'py, PyAny>,
    palette: &Bound<'py, PyAny>,
    threads: Whole,
) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    let (pixels, palette) = (Pixels::new("pixels", pixels)?, Pixels::new("palette", palette)?);
    let colours = palette.colours()?;
    pixels.encode(py, |pixels| pixel::encode(pixels, colours, threads.0))
}

/// Colours of numbers.
#[pyfunction]
fn palette_decode<'py>(ids: &Bound<'py, PyAny>, palette: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
    let palette = Pixels::new("palette", palette)?;
    let colours = palette.colours()?;
    decode(ids, |ids| pixel::decode(ids, colours))
}

/// A palette for these pixels.
#[pyfunction]
fn fit_palette<'py>(
    py: Python<'py>,
    pixels: &Bound<'py, PyAny>,
    colours: Whole,
    rounds: Whole,
    threads: Whole,
) -> PyResult<Bound<'py, PyArray2<u8>>> {
    let pixels = Pixels::new("pixels", pixels)?;
    let all = pixels.colours()?;
    let palette = enter(py, || pixel::fit(all, colours.0, rounds.0, threads.0))?;
    let count = palette.len();
    palette.into_flattened().into_pyarray(py).reshape([count, 3])
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(rgb24_encode, module)?)?;
    module.add_function(wrap_pyfunction!(rgb24_decode, module)?)?;
    module.add_function(wrap_pyfunction!(rgb565_encode, module)?)?;
    module.add_function(wrap_pyfunction!(rgb565_decode, module)?)?;
    module.add_function(wrap_pyfunction!(palette_encode, module)?)?;
    module.add_function(wrap_pyfunction!(palette_decode, module)?)?;
    module.add_function(wrap_pyfunction!(fit_palette, module)?)
}
