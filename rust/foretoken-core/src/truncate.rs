//! Which tokens stay: the steps after temperature.
//!
//! Each step works on the few candidates that the steps before it left. A row of the whole vocabulary is read once
//! or twice to collect them, and never sorted.

use crate::kept::{Candidate, maximum};
use crate::noise::{exp, ln};
use crate::nucleus::{Weights, nucleus};
use crate::sampler::Sampler;
use crate::scan::{Last, Logit, Row, descending};

/// A longer prefix of a row is not copied: drawing from the row as it lies is faster.
const LISTED: usize = 1024;

/// Fills `list` with the tokens of a row that survive, as the sampler says; `xtc` is whether XTC happens here.
///
/// If they are a long prefix of the row's most probable tokens, says instead where it ends. The row holds no +inf and
/// at least one token that may be drawn.
pub(crate) fn truncate<V: Logit>(
    sampler: &Sampler,
    row: Row<V>,
    xtc: bool,
    list: &mut Vec<Candidate>,
    bounds: &mut Vec<V>,
    weights: &mut Weights,
) -> Option<Last> {
    let t = sampler.temperature;
    let top = row.max().wide() / t;
    let lowest = if sampler.top_n_sigma > 0.0 { top - sampler.top_n_sigma * deviation(row, t) } else { f64::MIN };
    list.clear();
    if sampler.top_k > 0 && sampler.top_k < row.values.len() {
        top_k(row, t, sampler.top_k, list, bounds);
        list.retain(|candidate| candidate.x >= lowest);
        top_p(list, top, sampler.top_p);
    } else if sampler.top_p < 1.0 && lowest == f64::MIN {
        let (end, count) = nucleus(row, t, sampler.top_p, weights);
        if count > LISTED && sampler.min_p == 0.0 && sampler.typical_p == 1.0 && !xtc {
            return Some(end);
        }
        let prefix = row.until(end);
        prefix.each(V::below(end.x * t), |token, value| {
            list.push(Candidate { token, x: value.wide() / t, rank: 0.0 });
        });
    } else {
        // exp(ln p) may miss p by an ulp or two, so that min_p itself decides below.
        let likely =
            if sampler.top_p == 1.0 && sampler.min_p > 0.0 { top + ln(sampler.min_p) - 1e-9 } else { f64::MIN };
        collect(row, t, lowest.max(likely), list);
        top_p(list, top, sampler.top_p);
    }
    if sampler.min_p > 0.0 {
        list.retain(|candidate| exp(candidate.x - top) >= sampler.min_p);
    }
    if sampler.typical_p < 1.0 {
        typical(list, top, sampler.typical_p);
    }
    if xtc {
        exclude_top_choices(list, sampler.xtc_threshold);
    }
    None
}

/// Mirostat 2 (2007.14966): keeps tokens of at most `mu` bits of surprise, or else the best.
pub(crate) fn mirostat<V: Logit>(row: Row<V>, temperature: f64, mu: f64, list: &mut Vec<Candidate>) {
    let top = row.max().wide() / temperature;
    let log_sum = ln(row.sum_exp(temperature, top));
    let surprise = |x: f64| (top - x + log_sum) / std::f64::consts::LN_2;
    list.clear();
    collect(row, temperature, (top + log_sum - mu * std::f64::consts::LN_2 - 1e-9).min(top), list);
    let best = list.iter().filter(|candidate| candidate.x == top).min_by_key(|candidate| candidate.token).copied();
    list.retain(|candidate| surprise(candidate.x) <= mu);
    if list.is_empty() {
        list.extend(best);
    }
}

/// Surprise in bits of one candidate under the law of them all.
pub(crate) fn surprise(list: &[Candidate], token: u32) -> f64 {
    let top = maximum(list);
    let sum: f64 = list.iter().map(|candidate| exp(candidate.x - top)).sum();
    let chosen = list.iter().find(|candidate| candidate.token == token).map_or(top, |candidate| candidate.x);
    (top - chosen + ln(sum)) / std::f64::consts::LN_2
}

fn collect<V: Logit>(row: Row<V>, temperature: f64, lowest: f64, list: &mut Vec<Candidate>) {
    row.each(V::below(lowest * temperature), |token, value| {
        let x = value.wide() / temperature;
        if x >= lowest {
            list.push(Candidate { token, x, rank: 0.0 });
        }
    });
}

/// The population's standard deviation of the finite scores.
fn deviation<V: Logit>(row: Row<V>, temperature: f64) -> f64 {
    let (mut count, mut sum) = (0.0, 0.0);
    row.each(V::BANNED, |_, value| {
        count += 1.0;
        sum += value.wide() / temperature;
    });
    let mean = sum / count;
    let mut squares = 0.0;
    row.each(V::BANNED, |_, value| squares += (value.wide() / temperature - mean).powi(2));
    (squares / count).sqrt()
}

/// Keeps the k best, and those equal to the k-th.
fn top_k<V: Logit>(row: Row<V>, temperature: f64, k: usize, list: &mut Vec<Candidate>, bounds: &mut Vec<V>) {
    // A little below, because values that differ may be equal once divided.
    let bound = V::below(row.low_bound(k, bounds).wide());
    row.each(bound, |token, value| list.push(Candidate { token, x: value.wide() / temperature, rank: 0.0 }));
    if list.len() > k {
        let kth = list.select_nth_unstable_by(k - 1, |a, b| descending(&a.x, &b.x)).1.x;
        list.retain(|candidate| candidate.x >= kth);
    }
}

/// The sum of the candidates' weights, by which a weight becomes a probability.
fn weigh(list: &[Candidate], top: f64) -> f64 {
    list.iter().map(|candidate| exp(candidate.x - top)).sum()
}

/// Keeps the shortest prefix of the most probable tokens with this mass (1904.09751).
fn top_p(list: &mut Vec<Candidate>, top: f64, mass: f64) {
    if mass < 1.0 {
        let sum = weigh(list, top);
        for candidate in &mut *list {
            candidate.rank = -candidate.x;
        }
        prefix(list, mass, |x| exp(x - top) / sum);
    }
}

/// Keeps the first candidates, lowest rank first (ties: lowest id), until their probabilities sum to `mass`. Only the end of the prefix is put in order: what
/// surely lies before it is summed as it stands. Prefixes are mostly short, so the first guess is 32 candidates, and
/// eight times as many each time that is too few.
fn prefix(list: &mut Vec<Candidate>, mass: f64, p: impl Fn(f64) -> f64) {
    let order = |a: &Candidate, b: &Candidate| descending(&b.rank, &a.rank).then(a.token.cmp(&b.token));
    let (mut start, mut before, mut end, mut guess) = (0, 0.0, list.len(), 32);
    while end - start > 32 {
        let middle = if end == list.len() { (start + guess).min(end - 1) } else { start.midpoint(end) };
        list[start..end].select_nth_unstable_by(middle - start, order);
        let sum: f64 = list[start..middle].iter().map(|candidate| p(candidate.x)).sum();
        if before + sum >= mass {
            end = middle;
        } else {
            (start, before, guess) = (middle, before + sum, guess * 8);
        }
    }
    list[start..end].sort_unstable_by(order);
    let sums = list[start..end].iter().scan(before, |sum, candidate| {
        *sum += p(candidate.x);
        Some(*sum)
    });
    let reached = sums.take_while(|sum| *sum < mass).count();
    list.truncate((start + reached + 1).min(list.len()));
}

/// Keeps the mass p whose surprise is nearest to the entropy (2202.00666).
fn typical(list: &mut Vec<Candidate>, top: f64, mass: f64) {
    let sum = weigh(list, top);
    let log_sum = ln(sum);
    let p = |x: f64| exp(x - top) / sum;
    let surprise = |x: f64| log_sum - (x - top);
    let entropy: f64 = list.iter().map(|candidate| p(candidate.x) * surprise(candidate.x)).sum();
    for candidate in &mut *list {
        candidate.rank = (surprise(candidate.x) - entropy).abs();
    }
    prefix(list, mass, p);
}

/// XTC: of the tokens with at least this probability only the least probable stays (oobabooga#6335).
fn exclude_top_choices(list: &mut Vec<Candidate>, threshold: f64) {
    let best = maximum(list);
    let sum = weigh(list, best);
    let is_top = |candidate: &Candidate| exp(candidate.x - best) / sum >= threshold;
    let top = list.iter().filter(|candidate| is_top(candidate));
    let least = top.min_by(|a, b| descending(&b.x, &a.x).then(b.token.cmp(&a.token))).copied();
    if let Some(least) = least {
        list.retain(|candidate| !is_top(candidate) || candidate.token == least.token);
    }
}
