//! What is done to rows of pixels: resized along themselves, resized down the columns, split into channels.

use fearless_simd::dispatch;

use crate::patch::filter::Taps;
use crate::patch::sample::Sample;
use crate::patch::turn::{LANES, Turn, to_columns, to_rows};
use crate::simd::LEVEL;

/// Rows of pixels, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, P> {
    pub pixels: &'a [P],
    pub stride: usize,
}

impl<P> View<'_, P> {
    /// The same from a row and a place in it on.
    pub fn from(&self, row: usize, place: usize) -> Self {
        Self { pixels: &self.pixels[row * self.stride + place..], stride: self.stride }
    }
}

/// Resizes up to sixteen rows along themselves, given from the first pixel that counts; `out` has as many as are wanted, and in
/// each the channels `plane` apart.
pub(crate) fn across<P: Sample>(
    taps: &Taps<P::Weight>,
    (channels, plane): (usize, usize),
    rows: [&[P]; LANES],
    (columns, results): (&mut Vec<[P; LANES]>, &mut Vec<[P; LANES]>),
    out: &mut [P],
) {
    columns.resize(taps.span().len() * channels, [P::default(); LANES]);
    results.resize(plane * channels, [P::default(); LANES]);
    dispatch!(*LEVEL, simd => {
        to_columns(simd, rows, columns);
        match channels {
            1 => weigh::<P, 1>(taps, plane, columns, results),
            3 => weigh::<P, 3>(taps, plane, columns, results),
            4 => weigh::<P, 4>(taps, plane, columns, results),
            _ => weigh_any(taps, (channels, plane), columns, results),
        }
        to_rows(simd, results, out, plane * channels);
    });
}

#[allow(clippy::inline_always)] // here and below: only inlined code is compiled for the instruction set
#[inline(always)]
fn weigh<P: Sample, const C: usize>(
    taps: &Taps<P::Weight>,
    plane: usize,
    columns: &[[P; LANES]],
    results: &mut [[P; LANES]],
) {
    let (pixels, first) = (columns.as_chunks::<C>().0, taps.span().start);
    for place in 0..taps.len() {
        let (start, weights) = taps.of(place);
        // One channel after another: with the sums of all at once the compiler gives up on registers.
        for channel in 0..C {
            let mut sums = [P::start(taps.precision); LANES];
            for (&weight, pixel) in weights.iter().zip(&pixels[start - first..]) {
                sums = weighed(sums, weight, pixel[channel]);
            }
            results[channel * plane + place] = ended(sums, taps.precision);
        }
    }
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn weigh_any<P: Sample>(
    taps: &Taps<P::Weight>,
    (channels, plane): (usize, usize),
    columns: &[[P; LANES]],
    results: &mut [[P; LANES]],
) {
    let first = taps.span().start;
    for (channel, results) in results.chunks_exact_mut(plane).enumerate() {
        for (place, result) in results.iter_mut().enumerate().take(taps.len()) {
            let (start, weights) = taps.of(place);
            let mut sums = [P::start(taps.precision); LANES];
            let pixels = columns[(start - first) * channels + channel..].iter().step_by(channels);
            for (&weight, lanes) in weights.iter().zip(pixels) {
                sums = weighed(sums, weight, *lanes);
            }
            *result = ended(sums, taps.precision);
        }
    }
}

/// Sums with one pixel more in each lane.
#[allow(clippy::inline_always)]
#[inline(always)]
fn weighed<P: Sample, const N: usize>(mut sums: [P::Weight; N], weight: P::Weight, pixels: [P; N]) -> [P::Weight; N] {
    for lane in 0..N {
        sums[lane] = P::add(sums[lane], weight, pixels[lane]);
    }
    sums
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn ended<P: Sample, const N: usize>(sums: [P::Weight; N], precision: u32) -> [P; N] {
    let mut pixels = [P::default(); N];
    for lane in 0..N {
        pixels[lane] = P::end(sums[lane], precision);
    }
    pixels
}

/// One row out of those that it is made of.
pub(crate) fn down<P: Sample>(taps: &Taps<P::Weight>, place: usize, source: View<'_, P>, out: &mut [P]) {
    /// Sums that stay in registers.
    const WIDE: usize = 64;
    dispatch!(*LEVEL, _simd => {
        let (blocks, rest) = out.as_chunks_mut::<WIDE>();
        let tail = blocks.len() * WIDE;
        for (block, out) in blocks.iter_mut().enumerate() {
            *out = column(taps, place, source.from(0, block * WIDE));
        }
        let (blocks, rest) = rest.as_chunks_mut::<LANES>();
        let last = tail + blocks.len() * LANES;
        for (block, out) in blocks.iter_mut().enumerate() {
            *out = column(taps, place, source.from(0, tail + block * LANES));
        }
        for (behind, out) in rest.iter_mut().enumerate() {
            [*out] = column(taps, place, source.from(0, last + behind));
        }
    });
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn column<P: Sample, const N: usize>(taps: &Taps<P::Weight>, place: usize, source: View<'_, P>) -> [P; N] {
    let mut sums = [P::start(taps.precision); N];
    for (row, &weight) in taps.of(place).1.iter().enumerate() {
        let (pixels, _) = source.pixels[row * source.stride..].as_chunks::<N>();
        sums = weighed(sums, weight, pixels[0]);
    }
    ended(sums, taps.precision)
}

/// Writes a row of pixels as one row for each channel, `plane` apart.
pub(crate) fn split<P: Turn>(pixels: &[P], channels: usize, plane: usize, out: &mut [P]) {
    dispatch!(*LEVEL, _simd => match channels {
        3 => split_into::<P, 3>(pixels, plane, out),
        4 => split_into::<P, 4>(pixels, plane, out),
        _ => for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
            for (out, &pixel) in out.iter_mut().zip(pixels[channel..].iter().step_by(channels)) {
                *out = pixel;
            }
        },
    });
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn split_into<P: Turn, const C: usize>(pixels: &[P], plane: usize, out: &mut [P]) {
    let (pixels, _) = pixels.as_chunks::<C>();
    for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
        for (out, pixel) in out.iter_mut().zip(pixels) {
            *out = pixel[channel];
        }
    }
}

/// The inverse of `split`, of channels without anything in between.
pub(crate) fn join<P: Copy>(planes: &[P], channels: usize, out: &mut [P]) {
    dispatch!(*LEVEL, _simd => match channels {
        1 => out.copy_from_slice(planes),
        3 => join_into::<P, 3>(planes, out),
        4 => join_into::<P, 4>(planes, out),
        _ => for (channel, plane) in planes.chunks_exact(out.len() / channels).enumerate() {
            for (out, &pixel) in out[channel..].iter_mut().step_by(channels).zip(plane) {
                *out = pixel;
            }
        },
    });
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn join_into<P: Copy, const C: usize>(planes: &[P], out: &mut [P]) {
    let (pixels, _) = out.as_chunks_mut::<C>();
    for (channel, plane) in planes.chunks_exact(pixels.len()).enumerate() {
        for (out, &pixel) in pixels.iter_mut().zip(plane) {
            out[channel] = pixel;
        }
    }
}
