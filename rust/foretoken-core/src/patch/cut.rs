//! Films to rows of patches.

use std::ops::Range;
use std::sync::Arc;

use fearless_simd::dispatch;

use crate::error::{Error, PictureError, Result};
use crate::patch::Film;
use crate::patch::bands::{Band, spread};
use crate::patch::filter::{Filter, Rounding};
use crate::patch::format::Format;
use crate::patch::resize::{Planes, Resizer, Scaling};
use crate::patch::sample::Sample;
use crate::patch::shape::{Cut, MAX_CHANNELS, Region, product};
use crate::patch::tone::{Shade, Tone};
use crate::patch::turn::LANES;
use crate::simd::LEVEL;

/// Patches up to this width are narrow. Three pixels wide they take as long either way, four pixels wide less by blocks.
const NARROW: usize = 2;

/// What is done to films before they are cut, and how.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// How they are cut.
    pub cut: Cut,
    /// Height and width to which each is resized, unless they stay as they are.
    pub sizes: Option<&'a [[usize; 2]]>,
    /// Height and width that are cut out of the middle then, unless all is used.
    pub crop: Option<[usize; 2]>,
    /// How they are resized.
    pub filter: Filter,
    /// How bytes are rounded on the way.
    pub rounding: Rounding,
    /// What pixels become.
    pub tone: &'a Tone,
    /// Over how many threads the bands are spread.
    pub threads: usize,
}

impl Plan<'_> {
    /// What is cut out of each film, and its grid of patches.
    ///
    /// # Errors
    /// Sizes that are off, or too large together.
    fn layout(&self, shapes: impl ExactSizeIterator<Item = [usize; 4]>) -> Result<Vec<(Region, [usize; 3])>> {
        layout(&self.cut, self.sizes, self.crop, self.tone.channels(), shapes)
    }
}

/// What is cut out of each film, and its grid of patches.
///
/// # Errors
/// Sizes that are off, or too large together.
pub fn layout(
    cut: &Cut,
    sizes: Option<&[[usize; 2]]>,
    crop: Option<[usize; 2]>,
    channels: usize,
    shapes: impl ExactSizeIterator<Item = [usize; 4]>,
) -> Result<Vec<(Region, [usize; 3])>> {
    cut.check()?;
    if !(1..=MAX_CHANNELS).contains(&channels) {
        return Err(Error::Range { name: "channels", value: channels as f64, expected: "a number in 1..=1024" });
    }
    let count = shapes.len();
    if let Some(given) = sizes.map(<[_]>::len).filter(|&given| given != count) {
        return Err(Error::Size { name: "sizes", unit: "entries", given, expected: count });
    }
    let one = |(picture, shape): (usize, [usize; 4])| -> Result<(Region, [usize; 3])> {
        let [frames, height, width, given] = shape;
        if given != channels {
            return Err(Error::Picture(PictureError::Another { picture, given, expected: channels }));
        }
        cut.grid(picture, [frames, height, width], sizes.map(|sizes| sizes[picture]), crop).map_err(Error::Picture)
    };
    let found = shapes.enumerate().map(one).collect::<Result<Vec<_>>>()?;
    cut.rows(channels, found.iter().map(|(_, grid)| *grid))?;
    Ok(found)
}

/// Writes the patches of each film, one a row: (channels, frames, height, width) of a patch.
///
/// # Errors
/// Sizes that do not fit each other, or pixels that are no numbers; nothing is written then.
pub fn patchify<P: Sample, F: Format>(films: &[Film<'_, P>], plan: &Plan<'_>, out: &mut [F::Bits]) -> Result<()> {
    let found = plan.layout(films.iter().map(|film| film.shape))?;
    let (channels, width) = (plan.tone.channels(), plan.cut.width(plan.tone.channels()));
    if plan.threads == 0 {
        return Err(Error::Range { name: "threads", value: 0.0, expected: "1 or more" });
    }
    for (picture, film) in films.iter().enumerate() {
        if film.pixels.len() != product(&film.shape) {
            return Err(Error::Size {
                name: "a picture",
                unit: "entries",
                given: film.pixels.len(),
                expected: product(&film.shape),
            });
        }
        if let Some(place) = P::wrong(film.pixels) {
            return Err(Error::Picture(PictureError::NotFinite { name: "picture", index: picture, place }));
        }
    }
    let expected = plan.cut.rows(channels, found.iter().map(|(_, grid)| *grid))? * width;
    if out.len() != expected {
        return Err(Error::Size { name: "out", unit: "entries", given: out.len(), expected });
    }
    let scalings = scalings::<P>(films, plan, &found);
    let bands = bands(&plan.cut, width, found.iter().map(|(_, grid)| *grid), out);
    spread(bands, plan.threads, |bands| {
        let (mut resizer, mut shades) = (Resizer::default(), Vec::new());
        for band in bands {
            let (film, (region, grid), frames) = (&films[band.film], &found[band.film], plan.cut.frames);
            let first = band.time * frames;
            let there = frames.min(film.shape[0] - first);
            for slot in 0..there {
                let scaled = (region, &*scalings[band.film]);
                let planes =
                    resizer.band((film, band.film), (first + slot, slot), scaled, rows_of(&plan.cut, band.row));
                // The last frame stands for those that the film lacks.
                let slots = slot..if slot + 1 == there { frames } else { slot + 1 };
                if plan.cut.patch[1] <= NARROW {
                    cut_narrow::<P, F>(plan, planes, grid[2], slots, (&mut shades, band.out));
                } else {
                    cut_band::<P, F>(plan, planes, grid[2], slots, band.out);
                }
            }
        }
    });
    Ok(())
}

/// How each film is resized; those that follow each other and are as large share one.
fn scalings<P: Sample>(
    films: &[Film<'_, P>],
    plan: &Plan<'_>,
    found: &[(Region, [usize; 3])],
) -> Vec<Arc<Scaling<P::Weight>>> {
    let mut made: Vec<Arc<Scaling<P::Weight>>> = Vec::with_capacity(films.len());
    for (place, (film, (region, _))) in films.iter().zip(found).enumerate() {
        let sides = [film.shape[1], film.shape[2]];
        let again = place.checked_sub(1).filter(|&last| found[last].0 == *region && films[last].shape[1..3] == sides);
        made.push(again.map_or_else(|| Arc::new(Scaling::new::<P>(plan, sides, region)), |last| made[last].clone()));
    }
    made
}

/// The parts of the result, each one row of blocks.
fn bands<'a, T>(
    cut: &Cut,
    width: usize,
    grids: impl Iterator<Item = [usize; 3]>,
    mut out: &'a mut [T],
) -> Vec<Band<'a, T>> {
    let mut bands = Vec::new();
    for (film, [times, rows, columns]) in grids.enumerate() {
        for time in 0..times {
            for row in 0..rows / cut.merge {
                let (band, rest) = out.split_at_mut(cut.merge * columns * width);
                bands.push(Band { film, time, row, out: band });
                out = rest;
            }
        }
    }
    bands
}

/// The rows of pixels that a row of blocks covers.
fn rows_of(cut: &Cut, row: usize) -> Range<usize> {
    let first = row * cut.merge * cut.stride[0];
    first..first + cut.covered(0, cut.merge)
}

/// Where in a band each patch begins, in the order of its rows.
fn corners(cut: &Cut, columns: usize) -> impl Iterator<Item = [usize; 2]> {
    let (merge, [down, across]) = (cut.merge, cut.stride);
    (0..columns / merge).flat_map(move |block| {
        (0..merge * merge).map(move |place| [place / merge * down, (block * merge + place % merge) * across])
    })
}

/// Cuts the rows of one frame into the patches of a band, once for each of some slots.
fn cut_band<P: Sample, F: Format>(
    plan: &Plan<'_>,
    planes: Planes<'_, P>,
    columns: usize,
    slots: Range<usize>,
    out: &mut [F::Bits],
) {
    let ([height, width], frames, channels) = (plan.cut.patch, plan.cut.frames, plan.tone.channels());
    let area = height * width;
    // How many numbers behind a plane are still to be written: a block at its end may spill over to them.
    let spare = match (frames, slots.end < frames || slots.len() > 1) {
        (1, _) => out.len(),
        (_, true) => area,
        (_, false) => 0,
    };
    for (patch, [top, left]) in corners(&plan.cut, columns).enumerate() {
        for channel in 0..channels {
            let pixels = &planes.pixels[top * planes.row + channel * planes.plane + left..];
            let from = ((patch * channels + channel) * frames + slots.start) * area;
            let out = &mut out[from..];
            let room = out.len().min(area + spare);
            cut_plane::<P, F>(plan.tone.shade(channel), (pixels, planes.row), [height, width], &mut out[..room]);
            for slot in 1..slots.len() {
                out.copy_within(..area, slot * area);
            }
        }
    }
}

/// Cuts the rows of one frame into narrow patches, once for each of some slots.
///
/// Whole lines are shaded and then dealt out: patch by patch, most lanes of a block would be thrown away.
fn cut_narrow<P: Sample, F: Format>(
    plan: &Plan<'_>,
    planes: Planes<'_, P>,
    columns: usize,
    slots: Range<usize>,
    (shades, out): (&mut Vec<F::Bits>, &mut [F::Bits]),
) {
    let (merge, [down, across], [height, width]) = (plan.cut.merge, plan.cut.stride, plan.cut.patch);
    let (channels, frames, length) = (plan.tone.channels(), plan.cut.frames, plan.cut.covered(1, columns));
    let (area, patch) = (height * width, channels * frames * height * width);
    if shades.len() < length {
        shades.resize(length, F::Bits::default());
    }
    for (channel, top, row) in (0..channels)
        .flat_map(|channel| (0..merge).flat_map(move |top| (0..height).map(move |row| (channel, top, row))))
    {
        let line = &planes.pixels[(top * down + row) * planes.row + channel * planes.plane..];
        cut_line::<P, F>(plan.tone.shade(channel), line, length, shades);
        for (left, slot) in (0..merge).flat_map(|left| slots.clone().map(move |slot| (left, slot))) {
            let from = (top * merge + left) * patch + (channel * frames + slot) * area + row * width;
            let (numbers, step) = (&shades[left * across..length], merge * across);
            let targets = out[from..].chunks_mut(merge * merge * patch);
            match width {
                1 => deal::<_, 1>(numbers, step, targets),
                _ => deal::<_, NARROW>(numbers, step, targets),
            }
        }
    }
}

/// Copies so many numbers to each place, from places `step` apart.
///
/// By windows of the numbers, `step` apart, it took twice as long.
fn deal<T: Copy, const WIDTH: usize>(numbers: &[T], step: usize, places: std::slice::ChunksMut<'_, T>) {
    for (place, out) in places.enumerate() {
        if let (Some(from), Some(out)) = (numbers[place * step..].first_chunk::<WIDTH>(), out.first_chunk_mut()) {
            *out = *from;
        }
    }
}

/// Cuts one channel of one patch; `out` begins with it and ends where nothing may be written.
fn cut_plane<P: Sample, F: Format>(
    shade: Shade,
    (pixels, stride): (&[P], usize),
    [height, width]: [usize; 2],
    out: &mut [F::Bits],
) {
    dispatch!(*LEVEL, _simd => for row in 0..height {
        let (line, out) = (&pixels[row * stride..], &mut out[row * width..]);
        match (line.first_chunk(), out.first_chunk_mut()) {
            // What is too much is written over by the next row.
            (Some(block), Some(out)) if width <= LANES => *out = shaded::<P, F>(shade, block),
            _ => cut_line::<P, F>(shade, line, width, out),
        }
    });
}

/// Cuts one row of a patch.
fn cut_line<P: Sample, F: Format>(shade: Shade, line: &[P], width: usize, out: &mut [F::Bits]) {
    dispatch!(*LEVEL, _simd => {
        let (blocks, rest) = line[..width].as_chunks();
        let (whole, last) = out[..width].as_chunks_mut();
        for (block, out) in blocks.iter().zip(whole) {
            *out = shaded::<P, F>(shade, block);
        }
        for (pixel, out) in rest.iter().zip(last) {
            *out = F::bits(shade.of((*pixel).into()));
        }
    });
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn shaded<P: Sample, F: Format>(shade: Shade, pixels: &[P; LANES]) -> [F::Bits; LANES] {
    let mut numbers = [F::Bits::default(); LANES];
    for lane in 0..LANES {
        numbers[lane] = F::bits(shade.of(pixels[lane].into()));
    }
    numbers
}
