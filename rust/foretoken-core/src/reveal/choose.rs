//! Which of the unknown positions become known: an order, and where it is cut.

use super::outlook::Outlook;
use super::{Canvas, Counts, Unknown, left_of};
use crate::error::{Error, Result};
use crate::noise::ln;

/// What positions are ordered by, and where the order ends if it ends by itself.
#[derive(Debug, Clone, Copy)]
pub enum Rule<'a> {
    /// By rising entropy; the longest beginning whose entropies but the last sum to at most `bound` (2505.24857).
    Entropy {
        /// In nats; none if a count decides alone.
        bound: Option<f64>,
    },
    /// By falling largest probability.
    Largest {
        /// The least that is revealed.
        bound: Option<f64>,
    },
    /// By falling difference of the two largest probabilities.
    Margin {
        /// The least that is revealed.
        bound: Option<f64>,
    },
    /// By falling probability of the token that was drawn: ln p + temperature · Gumbel noise, or p at temperature 0.
    Sampled {
        /// The least that is revealed.
        bound: Option<f64>,
        /// Of the choice among positions.
        temperature: f64,
    },
    /// By falling scores (rows, positions) that are given.
    Scores(&'a [f64]),
}

/// What has to be worked out at a position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub(super) struct Numbers {
    pub largest: bool,
    pub entropy: bool,
    pub margin: bool,
    pub probability: bool,
}

impl Numbers {
    pub const ALL: Self = Self { largest: true, entropy: true, margin: true, probability: true };
}

impl Rule<'_> {
    /// Refuses bounds and temperatures that are none, and scores that are NaN or too few.
    pub(super) fn check(&self, canvas: &Canvas, unknown: &[Unknown]) -> Result<()> {
        let range = |name, value: f64, most: f64, expected| {
            if (0.0..=most).contains(&value) { Ok(()) } else { Err(Error::Range { name, value, expected }) }
        };
        match *self {
            Self::Entropy { bound: Some(bound) } => range("bound", bound, f64::MAX, "nats, 0 or more")?,
            Self::Largest { bound: Some(bound) }
            | Self::Margin { bound: Some(bound) }
            | Self::Sampled { bound: Some(bound), .. } => range("threshold", bound, 1.0, "a number in [0, 1]")?,
            _ => {}
        }
        match *self {
            Self::Sampled { temperature, .. } => range("temperature", temperature, 1e30, "a number in [0, 1e30]"),
            Self::Scores(scores) => check_scores(scores, canvas, unknown),
            _ => Ok(()),
        }
    }

    /// What it asks of a position; none if it asks nothing.
    pub(super) fn wanted(&self) -> Option<Numbers> {
        let nothing = Numbers::default();
        match self {
            Self::Entropy { .. } => Some(Numbers { entropy: true, ..nothing }),
            Self::Largest { .. } => Some(Numbers { largest: true, ..nothing }),
            Self::Margin { .. } => Some(Numbers { margin: true, ..nothing }),
            Self::Sampled { .. } => Some(Numbers { probability: true, ..nothing }),
            Self::Scores(_) => None,
        }
    }

    /// Whether it looks at draws.
    pub(super) fn draws(&self) -> bool {
        matches!(self, Self::Sampled { .. })
    }

    /// The score that was given for a position.
    pub(super) fn given(&self, index: usize) -> f64 {
        if let Self::Scores(scores) = self { scores[index] } else { 0.0 }
    }

    /// The score of a position, the highest first; `coin` is Gumbel noise.
    pub(super) fn score(&self, found: &Outlook, coin: impl FnOnce() -> f64) -> f64 {
        match *self {
            Self::Entropy { .. } => -found.entropy,
            Self::Largest { .. } => found.largest,
            Self::Margin { .. } => found.margin,
            Self::Sampled { temperature: 0.0, .. } => found.probability,
            Self::Sampled { temperature, .. } => ln(found.probability) + temperature * coin(),
            Self::Scores(_) => 0.0,
        }
    }

    /// Where the order ends by itself.
    pub(super) fn bound(&self) -> Bound {
        match *self {
            Self::Entropy { bound: Some(bound) } => Bound::Sum(bound),
            Self::Largest { bound: Some(bound) }
            | Self::Margin { bound: Some(bound) }
            | Self::Sampled { bound: Some(bound), temperature: 0.0 } => Bound::Least(bound),
            Self::Sampled { bound: Some(bound), .. } => Bound::Least(ln(bound.max(f64::MIN_POSITIVE))),
            _ => Bound::None,
        }
    }
}

/// Where an order by falling scores ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound {
    None,
    /// Where all scores so far sum to less than minus this; the one that crosses it is inside.
    Sum(f64),
    /// At the last score of at least this.
    Least(f64),
}

impl Bound {
    /// How many of these are inside: all, without a bound.
    fn count(self, scores: impl Iterator<Item = f64>) -> usize {
        match self {
            Self::None => scores.count(),
            Self::Least(least) => scores.take_while(|score| *score >= least).count(),
            Self::Sum(most) => {
                let sums = scores.scan(0.0, |sum, score| {
                    let before = *sum;
                    *sum -= score;
                    Some(before)
                });
                sums.take_while(|before| *before <= most).count()
            }
        }
    }
}

/// The places in `unknown` that are revealed, by row and falling score; among equals the lower position comes first.
pub(super) fn order(unknown: &[Unknown], scores: &[f64], left: &[usize], bound: Bound, counts: &Counts) -> Vec<usize> {
    let (mut chosen, mut order, mut start) = (Vec::new(), Vec::new(), 0);
    for (row, &left) in left.iter().enumerate() {
        debug_assert!(unknown[start..start + left].iter().all(|place| place.row == row));
        order.clear();
        order.extend(start..start + left);
        start += left;
        // Scores are not NaN. 0.0 and -0.0 are equal, as they are for the twin.
        let falling =
            |one: &usize, other: &usize| crate::scan::descending(&scores[*one], &scores[*other]).then(one.cmp(other));
        order.sort_unstable_by(falling);
        let inside = bound.count(order.iter().map(|&place| scores[place]));
        let count = (inside as u64).max(counts.least[row] as u64).min(counts.most[row] as u64).min(left as u64);
        chosen.extend_from_slice(&order[..count as usize]);
    }
    chosen
}

/// Which positions the highest scores (rows, positions) reveal, with nothing drawn.
///
/// # Errors
/// Sizes that do not fit, NaN at an unknown position.
pub fn choose(canvas: &Canvas, rows: usize, scores: &[f64], counts: &Counts) -> Result<Vec<bool>> {
    canvas.check(rows)?;
    counts.check(rows)?;
    let unknown = canvas.unknown();
    check_scores(scores, canvas, &unknown)?;
    let left = left_of(&unknown, rows);
    let own: Vec<f64> = unknown.iter().map(|place| scores[canvas.index(place)]).collect();
    let mut revealed = vec![false; canvas.tokens.len()];
    for place in order(&unknown, &own, &left, Bound::None, counts) {
        revealed[canvas.index(&unknown[place])] = true;
    }
    Ok(revealed)
}

fn check_scores(scores: &[f64], canvas: &Canvas, unknown: &[Unknown]) -> Result<()> {
    let (given, expected) = (scores.len(), canvas.tokens.len());
    if given != expected {
        return Err(Error::Shape { name: "scores", unit: "entries", given, expected });
    }
    match unknown.iter().find(|place| scores[canvas.index(place)].is_nan()) {
        Some(&Unknown { row, position }) => {
            let place = canvas.index(&Unknown { row, position });
            Err(Error::Score { name: "scores", row, position, place, value: f64::NAN })
        }
        None => Ok(()),
    }
}
