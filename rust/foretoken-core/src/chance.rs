//! Who decides: noise, or in tests a script that takes every branch in turn and so computes a law exactly.

use crate::kept::{Kept, maximum};
use crate::noise::{Cuts, Place};
use crate::scan::{Logit, Row};
use crate::simd::Words;

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
    /// True with probability `min(1, p / q)`; `rank` tells decisions of one position and stream apart.
    fn bernoulli(&mut self, stream: u32, position: u32, rank: u32, p: f64, q: f64) -> bool;

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
    fn bernoulli(&mut self, stream: u32, position: u32, rank: u32, p: f64, q: f64) -> bool {
        let place = Place { seed: self.seed, row: self.row, position, stream };
        place.uniform(rank) * q < p
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
                    lead.offer(candidate.token, candidate.x - top, place, || place.upper(candidate.token));
                }
                lead.choice()
            }
        }
    }
}

/// No Gumbel number makes up for a larger shortfall: the largest is 22.874.
const REACH: f64 = 22.9;

/// How near to the maximum a chunk's own lies that is drawn before the others.
const NEAR: f64 = -3.0;

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

    /// Takes a token into account, whose noise at `place` begins with `upper`.
    fn offer(&mut self, token: u32, x: f64, place: Place, upper: impl FnOnce() -> u32) {
        if let Some(cut) = self.cut(x)
            && upper() >= cut >> 16
        {
            self.score(token, x + place.gumbel(token));
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

/// The argmax of scores plus Gumbel noise, exact, with two logarithms only for those that can still come second.
///
/// Scores are counted from the largest: next to 1e30 noise would be rounded away, and a tie would be no coin toss.
fn best_of_row<V: Logit>(row: Row<V>, temperature: f64, place: Place) -> Choice {
    let mut lead = Lead::new();
    let top = row.max().wide() / temperature;
    let score = |value: V| value.wide() / temperature - top;
    let mut words = Words::new(place);
    let mut visit = |chunk: usize| {
        let maximum = row.chunks[chunk];
        let Some(cut) = lead.cut(score(maximum)).filter(|_| row.has(0, maximum)) else { return };
        if words.draw(chunk) < cut >> 16 {
            return;
        }
        let lanes = row.lanes[chunk].iter().zip(words.lanes()).enumerate();
        for (lane, (&maximum, most)) in lanes.filter(|(_, (maximum, _))| **maximum > V::BANNED) {
            if let Some(cut) = lead.cut(score(maximum)).filter(|cut| most >= *cut >> 16) {
                for (token, value) in row.lane(chunk, lane) {
                    if words.of(token) >= cut >> 16 && row.has(token, value) {
                        lead.offer(token, score(value), place, || words.of(token));
                    }
                }
            }
        }
    };
    // The chunk of the maximum first, then those that come near it: they raise the bar for all others, in whatever order
    // the logits stand.
    let first = row.chunks.iter().position(|maximum| *maximum == row.max()).unwrap_or(0);
    visit(first);
    let near = |chunk: &usize| score(row.chunks[*chunk]) >= NEAR;
    let others = || (0..row.chunks.len()).filter(|&chunk| chunk != first);
    others().filter(near).for_each(&mut visit);
    others().filter(|chunk| !near(chunk)).for_each(&mut visit);
    lead.choice()
}
