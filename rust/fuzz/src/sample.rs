//! `sample` and `process`: a token that may be drawn, or an error that names what is wrong.

use std::sync::Mutex;

use foretoken_core::batch::{Batch, Output};
use foretoken_core::error::{Error, Kind};
use foretoken_core::history::History;
use foretoken_core::noise::CHOICE;
use foretoken_core::sample::{process, sample};
use foretoken_core::sampler::{Sampler, Settings};

use super::bytes::Bytes;

/// A sampler of any settings over a small vocabulary; none if they are refused.
pub fn sampler(bytes: &mut Bytes) -> Option<Sampler> {
    let vocabulary = 1 + bytes.below(24);
    let mut settings = Settings::new(vocabulary);
    settings.temperature = bytes.setting(1.0);
    settings.top_k = bytes.below(8);
    settings.top_p = bytes.setting(1.0);
    settings.min_p = bytes.setting(0.0);
    settings.typical_p = bytes.setting(1.0);
    settings.top_n_sigma = bytes.setting(0.0);
    settings.xtc_probability = bytes.setting(0.0);
    settings.xtc_threshold = bytes.setting(0.1);
    settings.dry_multiplier = bytes.setting(0.0);
    settings.dry_base = bytes.setting(1.75);
    settings.dry_allowed_length = bytes.below(4);
    settings.dry_range = bytes.below(16);
    settings.mirostat_tau = bytes.setting(0.0);
    settings.mirostat_eta = bytes.setting(0.1);
    settings.repetition_penalty = bytes.setting(1.0);
    settings.presence_penalty = bytes.setting(0.0);
    settings.frequency_penalty = bytes.setting(0.0);
    settings.min_tokens = bytes.below(4);
    // One id more than there are: what lies outside must be refused.
    let ids = |bytes: &mut Bytes, most: usize| -> Vec<u32> {
        (0..bytes.below(most)).map(|_| bytes.below(vocabulary + 1) as u32).collect()
    };
    settings.dry_breakers = ids(bytes, 3);
    settings.end_tokens = ids(bytes, 3);
    settings.bad_words = (0..bytes.below(4)).map(|_| ids(bytes, 4)).collect();
    settings.allowed_tokens = (bytes.byte() > 200).then(|| ids(bytes, 6));
    for token in ids(bytes, 3) {
        settings.logit_bias.insert(token, bytes.setting(1.0));
    }
    match Sampler::new(settings) {
        Ok(sampler) => Some(sampler),
        Err(error) => {
            assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
            None
        }
    }
}

/// The past of a row.
pub fn history(bytes: &mut Bytes, vocabulary: usize) -> Mutex<History> {
    let prompt = (0..bytes.below(6)).map(|_| bytes.below(vocabulary) as u32).collect();
    let mut history = History::new(prompt);
    (0..bytes.below(10)).for_each(|_| history.push(bytes.below(vocabulary) as u32));
    Mutex::new(history)
}

/// Asserts that a row may emit a token.
pub fn check_token(sampler: &Sampler, logits: &[f32], token: i64) {
    let at = usize::try_from(token).expect("a token");
    assert!(logits[at] > f32::NEG_INFINITY, "token {token} was masked");
    assert!(!sampler.bad_words.iter().any(|word| word[..] == [at as u32]), "token {token} is banned");
    let allowed = sampler.allowed_tokens.as_ref();
    assert!(allowed.is_none_or(|allowed| allowed.contains(&(at as u32))), "token {token} is not allowed");
}

/// Asserts that logits are refused for what is wrong with them.
pub fn check_refusal(error: &Error, logits: &[f32], vocabulary: usize) {
    match error {
        Error::NotANumber { row, column } => assert!(logits[row * vocabulary + column].is_nan()),
        Error::TwoInfinities { row, first, second } => {
            assert!([first, second].map(|column| logits[row * vocabulary + column]) == [f32::INFINITY; 2]);
        }
        Error::InfinityBanned { row, column } => assert_eq!(logits[row * vocabulary + column], f32::INFINITY),
        other => assert!(matches!(other, Error::NothingLeft { .. }), "{other}"),
    }
}

/// Draws from rows that bytes describe.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let Some(sampler) = sampler(&mut bytes) else { return };
    let (vocabulary, count) = (sampler.vocab_size, 1 + bytes.below(3));
    let histories: Vec<_> = (0..count).map(|_| history(&mut bytes, vocabulary)).collect();
    let history: Vec<_> = histories.iter().collect();
    let seeds: Vec<u64> = (0..count).map(|_| bytes.word()).collect();
    let positions: Vec<i64> = (0..count).map(|_| (bytes.word() >> 32) as i64).collect();
    let logprobs = Some(bytes.below(4)).filter(|&count| count > 0).map(|count| count - 1);
    let logits: Vec<f32> = (0..count * vocabulary).map(|_| bytes.score()).collect();
    let batch = Batch {
        logits: &logits,
        count,
        seeds: &seeds,
        positions: &positions,
        rows: None,
        history: Some(&history),
        logprobs,
        threads: 1,
    };
    let past = || -> Vec<Vec<u32>> { history.iter().map(|row| row.lock().unwrap().tokens().to_vec()).collect() };
    let before = past();
    let mut laws = vec![0.0; logits.len()];
    let processed = process(&sampler, &batch, &mut laws);
    let drawn = sample(&sampler, &batch, CHOICE, true);
    if let Some(Error::Range { name, .. }) = drawn.as_ref().err() {
        assert_eq!(*name, "logprobs"); // more than there are tokens
        return;
    }
    match drawn {
        Ok(Output { tokens, gaps, .. }) => {
            assert!(processed.is_ok(), "{processed:?}");
            for (row, &token) in tokens.iter().enumerate() {
                check_token(&sampler, &logits[row * vocabulary..][..vocabulary], token);
                let law = &laws[row * vocabulary..][..vocabulary];
                assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{law:?}");
                assert!(law[token as usize] > 0.0, "token {token} has no probability: {law:?}");
                assert!(gaps[row] >= 0.0, "{gaps:?}");
                assert_eq!(past()[row].len(), before[row].len() + 1);
            }
        }
        Err(error) => {
            assert_eq!(processed.as_ref(), Err(&error));
            check_refusal(&error, &logits, vocabulary);
            assert_eq!(past(), before);
        }
    }
}
