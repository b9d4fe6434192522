//! The past of some rows, each of its own length.

use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::native::cache::Head;
use crate::native::crew::{Crew, PATIENCE};
use crate::native::forward::{Task, Unit, forward, worth};
use crate::native::model::Model;
use crate::native::pays::Pays;

/// What a model has read of some rows.
pub struct Session {
    model: Arc<Model>,
    pub(super) heads: Vec<Head>,
    pub(super) lengths: Vec<usize>,
    capacity: usize,
    /// Room for units of a tree.
    pub(super) nodes: usize,
    /// How many units the tree of each row has, until a path of it is kept.
    pub(super) tree: Option<Vec<usize>>,
    /// Blocks whose residual stream is handed out, in rising order.
    taps: Vec<usize>,
    /// What they gave in the last forward, (rows, width, taps, hidden), 0 behind a row's count.
    states: Vec<f32>,
    threads: usize,
    /// Helpers, from the first forward on that is worth them.
    crew: Option<Crew<Task>>,
    pays: Pays,
}

impl Session {
    /// An empty past for `rows` rows of at most `capacity` units each; `threads` work on a forward. Beside each row there
    /// is room for a tree of a unit and the `nodes` behind it, if there are any.
    ///
    /// # Errors
    /// No row, a capacity that is 0 or beyond the context, more nodes than that, no thread or more than 1024, or not so
    /// much memory.
    pub fn new(model: Arc<Model>, rows: usize, capacity: usize, nodes: usize, threads: usize) -> Result<Self> {
        if rows == 0 {
            return Err(Error::Empty { name: "rows" });
        }
        let context = model.config.context;
        if capacity > context {
            return Err(Error::TooLarge { name: "a row", unit: "units", given: capacity, limit: context });
        }
        if nodes > context {
            return Err(Error::TooLarge { name: "a tree", unit: "units", given: nodes, limit: context });
        }
        if capacity == 0 {
            return Err(Error::Range { name: "capacity", value: 0.0, expected: "1 or more" });
        }
        if !(1..=1024).contains(&threads) {
            return Err(Error::Range { name: "threads", value: threads as f64, expected: "a number in 1..=1024" });
        }
        let nodes = if nodes == 0 { 0 } else { nodes + 1 };
        let head = || Head::new(&model.config, model.blocks.len(), rows, capacity, nodes);
        let heads = (0..model.config.kv_heads).map(|_| head()).collect::<Result<_>>()?;
        let (lengths, pays) = (vec![0; rows], Pays::default());
        let (taps, states) = (Vec::new(), Vec::new());
        Ok(Self { model, heads, lengths, capacity, nodes, tree: None, taps, states, threads, crew: None, pays })
    }

    /// The same session, which also hands out the residual stream behind these blocks.
    ///
    /// # Errors
    /// They are not in rising order, or the model has not so many.
    pub fn tapped(mut self, taps: Vec<usize>) -> Result<Self> {
        if !taps.is_sorted_by(|one, other| one < other) || taps.last() >= Some(&self.model.blocks.len()) {
            let value = taps.last().map_or(0.0, |&layer| layer as f64);
            let expected = "rising numbers of layers, the first is 0, none beyond the model's last";
            return Err(Error::Range { name: "taps", value, expected });
        }
        self.taps = taps;
        Ok(self)
    }

    /// The blocks that are tapped.
    pub fn taps(&self) -> &[usize] {
        &self.taps
    }

    /// What they gave in the last forward, (rows, width, taps, hidden).
    pub fn states(&self) -> &[f32] {
        &self.states
    }

    /// What predicts.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Units read by each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The most units a row may have.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The width of `tokens` (rows, width), and how many of them count, row by row.
    ///
    /// # Errors
    /// As `counted`, or more units than there is room for, with `ahead` more to come.
    pub(crate) fn check(&self, tokens: &[i64], counts: Option<&[i64]>, ahead: usize) -> Result<(usize, Vec<usize>)> {
        let (width, counts) = self.counted(tokens, counts)?;
        let longest = self.lengths.iter().zip(&counts).map(|(length, count)| length + count).max().unwrap_or(0);
        self.check_room(longest.saturating_add(ahead))?;
        Ok((width, counts))
    }

    /// Refuses rows that would grow beyond the capacity.
    pub(super) fn check_room(&self, given: usize) -> Result<()> {
        if given > self.capacity {
            return Err(Error::TooLarge { name: "a row", unit: "units", given, limit: self.capacity });
        }
        Ok(())
    }

    /// The same, whatever room there is.
    ///
    /// # Errors
    /// Sizes, counts or ids that are off, or a tree that waits for one of its paths to be kept.
    pub(super) fn counted(&self, tokens: &[i64], counts: Option<&[i64]>) -> Result<(usize, Vec<usize>)> {
        if self.tree.is_some() {
            return Err(Error::Tree { reason: "a tree was read and not pruned: keep one of its paths first" });
        }
        let rows = self.lengths.len();
        let width = tokens.len() / rows;
        if tokens.is_empty() {
            return Err(Error::Empty { name: "tokens" });
        }
        if tokens.len() != width * rows {
            return Err(Error::Shape { name: "tokens", unit: "entries", given: tokens.len(), expected: width * rows });
        }
        let counts = match counts {
            None => vec![width; rows],
            Some(counts) if counts.len() != rows => {
                return Err(Error::Shape { name: "counts", unit: "entries", given: counts.len(), expected: rows });
            }
            Some(counts) => {
                if let Some(&count) = counts.iter().find(|count| !(1..=width as i64).contains(count)) {
                    let expected = "at least 1 and at most the width of the tokens";
                    return Err(Error::Range { name: "counts", value: count as f64, expected });
                }
                counts.iter().map(|&count| count as usize).collect()
            }
        };
        let vocabulary = self.model.config.vocab_size;
        for (tokens, &count) in tokens.chunks_exact(width).zip(&counts) {
            if let Some(&token) = tokens[..count].iter().find(|token| !(0..vocabulary as i64).contains(*token)) {
                return Err(Error::Token { name: "tokens", token, vocabulary });
            }
        }
        Ok((width, counts))
    }

    /// Reads units (rows, width), of which `counts` count (all unless given), and predicts what follows.
    ///
    /// Gives logits (rows, width, vocabulary), 0 behind a row's count; or with `last` (rows, 1, vocabulary), those
    /// after each row's last unit.
    ///
    /// # Errors
    /// As `check`; then nothing has changed.
    pub fn forward(&mut self, tokens: &[i64], counts: Option<&[i64]>, last: bool) -> Result<Vec<f32>> {
        let (width, counts) = self.check(tokens, counts, 0)?;
        let (mut units, mut places) = (Vec::new(), Vec::new());
        for (row, (tokens, &count)) in tokens.chunks_exact(width).zip(&counts).enumerate() {
            let length = self.lengths[row];
            let counted = tokens[..count].iter().enumerate();
            let first = units.len();
            let unit = |(i, &token): (usize, &i64)| Unit { token: token as u32, row, position: length + i, node: None };
            units.extend(counted.map(unit));
            places.extend(if last { units.len() - 1 } else { first }..units.len());
        }
        let order = 0..units.len();
        let (logits, states) = self.read(units, places);
        self.keep_states(&states, order, &counts, width);
        let logits = if last { logits } else { spread(logits, &counts, width, self.model.config.vocab_size) };
        self.lengths.iter_mut().zip(counts).for_each(|(length, count)| *length += count);
        Ok(logits)
    }

    /// Keeps what the taps gave, (taps, units, hidden as it is packed), in the `order` in which units were given.
    pub(super) fn keep_states(
        &mut self,
        states: &[f32],
        order: impl Iterator<Item = usize>,
        counts: &[usize],
        width: usize,
    ) {
        if self.taps.is_empty() {
            return;
        }
        let (packed, hidden) = (self.model.norm.len(), self.model.config.hidden_size);
        let units: usize = counts.iter().sum();
        let mut ordered = Vec::with_capacity(units * self.taps.len() * hidden);
        for unit in order {
            for tap in 0..self.taps.len() {
                ordered.extend_from_slice(&states[(tap * units + unit) * packed..][..hidden]);
            }
        }
        self.states = spread(ordered, counts, width, self.taps.len() * hidden);
    }

    /// Reads units, with helpers where they pay: the logits that follow those at `places`, and what the taps give.
    pub(super) fn read(&mut self, units: Vec<Unit>, places: Vec<usize>) -> (Vec<f32>, Vec<f32>) {
        let (count, shared) = (units.len(), self.threads > 1 && worth(&self.model, units.len()));
        let asked = shared && self.pays.choose(count);
        let start = Instant::now();
        let crew = asked.then(|| &*self.crew.get_or_insert_with(|| Crew::new(self.threads - 1, Task::run)));
        let helpers = crew.filter(|crew| crew.call(PATIENCE));
        let read = forward(&self.model, &mut self.heads, units, places, &self.taps, helpers);
        if shared {
            self.pays.note(count, asked, start.elapsed().as_secs_f64());
        }
        read
    }

    /// Forgets, row by row, everything behind these lengths.
    ///
    /// # Errors
    /// Another number of lengths than rows, or a negative one.
    pub fn truncate(&mut self, lengths: &[i64]) -> Result<()> {
        let (given, expected) = (lengths.len(), self.lengths.len());
        if given != expected {
            return Err(Error::Shape { name: "lengths", unit: "entries", given, expected });
        }
        if let Some(&length) = lengths.iter().find(|length| **length < 0) {
            return Err(Error::Range { name: "lengths", value: length as f64, expected: "0 or more" });
        }
        for (length, &most) in self.lengths.iter_mut().zip(lengths) {
            *length = (*length).min(most as usize);
        }
        Ok(())
    }

    /// Keeps these rows, in this order; a row may be named more than once.
    ///
    /// # Errors
    /// No row, or one that is not there.
    pub fn select(&mut self, rows: &[i64]) -> Result<()> {
        if self.tree.is_some() {
            return Err(Error::Tree { reason: "a tree was read and not pruned: keep one of its paths first" });
        }
        if rows.is_empty() {
            return Err(Error::Empty { name: "rows" });
        }
        let there = 0..self.lengths.len() as i64;
        if let Some(&row) = rows.iter().find(|row| !there.contains(row)) {
            return Err(Error::UnknownRow { row });
        }
        // The last time a row is named it moves, before that it is copied.
        let mut named = vec![false; self.lengths.len()];
        let name = |&row: &i64| (row as usize, std::mem::replace(&mut named[row as usize], true));
        let mut rows: Vec<(usize, bool)> = rows.iter().rev().map(name).collect();
        rows.reverse();
        self.heads.iter_mut().for_each(|head| head.select(&rows));
        let each = self.states.len() / self.lengths.len();
        self.states = rows.iter().flat_map(|&(row, _)| &self.states[row * each..][..each]).copied().collect();
        self.lengths = rows.iter().map(|&(row, _)| self.lengths[row]).collect();
        Ok(())
    }
}

/// Rows of logits of which `counts` count, each on `width` places; 0 behind.
pub(super) fn spread(logits: Vec<f32>, counts: &[usize], width: usize, vocabulary: usize) -> Vec<f32> {
    if counts.iter().all(|&count| count == width) {
        return logits;
    }
    let mut spread = vec![0.0; counts.len() * width * vocabulary];
    let mut left = &logits[..];
    for (row, &count) in spread.chunks_exact_mut(width * vocabulary).zip(counts) {
        let (own, others) = left.split_at(count * vocabulary);
        row[..own.len()].copy_from_slice(own);
        left = others;
    }
    spread
}
