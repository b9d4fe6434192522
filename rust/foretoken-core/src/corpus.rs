//! A corpus that many rows look up in: documents, the automaton over them, and their file.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::automaton::{Automaton, End};
use crate::corpus_file::{self, Contents};
use crate::error::{Error, Result};
use crate::rows::{MAX_TOKENS, check_length, check_tokens};

/// No text needs less: one state and one token of text for each token.
const LEAST_BYTES: usize = 36;
/// No text needs more a token: two states with an eighth of room to grow (72), transitions (at most two in a block, the block
/// at most 2.7 times too large, as much again given up and not yet used again: 96), the text itself (4).
const MOST_BYTES: usize = 256;

/// What an allocator adds to a small block: its header, and rounding up.
const ALLOCATION: usize = 32;

/// Documents in one automaton, the oldest leaving when the memory is used up.
#[derive(Debug)]
pub struct Corpus {
    stock: RwLock<Stock>,
    memory_limit: usize,
    max_match: u32,
}

/// What the lock of a corpus guards.
#[derive(Debug)]
pub(crate) struct Stock {
    pub automaton: Automaton,
    /// Changes whenever the automaton does: states remembered from another version mean nothing.
    pub version: u64,
    documents: VecDeque<Box<[u32]>>,
    tokens: usize,
    max_match: u32,
}

impl Corpus {
    /// An empty corpus of at most `memory_limit` bytes whose contexts are counted up to `max_match` tokens (1..=1024).
    pub fn new(memory_limit: i64, max_match: i64) -> Result<Self> {
        let max_match = check_match("max_match", max_match)?;
        let memory_limit = usize::try_from(memory_limit).ok().filter(|&bytes| bytes > 0).ok_or(Error::Range {
            name: "memory_limit_bytes",
            value: memory_limit as f64,
            expected: "a positive number of bytes",
        })?;
        Ok(Self { stock: RwLock::new(Stock::new(max_match)), memory_limit, max_match })
    }

    /// Adds a document, and drops the oldest ones if the corpus is then larger than its limit.
    ///
    /// An automaton cannot forget, so dropping means building it anew, during which rows that look up wait (half a second
    /// for a million tokens). To pay that rarely, documents are dropped down to three quarters of the limit.
    pub fn add(&self, tokens: &[i64]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::Empty { name: "tokens" });
        }
        check_length(0, tokens.len())?;
        let document = check_tokens(tokens)?.into_boxed_slice();
        self.check_fits(&document)?;
        let mut stock = self.write();
        stock.push(document);
        stock.evict(self.memory_limit);
        Ok(())
    }

    /// The number of documents held.
    pub fn len(&self) -> usize {
        self.read().documents.len()
    }

    /// Whether it holds no document.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of tokens of all documents held.
    pub fn tokens(&self) -> usize {
        self.read().tokens
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.read().memory()
    }

    /// Bytes that may be held.
    pub fn memory_limit(&self) -> usize {
        self.memory_limit
    }

    /// The longest context that is counted.
    pub fn max_match(&self) -> u32 {
        self.max_match
    }

    /// The corpus as the bytes of its file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let stock = self.read();
        corpus_file::encode(self.memory_limit as u64, self.max_match, stock.tokens, &stock.documents)
    }

    /// A corpus from the bytes of its file; the automaton is built anew.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let Contents { memory_limit, max_match, documents } = corpus_file::decode(bytes)?;
        let foreign = |error: Error| Error::Corpus { reason: error.to_string() };
        let limit = i64::try_from(memory_limit).unwrap_or(-1);
        let made = Self::new(limit, i64::from(max_match)).map_err(foreign)?;
        for document in documents {
            made.check_fits(&document).map_err(foreign)?;
            let mut stock = made.write();
            stock.push(document);
            stock.evict(made.memory_limit);
        }
        Ok(made)
    }

    /// Writes the corpus to a temporary file beside `path` and then gives it that name, so no reader sees half of it.
    pub fn save(&self, path: &Path) -> Result<()> {
        corpus_file::write(path, &self.to_bytes())
    }

    /// Reads a corpus that `save` wrote.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_bytes(&corpus_file::read(path)?).map_err(|error| match error {
            Error::Corpus { reason } => corpus_file::failed(path, "read", reason),
            other => other,
        })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Stock> {
        self.stock.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Stock> {
        self.stock.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses, before anything is dropped for it, a document that does not fit even alone.
    fn check_fits(&self, document: &[u32]) -> Result<()> {
        let least = document.len() * LEAST_BYTES;
        let needed = if least > self.memory_limit || document.len() * MOST_BYTES <= self.memory_limit {
            least
        } else {
            let mut alone = Stock::new(self.max_match);
            alone.push(document.into());
            alone.memory()
        };
        if needed > self.memory_limit {
            return Err(Error::Memory { tokens: document.len(), needed, limit: self.memory_limit });
        }
        Ok(())
    }
}

impl Stock {
    fn new(max_match: u32) -> Self {
        Self { automaton: Automaton::new(max_match), version: 0, documents: VecDeque::new(), tokens: 0, max_match }
    }

    fn push(&mut self, document: Box<[u32]>) {
        self.index(&document);
        self.tokens += document.len();
        self.documents.push_back(document);
        self.version += 1;
    }

    fn index(&mut self, document: &[u32]) {
        let mut end = End::default();
        for &token in document {
            self.automaton.append(&mut end, token);
        }
    }

    fn memory(&self) -> usize {
        let list = self.documents.capacity() * size_of::<Box<[u32]>>() + self.documents.len() * ALLOCATION;
        self.automaton.memory() + list + self.tokens * size_of::<u32>()
    }

    fn evict(&mut self, limit: usize) {
        while (self.memory() > limit || self.tokens > MAX_TOKENS) && self.documents.len() > 1 {
            let share = (limit as f64 * 0.75 / self.memory() as f64).min(0.75);
            let keep = (self.tokens as f64 * share) as usize;
            let mut kept = self.tokens;
            while kept > keep && self.documents.len() > 1 {
                kept -= self.documents.pop_front().map_or(0, |document| document.len());
            }
            self.automaton = Automaton::new(self.max_match);
            self.tokens = kept;
            self.version += 1;
            for document in std::mem::take(&mut self.documents) {
                self.index(&document);
                self.documents.push_back(document);
            }
        }
    }
}

/// A length of a match as a `u32`.
pub(crate) fn check_match(name: &'static str, value: i64) -> Result<u32> {
    match u32::try_from(value) {
        Ok(length) if (1..=1024).contains(&length) => Ok(length),
        _ => Err(Error::Range { name, value: value as f64, expected: "a number of tokens in 1..=1024" }),
    }
}
