//! Arrays of a batch: large ones are borrowed, a number or two for each row is copied.

use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::door::raise;

/// A C-contiguous array of numbers, borrowed for a call.
pub struct Borrowed<'py, T: Element> {
    array: PyReadonlyArrayDyn<'py, T>,
    name: &'static str,
}

impl<'py, T: Element> Borrowed<'py, T> {
    /// Borrows without a copy.
    ///
    /// # Errors
    /// `ArgumentTypeError` for what is no array, has another dtype or other strides; `ShapeError` for another rank.
    pub fn new(name: &'static str, value: &Bound<'py, PyAny>, dtype: &str, rank: usize) -> PyResult<Self> {
        let borrowed = Self::any(name, value, dtype)?;
        if borrowed.array.ndim() != rank {
            let message = format!("{name} has {} dimensions, expected {rank}", borrowed.array.ndim());
            return Err(raise(value.py(), "ShapeError", message));
        }
        Ok(borrowed)
    }

    /// The same for any number of axes.
    ///
    /// # Errors
    /// As `new`.
    pub fn any(name: &'static str, value: &Bound<'py, PyAny>, dtype: &str) -> PyResult<Self> {
        let py = value.py();
        let refuse = |what: String| raise(py, "ArgumentTypeError", format!("{name} {what}"));
        let Ok(array) = value.cast::<PyArrayDyn<T>>() else {
            let what = match value.cast::<PyUntypedArray>() {
                Ok(array) => format!("has dtype {}: convert it to {dtype}", array.dtype()),
                Err(_) => format!("is a {}: give a numpy array of {dtype}", type_name(value)),
            };
            return Err(refuse(what));
        };
        if !array.is_c_contiguous() {
            return Err(refuse("is not C-contiguous: call .contiguous() or numpy.ascontiguousarray first".into()));
        }
        match array.try_readonly() {
            Ok(array) => Ok(Self { array, name }),
            Err(error) => Err(refuse(format!("is being written to elsewhere ({error}): wait until that is done"))),
        }
    }

    /// The sizes of its axes.
    pub fn shape(&self) -> &[usize] {
        self.array.shape()
    }

    /// Its numbers, in order.
    pub fn slice(&self) -> PyResult<&[T]> {
        self.array.as_slice().map_err(|_| {
            let message = format!("{} is not aligned in memory: copy it first", self.name);
            raise(self.array.py(), "ArgumentTypeError", message)
        })
    }
}

/// Whole numbers, one for each row: an array of integers, or a sequence of `int`.
pub fn integers(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
    if value.is_exact_instance_of::<PyList>() {
        return sequence(name, value, "integers that fit 64 bits");
    }
    if let Some(numbers) = copy::<i64>(value) {
        return Ok(numbers);
    }
    if let Some(numbers) = copy::<u32>(value) {
        return Ok(numbers.into_iter().map(i64::from).collect());
    }
    if let Some(numbers) = copy::<i32>(value) {
        return Ok(numbers.into_iter().map(i64::from).collect());
    }
    sequence(name, value, "integers that fit 64 bits")
}

/// Seeds, one for each row, in 0..2^64.
pub fn seeds(value: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    if let Some(numbers) = copy::<u64>(value) {
        return Ok(numbers);
    }
    if let Some(numbers) = copy::<i64>(value) {
        let seeds: Option<Vec<u64>> = numbers.iter().map(|&number| u64::try_from(number).ok()).collect();
        let least = numbers.iter().min().copied().unwrap_or(0);
        let message = format!("seeds holds {least}: give integers in 0..18446744073709551616");
        return seeds.ok_or_else(|| raise(value.py(), "InvalidArgument", message));
    }
    sequence("seeds", value, "integers in 0..18446744073709551616")
}

fn copy<T: Element + Copy>(value: &Bound<'_, PyAny>) -> Option<Vec<T>> {
    let array = value.extract::<PyReadonlyArray1<'_, T>>().ok()?;
    Some(array.as_array().iter().copied().collect())
}

fn sequence<'py, T>(name: &str, value: &Bound<'py, PyAny>, expected: &str) -> PyResult<Vec<T>>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    let numbers = value.try_iter().and_then(|items| items.map(|item| item?.extract()).collect());
    numbers.map_err(|error: PyErr| {
        let (py, given) = (value.py(), type_name(value));
        if error.is_instance_of::<PyOverflowError>(py) {
            raise(py, "InvalidArgument", format!("{name} is out of range: give {expected}"))
        } else if error.is_instance_of::<PyTypeError>(py) {
            raise(py, "ArgumentTypeError", format!("{name} is a {given}: give one-dimensional {expected}"))
        } else {
            error
        }
    })
}

/// The name of a value's type.
pub fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}
