//! Prompt look-up: the last few tokens, where they stood before, and what came after.
//!
//! Saxena 2023, "Prompt Lookup Decoding". For every n an open-addressed table of `u32` knows the newest place of each n-gram;
//! the n-grams themselves are read from the text, so a table costs at most 11 bytes a token.

use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, Result};
use crate::rows::{Rows, check_draft, check_length, check_tokens};

/// The longest n-gram that may be asked for.
const MAX_N: usize = 64;

/// Guesses what followed the newest earlier occurrence of the longest n-gram at the end of a row.
#[derive(Debug)]
pub struct NGram {
    rows: Rows<Row>,
    min_n: usize,
    max_n: usize,
    /// Differs from object to object: which n-grams collide is nobody's to choose. Results do not depend on it.
    key: u64,
}

impl NGram {
    /// Looks for n-grams of `max_n` tokens, then of fewer, down to `min_n`; both in 1..=64.
    pub fn new(max_n: i64, min_n: i64) -> Result<Self> {
        let size = |name, value: i64| match usize::try_from(value) {
            Ok(n) if (1..=MAX_N).contains(&n) => Ok(n),
            _ => Err(Error::Range { name, value: value as f64, expected: "a number of tokens in 1..=64" }),
        };
        let (max_n, min_n) = (size("max_n", max_n)?, size("min_n", min_n)?);
        if min_n > max_n {
            return Err(Error::Contradiction {
                first: "min_n",
                second: "max_n",
                reason: "the shortest n-gram is longer than the longest, give min_n <= max_n",
            });
        }
        Ok(Self { rows: Rows::new(), min_n, max_n, key: RandomState::new().hash_one(0) })
    }

    /// The longest and the shortest n-gram it looks for.
    pub fn sizes(&self) -> (usize, usize) {
        (self.max_n, self.min_n)
    }

    /// Begins a row with a prompt, which may be empty.
    pub fn start(&self, row: i64, prompt: &[i64]) -> Result<()> {
        self.rows.start(row, || {
            let mut made = Row { tokens: Vec::new(), tables: vec![Table::default(); self.max_n - self.min_n + 1] };
            self.append(&mut made, prompt)?;
            Ok(made)
        })
    }

    /// Continues a row; either all the tokens are taken or none.
    pub fn extend(&self, row: i64, tokens: &[i64]) -> Result<()> {
        self.rows.with(row, |held| self.append(held, tokens))
    }

    /// Tokens that may come next: `k`, or none if no n-gram was seen before; and the length of the n-gram that was.
    ///
    /// A copy that reaches the end of the row goes on with the tokens it has just proposed, so that a loop goes on looping.
    pub fn propose(&self, row: i64, k: i64) -> Result<(Vec<i64>, usize)> {
        let k = check_draft(k)?;
        self.rows.with(row, |held| {
            let tokens = &held.tokens;
            let hashes = self.hashes(tokens);
            let longest = self.max_n.min(tokens.len().saturating_sub(1));
            let found = (self.min_n..=longest)
                .rev()
                .find_map(|n| Some((held.tables[n - self.min_n].find(tokens, tokens.len(), n, hashes[n])?, n)));
            let Some((place, matched)) = found else {
                return Ok((Vec::new(), 0));
            };
            let mut draft = Vec::with_capacity(k);
            for from in place..place + k {
                draft.push(match tokens.get(from) {
                    Some(&token) => i64::from(token),
                    None => draft[from - tokens.len()],
                });
            }
            Ok((draft, matched))
        })
    }

    /// Forgets a row.
    pub fn stop(&self, row: i64) -> Result<()> {
        self.rows.stop(row)
    }

    /// The tokens of every row, by rising number: all that is needed to build the same again.
    pub fn texts(&self) -> Vec<(i64, Vec<i64>)> {
        self.rows.collect(|held| held.tokens.iter().map(|&token| i64::from(token)).collect())
    }

    fn append(&self, row: &mut Row, tokens: &[i64]) -> Result<()> {
        check_length(row.tokens.len(), tokens.len())?;
        for token in check_tokens(tokens)? {
            // An n-gram enters its table when it is known what follows it: the end of a row never finds itself.
            let hashes = self.hashes(&row.tokens);
            for n in self.min_n..=self.max_n.min(row.tokens.len()) {
                let rehash = |tokens: &[u32], end| self.hash(&tokens[end - n..end]);
                row.tables[n - self.min_n].put(&row.tokens, row.tokens.len(), n, hashes[n], rehash);
            }
            row.tokens.push(token);
        }
        Ok(())
    }

    /// The hashes of the last n tokens, by n; 0 for an n that is longer than the text or than `max_n`.
    fn hashes(&self, tokens: &[u32]) -> [u64; MAX_N + 1] {
        let mut hashes = [0; MAX_N + 1];
        let mut hash = self.key;
        for (place, &token) in tokens.iter().rev().take(self.max_n).enumerate() {
            hash = mix(hash, token);
            hashes[place + 1] = hash;
        }
        hashes
    }

    fn hash(&self, gram: &[u32]) -> u64 {
        gram.iter().rev().fold(self.key, |hash, &token| mix(hash, token))
    }
}

#[derive(Debug)]
struct Row {
    tokens: Vec<u32>,
    /// One for each n from `min_n` up.
    tables: Vec<Table>,
}

/// The newest place after each n-gram, found by the n-gram before it; 0 is an empty slot.
#[derive(Debug, Clone, Default)]
struct Table {
    slots: Vec<u32>,
    used: usize,
}

impl Table {
    /// The place after the newest n-gram equal to the one that ends at `end`.
    fn find(&self, tokens: &[u32], end: usize, n: usize, hash: u64) -> Option<usize> {
        let slot = self.probe(tokens, end, n, hash)?;
        Some(self.slots[slot] as usize).filter(|&place| place != 0)
    }

    /// Notes that an n-gram ends at `end`.
    fn put(&mut self, tokens: &[u32], end: usize, n: usize, hash: u64, rehash: impl Fn(&[u32], usize) -> u64) {
        if self.used * 4 >= self.slots.len() * 3 {
            let grown = vec![0; (self.slots.len() * 2).max(8)];
            for place in std::mem::replace(&mut self.slots, grown) {
                if place != 0 {
                    let place = place as usize;
                    if let Some(slot) = self.probe(tokens, place, n, rehash(tokens, place)) {
                        self.slots[slot] = place as u32;
                    }
                }
            }
        }
        if let Some(slot) = self.probe(tokens, end, n, hash) {
            self.used += usize::from(self.slots[slot] == 0);
            self.slots[slot] = end as u32;
        }
    }

    /// The slot of the n-gram that ends at `end`, or the empty one where it would go; none in a table without slots.
    fn probe(&self, tokens: &[u32], end: usize, n: usize, hash: u64) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let gram = &tokens[end - n..end];
        let mut slot = (hash >> (64 - self.slots.len().ilog2())) as usize;
        loop {
            let place = self.slots[slot] as usize;
            if place == 0 || tokens[place - n..place] == *gram {
                return Some(slot);
            }
            slot = (slot + 1) & mask;
        }
    }
}

fn mix(hash: u64, token: u32) -> u64 {
    let product = u128::from(hash ^ u64::from(token)) * 0x9E37_79B9_7F4A_7C15;
    (product >> 64) as u64 ^ product as u64
}
