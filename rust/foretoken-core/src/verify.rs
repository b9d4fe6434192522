//! Drafted tokens against the model's rows: which of them plain decoding would have drawn, and what follows.

use crate::batch::{Batch, Output, Space};
use crate::chance::{Chance, Choice};
use crate::error::Result;
use crate::history::{Ahead, History};
use crate::logits::{Scratch, Site};
use crate::noise::CHOICE;
use crate::sampler::Sampler;

mod block;
mod draft;
mod ratio;

pub(crate) use draft::Guesses;
pub use draft::{Draft, Laws, Rule};
use ratio::{Residual, ratio_test};

/// Emits the accepted part of each row's draft and one token more, and adds them to the histories.
///
/// The logits (rows, k + 1, vocabulary) of place 0 follow the text, those of place i + 1 drafted token i.
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
            guesses: draft.guesses(row, sampler.vocab_size),
            rule: draft.rule,
            start: Site { row, position: batch.positions[row] as u32 },
            logprobs: batch.logprobs,
        };
        batch.with_history(row, |history| {
            let noise = &mut batch.noise(row);
            if draft.rule == Rule::Block {
                block.verify_whole(sampler, history, noise, space, output)
            } else {
                block.verify(sampler, history, noise, space, output)
            }
        })?;
        let rows = output.accepted.len();
        output.pad(rows * places - output.tokens.len(), batch.logprobs);
        output.path.resize(rows * draft.places, -1);
        Ok(())
    })?;
    batch.commit(&output, places);
    Ok(output)
}

/// Room for the guesses that follow one text, and for what they leave of its law.
#[derive(Debug, Default)]
pub(crate) struct Siblings {
    places: Vec<usize>,
    same: Vec<i64>,
    residual: Residual,
    rest: Vec<f64>,
}

impl Siblings {
    /// Goes down to the guesses whose parent is one of `same`, which all end the same text.
    fn descend(&mut self, guesses: &Guesses) {
        let Self { places, same, .. } = self;
        let first = (same[0] + 1) as usize;
        places.clear();
        places.extend((first..guesses.tokens.len()).filter(|&place| same.contains(&guesses.parent(place))));
    }

    /// The first guess that is this token, if there is one; remembers all that are.
    fn meet(&mut self, token: u32, guesses: &Guesses) -> Option<i64> {
        let Self { places, same, .. } = self;
        same.clear();
        same.extend(places.iter().filter(|&&place| guesses.token(place) == token).map(|&place| place as i64));
        same.first().copied()
    }
}

/// The guesses of one row, and the model's rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// (k + 1, vocabulary).
    pub logits: &'a [f32],
    /// k tokens or fewer.
    pub guesses: Guesses<'a>,
    /// How they are judged.
    pub rule: Rule,
    /// Where the first new token stands.
    pub start: Site,
    /// As in `Batch`.
    pub logprobs: Option<usize>,
}

impl Block<'_> {
    /// Appends what the row emits: the accepted tokens and one more.
    ///
    /// Guesses that are the same token after the same text are tried one by one, as their laws ask for; what follows
    /// any of them follows all.
    pub(crate) fn verify(
        &self,
        sampler: &Sampler,
        history: &mut History,
        chance: &mut impl Chance,
        space: &mut Space,
        output: &mut Output,
    ) -> Result<()> {
        let Space { scratch, siblings, .. } = space;
        let mut past = Ahead::new(history);
        let (mut last, mut accepted) = (-1, 0);
        siblings.same.clear();
        siblings.same.push(last);
        loop {
            siblings.descend(&self.guesses);
            let (logits, site) = (self.logits_at((last + 1) as usize), self.site(accepted));
            let kept = sampler.keep(logits, site, &mut past, chance, scratch)?;
            let (choice, stays) = if self.rule == Rule::Rejection && !siblings.places.is_empty() {
                ratio_test(&kept, &self.guesses, &siblings.places, site.position, chance, &mut siblings.residual)
            } else {
                (chance.choice(CHOICE, site.position, &kept), self.rule == Rule::Coupled)
            };
            past.mu = sampler.next_mu(&past, &kept, choice.token).or(past.mu);
            past.push(choice.token);
            output.emit(choice, logits, self.logprobs, scratch);
            match siblings.meet(choice.token, &self.guesses) {
                Some(place) if stays => (last, accepted) = (place, accepted + 1),
                _ => break,
            }
        }
        output.mu.push(past.mu);
        output.accepted.push(accepted as i64);
        let start = output.path.len();
        while last >= 0 {
            output.path.push(last);
            last = self.guesses.parent(last as usize);
        }
        output.path[start..].reverse();
        Ok(())
    }

    fn logits_at(&self, place: usize) -> &[f32] {
        let vocabulary = self.guesses.vocabulary;
        &self.logits[place * vocabulary..][..vocabulary]
    }

    fn site(&self, depth: usize) -> Site {
        Site { row: self.start.row, position: self.start.position + depth as u32 }
    }
}

impl Output {
    /// Appends one choice from these logits.
    fn emit(&mut self, choice: Choice, logits: &[f32], logprobs: Option<usize>, scratch: &mut Scratch) {
        self.tokens.push(i64::from(choice.token));
        self.gaps.push(choice.gap);
        if let Some(count) = logprobs {
            self.describe(logits, choice.token, count, scratch);
        }
    }
}

#[cfg(test)]
mod tests;
