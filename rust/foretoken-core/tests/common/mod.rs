//! The sampler's chain as its definition reads: whole rows, sorts, libm; slow, and the oracle of the property tests.

use std::collections::HashMap;
use std::sync::Mutex;

use foretoken_core::history::History;
use foretoken_core::noise::{Place, XTC};
use foretoken_core::sampler::Settings;
use proptest::prelude::*;

pub mod cases;

/// A row and what it has seen.
#[derive(Debug, Clone)]
pub struct Past {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// What was drawn.
    pub output: Vec<u32>,
    /// Mirostat's bound.
    pub mu: Option<f64>,
}

impl Past {
    /// The same as the kernels keep it.
    pub fn history(&self) -> Mutex<History> {
        let mut history = History::new(self.prompt.clone());
        self.output.iter().for_each(|&token| history.push(token));
        history.mu = self.mu;
        Mutex::new(history)
    }
}

/// The scores whose softmax is the law; none if nothing may be drawn.
pub fn scores(s: &Settings, logits: &[f32], past: &Past, coin: Place) -> Option<Vec<f64>> {
    let mut x: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
    if let Some(only) = logits.iter().position(|&logit| logit == f32::INFINITY) {
        x.iter_mut().enumerate().for_each(|(token, x)| *x = if token == only { 0.0 } else { f64::NEG_INFINITY });
    }
    constrain(s, &mut x, past);
    if x.iter().all(|x| *x == f64::NEG_INFINITY) {
        return None;
    }
    if s.temperature == 0.0 {
        let best = argmax(&x).0;
        return Some((0..x.len()).map(|token| if token == best { 0.0 } else { f64::NEG_INFINITY }).collect());
    }
    for x in &mut x {
        *x /= s.temperature;
    }
    if s.mirostat_tau > 0.0 {
        let (p, best) = (softmax(&x), argmax(&x).0);
        let mu = past.mu.unwrap_or(2.0 * s.mirostat_tau);
        keep(&mut x, |token, _| token == best || -p[token].log2() <= mu);
        return Some(x);
    }
    if s.top_n_sigma > 0.0 {
        let finite: Vec<f64> = x.iter().copied().filter(|x| x.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let deviation = (finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / finite.len() as f64).sqrt();
        let best = maximum(&x);
        keep(&mut x, |_, x| x >= best - s.top_n_sigma * deviation);
    }
    if s.top_k > 0 && s.top_k < x.len() {
        let kth = x[order(&x)[s.top_k - 1]];
        keep(&mut x, |_, x| x >= kth);
    }
    if s.top_p < 1.0 {
        let by = x.clone();
        prefix(&mut x, &by, s.top_p);
    }
    if s.min_p > 0.0 {
        let best = maximum(&x);
        keep(&mut x, |_, x| (x - best).exp() >= s.min_p);
    }
    if s.typical_p < 1.0 {
        let p = softmax(&x);
        let entropy: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let by: Vec<f64> = p.iter().map(|p| -(-p.ln() - entropy).abs()).collect();
        prefix(&mut x, &by, s.typical_p);
    }
    if s.xtc_probability > 0.0 && (Place { stream: XTC, ..coin }).uniform(0) < s.xtc_probability {
        let p = softmax(&x);
        let top: Vec<usize> = order(&x).into_iter().filter(|&token| p[token] >= s.xtc_threshold).collect();
        let last = top.last().copied();
        keep(&mut x, |token, _| p[token] < s.xtc_threshold || Some(token) == last);
    }
    Some(x)
}

fn constrain(s: &Settings, x: &mut [f64], past: &Past) {
    let text = [past.prompt.clone(), past.output.clone()].concat();
    if let Some(allowed) = &s.allowed_tokens {
        keep(x, |token, _| allowed.contains(&(token as u32)));
    }
    for (&token, &bias) in &s.logit_bias {
        x[token as usize] += bias;
    }
    for word in &s.bad_words {
        if text.ends_with(&word[..word.len() - 1]) {
            x[word[word.len() - 1] as usize] = f64::NEG_INFINITY;
        }
    }
    if past.output.len() < s.min_tokens {
        s.end_tokens.iter().for_each(|&end| x[end as usize] = f64::NEG_INFINITY);
    }
    for (token, x) in x.iter_mut().enumerate() {
        let count = past.output.iter().filter(|&&t| t as usize == token).count() as f64;
        if text.contains(&(token as u32)) {
            *x = if *x > 0.0 { *x / s.repetition_penalty } else { *x * s.repetition_penalty };
        }
        *x -= s.frequency_penalty * count + if count > 0.0 { s.presence_penalty } else { 0.0 };
    }
    if s.dry_multiplier > 0.0 {
        let window = if s.dry_range == 0 { &text[..] } else { &text[text.len().saturating_sub(s.dry_range)..] };
        for (token, length) in repeats(window, &s.dry_breakers) {
            if length >= s.dry_allowed_length {
                let growth = s.dry_base.powi((length - s.dry_allowed_length) as i32);
                x[token as usize] -= s.dry_multiplier * growth;
            }
        }
    }
}

fn repeats(tokens: &[u32], breakers: &[u32]) -> HashMap<u32, usize> {
    let mut longest = HashMap::new();
    for (place, token) in tokens.iter().enumerate() {
        let back = |end: usize| tokens[..end].iter().rev();
        let same = back(place).zip(back(tokens.len())).take(64);
        let n = same.take_while(|(a, b)| a == b && !breakers.contains(a)).count();
        if n > 0 && !breakers.contains(token) {
            let best = longest.entry(*token).or_insert(0);
            *best = n.max(*best);
        }
    }
    longest
}

/// The probabilities of scores.
pub fn softmax(x: &[f64]) -> Vec<f64> {
    let best = maximum(x);
    let weights: Vec<f64> = x.iter().map(|x| (x - best).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// The argmax of scores plus noise over all tokens, and its gap: no skipping.
pub fn choose(x: &[f64], place: Place) -> (usize, f64) {
    let best = maximum(x);
    let noisy = x.iter().enumerate().map(|(token, x)| x - best + place.gumbel(token as u32));
    argmax(&noisy.collect::<Vec<_>>())
}

/// The lowest token of the largest number, and its lead over the next.
pub fn argmax(x: &[f64]) -> (usize, f64) {
    let order = order(x);
    (order[0], order.get(1).map_or(f64::INFINITY, |&second| x[order[0]] - x[second]))
}

fn order(x: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[b].total_cmp(&x[a]).then(a.cmp(&b)));
    order
}

fn maximum(x: &[f64]) -> f64 {
    x.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn keep(x: &mut [f64], kept: impl Fn(usize, f64) -> bool) {
    x.iter_mut().enumerate().for_each(|(token, x)| *x = if kept(token, *x) { *x } else { f64::NEG_INFINITY });
}

fn prefix(x: &mut [f64], merit: &[f64], mass: f64) {
    let (p, mut sum, mut kept) = (softmax(x), 0.0, vec![false; x.len()]);
    for token in order(merit) {
        if sum < mass {
            kept[token] = true;
            sum += p[token];
        }
    }
    keep(x, |token, _| kept[token]);
}

/// Most features are off in most draws; thresholds are no round numbers, for round probabilities would tie with them.
pub fn settings(vocabulary: usize) -> impl Strategy<Value = Settings> {
    let share = |off: f64| prop_oneof![3 => Just(off), 1 => 0.013..0.987f64];
    let size = |off: f64, range: std::ops::Range<f64>| prop_oneof![3 => Just(off), 1 => range];
    let token = 0..vocabulary as u32;
    let tokens = |count| proptest::collection::vec(token.clone(), count);
    let truncations = (
        prop_oneof![Just(0usize), 1..vocabulary + 3],
        share(1.0),
        share(0.0),
        share(1.0),
        size(0.0, 0.2..3.0),
        share(0.0),
        0.01..0.45f64,
    );
    let penalties = (size(1.0, 0.5..2.0), size(0.0, -1.0..1.0), size(0.0, -1.0..1.0));
    let dry = (size(0.0, 0.1..2.0), 1.0..2.5f64, 0usize..4, prop_oneof![Just(0usize), 1..15usize], tokens(0..3));
    let constraints = (
        proptest::collection::btree_map(token.clone(), -4.0..4.0f64, 0..3),
        proptest::collection::vec(tokens(1..4), 0..3),
        proptest::option::weighted(0.2, tokens(1..6)),
        tokens(0..3),
        0usize..6,
    );
    let temper = (prop_oneof![1 => Just(0.0), 3 => Just(1.0), 4 => 0.1..3.0f64], size(0.0, 0.3..6.0), 0.01..1.0f64);
    (truncations, penalties, dry, constraints, temper).prop_map(move |(cut, penalty, dry, constraint, temper)| {
        let mut s = Settings::new(vocabulary);
        (s.temperature, s.mirostat_tau, s.mirostat_eta) = temper;
        if s.temperature == 0.0 {
            s.mirostat_tau = 0.0;
        }
        if s.mirostat_tau == 0.0 {
            (s.top_k, s.top_p, s.min_p, s.typical_p, s.top_n_sigma, s.xtc_probability, s.xtc_threshold) = cut;
        }
        if s.temperature == 0.0 {
            (s.typical_p, s.xtc_probability) = (1.0, 0.0);
        }
        (s.repetition_penalty, s.presence_penalty, s.frequency_penalty) = penalty;
        (s.dry_multiplier, s.dry_base, s.dry_allowed_length, s.dry_range, s.dry_breakers) = dry;
        (s.logit_bias, s.bad_words, s.allowed_tokens, s.end_tokens, s.min_tokens) = constraint;
        s
    })
}

/// Logits of many tempers: ties, holes, flat, peaked, one +inf.
pub fn logits(vocabulary: usize) -> impl Strategy<Value = Vec<f32>> {
    let of = move |each: BoxedStrategy<f32>| proptest::collection::vec(each, vocabulary);
    prop_oneof![
        of((-6.0..6.0f32).boxed()),
        of((-0.1..0.1f32).boxed()),
        of((-3..3i8).prop_map(f32::from).boxed()),
        of((-3e4..3e4f32).boxed()),
        of(prop_oneof![2 => -4.0..4.0f32, 1 => Just(f32::NEG_INFINITY)].boxed()),
        (of((-6.0..6.0f32).boxed()), 0..vocabulary).prop_map(|(mut row, only)| {
            row[only] = f32::INFINITY;
            row
        }),
    ]
}

/// A past of few distinct tokens, so that they repeat.
pub fn past(vocabulary: usize) -> impl Strategy<Value = Past> {
    let tokens = move || proptest::collection::vec(0..vocabulary.min(4) as u32, 0..12);
    (tokens(), tokens(), proptest::option::of(0.0..8.0f64)).prop_map(|(prompt, output, mu)| Past { prompt, output, mu })
}
