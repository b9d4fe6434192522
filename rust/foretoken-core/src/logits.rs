//! The sampler's chain on one row of logits: constraints, penalties, and what may be drawn in the end.

use crate::chance::Chance;
use crate::dry;
use crate::error::{Error, Result};
use crate::history::History;
use crate::kept::{Candidate, Kept};
use crate::noise::XTC;
use crate::nucleus::Weights;
use crate::sampler::Sampler;
use crate::scan::{Logit, Maxima, Row, inspect};
use crate::truncate::{mirostat, surprise, truncate};

/// Buffers that are used again for every row, so that a warm call allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) maxima: Maxima<f32>,
    pub(crate) bounds: Vec<f32>,
    pub(crate) list: Vec<Candidate>,
    weights: Weights,
    edited: Vec<f64>,
    edited_maxima: Maxima<f64>,
    edited_bounds: Vec<f64>,
}

/// Where a row of logits stands.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// The row of the batch, for errors.
    pub row: usize,
    /// The place in the text.
    pub position: u32,
}

impl Sampler {
    /// What may be drawn from a row (vocabulary), given the row's past.
    ///
    /// # Errors
    /// NaN, two +inf, a past with tokens outside the vocabulary, or nothing that may be drawn.
    pub fn keep<'a>(
        &self,
        logits: &'a [f32],
        site: Site,
        history: &mut History,
        chance: &mut impl Chance,
        scratch: &'a mut Scratch,
    ) -> Result<Kept<'a>> {
        let Scratch { maxima, bounds, list, weights, edited, edited_maxima, edited_bounds } = scratch;
        let raw = Row::new(logits, maxima);
        let infinite = inspect(&raw, site.row)?;
        let edits = self.edits(history);
        if edits {
            edited.clear();
            edited.extend(logits.iter().map(|&logit| f64::from(logit)));
            self.constrain(edited, logits, history);
        }
        if let Some(column) = infinite {
            if edits && edited[column] < f64::INFINITY {
                return Err(Error::InfinityBanned { row: site.row, column });
            }
            return Ok(Kept::One(column as u32, f64::INFINITY));
        }
        if edits {
            self.penalise(edited, history)?;
            let row = Row::new(edited, edited_maxima);
            if row.max() == f64::NEG_INFINITY {
                return Err(Error::NothingLeft { row: site.row });
            }
            Ok(self.decide(row, site, history, chance, (list, edited_bounds, weights), Kept::Edited))
        } else {
            if raw.max() == f32::NEG_INFINITY {
                return Err(Error::NothingLeft { row: site.row });
            }
            Ok(self.decide(raw, site, history, chance, (list, bounds, weights), Kept::Raw))
        }
    }

    /// Mirostat's bound once a token has been drawn from `kept`; none without Mirostat.
    pub(crate) fn next_mu(&self, history: &History, kept: &Kept, token: u32) -> Option<f64> {
        if self.mirostat_tau == 0.0 {
            return None;
        }
        let bits = if let Kept::List(list) = kept { surprise(list, token) } else { 0.0 };
        Some(self.mu(history) - self.mirostat_eta * (bits - self.mirostat_tau))
    }

    fn mu(&self, history: &History) -> f64 {
        history.mu.unwrap_or(2.0 * self.mirostat_tau)
    }

    fn decide<'a, V: Logit>(
        &self,
        row: Row<'a, V>,
        site: Site,
        history: &History,
        chance: &mut impl Chance,
        (list, bounds, weights): (&'a mut Vec<Candidate>, &mut Vec<V>, &mut Weights),
        whole: impl FnOnce(Row<'a, V>, f64) -> Kept<'a>,
    ) -> Kept<'a> {
        if self.is_greedy() {
            let (token, gap) = row.winner();
            return Kept::One(token, gap);
        }
        if self.mirostat_tau > 0.0 {
            mirostat(row, self.temperature, self.mu(history), list);
            return Kept::List(list);
        }
        let xtc = self.xtc_probability > 0.0 && chance.bernoulli(XTC, site.position, 0, self.xtc_probability, 1.0);
        if !self.truncates(xtc) {
            return whole(row, self.temperature);
        }
        match truncate(self, row, xtc, list, bounds, weights) {
            Some(end) => whole(row.until(end), self.temperature),
            None => Kept::List(list),
        }
    }

    /// Whether a step before temperature changes this row.
    fn edits(&self, history: &History) -> bool {
        self.allowed_tokens.is_some()
            || !self.logit_bias.is_empty()
            || !self.bad_words.is_empty()
            || self.penalises()
            || self.dry_multiplier > 0.0
            || self.must_go_on(history)
    }

    fn must_go_on(&self, history: &History) -> bool {
        !self.end_tokens.is_empty() && history.output().len() < self.min_tokens
    }

    /// Allowed tokens, bias, bad words, and no end before `min_tokens`.
    fn constrain(&self, x: &mut [f64], logits: &[f32], history: &History) {
        if let Some(allowed) = &self.allowed_tokens {
            x.fill(f64::NEG_INFINITY);
            for &token in allowed {
                x[token as usize] = f64::from(logits[token as usize]);
            }
        }
        for (&token, &bias) in &self.logit_bias {
            x[token as usize] += bias;
        }
        for word in &self.bad_words {
            if let Some((&last, start)) = word.split_last()
                && history.tokens().ends_with(start)
            {
                x[last as usize] = f64::NEG_INFINITY;
            }
        }
        if self.must_go_on(history) {
            for &token in &self.end_tokens {
                x[token as usize] = f64::NEG_INFINITY;
            }
        }
    }

    /// Repetition (1909.05858) over prompt and output; frequency and presence over the output, as vLLM means them; DRY.
    fn penalise(&self, x: &mut [f64], history: &mut History) -> Result<()> {
        if self.penalises() {
            for count in history.counts() {
                if count.total > 0 {
                    let x = logit_of(x, count.token)?;
                    *x = if *x > 0.0 { *x / self.repetition_penalty } else { *x * self.repetition_penalty };
                    if count.output > 0 {
                        *x -= self.frequency_penalty * f64::from(count.output) + self.presence_penalty;
                    }
                }
            }
        }
        if self.dry_multiplier > 0.0 {
            let tokens = history.tokens();
            let skipped = if self.dry_range == 0 { 0 } else { tokens.len().saturating_sub(self.dry_range) };
            for (token, length) in dry::repeats(&tokens[skipped..], &self.dry_breakers) {
                if length >= self.dry_allowed_length {
                    // Products in a fixed order, because `pow` differs between machines; there are 64 at most.
                    let growth = (self.dry_allowed_length..length).fold(1.0, |power, _| power * self.dry_base);
                    *logit_of(x, token)? -= self.dry_multiplier * growth;
                }
            }
        }
        Ok(())
    }
}

fn logit_of(x: &mut [f64], token: u32) -> Result<&mut f64> {
    let vocabulary = x.len();
    x.get_mut(token as usize).ok_or(Error::Token { name: "history", token: i64::from(token), vocabulary })
}
