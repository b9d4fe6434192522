//! The ratio test of a whole block: Sun et al., "Block Verification Accelerates Speculative Decoding" (2403.10444).

use super::Block;
use super::ratio::draw;
use crate::batch::{Output, Space};
use crate::chance::{Chance, Choice};
use crate::error::Result;
use crate::history::{Ahead, History};
use crate::noise::{ACCEPT, CHOICE};
use crate::sampler::Sampler;

impl Block<'_> {
    /// As `verify`, but a probable guess may make up for an improbable one before it: Algorithm 2, in one pass.
    ///
    /// With p(i) = min(1, p(i-1)·p/q) for guess i, the first i guesses may stay with probability S/(S + 1 - p(i)), where
    /// S is the sum of what `max(p(i)·p - q, 0)` leaves of the law behind them; all of them with probability p(k). The
    /// longest beginning that may stay does, and what was left behind it is drawn from. Places behind it are looked
    /// at, too, so the uniforms are those of the first position: those of the others belong to later blocks.
    pub(crate) fn verify_whole(
        &self,
        sampler: &Sampler,
        history: &mut History,
        chance: &mut impl Chance,
        space: &mut Space,
        output: &mut Output,
    ) -> Result<()> {
        let Space { scratch, siblings, .. } = space;
        let (masses, rest) = (&mut siblings.residual.masses, &mut siblings.rest);
        let (guesses, start) = (self.guesses, self.start.position);
        let mut past = Ahead::new(history);
        let (mut stay, mut mu, mut p) = (0, past.mu, 1.0_f64);
        for place in 0..guesses.tokens.len() {
            let kept = sampler.keep(self.logits_at(place), self.site(place), &mut past, chance, scratch)?;
            let (token, law) = (guesses.token(place), guesses.law(place));
            masses.resize(guesses.vocabulary, 0.0);
            kept.law(masses);
            let target = masses[token as usize];
            for mass in masses.iter_mut() {
                *mass *= p;
            }
            let left = law.take_from(masses, 1.0);
            if place == 0 || chance.bernoulli(ACCEPT, start, place as u32, left, left + 1.0 - p) {
                (stay, mu) = (place, past.mu);
                if left == 0.0 {
                    kept.law(masses); // of the first place: p and q are the same but for the tolerance of their sums
                }
                std::mem::swap(masses, rest);
            }
            p = (p * target / law.of(token)).min(1.0);
            if p == 0.0 {
                break; // nothing behind this guess may stay
            }
            past.mu = sampler.next_mu(&past, &kept, token).or(past.mu);
            past.push(token);
        }
        let k = guesses.tokens.len();
        let whole = k == 0 || (p > 0.0 && chance.bernoulli(ACCEPT, start, k as u32, p, 1.0));
        if whole {
            stay = k;
        } else {
            past.rewind(stay, mu);
        }
        for place in 0..stay {
            let certain = Choice { token: guesses.token(place), gap: f64::INFINITY };
            output.emit(certain, self.logits_at(place), self.logprobs, scratch);
        }
        let logits = self.logits_at(stay);
        let choice = if whole {
            let kept = sampler.keep(logits, self.site(stay), &mut past, chance, scratch)?;
            let choice = chance.choice(CHOICE, start + stay as u32, &kept);
            past.mu = sampler.next_mu(&past, &kept, choice.token).or(past.mu);
            choice
        } else {
            std::mem::swap(masses, rest);
            let choice = draw(&mut siblings.residual, start + stay as u32, chance);
            if sampler.mirostat_tau > 0.0 {
                // The law of this place again; under Mirostat no noise goes into it.
                let kept = sampler.keep(logits, self.site(stay), &mut past, chance, scratch)?;
                past.mu = sampler.next_mu(&past, &kept, choice.token).or(past.mu);
            }
            choice
        };
        output.emit(choice, logits, self.logprobs, scratch);
        output.accepted.push(stay as i64);
        output.path.extend(0..stay as i64);
        output.mu.push(past.mu);
        Ok(())
    }
}
