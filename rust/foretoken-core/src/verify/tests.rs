//! The law of verification, computed exactly: every branch of every decision on a vocabulary of three.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::sampler::Settings;

const VOCABULARY: usize = 3;
const PLACES: usize = 2;

/// Takes the branches that a script says, the first where it is silent, and multiplies their probabilities.
struct Enumerate {
    script: Vec<usize>,
    taken: Vec<(usize, usize)>,
    weight: f64,
}

impl Enumerate {
    fn branch(&mut self, law: &[f64]) -> usize {
        let possible: Vec<usize> = (0..law.len()).filter(|&outcome| law[outcome] > 0.0).collect();
        let branch = self.script.get(self.taken.len()).copied().unwrap_or(0);
        self.taken.push((branch, possible.len()));
        self.weight *= law[possible[branch]];
        possible[branch]
    }
}

impl Chance for Enumerate {
    fn bernoulli(&mut self, _: u32, _: u32, p: f64, q: f64) -> bool {
        let yes = (p / q).min(1.0);
        self.branch(&[1.0 - yes, yes]) == 1
    }

    fn choice(&mut self, _: u32, _: u32, kept: &Kept) -> Choice {
        let mut law = [0.0; VOCABULARY];
        kept.law(&mut law);
        Choice { token: self.branch(&law) as u32, gap: f64::INFINITY }
    }
}

/// The law of what `run` returns.
fn law_of(run: impl Fn(&mut Enumerate) -> Vec<u32>) -> HashMap<Vec<u32>, f64> {
    let (mut law, mut script) = (HashMap::new(), Vec::new());
    loop {
        let mut chance = Enumerate { script, taken: Vec::new(), weight: 1.0 };
        let outcome = run(&mut chance);
        *law.entry(outcome).or_insert(0.0) += chance.weight;
        let mut taken = chance.taken;
        while taken.last().is_some_and(|(branch, count)| branch + 1 == *count) {
            taken.pop();
        }
        let Some((branch, _)) = taken.last_mut() else { return law };
        *branch += 1;
        script = taken.into_iter().map(|(branch, _)| branch).collect();
    }
}

fn total_variation(first: &HashMap<Vec<u32>, f64>, second: &HashMap<Vec<u32>, f64>) -> f64 {
    let keys = first.keys().chain(second.keys().filter(|key| !first.contains_key(*key)));
    let of = |law: &HashMap<Vec<u32>, f64>, key| law.get(key).copied().unwrap_or(0.0);
    keys.map(|key| (of(first, key) - of(second, key)).abs()).sum::<f64>() / 2.0
}

/// A model: logits that depend on all of the text.
fn logits(model: u64, text: &[u32]) -> Vec<f32> {
    let hash = text.iter().fold(model, |hash, &token| hash.wrapping_mul(31).wrapping_add(u64::from(token) + 7));
    let place = crate::noise::Place { seed: hash, row: 0, position: 0, stream: 0 };
    (0..VOCABULARY as u32).map(|token| (4.0 * place.uniform(token) - 2.0) as f32).collect()
}

fn site(place: usize) -> Site {
    Site { row: 0, position: place as u32 }
}

/// Plain decoding: draws tokens after `text` until there are `PLACES + 1`.
fn go_on(sampler: &Sampler, past: &mut History, mut text: Vec<u32>, chance: &mut Enumerate) -> Vec<u32> {
    while text.len() <= PLACES {
        let logits = logits(1, &text);
        let mut space = Space::default();
        let kept = sampler.keep(&logits, site(text.len()), past, chance, &mut space.scratch).unwrap();
        let choice = chance.choice(CHOICE, text.len() as u32, &kept);
        past.mu = sampler.next_mu(past, &kept, choice.token).or(past.mu);
        past.push(choice.token);
        text.push(choice.token);
    }
    text
}

/// What a drafter says it draws from after a text, and what it does draw from.
type Drafter = fn(&[u32]) -> (Vec<f64>, Vec<f64>);

fn softmax(logits: &[f32]) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|&x| f64::from(x).exp()).collect();
    weights.iter().map(|weight| weight / weights.iter().sum::<f64>()).collect()
}

/// Drafts, verifies, commits, and goes on plainly to the full length.
fn speculate(sampler: &Sampler, drafter: Option<Drafter>, coupled: bool, chance: &mut Enumerate) -> Vec<u32> {
    let (mut draft, mut laws) = (Vec::new(), Vec::new());
    for _ in 0..PLACES {
        let Some(drafter) = drafter else {
            draft.push((draft.len() as u32 + 1) % VOCABULARY as u32);
            continue;
        };
        let (said, drawn) = drafter(&draft);
        draft.push(chance.branch(&drawn) as u32);
        laws.extend(said);
    }
    let guesses: Vec<i64> = draft.iter().map(|&token| i64::from(token)).collect();
    let rows: Vec<f32> = (0..=PLACES).flat_map(|place| logits(1, &draft[..place])).collect();
    let rule = match (coupled, drafter) {
        (true, _) => Rule::Coupled,
        (false, None) => Rule::Rejection(None),
        (false, Some(_)) => Rule::Rejection(Some(&laws)),
    };
    let block = Block { logits: &rows, guesses: &guesses, rule, start: site(0), logprobs: None };
    let (mut past, mut output) = (History::new(vec![0, 1]), Output::default());
    block.verify(sampler, &mut past, chance, &mut Space::default(), &mut output).unwrap();
    let emitted: Vec<u32> = output.tokens.iter().map(|&token| token as u32).collect();
    assert_eq!(emitted.len() as i64, output.accepted[0] + 1);
    assert_eq!(past.output(), []);
    for &token in &emitted {
        past.push(token);
    }
    past.mu = output.mu[0];
    go_on(sampler, &mut past, emitted, chance)
}

fn samplers() -> Vec<Sampler> {
    let with = |change: fn(&mut Settings)| {
        let mut settings = Settings::new(VOCABULARY);
        change(&mut settings);
        Sampler::new(settings).unwrap()
    };
    vec![
        with(|_| ()),
        with(|s| s.temperature = 0.0),
        with(|s| (s.temperature, s.top_k) = (1.7, 2)),
        with(|s| (s.top_p, s.logit_bias) = (0.8, [(1, 0.5)].into())),
        with(|s| (s.repetition_penalty, s.presence_penalty, s.frequency_penalty) = (1.3, 0.2, 0.4)),
        with(|s| (s.dry_multiplier, s.dry_allowed_length) = (0.8, 1)),
        with(|s| (s.xtc_probability, s.xtc_threshold) = (0.4, 0.2)),
        with(|s| s.mirostat_tau = 0.8),
        with(|s| (s.end_tokens, s.min_tokens) = (vec![2], 2)),
        with(|s| s.bad_words = vec![vec![1, 1], vec![0, 2]]),
    ]
}

fn of_another_model(text: &[u32]) -> (Vec<f64>, Vec<f64>) {
    let law = softmax(&logits(2, text));
    (law.clone(), law)
}

fn never_two(text: &[u32]) -> (Vec<f64>, Vec<f64>) {
    let mut law = softmax(&logits(3, text));
    law = vec![law[0] / (law[0] + law[1]), law[1] / (law[0] + law[1]), 0.0];
    (law.clone(), law)
}

fn lies(text: &[u32]) -> (Vec<f64>, Vec<f64>) {
    (softmax(&logits(2, text)), softmax(&logits(4, text)))
}

#[test]
fn speculation_has_the_law_of_plain_decoding() {
    for (index, sampler) in samplers().iter().enumerate() {
        let plain = law_of(|chance| go_on(sampler, &mut History::new(vec![0, 1]), Vec::new(), chance));
        let mass: f64 = plain.values().sum();
        assert!((mass - 1.0).abs() < 1e-12, "sampler {index}: {mass} {plain:?}");
        for (coupled, drafter) in [
            (false, Some(of_another_model as Drafter)),
            (false, Some(never_two)),
            (false, None),
            (true, Some(of_another_model)),
            (true, None),
        ] {
            let speculated = law_of(|chance| speculate(sampler, drafter, coupled, chance));
            let distance = total_variation(&plain, &speculated);
            assert!(distance < 1e-12, "sampler {index}, coupled {coupled}: {distance}");
        }
    }
}

#[test]
fn a_drafter_that_lies_about_its_law_is_caught() {
    let sampler = &samplers()[0];
    let plain = law_of(|chance| go_on(sampler, &mut History::default(), Vec::new(), chance));
    let speculated = law_of(|chance| speculate(sampler, Some(lies), false, chance));
    assert!(total_variation(&plain, &speculated) > 0.01);
}

fn refused(tokens: &[i64], lengths: Option<&[i64]>, laws: Option<&[f64]>) -> Error {
    let sampler = Sampler::new(Settings::new(VOCABULARY)).unwrap();
    let history = Mutex::new(History::default());
    let (logits, histories) = ([0.0; 9], [&history]);
    let (logits, history) = (&logits[..], Some(&histories[..]));
    let batch =
        Batch { logits, count: 1, seeds: &[0], positions: &[0], rows: None, history, logprobs: None, threads: 1 };
    let error = verify(&sampler, &batch, &Draft { tokens, places: 2, lengths, rule: Rule::Rejection(laws) });
    assert_eq!(histories[0].lock().unwrap().output(), []);
    error.unwrap_err()
}

#[test]
fn drafts_that_no_drafter_may_return_are_refused() {
    let fine = [0.5, 0.5, 0.0];
    let with = |second: [f64; 3]| [fine, second].concat();
    assert_eq!(refused(&[1, 3], None, None), Error::DraftToken { row: 0, place: 1, token: 3, vocabulary: 3 });
    assert_eq!(refused(&[-1, 0], None, None), Error::DraftToken { row: 0, place: 0, token: -1, vocabulary: 3 });
    assert_eq!(refused(&[0, 0], Some(&[3]), None), Error::DraftLength { row: 0, length: 3, places: 2 });
    assert_eq!(refused(&[0, 2], None, Some(&with(fine))), Error::DraftImpossible { row: 0, place: 1, token: 2 });
    assert_eq!(refused(&[0, 0], None, Some(&with([0.5, 0.4, 0.0]))), Error::DraftSum { row: 0, place: 1, sum: 0.9 });
    let negative = Error::DraftProbability { row: 0, place: 1, token: 1, probability: -0.5 };
    assert_eq!(refused(&[0, 0], None, Some(&with([1.0, -0.5, 0.5]))), negative);
    assert!(matches!(refused(&[0, 0], None, Some(&with([f64::NAN; 3]))), Error::DraftProbability { token: 0, .. }));
    assert_eq!(
        refused(&[0, 0], None, Some(&fine)),
        Error::Shape { name: "draft_probs", unit: "numbers", given: 3, expected: 6 }
    );
}
