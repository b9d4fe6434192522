//! Lattices: the best chains and trees are those that writing down every chain finds; what is no score is refused.

use foretoken_core::error::{Error, Kind};
use foretoken_core::lattice::{Lattice, Transitions, chains, tree};

use super::bytes::Bytes;

/// Searches a lattice that bytes describe.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let shape = [1 + bytes.below(2), bytes.below(5), bytes.below(4)];
    let [rows, positions, k] = shape;
    let (n, nodes) = (1 + bytes.below(9), bytes.below(9));
    let kind = bytes.below(3);
    let lengths: Option<Vec<i64>> =
        (bytes.byte() > 99).then(|| (0..rows).map(|_| bytes.below(positions + 1) as i64).collect());
    let ids: Vec<i64> = (0..rows * positions * k).map(|_| bytes.below(4) as i64).collect();
    let logprobs: Vec<f32> = (0..ids.len()).map(|_| bytes.score()).collect();
    let pairs = rows * positions.saturating_sub(1) * k * k;
    let dense: Vec<f32> = (0..if kind == 1 { pairs } else { 0 }).map(|_| bytes.score()).collect();
    let tables: Vec<f32> = (0..if kind == 2 { 16 } else { 0 }).map(|_| bytes.score()).collect();
    let (left, right) = tables.split_at(tables.len() / 2);
    let transitions = match kind {
        1 => Transitions::Dense(&dense),
        2 => Transitions::Bigram { left, right, rank: 2 },
        _ => Transitions::Free,
    };
    let lattice = Lattice { ids: &ids, logprobs: &logprobs, shape, lengths: lengths.as_deref(), transitions };
    let step = |row: usize, position: usize, chain: &[usize]| {
        let place = (row * positions + position) * k;
        let (own, id) = (logprobs[place + chain[position]], ids[place + chain[position]]);
        let before = position.checked_sub(1).map_or(0.0, |last| match kind {
            1 => dense[((row * (positions - 1) + last) * k + chain[last]) * k + chain[position]],
            2 => {
                let from = ids[(row * positions + last) * k + chain[last]];
                (0..2).fold(0.0, |sum, column| sum + left[from as usize * 2 + column] * right[id as usize * 2 + column])
            }
            _ => 0.0,
        });
        (f64::from(before), f64::from(own))
    };
    let length = |row: usize| lengths.as_ref().map_or(positions, |lengths| lengths[row] as usize);
    let wrong = |score: f64| score.is_nan() || score == f64::INFINITY;
    let hostile = (0..rows).any(|row| {
        every(length(row), k).iter().any(|chain| {
            (0..length(row)).any(|position| {
                let (before, own) = step(row, position, chain);
                wrong(before) || wrong(own)
            })
        })
    });
    let (found, grown) = (chains(&lattice, n as i64), tree(&lattice, nodes as i64));
    if hostile {
        let refused = |error: Error| assert_eq!(error.kind(), Kind::Logits, "{error}");
        refused(found.unwrap_err());
        return refused(grown.unwrap_err());
    }
    let (found, grown) = (found.unwrap(), grown.unwrap());
    for row in 0..rows {
        let length = length(row);
        let mut expected: Vec<f64> = every(length, k)
            .iter()
            .map(|chain| {
                (0..length).rev().fold(0.0, |sum, position| {
                    let (before, own) = step(row, position, chain);
                    before + (own + sum)
                })
            })
            .filter(|score| *score > f64::NEG_INFINITY)
            .collect();
        expected.sort_by(|one, other| other.total_cmp(one));
        expected.resize(n.max(expected.len()), f64::NEG_INFINITY);
        let scores = &found.scores[row * n..][..n];
        // Huge scores swallow small ones, in an order of summing that is nobody's to choose.
        let close = |one: f64, other: f64| one == other || (one - other).abs() <= 1e-6 * one.abs().max(other.abs());
        assert!(scores.iter().zip(&expected).all(|(one, other)| close(*one, *other)), "{scores:?} {expected:?}");
        let count = grown.counts[row] as usize;
        assert!(count <= nodes);
        for node in 0..count {
            let parent = grown.parents[row * nodes + node];
            assert!((-1..node as i64).contains(&parent) && grown.scores[row * nodes + node] > f64::NEG_INFINITY);
        }
    }
}

/// Every chain of this length.
fn every(length: usize, k: usize) -> Vec<Vec<usize>> {
    (0..length).fold(vec![Vec::new()], |chains, _| {
        chains.iter().flat_map(|chain| (0..k).map(move |last| [chain.as_slice(), &[last]].concat())).collect()
    })
}
