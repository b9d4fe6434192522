//! `TokenShard` for Python.

use std::path::PathBuf;

use foretoken_core::quantize::shard::Shard;
use numpy::PyArrayDyn;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::arguments::Whole;
use crate::arrays::Borrowed;
use crate::door::enter;
use crate::quantize::shaped;

/// A file of ids packed in bits, of which any part can be read without the rest.
///
/// Opening looks at the header and at the length. Nothing is held open: a shard can be pickled, forked and shared by threads.
///
/// Args:
///     path: a file that `save` wrote.
///
/// Raises:
///     CheckpointError: the file is missing, foreign or cut short.
#[pyclass(name = "TokenShard", module = "foretoken.kernels", frozen)]
pub struct PyTokenShard(Shard);

#[pymethods]
impl PyTokenShard {
    #[new]
    #[pyo3(signature = (path), text_signature = "(path)")]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Ok(Self(enter(py, || Shard::open(&path))?))
    }

    /// Writes ids (any shape) int64 in [0, 2**bits) beside `path`, flushes to the disk, renames; gives the shard.
    ///
    /// Raises:
    ///     InvalidArgument: an id does not fit, or `bits` is not in 1..=32.
    ///     CheckpointError: the file cannot be written.
    #[staticmethod]
    #[pyo3(signature = (path, ids, *, bits))]
    fn save(py: Python<'_>, path: PathBuf, ids: &Bound<'_, PyAny>, bits: Whole) -> PyResult<Self> {
        let ids = Borrowed::<i64>::any("ids", ids, "int64")?;
        let (numbers, shape) = (ids.slice()?, ids.shape().to_vec());
        Ok(Self(enter(py, || {
            Shard::save(&path, numbers, &shape, bits.0)?;
            Shard::open(&path)
        })?))
    }

    /// Where it is.
    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// The bits of an id.
    #[getter]
    fn bits(&self) -> usize {
        self.0.bits()
    }

    /// The size of each axis.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.shape())
    }

    /// The ids of places `start..stop` of the first axis, int64; only their part of the file is read.
    ///
    /// Raises:
    ///     InvalidArgument: there are no such places.
    ///     CheckpointError: the file has changed.
    fn read<'py>(&self, py: Python<'py>, start: Whole, stop: Whole) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
        let ids = enter(py, || self.0.read(start.0..stop.0))?;
        let rows = (!self.0.shape().is_empty()).then_some((stop.0 - start.0) as usize);
        let shape: Vec<usize> = rows.into_iter().chain(self.0.shape().iter().skip(1).copied()).collect();
        shaped(py, ids, &shape)
    }

    /// Reads the whole file and compares its checksum.
    ///
    /// Raises:
    ///     CheckpointError: it was damaged.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        enter(py, || self.0.verify())
    }

    fn __len__(&self) -> usize {
        self.0.shape().first().copied().unwrap_or(1)
    }

    fn __getitem__<'py>(&self, py: Python<'py>, place: Whole) -> PyResult<Bound<'py, PyArrayDyn<i64>>> {
        let length = self.__len__() as i64;
        let place = if place.0 < 0 { place.0 + length } else { place.0 };
        if !(0..length).contains(&place) {
            // Not one of our own: it is how a loop over a sequence ends.
            return Err(PyIndexError::new_err(format!("the shard has places 0..{length}")));
        }
        let ids = enter(py, || self.0.read(place..place + 1))?;
        shaped(py, ids, self.0.shape().get(1..).unwrap_or(&[]))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (PathBuf,)) {
        (slf.get_type(), (slf.get().0.path().to_owned(),))
    }
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyTokenShard>()
}
