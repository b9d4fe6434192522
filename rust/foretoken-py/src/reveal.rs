//! Masked steps for Python.

use foretoken_core::error::Error;
use foretoken_core::reveal::{self, Canvas, Counts, Rule};
use numpy::{Element, IntoPyArray, PyArray2, PyArrayMethods};
use pyo3::prelude::*;

use crate::arguments::Whole;
use crate::arrays::{Borrowed, integers};
use crate::door::{enter, to_python};
use crate::sample::{Rows, check_size, count_of};
use crate::sampler;

/// A canvas and how much of each row takes part.
struct Given<'py> {
    tokens: Borrowed<'py, i64>,
    lengths: Option<Vec<i64>>,
}

impl<'py> Given<'py> {
    fn new(canvas: &Bound<'py, PyAny>, lengths: Option<&Bound<'py, PyAny>>) -> PyResult<Self> {
        let tokens = Borrowed::<i64>::new("canvas", canvas, "int64", 2)?;
        Ok(Self { tokens, lengths: lengths.map(|lengths| integers("lengths", lengths)).transpose()? })
    }

    /// Rows and positions.
    fn shape(&self) -> [usize; 2] {
        [self.tokens.shape()[0], self.tokens.shape()[1]]
    }

    fn canvas(&self) -> PyResult<Canvas<'_>> {
        Ok(Canvas { tokens: self.tokens.slice()?, positions: self.shape()[1], lengths: self.lengths.as_deref() })
    }

    /// The logits of this canvas, of this vocabulary.
    fn logits(&self, logits: &Bound<'py, PyAny>, vocabulary: usize) -> PyResult<Borrowed<'py, f32>> {
        let (py, [rows, positions]) = (logits.py(), self.shape());
        let logits = Borrowed::<f32>::new("logits", logits, "float32", 3)?;
        check_size(py, "logits", "columns", logits.shape()[2], vocabulary)?;
        check_size(py, "canvas", "rows", rows, logits.shape()[0])?;
        check_size(py, "canvas", "positions", positions, logits.shape()[1])?;
        Ok(logits)
    }
}

/// Scores (rows, positions) of this canvas.
fn scores_of<'py>(scores: &Bound<'py, PyAny>, shape: [usize; 2]) -> PyResult<Borrowed<'py, f64>> {
    let py = scores.py();
    let scores = Borrowed::<f64>::new("scores", scores, "float64", 2)?;
    check_size(py, "scores", "rows", scores.shape()[0], shape[0])?;
    check_size(py, "scores", "positions", scores.shape()[1], shape[1])?;
    Ok(scores)
}

fn shaped<T: Element>(py: Python<'_>, numbers: Vec<T>, shape: [usize; 2]) -> PyResult<Bound<'_, PyArray2<T>>> {
    numbers.into_pyarray(py).reshape(shape)
}

/// Tokens, what was revealed, scores, gaps; all (rows, positions).
type Revealed<'py> =
    (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<bool>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<f64>>);

/// The positions that a rule takes first, and their tokens.
#[pyfunction]
#[pyo3(name = "reveal")]
#[allow(clippy::too_many_arguments)] // positional, because `kernels` is the one caller and keywords cost time
fn reveal_step<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    canvas: &Bound<'py, PyAny>,
    sampler: &Bound<'py, PyAny>,
    seeds: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    rows: Option<&Bound<'py, PyAny>>,
    lengths: Option<&Bound<'py, PyAny>>,
    step: Whole,
    rule: Whole,
    bound: Option<f64>,
    temperature: f64,
    scores: Option<&Bound<'py, PyAny>>,
    least: &Bound<'py, PyAny>,
    most: &Bound<'py, PyAny>,
    threads: Whole,
) -> PyResult<Revealed<'py>> {
    let threads = count_of(py, "threads", threads)?;
    let sampler = sampler::borrow(sampler)?;
    let given = Given::new(canvas, lengths)?;
    let (shape, canvas) = (given.shape(), given.canvas()?);
    let logits = given.logits(logits, sampler.vocab_size)?;
    let scores = scores.map(|scores| scores_of(scores, shape)).transpose()?;
    let rule = match (rule.0, &scores) {
        (_, Some(scores)) => Rule::Scores(scores.slice()?),
        (0, None) => Rule::Entropy { bound },
        (1, None) => Rule::Largest { bound },
        (2, None) => Rule::Margin { bound },
        (3, None) => Rule::Sampled { bound, temperature },
        (other, None) => {
            let expected = "the number of a rule, or scores";
            return Err(to_python(py, &Error::Range { name: "rule", value: other as f64, expected }));
        }
    };
    let (least, most) = (integers("least", least)?, integers("most", most)?);
    let rows = Rows::new(seeds, positions, rows, None)?;
    let batch = rows.batch(logits.slice()?, shape[0], None, None, threads);
    let counts = Counts { least: &least, most: &most };
    let found = enter(py, || reveal::reveal(sampler, &batch, &canvas, step.0, &rule, &counts))?;
    Ok((
        shaped(py, found.tokens, shape)?,
        shaped(py, found.revealed, shape)?,
        shaped(py, found.scores, shape)?,
        shaped(py, found.gaps, shape)?,
    ))
}

/// Tokens, gaps, probabilities, entropies, largest probabilities, margins; all (rows, positions).
type Confidences<'py> = (
    Bound<'py, PyArray2<i64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray2<f64>>,
);

/// A token for each unknown position, and how sure it is.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn confidences<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    canvas: &Bound<'py, PyAny>,
    sampler: &Bound<'py, PyAny>,
    seeds: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    rows: Option<&Bound<'py, PyAny>>,
    lengths: Option<&Bound<'py, PyAny>>,
    step: Whole,
    threads: Whole,
) -> PyResult<Confidences<'py>> {
    let threads = count_of(py, "threads", threads)?;
    let sampler = sampler::borrow(sampler)?;
    let given = Given::new(canvas, lengths)?;
    let (shape, canvas) = (given.shape(), given.canvas()?);
    let logits = given.logits(logits, sampler.vocab_size)?;
    let rows = Rows::new(seeds, positions, rows, None)?;
    let batch = rows.batch(logits.slice()?, shape[0], None, None, threads);
    let found = enter(py, || reveal::confidences(sampler, &batch, &canvas, step.0))?;
    Ok((
        shaped(py, found.tokens, shape)?,
        shaped(py, found.gaps, shape)?,
        shaped(py, found.probabilities, shape)?,
        shaped(py, found.entropies, shape)?,
        shaped(py, found.largest, shape)?,
        shaped(py, found.margins, shape)?,
    ))
}

/// Which unknown positions the highest scores reveal.
#[pyfunction]
fn choose<'py>(
    py: Python<'py>,
    canvas: &Bound<'py, PyAny>,
    lengths: Option<&Bound<'py, PyAny>>,
    scores: &Bound<'py, PyAny>,
    least: &Bound<'py, PyAny>,
    most: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray2<bool>>> {
    let given = Given::new(canvas, lengths)?;
    let (shape, canvas) = (given.shape(), given.canvas()?);
    let scores = scores_of(scores, shape)?;
    let numbers = scores.slice()?;
    let (least, most) = (integers("least", least)?, integers("most", most)?);
    let counts = Counts { least: &least, most: &most };
    let revealed = enter(py, || reveal::choose(&canvas, shape[0], numbers, &counts))?;
    shaped(py, revealed, shape)
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(reveal_step, module)?)?;
    module.add_function(wrap_pyfunction!(confidences, module)?)?;
    module.add_function(wrap_pyfunction!(choose, module)?)
}
