//! The ratio test of one place: guesses that follow the same text, one after another.

use super::draft::{Guesses, Laws};
use crate::chance::{Chance, Choice};
use crate::kept::Kept;
use crate::noise::{ACCEPT, RESIDUAL, ln};
use crate::scan::{Maxima, Row};

/// Room for what the target's law has more than the drafter's.
#[derive(Debug, Default)]
pub(crate) struct Residual {
    pub masses: Vec<f64>,
    scores: Vec<f64>,
    maxima: Maxima<f64>,
}

/// A token in proportion to `masses` (vocabulary), of which one is positive.
pub(crate) fn draw(residual: &mut Residual, position: u32, chance: &mut impl Chance) -> Choice {
    let Residual { masses, scores, maxima } = residual;
    scores.clear();
    scores.extend(masses.iter().map(|&mass| if mass > 0.0 { ln(mass) } else { f64::NEG_INFINITY }));
    chance.choice(RESIDUAL, position, &Kept::Edited(Row::new(scores, maxima), 1.0))
}

/// Keeps one of the guesses at these places, each with probability `min(1, r/q)`, or else draws from what they left.
///
/// Here r is what the guesses before have left of the law, in proportion: at first p, then `max(r - q, 0)`. The choice
/// has the law p whatever the guesses are, as long as each was drawn from its q given those before it: Algorithm 1 of
/// 2211.17192 applied to each in turn (2305.09781).
pub(crate) fn ratio_test(
    kept: &Kept,
    guesses: &Guesses,
    places: &[usize],
    position: u32,
    chance: &mut impl Chance,
    residual: &mut Residual,
) -> (Choice, bool) {
    if guesses.laws == Laws::Certain {
        certain(kept, guesses, places, position, chance, residual)
    } else {
        drawn(kept, guesses, places, position, chance, residual)
    }
}

fn accept(token: u32) -> (Choice, bool) {
    (Choice { token, gap: f64::INFINITY }, true)
}

fn drawn(
    kept: &Kept,
    guesses: &Guesses,
    places: &[usize],
    position: u32,
    chance: &mut impl Chance,
    residual: &mut Residual,
) -> (Choice, bool) {
    let softmax = kept.softmax();
    let mut left = 1.0;
    for (rank, &place) in places.iter().enumerate() {
        let (token, law) = (guesses.token(place), guesses.law(place));
        let r = if rank == 0 { softmax.of(kept.score(token)) } else { residual.masses[token as usize] };
        if chance.bernoulli(ACCEPT, position, rank as u32, r, left * law.of(token)) {
            return accept(token);
        }
        if rank == 0 {
            residual.masses.resize(guesses.vocabulary, 0.0);
            kept.law(&mut residual.masses);
        }
        left = law.take_from(&mut residual.masses, left);
        if left == 0.0 {
            // r ≤ q everywhere, so they were equal but for the tolerance of their sums: any law that has r's tokens.
            kept.law(&mut residual.masses);
            left = 1.0;
        }
    }
    (draw(residual, position, chance), false)
}

/// The same where q is one for the guess: then r is p without the guesses before, and needs no pass over the row.
fn certain(
    kept: &Kept,
    guesses: &Guesses,
    places: &[usize],
    position: u32,
    chance: &mut impl Chance,
    residual: &mut Residual,
) -> (Choice, bool) {
    let softmax = kept.softmax();
    let mut left = 1.0;
    for (rank, &place) in places.iter().enumerate() {
        let token = guesses.token(place);
        let tried = places[..rank].iter().any(|&before| guesses.token(before) == token);
        let p = if tried { 0.0 } else { softmax.of(kept.score(token)) };
        if chance.bernoulli(ACCEPT, position, rank as u32, p, left) {
            return accept(token);
        }
        // Not below zero: then a token without probability would pass.
        left = (left - p).max(0.0);
    }
    let Residual { scores, maxima, .. } = residual;
    scores.clear();
    scores.resize(guesses.vocabulary, f64::NEG_INFINITY);
    kept.each(|token, score| scores[token as usize] = score);
    for &place in places {
        scores[guesses.token(place) as usize] = f64::NEG_INFINITY;
    }
    let rest = Row::new(scores, maxima);
    // Where rounding has left nothing, the law itself has only tokens that may be drawn.
    let some = rest.max() > f64::NEG_INFINITY;
    let rest = if some { Kept::Edited(rest, 1.0) } else { *kept };
    (chance.choice(RESIDUAL, position, &rest), false)
}
