//! Log probabilities under the model's raw row, before any constraint, penalty or temperature.

use crate::batch::Output;
use crate::kept::Candidate;
use crate::logits::Scratch;
use crate::noise::ln;
use crate::scan::{Row, descending};

impl Output {
    /// Appends the log probability of `token` and of the `count` most probable (ties: lowest id).
    ///
    /// A token was drawn from this row, so it has no NaN, at most one +inf, and something finite.
    pub(crate) fn describe(&mut self, logits: &[f32], token: u32, count: usize, scratch: &mut Scratch) {
        let Scratch { maxima, bounds, list, .. } = scratch;
        let raw = Row::new(logits, maxima);
        let top = f64::from(raw.max());
        let log_sum = if top.is_finite() { ln(raw.sum_exp(1.0, top)) } else { 0.0 };
        let logprob = |logit: f32| match f64::from(logit) {
            logit if top.is_finite() => logit - top - log_sum,
            logit if logit == top => 0.0,
            _ => f64::NEG_INFINITY,
        };
        self.logprobs.push(logprob(logits[token as usize]));
        if count == 0 {
            return;
        }
        list.clear();
        // Beside +inf all others are equally impossible, so any of them may be among the first.
        let bound = if top.is_finite() { raw.low_bound(count, bounds) } else { f32::NEG_INFINITY };
        let ids = 0u32..;
        let reaching = ids.zip(logits).filter(|(_, logit)| **logit >= bound);
        list.extend(reaching.map(|(token, &logit)| Candidate { token, x: logprob(logit), rank: 0.0 }));
        let order = |a: &Candidate, b: &Candidate| descending(&a.x, &b.x).then(a.token.cmp(&b.token));
        if count < list.len() {
            list.select_nth_unstable_by(count - 1, order);
            list.truncate(count);
        }
        list.sort_unstable_by(order);
        self.top_tokens.extend(list.iter().map(|candidate| i64::from(candidate.token)));
        self.top_logprobs.extend(list.iter().map(|candidate| candidate.x));
    }
}
