//! Bands of a resized picture, to the bit as Pillow resizes: one direction after the other, rounded after each.

use std::ops::Range;

use crate::patch::Film;
use crate::patch::cut::Plan;
use crate::patch::filter::{Rounding, Taps};
use crate::patch::passes::{View, across, down, split};
use crate::patch::sample::Sample;
use crate::patch::shape::Region;
use crate::patch::turn::LANES;

/// How a film is resized; `None` along a side that stays as it is.
pub(crate) struct Scaling<W> {
    across: Option<Taps<W>>,
    down: Option<Taps<W>>,
    rows_first: bool,
}

impl<W> Scaling<W> {
    pub fn new<P: Sample<Weight = W>>(plan: &Plan<'_>, [height, width]: [usize; 2], region: &Region) -> Self {
        let taps = |axis: usize, from: usize| {
            let (to, first, count) = (region.size[axis], region.corner[axis], region.area[axis]);
            (from != to).then(|| Taps::new((plan.filter, plan.rounding), (from, to), first..first + count, P::weight))
        };
        let lost = |axis: usize, from: usize| from as i64 - region.size[axis] as i64;
        let columns_first = lost(0, height) > 0 && lost(0, height) > 2 * lost(1, width);
        let rows_first = plan.rounding != Rounding::Pillow13 || !columns_first;
        Self { across: taps(1, width), down: taps(0, height), rows_first }
    }
}

/// Rows of pixels, `row` apart, and in each the channels, `plane` apart.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a, P> {
    pub pixels: &'a [P],
    pub row: usize,
    pub plane: usize,
}

/// Rows of one frame that are resized along themselves already; neighbouring bands share some.
#[derive(Default)]
struct Held<P> {
    of: Option<(usize, usize)>,
    rows: Range<usize>,
    pixels: Vec<P>,
}

/// What a thread needs to resize: used again for every band, so that a warm one allocates nothing.
#[derive(Default)]
pub(crate) struct Resizer<P> {
    held: Vec<Held<P>>,
    columns: Vec<[P; LANES]>,
    results: Vec<[P; LANES]>,
    lines: Vec<P>,
    band: Vec<P>,
}

impl<P: Sample> Resizer<P> {
    /// Rows `rows` of the area of a frame; `slot` is the frame's place in its tubelet.
    pub fn band<'a>(
        &'a mut self,
        (film, index): (&Film<'a, P>, usize),
        (frame, slot): (usize, usize),
        (region, scaling): (&Region, &Scaling<P::Weight>),
        rows: Range<usize>,
    ) -> Planes<'a, P> {
        let [_, height, width, channels] = film.shape;
        let stride = width * channels;
        let plane = apart(region.area[1]);
        let line = plane * channels;
        let source = View { pixels: &film.pixels[frame * height * stride..][..height * stride], stride };
        let [top, left] = region.corner;
        match (&scaling.across, &scaling.down) {
            (None, None) => {
                let lines = source.from(top + rows.start, left * channels);
                if channels == 1 {
                    return Planes { pixels: lines.pixels, row: stride, plane };
                }
                fill(&mut self.band, rows.len() * line);
                for (row, out) in self.band.chunks_exact_mut(line).enumerate().take(rows.len()) {
                    split(&lines.from(row, 0).pixels[..region.area[1] * channels], channels, plane, out);
                }
                Planes { pixels: &self.band, row: line, plane }
            }
            (None, Some(taps)) => {
                let before = region.area[1] * channels;
                fill(&mut self.lines, before);
                fill(&mut self.band, rows.len() * line);
                for (row, out) in rows.zip(self.band.chunks_exact_mut(line)) {
                    let (top, _) = taps.of(row);
                    down(taps, row, source.from(top, left * channels), &mut self.lines[..before]);
                    split(&self.lines[..before], channels, plane, out);
                }
                Planes { pixels: &self.band, row: line, plane }
            }
            (Some(taps), Some(tall)) if !scaling.rows_first => {
                let span = taps.span();
                let (before, count) = (span.len() * channels, rows.len());
                fill(&mut self.lines, count * before);
                shrink(tall, rows, source.from(0, span.start * channels), 0, &mut self.lines, before);
                fill(&mut self.band, count * line);
                let buffers = (&mut self.columns, &mut self.results);
                let lines = View { pixels: &self.lines, stride: before };
                stretch(taps, (channels, plane), lines, count, buffers, &mut self.band[..count * line]);
                Planes { pixels: &self.band, row: line, plane }
            }
            (Some(taps), tall) => {
                let needed = tall.as_ref().map_or(top + rows.start..top + rows.end, |taps| taps.between(&rows));
                if self.held.len() <= slot {
                    self.held.resize_with(slot + 1, Held::default);
                }
                let held = &mut self.held[slot];
                held.keep((index, frame), needed.start, line);
                if held.rows.end < needed.end {
                    // Whole blocks as far as there are rows: what is behind this band is the beginning of the next one's.
                    let more = (needed.end - held.rows.end).next_multiple_of(LANES).min(height - held.rows.end);
                    let from = held.rows.len() * line;
                    fill(&mut held.pixels, from + more * line);
                    let lines = source.from(held.rows.end, taps.span().start * channels);
                    let buffers = (&mut self.columns, &mut self.results);
                    stretch(taps, (channels, plane), lines, more, buffers, &mut held.pixels[from..][..more * line]);
                    held.rows.end += more;
                }
                let lines = View { pixels: &held.pixels, stride: line };
                let Some(taps) = tall else {
                    let lines = lines.from(needed.start - held.rows.start, 0);
                    return Planes { pixels: lines.pixels, row: line, plane };
                };
                fill(&mut self.band, rows.len() * line);
                shrink(taps, rows, lines, held.rows.start, &mut self.band, line);
                Planes { pixels: &self.band, row: line, plane }
            }
        }
    }
}

/// How far apart channels are kept: an odd number of lines of a cache, for rows that are multiples of a page apart would all fall
/// into a few of its sets.
fn apart(width: usize) -> usize {
    (width.div_ceil(64) | 1) * 64
}

/// Makes a buffer at least so long, and some lanes longer, so that the last ones are read as whole blocks.
fn fill<P: Sample>(buffer: &mut Vec<P>, length: usize) {
    if buffer.len() < length + LANES {
        buffer.resize(length + LANES, P::default());
    }
}

/// Resizes down the columns: `source` begins with row `first`.
fn shrink<P: Sample>(
    taps: &Taps<P::Weight>,
    rows: Range<usize>,
    source: View<'_, P>,
    first: usize,
    out: &mut [P],
    line: usize,
) {
    for (row, out) in rows.zip(out.chunks_exact_mut(line)) {
        let (top, _) = taps.of(row);
        down(taps, row, source.from(top - first, 0), out);
    }
}

/// Resizes so many rows along themselves; they begin with the first pixel that counts.
fn stretch<P: Sample>(
    taps: &Taps<P::Weight>,
    (channels, plane): (usize, usize),
    source: View<'_, P>,
    rows: usize,
    (columns, results): (&mut Vec<[P; LANES]>, &mut Vec<[P; LANES]>),
    out: &mut [P],
) {
    let length = taps.span().len() * channels;
    for (block, out) in out.chunks_mut(LANES * plane * channels).enumerate() {
        let count = LANES.min(rows - block * LANES);
        // The last row stands for those behind it; they are turned, too, but not kept.
        let row = |lane: usize| &source.from(block * LANES + lane.min(count - 1), 0).pixels[..length];
        across(taps, (channels, plane), std::array::from_fn(row), (columns, results), out);
    }
}

impl<P: Copy> Held<P> {
    /// Forgets the rows before one, or all if they are of another frame.
    fn keep(&mut self, of: (usize, usize), row: usize, line: usize) {
        if self.of != Some(of) || row >= self.rows.end {
            (self.of, self.rows) = (Some(of), row..row);
        } else if row > self.rows.start {
            self.pixels.copy_within((row - self.rows.start) * line..self.rows.len() * line, 0);
            self.rows.start = row;
        }
    }
}
