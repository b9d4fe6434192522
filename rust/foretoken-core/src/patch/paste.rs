//! Rows of patches to films.

use std::ops::Range;

use fearless_simd::dispatch;

use crate::error::{Error, PictureError, Result};
use crate::patch::bands::{Band, spread};
use crate::patch::format::Format;
use crate::patch::passes::join;
use crate::patch::shape::{Cut, MAX_CHANNELS, MAX_NUMBERS, product};
use crate::patch::tone::Tone;
use crate::simd::LEVEL;

/// How patches become films.
#[derive(Debug, Clone, Copy)]
pub struct Paste<'a> {
    /// How they were cut.
    pub cut: Cut,
    /// The grid of patches of each film: time, height, width.
    pub grids: &'a [[usize; 3]],
    /// How many frames each film has: the last tubelet may be cut short.
    pub lengths: &'a [usize],
    /// What pixels became.
    pub tone: &'a Tone,
    /// How much each row and each column of a patch counts where patches overlap.
    pub windows: [&'a [f64]; 2],
    /// Over how many threads the rows of pixels are spread.
    pub threads: usize,
}

/// A kind of pixel that can be made of a number.
pub trait Pixel: Copy + Send {
    /// The nearest one.
    fn from(value: f32) -> Self;
}

#[allow(clippy::inline_always)] // only inlined code is compiled for the instruction set
impl Pixel for u8 {
    #[inline(always)]
    fn from(value: f32) -> Self {
        (value + 0.5) as u8 // what is outside 0..256 becomes the nearest inside
    }
}

#[allow(clippy::inline_always)]
impl Pixel for f32 {
    #[inline(always)]
    fn from(value: f32) -> Self {
        value
    }
}

/// How many rows of pixels make a band, where patches overlap.
const ROWS: usize = 16;

impl Paste<'_> {
    /// The shape of each film: frames, height, width, channels.
    ///
    /// # Errors
    /// Grids or lengths that are off, more pixels than a call may write, or windows of another length than patches.
    pub fn shapes(&self) -> Result<Vec<[usize; 4]>> {
        self.cut.check()?;
        let channels = self.tone.channels();
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(Error::Range { name: "channels", value: channels as f64, expected: "a number in 1..=1024" });
        }
        if self.lengths.len() != self.grids.len() {
            return Err(Error::Size {
                name: "lengths",
                unit: "entries",
                given: self.lengths.len(),
                expected: self.grids.len(),
            });
        }
        for (axis, window) in self.windows.iter().enumerate() {
            if window.len() != self.cut.patch[axis] {
                return Err(Error::Size {
                    name: "window",
                    unit: "entries",
                    given: window.len(),
                    expected: self.cut.patch[axis],
                });
            }
            if let Some(&value) = window.iter().find(|weight| !weight.is_finite() || **weight <= 0.0) {
                return Err(Error::Range { name: "window", value, expected: "finite numbers above 0" });
            }
        }
        let rows = self.cut.rows(channels, self.grids.iter().copied())?;
        let one = |(index, (&[times, rows, columns], &frames)): (usize, (&[usize; 3], &usize))| -> Result<[usize; 4]> {
            let merge = self.cut.merge;
            if times == 0 || rows == 0 || columns == 0 || rows % merge != 0 || columns % merge != 0 {
                return Err(Error::Picture(PictureError::Grid { index, times, rows, columns, merge }));
            }
            if frames.div_ceil(self.cut.frames) != times {
                let most = product(&[times, self.cut.frames]);
                return Err(Error::Picture(PictureError::Length {
                    index,
                    given: frames,
                    least: most - self.cut.frames + 1,
                    most,
                }));
            }
            Ok([frames, self.cut.covered(0, rows), self.cut.covered(1, columns), channels])
        };
        let shapes = self.grids.iter().zip(self.lengths).enumerate().map(one).collect::<Result<Vec<_>>>()?;
        let given = shapes.iter().fold(rows, |sum, shape| sum.saturating_add(product(shape)));
        if given > 2 * MAX_NUMBERS {
            return Err(Error::TooLarge { name: "the pictures", unit: "numbers", given, limit: 2 * MAX_NUMBERS });
        }
        Ok(shapes)
    }
}

/// Writes the films whose patches are given, one a row; where patches overlap, their weighted mean.
///
/// # Errors
/// Sizes that do not fit each other, or numbers that are none; nothing is written then.
pub fn unpatchify<F: Format, P: Pixel>(rows: &[F::Bits], paste: &Paste<'_>, out: Vec<&mut [P]>) -> Result<()> {
    let (cut, shapes) = (&paste.cut, paste.shapes()?);
    let (channels, width) = (paste.tone.channels(), cut.width(paste.tone.channels()));
    if paste.threads == 0 {
        return Err(Error::Range { name: "threads", value: 0.0, expected: "1 or more" });
    }
    let expected = cut.rows(channels, paste.grids.iter().copied())? * width;
    if rows.len() != expected {
        return Err(Error::Size { name: "patches", unit: "entries", given: rows.len(), expected });
    }
    if out.len() != shapes.len() {
        return Err(Error::Size { name: "out", unit: "entries", given: out.len(), expected: shapes.len() });
    }
    // Counted first, not searched for: a loop without an exit vectorises.
    let wrong = |bits: &F::Bits| !F::value(*bits).is_finite();
    let count = dispatch!(*LEVEL, _simd => rows.iter().map(|bits| u64::from(wrong(bits))).sum::<u64>());
    if count > 0
        && let Some(place) = rows.iter().position(wrong)
    {
        return Err(Error::Picture(PictureError::NotFinite {
            name: "row",
            index: place / width,
            place: place % width,
        }));
    }
    let overlapping = cut.stride != cut.patch;
    let (mut bands, mut first, mut firsts) = (Vec::new(), 0, Vec::new());
    for (film, (mut out, shape)) in out.into_iter().zip(&shapes).enumerate() {
        if out.len() != product(shape) {
            return Err(Error::Size { name: "a picture", unit: "entries", given: out.len(), expected: product(shape) });
        }
        firsts.push(first);
        first += product(&paste.grids[film]);
        let [frames, height, line] = [shape[0], shape[1], shape[2] * channels];
        let step = if overlapping { ROWS } else { cut.merge * cut.patch[0] };
        for time in 0..frames {
            for row in (0..height).step_by(step) {
                let (band, rest) = out.split_at_mut(step.min(height - row) * line);
                bands.push(Band { film, time, row, out: band });
                out = rest;
            }
        }
    }
    spread(bands, paste.threads, |bands| {
        let (mut planes, mut sums) = (Vec::new(), Vec::new());
        for band in bands {
            let [_, height, columns] = paste.grids[band.film];
            let patches = Patches::<F> {
                rows: &rows[firsts[band.film] * width..],
                cut,
                channels,
                grid: [height, columns],
                time: band.time,
            };
            if overlapping {
                patches.blend(paste, band, &mut sums, &mut planes);
            } else {
                patches.paste(paste.tone, band, &mut planes);
            }
        }
    });
    Ok(())
}

/// The patches of one frame of a film.
struct Patches<'a, F: Format> {
    rows: &'a [F::Bits],
    cut: &'a Cut,
    channels: usize,
    grid: [usize; 2],
    time: usize,
}

impl<F: Format> Patches<'_, F> {
    /// A line of a patch, in one channel.
    fn line(&self, [row, column]: [usize; 2], channel: usize, inside: usize) -> &[F::Bits] {
        let (cut, [height, width]) = (self.cut, self.cut.patch);
        let (tubelet, slot) = (self.time / cut.frames, self.time % cut.frames);
        let patch = tubelet * self.grid[0] * self.grid[1] + cut.place(self.grid[1], row, column);
        let lines = (patch * self.channels + channel) * cut.frames + slot;
        &self.rows[(lines * height + inside) * width..][..width]
    }

    /// Fills a row of blocks, where patches do not overlap.
    fn paste<P: Pixel>(&self, tone: &Tone, band: &mut Band<'_, P>, planes: &mut Vec<P>) {
        let ([height, width], pixels) = (self.cut.patch, self.grid[1] * self.cut.patch[1]);
        planes.resize(pixels * self.channels, P::from(0.0));
        for (row, out) in (band.row..).zip(band.out.chunks_exact_mut(pixels * self.channels)) {
            for (channel, plane) in planes.chunks_exact_mut(pixels).enumerate() {
                let shade = tone.shade(channel);
                dispatch!(*LEVEL, _simd => for (column, plane) in plane.chunks_exact_mut(width).enumerate() {
                    let values = self.line([row / height, column], channel, row % height);
                    for (out, &bits) in plane.iter_mut().zip(values) {
                        *out = P::from(shade.back(F::value(bits)));
                    }
                });
            }
            join(planes, self.channels, out);
        }
    }

    /// Fills some rows of pixels, where patches overlap: the sums run over patches in raster order, whatever the threads.
    fn blend<P: Pixel>(&self, paste: &Paste<'_>, band: &mut Band<'_, P>, sums: &mut Vec<f64>, planes: &mut Vec<P>) {
        let ([_, width], [down, across], channels) = (self.cut.patch, self.cut.stride, self.channels);
        let pixels = self.cut.covered(1, self.grid[1]);
        planes.resize(pixels * channels, P::from(0.0));
        let mut totals = vec![0.0; pixels];
        for column in 0..self.grid[1] {
            for (total, weight) in totals[column * across..].iter_mut().zip(paste.windows[1]) {
                *total += weight;
            }
        }
        let mut weights = vec![0.0; width];
        for (row, out) in (band.row..).zip(band.out.chunks_exact_mut(pixels * channels)) {
            sums.clear();
            sums.resize(pixels * channels, 0.0);
            let mut total = 0.0;
            for patch in self.covering(row) {
                let inside = row - patch * down;
                let height = paste.windows[0][inside];
                total += height;
                weights.iter_mut().zip(paste.windows[1]).for_each(|(weight, across)| *weight = height * across);
                for (channel, sums) in sums.chunks_exact_mut(pixels).enumerate() {
                    dispatch!(*LEVEL, _simd => for column in 0..self.grid[1] {
                        let values = self.line([patch, column], channel, inside).iter().zip(&weights);
                        for (sum, (&bits, weight)) in sums[column * across..].iter_mut().zip(values) {
                            *sum += weight * f64::from(F::value(bits));
                        }
                    });
                }
            }
            let both = planes.chunks_exact_mut(pixels).zip(sums.chunks_exact(pixels));
            for (channel, (plane, sums)) in both.enumerate() {
                let shade = paste.tone.shade(channel);
                dispatch!(*LEVEL, _simd => for ((out, sum), across) in plane.iter_mut().zip(sums).zip(&totals) {
                    *out = P::from(shade.back((sum / (total * across)) as f32));
                });
            }
            join(planes, channels, out);
        }
    }

    /// The rows of patches that cover a row of pixels.
    fn covering(&self, row: usize) -> Range<usize> {
        let (height, down) = (self.cut.patch[0], self.cut.stride[0]);
        let first = (row + 1).saturating_sub(height).div_ceil(down);
        first..(row / down + 1).min(self.grid[0])
    }
}
