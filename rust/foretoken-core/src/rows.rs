//! The rows of a drafter: texts known by a number, each behind its own lock.

use std::collections::HashMap;
use std::sync::PoisonError;

use crate::error::{Error, Result};
use crate::sync::{Arc, Mutex, MutexGuard, RwLock};

/// The most tokens one draft may have.
pub const MAX_DRAFT: usize = 1 << 16;
/// The most tokens one text may have; an automaton needs up to two states a token, and their numbers are `u32`.
pub const MAX_TOKENS: usize = 1 << 30;

/// Texts by number, usable from several threads: rows never wait for each other's work.
#[derive(Debug)]
pub(crate) struct Rows<T> {
    rows: RwLock<HashMap<i64, Arc<Mutex<T>>>>,
}

impl<T> Rows<T> {
    pub fn new() -> Self {
        Self { rows: RwLock::new(HashMap::new()) }
    }

    /// Adds a row made by `build`, which runs only if the number is free.
    pub fn start(&self, row: i64, build: impl FnOnce() -> Result<T>) -> Result<()> {
        let started =
            |rows: &HashMap<_, _>| if rows.contains_key(&row) { Err(Error::RowStarted { row }) } else { Ok(()) };
        // Built outside the lock: a long prompt must not hold up the other rows.
        started(&self.rows.read().unwrap_or_else(PoisonError::into_inner))?;
        let text = Arc::new(Mutex::new(build()?));
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        started(&rows)?;
        rows.insert(row, text);
        Ok(())
    }

    /// Calls `work` on a row.
    pub fn with<R>(&self, row: i64, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let found = self
            .rows
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&row)
            .cloned()
            .ok_or(Error::UnknownRow { row })?;
        work(&mut lock(&found))
    }

    /// Removes a row.
    pub fn stop(&self, row: i64) -> Result<()> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.remove(&row).map(drop).ok_or(Error::UnknownRow { row })
    }

    /// What `read` sees of every row, by rising number.
    pub fn collect<R>(&self, read: impl Fn(&T) -> R) -> Vec<(i64, R)> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<(i64, R)> = rows.iter().map(|(&row, held)| (row, read(&lock(held)))).collect();
        all.sort_by_key(|&(row, _)| row);
        all
    }
}

/// The lock of a row. A row is poisoned only by a panic, which the border has already reported as our bug.
fn lock<T>(row: &Mutex<T>) -> MutexGuard<'_, T> {
    row.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ids as `u32`, all checked before anything changes.
pub(crate) fn check_tokens(tokens: &[i64]) -> Result<Vec<u32>> {
    let id = |(place, &token): (usize, &i64)| match u32::try_from(token) {
        Ok(id) if id < 1 << 31 => Ok(id),
        _ => Err(Error::TokenId { place, token }),
    };
    tokens.iter().enumerate().map(id).collect()
}

/// The length of a draft as a `usize`.
pub(crate) fn check_draft(k: i64) -> Result<usize> {
    match usize::try_from(k) {
        Ok(length) if length <= MAX_DRAFT => Ok(length),
        _ => Err(Error::Range { name: "k", value: k as f64, expected: "a number of tokens in 0..=65536" }),
    }
}

/// Refuses drafts of many rows that together would be larger than a call may return.
pub(crate) fn check_drafts(rows: usize, k: usize) -> Result<()> {
    let (given, limit) = (rows.saturating_mul(k), 1 << 26);
    if given > limit {
        return Err(Error::TooLarge { name: "the drafts of all rows", unit: "tokens", given, limit });
    }
    Ok(())
}

/// Refuses a text that would become longer than the index can number.
pub(crate) fn check_length(have: usize, more: usize) -> Result<()> {
    match have.checked_add(more) {
        Some(length) if length <= MAX_TOKENS => Ok(()),
        _ => {
            Err(Error::TooLarge { name: "a text", unit: "tokens", given: have.saturating_add(more), limit: MAX_TOKENS })
        }
    }
}
