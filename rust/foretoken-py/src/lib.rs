//! The Python binding: borrow, call, convert. Nothing is computed here.
#![allow(clippy::needless_pass_by_value)] // PyO3 hands extracted arguments over by value
#![allow(clippy::doc_markdown)] // the comments of classes and methods are docstrings of Python

mod arguments;
mod arrays;
mod block;
mod door;
mod history;
mod lattice;
mod native;
mod ngram;
mod noise;
mod patch;
mod pixel;
mod quantize;
mod reveal;
mod sample;
mod sampler;
mod shard;
mod stop;
mod suffix;
mod verify;
mod wave;

use pyo3::prelude::*;

/// The kernels; `foretoken.kernels` is the one importer.
#[pymodule(gil_used = false)]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    noise::register(module)?;
    sampler::register(module)?;
    history::register(module)?;
    sample::register(module)?;
    verify::register(module)?;
    lattice::register(module)?;
    ngram::register(module)?;
    quantize::register(module)?;
    reveal::register(module)?;
    shard::register(module)?;
    pixel::register(module)?;
    wave::register(module)?;
    stop::register(module)?;
    suffix::register(module)?;
    native::register(module)?;
    block::register(module)?;
    patch::register(module)?;
    door::register(module)
}
