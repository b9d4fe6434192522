//! One token for each row of logits, and the law it is drawn from.

use crate::batch::{Batch, Output, Space};
use crate::chance::Chance;
use crate::error::{Error, Result};
use crate::logits::Site;
use crate::noise::{CHOICE, DRAFT};
use crate::sampler::Sampler;

/// Chooses one token for each row of logits (rows, vocabulary); with `commit`, adds them to the histories.
///
/// `stream` is `CHOICE`, or `DRAFT` for a drafter whose guesses are verified by rejection.
///
/// # Errors
/// An argument that is off, or a row that no token can be drawn from; then nothing has changed.
pub fn sample(sampler: &Sampler, batch: &Batch, stream: u32, commit: bool) -> Result<Output> {
    batch.check(sampler, 1)?;
    if stream != CHOICE && stream != DRAFT {
        let expected = "0 to choose or 4 to draft";
        return Err(Error::Range { name: "stream", value: f64::from(stream), expected });
    }
    let output = batch.each(|row, Space { scratch, .. }, output| {
        let logits = &batch.logits[row * sampler.vocab_size..][..sampler.vocab_size];
        let site = Site { row, position: batch.positions[row] as u32 };
        let mut noise = batch.noise(row);
        batch.with_history(row, |history| {
            let kept = sampler.keep(logits, site, history, &mut noise, scratch)?;
            let choice = noise.choice(stream, site.position, &kept);
            output.mu.push(sampler.next_mu(history, &kept, choice.token));
            output.tokens.push(i64::from(choice.token));
            output.gaps.push(choice.gap);
            if let Some(count) = batch.logprobs {
                output.describe(logits, choice.token, count, scratch);
            }
            Ok(())
        })
    })?;
    if commit {
        batch.commit(&output, 1);
    }
    Ok(output)
}

/// The law (rows, vocabulary) that `sample` would draw from, written row after row; given whether XTC happens there.
///
/// # Errors
/// As `sample`.
pub fn process(sampler: &Sampler, batch: &Batch, laws: &mut [f64]) -> Result<()> {
    batch.check(sampler, 1)?;
    let given = laws.len();
    if given != batch.logits.len() {
        return Err(Error::Shape { name: "laws", unit: "numbers", given, expected: batch.logits.len() });
    }
    let mut scratch = crate::logits::Scratch::default();
    for (row, law) in laws.chunks_exact_mut(sampler.vocab_size).enumerate() {
        let logits = &batch.logits[row * sampler.vocab_size..][..sampler.vocab_size];
        let site = Site { row, position: batch.positions[row] as u32 };
        batch.with_history(row, |history| {
            sampler.keep(logits, site, history, &mut batch.noise(row), &mut scratch).map(|kept| kept.law(law))
        })?;
    }
    Ok(())
}
