//! `verify` against its definition: chains, trees and blocks, under every rule and every kind of law.

mod common;

#[path = "common/verify.rs"]
mod slow;

use common::cases::{CASES, cases};
use common::{Past, logits, past, settings};
use foretoken_core::batch::{Batch, Output};
use foretoken_core::error::Error;
use foretoken_core::history::History;
use foretoken_core::noise::{CHOICE, Place};
use foretoken_core::sampler::{Sampler, Settings};
use foretoken_core::verify::{Draft, Laws, Rule, verify};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use slow::Judged;

const START: Place = Place { seed: 5, row: 2, position: 0, stream: CHOICE };

/// How the laws of guesses are said.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Said {
    Not,
    Dense,
    Sparse,
}

/// A draft of one row.
#[derive(Debug)]
struct Case {
    settings: Settings,
    rows: Vec<Vec<f32>>,
    past: Past,
    position: u32,
    tokens: Vec<usize>,
    tree: bool,
    parents: Vec<i64>,
    laws: Vec<Vec<f64>>,
    /// How many of the tokens the row has drafted.
    length: usize,
}

/// A chain or a tree. Half the guesses are the target's best, so that what stays gets long.
fn case(tree: bool) -> impl Strategy<Value = Case> {
    (1usize..24, 0usize..6).prop_flat_map(move |(vocabulary, k)| {
        let guesses = vec((any::<bool>(), 0..vocabulary, 0..k.max(1)), k);
        let weights = vec(prop_oneof![1 => Just(0u8), 2 => any::<u8>()], k * vocabulary);
        let target = (settings(vocabulary), vec(logits(vocabulary), k + 1), past(vocabulary), any::<u16>());
        (target, guesses, weights, 0..=k).prop_map(move |(target, guesses, weights, length)| {
            let (settings, rows, past, position) = target;
            let parent = |place: usize| if tree { guesses[place].2 % (place + 1) } else { place } as i64 - 1;
            let parents: Vec<i64> = (0..k).map(parent).collect();
            let best =
                |row: &[f32]| row.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1)).map(|best| best.0);
            let token = |place: usize| {
                let (good, any, _) = guesses[place];
                if good { best(&rows[(parents[place] + 1) as usize]).unwrap() } else { any }
            };
            let tokens: Vec<usize> = (0..k).map(token).collect();
            let law = |place: usize| {
                let mut law: Vec<f64> =
                    weights[place * vocabulary..][..vocabulary].iter().map(|&w| f64::from(w)).collect();
                law[tokens[place]] += 1.0;
                let sum: f64 = law.iter().sum();
                law.iter().map(|weight| weight / sum).collect()
            };
            let laws = (0..k).map(law).collect();
            Case { settings, rows, past, position: u32::from(position), tokens, tree, parents, laws, length }
        })
    })
}

impl Case {
    /// Compares what the kernel makes of the draft with the definition.
    fn check(&self, rule: Rule, said: Said) -> TestCaseResult {
        let certain =
            |token: usize| (0..self.settings.vocab_size).map(|other| f64::from(u8::from(other == token))).collect();
        let certain: Vec<Vec<f64>> = self.tokens.iter().map(|&token| certain(token)).collect();
        let judged = Judged {
            settings: &self.settings,
            rows: &self.rows,
            tokens: &self.tokens[..self.length],
            parents: &self.parents[..self.length],
            laws: if said == Said::Not { &certain } else { &self.laws },
            start: Place { position: self.position, ..START },
        };
        let slow = match rule {
            Rule::Block => judged.whole(self.past.clone()),
            rule => judged.walk(self.past.clone(), rule == Rule::Rejection),
        };
        let (fast, past) = self.fast(rule, said);
        let Some(slow) = slow else {
            let refused = matches!(fast, Err(Error::NothingLeft { .. } | Error::InfinityBanned { .. }));
            prop_assert!(refused && past.output() == self.past.output, "{fast:?}");
            return Ok(());
        };
        prop_assert!(fast.is_ok(), "{fast:?}");
        let (fast, accepted) = (fast.unwrap(), slow.path.len());
        let padded = |of: &[i64], length: usize| [of, &vec![-1; length - of.len()]].concat();
        let ids: Vec<i64> = slow.tokens.iter().map(|&token| token as i64).collect();
        prop_assert_eq!(&fast.tokens, &padded(&ids, self.rows.len()));
        prop_assert_eq!(&fast.path, &padded(&slow.path, self.tokens.len()));
        prop_assert_eq!(&fast.accepted, &vec![accepted as i64]);
        // Beyond 708 the definition, which works with laws and not with scores, sees no runner-up.
        let close = |one: f64, other: f64| one.min(other) > 708.0 || (one - other).abs() < 1e-9;
        let gap = fast.gaps[accepted];
        prop_assert!(self.settings.temperature == 0.0 || close(gap, slow.gap), "{gap}, expected {}", slow.gap);
        let (mu, expected) = (past.mu.unwrap_or(0.0), slow.mu.unwrap_or(0.0));
        prop_assert!(close(mu, expected), "{mu}, expected {expected}");
        let emitted: Vec<u32> = slow.tokens.iter().map(|&token| token as u32).collect();
        prop_assert_eq!(past.output(), &[&self.past.output[..], &emitted].concat());
        Ok(())
    }

    /// What the kernel says, and the history after it.
    fn fast(&self, rule: Rule, said: Said) -> (Result<Output, Error>, History) {
        let tokens: Vec<i64> = self.tokens.iter().map(|&token| token as i64).collect();
        let (dense, lengths) = (self.laws.concat(), [self.length as i64]);
        let width = self.laws.iter().map(|law| law.iter().filter(|p| **p > 0.0).count()).max().unwrap_or(0);
        let (mut ids, mut probs) = (Vec::new(), Vec::new());
        for law in &self.laws {
            // In any order: here the last come first.
            let some = law.iter().enumerate().rev().filter(|(_, p)| **p > 0.0);
            some.for_each(|(token, &p)| (ids.push(token as i64), probs.push(p)).0);
            ids.resize(ids.len().next_multiple_of(width), -1);
            probs.resize(ids.len(), 0.0);
        }
        let laws = match said {
            Said::Not => Laws::Certain,
            Said::Dense => Laws::Dense(&dense),
            Said::Sparse => Laws::Sparse { ids: &ids, probs: &probs, width },
        };
        let parents = self.tree.then_some(&self.parents[..]);
        let draft = Draft { tokens: &tokens, places: tokens.len(), lengths: Some(&lengths), parents, laws, rule };
        let (past, logits) = (self.past.history(), self.rows.concat());
        let batch = Batch {
            logits: &logits,
            count: 1,
            seeds: &[START.seed],
            positions: &[i64::from(self.position)],
            rows: Some(&[i64::from(START.row)]),
            history: Some(&[&past]),
            logprobs: None,
            threads: 1,
        };
        let verified = verify(&Sampler::new(self.settings.clone()).unwrap(), &batch, &draft);
        (verified, past.into_inner().unwrap())
    }
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn chains_stay_as_far_as_plain_decoding_says_the_same(case in case(false)) {
        case.check(Rule::Coupled, Said::Not)?;
    }

    #[test]
    fn trees_stay_as_far_as_plain_decoding_says_the_same(case in case(true)) {
        case.check(Rule::Coupled, Said::Not)?;
    }

    #[test]
    fn chains_pass_the_ratio_test(case in case(false)) {
        case.check(Rule::Rejection, Said::Dense)?;
    }

    #[test]
    fn trees_pass_the_ratio_test(case in case(true)) {
        case.check(Rule::Rejection, Said::Dense)?;
    }

    #[test]
    fn certain_guesses_pass_the_ratio_test(case in prop_oneof![case(false), case(true)]) {
        case.check(Rule::Rejection, Said::Not)?;
    }

    #[test]
    fn blocks_pass_the_ratio_test_as_a_whole(case in case(false), certain in proptest::bool::weighted(0.2)) {
        case.check(Rule::Block, if certain { Said::Not } else { Said::Dense })?;
    }

    #[test]
    fn laws_of_few_tokens_judge_as_laws_of_all(case in prop_oneof![case(false), case(true)], whole: bool) {
        case.check(if whole && !case.tree { Rule::Block } else { Rule::Rejection }, Said::Sparse)?;
    }
}
