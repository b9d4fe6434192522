use proptest::prelude::*;

use super::*;

const VOCABULARY: usize = 5;

/// A canvas of some rows, with logits.
#[derive(Debug, Clone)]
struct Case {
    rows: usize,
    positions: usize,
    logits: Vec<f32>,
    tokens: Vec<i64>,
    lengths: Vec<i64>,
    least: Vec<i64>,
    most: Vec<i64>,
}

fn case() -> impl Strategy<Value = Case> {
    let vec = proptest::collection::vec::<BoxedStrategy<f32>>;
    (0..4_usize, 0..7_usize).prop_flat_map(move |(rows, positions)| {
        let few = || proptest::collection::vec(0..9_i64, rows);
        // Whole logits tie often.
        let logit = prop_oneof![4 => (-3..4_i8).prop_map(f32::from), 3 => -4.0..4.0_f32, 1 => Just(f32::NEG_INFINITY)];
        (
            vec(logit.boxed(), rows * positions * VOCABULARY),
            proptest::collection::vec(prop_oneof![3 => Just(UNKNOWN), 2 => 0..9_i64], rows * positions),
            proptest::collection::vec(0..=positions as i64, rows),
            few(),
            few(),
        )
            .prop_map(move |(mut logits, tokens, lengths, least, most)| {
                logits.iter_mut().step_by(VOCABULARY).for_each(|logit| *logit = logit.max(-4.0));
                Case { rows, positions, logits, tokens, lengths, least, most }
            })
    })
}

fn sampler() -> impl Strategy<Value = Sampler> {
    let temperature = prop_oneof![Just(0.0), Just(1.0), 0.3..2.0_f64];
    (temperature, 0..4_usize, prop_oneof![Just(1.0), 0.3..1.0_f64], any::<bool>()).prop_map(|(t, k, p, edits)| {
        let mut settings = Settings { temperature: t, top_k: k, top_p: p, ..Settings::new(VOCABULARY) };
        if edits {
            settings.logit_bias.insert(1, 0.5);
        }
        Sampler::new(settings).unwrap()
    })
}

fn rule() -> impl Strategy<Value = Rule<'static>> {
    let bound = || proptest::option::of(0.0..1.0_f64);
    prop_oneof![
        bound().prop_map(|bound| Rule::Entropy { bound }),
        bound().prop_map(|bound| Rule::Largest { bound }),
        bound().prop_map(|bound| Rule::Margin { bound }),
        bound().prop_map(|bound| Rule::Sampled { bound, temperature: 0.0 }),
        (0.1..3.0_f64).prop_map(|temperature| Rule::Sampled { bound: None, temperature }),
    ]
}

impl Case {
    fn run(&self, sampler: &Sampler, rule: &Rule, step: i64, threads: usize) -> Result<Revealed> {
        let seeds: Vec<u64> = (0..self.rows as u64).collect();
        self.with(&seeds, threads, |batch, canvas| {
            reveal(sampler, batch, canvas, step, rule, &Counts { least: &self.least, most: &self.most })
        })
    }

    fn with<T>(&self, seeds: &[u64], threads: usize, work: impl FnOnce(&Batch, &Canvas) -> T) -> T {
        let positions = vec![10; self.rows];
        let batch = Batch {
            logits: &self.logits,
            count: self.rows,
            seeds,
            positions: &positions,
            rows: None,
            history: None,
            logprobs: None,
            threads,
        };
        work(&batch, &Canvas { tokens: &self.tokens, positions: self.positions, lengths: Some(&self.lengths) })
    }

    fn is_unknown(&self, row: usize, position: usize) -> bool {
        (position as i64) < self.lengths[row] && self.tokens[row * self.positions + position] == UNKNOWN
    }
}

/// Entropy, largest probability, margin and probability of a token, as they are defined.
fn numbers(law: &[f64], token: usize) -> [f64; 4] {
    let mut sorted = law.to_vec();
    sorted.sort_by(|one, other| other.total_cmp(one));
    let entropy = law.iter().filter(|p| **p > 0.0).map(|p| -p * crate::noise::ln(*p)).sum();
    [entropy, sorted[0], sorted[0] - sorted[1], law[token]]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_revealed_is_what_the_definition_says(
        case in case(), sampler in sampler(), rule in rule(), step in 0..3_i64, threads in 1..4_usize,
    ) {
        let found = case.run(&sampler, &rule, step, threads).unwrap();
        let seeds: Vec<u64> = (0..case.rows as u64).collect();
        let told = case.with(&seeds, 1, |batch, canvas| confidences(&sampler, batch, canvas, step)).unwrap();
        let bound = match rule {
            Rule::Entropy { bound } | Rule::Largest { bound } | Rule::Margin { bound }
            | Rule::Sampled { bound, .. } => bound,
            Rule::Scores(_) => None,
        };
        for row in 0..case.rows {
            let start = row * case.positions;
            let unknown: Vec<usize> = (0..case.positions).filter(|&place| case.is_unknown(row, place)).collect();
            for position in 0..case.positions {
                let index = start + position;
                if !unknown.contains(&position) {
                    prop_assert_eq!(found.tokens[index], case.tokens[index]);
                    prop_assert!(!found.revealed[index] && found.scores[index].is_nan());
                } else if found.revealed[index] {
                    prop_assert_eq!(found.tokens[index], told.tokens[index]);
                    prop_assert_eq!(found.gaps[index], told.gaps[index]);
                } else {
                    prop_assert_eq!(found.tokens[index], UNKNOWN);
                    prop_assert_eq!(found.gaps[index], f64::INFINITY);
                }
            }
            let mut order = unknown.clone();
            order.sort_by(|&one, &other| found.scores[start + other].total_cmp(&found.scores[start + one]));
            let mut inside = unknown.len();
            if let Some(bound) = bound {
                let scores: Vec<f64> = order.iter().map(|&place| found.scores[start + place]).collect();
                inside = match rule {
                    Rule::Entropy { .. } => (1..=scores.len())
                        .take_while(|&count| -scores[..count - 1].iter().sum::<f64>() <= bound)
                        .count(),
                    _ => scores.iter().filter(|score| **score >= bound).count(),
                };
            }
            let count = inside.max(case.least[row] as usize).min(case.most[row] as usize).min(unknown.len());
            let mut expected = order[..count].to_vec();
            expected.sort_unstable();
            let revealed: Vec<usize> = (0..case.positions).filter(|place| found.revealed[start + place]).collect();
            prop_assert_eq!(revealed, expected);
        }
    }

    #[test]
    fn numbers_are_those_of_the_law(case in case(), sampler in sampler(), step in 0..3_i64) {
        let seeds: Vec<u64> = (0..case.rows as u64).collect();
        let told = case.with(&seeds, 1, |batch, canvas| confidences(&sampler, batch, canvas, step)).unwrap();
        let temperature = if sampler.is_greedy() { 1.0 } else { sampler.temperature };
        let judge = Sampler::new(Settings { temperature, ..Settings::clone(&sampler) }).unwrap();
        for (row, &seed) in seeds.iter().enumerate() {
            for position in (0..case.positions).filter(|&position| case.is_unknown(row, position)) {
                let index = row * case.positions + position;
                let logits = &case.logits[index * VOCABULARY..][..VOCABULARY];
                let (site, mut law) = (Site { row, position: 10 + position as u32 }, [0.0; VOCABULARY]);
                let (mut scratch, mut noise) = (Scratch::default(), Noise { seed, row: 0 });
                let mut past = crate::history::History::default();
                judge.keep(logits, site, &mut past, &mut noise, &mut scratch).unwrap().law(&mut law);
                let token = told.tokens[index] as usize;
                let expected = numbers(&law, token);
                let given =
                    [told.entropies[index], told.largest[index], told.margins[index], told.probabilities[index]];
                for (given, expected) in given.into_iter().zip(expected) {
                    prop_assert!((given - expected).abs() < 1e-13, "{given} {expected}");
                }
                let kept = sampler.keep(logits, site, &mut past, &mut noise, &mut scratch).unwrap();
                let stream = if step == 0 { CHOICE } else { MASKED + 2 * step as u32 };
                let choice = crate::chance::Chance::choice(&mut noise, stream, site.position, &kept);
                prop_assert_eq!((choice.token as usize, choice.gap), (token, told.gaps[index]));
            }
        }
    }

    #[test]
    fn scores_that_are_given_decide(case in case(), sampler in sampler(), seed: u64) {
        let scores: Vec<f64> =
            (0..case.tokens.len() as u32).map(|index| (Place { seed, row: 0, position: 0, stream: 9 }.word(index) % 4).into()).collect();
        let found = case.run(&sampler, &Rule::Scores(&scores), 1, 1).unwrap();
        let counts = Counts { least: &case.least, most: &case.most };
        let seeds = vec![0; case.rows];
        let chosen = case.with(&seeds, 1, |_, canvas| choose(canvas, case.rows, &scores, &counts)).unwrap();
        prop_assert_eq!(found.revealed, chosen);
    }
}

/// A few hundred random cases, times the number in `FORETOKEN_CASES`.
fn cases() -> u32 {
    300 * std::env::var("FORETOKEN_CASES").map_or(1, |number| number.parse().expect("FORETOKEN_CASES is a number"))
}

#[test]
fn hostile_logits_are_refused_where_they_are_looked_at() {
    let sampler = Sampler::new(Settings::new(2)).unwrap();
    for hostile in [[f32::NAN, 0.0], [f32::INFINITY; 2], [f32::NEG_INFINITY; 2]] {
        let mut case = Case {
            rows: 2,
            positions: 2,
            logits: vec![0.0; 8],
            tokens: vec![-1, 3, -1, -1],
            lengths: vec![2, 2],
            least: vec![1, 1],
            most: vec![2, 2],
        };
        let rule = Rule::Entropy { bound: Some(0.1) };
        case.logits[2..4].copy_from_slice(&hostile);
        assert!(case.run(&sampler, &rule, 0, 1).is_ok(), "known positions are not read");
        case.logits[6..8].copy_from_slice(&hostile);
        let error = case.run(&sampler, &rule, 0, 1).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Logits);
        assert!(error.to_string().starts_with("at position 1, row 1 has "), "{error}");
        case.lengths[1] = 1;
        assert!(case.run(&sampler, &rule, 0, 1).is_ok(), "nor is what lies behind a row");
    }
}

#[test]
fn what_depends_on_a_past_is_refused() {
    let settings = Settings { repetition_penalty: 1.1, ..Settings::new(VOCABULARY) };
    let case =
        Case { rows: 0, positions: 1, logits: vec![], tokens: vec![], lengths: vec![], least: vec![], most: vec![] };
    let rule = Rule::Largest { bound: None };
    let error = case.run(&Sampler::new(settings).unwrap(), &rule, 0, 1).unwrap_err();
    assert!(matches!(error, Error::Contradiction { first: "sampler", .. }), "{error}");
    let sampler = Sampler::new(Settings::new(VOCABULARY)).unwrap();
    for step in [-1, STEPS] {
        let error = case.run(&sampler, &rule, step, 1).unwrap_err();
        assert!(matches!(error, Error::Range { name: "step", .. }), "{error}");
    }
}
