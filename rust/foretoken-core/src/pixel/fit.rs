//! A palette made for some images: median cut (Heckbert 1982), then a few rounds of k-means.
//!
//! All in whole numbers, so that the same pixels give the same palette everywhere, in whatever order they come.

use fearless_simd::dispatch;

use super::{Colour, MAX_COLOURS, Palette, number};
use crate::error::{Error, Result};
use crate::parallel::{spread, threads_of};
use crate::simd::LEVEL;

/// Colours of a share.
const UNIT: usize = 1024;
/// Most rounds.
const MAX_ROUNDS: i64 = 1000;

/// A colour and how many pixels have it.
type Counted = (Colour, u64);

/// At most `colours` colours for these pixels, in the order of their numbers.
///
/// As long as there are colours to give, the box with the largest product of pixels and longest side is cut in two: across that
/// side, behind the colour with which half of its pixels are reached. Then, `rounds` times, each colour of the palette becomes
/// the mean of the pixels that are nearest to it.
///
/// # Errors
/// No pixels, or a number out of range.
pub fn fit(pixels: &[Colour], colours: i64, rounds: i64, threads: i64) -> Result<Vec<Colour>> {
    let threads = threads_of(threads)?;
    let count = usize::try_from(colours).ok().filter(|count| (1..=MAX_COLOURS).contains(count));
    let count =
        count.ok_or(Error::Range { name: "colours", value: colours as f64, expected: "a number in 1..=4096" })?;
    if !(0..=MAX_ROUNDS).contains(&rounds) {
        return Err(Error::Range { name: "rounds", value: rounds as f64, expected: "a number in 0..=1000" });
    }
    if pixels.is_empty() {
        return Err(Error::Empty { name: "pixels" });
    }
    let counted = counted(pixels);
    let mut palette = sorted(cut(counted.clone(), count).iter().map(|part| mean(part)).collect());
    for _ in 0..rounds {
        let next = moved(&counted, &palette, threads)?;
        if next == palette {
            break;
        }
        palette = next;
    }
    Ok(palette)
}

/// The colours there are, in the order of their numbers.
fn counted(pixels: &[Colour]) -> Vec<Counted> {
    let mut all = pixels.to_vec();
    all.sort_unstable();
    all.chunk_by(|one, other| one == other).map(|same| (same[0], same.len() as u64)).collect()
}

/// The colours in boxes.
fn cut(all: Vec<Counted>, count: usize) -> Vec<Vec<Counted>> {
    let mut boxes = vec![all];
    let mut weights = vec![weight(&boxes[0])];
    while boxes.len() < count {
        // The first among equals.
        let (place, &(most, channel)) =
            weights.iter().enumerate().rev().max_by_key(|(_, (weight, _))| *weight).unwrap_or((0, &(0, 0)));
        if most == 0 {
            break;
        }
        let whole = &mut boxes[place];
        // Stable: equal ones stay in the order of their numbers.
        whole.sort_unstable_by_key(|&(colour, _)| (colour[channel], number(colour)));
        let (half, mut seen) = (whole.iter().map(|(_, pixels)| pixels).sum::<u64>().div_ceil(2), 0);
        let reached = whole.iter().position(|(_, pixels)| {
            seen += pixels;
            seen >= half
        });
        let rest = whole.split_off((reached.unwrap_or(0) + 1).min(whole.len() - 1));
        weights[place] = weight(whole);
        weights.push(weight(&rest));
        boxes.push(rest);
    }
    boxes
}

/// Pixels times the longest side, and which channel that is, the first among equals; 0 for a single colour.
fn weight(part: &[Counted]) -> (u64, usize) {
    let side = |channel: usize| {
        let numbers = || part.iter().map(|(colour, _)| colour[channel]);
        u64::from(numbers().max().unwrap_or(0) - numbers().min().unwrap_or(0))
    };
    let channel = (0..3).rev().max_by_key(|&channel| side(channel)).unwrap_or(0);
    (side(channel) * part.iter().map(|(_, pixels)| pixels).sum::<u64>(), channel)
}

/// The mean colour, halves rounded up.
fn mean(part: &[Counted]) -> Colour {
    let pixels: u64 = part.iter().map(|(_, pixels)| pixels).sum();
    [0, 1, 2].map(|channel| {
        let sum: u64 = part.iter().map(|(colour, pixels)| u64::from(colour[channel]) * pixels).sum();
        ((2 * sum + pixels) / (2 * pixels)) as u8
    })
}

/// The palette after a round; a colour that no pixel is nearest to stays.
fn moved(all: &[Counted], palette: &[Colour], threads: usize) -> Result<Vec<Colour>> {
    let search = Palette::new(palette)?;
    let parts = spread(all.len(), UNIT, threads, |range| {
        let mut sums = vec![[0_u64; 4]; palette.len()];
        dispatch!(*LEVEL, _simd => for &(colour, pixels) in &all[range] {
            let sums = &mut sums[search.nearest(colour) as usize];
            for (sum, part) in sums.iter_mut().zip(colour.map(u64::from).into_iter().chain([1])) {
                *sum += part * pixels;
            }
        });
        sums
    });
    let total = |id: usize, channel: usize| parts.iter().map(|sums| sums[id][channel]).sum::<u64>();
    let next = |(id, &colour): (usize, &Colour)| match total(id, 3) {
        0 => colour,
        pixels => [0, 1, 2].map(|channel| ((2 * total(id, channel) + pixels) / (2 * pixels)) as u8),
    };
    Ok(sorted(palette.iter().enumerate().map(next).collect()))
}

fn sorted(mut palette: Vec<Colour>) -> Vec<Colour> {
    palette.sort_unstable();
    palette.dedup();
    palette
}
