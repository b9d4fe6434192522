//! Codes, digits and packed ids for Python.

use foretoken_core::quantize::residual::{self, Books};
use foretoken_core::quantize::scalar::Levels;
use foretoken_core::quantize::{bits, nearest};
use numpy::{Element, IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;

use crate::arguments::Whole;
use crate::arrays::{Borrowed, integers};
use crate::door::{enter, raise, to_python};
use crate::sample::count_of;

/// Code numbers and squared distances (rows, k).
type Nearest<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<f64>>);

/// The k nearest codes of each vector.
#[pyfunction]
#[pyo3(name = "nearest")]
fn nearest_codes<'py>(
    py: Python<'py>,
    vectors: &Bound<'py, PyAny>,
    codebook: &Bound<'py, PyAny>,
    k: Whole,
    threads: Whole,
) -> PyResult<Nearest<'py>> {
    let vectors = Borrowed::<f32>::new("vectors", vectors, "float32", 2)?;
    let codebook = Borrowed::<f32>::new("codebook", codebook, "float32", 2)?;
    let (rows, width) = (vectors.shape()[0], codebook.shape()[1]);
    check_width(py, "vectors", vectors.shape()[1], "codes", width)?;
    let (numbers, codes) = (vectors.slice()?, codebook.slice()?);
    let found = enter(py, || nearest(numbers, codes, width, k.0, threads.0))?;
    let shape = [rows, k.0 as usize];
    Ok((found.ids.into_pyarray(py).reshape(shape)?, found.distances.into_pyarray(py).reshape(shape)?))
}

/// Code numbers (rows, books) by residual vector quantisation.
#[pyfunction]
fn residual_encode<'py>(
    py: Python<'py>,
    vectors: &Bound<'py, PyAny>,
    codebooks: &Bound<'py, PyAny>,
    threads: Whole,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let vectors = Borrowed::<f32>::new("vectors", vectors, "float32", 2)?;
    let codebooks = Borrowed::<f32>::new("codebooks", codebooks, "float32", 3)?;
    let books = books(&codebooks)?;
    check_width(py, "vectors", vectors.shape()[1], "codes", books.width)?;
    let numbers = vectors.slice()?;
    let ids = enter(py, || residual::encode(numbers, books, threads.0))?;
    ids.into_pyarray(py).reshape([vectors.shape()[0], books.count])
}

/// The sums of the codes of each row.
#[pyfunction]
fn residual_decode<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    codebooks: &Bound<'py, PyAny>,
    threads: Whole,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let ids = Borrowed::<i64>::new("ids", ids, "int64", 2)?;
    let codebooks = Borrowed::<f32>::new("codebooks", codebooks, "float32", 3)?;
    let books = books(&codebooks)?;
    check_width(py, "ids", ids.shape()[1], "books", books.count)?;
    let numbers = ids.slice()?;
    let vectors = enter(py, || residual::decode(numbers, books, threads.0))?;
    vectors.into_pyarray(py).reshape([ids.shape()[0], books.width])
}

fn books<'a>(codebooks: &'a Borrowed<'_, f32>) -> PyResult<Books<'a>> {
    let shape = codebooks.shape();
    Ok(Books { codes: codebooks.slice()?, count: shape[0], width: shape[2] })
}

/// Refuses rows of another width.
fn check_width(py: Python<'_>, name: &str, given: usize, what: &str, expected: usize) -> PyResult<()> {
    if given == expected {
        return Ok(());
    }
    let message = format!("{name} have {given} columns, the {what} ask for {expected}: pass what belongs together");
    Err(raise(py, "ShapeError", message))
}

fn levels_of(py: Python<'_>, levels: &Bound<'_, PyAny>) -> PyResult<Levels> {
    Levels::new(&integers("levels", levels)?).map_err(|error| to_python(py, &error))
}

/// The shape of arrays that have one number for each row.
fn rows_of<'a>(py: Python<'_>, name: &str, shape: &'a [usize], levels: &Levels) -> PyResult<&'a [usize]> {
    let Some((&width, rows)) = shape.split_last() else {
        return Err(raise(py, "ShapeError", format!("{name} has no axes: the last one is that of the levels")));
    };
    check_width(py, name, width, "levels", levels.width())?;
    Ok(rows)
}

fn wider(shape: &[usize], levels: &Levels) -> Vec<usize> {
    shape.iter().copied().chain([levels.width()]).collect()
}

pub(crate) fn shaped<'py, T: Element>(
    py: Python<'py>,
    numbers: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    numbers.into_pyarray(py).reshape(shape)
}

/// Digits of values, of the same shape.
#[pyfunction]
fn fsq_quantize<'py>(
    py: Python<'py>,
    values: &Bound<'py, PyAny>,
    levels: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    let (levels, values) = (levels_of(py, levels)?, Borrowed::<f32>::any("values", values, "float32")?);
    rows_of(py, "values", values.shape(), &levels)?;
    let numbers = values.slice()?;
    shaped(py, enter(py, || levels.quantize(numbers))?, values.shape())
}

/// Values of digits, of the same shape.
#[pyfunction]
fn fsq_dequantize<'py>(
    py: Python<'py>,
    digits: &Bound<'py, PyAny>,
    levels: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let (levels, digits) = (levels_of(py, levels)?, Borrowed::<i64>::any("digits", digits, "int64")?);
    rows_of(py, "digits", digits.shape(), &levels)?;
    let numbers = digits.slice()?;
    shaped(py, enter(py, || levels.dequantize(numbers))?, digits.shape())
}

/// One number for each row of digits.
#[pyfunction]
fn fsq_index<'py>(
    py: Python<'py>,
    digits: &Bound<'py, PyAny>,
    levels: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    let (levels, digits) = (levels_of(py, levels)?, Borrowed::<i64>::any("digits", digits, "int64")?);
    let rows = rows_of(py, "digits", digits.shape(), &levels)?;
    let numbers = digits.slice()?;
    shaped(py, enter(py, || levels.index(numbers))?, rows)
}

/// The digits of each number.
#[pyfunction]
fn fsq_digits<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    levels: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    let (levels, ids) = (levels_of(py, levels)?, Borrowed::<i64>::any("ids", ids, "int64")?);
    let numbers = ids.slice()?;
    shaped(py, enter(py, || levels.split(numbers))?, &wider(ids.shape(), &levels))
}

/// One number for each row of values.
#[pyfunction]
fn fsq_encode<'py>(
    py: Python<'py>,
    values: &Bound<'py, PyAny>,
    levels: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
    let (levels, values) = (levels_of(py, levels)?, Borrowed::<f32>::any("values", values, "float32")?);
    let rows = rows_of(py, "values", values.shape(), &levels)?;
    let numbers = values.slice()?;
    shaped(py, enter(py, || levels.encode(numbers))?, rows)
}

/// The values of each number.
#[pyfunction]
fn fsq_decode<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    levels: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let (levels, ids) = (levels_of(py, levels)?, Borrowed::<i64>::any("ids", ids, "int64")?);
    let numbers = ids.slice()?;
    shaped(py, enter(py, || levels.decode(numbers))?, &wider(ids.shape(), &levels))
}

/// Ids as bytes.
#[pyfunction]
fn pack_bits<'py>(py: Python<'py>, ids: &Bound<'py, PyAny>, bits: Whole) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let ids = Borrowed::<i64>::any("ids", ids, "int64")?;
    let numbers = ids.slice()?;
    Ok(enter(py, || bits::pack(numbers, bits.0))?.into_pyarray(py))
}

/// Ids that were packed, `count` of them behind `skip` others.
#[pyfunction]
fn unpack_bits<'py>(
    py: Python<'py>,
    packed: &Bound<'py, PyAny>,
    bits: Whole,
    skip: Whole,
    count: Whole,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let packed = Borrowed::<u8>::new("packed", packed, "uint8", 1)?;
    let (skip, count) = (count_of(py, "skip", skip)?, count_of(py, "count", count)?);
    let bytes = packed.slice()?;
    Ok(enter(py, || bits::unpack(bytes, bits.0, skip, count))?.into_pyarray(py))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(nearest_codes, module)?)?;
    module.add_function(wrap_pyfunction!(residual_encode, module)?)?;
    module.add_function(wrap_pyfunction!(residual_decode, module)?)?;
    module.add_function(wrap_pyfunction!(fsq_quantize, module)?)?;
    module.add_function(wrap_pyfunction!(fsq_dequantize, module)?)?;
    module.add_function(wrap_pyfunction!(fsq_index, module)?)?;
    module.add_function(wrap_pyfunction!(fsq_digits, module)?)?;
    module.add_function(wrap_pyfunction!(fsq_encode, module)?)?;
    module.add_function(wrap_pyfunction!(fsq_decode, module)?)?;
    module.add_function(wrap_pyfunction!(pack_bits, module)?)?;
    module.add_function(wrap_pyfunction!(unpack_bits, module)?)
}
