//! Passes over one row that every step shares: maxima of blocks, the largest few, sums of exponentials.
//!
//! A row is cut into blocks of 16; most questions about the largest logits are answered by the maxima of the
//! blocks, one sixteenth of the row, and by the few blocks that these point to.

use crate::error::{Error, Result};
use crate::simd::exps;

/// How many logits share a maximum.
pub(crate) const BLOCK: usize = 16;

/// A logit as it is stored: f32 from the model, f64 once a constraint or penalty has changed the row.
pub trait Logit: Copy + PartialOrd {
    /// What may not be drawn.
    const BANNED: Self;
    /// The value in f64, exact.
    fn wide(self) -> f64;
    /// A value at or a little below this number.
    fn below(x: f64) -> Self;
}

impl Logit for f32 {
    const BANNED: Self = f32::NEG_INFINITY;
    #[inline]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn below(x: f64) -> Self {
        (x - 1e-6 * x.abs()) as f32
    }
}

impl Logit for f64 {
    const BANNED: Self = f64::NEG_INFINITY;
    #[inline]
    fn wide(self) -> f64 {
        self
    }
    fn below(x: f64) -> Self {
        x - 1e-14 * x.abs()
    }
}

/// A row without NaN, and the maximum of each block.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a, V> {
    pub(crate) values: &'a [V],
    pub(crate) maxima: &'a [V],
}

impl<'a, V: Logit> Row<'a, V> {
    /// Finds the maxima.
    pub(crate) fn new(values: &'a [V], maxima: &'a mut Vec<V>) -> Self {
        maxima.clear();
        let blocks = values.chunks_exact(BLOCK);
        let rest = blocks.remainder();
        maxima.extend(blocks.map(largest));
        if !rest.is_empty() {
            maxima.push(largest(rest));
        }
        Self { values, maxima }
    }

    /// The largest value.
    pub(crate) fn max(&self) -> V {
        largest(self.maxima)
    }

    /// The values of a block, and the token of its first.
    pub(crate) fn block(&self, index: usize) -> (usize, &'a [V]) {
        let start = index * BLOCK;
        (start, &self.values[start..self.values.len().min(start + BLOCK)])
    }

    /// Calls `visit(token, value)` for every value of at least `bound` that may be drawn, lowest token first.
    pub(crate) fn each(&self, bound: V, mut visit: impl FnMut(u32, V)) {
        for (index, &maximum) in self.maxima.iter().enumerate() {
            if maximum >= bound && maximum > V::BANNED {
                let (start, block) = self.block(index);
                for (place, &value) in block.iter().enumerate() {
                    if value >= bound && value > V::BANNED {
                        visit((start + place) as u32, value);
                    }
                }
            }
        }
    }

    /// A value that at least `count` values reach, near the `count`-th largest: the `count`-th largest maximum.
    pub(crate) fn low_bound(&self, count: usize, scratch: &mut Vec<V>) -> V {
        if count == 0 || count > self.maxima.len() {
            return V::BANNED;
        }
        scratch.clear();
        scratch.extend_from_slice(self.maxima);
        *scratch.select_nth_unstable_by(count - 1, descending).1
    }

    /// The token of the largest value (the lowest such) and its lead over the next in f64.
    pub(crate) fn winner(&self) -> (u32, f64) {
        let (mut token, mut best, mut second) = (0, V::BANNED, V::BANNED);
        for (index, &maximum) in self.maxima.iter().enumerate() {
            if maximum > second {
                let (start, block) = self.block(index);
                for (place, &value) in block.iter().enumerate() {
                    if value > best {
                        (token, second, best) = ((start + place) as u32, best, value);
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
        // Exponentials into a buffer, then sums: a loop that does both does not vectorise.
        let mut buffer = [0.0; 64];
        let mut total = 0.0;
        for chunk in self.values.chunks(64) {
            let part = &mut buffer[..chunk.len()];
            exps(chunk, scale, top, part);
            total += sum(part);
        }
        total
    }
}

/// The sum of some numbers.
pub(crate) fn sum(values: &[f64]) -> f64 {
    sum_from(values, f64::NEG_INFINITY)
}

/// The sum of the numbers of at least `bound`: eight running sums, because one alone waits for each addition.
pub(crate) fn sum_from(values: &[f64], bound: f64) -> f64 {
    let enough = |value: f64| if value >= bound { value } else { 0.0 };
    let chunks = values.chunks_exact(8);
    let tail: f64 = chunks.remainder().iter().map(|&value| enough(value)).sum();
    let mut sums = [0.0; 8];
    for chunk in chunks {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            *sum += enough(value);
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
pub(crate) fn inspect(logits: &[f32], maxima: &[f32], row: usize) -> Result<Option<usize>> {
    // A sum of the bits of comparisons, without a branch, so that the loop vectorises.
    if logits.iter().fold(false, |found, value| found | value.is_nan()) {
        let column = logits.iter().position(|value| value.is_nan()).unwrap_or(0);
        return Err(Error::NotANumber { row, column });
    }
    if largest(maxima) < f32::INFINITY {
        return Ok(None);
    }
    let mut infinite =
        logits.iter().enumerate().filter(|(_, value)| **value == f32::INFINITY).map(|(column, _)| column);
    match (infinite.next(), infinite.next()) {
        (Some(first), Some(second)) => Err(Error::TwoInfinities { row, first, second }),
        (only, _) => Ok(only),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![8 => -5.0..5.0f32, 4 => (-3..3i8).prop_map(f32::from), 1 => Just(f32::NEG_INFINITY)];
        proptest::collection::vec(value, 1..100)
    }

    proptest! {
        #[test]
        fn the_winner_is_the_first_of_a_stable_sort(values in logits()) {
            let mut maxima = Vec::new();
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
            let (mut maxima, mut scratch) = (Vec::new(), Vec::new());
            let bound = Row::new(&values, &mut maxima).low_bound(count, &mut scratch);
            prop_assert!(values.iter().filter(|value| **value >= bound).count() >= count.min(values.len()));
        }

        #[test]
        fn sums_agree_with_libm(values in logits(), scale in 0.1..3.0f64) {
            prop_assume!(values.iter().any(|value| value.is_finite()));
            let mut maxima = Vec::new();
            let row = Row::new(&values, &mut maxima);
            let top = row.max().wide() / scale;
            let slow: f64 = values.iter().map(|value| (f64::from(*value) / scale - top).exp()).sum();
            prop_assert!((row.sum_exp(scale, top) - slow).abs() <= 1e-13 * slow);
        }
    }
}
