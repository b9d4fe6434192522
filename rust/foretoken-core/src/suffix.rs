//! Suffix look-up: the most frequent continuation of the longest repeated end of a row.
//!
//! After `SuffixDecoding` (Oliaro et al. 2411.04975) and SAM-Decoding (Hu et al. 2411.10666): an automaton over the row's own
//! tokens, and one over a corpus that many rows share.

use std::sync::Arc;

use crate::automaton::{Automaton, End, Follower, Match};
use crate::corpus::{Corpus, Stock, check_match};
use crate::error::{Error, Result};
use crate::rows::{Rows, check_draft, check_drafts, check_length, check_tokens};

/// Guesses, token by token, what most often followed the longest match.
#[derive(Debug)]
pub struct Suffix {
    rows: Rows<Row>,
    corpus: Option<Arc<Corpus>>,
    max_match: u32,
    min_match: u32,
}

/// What a row may go on with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guess {
    /// The tokens.
    pub tokens: Vec<i64>,
    /// For each, its share among the tokens that followed the match it was looked up by.
    pub probabilities: Vec<f64>,
    /// How many tokens at the end of the row the first guess was looked up by; 0 if there is no guess.
    pub match_length: usize,
}

/// What several rows may go on with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guesses {
    /// Tokens (rows, k), -1 as padding.
    pub tokens: Vec<i64>,
    /// As in `Guess` (rows, k), 0 as padding.
    pub probabilities: Vec<f64>,
    /// How many tokens each row has.
    pub counts: Vec<i64>,
    /// As in `Guess`, of each row.
    pub match_lengths: Vec<i64>,
}

impl Suffix {
    /// Matches at most `max_match` tokens (1..=1024, no more than the corpus counts) and at least `min_match`.
    pub fn new(max_match: i64, corpus: Option<Arc<Corpus>>, min_match: i64) -> Result<Self> {
        let max_match = check_match("max_match", max_match)?;
        let min_match = check_match("min_match", min_match)?;
        if min_match > max_match {
            return Err(Error::Contradiction {
                first: "min_match",
                second: "max_match",
                reason: "the shortest match is longer than the longest, give min_match <= max_match",
            });
        }
        if corpus.as_ref().is_some_and(|corpus| corpus.max_match() < max_match) {
            return Err(Error::Contradiction {
                first: "max_match",
                second: "corpus",
                reason: "the corpus does not count contexts that long, give it a larger max_match or this a smaller one",
            });
        }
        Ok(Self { rows: Rows::new(), corpus, max_match, min_match })
    }

    /// The longest and the shortest match.
    pub fn sizes(&self) -> (u32, u32) {
        (self.max_match, self.min_match)
    }

    /// Begins a row with a prompt, which may be empty.
    pub fn start(&self, row: i64, prompt: &[i64]) -> Result<()> {
        self.rows.start(row, || {
            let mut made = Row {
                tokens: Vec::new(),
                automaton: Automaton::new(self.max_match),
                end: End::default(),
                shared: Match::default(),
                seen: None,
            };
            made.append(prompt)?;
            Ok(made)
        })
    }

    /// Continues a row; either all the tokens are taken or none.
    pub fn extend(&self, row: i64, tokens: &[i64]) -> Result<()> {
        self.rows.with(row, |held| {
            let old = held.tokens.len();
            held.append(tokens)?;
            let stock = self.corpus.as_ref().filter(|_| tokens.len() <= self.max_match as usize);
            match stock.and_then(|corpus| corpus.glance()) {
                Some(stock) if held.seen == Some(stock.version) => held.follow(&stock, old, self.max_match),
                _ => held.seen = None,
            }
            Ok(())
        })
    }

    /// Up to `k` tokens that may come next.
    ///
    /// Each is the token that most often (among equals, most recently) followed the longest end of row + draft, of at most
    /// `max_match` tokens, that anything followed: in the row itself, or in the corpus where the match is longer there. The
    /// draft ends where that match is shorter than `min_match`. A corpus that is being changed at this moment is not waited for,
    /// and not asked.
    pub fn propose(&self, row: i64, k: i64) -> Result<Guess> {
        let k = check_draft(k)?;
        let mut guess = Guess::default();
        guess.match_length = self.propose_into(row, k, &mut guess)?;
        Ok(guess)
    }

    /// `propose` for several rows in one call.
    pub fn propose_rows(&self, rows: &[i64], k: i64) -> Result<Guesses> {
        let k = check_draft(k)?;
        check_drafts(rows.len(), k)?;
        let mut all = Guesses::default();
        let mut guess = Guess::default();
        for (line, &row) in rows.iter().enumerate() {
            guess.tokens.clear();
            guess.probabilities.clear();
            all.match_lengths.push(self.propose_into(row, k, &mut guess)? as i64);
            all.counts.push(guess.tokens.len() as i64);
            all.tokens.extend(&guess.tokens);
            all.tokens.resize((line + 1) * k, -1);
            all.probabilities.extend(&guess.probabilities);
            all.probabilities.resize((line + 1) * k, 0.0);
        }
        Ok(all)
    }

    /// Adds at most `k` guesses to an empty list; how many tokens the first was looked up by.
    fn propose_into(&self, row: i64, k: usize, guess: &mut Guess) -> Result<usize> {
        self.rows.with(row, |held| {
            let stock = self.corpus.as_ref().and_then(|corpus| corpus.glance());
            if let Some(stock) = stock.as_ref().filter(|stock| held.seen != Some(stock.version)) {
                held.shared = Match::default();
                let old = held.tokens.len().saturating_sub(self.max_match as usize);
                held.follow(stock, old, self.max_match);
                held.seen = Some(stock.version);
            }
            let mut own = held.automaton.tail(&held.end, self.max_match);
            let mut shared = held.shared;
            let mut match_length = 0;
            for _ in 0..k {
                let here = held.automaton.follower(own);
                let there = stock.as_ref().and_then(|stock| stock.automaton.follower(shared));
                let Some(Follower { token, probability, length }) =
                    longer(here, there).filter(|follower| follower.length >= self.min_match)
                else {
                    break;
                };
                if guess.tokens.is_empty() {
                    match_length = length as usize;
                }
                guess.tokens.push(i64::from(token));
                guess.probabilities.push(probability);
                own = held.automaton.advance(own, token, self.max_match);
                if let Some(stock) = &stock {
                    shared = stock.automaton.advance(shared, token, self.max_match);
                }
            }
            Ok(match_length)
        })
    }

    /// Forgets a row.
    pub fn stop(&self, row: i64) -> Result<()> {
        self.rows.stop(row)
    }

    /// The tokens of every row, by rising number: all that is needed to build the same again.
    pub fn texts(&self) -> Vec<(i64, Vec<i64>)> {
        self.rows.collect(|held| held.tokens.iter().map(|&token| i64::from(token)).collect())
    }
}

#[derive(Debug)]
struct Row {
    tokens: Vec<u32>,
    automaton: Automaton,
    end: End,
    /// The longest end of the row that stands in the corpus, as it was at version `seen`.
    shared: Match,
    seen: Option<u64>,
}

impl Row {
    fn append(&mut self, tokens: &[i64]) -> Result<()> {
        check_length(self.tokens.len(), tokens.len())?;
        let tokens = check_tokens(tokens)?;
        for &token in &tokens {
            self.automaton.append(&mut self.end, token);
        }
        self.tokens.extend(tokens);
        Ok(())
    }

    /// Moves the match in the corpus over the tokens from `old` on.
    fn follow(&mut self, stock: &Stock, old: usize, max_match: u32) {
        for &token in &self.tokens[old..] {
            self.shared = stock.automaton.advance(self.shared, token, max_match);
        }
    }
}

/// The corpus has to know a longer match to be asked instead of the row itself.
fn longer(here: Option<Follower>, there: Option<Follower>) -> Option<Follower> {
    match (here, there) {
        (Some(own), Some(shared)) if shared.length > own.length => Some(shared),
        (None, shared) => shared,
        (own, _) => own,
    }
}
