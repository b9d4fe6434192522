//! The law of verification, computed exactly: every branch of every decision on a vocabulary of three.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::error::Error;
use crate::kept::Kept;
use crate::sampler::Settings;

const VOCABULARY: usize = 3;
const PLACES: usize = 2;

/// Takes the branches that a script says, the first where it is silent, and multiplies their probabilities.
struct Enumerate {
    script: Vec<usize>,
    taken: Vec<(usize, usize)>,
    weight: f64,
    coins: HashMap<(u32, u32, u32), (f64, bool)>,
}

impl Enumerate {
    fn new(script: Vec<usize>) -> Self {
        Self { script, taken: Vec::new(), weight: 1.0, coins: HashMap::new() }
    }

    fn branch(&mut self, law: &[f64]) -> usize {
        let possible: Vec<usize> = (0..law.len()).filter(|&outcome| law[outcome] > 0.0).collect();
        let branch = self.script.get(self.taken.len()).copied().unwrap_or(0);
        self.taken.push((branch, possible.len()));
        self.weight *= law[possible[branch]];
        possible[branch]
    }
}

impl Chance for Enumerate {
    /// A uniform asked twice answers twice the same, and may not decide under two laws.
    fn bernoulli(&mut self, stream: u32, position: u32, rank: u32, p: f64, q: f64) -> bool {
        let yes = if p > 0.0 { (p / q).min(1.0) } else { 0.0 };
        if let Some(&(before, answer)) = self.coins.get(&(stream, position, rank)) {
            assert_eq!(before, yes, "noise decides twice");
            return answer;
        }
        let answer = self.branch(&[1.0 - yes, yes]) == 1;
        self.coins.insert((stream, position, rank), (yes, answer));
        answer
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
        let mut chance = Enumerate::new(script);
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

fn softmax(logits: &[f32]) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|&x| f64::from(x).exp()).collect();
    weights.iter().map(|weight| weight / weights.iter().sum::<f64>()).collect()
}

/// What a drafter returns.
#[derive(Default)]
struct Guessed {
    tokens: Vec<i64>,
    parents: Vec<i64>,
    laws: Vec<f64>,
}

impl Guessed {
    /// The text that ends in a guess.
    fn text(&self, place: i64) -> Vec<u32> {
        if place < 0 {
            return Vec::new();
        }
        let mut text = self.text(self.parents[place as usize]);
        text.push(self.tokens[place as usize] as u32);
        text
    }

    fn add(&mut self, parent: i64, said: &[f64], token: usize) -> i64 {
        self.tokens.push(token as i64);
        self.parents.push(parent);
        self.laws.extend(said);
        self.tokens.len() as i64 - 1
    }

    /// A guess drawn from a law.
    fn draw(&mut self, parent: i64, law: &[f64], chance: &mut Enumerate) -> i64 {
        let token = chance.branch(law);
        self.add(parent, law, token)
    }
}

type Drafter = fn(&mut Enumerate) -> Guessed;

/// A chain; `said` is what the drafter says it draws from after a text, `drawn` what it draws from.
fn chain(said: fn(&[u32]) -> Vec<f64>, drawn: fn(&[u32]) -> Vec<f64>, chance: &mut Enumerate) -> Guessed {
    let (mut guessed, mut last) = (Guessed::default(), -1);
    for _ in 0..PLACES {
        let text = guessed.text(last);
        let token = chance.branch(&drawn(&text));
        last = guessed.add(last, &said(&text), token);
    }
    guessed
}

fn of_another_model(text: &[u32]) -> Vec<f64> {
    softmax(&logits(2, text))
}

fn never_two(text: &[u32]) -> Vec<f64> {
    let law = softmax(&logits(3, text));
    vec![law[0] / (law[0] + law[1]), law[1] / (law[0] + law[1]), 0.0]
}

fn certain(token: usize) -> Vec<f64> {
    (0..VOCABULARY).map(|other| f64::from(u8::from(other == token))).collect()
}

fn alone(chance: &mut Enumerate) -> Guessed {
    chain(of_another_model, of_another_model, chance)
}

/// Two chains of two drafters, without a look at each other: often twice the same token.
fn two_chains(chance: &mut Enumerate) -> Guessed {
    let mut guessed = Guessed::default();
    for law in [of_another_model, never_two] {
        let first = guessed.draw(-1, &law(&[]), chance);
        let text = guessed.text(first);
        guessed.draw(first, &law(&text), chance);
    }
    guessed
}

/// Siblings drawn without replacement, a certain one behind them; then a guess under each of the first two.
fn all_different(chance: &mut Enumerate) -> Guessed {
    let mut guessed = Guessed::default();
    let law = of_another_model(&[]);
    let first = guessed.draw(-1, &law, chance);
    let taken = guessed.tokens[0] as usize;
    let left = 1.0 - law[taken];
    let rest: Vec<f64> = law.iter().enumerate().map(|(token, p)| if token == taken { 0.0 } else { p / left }).collect();
    let second = guessed.draw(-1, &rest, chance);
    guessed.add(-1, &certain(1), 1);
    for place in [second, first] {
        let text = guessed.text(place);
        guessed.draw(place, &of_another_model(&text), chance);
    }
    guessed
}

/// Certain guesses, one of them twice.
fn sure(_: &mut Enumerate) -> Guessed {
    let mut guessed = Guessed::default();
    for (parent, token) in [(-1, 1), (-1, 0), (-1, 1), (0, 2), (2, 0), (1, 1)] {
        guessed.add(parent, &certain(token), token);
    }
    guessed
}

/// Drafts, verifies, commits, and goes on plainly to the full length.
fn speculate(sampler: &Sampler, drafter: Drafter, rule: Rule, told: bool, chance: &mut Enumerate) -> Vec<u32> {
    let tree = drafter(chance);
    let rows: Vec<f32> = (-1..tree.tokens.len() as i64).flat_map(|place| logits(1, &tree.text(place))).collect();
    let guesses = Guesses {
        tokens: &tree.tokens,
        parents: if rule == Rule::Block { None } else { Some(&tree.parents) },
        laws: if told { Laws::Dense(&tree.laws) } else { Laws::Certain },
        vocabulary: VOCABULARY,
    };
    let block = Block { logits: &rows, guesses, rule, start: site(0), logprobs: None };
    let (mut past, mut output) = (History::new(vec![0, 1]), Output::default());
    if rule == Rule::Block {
        block.verify_whole(sampler, &mut past, chance, &mut Space::default(), &mut output).unwrap();
    } else {
        block.verify(sampler, &mut past, chance, &mut Space::default(), &mut output).unwrap();
    }
    let mut emitted: Vec<u32> = output.tokens.iter().map(|&token| token as u32).collect();
    assert_eq!(emitted.len() as i64, output.accepted[0] + 1);
    assert_eq!(tree.text(output.path.last().copied().unwrap_or(-1)), emitted[..emitted.len() - 1]);
    assert_eq!(past.output(), []);
    for &token in &emitted {
        past.push(token);
    }
    past.mu = output.mu[0];
    emitted = go_on(sampler, &mut past, emitted, chance);
    emitted
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

#[test]
fn speculation_has_the_law_of_plain_decoding() {
    let unlikely: Drafter = |chance| chain(never_two, never_two, chance);
    for (index, sampler) in samplers().iter().enumerate() {
        let plain = law_of(|chance| go_on(sampler, &mut History::new(vec![0, 1]), Vec::new(), chance));
        let mass: f64 = plain.values().sum();
        assert!((mass - 1.0).abs() < 1e-12, "sampler {index}: {mass} {plain:?}");
        for (name, drafter, rule, told) in [
            ("chain", alone as Drafter, Rule::Rejection, true),
            ("unlikely", unlikely, Rule::Rejection, true),
            ("two chains", two_chains, Rule::Rejection, true),
            ("all different", all_different, Rule::Rejection, true),
            ("sure", sure, Rule::Rejection, true),
            ("sure, untold", sure, Rule::Rejection, false),
            ("coupled", alone, Rule::Coupled, false),
            ("coupled tree", two_chains, Rule::Coupled, false),
            ("block", alone, Rule::Block, true),
            ("unlikely block", unlikely, Rule::Block, true),
        ] {
            let speculated = law_of(|chance| speculate(sampler, drafter, rule, told, chance));
            let distance = total_variation(&plain, &speculated);
            assert!(distance < 1e-12, "sampler {index}, {name}: {distance}");
        }
    }
}

#[test]
fn a_drafter_that_lies_about_its_law_is_caught() {
    let sampler = &samplers()[0];
    let plain = law_of(|chance| go_on(sampler, &mut History::default(), Vec::new(), chance));
    let lies: Drafter = |chance| chain(of_another_model, |text| softmax(&logits(4, text)), chance);
    for rule in [Rule::Rejection, Rule::Block] {
        assert!(total_variation(&plain, &law_of(|chance| speculate(sampler, lies, rule, true, chance))) > 0.01);
    }
    let twins: Drafter = |chance| {
        let mut guessed = Guessed::default();
        for _ in 0..2 {
            let token = chance.branch(&softmax(&logits(4, &[])));
            guessed.add(-1, &of_another_model(&[]), token);
        }
        guessed
    };
    let tree = law_of(|chance| speculate(sampler, twins, Rule::Rejection, true, chance));
    assert!(total_variation(&plain, &tree) > 0.01);
}

fn refused(tokens: &[i64], lengths: Option<&[i64]>, laws: Option<&[f64]>) -> Error {
    let laws = laws.map_or(Laws::Certain, Laws::Dense);
    refused_draft(&Draft { tokens, places: 2, lengths, parents: None, laws, rule: Rule::Rejection })
}

fn refused_draft(draft: &Draft) -> Error {
    let sampler = Sampler::new(Settings::new(VOCABULARY)).unwrap();
    let history = Mutex::new(History::default());
    let (logits, histories) = ([0.0; 9], [&history]);
    let (logits, history) = (&logits[..], Some(&histories[..]));
    let batch =
        Batch { logits, count: 1, seeds: &[0], positions: &[0], rows: None, history, logprobs: None, threads: 1 };
    let error = verify(&sampler, &batch, draft);
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

#[test]
fn trees_and_sparse_laws_that_are_none_are_refused() {
    let (fine, ids, probs) = ([0, 1], [0, -1, 2, 1], [1.0, 0.0, 0.4, 0.6]);
    let with = |parents: &'static [i64], ids: &'static [i64], probs: &'static [f64]| {
        let laws = Laws::Sparse { ids, probs, width: 2 };
        Draft { tokens: &[0, 1], places: 2, lengths: None, parents: Some(parents), laws, rule: Rule::Rejection }
    };
    let sparse = |ids, probs| refused_draft(&with(&[-1, -1], ids, probs));
    for (parents, place, parent) in [(&[-2, 0], 0, -2), (&[0, 0], 0, 0), (&[-1, 1], 1, 1)] {
        assert_eq!(
            refused_draft(&with(parents, &[0, 1, 2, 1], &[1.0, 0.0, 0.4, 0.6])),
            Error::DraftParent { row: 0, place, parent }
        );
    }
    assert_eq!(sparse(&[0, -1, 1, 1], &[1.0, 0.0, 0.4, 0.6]), Error::DraftTwice { row: 0, place: 1, token: 1 });
    assert_eq!(
        sparse(&[0, -1, 1, 3], &[1.0, 0.0, 0.4, 0.6]),
        Error::DraftToken { row: 0, place: 1, token: 3, vocabulary: 3 }
    );
    assert_eq!(sparse(&[0, -1, 2, 0], &[1.0, 0.0, 0.4, 0.6]), Error::DraftImpossible { row: 0, place: 1, token: 1 });
    assert_eq!(sparse(&[0, -1, 2, 1], &[0.5, 0.5, 0.4, 0.6]), Error::DraftSum { row: 0, place: 0, sum: 0.5 });
    assert!(matches!(sparse(&[0, -1, 2, 1], &[1.0]), Error::Shape { name: "draft_probs", .. }));
    let laws = Laws::Sparse { ids: &ids, probs: &probs, width: 2 };
    let draft = Draft { tokens: &fine, places: 2, lengths: None, parents: Some(&[-1, -1]), laws, rule: Rule::Block };
    assert!(matches!(refused_draft(&draft), Error::Contradiction { first: "block", .. }));
    let (mut ids, mut probs) = (vec![-1; 400], vec![0.0; 400]);
    (ids[0], ids[250], ids[399], probs[0], probs[399]) = (0, 1, 1, 1.0, 1.0);
    let laws = Laws::Sparse { ids: &ids, probs: &probs, width: 200 };
    let wide = Draft { tokens: &[0, 1], places: 2, lengths: None, parents: None, laws, rule: Rule::Rejection };
    assert_eq!(refused_draft(&wide), Error::DraftTwice { row: 0, place: 1, token: 1 });
}
