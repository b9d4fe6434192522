//! `sample`, `process` and coupled `verify` against the definition, and each against the other.

mod common;

use std::sync::Mutex;

use common::cases::{CASES, cases};
use common::{Past, choose, logits, past, scores, settings, softmax};
use foretoken_core::batch::{Batch, Output};
use foretoken_core::error::Error;
use foretoken_core::history::History;
use foretoken_core::noise::{CHOICE, Place};
use foretoken_core::sample::{process, sample};
use foretoken_core::sampler::{Sampler, Settings};
use foretoken_core::verify::{Draft, Laws, Rule, verify};
use proptest::prelude::*;

const PLACE: Place = Place { seed: 77, row: 3, position: 1000, stream: CHOICE };

fn batch<'a>(logits: &'a [f32], history: &'a [&'a Mutex<History>], position: &'a [i64]) -> Batch<'a> {
    let (seeds, rows) = (&[PLACE.seed], Some(&[3][..]));
    Batch { logits, count: 1, seeds, positions: position, rows, history: Some(history), logprobs: None, threads: 1 }
}

fn draw(
    sampler: &Sampler,
    logits: &[f32],
    past: &Mutex<History>,
    position: u32,
    commit: bool,
) -> Result<Output, Error> {
    sample(sampler, &batch(logits, &[past], &[i64::from(position)]), CHOICE, commit)
}

fn case() -> impl Strategy<Value = (Settings, Vec<f32>, Past, u32)> {
    // Rows longer than a chunk of 256, too.
    prop_oneof![15 => 1usize..90, 1 => 250usize..600]
        .prop_flat_map(|v| (settings(v), logits(v), past(v), any::<u16>().prop_map(u32::from)))
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn laws_and_choices_are_those_of_the_definition((settings, logits, past, position) in case()) {
        let sampler = Sampler::new(settings.clone()).unwrap();
        let place = Place { position, ..PLACE };
        let row = past.history();
        let mut law = vec![0.0; logits.len()];
        let processed = process(&sampler, &batch(&logits, &[&row], &[i64::from(position)]), &mut law);
        let drawn = draw(&sampler, &logits, &row, position, false);
        let Some(slow) = scores(&settings, &logits, &past, place) else {
            let refused = matches!(processed, Err(Error::NothingLeft { .. } | Error::InfinityBanned { .. }));
            prop_assert!(refused && drawn.is_err(), "{processed:?}");
            return Ok(());
        };
        prop_assert!(processed.is_ok(), "{processed:?}");
        for (token, (fast, slow)) in law.iter().zip(softmax(&slow)).enumerate() {
            prop_assert!((fast - slow).abs() <= 1e-11 * slow + 1e-300, "token {token}: {fast}, expected {slow}");
        }
        let drawn = drawn.unwrap();
        let (token, gap) = if settings.temperature == 0.0 {
            (slow.iter().position(|x| *x == 0.0).unwrap(), drawn.gaps[0])
        } else {
            choose(&slow, place)
        };
        prop_assert_eq!(drawn.tokens[0], token as i64);
        prop_assert!(drawn.gaps[0] == gap || (drawn.gaps[0] - gap).abs() < 1e-9, "{} {gap}", drawn.gaps[0]);
        prop_assert!(logits[token] > f32::NEG_INFINITY);
    }

    #[test]
    fn coupled_verification_is_plain_decoding(
        (settings, rows, past, position) in (2usize..40).prop_flat_map(|v| {
            (settings(v), proptest::collection::vec(logits(v), 1..6), past(v), any::<u16>().prop_map(u32::from))
        }),
        right in proptest::collection::vec(any::<bool>(), 5),
        wrong in any::<u32>(),
    ) {
        let sampler = Sampler::new(settings.clone()).unwrap();
        let plain = past.history();
        let (mut tokens, mut gaps, mut draft) = (Vec::new(), Vec::new(), Vec::new());
        let mut failed = None;
        for (place, row) in rows.iter().enumerate() {
            match draw(&sampler, row, &plain, position + place as u32, true) {
                Ok(drawn) => {
                    tokens.push(drawn.tokens[0]);
                    gaps.push(drawn.gaps[0]);
                    draft.push(if right[place] { drawn.tokens[0] } else { i64::from(wrong % settings.vocab_size as u32) });
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        draft.resize(rows.len(), 0);
        draft.truncate(rows.len() - 1);
        let row = past.history();
        let logits = rows.concat();
        let (guesses, places) = (&draft[..], rows.len() - 1);
        let (laws, rule) = (Laws::Certain, Rule::Coupled);
        let draft = Draft { tokens: guesses, places, lengths: None, parents: None, laws, rule };
        let verified = verify(&sampler, &batch(&logits, &[&row], &[i64::from(position)]), &draft);
        let agreed = draft.tokens.iter().zip(&tokens).take_while(|(guess, token)| guess == token).count();
        if agreed >= tokens.len() {
            prop_assert_eq!(verified.map(|_| ()), Err(failed.unwrap()));
            let row = row.lock().unwrap();
            prop_assert_eq!(row.output(), &past.output[..]);
            return Ok(());
        }
        let verified = verified.unwrap();
        prop_assert_eq!(&verified.accepted, &vec![agreed as i64]);
        prop_assert_eq!(&verified.tokens[..=agreed], &tokens[..=agreed]);
        prop_assert_eq!(&verified.gaps[..=agreed], &gaps[..=agreed]);
        prop_assert!(verified.tokens[agreed + 1..].iter().all(|token| *token == -1));
        let (plain, row) = (plain.lock().unwrap(), row.lock().unwrap());
        let emitted: Vec<u32> = tokens[..=agreed].iter().map(|&token| token as u32).collect();
        prop_assert_eq!(row.output(), &[past.output.clone(), emitted].concat()[..]);
        if agreed + 1 == tokens.len() {
            prop_assert_eq!(row.mu, plain.mu);
        }
    }
}

#[test]
fn long_rows_choose_as_if_nothing_were_skipped() {
    for (vocabulary, spread) in [(4096, 0.01), (4096, 1.0), (5003, 4.0), (5003, 40.0)] {
        let noise = |token: usize| Place { stream: 9, ..PLACE }.gumbel(token as u32);
        let logits: Vec<f32> = (0..vocabulary).map(|token| (noise(token) * spread) as f32).collect();
        let settings = Settings { temperature: 0.9, ..Settings::new(vocabulary) };
        let sampler = Sampler::new(settings.clone()).unwrap();
        let past = Past { prompt: vec![], output: vec![], mu: None };
        for position in 0..25 {
            let place = Place { position, ..PLACE };
            let slow = choose(&scores(&settings, &logits, &past, place).unwrap(), place);
            let fast = draw(&sampler, &logits, &past.history(), position, false).unwrap();
            assert_eq!((fast.tokens[0], fast.gaps[0]), (slow.0 as i64, slow.1));
        }
    }
}

#[test]
fn a_tie_is_a_coin_toss_however_cold() {
    for (logit, temperature) in [(1.0f32, 1e-30), (1e30, 0.7), (1e30, 1e-8)] {
        let sampler = Sampler::new(Settings { temperature, ..Settings::new(2) }).unwrap();
        let past = Past { prompt: vec![], output: vec![], mu: None }.history();
        let ones: i64 =
            (0..400).map(|position| draw(&sampler, &[logit; 2], &past, position, false).unwrap().tokens[0]).sum();
        assert!((150..250).contains(&ones), "{ones} of 400");
    }
}

#[test]
fn rows_do_not_depend_on_threads_or_on_the_row_that_failed() {
    let vocabulary = 50;
    let sampler = Sampler::new(Settings { top_p: 0.9, ..Settings::new(vocabulary) }).unwrap();
    let mut logits: Vec<f32> = (0..40 * vocabulary).map(|i| ((i * 7919) % 101) as f32 / 20.0).collect();
    let (seeds, positions): (Vec<u64>, Vec<i64>) = ((0..40).collect(), (5..45).collect());
    let run = |logits: &[f32], threads| {
        let (seeds, positions) = (&seeds[..], &positions[..]);
        let batch =
            Batch { logits, count: 40, seeds, positions, rows: None, history: None, logprobs: Some(3), threads };
        sample(&sampler, &batch, CHOICE, true)
    };
    let whole = run(&logits, 1).unwrap();
    for threads in [2, 3, 7, 64] {
        assert_eq!(run(&logits, threads).unwrap(), whole);
    }
    logits[31 * vocabulary + 4] = f32::NAN;
    logits[12 * vocabulary] = f32::NAN;
    assert_eq!(run(&logits, 3).unwrap_err(), Error::NotANumber { row: 12, column: 0 });
}

#[test]
fn log_probabilities_are_those_of_the_raw_row() {
    let mut settings = Settings { temperature: 0.0, ..Settings::new(5) };
    settings.bad_words = vec![vec![1], vec![3]];
    let sampler = Sampler::new(settings).unwrap();
    let logits = [1.0f32, 3.0, 2.0, 3.0, f32::NEG_INFINITY];
    let past = Mutex::new(History::default());
    let drawn = sample(&sampler, &Batch { logprobs: Some(5), ..batch(&logits, &[&past], &[0]) }, CHOICE, true).unwrap();
    let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    assert!((drawn.logprobs[0] - (2.0 - sum.ln())).abs() < 1e-14);
    assert_eq!(drawn.top_tokens, [1, 3, 2, 0, 4]);
    assert!((drawn.top_logprobs[1] - (3.0 - sum.ln())).abs() < 1e-14);
    assert_eq!(drawn.top_logprobs[4], f64::NEG_INFINITY);
    let only = [0.0, f32::INFINITY, 1.0, 0.0, 0.0];
    let free = Sampler::new(Settings::new(5)).unwrap();
    let drawn = sample(&free, &Batch { logprobs: Some(2), ..batch(&only, &[&past], &[0]) }, CHOICE, false).unwrap();
    assert_eq!((drawn.tokens[0], drawn.gaps[0], drawn.logprobs[0]), (1, f64::INFINITY, 0.0));
    assert_eq!((drawn.top_tokens, drawn.top_logprobs), (vec![1, 0], vec![0.0, f64::NEG_INFINITY]));
}
