//! What drafters said about every row: a tree of tokens and the laws they were drawn from; and what they may not say.

use crate::error::{Error, Result};
use crate::scan::sum;

/// How far a drafter's probabilities may sum from one.
const TOLERANCE: f64 = 1e-6;

/// So many ids are compared with each other faster than they are sorted, and without room for that.
const FEW: usize = 128;

/// What the drafted tokens were drawn from, each given its parents and the siblings before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Laws<'a> {
    /// Nothing was drawn: the tokens are certain.
    Certain,
    /// The probability of every token (rows, k, vocabulary).
    Dense(&'a [f64]),
    /// The probabilities of some tokens, the others have none.
    Sparse {
        /// Tokens (rows, k, width), -1 as padding.
        ids: &'a [i64],
        /// Their probabilities (rows, k, width).
        probs: &'a [f64],
        /// How many tokens a law has room for.
        width: usize,
    },
}

/// How drafted tokens are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A token is kept if it is the one that plain decoding draws there.
    Coupled,
    /// The ratio test (2211.17192), sibling after sibling (2305.09781).
    Rejection,
    /// The ratio test of whole blocks (2403.10444); not for trees.
    Block,
}

/// Guesses for every row.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Drafted tokens (rows, k).
    pub tokens: &'a [i64],
    /// k.
    pub places: usize,
    /// How many tokens each row drafted; k unless given.
    pub lengths: Option<&'a [i64]>,
    /// The place of each token's parent (rows, k), before its own, or -1 if it follows the text; a chain unless given.
    pub parents: Option<&'a [i64]>,
    /// What they were drawn from; only the ratio tests look at it.
    pub laws: Laws<'a>,
    /// How they are judged.
    pub rule: Rule,
}

/// The guesses of one row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guesses<'a> {
    pub tokens: &'a [i64],
    pub parents: Option<&'a [i64]>,
    pub laws: Laws<'a>,
    pub vocabulary: usize,
}

/// What one guess was drawn from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Law<'a> {
    Certain(u32),
    Dense(&'a [f64]),
    Sparse(&'a [i64], &'a [f64]),
}

impl<'a> Draft<'a> {
    pub(crate) fn guesses(&self, row: usize, vocabulary: usize) -> Guesses<'a> {
        let of = |size: usize| row * self.places * size..(row + 1) * self.places * size;
        let length = self.lengths.map_or(self.places, |lengths| lengths[row] as usize);
        Guesses {
            tokens: &self.tokens[of(1)][..length],
            parents: self.parents.map(|parents| &parents[of(1)][..length]),
            vocabulary,
            laws: match self.laws {
                _ if self.rule == Rule::Coupled => Laws::Certain,
                Laws::Certain => Laws::Certain,
                Laws::Dense(laws) => Laws::Dense(&laws[of(vocabulary)]),
                Laws::Sparse { ids, probs, width } => {
                    Laws::Sparse { ids: &ids[of(width)], probs: &probs[of(width)], width }
                }
            },
        }
    }

    /// Refuses what no drafter may return, in every place, reached or not: what is refused depends on no noise.
    pub(crate) fn check(&self, count: usize, vocabulary: usize) -> Result<()> {
        let expected = count.saturating_mul(self.places);
        let ((given_ids, ids), (given_probs, probs)) = match self.laws {
            _ if self.rule == Rule::Coupled => ((0, 0), (0, 0)),
            Laws::Certain => ((0, 0), (0, 0)),
            Laws::Dense(laws) => ((0, 0), (laws.len(), expected.saturating_mul(vocabulary))),
            Laws::Sparse { ids, probs, width } => {
                let expected = expected.saturating_mul(width);
                ((ids.len(), expected), (probs.len(), expected))
            }
        };
        let sizes = [
            ("draft", "tokens", self.tokens.len(), expected),
            ("lengths", "entries", self.lengths.map_or(count, <[i64]>::len), count),
            ("parents", "entries", self.parents.map_or(expected, <[i64]>::len), expected),
            ("draft_probs", "ids", given_ids, ids),
            ("draft_probs", "numbers", given_probs, probs),
        ];
        if let Some(&(name, unit, given, expected)) = sizes.iter().find(|(_, _, given, expected)| given != expected) {
            return Err(Error::Shape { name, unit, given, expected });
        }
        if self.rule == Rule::Block && self.parents.is_some() {
            let reason = "whole blocks are judged along a chain, so leave one of them out";
            return Err(Error::Contradiction { first: "block", second: "parents", reason });
        }
        (0..count).try_for_each(|row| self.check_row(row, vocabulary))
    }

    fn check_row(&self, row: usize, vocabulary: usize) -> Result<()> {
        if let Some(&length) = self.lengths.and_then(|lengths| lengths.get(row))
            && !(0..=self.places as i64).contains(&length)
        {
            return Err(Error::DraftLength { row, length, places: self.places });
        }
        let guesses = self.guesses(row, vocabulary);
        for (place, &token) in guesses.tokens.iter().enumerate() {
            if !(0..vocabulary as i64).contains(&token) {
                return Err(Error::DraftToken { row, place, token, vocabulary });
            }
            let parent = guesses.parent(place);
            if !(-1..place as i64).contains(&parent) {
                return Err(Error::DraftParent { row, place, parent });
            }
            guesses.law(place).check(token as usize, row, place, vocabulary)?;
        }
        Ok(())
    }
}

impl<'a> Guesses<'a> {
    pub(crate) fn token(&self, place: usize) -> u32 {
        self.tokens[place] as u32
    }

    /// The place of the guess before this one, or -1.
    pub(crate) fn parent(&self, place: usize) -> i64 {
        self.parents.map_or(place as i64 - 1, |parents| parents[place])
    }

    pub(crate) fn law(&self, place: usize) -> Law<'a> {
        match self.laws {
            Laws::Certain => Law::Certain(self.token(place)),
            Laws::Dense(laws) => Law::Dense(&laws[place * self.vocabulary..][..self.vocabulary]),
            Laws::Sparse { ids, probs, width } => {
                Law::Sparse(&ids[place * width..][..width], &probs[place * width..][..width])
            }
        }
    }
}

impl Law<'_> {
    /// The probability of a token.
    pub(crate) fn of(self, token: u32) -> f64 {
        match self {
            Self::Certain(only) => f64::from(u8::from(only == token)),
            Self::Dense(law) => law[token as usize],
            Self::Sparse(ids, probs) => {
                ids.iter().position(|&id| id == i64::from(token)).map_or(0.0, |place| probs[place])
            }
        }
    }

    /// Takes `share` times this law from masses (vocabulary), as far as there is any; what is left in sum.
    pub(crate) fn take_from(self, masses: &mut [f64], share: f64) -> f64 {
        let take = |mass: &mut f64, q: f64| *mass = (*mass - share * q).max(0.0);
        match self {
            Self::Certain(token) => masses[token as usize] = 0.0,
            Self::Dense(law) => masses.iter_mut().zip(law).for_each(|(mass, &q)| take(mass, q)),
            Self::Sparse(ids, probs) => {
                let some = ids.iter().zip(probs).filter(|(id, _)| **id >= 0);
                some.for_each(|(&id, &q)| take(&mut masses[id as usize], q));
            }
        }
        sum(masses)
    }

    fn check(self, drawn: usize, row: usize, place: usize, vocabulary: usize) -> Result<()> {
        let sum = match self {
            Self::Certain(_) => return Ok(()),
            Self::Dense(law) => {
                check_probabilities(law, row, place, |token| token as i64)?;
                sum(law)
            }
            Self::Sparse(ids, probs) => {
                check_probabilities(probs, row, place, |index| ids[index])?;
                check_ids(ids, row, place, vocabulary)?;
                ids.iter().zip(probs).filter(|(id, _)| **id >= 0).map(|(_, p)| p).sum()
            }
        };
        if (sum - 1.0).abs() > TOLERANCE {
            return Err(Error::DraftSum { row, place, sum });
        }
        if self.of(drawn as u32) == 0.0 {
            return Err(Error::DraftImpossible { row, place, token: drawn });
        }
        Ok(())
    }
}

fn check_probabilities(law: &[f64], row: usize, place: usize, token: impl Fn(usize) -> i64) -> Result<()> {
    // NaN is in no range. Counted, not searched for: a loop without an exit vectorises.
    let bad = |probability: &f64| !(0.0..=1.0).contains(probability);
    if law.iter().filter(|probability| bad(probability)).count() > 0 {
        let index = law.iter().position(bad).unwrap_or(0);
        return Err(Error::DraftProbability { row, place, token: token(index), probability: law[index] });
    }
    Ok(())
}

fn check_ids(ids: &[i64], row: usize, place: usize, vocabulary: usize) -> Result<()> {
    let twice = ids.len() <= FEW || has_twins(ids);
    for (index, &token) in ids.iter().enumerate().filter(|(_, token)| **token != -1) {
        if !(0..vocabulary as i64).contains(&token) {
            return Err(Error::DraftToken { row, place, token, vocabulary });
        }
        if twice && ids[..index].contains(&token) {
            return Err(Error::DraftTwice { row, place, token });
        }
    }
    Ok(())
}

/// Whether a token stands twice, but for padding.
fn has_twins(ids: &[i64]) -> bool {
    let mut sorted: Vec<i64> = ids.iter().copied().filter(|&token| token != -1).collect();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}
