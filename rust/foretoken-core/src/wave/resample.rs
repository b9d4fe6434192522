//! Sound at another rate: a windowed sinc, read at the places of the new samples.
//!
//! With `c` = rolloff · min(1, target / source), sample m of the result is `Σ x[n] h(m · source/target - n)`, where
//! `h(t) = sinc(ct) I₀(β √(1 - (ct/width)²)) / s` and s makes the weights of each place add up to 1. Beyond its ends the sound
//! is zero. Weights are computed in f64, kept in f32, and summed in f32, in 32 lanes whatever the machine.

use std::f64::consts::PI;

use fearless_simd::{Simd, SimdBase, SimdFrom, dispatch, f32x16};

use crate::error::{Error, Result};
use crate::parallel::{spread_into, threads_of};
use crate::quantize::check_finite;
use crate::simd::LEVEL;

const LANES: usize = 32;
/// Samples of a share.
const UNIT: usize = 1024;
/// Largest rate, width, taps of a sample, and numbers of a table or a result.
const MAX_RATE: i64 = 1 << 31;
const MAX_WIDTH: i64 = 4096;
const MAX_TAPS: usize = 1 << 20;
const MAX_TABLE: usize = 1 << 23;
const MAX_SAMPLES: usize = 1 << 31;
const MAX_BETA: f64 = 30.0;

/// How the filter is made.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    /// Zeros of the sinc on each side of its middle.
    pub width: i64,
    /// Where the filter is at half its height, as a part of the lower of the two highest frequencies.
    pub rolloff: f64,
    /// Of the Kaiser window: larger lets less through, and is less steep.
    pub beta: f64,
}

/// How many samples `count` become: those before the end of the sound.
///
/// # Errors
/// A rate that is none, a result that is too long.
pub fn length(count: usize, source: i64, target: i64) -> Result<usize> {
    let plan = Ratio::new(source, target)?;
    let samples = (count as u128 * u128::from(plan.up)).div_ceil(u128::from(plan.down));
    if samples > MAX_SAMPLES as u128 {
        let given = usize::try_from(samples).unwrap_or(usize::MAX);
        return Err(Error::TooLarge { name: "the result", unit: "samples", given, limit: MAX_SAMPLES });
    }
    Ok(samples as usize)
}

/// The same sounds (rows, count) at another rate: (rows, length).
///
/// # Errors
/// Samples that are not finite, arguments out of range.
pub fn resample(
    samples: &[f32],
    count: usize,
    (source, target): (i64, i64),
    filter: Filter,
    threads: i64,
) -> Result<Vec<f32>> {
    let (threads, ratio) = (threads_of(threads)?, Ratio::new(source, target)?);
    let wanted = length(count, source, target)?;
    let design = Design::new(ratio, filter)?;
    check_finite("samples", samples)?;
    let rows = samples.len().checked_div(count).unwrap_or(0);
    if rows.saturating_mul(wanted) > MAX_SAMPLES {
        let given = rows.saturating_mul(wanted);
        return Err(Error::TooLarge { name: "the result", unit: "samples", given, limit: MAX_SAMPLES });
    }
    if ratio.up == ratio.down || wanted == 0 || rows == 0 {
        return Ok(samples.to_vec());
    }
    // A phase that comes once is not worth a table.
    let (phases, whole, part) = (ratio.up as usize, (ratio.down / ratio.up) as usize, (ratio.down % ratio.up) as usize);
    let table = (phases <= wanted.saturating_mul(rows) && phases.saturating_mul(design.taps) <= MAX_TABLE)
        .then(|| design.table(phases, threads));
    let mut out = vec![0.0; rows * wanted];
    let mut padded = vec![0.0; count + 2 * design.taps];
    for (samples, out) in samples.chunks_exact(count).zip(out.chunks_exact_mut(wanted)) {
        padded[design.taps..][..count].copy_from_slice(samples);
        spread_into(out, 1, UNIT, threads, |range, out| {
            let mut own = vec![0.0; design.taps];
            let (mut first, mut phase) = ratio.place(range.start);
            dispatch!(*LEVEL, simd => for out in out {
                let weights = if let Some(table) = &table {
                    &table[phase * design.taps..][..design.taps]
                } else {
                    design.weights(phase as f64 / phases as f64, &mut own);
                    &own
                };
                // The first weight belongs to the sample `before` places ahead of `first`.
                *out = dot(simd, weights, &padded[design.taps + first - design.before..]);
                (first, phase) = (first + whole, phase + part);
                if phase >= phases {
                    (first, phase) = (first + 1, phase - phases);
                }
            });
        });
    }
    Ok(out)
}

/// Two rates without what they have in common.
#[derive(Debug, Clone, Copy)]
struct Ratio {
    up: u64,
    down: u64,
}

impl Ratio {
    fn new(source: i64, target: i64) -> Result<Self> {
        for (name, value) in [("source", source), ("target", target)] {
            if !(1..=MAX_RATE).contains(&value) {
                return Err(Error::Range { name, value: value as f64, expected: "a rate in 1..=2147483648" });
            }
        }
        let (mut one, mut other) = (source as u64, target as u64);
        while other > 0 {
            (one, other) = (other, one % other);
        }
        Ok(Self { up: target as u64 / one, down: source as u64 / one })
    }

    /// The last sample at or before the place of one of the result, and how far behind it that is, in parts of `up`.
    fn place(self, index: usize) -> (usize, usize) {
        let place = index as u128 * u128::from(self.down);
        ((place / u128::from(self.up)) as usize, (place % u128::from(self.up)) as usize)
    }
}

/// The filter of a ratio.
#[derive(Debug)]
struct Design {
    cutoff: f64,
    width: f64,
    beta: f64,
    /// Weights of a place, and how many of them are before it.
    taps: usize,
    before: usize,
    /// Of the series of I₀: 1 / (k!)².
    series: Vec<f64>,
}

impl Design {
    fn new(ratio: Ratio, filter: Filter) -> Result<Self> {
        let Filter { width, rolloff, beta } = filter;
        if !(1..=MAX_WIDTH).contains(&width) {
            return Err(Error::Range { name: "width", value: width as f64, expected: "a number of zeros in 1..=4096" });
        }
        if !(rolloff > 0.0 && rolloff <= 1.0) {
            return Err(Error::Range { name: "rolloff", value: rolloff, expected: "a number in (0, 1]" });
        }
        if !(0.0..=MAX_BETA).contains(&beta) {
            return Err(Error::Range { name: "beta", value: beta, expected: "a number in [0, 30]" });
        }
        let cutoff = rolloff * (ratio.up as f64 / ratio.down as f64).min(1.0);
        let reach = (width as f64 / cutoff).ceil();
        if reach > (MAX_TAPS / 2) as f64 {
            let given = 2.0 * reach;
            return Err(Error::TooLarge {
                name: "the filter",
                unit: "weights: the target rate is too low",
                given: given as usize,
                limit: MAX_TAPS,
            });
        }
        let before = reach as usize;
        let taps = (2 * before + 2).next_multiple_of(LANES);
        // Terms of the series rise, then fall; what follows one below 1e-20 is nothing beside the first, which is 1.
        let (mut series, mut term) = (vec![1.0], 1.0);
        while term > 1e-20 {
            let square = (series.len() * series.len()) as f64;
            term *= beta * beta / 4.0 / square;
            series.push(series[series.len() - 1] / square);
        }
        Ok(Self { cutoff, width: width as f64, beta, taps, before, series })
    }

    fn table(&self, phases: usize, threads: usize) -> Vec<f32> {
        let mut table = vec![0.0; phases * self.taps];
        spread_into(&mut table, self.taps, 1, threads, |range, table| {
            for (phase, weights) in range.zip(table.chunks_exact_mut(self.taps)) {
                self.weights(phase as f64 / phases as f64, weights);
            }
        });
        table
    }

    /// The weights of a place `fraction` behind a sample.
    fn weights(&self, fraction: f64, weights: &mut [f32]) {
        let first = self.cutoff * (fraction + self.before as f64);
        let mut shapes = vec![[0.0_f64; LANES]; weights.len() / LANES];
        dispatch!(*LEVEL, _simd => self.window(first, &mut shapes));
        // The sine goes on by turning, which takes a fifth of the time.
        let (mut sine, mut cosine) = (PI * first).sin_cos();
        let (turn_sine, turn_cosine) = (PI * self.cutoff).sin_cos();
        let mut sum = 0.0;
        for (tap, shape) in shapes.as_flattened_mut().iter_mut().enumerate() {
            let place = first - self.cutoff * tap as f64;
            *shape *= if place.abs() < 1e-6 { 1.0 } else { sine / (PI * place) };
            sum += *shape;
            (sine, cosine) = (sine * turn_cosine - cosine * turn_sine, cosine * turn_cosine + sine * turn_sine);
        }
        weights.iter_mut().zip(shapes.as_flattened()).for_each(|(weight, shape)| *weight = (shape / sum) as f32);
    }

    /// Kaiser's window at places that fall by the cutoff, but for what makes it 1 in the middle.
    #[allow(clippy::inline_always)] // only what is inlined is compiled for the wide instructions
    #[inline(always)]
    fn window(&self, first: f64, shapes: &mut [[f64; LANES]]) {
        for (block, shapes) in shapes.iter_mut().enumerate() {
            let mut quarters = [0.0; LANES];
            for (lane, quarter) in quarters.iter_mut().enumerate() {
                let place = (first - self.cutoff * (LANES * block + lane) as f64) / self.width;
                *quarter = self.beta * self.beta * (1.0 - place * place) / 4.0;
            }
            // I₀(x) is the sum of (x²/4)^k / (k!)².
            let mut sums = [0.0; LANES];
            for term in self.series.iter().rev() {
                for (sum, quarter) in sums.iter_mut().zip(&quarters) {
                    *sum = *sum * quarter + term;
                }
            }
            for lane in 0..LANES {
                let place = first - self.cutoff * (LANES * block + lane) as f64;
                shapes[lane] = if place.abs() <= self.width { sums[lane] } else { 0.0 };
            }
        }
    }
}

/// The sum of products, in lanes that are then added up in pairs.
#[allow(clippy::inline_always)]
#[inline(always)]
fn dot<S: Simd>(simd: S, weights: &[f32], samples: &[f32]) -> f32 {
    let mut sums = [f32x16::splat(simd, 0.0); LANES / 16];
    let (weights, samples) = (weights.as_chunks::<LANES>().0, samples.as_chunks::<LANES>().0);
    for (weights, samples) in weights.iter().zip(samples) {
        let (weights, samples) = (weights.as_chunks::<16>().0, samples.as_chunks::<16>().0);
        for ((sum, &weights), &samples) in sums.iter_mut().zip(weights).zip(samples) {
            *sum = f32x16::simd_from(simd, weights) * f32x16::simd_from(simd, samples) + *sum;
        }
    }
    let mut sums: [f32; 16] = (sums[0] + sums[1]).into();
    for count in [8, 4, 2, 1] {
        for lane in 0..count {
            sums[lane] += sums[lane + count];
        }
    }
    sums[0]
}
