//! What `sample` and `verify` share: the arguments of a batch, its results, and rows over threads.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::chance::Noise;
use crate::error::{Error, Result};
use crate::history::History;
use crate::logits::Scratch;
use crate::noise::LIMIT;
use crate::sampler::Sampler;
use crate::verify::Siblings;

/// The rows of a call; every slice but `logits` has one entry a row.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Logits (rows, places, vocabulary), where `sample` has one place a row.
    pub logits: &'a [f32],
    /// How many rows there are.
    pub count: usize,
    /// The seed of each row.
    pub seeds: &'a [u64],
    /// Where in its text each row's first new token stands, in 0..2^32.
    pub positions: &'a [i64],
    /// Which sample of its prompt each row is, in 0..2^32; zeros unless given.
    pub rows: Option<&'a [i64]>,
    /// The past of each row, no two the same; empty unless given.
    pub history: Option<&'a [&'a Mutex<History>]>,
    /// How many of the most probable tokens to report besides the chosen one, or no report.
    pub logprobs: Option<usize>,
    /// Over how many threads the rows are spread.
    pub threads: usize,
}

/// What was chosen, row after row; a row has one entry for each token it emitted, or is padded to one a place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// Tokens, -1 as padding.
    pub tokens: Vec<i64>,
    /// The lead of each choice over the next best; +inf as padding.
    pub gaps: Vec<f64>,
    /// Natural-log probabilities under the raw rows, if asked for; -inf as padding.
    pub logprobs: Vec<f64>,
    /// The most probable tokens of the raw rows, if asked for; -1 as padding.
    pub top_tokens: Vec<i64>,
    /// Their log probabilities, descending; -inf as padding.
    pub top_logprobs: Vec<f64>,
    /// How many drafted tokens each row accepted.
    pub accepted: Vec<i64>,
    /// The places of the accepted tokens (rows, k), -1 as padding; none of `sample`.
    pub path: Vec<i64>,
    pub(crate) mu: Vec<Option<f64>>,
}

impl Output {
    fn append(&mut self, mut other: Self) {
        self.tokens.append(&mut other.tokens);
        self.gaps.append(&mut other.gaps);
        self.logprobs.append(&mut other.logprobs);
        self.top_tokens.append(&mut other.top_tokens);
        self.top_logprobs.append(&mut other.top_logprobs);
        self.accepted.append(&mut other.accepted);
        self.path.append(&mut other.path);
        self.mu.append(&mut other.mu);
    }

    /// Fills `places` places that a row did not reach.
    pub(crate) fn pad(&mut self, places: usize, logprobs: Option<usize>) {
        self.tokens.extend(std::iter::repeat_n(-1, places));
        self.gaps.extend(std::iter::repeat_n(f64::INFINITY, places));
        if let Some(count) = logprobs {
            self.logprobs.extend(std::iter::repeat_n(f64::NEG_INFINITY, places));
            self.top_tokens.extend(std::iter::repeat_n(-1, places * count));
            self.top_logprobs.extend(std::iter::repeat_n(f64::NEG_INFINITY, places * count));
        }
    }
}

/// Everything a thread needs to work on a row.
#[derive(Debug, Default)]
pub(crate) struct Space {
    pub scratch: Scratch,
    pub siblings: Siblings,
}

/// Spaces that no call is using: a warm call allocates nothing, whatever thread it comes from.
static SPACES: Mutex<Vec<Space>> = Mutex::new(Vec::new());

/// How many spaces are kept; one holds some 1.5 MB for a vocabulary of 128 k.
const KEPT: usize = 16;

/// Calls `work` with a space of its own. Never waits, so a lock that `fork` copied as taken does no harm.
pub(crate) fn with_space<T>(work: impl FnOnce(&mut Space) -> T) -> T {
    let mut space = SPACES.try_lock().ok().and_then(|mut spaces| spaces.pop()).unwrap_or_default();
    let result = work(&mut space);
    if let Ok(mut spaces) = SPACES.try_lock()
        && spaces.len() < KEPT
    {
        spaces.push(space);
    }
    result
}

impl Batch<'_> {
    /// Refuses sizes that do not fit each other and positions that noise cannot tell apart.
    ///
    /// # Errors
    /// A size, a position or a sample index that is off; a history given twice.
    pub(crate) fn check(&self, sampler: &Sampler, places: usize) -> Result<()> {
        let expected = self.count.checked_mul(places).and_then(|rows| rows.checked_mul(sampler.vocab_size));
        let sizes = [
            ("logits", "numbers", self.logits.len(), expected.unwrap_or(usize::MAX)),
            ("seeds", "entries", self.seeds.len(), self.count),
            ("positions", "entries", self.positions.len(), self.count),
            ("rows", "entries", self.rows.map_or(self.count, <[i64]>::len), self.count),
            ("history", "entries", self.history.map_or(self.count, <[_]>::len), self.count),
        ];
        if let Some(&(name, unit, given, expected)) = sizes.iter().find(|(_, _, given, expected)| given != expected) {
            return Err(Error::Shape { name, unit, given, expected });
        }
        for (row, &position) in self.positions.iter().enumerate() {
            if position < 0 || position > LIMIT - places as i64 {
                return Err(Error::Position { row, position });
            }
        }
        if let Some(&index) = self.rows.unwrap_or(&[]).iter().find(|index| !(0..LIMIT).contains(*index)) {
            return Err(Error::Range {
                name: "rows",
                value: index as f64,
                expected: "sample indices in 0..4294967296",
            });
        }
        if self.threads == 0 {
            return Err(Error::Range { name: "threads", value: 0.0, expected: "1 or more" });
        }
        match self.logprobs {
            Some(count) if count > sampler.vocab_size => {
                Err(Error::Range { name: "logprobs", value: count as f64, expected: "None, or at most the vocabulary" })
            }
            _ => self.check_history(),
        }
    }

    fn check_history(&self) -> Result<()> {
        // Two rows that commit to one history would mix their texts, and their locks would wait for each other.
        let mut addresses: Vec<_> =
            self.history.unwrap_or(&[]).iter().map(|history| std::ptr::from_ref(*history)).collect();
        addresses.sort_unstable();
        if addresses.windows(2).any(|pair| pair[0] == pair[1]) {
            let reason = "two rows share one history, so give each row its own";
            return Err(Error::Contradiction { first: "history", second: "history", reason });
        }
        Ok(())
    }

    /// The noise of a row.
    pub(crate) fn noise(&self, row: usize) -> Noise {
        Noise { seed: self.seeds[row], row: self.rows.map_or(0, |rows| rows[row] as u32) }
    }

    /// Calls `work` with the row's past, or with an empty one.
    pub(crate) fn with_history<T>(&self, row: usize, work: impl FnOnce(&mut History) -> T) -> T {
        match self.history {
            Some(history) => work(&mut lock(history[row])),
            None => work(&mut History::default()),
        }
    }

    /// Runs `work(row, space, output)` for every row, spread over threads; the first row that fails decides.
    ///
    /// Whoever is free takes the next row: a thread takes as long to start as a row or two take to be done.
    pub(crate) fn each(&self, work: impl Fn(usize, &mut Space, &mut Output) -> Result<()> + Sync) -> Result<Output> {
        let threads = self.threads.min(self.count);
        if threads <= 1 {
            let mut output = Output::default();
            with_space(|space| (0..self.count).try_for_each(|row| work(row, space, &mut output)))?;
            return Ok(output);
        }
        let next = AtomicUsize::new(0);
        let some = || {
            let mut done = Vec::new();
            with_space(|space| {
                let mut rows = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                while let Some(row) = rows.next().filter(|row| *row < self.count) {
                    let mut output = Output::default();
                    let result = work(row, space, &mut output);
                    done.push((row, result.map(|()| output)));
                    if done.last().is_some_and(|(_, result)| result.is_err()) {
                        break; // all rows before this one are done, or another thread's
                    }
                }
            });
            done
        };
        let mut rows: Vec<(usize, Result<Output>)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(some)).collect();
            let own = some();
            let others =
                workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
            own.into_iter().chain(others).collect()
        });
        rows.sort_unstable_by_key(|(row, _)| *row);
        let mut output = Output::default();
        for (_, row) in rows {
            output.append(row?);
        }
        Ok(output)
    }

    /// Adds what was emitted to the histories; called once every row has succeeded.
    pub(crate) fn commit(&self, output: &Output, places: usize) {
        for (row, history) in self.history.unwrap_or(&[]).iter().enumerate() {
            let mut history = lock(history);
            let emitted = &output.tokens[row * places..(row + 1) * places];
            emitted.iter().filter(|token| **token >= 0).for_each(|&token| history.push(token as u32));
            history.mu = output.mu[row].or(history.mu);
        }
    }
}

/// A panic elsewhere leaves a history whole (`Ahead`), so a poisoned lock is as good as any.
fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}
