//! A block of drafted tokens against the model's rows: which of them plain decoding would have drawn, and what follows.

use crate::batch::{Batch, Output, Space};
use crate::chance::{Chance, Choice};
use crate::error::{Error, Result};
use crate::history::{Ahead, History};
use crate::kept::Kept;
use crate::logits::Site;
use crate::noise::{ACCEPT, CHOICE, RESIDUAL, ln};
use crate::sampler::Sampler;
use crate::scan::{Row, sum};

/// How far a drafter's probabilities may sum from one.
const TOLERANCE: f64 = 1e-6;

/// How a drafted token is judged.
#[derive(Debug, Clone, Copy)]
pub enum Rule<'a> {
    /// It is kept if it is the token that plain decoding draws there.
    Coupled,
    /// The ratio test (2211.17192) against the law (rows, k, vocabulary) it was drawn from; certain if none is given.
    Rejection(Option<&'a [f64]>),
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
    /// How they are judged.
    pub rule: Rule<'a>,
}

/// Emits the accepted part of each row's draft and one token more, and adds them to the histories.
///
/// The logits (rows, k + 1, vocabulary) of place i follow the text and the first i drafted tokens.
///
/// # Errors
/// An argument that is off, a draft that no drafter may return, or a row that is reached and that no token can be
/// drawn from; then nothing has changed.
pub fn verify(sampler: &Sampler, batch: &Batch, draft: &Draft) -> Result<Output> {
    let places = draft.places + 1;
    batch.check(sampler, places)?;
    draft.check(batch.count, sampler.vocab_size)?;
    let output = batch.each(|row, space, output| {
        let size = places * sampler.vocab_size;
        let block = Block {
            logits: &batch.logits[row * size..][..size],
            guesses: draft.guesses(row),
            rule: draft.rule_of(row, sampler.vocab_size),
            start: Site { row, position: batch.positions[row] as u32 },
            logprobs: batch.logprobs,
        };
        batch.with_history(row, |history| block.verify(sampler, history, &mut batch.noise(row), space, output))?;
        output.pad(output.accepted.len() * places - output.tokens.len(), batch.logprobs);
        Ok(())
    })?;
    batch.commit(&output, places);
    Ok(output)
}

impl<'a> Draft<'a> {
    fn guesses(&self, row: usize) -> &'a [i64] {
        let length = self.lengths.map_or(self.places, |lengths| lengths[row] as usize);
        &self.tokens[row * self.places..][..length]
    }

    fn rule_of(&self, row: usize, vocabulary: usize) -> Rule<'a> {
        match self.rule {
            Rule::Rejection(Some(laws)) => {
                let size = self.places * vocabulary;
                Rule::Rejection(Some(&laws[row * size..][..size]))
            }
            other => other,
        }
    }

    /// Refuses what no drafter may return, in every place, reached or not: what is refused depends on no noise.
    fn check(&self, count: usize, vocabulary: usize) -> Result<()> {
        let expected = count.saturating_mul(self.places);
        let laws = if let Rule::Rejection(Some(laws)) = self.rule { Some(laws.len()) } else { None };
        let sizes = [
            ("draft", "tokens", self.tokens.len(), expected),
            ("lengths", "entries", self.lengths.map_or(count, <[i64]>::len), count),
            ("draft_probs", "numbers", laws.unwrap_or(0), laws.map_or(0, |_| expected.saturating_mul(vocabulary))),
        ];
        if let Some(&(name, unit, given, expected)) = sizes.iter().find(|(_, _, given, expected)| given != expected) {
            return Err(Error::Shape { name, unit, given, expected });
        }
        for row in 0..count {
            if let Some(&length) = self.lengths.and_then(|lengths| lengths.get(row))
                && !(0..=self.places as i64).contains(&length)
            {
                return Err(Error::DraftLength { row, length, places: self.places });
            }
            for (place, &token) in self.guesses(row).iter().enumerate() {
                if !(0..vocabulary as i64).contains(&token) {
                    return Err(Error::DraftToken { row, place, token, vocabulary });
                }
                if let Rule::Rejection(Some(laws)) = self.rule_of(row, vocabulary) {
                    check_law(&laws[place * vocabulary..][..vocabulary], token as usize, row, place)?;
                }
            }
        }
        Ok(())
    }
}

fn check_law(law: &[f64], drawn: usize, row: usize, place: usize) -> Result<()> {
    // NaN is in no range. Counted, not searched for: a loop without an exit vectorises.
    let bad = |probability: &f64| !(0.0..=1.0).contains(probability);
    if law.iter().filter(|probability| bad(probability)).count() > 0 {
        let token = law.iter().position(bad).unwrap_or(0);
        return Err(Error::DraftProbability { row, place, token, probability: law[token] });
    }
    let sum = sum(law);
    if (sum - 1.0).abs() > TOLERANCE {
        return Err(Error::DraftSum { row, place, sum });
    }
    if law[drawn] == 0.0 {
        return Err(Error::DraftImpossible { row, place, token: drawn });
    }
    Ok(())
}

/// The block of one row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// (k + 1, vocabulary).
    pub logits: &'a [f32],
    /// The drafted tokens, k or fewer.
    pub guesses: &'a [i64],
    /// How they are judged; the laws of this row.
    pub rule: Rule<'a>,
    /// Where the first new token stands.
    pub start: Site,
    /// As in `Batch`.
    pub logprobs: Option<usize>,
}

impl Block<'_> {
    /// Appends what the row emits: the accepted tokens and one more.
    pub(crate) fn verify(
        &self,
        sampler: &Sampler,
        history: &mut History,
        chance: &mut impl Chance,
        space: &mut Space,
        output: &mut Output,
    ) -> Result<()> {
        let mut past = Ahead::new(history);
        for place in 0..=self.guesses.len() {
            let logits = &self.logits[place * sampler.vocab_size..][..sampler.vocab_size];
            let site = Site { row: self.start.row, position: self.start.position + place as u32 };
            let guess = self.guesses.get(place).map(|&guess| guess as u32);
            let kept = sampler.keep(logits, site, &mut past, chance, &mut space.scratch)?;
            let choice = match (self.rule, guess) {
                (Rule::Rejection(laws), Some(guess)) => {
                    let law = laws.map(|laws| &laws[place * sampler.vocab_size..][..sampler.vocab_size]);
                    ratio_test(&kept, guess, law, site.position, chance, space.residual.sized(logits.len()))
                }
                _ => chance.choice(CHOICE, site.position, &kept),
            };
            past.mu = sampler.next_mu(&past, &kept, choice.token).or(past.mu);
            past.push(choice.token);
            output.tokens.push(i64::from(choice.token));
            output.gaps.push(choice.gap);
            if let Some(count) = self.logprobs {
                output.describe(logits, choice.token, count, &mut space.scratch);
            }
            // Under the ratio test a rejected token has no residual mass, so equality means accepted there too.
            if guess != Some(choice.token) {
                output.accepted.push(place as i64);
                break;
            }
        }
        output.mu.push(past.mu);
        Ok(())
    }
}

/// Room for what the target's law has more than the drafter's.
#[derive(Debug, Default)]
pub(crate) struct Residual {
    x: Vec<f64>,
    maxima: Vec<f64>,
}

impl Residual {
    /// Nothing yet, for a vocabulary of this size.
    fn sized(&mut self, vocabulary: usize) -> &mut Self {
        self.x.clear();
        self.x.resize(vocabulary, f64::NEG_INFINITY);
        self
    }
}

/// Keeps a guess with probability `min(1, p/q)`, else draws from `max(p - q, 0)`: Algorithm 1 of 2211.17192.
fn ratio_test(
    kept: &Kept,
    guess: u32,
    law: Option<&[f64]>,
    position: u32,
    chance: &mut impl Chance,
    residual: &mut Residual,
) -> Choice {
    let certain = Choice { token: guess, gap: f64::INFINITY };
    let softmax = kept.softmax();
    let (p, q) = (softmax.of(kept.score(guess)), law.map_or(1.0, |law| law[guess as usize]));
    if chance.bernoulli(ACCEPT, position, p, q) {
        return certain;
    }
    let Residual { x, maxima } = residual;
    kept.each(|token, score| match law {
        None if token == guess => (),
        // Without the guess, p - q is p, whose logarithm is the score but for a constant.
        None => x[token as usize] = score,
        Some(law) => {
            let more = softmax.of(score) - law[token as usize];
            if more > 0.0 {
                x[token as usize] = ln(more);
            }
        }
    });
    let rest = Row::new(x, maxima);
    if rest.max() == f64::NEG_INFINITY {
        // p ≤ q everywhere, so they are equal but for the tolerance of their sums, and the guess is as good.
        return certain;
    }
    chance.choice(RESIDUAL, position, &Kept::Edited(rest, 1.0))
}

#[cfg(test)]
mod tests;
