//! Trees of units, read in one forward, and what is kept of them.
//!
//! A row's tree is read depth first: a unit overwrites what its sibling's branch has left in the cache, so that what lies
//! before it is just the path that leads to it. No mask is needed, and its logits are those of the chain to the bit.

use crate::error::{Error, Result};
use crate::native::forward::Unit;
use crate::native::session::{Session, spread};

impl Session {
    /// Reads a tree of units (rows, width) behind each row, of which `counts` count, and predicts what follows each.
    ///
    /// `parents` (rows, width) are places in the same row, each before its child, or -1 where a unit follows the text.
    /// Gives logits (rows, width, vocabulary), 0 behind a row's count. Lengths stay until `keep` says what is kept.
    ///
    /// # Errors
    /// As `forward`, a parent that does not come before its child, or more units than there is room for; then nothing
    /// has changed.
    pub fn forward_tree(&mut self, tokens: &[i64], parents: &[i64], counts: Option<&[i64]>) -> Result<Vec<f32>> {
        let (width, counts) = self.counted(tokens, counts)?;
        if parents.len() != tokens.len() {
            let (given, expected) = (parents.len(), tokens.len());
            return Err(Error::Shape { name: "parents", unit: "entries", given, expected });
        }
        let most = counts.iter().copied().max().unwrap_or(0);
        if most > self.nodes {
            return Err(Error::TooLarge { name: "a tree", unit: "units", given: most, limit: self.nodes });
        }
        let wrong = |(index, parent): &(usize, &i64)| !(-1..(index % width) as i64).contains(*parent);
        if let Some((_, &parent)) = parents.iter().enumerate().find(wrong) {
            let expected = "a place before the unit's own, or -1";
            return Err(Error::Range { name: "parents", value: parent as f64, expected });
        }
        let (mut units, mut places, mut longest) = (Vec::new(), Vec::new(), 0);
        for (row, &count) in counts.iter().enumerate() {
            let (tokens, parents) = (&tokens[row * width..][..count], &parents[row * width..][..count]);
            let first = places.len();
            places.resize(first + count, 0);
            for (place, depth) in depth_first(parents) {
                places[first + place] = units.len();
                let position = self.lengths[row] + depth;
                longest = longest.max(position + 1);
                units.push(Unit { token: tokens[place] as u32, row, position, node: Some(place) });
            }
        }
        self.check_room(longest)?;
        let (logits, states) = self.read(units, places.clone());
        self.keep_states(&states, places.into_iter(), &counts, width);
        let logits = spread(logits, &counts, width, self.model().config().vocab_size);
        self.tree = Some(counts);
        Ok(logits)
    }

    /// Keeps one path of each row's tree: of `path` (rows, n), places in the tree, the first `counts` count.
    ///
    /// # Errors
    /// There is no tree, a size is off, or a place is not in it; then nothing has changed.
    pub fn keep(&mut self, path: &[i64], counts: &[i64]) -> Result<()> {
        let Some(tree) = &self.tree else {
            return Err(Error::Tree { reason: "there is no tree to keep a path of: keep follows forward_tree" });
        };
        let (rows, width) = (self.lengths.len(), path.len() / self.lengths.len());
        for (name, given, expected) in [("path", path.len(), width * rows), ("counts", counts.len(), rows)] {
            if given != expected {
                return Err(Error::Shape { name, unit: "entries", given, expected });
            }
        }
        for (row, (&count, &units)) in counts.iter().zip(tree).enumerate() {
            if !(0..=width as i64).contains(&count) || self.lengths[row] + count as usize > self.capacity() {
                let expected = "at most the length of a path, and what there is room for";
                return Err(Error::Range { name: "counts", value: count as f64, expected });
            }
            let own = &path[row * width..][..count as usize];
            if let Some(&place) = own.iter().find(|place| !(0..units as i64).contains(*place)) {
                let expected = "places of units in the row's tree";
                return Err(Error::Range { name: "path", value: place as f64, expected });
            }
        }
        let stride = self.model().config().stride();
        for slots in self.heads.iter_mut().flat_map(|head| &mut head.layers) {
            for (row, slot) in slots.iter_mut().enumerate() {
                let own = &path[row * width..][..counts[row] as usize];
                for (depth, &place) in own.iter().enumerate() {
                    slot.recall(place as usize, self.lengths[row] + depth, stride);
                }
            }
        }
        self.lengths.iter_mut().zip(counts).for_each(|(length, &count)| *length += count as usize);
        self.tree = None;
        Ok(())
    }
}

/// The places of a tree with their depths, each followed by all that it leads to.
fn depth_first(parents: &[i64]) -> impl Iterator<Item = (usize, usize)> {
    let mut children = vec![Vec::new(); parents.len() + 1];
    for (place, &parent) in parents.iter().enumerate().rev() {
        children[(parent + 1) as usize].push(place);
    }
    let mut open: Vec<(usize, usize)> = children[0].iter().map(|&place| (place, 0)).collect();
    std::iter::from_fn(move || {
        let (place, depth) = open.pop()?;
        open.extend(children[place + 1].iter().map(|&child| (child, depth + 1)));
        Some((place, depth))
    })
}
