//! Keys and values that were read, laid out as panels, so that attention is two products.

use crate::error::{Error, Result};
use crate::native::config::Config;
use crate::native::matrix::{Dtype, LANES, Line};
use crate::native::pointwise::soften;
use crate::native::product::{Panels, product};

/// What one key-value head of one block keeps of one row.
///
/// Keys are panels of 16 positions, so that scores come 16 at a time; values are panels of 16 of a head's numbers,
/// each with a line for every position. What lies behind a row's length is never looked at.
///
/// Of a tree only one path at a time lies in the cache; what every node has written is kept beside it.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    keys: Vec<Line>,
    values: Vec<Line>,
    capacity: usize,
    /// The key and the value of each node of a tree.
    nodes: Vec<f32>,
}

impl Slot {
    /// Room for `capacity` positions, and beside them for the `nodes` of a tree.
    ///
    /// # Errors
    /// There is not so much memory.
    pub fn new(config: &Config, capacity: usize, nodes: usize) -> Result<Self> {
        let capacity = capacity.next_multiple_of(LANES);
        let room = || {
            let lines = capacity / LANES * config.stride();
            let mut memory = Vec::new();
            let refused = |_| Error::Allocation { bytes: lines * size_of::<Line>() };
            memory.try_reserve_exact(lines).map_err(refused)?;
            memory.resize(lines, Line::default());
            Ok(memory)
        };
        Ok(Self { keys: room()?, values: room()?, capacity, nodes: vec![0.0; nodes * 2 * config.stride()] })
    }

    /// Keeps a key and a value, as wide as a head inside.
    pub fn write(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let panel = &mut self.keys[position / LANES * key.len()..][..key.len()];
        for (line, number) in panel.iter_mut().zip(key) {
            line.0[position % LANES] = number.to_bits();
        }
        for (panel, numbers) in value.as_chunks::<LANES>().0.iter().enumerate() {
            self.values[panel * self.capacity + position].0 = numbers.map(f32::to_bits);
        }
    }

    /// Remembers what a node of a tree has written.
    pub fn remember(&mut self, node: usize, key: &[f32], value: &[f32]) {
        let (own_key, own_value) = self.nodes[node * 2 * key.len()..][..2 * key.len()].split_at_mut(key.len());
        own_key.copy_from_slice(key);
        own_value.copy_from_slice(value);
    }

    /// Writes what a node has written, again.
    pub fn recall(&mut self, node: usize, position: usize, stride: usize) {
        let nodes = std::mem::take(&mut self.nodes);
        let (key, value) = nodes[node * 2 * stride..][..2 * stride].split_at(stride);
        self.write(position, key, value);
        self.nodes = nodes;
    }

    /// Writes what queries (heads, stride), scaled already, see of the first `length` positions: (heads, stride).
    pub fn attend(&self, queries: &[f32], stride: usize, length: usize, scores: &mut Vec<f32>, out: &mut [f32]) {
        let (heads, pitch) = (queries.len() / stride, length.next_multiple_of(LANES));
        scores.resize(heads * pitch, 0.0);
        let keys = Panels { lines: &self.keys, stride, depth: stride };
        product(Dtype::Float32, keys, heads, (queries, stride), (scores, pitch));
        let values = Panels { lines: &self.values, stride: self.capacity, depth: length };
        scores.chunks_exact_mut(pitch).for_each(|scores| soften(scores, length));
        product(Dtype::Float32, values, heads, (scores, pitch), (out, stride));
    }
}

/// One key-value head: for each block, a slot for each row.
#[derive(Debug)]
pub(crate) struct Head {
    pub layers: Vec<Vec<Slot>>,
}

impl Head {
    /// Room for rows, as in `Slot::new`.
    pub fn new(config: &Config, layers: usize, rows: usize, capacity: usize, nodes: usize) -> Result<Self> {
        let rows = || (0..rows).map(|_| Slot::new(config, capacity, nodes)).collect();
        Ok(Self { layers: (0..layers).map(|_| rows()).collect::<Result<_>>()? })
    }

    /// Keeps these rows, in this order; with each comes whether it is named again later.
    pub fn select(&mut self, rows: &[(usize, bool)]) {
        for slots in &mut self.layers {
            let mut old: Vec<Option<Slot>> = std::mem::take(slots).into_iter().map(Some).collect();
            slots
                .extend(rows.iter().filter_map(|&(row, again)| if again { old[row].clone() } else { old[row].take() }));
        }
    }
}
