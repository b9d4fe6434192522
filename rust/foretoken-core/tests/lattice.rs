//! Lattices against writing down every chain, which is slow and obviously right.

#[path = "common/cases.rs"]
mod cases;

use std::cmp::Ordering;

use cases::{CASES, cases};
use foretoken_core::error::Kind;
use foretoken_core::lattice::{Chains, Lattice, Transitions, Tree, chains, tree};
use proptest::collection::vec;
use proptest::prelude::*;

/// One row, whose ids are the numbers of its candidates.
#[derive(Debug)]
struct Case {
    positions: usize,
    k: usize,
    length: usize,
    ids: Vec<i64>,
    logprobs: Vec<f32>,
    dense: Vec<f32>,
}

impl Case {
    fn lattice<'a>(&'a self, lengths: &'a [i64]) -> Lattice<'a> {
        let transitions = Transitions::Dense(&self.dense);
        let shape = [1, self.positions, self.k];
        Lattice { ids: &self.ids, logprobs: &self.logprobs, shape, lengths: Some(lengths), transitions }
    }

    fn score(&self, chain: &[usize]) -> f64 {
        let own = chain.iter().enumerate().map(|(place, c)| f64::from(self.logprobs[place * self.k + c]));
        let pairs = chain.windows(2).enumerate();
        let after = pairs.map(|(place, pair)| f64::from(self.dense[(place * self.k + pair[0]) * self.k + pair[1]]));
        own.chain(after).sum()
    }

    /// Every chain of `length` candidates that is possible, by its numbers.
    fn every(&self, length: usize) -> Vec<Vec<usize>> {
        let grow = |chains: Vec<Vec<usize>>, _| -> Vec<Vec<usize>> {
            let more =
                |chain: &Vec<usize>| (0..self.k).map(|last| [chain.as_slice(), &[last]].concat()).collect::<Vec<_>>();
            chains.iter().flat_map(more).collect()
        };
        let mut all = (0..length).fold(vec![Vec::new()], grow);
        all.retain(|chain| self.score(chain) > f64::NEG_INFINITY);
        all
    }
}

/// Halves add up without rounding, and often to the same sum.
fn score() -> impl Strategy<Value = f32> {
    prop_oneof![6 => (-6..3_i8).prop_map(|number| f32::from(number) / 2.0), 1 => Just(f32::NEG_INFINITY)]
}

fn case() -> impl Strategy<Value = Case> {
    (0..5_usize, 0..4_usize).prop_flat_map(|(positions, k)| {
        let pairs = positions.saturating_sub(1) * k * k;
        (0..=positions, vec(score(), positions * k), vec(score(), pairs)).prop_map(move |(length, logprobs, dense)| {
            let ids = (0..positions).flat_map(|_| 0..k as i64).collect();
            Case { positions, k, length, ids, logprobs, dense }
        })
    })
}

fn descending(one: f64, other: f64) -> Ordering {
    other.partial_cmp(&one).unwrap_or(Ordering::Equal)
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn chains_are_the_best_of_all(case in case(), n in 1..20_usize) {
        let mut all = case.every(case.length);
        all.sort_by(|one, other| descending(case.score(one), case.score(other)).then_with(|| one.cmp(other)));
        let mut expected = Chains { tokens: vec![-1; n * case.positions], scores: vec![f64::NEG_INFINITY; n] };
        for (rank, chain) in all.iter().take(n).enumerate() {
            expected.scores[rank] = case.score(chain);
            for (place, &candidate) in chain.iter().enumerate() {
                expected.tokens[rank * case.positions + place] = candidate as i64;
            }
        }
        prop_assert_eq!(chains(&case.lattice(&[case.length as i64]), n as i64)?, expected);
    }

    #[test]
    fn trees_take_the_best_that_can_be_added(case in case(), nodes in 0..30_usize) {
        let all: Vec<Vec<usize>> = (1..=case.length).flat_map(|length| case.every(length)).collect();
        let mut found: Vec<&Vec<usize>> = Vec::new();
        let parent = |found: &[&Vec<usize>], chain: &[usize]| -> Option<i64> {
            match chain.len() {
                1 => Some(-1),
                length => found.iter().position(|known| known[..] == chain[..length - 1]).map(|place| place as i64),
            }
        };
        let mut expected = Tree::default();
        while found.len() < nodes {
            let open = all.iter().filter(|chain| !found.contains(chain));
            let open = open.filter_map(|chain| Some((chain, parent(&found, chain)?)));
            let best = open.min_by(|(one, first), (other, second)| {
                descending(case.score(one), case.score(other)).then((first, one.last()).cmp(&(second, other.last())))
            });
            let Some((chain, parent)) = best else { break };
            expected.parents.push(parent);
            expected.tokens.push(chain[chain.len() - 1] as i64);
            expected.scores.push(case.score(chain));
            found.push(chain);
        }
        expected.counts.push(found.len() as i64);
        expected.tokens.resize(nodes, -1);
        expected.parents.resize(nodes, -1);
        expected.scores.resize(nodes, f64::NEG_INFINITY);
        prop_assert_eq!(tree(&case.lattice(&[case.length as i64]), nodes as i64)?, expected);
    }

    #[test]
    fn a_bigram_is_its_table_of_products(case in case(), numbers in vec(-3..4_i8, 16), n in 1..9_i64) {
        let tables: Vec<f32> = numbers.into_iter().map(|number| f32::from(number) / 2.0).collect();
        let (left, right) = tables.split_at(8);
        let product = |(c, d): (usize, usize)| left[2 * c] * right[2 * d] + left[2 * c + 1] * right[2 * d + 1];
        let block: Vec<f32> = (0..case.k * case.k).map(|pair| product((pair / case.k, pair % case.k))).collect();
        let dense = block.repeat(case.positions.saturating_sub(1));
        let lengths = [case.length as i64];
        let written = Lattice { transitions: Transitions::Dense(&dense), ..case.lattice(&lengths) };
        let tables = Lattice { transitions: Transitions::Bigram { left, right, rank: 2 }, ..written };
        prop_assert_eq!(chains(&tables, n)?, chains(&written, n)?);
        prop_assert_eq!(tree(&tables, n)?, tree(&written, n)?);
    }
}

#[test]
fn sizes_are_checked_before_anything_is_allocated() {
    let (ids, logprobs) = (vec![0; 64 * 32], vec![0.0; 64 * 32]);
    let transitions = Transitions::Free;
    let lattice = Lattice { ids: &ids, logprobs: &logprobs, shape: [1, 64, 32], lengths: None, transitions };
    assert_eq!(chains(&lattice, 65536).unwrap_err().kind(), Kind::Limit);
    assert_eq!(chains(&lattice, 65537).unwrap_err().kind(), Kind::InvalidArgument);
    assert_eq!(tree(&lattice, 65537).unwrap_err().kind(), Kind::InvalidArgument);
    let endless = Lattice { ids: &[], logprobs: &[], shape: [1 << 62, 0, 0], ..lattice };
    assert_eq!(chains(&endless, 1).unwrap_err().kind(), Kind::Limit);
    assert_eq!(tree(&endless, 0).unwrap_err().kind(), Kind::Limit);
    for shape in [[1, 64, 31], [usize::MAX, 2, 2], [1 << 62, 1 << 62, 0]] {
        assert!(chains(&Lattice { shape, ..lattice }, 1).is_err());
        assert!(tree(&Lattice { shape, ..lattice }, 1).is_err());
    }
}
