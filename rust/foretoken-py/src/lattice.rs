//! `lattice_chains` and `lattice_tree` for Python.

use foretoken_core::lattice::{Lattice, Transitions, chains, tree};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods};
use pyo3::prelude::*;

use crate::arguments::Whole;
use crate::arrays::{Borrowed, integers};
use crate::door::{enter, raise};
use crate::sample::check_size;

/// The arguments of both functions, borrowed.
struct Arguments<'py> {
    ids: Borrowed<'py, i64>,
    logprobs: Borrowed<'py, f32>,
    dense: Option<Borrowed<'py, f32>>,
    bigram: Option<(Borrowed<'py, f32>, Borrowed<'py, f32>)>,
    lengths: Option<Vec<i64>>,
    shape: [usize; 3],
}

impl<'py> Arguments<'py> {
    fn new(
        ids: &Bound<'py, PyAny>,
        logprobs: &Bound<'py, PyAny>,
        dense: Option<&Bound<'py, PyAny>>,
        bigram: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        lengths: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let py = ids.py();
        let ids = Borrowed::<i64>::new("ids", ids, "int64", 3)?;
        let logprobs = Borrowed::<f32>::new("logprobs", logprobs, "float32", 3)?;
        let shape = [ids.shape()[0], ids.shape()[1], ids.shape()[2]];
        let [rows, positions, k] = shape;
        let same = |name, shape: &[usize], expected: &[usize]| {
            if shape == expected {
                return Ok(());
            }
            let message = format!(
                "{name} has shape {shape:?}, expected {expected:?}: pass one that fits ids {:?}",
                [rows, positions, k]
            );
            Err(raise(py, "ShapeError", message))
        };
        same("logprobs", logprobs.shape(), &shape)?;
        let dense = dense.map(|scores| Borrowed::<f32>::new("transitions", scores, "float32", 4)).transpose()?;
        if let Some(scores) = &dense {
            same("transitions", scores.shape(), &[rows, positions.saturating_sub(1), k, k])?;
        }
        let table = |name, value: Bound<'py, PyAny>| Borrowed::<f32>::new(name, &value, "float32", 2);
        let bigram =
            bigram.map(|(left, right)| PyResult::Ok((table("left", left)?, table("right", right)?))).transpose()?;
        if let Some((left, right)) = &bigram {
            check_size(py, "right", "rows", right.shape()[0], left.shape()[0])?;
            check_size(py, "right", "columns", right.shape()[1], left.shape()[1])?;
        }
        let lengths = lengths.map(|lengths| integers("lengths", lengths)).transpose()?;
        Ok(Self { ids, logprobs, dense, bigram, lengths, shape })
    }

    fn lattice(&self) -> PyResult<Lattice<'_>> {
        let transitions = match (&self.dense, &self.bigram) {
            (Some(scores), _) => Transitions::Dense(scores.slice()?),
            (None, Some((left, right))) => {
                Transitions::Bigram { left: left.slice()?, right: right.slice()?, rank: left.shape()[1] }
            }
            (None, None) => Transitions::Free,
        };
        let (ids, logprobs) = (self.ids.slice()?, self.logprobs.slice()?);
        Ok(Lattice { ids, logprobs, shape: self.shape, lengths: self.lengths.as_deref(), transitions })
    }
}

/// Tokens (rows, n, positions) and scores (rows, n).
type Chains<'py> = (Bound<'py, PyArray3<i64>>, Bound<'py, PyArray2<f64>>);

/// The best chains of each row.
#[pyfunction]
fn lattice_chains<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    logprobs: &Bound<'py, PyAny>,
    dense: Option<&Bound<'py, PyAny>>,
    bigram: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    lengths: Option<&Bound<'py, PyAny>>,
    n: Whole,
) -> PyResult<Chains<'py>> {
    let arguments = Arguments::new(ids, logprobs, dense, bigram, lengths)?;
    let lattice = arguments.lattice()?;
    let found = enter(py, || chains(&lattice, n.0))?;
    let ([rows, positions, _], n) = (arguments.shape, n.0 as usize);
    let tokens = found.tokens.into_pyarray(py).reshape([rows, n, positions])?;
    Ok((tokens, found.scores.into_pyarray(py).reshape([rows, n])?))
}

/// Tokens, parents, scores (rows, nodes) and counts (rows,).
type Tree<'py> =
    (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<i64>>);

/// The best tree of each row.
#[pyfunction]
fn lattice_tree<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    logprobs: &Bound<'py, PyAny>,
    dense: Option<&Bound<'py, PyAny>>,
    bigram: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    lengths: Option<&Bound<'py, PyAny>>,
    nodes: Whole,
) -> PyResult<Tree<'py>> {
    let arguments = Arguments::new(ids, logprobs, dense, bigram, lengths)?;
    let lattice = arguments.lattice()?;
    let found = enter(py, || tree(&lattice, nodes.0))?;
    let shape = [arguments.shape[0], nodes.0 as usize];
    Ok((
        found.tokens.into_pyarray(py).reshape(shape)?,
        found.parents.into_pyarray(py).reshape(shape)?,
        found.scores.into_pyarray(py).reshape(shape)?,
        found.counts.into_pyarray(py),
    ))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(lattice_chains, module)?)?;
    module.add_function(wrap_pyfunction!(lattice_tree, module)?)
}
