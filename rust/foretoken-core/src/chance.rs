//! Who decides: noise, or in tests a script that takes every branch in turn and so computes a law exactly.

use crate::kept::{Kept, maximum};
use crate::noise::{Cuts, Place, gumbel};
use crate::scan::{BLOCK, Logit, Row, descending};
use crate::simd::words;

/// A decision, and how far the runner-up was behind in score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// Best score less second best; +inf where nothing competed.
    pub gap: f64,
}

/// Two kinds of decision; every random thing a kernel does goes through these.
pub trait Chance {
    /// True with probability `min(1, p / q)`.
    fn bernoulli(&mut self, stream: u32, position: u32, p: f64, q: f64) -> bool;

    /// One of the kept tokens, with the probability their scores give it.
    fn choice(&mut self, stream: u32, position: u32, kept: &Kept) -> Choice;
}

/// Decides by counter-based noise, so the same place always decides the same way.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// The seed of the request.
    pub seed: u64,
    /// Which sample of a prompt.
    pub row: u32,
}

impl Chance for Noise {
    fn bernoulli(&mut self, stream: u32, position: u32, p: f64, q: f64) -> bool {
        let place = Place { seed: self.seed, row: self.row, position, stream };
        place.uniform(0) * q < p
    }

    fn choice(&mut self, stream: u32, position: u32, kept: &Kept) -> Choice {
        let place = Place { seed: self.seed, row: self.row, position, stream };
        match *kept {
            Kept::One(token, gap) => Choice { token, gap },
            Kept::Raw(row, temperature) => best_of_row(row, temperature, place),
            Kept::Edited(row, temperature) => best_of_row(row, temperature, place),
            Kept::List(list) => {
                let (mut lead, top) = (Lead::new(), maximum(list));
                for candidate in list {
                    lead.offer(candidate.token, candidate.x - top, || place.word(candidate.token));
                }
                lead.choice()
            }
        }
    }
}

/// No Gumbel number makes up for a larger shortfall: the largest is 22.874.
const REACH: f64 = 22.9;

/// The best score so far, and the second best.
struct Lead {
    token: u32,
    best: f64,
    second: f64,
    cuts: Cuts,
}

impl Lead {
    fn new() -> Self {
        Self { token: 0, best: f64::NEG_INFINITY, second: f64::NEG_INFINITY, cuts: Cuts::get() }
    }

    /// The smallest word with which a token of score `x` or less may still come second; none if no word will do.
    fn cut(&self, x: f64) -> Option<u32> {
        let shortfall = self.second - x - 2e-15 * (self.second.abs() + x.abs());
        if shortfall > REACH { None } else { Some(self.cuts.at(shortfall)) }
    }

    fn offer(&mut self, token: u32, x: f64, word: impl FnOnce() -> u32) {
        if let Some(cut) = self.cut(x) {
            let word = word();
            if word >= cut {
                self.score(token, x + gumbel(word));
            }
        }
    }

    fn score(&mut self, token: u32, score: f64) {
        if score > self.best || (score == self.best && token < self.token) {
            (self.token, self.second, self.best) = (token, self.best, score);
        } else if score > self.second {
            self.second = score;
        }
    }

    fn choice(&self) -> Choice {
        Choice { token: self.token, gap: self.best - self.second }
    }
}

/// How many blocks of logits get their noise together.
const GROUP: usize = 16;

/// How many draws of four words a block takes.
const FOURS: usize = BLOCK / 4;

/// The argmax of scores plus Gumbel noise, exact, with two logarithms only for those that can still come second.
///
/// Scores are counted from the largest: next to 1e30 noise would be rounded away, and a tie would be no coin toss.
fn best_of_row<V: Logit>(row: Row<V>, temperature: f64, place: Place) -> Choice {
    let mut lead = Lead::new();
    let top = row.max().wide() / temperature;
    let mut visit = |group: usize| {
        let start = group * GROUP;
        let maxima = &row.maxima[start..row.maxima.len().min(start + GROUP)];
        let mut cuts = [None; GROUP];
        for (cut, &maximum) in cuts.iter_mut().zip(maxima).filter(|(_, maximum)| **maximum > V::BANNED) {
            *cut = lead.cut(maximum.wide() / temperature - top);
        }
        if cuts == [None; GROUP] {
            return;
        }
        let words = words::<{ GROUP * FOURS }>(place, (start * FOURS) as u32);
        let most: [u32; GROUP * FOURS] = std::array::from_fn(|j| words.iter().fold(0, |most, lane| most.max(lane[j])));
        for (index, (cut, most)) in cuts.into_iter().zip(most.chunks_exact(FOURS)).enumerate() {
            let Some(cut) = cut.filter(|cut| most.iter().any(|word| word >= cut)) else { continue };
            let (first, block) = row.block(start + index);
            for (offset, &value) in block.iter().enumerate() {
                let word = words[offset & 3][index * FOURS + (offset >> 2)];
                if word >= cut && value > V::BANNED {
                    lead.offer((first + offset) as u32, value.wide() / temperature - top, || word);
                }
            }
        }
    };
    // The group of the maximum first: it raises the bar for all others, in whatever order the logits stand.
    let first = (0..row.maxima.len()).min_by(|&a, &b| descending(&row.maxima[a], &row.maxima[b])).unwrap_or(0) / GROUP;
    visit(first);
    (0..row.maxima.len().div_ceil(GROUP)).filter(|&group| group != first).for_each(visit);
    lead.choice()
}
