//! One row's past: its prompt and what was drawn, with the counts that penalties need.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

/// How often one token occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The token.
    pub token: u32,
    /// Occurrences in prompt and output; 0 once a drafted token has been taken back.
    pub total: u32,
    /// Occurrences in the output.
    pub output: u32,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    entries: Vec<Count>,
    index: HashMap<u32, usize>,
}

impl Counts {
    fn of(&mut self, token: u32) -> &mut Count {
        let next = self.entries.len();
        let place = *self.index.entry(token).or_insert(next);
        if place == next {
            self.entries.push(Count { token, total: 0, output: 0 });
        }
        &mut self.entries[place]
    }
}

/// The tokens of one row so far.
#[derive(Debug, Clone, Default)]
pub struct History {
    tokens: Vec<u32>,
    prompt_length: usize,
    counts: Option<Counts>,
    /// Mirostat's bound on surprise, in bits; none until a token was drawn under Mirostat.
    pub mu: Option<f64>,
}

impl History {
    /// A row that has seen its prompt and drawn nothing.
    pub fn new(prompt: Vec<u32>) -> Self {
        Self { prompt_length: prompt.len(), tokens: prompt, counts: None, mu: None }
    }

    /// Prompt and output.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many tokens came from the user.
    pub fn prompt_length(&self) -> usize {
        self.prompt_length
    }

    /// The tokens after the prompt.
    pub fn output(&self) -> &[u32] {
        &self.tokens[self.prompt_length..]
    }

    /// Adds a token to the output.
    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
        if let Some(counts) = &mut self.counts {
            let count = counts.of(token);
            count.total += 1;
            count.output += 1;
        }
    }

    /// Takes back the last tokens of the output, down to `length` tokens in all.
    fn truncate(&mut self, length: usize) {
        while self.tokens.len() > length.max(self.prompt_length) {
            if let (Some(token), Some(counts)) = (self.tokens.pop(), &mut self.counts) {
                let count = counts.of(token);
                count.total -= 1;
                count.output -= 1;
            }
        }
    }

    /// How often each token occurs, in order of first occurrence; counted on first use, kept up from then on.
    pub fn counts(&mut self) -> &[Count] {
        let Self { tokens, prompt_length, counts, .. } = self;
        let counts = counts.get_or_insert_with(|| {
            let mut fresh = Counts::default();
            for (place, &token) in tokens.iter().enumerate() {
                let count = fresh.of(token);
                count.total += 1;
                count.output += u32::from(place >= *prompt_length);
            }
            fresh
        });
        &counts.entries
    }
}

/// A history that forgets, when dropped, what was added to it: a block under verification pushes onto this.
///
/// Dropping also happens when a panic unwinds, so a caught bug leaves no half-done row.
pub struct Ahead<'a> {
    history: &'a mut History,
    before: (usize, Option<f64>),
}

impl<'a> Ahead<'a> {
    /// Remembers where the history stands.
    pub fn new(history: &'a mut History) -> Self {
        Self { before: (history.tokens.len(), history.mu), history }
    }

    /// Takes back all but the first `count` tokens that were added, and sets Mirostat's bound of then.
    pub(crate) fn rewind(&mut self, count: usize, mu: Option<f64>) {
        let length = self.before.0 + count;
        self.history.truncate(length);
        self.history.mu = mu;
    }
}

impl Deref for Ahead<'_> {
    type Target = History;
    fn deref(&self) -> &History {
        self.history
    }
}

impl DerefMut for Ahead<'_> {
    fn deref_mut(&mut self) -> &mut History {
        self.history
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        let (length, mu) = self.before;
        self.history.truncate(length);
        self.history.mu = mu;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_kept_up_are_counts_made_new(
            prompt in proptest::collection::vec(0u32..6, 0..8),
            output in proptest::collection::vec(0u32..6, 0..8),
            ahead in proptest::collection::vec(0u32..9, 0..8),
        ) {
            let mut kept = History::new(prompt.clone());
            let _ = kept.counts();
            for &token in &output {
                kept.push(token);
            }
            {
                let mut block = Ahead::new(&mut kept);
                for &token in &ahead {
                    block.push(token);
                }
                block.mu = Some(1.0);
            }
            prop_assert_eq!(kept.output(), &output[..]);
            prop_assert_eq!(kept.mu, None);
            for count in kept.counts() {
                let of = |tokens: &[u32]| tokens.iter().filter(|&&token| token == count.token).count() as u32;
                prop_assert_eq!(count.output, of(&output));
                prop_assert_eq!(count.total, of(&output) + of(&prompt));
            }
        }
    }
}
