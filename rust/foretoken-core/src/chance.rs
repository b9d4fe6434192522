//! Who decides: noise, or in tests a script that takes every branch in turn and so computes a law exactly.

use crate::noise::{Cuts, Place, gumbel};
use crate::scan::{BLOCK, Logit, Row, descending};

/// A token that may be drawn, with its score: its logit divided by temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// Its logit, divided by temperature.
    pub x: f64,
    /// Its probability, where a step has computed it.
    pub p: f64,
}

/// What may be drawn from one row, and with which scores; the law is their softmax.
#[derive(Debug, Clone, Copy)]
pub enum Kept<'a> {
    /// One token: the best at temperature 0, or the one with +inf; and its lead over the next.
    One(u32, f64),
    /// The model's row, over a temperature.
    Raw(Row<'a, f32>, f64),
    /// The row after constraints and penalties, over a temperature.
    Edited(Row<'a, f64>, f64),
    /// What the truncations left.
    List(&'a [Candidate]),
}

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
                let mut lead = Lead::new();
                for candidate in list {
                    lead.offer(candidate.token, candidate.x, || place.word(candidate.token));
                }
                lead.choice()
            }
        }
    }
}

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

    /// The smallest word with which a token of score `x` (known within 2 ulp) may still become second.
    fn cut(&self, x: f64) -> u32 {
        let rounding = 2e-15 * (self.second.abs() + x.abs());
        self.cuts.at(self.second - x - rounding)
    }

    fn offer(&mut self, token: u32, x: f64, word: impl FnOnce() -> u32) {
        let cut = self.cut(x);
        if cut == u32::MAX {
            // Only the one word u32::MAX passes; it is not worth a branch of its own below.
        }
        let word = word();
        if word >= cut {
            self.score(token, x + gumbel(word));
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
