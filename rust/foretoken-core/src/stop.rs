//! Stop strings in a stream of bytes, over the edges of its pieces.
//!
//! Aho & Corasick 1975, with every failure already followed: one table look-up a byte. Bytes that no string holds share a column.

use crate::error::{Error, Result};

/// The most bytes all strings may have together: a table of this many states has 257 columns at most, 64 MiB.
const MAX_BYTES: usize = 1 << 16;

/// Finds the first stop string of a stream.
#[derive(Debug)]
pub struct StopStrings {
    strings: Vec<Vec<u8>>,
    /// The column of a byte.
    column: [u16; 256],
    columns: usize,
    /// (states, columns): the state after a byte.
    next: Vec<u32>,
    /// For each state, how many bytes it remembers: the longest end of the stream that begins a string.
    depth: Vec<u32>,
    /// For each state, how many bytes the longest string that ends here has; 0 if none does.
    found: Vec<u32>,
}

/// What feeding a piece of the stream found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// To be given with the next piece.
    pub state: u32,
    /// How many bytes at the end of the stream may still be the beginning of a stop string.
    pub hold: usize,
    /// Where the first match begins, counted from the beginning of this piece: negative if in an earlier one.
    pub match_start: Option<i64>,
}

impl StopStrings {
    /// Looks for these strings, none of them empty, 65,536 bytes together at most.
    pub fn new(strings: Vec<Vec<u8>>) -> Result<Self> {
        if strings.iter().any(Vec::is_empty) {
            return Err(Error::Empty { name: "a stop string" });
        }
        let bytes = strings.iter().map(Vec::len).sum();
        if bytes > MAX_BYTES {
            return Err(Error::TooLarge { name: "the stop strings", unit: "bytes", given: bytes, limit: MAX_BYTES });
        }
        let mut column = [0; 256];
        let mut columns = 1;
        for &byte in strings.iter().flatten() {
            if column[usize::from(byte)] == 0 {
                column[usize::from(byte)] = columns as u16;
                columns += 1;
            }
        }
        let mut made =
            Self { strings: Vec::new(), column, columns, next: vec![0; columns], depth: vec![0], found: vec![0] };
        for string in &strings {
            made.plant(string);
        }
        made.follow_failures();
        made.strings = strings;
        Ok(made)
    }

    /// The strings it looks for.
    pub fn strings(&self) -> &[Vec<u8>] {
        &self.strings
    }

    /// Reads the next piece of a stream that is in `state`, 0 at its beginning.
    ///
    /// The match that counts is the one that ends first, and among those that end together the longest: so the answer does
    /// not depend on how the stream was cut. After a match the rest of the piece is not read and the state is 0.
    pub fn feed(&self, state: i64, bytes: &[u8]) -> Result<Fed> {
        let mut at = usize::try_from(state).ok().filter(|&state| state < self.depth.len()).ok_or(Error::Range {
            name: "state",
            value: state as f64,
            expected: "0 to begin, then the state that the last feed of this object returned",
        })?;
        for (place, &byte) in bytes.iter().enumerate() {
            at = self.next[at * self.columns + usize::from(self.column[usize::from(byte)])] as usize;
            if self.found[at] > 0 {
                return Ok(Fed { state: 0, hold: 0, match_start: Some(place as i64 + 1 - i64::from(self.found[at])) });
            }
        }
        Ok(Fed { state: at as u32, hold: self.depth[at] as usize, match_start: None })
    }

    /// Adds the states of a string; 0 stands for a transition that is not there yet.
    fn plant(&mut self, string: &[u8]) {
        let mut at = 0;
        for &byte in string {
            let edge = at * self.columns + usize::from(self.column[usize::from(byte)]);
            if self.next[edge] == 0 {
                self.next[edge] = self.depth.len() as u32;
                self.depth.push(self.depth[at] + 1);
                self.found.push(0);
                self.next.resize(self.depth.len() * self.columns, 0);
            }
            at = self.next[edge] as usize;
        }
        self.found[at] = string.len() as u32;
    }

    /// Fills in the transitions that no string has, breadth first: the state to fall back to is always finished before.
    fn follow_failures(&mut self) {
        let mut order: Vec<usize> = (1..self.depth.len()).collect();
        order.sort_by_key(|&state| self.depth[state]);
        let mut fall = vec![0_usize; self.depth.len()];
        for state in order {
            let back = fall[state];
            if self.found[state] == 0 {
                self.found[state] = self.found[back];
            }
            for column in 0..self.columns {
                let child = self.next[state * self.columns + column] as usize;
                let through = self.next[back * self.columns + column];
                if child == 0 {
                    self.next[state * self.columns + column] = through;
                } else {
                    fall[child] = through as usize;
                }
            }
        }
    }
}
