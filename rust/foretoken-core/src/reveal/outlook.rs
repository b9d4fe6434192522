//! What one law says about its position: entropy, largest probability, margin, and a token drawn from it.

use fearless_simd::dispatch;

use super::choose::Numbers;
use crate::chance::{Chance, Choice, Noise};
use crate::error::Result;
use crate::history::History;
use crate::kept::{Kept, maximum};
use crate::logits::{Scratch, Site};
use crate::noise::{exp, ln};
use crate::sampler::Sampler;
use crate::scan::{CHUNK, Logit, Row};
use crate::simd::LEVEL;

/// What was found at a position; 0 what was not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outlook {
    pub choice: Option<Choice>,
    pub probability: f64,
    pub entropy: f64,
    pub largest: f64,
    pub margin: f64,
}

/// The logits of a position, and the noise there.
pub(super) struct View<'a> {
    pub logits: &'a [f32],
    pub site: Site,
    pub noise: Noise,
    pub stream: u32,
}

impl View<'_> {
    /// Looks at a position through the sampler that draws and the one that judges.
    pub fn look(
        &self,
        (sampler, judge): (&Sampler, &Sampler),
        wanted: Numbers,
        draws: bool,
        scratch: &mut Scratch,
    ) -> Result<Outlook> {
        let mut found = Outlook::default();
        if draws && sampler.is_greedy() {
            found.choice = Some(self.draw(&self.keep(sampler, scratch)?));
        }
        if wanted == Numbers::default() && (found.choice.is_some() || !draws) {
            return Ok(found);
        }
        let kept = self.keep(judge, scratch)?;
        if draws && found.choice.is_none() {
            found.choice = Some(self.draw(&kept));
        }
        if wanted != Numbers::default() {
            found.judge(&kept, wanted);
        }
        Ok(found)
    }

    fn keep<'a>(&'a self, sampler: &Sampler, scratch: &'a mut Scratch) -> Result<Kept<'a>> {
        sampler.keep(self.logits, self.site, &mut History::default(), &mut { self.noise }, scratch)
    }

    fn draw(&self, kept: &Kept) -> Choice {
        { self.noise }.choice(self.stream, self.site.position, kept)
    }
}

impl Outlook {
    fn judge(&mut self, kept: &Kept, wanted: Numbers) {
        let sums = Sums::of(kept);
        self.largest = 1.0 / sums.weights;
        if wanted.entropy {
            self.entropy = ln(sums.weights) - sums.moments / sums.weights;
        }
        if wanted.margin {
            self.margin = (1.0 - exp(-lead(kept) / sums.scale)) / sums.weights;
        }
        if let (true, Some(choice)) = (wanted.probability, self.choice) {
            self.probability = exp(kept.score(choice.token) - sums.top) / sums.weights;
        }
    }
}

/// How far the largest score is ahead of the next, in units of `Sums::scale`.
fn lead(kept: &Kept) -> f64 {
    match *kept {
        Kept::One(..) => f64::INFINITY,
        // A prefix of a row has its two largest, because it is long.
        Kept::Raw(row, _) => row.winner().1,
        Kept::Edited(row, _) => row.winner().1,
        Kept::List(list) => {
            let (mut best, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
            for kept in list {
                (best, second) = (best.max(kept.x), second.max(kept.x.min(best)));
            }
            best - second
        }
    }
}

/// Sums over what may be drawn, with a = score - top: of exp(a), and of a·exp(a).
struct Sums {
    top: f64,
    /// What `lead` is counted in.
    scale: f64,
    weights: f64,
    moments: f64,
}

impl Sums {
    fn of(kept: &Kept) -> Self {
        match *kept {
            Kept::One(..) => Self { top: 0.0, scale: 1.0, weights: 1.0, moments: 0.0 },
            Kept::Raw(row, t) if row.is_whole() => Self::of_row(row, t),
            Kept::Edited(row, t) if row.is_whole() => Self::of_row(row, t),
            Kept::Raw(row, t) => Self::of_some(kept, row.max().wide() / t, t),
            Kept::Edited(row, t) => Self::of_some(kept, row.max() / t, t),
            Kept::List(list) => Self::of_some(kept, maximum(list), 1.0),
        }
    }

    fn of_some(kept: &Kept, top: f64, scale: f64) -> Self {
        let mut sums = Self { top, scale, weights: 0.0, moments: 0.0 };
        kept.each(|_, x| {
            let a = (x - top).max(NOTHING);
            let weight = exp(a);
            sums.weights += weight;
            sums.moments += weight * a;
        });
        sums
    }

    fn of_row<V: Logit>(row: Row<V>, temperature: f64) -> Self {
        let top = row.max().wide();
        let (weights, moments) = sums(row.values, temperature, top);
        Self { top: top / temperature, scale: temperature, weights, moments }
    }
}

/// A score so far behind has no weight at all; a number, because -inf times nothing would be NaN.
const NOTHING: f64 = -750.0;

/// The sums of a whole row. A product with 1/temperature is off by an ulp, and takes half as long as a quotient.
fn sums<V: Logit>(values: &[V], temperature: f64, top: f64) -> (f64, f64) {
    const LANES: usize = 8;
    let scale = 1.0 / temperature;
    dispatch!(*LEVEL, _simd => {
        let (mut weights, mut moments) = ([0.0; LANES], [0.0; LANES]);
        // Arguments and exponentials into buffers, then sums: a loop that does all does not vectorise.
        let (mut arguments, mut exponentials) = ([NOTHING; CHUNK], [0.0; CHUNK]);
        for chunk in values.chunks(CHUNK) {
            arguments[chunk.len()..].fill(NOTHING);
            for (a, value) in arguments.iter_mut().zip(chunk) {
                let behind = (value.wide() - top) * scale;
                *a = if behind > NOTHING { behind } else { NOTHING };
            }
            for (weight, &a) in exponentials.iter_mut().zip(&arguments) {
                *weight = exp(a);
            }
            for (a, weight) in arguments.as_chunks::<LANES>().0.iter().zip(exponentials.as_chunks::<LANES>().0) {
                for lane in 0..LANES {
                    weights[lane] += weight[lane];
                    moments[lane] += weight[lane] * a[lane];
                }
            }
        }
        (weights.iter().sum(), moments.iter().sum())
    })
}
