//! A corpus that many rows look up in: documents, the automaton over them, and their file.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;

use crate::automaton::{Automaton, End};
use crate::corpus_file::{self, Contents};
use crate::error::{Error, Result};
use crate::rows::{MAX_TOKENS, check_length, check_tokens};
use crate::shared::{Read, Shared};

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
    stock: Shared<Stock>,
    memory_limit: usize,
    max_match: u32,
}

/// What the locks of a corpus guard.
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
        let stock = Shared::new(Stock::new(max_match), Stock::new(max_match));
        Ok(Self { stock, memory_limit, max_match })
    }

    /// Adds a document, and drops the oldest ones if the corpus is then larger than its limit.
    ///
    /// An automaton cannot forget, so dropping means building it anew (half a second for a million tokens). To pay that rarely,
    /// documents are dropped down to three quarters of the limit. Meanwhile rows are looked up in their own text alone.
    pub fn add(&self, tokens: &[i64]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::Empty { name: "tokens" });
        }
        check_length(0, tokens.len())?;
        let document = check_tokens(tokens)?.into_boxed_slice();
        self.check_fits(&document)?;
        self.push(document);
        Ok(())
    }

    /// The number of documents held.
    pub fn len(&self) -> usize {
        self.stock.read().documents.len()
    }

    /// Whether it holds no document.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of tokens of all documents held.
    pub fn tokens(&self) -> usize {
        self.stock.read().tokens
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.stock.read().memory()
    }

    /// Bytes that may be held.
    pub fn memory_limit(&self) -> usize {
        self.memory_limit
    }

    /// The longest context that is counted.
    pub fn max_match(&self) -> u32 {
        self.max_match
    }

    /// The corpus as the bytes of its file, with its automaton or without.
    pub fn to_bytes(&self, index: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory cannot fail.
        drop(self.encode(&mut bytes, index));
        bytes
    }

    fn encode(&self, out: impl Write, index: bool) -> io::Result<()> {
        let stock = self.stock.read();
        let automaton = index.then_some(&stock.automaton);
        corpus_file::encode(out, self.memory_limit as u64, self.max_match, &stock.documents, automaton)
    }

    /// A corpus from the bytes of its file; an automaton that is not in there is built anew.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_contents(corpus_file::decode(bytes, bytes.len() as u64)?)
    }

    fn from_contents(contents: Contents) -> Result<Self> {
        let Contents { memory_limit, max_match, documents, automaton } = contents;
        let foreign = |error: Error| Error::Corpus { reason: error.to_string() };
        let limit = i64::try_from(memory_limit).unwrap_or(-1);
        let made = Self::new(limit, i64::from(max_match)).map_err(foreign)?;
        // Of no documents there is nothing to know; what an empty corpus holds may be more than its limit.
        if let Some(automaton) = automaton.filter(|_| !documents.is_empty()) {
            let tokens = documents.iter().map(|document| document.len()).sum();
            let stock = Stock { automaton, version: 1, documents: documents.into(), tokens, max_match };
            if stock.memory() > made.memory_limit {
                return Err(foreign(Error::TooLarge {
                    name: "it",
                    unit: "bytes",
                    given: stock.memory(),
                    limit: made.memory_limit,
                }));
            }
            made.stock.write(|held| *held = stock);
            return Ok(made);
        }
        for document in documents {
            made.check_fits(&document).map_err(foreign)?;
            made.push(document);
        }
        Ok(made)
    }

    /// Writes the corpus to a temporary file beside `path` and then gives it that name, so no reader sees half of it.
    ///
    /// With its automaton (`index`) the file is sixteen times as large, and is read four times as fast.
    pub fn save(&self, path: &Path, index: bool) -> Result<()> {
        corpus_file::write(path, |file| self.encode(file, index))
    }

    /// Reads a corpus that `save` wrote.
    pub fn load(path: &Path) -> Result<Self> {
        let (file, length) = corpus_file::open(path)?;
        corpus_file::decode(file, length).and_then(Self::from_contents).map_err(|error| match error {
            Error::Corpus { reason } => corpus_file::failed(path, "read", reason),
            other => other,
        })
    }

    /// The documents and their automaton, unless they are being changed: a look-up does not wait for that.
    pub(crate) fn glance(&self) -> Option<Read<'_, Stock>> {
        self.stock.try_read()
    }

    fn push(&self, document: Box<[u32]>) {
        self.stock.write(|stock| {
            stock.push(document);
            stock.evict(self.memory_limit);
        });
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
