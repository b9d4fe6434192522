//! Verification as its definition reads: whole laws, subtracted and shared out again; slow, and the oracle of the property tests.

use std::ops::Range;

use foretoken_core::noise::{ACCEPT, CHOICE, Place, RESIDUAL};
use foretoken_core::sampler::Settings;

use crate::common::{Past, argmax, choose, scores, softmax};

/// Drafted tokens and what they are judged against.
#[derive(Debug)]
pub struct Judged<'a> {
    /// The target's sampler.
    pub settings: &'a Settings,
    /// The target's logits: row 0 follows the text, row i + 1 guess i.
    pub rows: &'a [Vec<f32>],
    /// The guesses.
    pub tokens: &'a [usize],
    /// The place of the guess before each, or -1.
    pub parents: &'a [i64],
    /// What each was drawn from.
    pub laws: &'a [Vec<f64>],
    /// Where the first new token stands.
    pub start: Place,
}

/// What a draft has become.
#[derive(Debug)]
pub struct Emitted {
    /// The tokens that stay, and one more.
    pub tokens: Vec<usize>,
    /// The places of those that stay, each the parent of the next.
    pub path: Vec<i64>,
    /// The lead of the one more.
    pub gap: f64,
    /// Mirostat's bound after them.
    pub mu: Option<f64>,
}

impl Judged<'_> {
    /// Keeps what plain decoding draws, or by the ratio test; none if a row that is reached has nothing to draw.
    pub fn walk(&self, mut past: Past, rejection: bool) -> Option<Emitted> {
        let (mut tokens, mut same) = (Vec::new(), vec![-1]);
        loop {
            let (last, place) = (same[0], self.place(tokens.len()));
            let x = scores(self.settings, &self.rows[(last + 1) as usize], &past, place)?;
            let next: Vec<usize> = (0..self.tokens.len()).filter(|&i| same.contains(&self.parents[i])).collect();
            let (token, gap, stays) = if rejection && !next.is_empty() {
                self.ratio_test(&x, &next, place)
            } else {
                let (token, gap) = self.draw(&x, place, CHOICE);
                (token, gap, true)
            };
            self.push(&mut past, &x, token);
            tokens.push(token);
            let found = |&&i: &&usize| stays && self.tokens[i] == token;
            same = next.iter().filter(found).map(|&i| i as i64).collect();
            if same.is_empty() {
                return Some(Emitted { tokens, path: self.path(last), gap, mu: past.mu });
            }
        }
    }

    /// The guesses from the text to this one.
    fn path(&self, last: i64) -> Vec<i64> {
        if last < 0 { Vec::new() } else { [self.path(self.parents[last as usize]), vec![last]].concat() }
    }

    /// Tries guesses in turn against what those before have left of the law: min(1, r/q), else max(r - q, 0).
    fn ratio_test(&self, x: &[f64], guesses: &[usize], place: Place) -> (usize, f64, bool) {
        let p = softmax(x);
        let mut r = p.clone();
        for (rank, &guess) in guesses.iter().enumerate() {
            let (token, q) = (self.tokens[guess], &self.laws[guess]);
            if (Place { stream: ACCEPT, ..place }).uniform(rank as u32) * q[token] < r[token] {
                return (token, f64::INFINITY, true);
            }
            r = share_out(&take(&r, 1.0, q), &p);
        }
        let (token, gap) = self.draw(&r.iter().map(|r| r.ln()).collect::<Vec<_>>(), place, RESIDUAL);
        (token, gap, false)
    }

    /// Judges a chain as a whole: Algorithm 2 of 2403.10444.
    pub fn whole(&self, mut past: Past) -> Option<Emitted> {
        let uniform = |rank: usize| Place { stream: ACCEPT, ..self.start }.uniform(rank as u32);
        let k = self.tokens.len();
        let (mut stay, mut before, mut rest, mut likely) = (0, past.clone(), None, 1.0_f64);
        for (i, (&token, q)) in self.tokens.iter().zip(self.laws).enumerate() {
            let x = scores(self.settings, &self.rows[i], &past, self.place(i))?;
            let p = softmax(&x);
            let more = take(&p, likely, q);
            let left: f64 = more.iter().sum();
            if i == 0 || uniform(i) * (left + 1.0 - likely) < left {
                (stay, before, rest) = (i, past.clone(), Some((x.clone(), share_out(&more, &p))));
            }
            likely = (likely * p[token] / q[token]).min(1.0);
            if likely == 0.0 {
                break;
            }
            self.push(&mut past, &x, token);
        }
        let all = k == 0 || likely > 0.0 && uniform(k) < likely;
        let (x, (token, gap)) = match rest {
            Some((x, rest)) if !all => {
                let logs: Vec<f64> = rest.iter().map(|r| r.ln()).collect();
                (x, self.draw(&logs, self.place(stay), RESIDUAL))
            }
            _ => {
                (stay, before) = (k, past);
                let x = scores(self.settings, &self.rows[k], &before, self.place(k))?;
                let drawn = self.draw(&x, self.place(k), CHOICE);
                (x, drawn)
            }
        };
        self.push(&mut before, &x, token);
        let kept: Range<usize> = 0..stay;
        let tokens = kept.clone().map(|i| self.tokens[i]).chain([token]).collect();
        Some(Emitted { tokens, path: kept.map(|i| i as i64).collect(), gap, mu: before.mu })
    }

    fn place(&self, depth: usize) -> Place {
        Place { position: self.start.position + depth as u32, ..self.start }
    }

    /// The largest score at temperature 0, else the largest sum of a score and its noise.
    fn draw(&self, x: &[f64], place: Place, stream: u32) -> (usize, f64) {
        if self.settings.temperature == 0.0 { argmax(x) } else { choose(x, Place { stream, ..place }) }
    }

    fn push(&self, past: &mut Past, x: &[f64], token: usize) {
        let s = self.settings;
        if s.mirostat_tau > 0.0 {
            let surprise = -softmax(x)[token].log2();
            past.mu = Some(past.mu.unwrap_or(2.0 * s.mirostat_tau) - s.mirostat_eta * (surprise - s.mirostat_tau));
        }
        past.output.push(token as u32);
    }
}

/// What `share` times p has more than q.
fn take(p: &[f64], share: f64, q: &[f64]) -> Vec<f64> {
    p.iter().zip(q).map(|(p, q)| (share * p - q).max(0.0)).collect()
}

/// Masses as a law; p where none are left, for then q was p.
fn share_out(masses: &[f64], p: &[f64]) -> Vec<f64> {
    let sum: f64 = masses.iter().sum();
    if sum > 0.0 { masses.iter().map(|mass| mass / sum).collect() } else { p.to_vec() }
}
