//! `patchify` and `unpatchify` for Python.

use foretoken_core::error::Error;
use foretoken_core::patch::filter::{Filter, Rounding};
use foretoken_core::patch::format::{Brain, Format, Half, Single};
use foretoken_core::patch::{Cut, Film, Paste, Pixel, Plan, Sample, Tone, layout};
use numpy::{
    Element, IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadwriteArrayDyn, PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::arguments::Whole;
use crate::arrays::Borrowed;
use crate::door::{enter, enter_short, raise, to_python};
use crate::sample::count_of;

/// Patch and stride (height, width), merge, frames, and whether the last frame is repeated.
type Geometry = ([usize; 2], [usize; 2], usize, usize, bool);
/// Mean, standard deviation, scale.
type Shading = (Vec<f64>, Vec<f64>, f64);
/// The numbers that patches are made of, by name.
const NUMBERS: [&str; 3] = ["float32", "bfloat16", "float16"];

fn cut_of((patch, stride, merge, frames, repeat): Geometry) -> Cut {
    Cut { patch, stride, merge, frames, repeat }
}

fn unknown(py: Python<'_>, numbers: &str) -> PyErr {
    raise(py, "InvalidArgument", format!("{numbers} is no kind of number: give one of {NUMBERS:?}"))
}

fn shape_of<T: Element>(array: &Borrowed<'_, T>) -> [usize; 4] {
    std::array::from_fn(|axis| array.shape()[axis])
}

/// The grid (time, height, width) of each film's patches, and where their rows begin and end.
type Grids<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray1<i64>>);

/// The grids of films.
#[pyfunction]
fn patch_grid(
    py: Python<'_>,
    shapes: Vec<[usize; 4]>,
    sizes: Option<Vec<[usize; 2]>>,
    crop: Option<[usize; 2]>,
    cut: Geometry,
) -> PyResult<Grids<'_>> {
    let channels = shapes.first().map_or(1, |shape| shape[3]);
    let found = enter_short(py, || layout(&cut_of(cut), sizes.as_deref(), crop, channels, shapes.iter().copied()))?;
    let numbers: Vec<i64> = found.iter().flat_map(|(_, grid)| grid.map(|size| size as i64)).collect();
    let mut offsets = vec![0];
    for grid in numbers.chunks_exact(3) {
        offsets.push(offsets[offsets.len() - 1] + grid.iter().product::<i64>());
    }
    Ok((numbers.into_pyarray(py).reshape([found.len(), 3])?, offsets.into_pyarray(py)))
}

/// Writes the patches of films to `out`.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // positional, because `kernels` is the one caller
fn patchify(
    py: Python<'_>,
    films: Vec<Bound<'_, PyAny>>,
    sizes: Option<Vec<[usize; 2]>>,
    crop: Option<[usize; 2]>,
    filter: usize,
    rounding: usize,
    cut: Geometry,
    shading: Shading,
    numbers: &str,
    out: &Bound<'_, PyAny>,
    threads: Whole,
) -> PyResult<()> {
    let Some(first) = films.first() else { return Err(to_python(py, &Error::Empty { name: "images" })) };
    let bytes = first.cast::<PyArrayDyn<u8>>().is_ok();
    let channels: usize = first.getattr("shape")?.get_item(3)?.extract()?;
    let (Some(&filter), Some(&rounding)) = (Filter::ALL.get(filter), Rounding::ALL.get(rounding)) else {
        let message = format!("there is no filter {filter}, or no rounding {rounding}: give one of each");
        return Err(raise(py, "InvalidArgument", message));
    };
    let (mean, std, scale) = shading;
    let tone = enter_short(py, || Tone::new(&mean, &std, scale, channels))?;
    let threads = count_of(py, "threads", threads)?;
    let (cut, sizes) = (cut_of(cut), sizes.as_deref());
    let plan = Plan { cut, sizes, crop, filter, rounding, tone: &tone, threads };
    match (numbers, bytes) {
        ("float32", true) => cut_into::<Single, u8>(py, &films, &plan, out),
        ("float32", false) => cut_into::<Single, f32>(py, &films, &plan, out),
        ("bfloat16", true) => cut_into::<Brain, u8>(py, &films, &plan, out),
        ("bfloat16", false) => cut_into::<Brain, f32>(py, &films, &plan, out),
        ("float16", true) => cut_into::<Half, u8>(py, &films, &plan, out),
        ("float16", false) => cut_into::<Half, f32>(py, &films, &plan, out),
        _ => Err(unknown(py, numbers)),
    }
}

fn cut_into<F: Format<Bits: Element>, P: Sample + Element>(
    py: Python<'_>,
    films: &[Bound<'_, PyAny>],
    plan: &Plan<'_>,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let dtype = if size_of::<P>() == 1 { "uint8" } else { "float32" };
    let borrowed = films.iter().map(|film| Borrowed::<P>::new("a picture", film, dtype, 4));
    let borrowed = borrowed.collect::<PyResult<Vec<_>>>()?;
    let view = |film| PyResult::Ok(Film { pixels: Borrowed::slice(film)?, shape: shape_of(film) });
    let films = borrowed.iter().map(view).collect::<PyResult<Vec<_>>>()?;
    let mut out = written::<F::Bits>(out)?;
    let out = out.as_slice_mut()?;
    enter(py, || foretoken_core::patch::patchify::<P, F>(&films, plan, out))
}

/// An array that is written to.
fn written<'py, T: Element>(value: &Bound<'py, PyAny>) -> PyResult<PyReadwriteArrayDyn<'py, T>> {
    let refuse = |what: String| raise(value.py(), "ArgumentTypeError", format!("out {what}"));
    let Ok(array) = value.cast::<PyArrayDyn<T>>() else {
        return Err(refuse("has another dtype: give one of the dtype that is asked for".into()));
    };
    if !array.is_c_contiguous() {
        return Err(refuse("is not C-contiguous: allocate one that is".into()));
    }
    array.try_readwrite().map_err(|error| refuse(format!("cannot be written to: {error}")))
}

/// The shape (frames, height, width, channels) of each film.
#[pyfunction]
fn patch_shapes(
    py: Python<'_>,
    grids: Vec<[usize; 3]>,
    lengths: Vec<usize>,
    cut: Geometry,
    shading: Shading,
    channels: usize,
    windows: (Vec<f64>, Vec<f64>),
) -> PyResult<Vec<[usize; 4]>> {
    let (mean, std, scale) = shading;
    enter_short(py, || {
        let tone = Tone::new(&mean, &std, scale, channels)?;
        let windows = [&windows.0[..], &windows.1[..]];
        Paste { cut: cut_of(cut), grids: &grids, lengths: &lengths, tone: &tone, windows, threads: 1 }.shapes()
    })
}

/// Writes the films whose patches are given to `out`, one array for each.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn unpatchify(
    py: Python<'_>,
    rows: &Bound<'_, PyAny>,
    numbers: &str,
    grids: Vec<[usize; 3]>,
    lengths: Vec<usize>,
    cut: Geometry,
    shading: Shading,
    channels: usize,
    windows: (Vec<f64>, Vec<f64>),
    out: Vec<Bound<'_, PyAny>>,
    threads: Whole,
) -> PyResult<()> {
    let (mean, std, scale) = shading;
    let tone = enter_short(py, || Tone::new(&mean, &std, scale, channels))?;
    let windows = [&windows.0[..], &windows.1[..]];
    let threads = count_of(py, "threads", threads)?;
    let paste = Paste { cut: cut_of(cut), grids: &grids, lengths: &lengths, tone: &tone, windows, threads };
    let bytes = out.first().is_some_and(|film| film.cast::<PyArrayDyn<u8>>().is_ok());
    match (numbers, bytes) {
        ("float32", true) => paste_into::<Single, u8>(py, rows, &paste, &out),
        ("float32", false) => paste_into::<Single, f32>(py, rows, &paste, &out),
        ("bfloat16", true) => paste_into::<Brain, u8>(py, rows, &paste, &out),
        ("bfloat16", false) => paste_into::<Brain, f32>(py, rows, &paste, &out),
        ("float16", true) => paste_into::<Half, u8>(py, rows, &paste, &out),
        ("float16", false) => paste_into::<Half, f32>(py, rows, &paste, &out),
        _ => Err(unknown(py, numbers)),
    }
}

fn paste_into<F: Format<Bits: Element>, P: Pixel + Element>(
    py: Python<'_>,
    rows: &Bound<'_, PyAny>,
    paste: &Paste<'_>,
    out: &[Bound<'_, PyAny>],
) -> PyResult<()> {
    let dtype = if size_of::<F::Bits>() == 4 { "float32" } else { "uint16" };
    let rows = Borrowed::<F::Bits>::new("patches", rows, dtype, 2)?;
    let rows = rows.slice()?;
    let mut arrays = out.iter().map(written::<P>).collect::<PyResult<Vec<_>>>()?;
    let out = arrays.iter_mut().map(|array| array.as_slice_mut()).collect::<std::result::Result<Vec<_>, _>>()?;
    enter(py, || foretoken_core::patch::unpatchify::<F, P>(rows, paste, out))
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(patch_grid, module)?)?;
    module.add_function(wrap_pyfunction!(patchify, module)?)?;
    module.add_function(wrap_pyfunction!(patch_shapes, module)?)?;
    module.add_function(wrap_pyfunction!(unpatchify, module)?)
}
