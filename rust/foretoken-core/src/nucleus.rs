//! The nucleus of a whole row: where the shortest prefix of the most probable tokens with a mass ends (1904.09751).
//!
//! The row is not sorted. Weights in f32, whose errors are bounded, say between which two of them the prefix ends; only
//! the few tokens between are put in order, with exact scores. If the bound is too wide to be sure of the last token,
//! the sums are taken again in f64, with a short polynomial and a bound of its own: about once in fifty rows of a
//! language model, and in every row so flat that a token weighs as little as the error. If that does not do, either,
//! they are taken exactly.

use crate::kept::Candidate;
use crate::noise::{exp, ln};
use crate::scan::{CHUNK, Last, Logit, Row, descending, sum};
use crate::{simd, weights};

/// Room for the weights of a row.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    of: Vec<[f32; CHUNK]>,
    list: Vec<Candidate>,
}

/// How far two weights may be out of order, and more: their arguments are in order, only the polynomial is not.
const DISORDER: f32 = 5e-6;
/// How many tokens may be left between the bounds.
const FEW: usize = 128;

/// What a row's prefix ends with, and how many tokens it has.
pub(crate) fn nucleus<V: Logit>(row: Row<V>, temperature: f64, mass: f64, room: &mut Weights) -> (Last, usize) {
    let Weights { of, list } = room;
    of.resize(row.chunks.len(), [0.0; CHUNK]);
    let (total, moment) = weights::weights(row.values, row.max(), temperature, of);
    let nucleus = Nucleus { row, temperature, mass, of };
    let mut between = nucleus.bracket(total);
    // A weight is off by 1.1e-7 and 2e-7 of its argument, a sum of four by 1.8e-7; a quotient of sums by twice as much.
    let error = 2.0 * (2.9e-7 + 2e-7 * moment / total);
    let sums = Sums { total, error };
    // Where tokens are less probable than the error, none of them can be certain.
    let certain = f64::from(between.0) > 4.0 * error * total;
    let end = certain.then(|| nucleus.end(between, |before, _| (before, sums), list)).flatten();
    end.or_else(|| nucleus.end(between, |_, sure| nucleus.near(sure), list)).unwrap_or_else(|| {
        loop {
            if let Some(end) = nucleus.end(between, |_, sure| nucleus.exact(sure), list) {
                return end;
            }
            between = (if between.0 < 1e-30 { 0.0 } else { between.0 * 0.5 }, between.1 * 2.0);
        }
    })
}

/// The sum of all weights, and how far a quotient of sums may be off; 0 if they are those that the definition takes.
#[derive(Clone, Copy)]
struct Sums {
    total: f64,
    error: f64,
}

struct Nucleus<'a, V> {
    row: Row<'a, V>,
    temperature: f64,
    mass: f64,
    of: &'a [[f32; CHUNK]],
}

impl<V: Logit> Nucleus<'_, V> {
    /// Two weights between which the prefix ends, as far as sums in f32 tell.
    fn bracket(&self, total: f64) -> (f32, f32) {
        // Tokens less probable than (1 - mass)/V sum to less than 1 - mass, so those from `low` on reach it.
        let (size, mass) = (self.row.values.len(), self.mass);
        let least = total * (1.0 - mass) / size as f64 * 0.99;
        let (mut low, mut high) = ((least as f32).max(1e-37), 2.0f32);
        let (mut reached, mut missed) = ((1.0, size), (0.0, 0));
        for round in 0..40 {
            if reached.1 - missed.1 <= FEW || high <= low * 1.000_01 {
                break;
            }
            // Halves the distance of the bits, which rise about as logarithms do, and every other time guesses by the
            // masses at both ends.
            let guess = ((mass - reached.0) / (missed.0 - reached.0)).clamp(0.05, 0.95);
            let share = if round % 2 == 0 { 0.5 } else { guess };
            let (a, b) = (low.to_bits(), high.to_bits());
            let middle = f32::from_bits(a + (f64::from(b - a) * share) as u32);
            let (sum, count) = self.mass_from(middle);
            if sum / total >= mass {
                (low, reached) = (middle, (sum / total, count));
            } else {
                (high, missed) = (middle, (sum / total, count));
            }
        }
        (low, high)
    }

    /// A value that no weight of at least `bound` is below.
    fn least(&self, bound: f32) -> V {
        if bound < 1e-30 {
            return V::BANNED;
        }
        // A margin for the errors of the weight and of the logarithm.
        V::below(self.row.max().wide() + (ln(f64::from(bound)) - 1e-3) * self.temperature)
    }

    /// The chunks that may hold a weight of at least `bound`, by number.
    fn chunks(&self, bound: f32) -> impl Iterator<Item = (usize, &[f32; CHUNK])> {
        let least = self.least(bound);
        let all = self.row.chunks.iter().zip(self.of).enumerate();
        all.filter(move |(_, (maximum, _))| **maximum >= least).map(|(chunk, (_, weights))| (chunk, weights))
    }

    fn mass_from(&self, bound: f32) -> (f64, usize) {
        weights::mass_from(self.chunks(bound).map(|(_, weights)| weights), bound)
    }

    /// The end, if it lies between these weights and no error of the sums can move it.
    ///
    /// `sums(before, sure)` may improve on the sum of the weights from `sure` on, and knows that of all.
    fn end(
        &self,
        (low, high): (f32, f32),
        sums: impl FnOnce(f64, f32) -> (f64, Sums),
        list: &mut Vec<Candidate>,
    ) -> Option<(Last, usize)> {
        let top = self.top();
        let (from, sure) = (low * (1.0 - 2.0 * DISORDER), high * (1.0 + 2.0 * DISORDER));
        let (before, count) = self.mass_from(sure);
        let (before, Sums { total, error }) = sums(before, sure);
        list.clear();
        let least = self.least(from);
        for (chunk, weights) in self.chunks(from).filter(|(_, weights)| weights::any_between(weights, from, sure)) {
            for (lane, _) in self.row.lanes[chunk].iter().enumerate().filter(|(_, maximum)| **maximum >= least) {
                for (token, value) in self.row.lane(chunk, lane) {
                    let weight = weights[token as usize % CHUNK];
                    if weight >= from && weight < sure {
                        list.push(Candidate { token, x: value.wide() / self.temperature, rank: weight.into() });
                    }
                }
            }
        }
        list.sort_unstable_by(|a, b| descending(&a.x, &b.x).then(a.token.cmp(&b.token)));
        let all = list.len() == self.row.values.len();
        let end =
            |candidate: &Candidate| Last { temperature: self.temperature, x: candidate.x, token: candidate.token };
        let mut reached = before / total;
        for (place, candidate) in list.iter().enumerate() {
            let next = reached + exp(candidate.x - top) / total;
            if next >= self.mass {
                let inside = candidate.rank >= f64::from(low * (1.0 - DISORDER))
                    && candidate.rank <= f64::from(high * (1.0 + DISORDER));
                let certain = self.mass - reached >= error && next - self.mass >= error;
                return ((all || inside) && (error == 0.0 || certain)).then(|| (end(candidate), count + place + 1));
            }
            reached = next;
        }
        // Rounding may keep the sum of all below the mass.
        list.last().filter(|_| all).map(|candidate| (end(candidate), list.len()))
    }

    fn top(&self) -> f64 {
        self.row.max().wide() / self.temperature
    }

    /// The sum of the weights from `sure` on, and of all, nearly.
    fn near(&self, sure: f32) -> (f64, Sums) {
        let (before, total) = weights::near_sums(self.row.values, self.row.max(), self.temperature, self.of, sure);
        // The definition divides before it subtracts, so its own scores are off by the rounding of the largest.
        (before, Sums { total, error: weights::NEAR + 1e-15 * self.top().abs() })
    }

    /// The same as the definition has them.
    fn exact(&self, sure: f32) -> (f64, Sums) {
        let (mut total, mut before) = (0.0, 0.0);
        let mut buffer = [0.0; CHUNK];
        for (values, weights) in self.row.values.chunks(CHUNK).zip(self.of) {
            let part = &mut buffer[..values.len()];
            simd::exps(values, self.temperature, self.top(), part);
            total += sum(part);
            before += weights::sum_where(part, weights, sure);
        }
        (before, Sums { total, error: 0.0 })
    }
}
