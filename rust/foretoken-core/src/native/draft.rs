//! Guesses of a small model, drawn and read again without leaving the core.

use std::sync::{Mutex, PoisonError};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::history::History;
use crate::native::session::Session;
use crate::noise::CHOICE;
use crate::sample::{process, sample};
use crate::sampler::Sampler;

/// How guesses are drawn; every slice has one entry a row.
#[derive(Debug, Clone, Copy)]
pub struct Draws<'a> {
    /// The target's parameters.
    pub sampler: &'a Sampler,
    /// The seed of each row.
    pub seeds: &'a [u64],
    /// Which sample of its prompt each row is.
    pub samples: Option<&'a [i64]>,
    /// The past of each row; guesses enter copies of it.
    pub history: Option<&'a [&'a Mutex<History>]>,
    /// The noise that decides, as in `sample`; with that of drafts the laws are kept, for the ratio test.
    pub stream: u32,
}

/// Guesses (rows, k), and the laws (rows, k, vocabulary) they were drawn from if those are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Guesses {
    /// Token ids.
    pub tokens: Vec<i64>,
    /// Probabilities; empty unless the guesses face the ratio test.
    pub laws: Vec<f64>,
}

impl Session {
    /// Reads units as `forward` does, then guesses `k` tokens for each row; all but the last guess are read, too.
    ///
    /// A token stands in its text where the session has it, so a session that drafts has read the text from its start.
    ///
    /// # Errors
    /// As `forward` and `sample`; then nothing has changed.
    pub fn draft(&mut self, tokens: &[i64], counts: Option<&[i64]>, k: usize, draws: &Draws) -> Result<Guesses> {
        let vocabulary = self.model().config().vocab_size;
        if k == 0 || k > self.capacity() {
            let expected = "at least 1 and at most the capacity";
            return Err(Error::Range { name: "k", value: k as f64, expected });
        }
        if draws.sampler.vocab_size != vocabulary {
            let given = draws.sampler.vocab_size;
            return Err(Error::Shape { name: "the sampler", unit: "tokens", given, expected: vocabulary });
        }
        self.check(tokens, counts, k - 1)?;
        let before: Vec<i64> = self.lengths().iter().map(|&length| length as i64).collect();
        let guesses = self.guess(tokens, counts, k, draws);
        if guesses.is_err() {
            self.truncate(&before)?;
        }
        guesses
    }

    fn guess(&mut self, tokens: &[i64], counts: Option<&[i64]>, k: usize, draws: &Draws) -> Result<Guesses> {
        let Draws { sampler, seeds, samples, history, stream } = *draws;
        let (rows, vocabulary) = (self.lengths().len(), sampler.vocab_size);
        let copies: Option<Vec<Mutex<History>>> =
            history.map(|history| history.iter().map(|past| copy(past)).collect());
        let copies: Option<Vec<&Mutex<History>>> = copies.as_ref().map(|copies| copies.iter().collect());
        let mut guesses = Guesses { tokens: vec![0; rows * k], laws: Vec::new() };
        let mut law = vec![0.0; if stream == CHOICE { 0 } else { rows * vocabulary }];
        guesses.laws.resize(law.len() * k, 0.0);
        let mut logits = self.forward(tokens, counts, true)?;
        for i in 0..k {
            let positions: Vec<i64> = self.lengths().iter().map(|&length| length as i64).collect();
            let (rows, history, logprobs) = (samples, copies.as_deref(), None);
            let count = positions.len();
            let batch =
                Batch { logits: &logits, count, seeds, positions: &positions, rows, history, logprobs, threads: 1 };
            if stream != CHOICE {
                process(sampler, &batch, &mut law)?;
                for (row, law) in law.chunks_exact(vocabulary).enumerate() {
                    guesses.laws[(row * k + i) * vocabulary..][..vocabulary].copy_from_slice(law);
                }
            }
            let chosen = sample(sampler, &batch, stream, true)?.tokens;
            for (row, &token) in chosen.iter().enumerate() {
                guesses.tokens[row * k + i] = token;
            }
            if i + 1 < k {
                logits = self.forward(&chosen, None, true)?;
            }
        }
        Ok(guesses)
    }
}

fn copy(past: &Mutex<History>) -> Mutex<History> {
    Mutex::new(past.lock().unwrap_or_else(PoisonError::into_inner).clone())
}
