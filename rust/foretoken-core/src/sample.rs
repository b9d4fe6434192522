//! One token for each row of logits, and the law it is drawn from.

use crate::batch::{Batch, Output, Space};
use crate::chance::Chance;
use crate::error::{Error, Result};
use crate::logits::Site;
use crate::noise::{CHOICE, DRAFT};
use crate::sampler::Sampler;

/// What noise may be drawn from.
pub const STREAMS: &str = "0 to choose, or a number in 4..2147483648 to draft";

/// Chooses one token for each row of logits (rows, vocabulary); with `commit`, adds them to the histories.
///
/// `stream` is `CHOICE`, or from `DRAFT` on for a drafter whose guesses are verified by rejection.
///
/// # Errors
/// An argument that is off, or a row that no token can be drawn from; then nothing has changed.
pub fn sample(sampler: &Sampler, batch: &Batch, stream: u32, commit: bool) -> Result<Output> {
    batch.check(sampler, 1)?;
    if stream != CHOICE && !(DRAFT..1 << 31).contains(&stream) {
        return Err(Error::Range { name: "stream", value: f64::from(stream), expected: STREAMS });
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

/// Laws by the tokens they allow: row after row `width` ids and their probabilities, -1 and 0 as padding.
#[derive(Debug, Default)]
pub struct Sparse {
    /// Tokens, rising.
    pub ids: Vec<i64>,
    /// Their probabilities.
    pub laws: Vec<f64>,
    /// How many tokens the widest law allows.
    pub width: usize,
}

/// What `process` writes, without the tokens that may not be drawn.
///
/// # Errors
/// As `sample`.
pub fn process_sparse(sampler: &Sampler, batch: &Batch) -> Result<Sparse> {
    batch.check(sampler, 1)?;
    let mut scratch = crate::logits::Scratch::default();
    let mut rows: Vec<Vec<(u32, f64)>> = Vec::with_capacity(batch.count);
    for row in 0..batch.count {
        let logits = &batch.logits[row * sampler.vocab_size..][..sampler.vocab_size];
        let site = Site { row, position: batch.positions[row] as u32 };
        rows.push(batch.with_history(row, |history| {
            let kept = sampler.keep(logits, site, history, &mut batch.noise(row), &mut scratch)?;
            let (softmax, mut law) = (kept.softmax(), Vec::new());
            kept.each(|token, x| law.push((token, softmax.of(x))));
            law.sort_unstable_by_key(|&(token, _)| token);
            Ok(law)
        })?);
    }
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut sparse = Sparse { width, ..Sparse::default() };
    for law in rows {
        let padding = width - law.len();
        sparse.ids.extend(law.iter().map(|&(token, _)| i64::from(token)).chain(std::iter::repeat_n(-1, padding)));
        sparse.laws.extend(law.iter().map(|&(_, p)| p).chain(std::iter::repeat_n(0.0, padding)));
    }
    Ok(sparse)
}
