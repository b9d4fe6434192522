//! What may be drawn from one row, and its law.

use crate::noise::exp;
use crate::scan::{Logit, Row, sum};
use crate::simd::exps;

/// A token that may be drawn, with its score: its logit divided by temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// Its logit, divided by temperature.
    pub x: f64,
    /// Where a step has put it in order: the lowest come first.
    pub(crate) rank: f64,
}

/// What may be drawn from one row, and with which scores; the law is their softmax.
#[derive(Debug, Clone, Copy)]
pub enum Kept<'a> {
    /// One token: the best at temperature 0, or the one with +inf; and its lead over the next.
    One(u32, f64),
    /// The model's row or a prefix of its most probable tokens, over a temperature.
    Raw(Row<'a, f32>, f64),
    /// The row after constraints and penalties, over a temperature.
    Edited(Row<'a, f64>, f64),
    /// What the truncations left.
    List(&'a [Candidate]),
}

/// Turns scores into probabilities: `exp(x - top) / sum`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Softmax {
    top: f64,
    sum: f64,
}

impl Softmax {
    pub(crate) fn of(self, x: f64) -> f64 {
        exp(x - self.top) / self.sum
    }
}

impl Kept<'_> {
    pub(crate) fn softmax(&self) -> Softmax {
        let of_row = |top: f64, sum: &dyn Fn(f64) -> f64| Softmax { top, sum: sum(top) };
        match *self {
            Self::One(..) => Softmax { top: 0.0, sum: 1.0 },
            Self::Raw(row, t) => of_row(row.max().wide() / t, &|top| row.sum_exp(t, top)),
            Self::Edited(row, t) => of_row(row.max().wide() / t, &|top| row.sum_exp(t, top)),
            Self::List(list) => of_row(maximum(list), &|top| list.iter().map(|kept| exp(kept.x - top)).sum()),
        }
    }

    /// The score of a token, -inf if it may not be drawn.
    pub(crate) fn score(&self, token: u32) -> f64 {
        match *self {
            Self::One(only, _) => {
                if only == token {
                    0.0
                } else {
                    f64::NEG_INFINITY
                }
            }
            Self::Raw(row, t) => score(row, t, token),
            Self::Edited(row, t) => score(row, t, token),
            Self::List(list) => list.iter().find(|kept| kept.token == token).map_or(f64::NEG_INFINITY, |kept| kept.x),
        }
    }

    /// Calls `visit(token, score)` for every token that may be drawn.
    pub(crate) fn each(&self, mut visit: impl FnMut(u32, f64)) {
        match *self {
            Self::One(token, _) => visit(token, 0.0),
            Self::Raw(row, t) => row.each(f32::BANNED, |token, value| visit(token, value.wide() / t)),
            Self::Edited(row, t) => row.each(f64::BANNED, |token, value| visit(token, value / t)),
            Self::List(list) => list.iter().for_each(|kept| visit(kept.token, kept.x)),
        }
    }

    /// Writes the law (vocabulary): the probability of each token.
    pub fn law(&self, law: &mut [f64]) {
        match *self {
            Self::Raw(row, t) if row.is_whole() => spread(row, t, law),
            Self::Edited(row, t) if row.is_whole() => spread(row, t, law),
            _ => {
                let softmax = self.softmax();
                law.fill(0.0);
                self.each(|token, x| law[token as usize] = softmax.of(x));
            }
        }
    }
}

fn score<V: Logit>(row: Row<V>, temperature: f64, token: u32) -> f64 {
    let value = row.values[token as usize];
    if row.has(token, value) { value.wide() / temperature } else { f64::NEG_INFINITY }
}

/// The largest score.
pub(crate) fn maximum(list: &[Candidate]) -> f64 {
    list.iter().fold(f64::NEG_INFINITY, |top, candidate| top.max(candidate.x))
}

/// The softmax of a whole row, in loops that vectorise.
fn spread<V: Logit>(row: Row<V>, temperature: f64, law: &mut [f64]) {
    let top = row.max().wide() / temperature;
    exps(row.values, temperature, top, law);
    let sum = sum(law);
    for p in law {
        *p /= sum;
    }
}
