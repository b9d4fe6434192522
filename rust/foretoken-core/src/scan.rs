//! One row of logits, and what every step asks of it: the largest few, and sums of exponentials.
//!
//! A row is cut into chunks of 256, a chunk into 16 lanes of every 16th value, so that the maxima of the lanes take one
//! pass without a shuffle. Most questions about the largest logits are answered by the maxima of the chunks, by those of
//! the lanes in a few chunks, and by the few lanes that these point to.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, f32x16, f64x8};

use crate::error::{Error, Result};
use crate::noise::exp;
use crate::simd;

/// How many lanes a chunk has, and how many values a lane.
pub(crate) const LANES: usize = 16;
/// How many values a chunk has; the last of a row may have fewer.
pub(crate) const CHUNK: usize = LANES * LANES;

/// A logit as it is stored: f32 from the model, f64 once a constraint or penalty has changed the row.
pub trait Logit: Copy + PartialOrd + std::fmt::Debug {
    /// What may not be drawn.
    const BANNED: Self;
    /// The value in f64, exact.
    fn wide(self) -> f64;
    /// A value at or a little below this number.
    fn below(x: f64) -> Self;
    /// The bits without the sign, as far as they tell NaN: larger than `INFINITE` if it is one.
    fn bits(self) -> u32;
    /// `(value - top) * scale` in f32, each operation rounded.
    fn behind<S: Simd>(simd: S, values: [Self; LANES], top: Self, scale: f32) -> f32x16<S>;
    /// The values in f64, exact.
    fn wides<S: Simd>(simd: S, values: [Self; LANES]) -> (f64x8<S>, f64x8<S>);
    /// `simd::maxima` of whole chunks.
    fn maxima<S: Simd>(simd: S, chunks: &[[Self; CHUNK]], lanes: &mut [[Self; LANES]]) -> u32;
}

/// The bits of f32's infinity: those of NaN are larger.
const INFINITE: u32 = 0x7F80_0000;

#[allow(clippy::inline_always)] // a call would keep the loops of `simd.rs` from vectorising
impl Logit for f32 {
    const BANNED: Self = f32::NEG_INFINITY;
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn below(x: f64) -> Self {
        (x - 1e-6 * x.abs()) as f32
    }
    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits() & 0x7FFF_FFFF
    }
    #[inline(always)]
    fn behind<S: Simd>(simd: S, values: [Self; LANES], top: Self, scale: f32) -> f32x16<S> {
        (f32x16::simd_from(simd, values) - f32x16::splat(simd, top)) * scale
    }
    #[inline(always)]
    fn wides<S: Simd>(simd: S, values: [Self; LANES]) -> (f64x8<S>, f64x8<S>) {
        simd.widen_f32x16(f32x16::simd_from(simd, values))
    }
    #[inline(always)]
    fn maxima<S: Simd>(simd: S, chunks: &[[Self; CHUNK]], lanes: &mut [[Self; LANES]]) -> u32 {
        simd::maxima_f32(simd, chunks, lanes)
    }
}

#[allow(clippy::inline_always)]
impl Logit for f64 {
    const BANNED: Self = f64::NEG_INFINITY;
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    fn below(x: f64) -> Self {
        x - 1e-14 * x.abs()
    }
    #[inline(always)]
    fn bits(self) -> u32 {
        0 // f64 rows are ours, and hold no NaN
    }
    #[inline(always)]
    fn behind<S: Simd>(simd: S, values: [Self; LANES], top: Self, scale: f32) -> f32x16<S> {
        f32x16::simd_from(simd, values.map(|value| (value - top) as f32)) * scale
    }
    #[inline(always)]
    fn wides<S: Simd>(simd: S, values: [Self; LANES]) -> (f64x8<S>, f64x8<S>) {
        let half = |start: usize| f64x8::simd_from(simd, std::array::from_fn::<f64, 8, _>(|lane| values[start + lane]));
        (half(0), half(8))
    }
    #[inline(always)]
    fn maxima<S: Simd>(simd: S, chunks: &[[Self; CHUNK]], lanes: &mut [[Self; LANES]]) -> u32 {
        simd::maxima_f64(simd, chunks, lanes);
        0
    }
}

/// The maxima of a row, kept between calls for their memory.
#[derive(Debug, Default)]
pub struct Maxima<V> {
    lanes: Vec<[V; LANES]>,
    chunks: Vec<V>,
}

/// Where a prefix of the most probable tokens ends: by falling score, then rising token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Last {
    /// What values are divided by to make them scores.
    pub temperature: f64,
    /// The last score that may be drawn.
    pub x: f64,
    /// The last token of that score that may be drawn.
    pub token: u32,
}

/// A row, its maxima (which mean nothing beside a NaN), and which part of it may be drawn.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a, V> {
    pub(crate) values: &'a [V],
    pub(crate) lanes: &'a [[V; LANES]],
    pub(crate) chunks: &'a [V],
    max: V,
    not_a_number: bool,
    last: Option<Last>,
}

impl<'a, V: Logit> Row<'a, V> {
    /// Finds the maxima.
    pub(crate) fn new(values: &'a [V], maxima: &'a mut Maxima<V>) -> Self {
        let Maxima { lanes, chunks } = maxima;
        let not_a_number = simd::maxima(values, lanes) > INFINITE;
        chunks.clear();
        chunks.extend(lanes.iter().map(|lanes| largest(lanes)));
        Self { values, lanes, chunks, max: largest(chunks), not_a_number, last: None }
    }

    /// The same row, of which only a prefix may be drawn.
    pub(crate) fn until(self, last: Last) -> Self {
        Self { last: Some(last), ..self }
    }

    /// Whether all of the row may be drawn, as far as it is not banned.
    pub(crate) fn is_whole(&self) -> bool {
        self.last.is_none()
    }

    /// The largest value.
    pub(crate) fn max(&self) -> V {
        self.max
    }

    /// Whether a token may be drawn.
    #[inline]
    pub(crate) fn has(&self, token: u32, value: V) -> bool {
        value > V::BANNED
            && self.last.is_none_or(|last| {
                let x = value.wide() / last.temperature;
                x > last.x || (x == last.x && token <= last.token)
            })
    }

    /// The values of a lane of a chunk, and their tokens, by rising token.
    #[inline]
    pub(crate) fn lane(&self, chunk: usize, lane: usize) -> impl Iterator<Item = (u32, V)> + use<'a, V> {
        let start = chunk * CHUNK + lane;
        let end = self.values.len().min((chunk + 1) * CHUNK);
        let values = self.values.get(start..end).unwrap_or(&[]);
        values.iter().step_by(LANES).enumerate().map(move |(place, &value)| ((start + place * LANES) as u32, value))
    }

    /// Calls `visit(token, value)` for every value of at least `bound` that may be drawn, in no particular order.
    pub(crate) fn each(&self, bound: V, mut visit: impl FnMut(u32, V)) {
        for (chunk, lanes) in self.lanes.iter().enumerate() {
            if self.chunks[chunk] >= bound && self.chunks[chunk] > V::BANNED {
                for (lane, _) in lanes.iter().enumerate().filter(|(_, maximum)| **maximum >= bound) {
                    for (token, value) in self.lane(chunk, lane) {
                        if value >= bound && self.has(token, value) {
                            visit(token, value);
                        }
                    }
                }
            }
        }
    }

    /// The token of the largest value (the lowest such) and its lead over the next in f64.
    pub(crate) fn winner(&self) -> (u32, f64) {
        let (mut token, mut best, mut second) = (u32::MAX, V::BANNED, V::BANNED);
        for (chunk, lanes) in self.lanes.iter().enumerate() {
            if self.chunks[chunk] < second {
                continue;
            }
            for (lane, &maximum) in lanes.iter().enumerate() {
                if maximum < second {
                    continue;
                }
                for (other, value) in self.lane(chunk, lane) {
                    if value > best || (value == best && other < token) {
                        (token, second, best) = (other, best, value);
                    } else if value > second {
                        second = value;
                    }
                }
            }
        }
        (token, best.wide() - second.wide())
    }

    /// The sum of `exp(value/scale - top)`, where `top` is the largest quotient.
    pub(crate) fn sum_exp(&self, scale: f64, top: f64) -> f64 {
        let mut total = 0.0;
        if self.is_whole() {
            // Exponentials into a buffer, then sums: a loop that does both does not vectorise.
            let mut buffer = [0.0; CHUNK];
            for chunk in self.values.chunks(CHUNK) {
                let part = &mut buffer[..chunk.len()];
                simd::exps(chunk, scale, top, part);
                total += sum(part);
            }
        } else {
            self.each(V::BANNED, |_, value| total += exp(value.wide() / scale - top));
        }
        total
    }
    /// A value that at least `count` values reach, near the `count`-th largest.
    ///
    /// The `count`-th largest maximum of a chunk is one; only lanes that reach it can hold a better one.
    pub(crate) fn low_bound(&self, count: usize, scratch: &mut Vec<V>) -> V {
        if count == 0 || count > self.lanes.len() * LANES {
            return V::BANNED;
        }
        let mut bound = V::BANNED;
        scratch.clear();
        if count <= self.chunks.len() {
            scratch.extend_from_slice(self.chunks);
            bound = *scratch.select_nth_unstable_by(count - 1, descending).1;
            scratch.clear();
        }
        let reaching = self.chunks.iter().zip(self.lanes).filter(|(maximum, _)| **maximum >= bound);
        scratch.extend(reaching.flat_map(|(_, lanes)| lanes.iter().copied().filter(|maximum| *maximum >= bound)));
        *scratch.select_nth_unstable_by(count - 1, descending).1
    }
}

/// The sum of some numbers: eight running sums, because one alone waits for each addition.
pub(crate) fn sum(values: &[f64]) -> f64 {
    let chunks = values.chunks_exact(8);
    let tail: f64 = chunks.remainder().iter().sum();
    let mut sums = [0.0; 8];
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// The larger come first; the order of two NaN never matters because rows have none.
pub(crate) fn descending<V: PartialOrd>(a: &V, b: &V) -> std::cmp::Ordering {
    b.partial_cmp(a).unwrap_or(std::cmp::Ordering::Equal)
}

fn largest<V: Logit>(values: &[V]) -> V {
    values.iter().fold(V::BANNED, |best, &value| if value > best { value } else { best })
}

/// Refuses NaN and a second +inf; gives the column of the one +inf, if there is one.
pub(crate) fn inspect(row: &Row<f32>, index: usize) -> Result<Option<usize>> {
    let columns = |wanted: fn(&f32) -> bool| (0..).zip(row.values).filter(move |(_, value)| wanted(value));
    if row.not_a_number {
        let column = columns(|value| value.is_nan()).next().map_or(0, |(column, _)| column);
        return Err(Error::NotANumber { row: index, column });
    }
    if row.max < f32::INFINITY {
        return Ok(None);
    }
    let mut infinite = columns(|value| *value == f32::INFINITY).map(|(column, _)| column);
    match (infinite.next(), infinite.next()) {
        (Some(first), Some(second)) => Err(Error::TwoInfinities { row: index, first, second }),
        (only, _) => Ok(only),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![8 => -5.0..5.0f32, 4 => (-3..3i8).prop_map(f32::from), 1 => Just(f32::NEG_INFINITY)];
        proptest::collection::vec(value, 1..700)
    }

    proptest! {
        #[test]
        fn the_winner_is_the_first_of_a_stable_sort(values in logits()) {
            let mut maxima = Maxima::default();
            let (token, gap) = Row::new(&values, &mut maxima).winner();
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&a, &b| descending(&values[a], &values[b]));
            prop_assume!(values[order[0]] > f32::NEG_INFINITY);
            prop_assert_eq!(token as usize, order[0]);
            let next = order.get(1).map_or(f64::NEG_INFINITY, |&second| f64::from(values[second]));
            prop_assert_eq!(gap, f64::from(values[order[0]]) - next);
        }

        #[test]
        fn at_least_count_values_reach_the_low_bound(values in logits(), count in 1usize..20) {
            let (mut maxima, mut scratch) = (Maxima::default(), Vec::new());
            let bound = Row::new(&values, &mut maxima).low_bound(count, &mut scratch);
            prop_assert!(values.iter().filter(|value| **value >= bound).count() >= count.min(values.len()));
        }

        #[test]
        fn sums_agree_with_libm(values in logits(), scale in 0.1..3.0f64) {
            prop_assume!(values.iter().any(|value| value.is_finite()));
            let mut maxima = Maxima::default();
            let row = Row::new(&values, &mut maxima);
            let top = row.max().wide() / scale;
            let slow: f64 = values.iter().map(|value| (f64::from(*value) / scale - top).exp()).sum();
            prop_assert!((row.sum_exp(scale, top) - slow).abs() <= 1e-13 * slow);
        }
    }
}
