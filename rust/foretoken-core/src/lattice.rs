//! The best chains and the best tree of a lattice: a few candidates a position, and how well neighbours go together.
//!
//! What a parallel drafter predicts is such a lattice: k candidates for each of the next positions, guessed without seeing each
//! other. A chain's score is the sum of its candidates' log-probabilities and of its transitions' scores, in `f64`; nothing has
//! the size of positions times vocabulary.

mod chains;
mod tree;

pub use chains::{Chains, chains};
pub use tree::{Tree, tree};

use crate::error::{Error, Result};
use crate::rows::MAX_DRAFT;
use crate::simd::products;

/// The most entries a list or a result may have; 2^26 of them take a gigabyte.
const MAX_ENTRIES: usize = 1 << 26;

/// What is to be searched; a row uses its first `lengths` positions.
#[derive(Debug, Clone, Copy)]
pub struct Lattice<'a> {
    /// Token ids (rows, positions, k).
    pub ids: &'a [i64],
    /// Their log-probabilities (rows, positions, k); -inf for what is impossible.
    pub logprobs: &'a [f32],
    /// How many rows, positions and candidates a position there are.
    pub shape: [usize; 3],
    /// How many positions each row has, all of them unless given.
    pub lengths: Option<&'a [i64]>,
    /// How well neighbours go together.
    pub transitions: Transitions<'a>,
}

/// A score to add for each pair of neighbours.
#[derive(Debug, Clone, Copy)]
pub enum Transitions<'a> {
    /// Nothing: candidates do not know each other.
    Free,
    /// (rows, positions - 1, k, k): entry (c, d) is of candidate c followed by candidate d.
    Dense(&'a [f32]),
    /// The dot product of the first token's row of `left` with the second's of `right`, both (vocabulary, rank).
    Bigram {
        /// What a token asks of the next.
        left: &'a [f32],
        /// What a token offers to the one before.
        right: &'a [f32],
        /// Columns of both.
        rank: usize,
    },
}

/// One row, cut to its length and checked.
struct Line<'a> {
    ids: &'a [i64],
    logprobs: &'a [f32],
    /// (length - 1, k, k), or empty if all are zero.
    transitions: &'a [f32],
    length: usize,
    candidates: usize,
}

impl Line<'_> {
    /// The log-probabilities of a position.
    fn own(&self, position: usize) -> &[f32] {
        &self.logprobs[position * self.candidates..][..self.candidates]
    }

    /// The scores of following a candidate of a position with each candidate of the next one; none if all are zero.
    fn after(&self, position: usize, candidate: usize) -> Option<&[f32]> {
        let k = self.candidates;
        (!self.transitions.is_empty()).then(|| &self.transitions[(position * k + candidate) * k..][..k])
    }
}

impl<'a> Lattice<'a> {
    /// Refuses sizes that do not fit each other, and lengths that no row has.
    fn check(&self) -> Result<()> {
        let [rows, positions, candidates] = self.shape;
        let size =
            |parts: &[usize]| parts.iter().try_fold(1_usize, |all, &part| all.checked_mul(part)).unwrap_or(usize::MAX);
        let all = size(&self.shape);
        check_size("a position", &[candidates])?;
        let expect = |name, given, expected| {
            if given == expected { Ok(()) } else { Err(Error::Shape { name, unit: "entries", given, expected }) }
        };
        expect("ids", self.ids.len(), all)?;
        expect("logprobs", self.logprobs.len(), all)?;
        expect("lengths", self.lengths.map_or(rows, <[i64]>::len), rows)?;
        match self.transitions {
            Transitions::Free => {}
            Transitions::Dense(scores) => {
                expect(
                    "transitions",
                    scores.len(),
                    size(&[rows, positions.saturating_sub(1), candidates, candidates]),
                )?;
            }
            Transitions::Bigram { left, right, rank } => {
                if rank == 0 {
                    return Err(Error::Empty { name: "a row of the bigram's tables" });
                }
                expect("right", right.len(), left.len())?;
            }
        }
        match self.lengths.unwrap_or(&[]).iter().find(|&&length| length < 0 || length as usize > positions) {
            Some(&length) => {
                Err(Error::Range { name: "lengths", value: length as f64, expected: "at most the number of positions" })
            }
            None => Ok(()),
        }
    }

    /// A row, refused if one of its numbers is NaN or +inf; `scores` holds what transitions have to be worked out.
    fn row<'b>(&self, row: usize, scores: &'b mut Vec<f32>) -> Result<Line<'b>>
    where
        'a: 'b,
    {
        let [_, positions, k] = self.shape;
        let length = self.lengths.map_or(positions, |lengths| lengths[row] as usize);
        let ids = &self.ids[row * positions * k..][..length * k];
        let logprobs = &self.logprobs[row * positions * k..][..length * k];
        check_scores("logprobs", row, k, logprobs)?;
        if let Some(place) = ids.iter().position(|id| !(0..1 << 31).contains(id)) {
            return Err(Error::TokenId { place: row * positions * k + place, token: ids[place] });
        }
        let pairs = length.saturating_sub(1) * k * k;
        let transitions: &'b [f32] = match self.transitions {
            Transitions::Free => &[],
            Transitions::Dense(all) => &all[row * positions.saturating_sub(1) * k * k..][..pairs],
            Transitions::Bigram { left, right, rank } => {
                check_size("the transitions of a row", &[pairs])?;
                let vocabulary = left.len() / rank;
                if let Some(&token) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                    return Err(Error::Token { name: "ids", token, vocabulary });
                }
                bigram(ids, k, left, right, rank, scores);
                scores
            }
        };
        check_scores("transitions", row, k * k, transitions)?;
        Ok(Line { ids, logprobs, transitions, length, candidates: k })
    }
}

/// The transitions of a row from the tables. Each sum runs over the columns in their order, whatever the width of a register.
fn bigram(ids: &[i64], k: usize, left: &[f32], right: &[f32], rank: usize, scores: &mut Vec<f32>) {
    scores.clear();
    scores.resize((ids.len() / k.max(1)).saturating_sub(1) * k * k, 0.0);
    let mut columns = vec![0.0; rank * k]; // of the next position: (rank, k), so that the inner loop runs along memory
    for (position, scores) in scores.chunks_exact_mut((k * k).max(1)).enumerate() {
        let (here, next) = (&ids[position * k..][..k], &ids[(position + 1) * k..][..k]);
        for (candidate, &id) in next.iter().enumerate() {
            for (column, &value) in right[id as usize * rank..][..rank].iter().enumerate() {
                columns[column * k + candidate] = value;
            }
        }
        products(here.iter().map(|&id| &left[id as usize * rank..][..rank]), &columns, k, scores);
    }
}

fn check_scores(name: &'static str, row: usize, width: usize, scores: &[f32]) -> Result<()> {
    let wrong = |score: &f32| score.is_nan() || *score == f32::INFINITY;
    match scores.iter().position(wrong) {
        Some(at) => {
            let (position, place, value) = (at / width, at % width, f64::from(scores[at]));
            Err(Error::Score { name, row, position, place, value })
        }
        None => Ok(()),
    }
}

/// A number of things to find.
fn count(name: &'static str, value: i64, least: usize) -> Result<usize> {
    let expected = if least == 0 { "a number in 0..=65536" } else { "a number in 1..=65536" };
    let valid = usize::try_from(value).ok().filter(|count| (least..=MAX_DRAFT).contains(count));
    valid.ok_or(Error::Range { name, value: value as f64, expected })
}

/// Refuses what would take more memory than a call may have, before it is asked for.
fn check_size(name: &'static str, parts: &[usize]) -> Result<()> {
    let given = parts.iter().fold(1_usize, |all, &part| all.saturating_mul(part));
    if given > MAX_ENTRIES {
        return Err(Error::TooLarge { name, unit: "entries", given, limit: MAX_ENTRIES });
    }
    Ok(())
}
