//! The best tree: a frontier of what may be added next, the best first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::{Lattice, Line, check_size, count};
use crate::error::Result;

/// The best tree of each row, its nodes in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    /// Tokens (rows, nodes), -1 as padding.
    pub tokens: Vec<i64>,
    /// For each node (rows, nodes) the place of its parent, which comes before it; -1 at the first position and as padding.
    pub parents: Vec<i64>,
    /// The scores of the chains that end there (rows, nodes), -inf as padding.
    pub scores: Vec<f64>,
    /// How many nodes each row has: fewer than asked for if there are no more.
    pub counts: Vec<i64>,
}

/// A tree of at most `nodes` nodes of each row, best first: what is added next is, of all that could be, what has the highest
/// score from the first position on (as in EAGLE-2, 2406.16858).
///
/// Among equals the one whose parent was found first comes first, then the lower candidate. Where no step's score is above
/// zero, no other tree of that size has a higher sum of scores.
pub fn tree(lattice: &Lattice, nodes: i64) -> Result<Tree> {
    let nodes = count("nodes", nodes, 0)?;
    lattice.check()?;
    let [rows, _, candidates] = lattice.shape;
    check_size("the trees", &[rows, nodes.max(1)])?;
    check_size("what may be added to a tree", &[nodes, candidates])?;
    let mut out = Tree {
        tokens: vec![-1; rows * nodes],
        parents: vec![-1; rows * nodes],
        scores: vec![f64::NEG_INFINITY; rows * nodes],
        counts: vec![0; rows],
    };
    let (mut frontier, mut buffer) = (BinaryHeap::new(), Vec::new());
    for row in 0..rows {
        let line = lattice.row(row, &mut buffer)?;
        frontier.clear();
        if nodes > 0 && line.length > 0 {
            extend(&mut frontier, &line, None);
        }
        let mut found = 0;
        while found < nodes {
            let Some(node) = frontier.pop() else { break };
            let place = row * nodes + found;
            out.tokens[place] = line.ids[node.position * candidates + node.candidate];
            out.parents[place] = node.parent;
            out.scores[place] = node.score;
            if found + 1 < nodes && node.position + 1 < line.length {
                extend(&mut frontier, &line, Some((found, node)));
            }
            found += 1;
        }
        out.counts[row] = found as i64;
    }
    Ok(out)
}

/// Adds what may follow a node, or what may come first.
fn extend(frontier: &mut BinaryHeap<Node>, line: &Line, before: Option<(usize, Node)>) {
    let (parent, position, score, after) = match before {
        Some((place, node)) => (place as i64, node.position + 1, node.score, line.after(node.position, node.candidate)),
        None => (-1, 0, 0.0, None),
    };
    for (candidate, &own) in line.own(position).iter().enumerate() {
        let score = score + after.map_or(0.0, |after| f64::from(after[candidate])) + f64::from(own);
        if score > f64::NEG_INFINITY {
            frontier.push(Node { score, parent, position, candidate });
        }
    }
}

/// What may be added; the highest score is the greatest, among equals the earliest parent and then the lowest candidate.
#[derive(Debug, Clone, Copy)]
struct Node {
    score: f64,
    parent: i64,
    position: usize,
    candidate: usize,
}

impl Ord for Node {
    fn cmp(&self, other: &Self) -> Ordering {
        // Scores are never NaN; -0 and 0 are equal, which `total_cmp` would deny.
        let order = self.score.partial_cmp(&other.score).unwrap_or(Ordering::Equal);
        order.then_with(|| (other.parent, other.candidate).cmp(&(self.parent, self.candidate)))
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Node {}
