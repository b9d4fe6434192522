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
        let logprob = |logit: f64| match (top.is_finite(), logit == top) {
            (true, _) => logit - top - log_sum,
            (false, true) => 0.0,
            (false, false) => f64::NEG_INFINITY,
        };
        self.logprobs.push(logprob(f64::from(logits[token as usize])));
        if count == 0 {
            return;
        }
        list.clear();
        let bound = raw.low_bound(count, bounds);
        let ids = 0u32..;
        let reaching = ids.zip(logits).filter(|(_, logit)| **logit >= bound);
        list.extend(reaching.map(|(token, &logit)| Candidate { token, x: f64::from(logit), p: 0.0 }));
        let order = |a: &Candidate, b: &Candidate| descending(&a.x, &b.x).then(a.token.cmp(&b.token));
        if count < list.len() {
            list.select_nth_unstable_by(count - 1, order);
            list.truncate(count);
        }
        list.sort_unstable_by(order);
        self.top_tokens.extend(list.iter().map(|candidate| i64::from(candidate.token)));
        self.top_logprobs.extend(list.iter().map(|candidate| logprob(candidate.x)));
    }
}
