//! The best chains: Viterbi's algorithm, and its list of the n best.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::{Lattice, Line, check_size, count};
use crate::error::Result;

/// The best chains of each row, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chains {
    /// Tokens (rows, n, positions), -1 as padding.
    pub tokens: Vec<i64>,
    /// Scores (rows, n), -inf where there is no such chain.
    pub scores: Vec<f64>,
}

/// The `n` best chains of each row, exactly (Viterbi 1967; lists of the n best, Seshadri & Sundberg 1994).
///
/// Among equals the chain with the lower candidate comes first, at the first position where they differ. A chain with a score of
/// -inf is none; a row without positions has the empty chain.
pub fn chains(lattice: &Lattice, n: i64) -> Result<Chains> {
    let n = count("n", n, 1)?;
    lattice.check()?;
    let [rows, positions, candidates] = lattice.shape;
    check_size("the lists of the best chains", &[positions, candidates, n])?;
    check_size("the chains", &[rows, positions.max(1), n])?;
    let mut tokens = vec![-1; rows * n * positions];
    let mut scores = vec![f64::NEG_INFINITY; rows * n];
    let (mut lists, mut buffer) = (Lists::default(), Vec::new());
    for row in 0..rows {
        let line = lattice.row(row, &mut buffer)?;
        lists.fill(&line, n);
        for rank in 0..lists.list(line.length * candidates).len() {
            let place = row * n + rank;
            let mut step = lists.list(line.length * candidates)[rank];
            scores[place] = step.score;
            for (position, token) in tokens[place * positions..].iter_mut().take(line.length).enumerate() {
                *token = line.ids[position * candidates + step.next as usize];
                let list = (line.length - 1 - position) * candidates + step.next as usize;
                step = lists.list(list)[step.rank as usize];
            }
        }
    }
    Ok(Chains { tokens, scores })
}

/// A way on: to the `rank`-th best of the list of candidate `next`.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Of everything from here to the end.
    score: f64,
    next: u32,
    rank: u32,
}

/// For each position from the last to the first, and each candidate, the best ways from there to the end; and then, as if of one
/// candidate before all others, the best chains. Backwards, so that ties go to the lower candidate at the first position.
#[derive(Debug, Default)]
struct Lists {
    steps: Vec<Step>,
    /// Where each list ends.
    ends: Vec<usize>,
    /// The best score of each list, -inf if it is empty.
    firsts: Vec<f64>,
    heads: BinaryHeap<Head>,
}

impl Lists {
    fn list(&self, index: usize) -> &[Step] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.steps[start..self.ends[index]]
    }

    fn fill(&mut self, line: &Line, n: usize) {
        self.steps.clear();
        self.ends.clear();
        self.firsts.clear();
        for position in (0..line.length).rev() {
            for (candidate, &own) in line.own(position).iter().enumerate() {
                if own == f32::NEG_INFINITY {
                    self.close(self.steps.len());
                } else if position + 1 == line.length {
                    self.end(f64::from(own));
                } else {
                    let further = (line.length - 2 - position) * line.candidates;
                    self.merge(further, line.candidates, line.after(position, candidate), f64::from(own), n);
                }
            }
        }
        match line.length {
            0 => self.end(0.0),
            length => self.merge((length - 1) * line.candidates, line.candidates, None, 0.0, n),
        }
    }

    /// A list of one way, which ends here.
    fn end(&mut self, score: f64) {
        self.steps.push(Step { score, next: 0, rank: 0 });
        self.close(self.steps.len() - 1);
    }

    /// Ends the list that begins at this step.
    fn close(&mut self, start: usize) {
        self.firsts.push(self.steps.get(start).map_or(f64::NEG_INFINITY, |step| step.score));
        self.ends.push(self.steps.len());
    }

    /// A list of the `n` best of `count` lists from `first` on, each with its transition's score, and `own` added to all.
    fn merge(&mut self, first: usize, count: usize, after: Option<&[f32]>, own: f64, n: usize) {
        let start = self.steps.len();
        if n == 1 {
            let mut best = Step { score: f64::NEG_INFINITY, next: 0, rank: 0 };
            for (next, first) in self.firsts[first..first + count].iter().enumerate() {
                let score = first + after.map_or(0.0, |after| f64::from(after[next]));
                if score > best.score {
                    best = Step { score, next: next as u32, rank: 0 };
                }
            }
            if best.score > f64::NEG_INFINITY {
                self.steps.push(Step { score: best.score + own, ..best });
            }
            return self.close(start);
        }
        let mut heads = std::mem::take(&mut self.heads);
        heads.clear();
        let head = |lists: &Self, next: usize, rank: usize| {
            let step = lists.list(first + next).get(rank)?;
            let score = step.score + after.map_or(0.0, |after| f64::from(after[next]));
            (score > f64::NEG_INFINITY).then_some(Head(Step { score, next: next as u32, rank: rank as u32 }))
        };
        heads.extend((0..count).filter_map(|next| head(self, next, 0)));
        for _ in 0..n {
            let Some(Head(step)) = heads.pop() else { break };
            heads.extend(head(self, step.next as usize, step.rank as usize + 1));
            self.steps.push(Step { score: step.score + own, ..step });
        }
        self.close(start);
        self.heads = heads;
    }
}

/// What is still to be taken of a list; the highest score is the greatest, among equals the lowest candidate.
#[derive(Debug, Clone, Copy)]
struct Head(Step);

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        // Scores are never NaN; -0 and 0 are equal, which `total_cmp` would deny.
        let order = self.0.score.partial_cmp(&other.0.score).unwrap_or(Ordering::Equal);
        order.then(other.0.next.cmp(&self.0.next))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}
