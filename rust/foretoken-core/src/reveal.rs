//! One masked step: which unknown positions of a canvas become known, and what they become.
//!
//! Rows are ragged and never look at each other; known tokens and their logits are not read. What a rule asks of a law is
//! worked out for every unknown position, but a token is drawn only where it is needed: where it becomes known, or where the
//! rule looks at draws. The slow twin is `foretoken.reference.reveal`.

mod choose;
mod outlook;

pub use choose::{Rule, choose};

use std::borrow::Cow;

use crate::batch::{Batch, with_space};
use crate::chance::Noise;
use crate::error::{Error, Result};
use crate::logits::{Scratch, Site};
use crate::noise::{CHOICE, MASKED, Place};
use crate::parallel::spread;
use crate::sampler::{Sampler, Settings};
use choose::Numbers;
use outlook::{Outlook, View};

/// What a position holds that is not known yet.
pub const UNKNOWN: i64 = -1;
/// One more than the last step.
const STEPS: i64 = 1 << 28;
/// How many logits a thread should at least have to read: to start it takes as long.
const WORTH: usize = 1 << 16;

/// Tokens (rows, positions), -1 where one is to be found.
#[derive(Debug, Clone, Copy)]
pub struct Canvas<'a> {
    /// Row after row.
    pub tokens: &'a [i64],
    /// How many positions a row has.
    pub positions: usize,
    /// How many of them take part, all of them unless given.
    pub lengths: Option<&'a [i64]>,
}

/// How many positions become known in each row: what the rule's bound says, but at least `least`, at most `most`.
#[derive(Debug, Clone, Copy)]
pub struct Counts<'a> {
    /// (rows,).
    pub least: &'a [i64],
    /// (rows,); counts where the two contradict each other.
    pub most: &'a [i64],
}

/// What a step has changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Revealed {
    /// The new tokens (rows, positions).
    pub tokens: Vec<i64>,
    /// Whether a position became known.
    pub revealed: Vec<bool>,
    /// What the rule has ordered unknown positions by, the highest first; NaN elsewhere.
    pub scores: Vec<f64>,
    /// The lead of each choice over the next best; +inf where nothing was revealed, or nothing competed.
    pub gaps: Vec<f64>,
}

/// What is known about unknown positions, each (rows, positions); NaN elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Confidences {
    /// The token that would be revealed; the canvas' own elsewhere.
    pub tokens: Vec<i64>,
    /// The lead of that choice over the next best.
    pub gaps: Vec<f64>,
    /// The probability of the token.
    pub probabilities: Vec<f64>,
    /// The entropy of the law, in nats.
    pub entropies: Vec<f64>,
    /// The largest probability.
    pub largest: Vec<f64>,
    /// The largest less the second largest.
    pub margins: Vec<f64>,
}

/// An unknown position.
#[derive(Debug, Clone, Copy)]
struct Unknown {
    row: usize,
    position: usize,
}

/// Reveals the positions that a rule takes first; `batch` has logits (rows, positions, vocabulary).
///
/// Draws come from the noise of the step: that of `sample` at step 0, its own at every other one.
///
/// # Errors
/// An argument that is off, or a law that nothing can be drawn from where one was looked at; nothing has changed then.
pub fn reveal(
    sampler: &Sampler,
    batch: &Batch,
    canvas: &Canvas,
    step: i64,
    rule: &Rule,
    counts: &Counts,
) -> Result<Revealed> {
    let eyes = Eyes::new(sampler, batch, canvas, step)?;
    let unknown = canvas.unknown();
    rule.check(canvas, &unknown)?;
    counts.check(batch.count)?;
    let left = left_of(&unknown, batch.count);
    let surely = |row: usize| counts.least[row].min(counts.most[row]) >= left[row] as i64;
    // Looked at once, where it is known beforehand that all of a row is revealed.
    let at_once = |place: &Unknown| rule.draws() || surely(place.row);
    let looked = eyes.each(&unknown, |place, scratch| {
        let index = canvas.index(place);
        let wanted = rule.wanted();
        if wanted.is_none() && !at_once(place) {
            return Ok((rule.given(index), None));
        }
        let found = eyes.look(place, wanted.unwrap_or_default(), at_once(place), scratch)?;
        let score = if wanted.is_none() { rule.given(index) } else { rule.score(&found, || eyes.coin(place)) };
        Ok((score, found.choice))
    })?;
    let scores: Vec<f64> = looked.iter().map(|(score, _)| *score).collect();
    let chosen = choose::order(&unknown, &scores, &left, rule.bound(), counts);
    let missing: Vec<Unknown> =
        chosen.iter().filter(|&&place| looked[place].1.is_none()).map(|&place| unknown[place]).collect();
    let drawn =
        eyes.each(&missing, |place, scratch| Ok(eyes.look(place, Numbers::default(), true, scratch)?.choice))?;
    let mut output = Revealed {
        tokens: canvas.tokens.to_vec(),
        revealed: vec![false; canvas.tokens.len()],
        scores: vec![f64::NAN; canvas.tokens.len()],
        gaps: vec![f64::INFINITY; canvas.tokens.len()],
    };
    for (place, score) in unknown.iter().zip(&scores) {
        output.scores[canvas.index(place)] = *score;
    }
    let mut drawn = drawn.into_iter();
    for place in chosen {
        if let Some(choice) = looked[place].1.or_else(|| drawn.next().flatten()) {
            let index = canvas.index(&unknown[place]);
            output.tokens[index] = i64::from(choice.token);
            output.revealed[index] = true;
            output.gaps[index] = choice.gap;
        }
    }
    Ok(output)
}

/// Draws a token for every unknown position and says how sure of it one may be, for rules of the caller's own.
///
/// # Errors
/// As `reveal`.
pub fn confidences(sampler: &Sampler, batch: &Batch, canvas: &Canvas, step: i64) -> Result<Confidences> {
    let eyes = Eyes::new(sampler, batch, canvas, step)?;
    let unknown = canvas.unknown();
    let found = eyes.each(&unknown, |place, scratch| eyes.look(place, Numbers::ALL, true, scratch))?;
    let nothing = vec![f64::NAN; canvas.tokens.len()];
    let mut output = Confidences {
        tokens: canvas.tokens.to_vec(),
        gaps: nothing.clone(),
        probabilities: nothing.clone(),
        entropies: nothing.clone(),
        largest: nothing.clone(),
        margins: nothing,
    };
    for (place, found) in unknown.iter().zip(found) {
        let index = canvas.index(place);
        if let Some(choice) = found.choice {
            output.tokens[index] = i64::from(choice.token);
            output.gaps[index] = choice.gap;
        }
        output.probabilities[index] = found.probability;
        output.entropies[index] = found.entropy;
        output.largest[index] = found.largest;
        output.margins[index] = found.margin;
    }
    Ok(output)
}

/// What looks at logits: the sampler that draws, and the one whose laws tell how sure a draw is.
struct Eyes<'a> {
    batch: &'a Batch<'a>,
    positions: usize,
    /// Draws.
    sampler: &'a Sampler,
    /// Says how sure a draw is: at temperature 0, where every law would be a certainty, by the law of temperature 1.
    judge: Cow<'a, Sampler>,
    step: u32,
}

impl<'a> Eyes<'a> {
    fn new(sampler: &'a Sampler, batch: &'a Batch<'a>, canvas: &Canvas, step: i64) -> Result<Self> {
        batch.check(sampler, canvas.positions)?;
        canvas.check(batch.count)?;
        if sampler.needs_history() {
            let reason = "what was drawn has no order in a canvas: turn penalties, DRY, Mirostat, bad words of several \
                          tokens and min_tokens off, or change the logits before";
            return Err(Error::Contradiction { first: "sampler", second: "canvas", reason });
        }
        if !(0..STEPS).contains(&step) {
            return Err(Error::Range { name: "step", value: step as f64, expected: "a step in 0..268435456" });
        }
        let judge = if sampler.is_greedy() {
            Cow::Owned(Sampler::new(Settings { temperature: 1.0, ..Settings::clone(sampler) })?)
        } else {
            Cow::Borrowed(sampler)
        };
        Ok(Self { batch, positions: canvas.positions, sampler, judge, step: step as u32 })
    }

    /// The noise of a token at this step: that of `sample` at the first one.
    fn stream(&self) -> u32 {
        if self.step == 0 { CHOICE } else { MASKED + 2 * self.step }
    }

    fn position(&self, place: &Unknown) -> u32 {
        (self.batch.positions[place.row] + place.position as i64) as u32
    }

    /// Gumbel noise for the choice among positions.
    fn coin(&self, place: &Unknown) -> f64 {
        let Noise { seed, row } = self.batch.noise(place.row);
        Place { seed, row, position: self.position(place), stream: MASKED + 2 * self.step + 1 }.gumbel(0)
    }

    fn look(&self, place: &Unknown, wanted: Numbers, draws: bool, scratch: &mut Scratch) -> Result<Outlook> {
        let size = self.sampler.vocab_size;
        let logits = &self.batch.logits[(place.row * self.positions + place.position) * size..][..size];
        let view = View {
            logits,
            site: Site { row: place.row, position: self.position(place) },
            noise: self.batch.noise(place.row),
            stream: self.stream(),
        };
        view.look((self.sampler, &self.judge), wanted, draws, scratch)
            .map_err(|error| Error::At { position: place.position, error: Box::new(error) })
    }

    /// Calls `work` for some positions, in threads; the first that fails decides.
    fn each<T: Send>(
        &self,
        places: &[Unknown],
        work: impl Fn(&Unknown, &mut Scratch) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let unit = WORTH.div_ceil(self.sampler.vocab_size);
        let parts = spread(places.len(), unit, self.batch.threads, |range| {
            with_space(|space| places[range].iter().map(|place| work(place, &mut space.scratch)).collect())
        });
        let parts: Result<Vec<Vec<T>>> = parts.into_iter().collect();
        Ok(parts?.into_iter().flatten().collect())
    }
}

impl Canvas<'_> {
    /// Refuses sizes that do not fit, lengths that no row has, and tokens below -1.
    fn check(&self, rows: usize) -> Result<()> {
        let expect = |name, given, expected| {
            if given == expected { Ok(()) } else { Err(Error::Shape { name, unit: "entries", given, expected }) }
        };
        expect("canvas", self.tokens.len(), rows * self.positions)?;
        expect("lengths", self.lengths.map_or(rows, <[i64]>::len), rows)?;
        let (lengths, expected) = (self.lengths.unwrap_or(&[]), "at most the number of positions");
        if let Some(&length) = lengths.iter().find(|&&length| length < 0 || length as usize > self.positions) {
            return Err(Error::Range { name: "lengths", value: length as f64, expected });
        }
        match self.tokens.iter().find(|&&token| token < UNKNOWN) {
            Some(&token) => {
                let expected = "token ids, and -1 where one is to be found";
                Err(Error::Range { name: "canvas", value: token as f64, expected })
            }
            None => Ok(()),
        }
    }

    /// The unknown positions, row after row.
    fn unknown(&self) -> Vec<Unknown> {
        let mut found = Vec::new();
        for (row, tokens) in self.tokens.chunks_exact(self.positions.max(1)).enumerate() {
            let length = self.lengths.map_or(self.positions, |lengths| lengths[row] as usize);
            let places = tokens[..length].iter().enumerate().filter(|(_, token)| **token == UNKNOWN);
            found.extend(places.map(|(position, _)| Unknown { row, position }));
        }
        found
    }

    fn index(&self, place: &Unknown) -> usize {
        place.row * self.positions + place.position
    }
}

impl Counts<'_> {
    fn check(&self, rows: usize) -> Result<()> {
        for (name, counts) in [("least", self.least), ("most", self.most)] {
            if counts.len() != rows {
                return Err(Error::Shape { name, unit: "entries", given: counts.len(), expected: rows });
            }
            if let Some(&count) = counts.iter().find(|count| **count < 0) {
                return Err(Error::Range { name, value: count as f64, expected: "numbers of positions, 0 or more" });
            }
        }
        Ok(())
    }
}

/// How many unknown positions each row has.
fn left_of(unknown: &[Unknown], rows: usize) -> Vec<usize> {
    let mut left = vec![0; rows];
    for place in unknown {
        left[place.row] += 1;
    }
    left
}

#[cfg(test)]
mod tests;
