//! The parameters of a choice, checked once a generation.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// The fields of Python's `Sampler`, and what a generation adds; `Default` draws from the model's own law.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // each is documented once, where users read it: `foretoken.Sampler`
pub struct Settings {
    pub temperature: f64,
    pub top_k: usize,
    pub top_p: f64,
    pub min_p: f64,
    pub typical_p: f64,
    pub top_n_sigma: f64,
    pub xtc_probability: f64,
    pub xtc_threshold: f64,
    pub dry_multiplier: f64,
    pub dry_base: f64,
    pub dry_allowed_length: usize,
    pub dry_range: usize,
    pub dry_breakers: Vec<u32>,
    pub mirostat_tau: f64,
    pub mirostat_eta: f64,
    pub repetition_penalty: f64,
    pub presence_penalty: f64,
    pub frequency_penalty: f64,
    pub logit_bias: BTreeMap<u32, f64>,
    pub bad_words: Vec<Vec<u32>>,
    pub allowed_tokens: Option<Vec<u32>>,
    pub vocab_size: usize,
    pub end_tokens: Vec<u32>,
    pub min_tokens: usize,
}

impl Settings {
    /// The model's own law over `vocab_size` tokens.
    pub fn new(vocab_size: usize) -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_range: 0,
            dry_breakers: Vec::new(),
            mirostat_tau: 0.0,
            mirostat_eta: 0.1,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            bad_words: Vec::new(),
            allowed_tokens: None,
            vocab_size,
            end_tokens: Vec::new(),
            min_tokens: 0,
        }
    }
}

/// Settings that were found to be sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    settings: Settings,
}

impl std::ops::Deref for Sampler {
    type Target = Settings;
    fn deref(&self) -> &Settings {
        &self.settings
    }
}

/// Larger numbers would let a logit of 3.4e38 overflow f64 somewhere in the chain.
const HUGE: f64 = 1e30;

impl Sampler {
    /// Checks every field.
    ///
    /// # Errors
    /// A number out of range, a token outside the vocabulary, or two fields that contradict each other.
    pub fn new(mut settings: Settings) -> Result<Self> {
        check_numbers(&settings)?;
        check_tokens(&settings)?;
        check_contradictions(&settings)?;
        settings.dry_breakers.sort_unstable();
        Ok(Self { settings })
    }

    /// Whether the most probable token is always taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether a choice depends on the row's past.
    pub fn needs_history(&self) -> bool {
        self.penalises()
            || self.dry_multiplier > 0.0
            || self.mirostat_tau > 0.0
            || (self.min_tokens > 0 && !self.end_tokens.is_empty())
            || self.bad_words.iter().any(|word| word.len() > 1)
    }

    /// Whether counts of past tokens change a logit.
    pub fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Whether a step after temperature may remove a token; `xtc` is whether XTC happens.
    pub(crate) fn truncates(&self, xtc: bool) -> bool {
        (self.top_k > 0 && self.top_k < self.vocab_size)
            || self.top_p < 1.0
            || self.min_p > 0.0
            || self.typical_p < 1.0
            || self.top_n_sigma > 0.0
            || xtc
    }
}

fn check_numbers(s: &Settings) -> Result<()> {
    let ranges: [(&'static str, f64, std::ops::RangeInclusive<f64>, &'static str); 15] = [
        ("top_p", s.top_p, f64::MIN_POSITIVE..=1.0, "a number in (0, 1], where 1 is off"),
        ("min_p", s.min_p, 0.0..=1.0, "a number in [0, 1], where 0 is off"),
        ("typical_p", s.typical_p, f64::MIN_POSITIVE..=1.0, "a number in (0, 1], where 1 is off"),
        ("top_n_sigma", s.top_n_sigma, 0.0..=HUGE, "a number in [0, 1e30], where 0 is off"),
        ("xtc_probability", s.xtc_probability, 0.0..=1.0, "a number in [0, 1], where 0 is off"),
        ("xtc_threshold", s.xtc_threshold, 0.0..=1.0, "a number in [0, 1]"),
        ("dry_multiplier", s.dry_multiplier, 0.0..=HUGE, "a number in [0, 1e30], where 0 is off"),
        ("dry_base", s.dry_base, 1.0..=1e4, "a number in [1, 10000]"),
        ("mirostat_tau", s.mirostat_tau, 0.0..=HUGE, "a number in [0, 1e30], where 0 is off"),
        ("mirostat_eta", s.mirostat_eta, f64::MIN_POSITIVE..=1.0, "a number in (0, 1]"),
        ("repetition_penalty", s.repetition_penalty, 1.0 / HUGE..=HUGE, "a number in [1e-30, 1e30], where 1 is off"),
        ("presence_penalty", s.presence_penalty, -HUGE..=HUGE, "a number in [-1e30, 1e30], where 0 is off"),
        ("frequency_penalty", s.frequency_penalty, -HUGE..=HUGE, "a number in [-1e30, 1e30], where 0 is off"),
        ("temperature", s.temperature, 0.0..=HUGE, "0 for greedy, or a number in [1e-30, 1e30]"),
        ("vocab_size", s.vocab_size as f64, 1.0..=2_147_483_648.0, "a size in 1..=2147483648"),
    ];
    for (name, value, range, expected) in ranges {
        if !range.contains(&value) || (name == "temperature" && value > 0.0 && value < 1.0 / HUGE) {
            return Err(Error::Range { name, value, expected });
        }
    }
    for &value in s.logit_bias.values() {
        if !(-HUGE..=HUGE).contains(&value) {
            return Err(Error::Range { name: "logit_bias", value, expected: "numbers in [-1e30, 1e30]" });
        }
    }
    Ok(())
}

fn check_tokens(s: &Settings) -> Result<()> {
    if s.bad_words.iter().any(Vec::is_empty) {
        return Err(Error::Empty { name: "a word of bad_words" });
    }
    if s.allowed_tokens.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::Empty { name: "allowed_tokens" });
    }
    let lists = s.bad_words.iter().map(|word| ("bad_words", word));
    let lists = lists.chain(s.allowed_tokens.iter().map(|tokens| ("allowed_tokens", tokens)));
    for (name, tokens) in lists.chain([("dry_breakers", &s.dry_breakers), ("end_tokens", &s.end_tokens)]) {
        check_vocabulary(name, tokens.iter().copied(), s.vocab_size)?;
    }
    check_vocabulary("logit_bias", s.logit_bias.keys().copied(), s.vocab_size)
}

fn check_vocabulary(name: &'static str, mut tokens: impl Iterator<Item = u32>, vocabulary: usize) -> Result<()> {
    match tokens.find(|&token| token as usize >= vocabulary) {
        Some(token) => Err(Error::Token { name, token: i64::from(token), vocabulary }),
        None => Ok(()),
    }
}

fn check_contradictions(s: &Settings) -> Result<()> {
    let greedy = [
        ("xtc_probability", s.xtc_probability > 0.0),
        ("typical_p", s.typical_p < 1.0),
        ("mirostat_tau", s.mirostat_tau > 0.0),
    ];
    if let (true, Some((second, _))) = (s.temperature == 0.0, greedy.iter().find(|(_, on)| *on)) {
        let reason = "temperature 0 always takes the most probable token, so turn one of them off";
        return Err(Error::Contradiction { first: "temperature", second, reason });
    }
    let truncations = [
        ("top_k", s.top_k > 0),
        ("top_p", s.top_p < 1.0),
        ("min_p", s.min_p > 0.0),
        ("typical_p", s.typical_p < 1.0),
        ("top_n_sigma", s.top_n_sigma > 0.0),
        ("xtc_probability", s.xtc_probability > 0.0),
    ];
    if let (true, Some((second, _))) = (s.mirostat_tau > 0.0, truncations.iter().find(|(_, on)| *on)) {
        let reason = "mirostat alone chooses how many tokens to keep, so turn one of them off";
        return Err(Error::Contradiction { first: "mirostat_tau", second, reason });
    }
    Ok(())
}
