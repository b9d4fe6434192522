//! `verify`: under the coupled rule it emits what plain decoding would; under any, nothing that may not be drawn; and laws
//! of few tokens judge as the same laws over the vocabulary do.

use std::sync::Mutex;

use foretoken_core::batch::Batch;
use foretoken_core::error::Kind;
use foretoken_core::history::History;
use foretoken_core::noise::CHOICE;
use foretoken_core::sample::sample;
use foretoken_core::verify::{Draft, Laws, Rule, verify};

use super::bytes::Bytes;
use super::sample::{check_token, history, sampler};

/// Verifies a draft that bytes describe.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let Some(sampler) = sampler(&mut bytes) else { return };
    let (vocabulary, places) = (sampler.vocab_size, bytes.below(5));
    let past = history(&mut bytes, vocabulary);
    let copy = Mutex::new(past.lock().unwrap().clone());
    let (seeds, position) = ([bytes.word()], i64::from(bytes.byte()));
    // Sometimes a token or a length that no drafter may give.
    let tokens: Vec<i64> = (0..places).map(|_| i64::from(bytes.byte() % 32) - 1).collect();
    let lengths = [bytes.below(places + 2) as i64];
    // A chain, a tree, or parents that no tree has.
    let parents: Option<Vec<i64>> = match bytes.below(3) {
        0 => None,
        kind => Some((0..places).map(|place| bytes.below(place + kind) as i64 - 1).collect()),
    };
    let laws: Vec<f64> = match bytes.below(3) {
        0 => Vec::new(),
        kind => (0..places).flat_map(|_| law(&mut bytes, vocabulary, kind == 2)).collect(),
    };
    let kind = bytes.below(8);
    let few = if kind > 3 { Few::new(&mut bytes, &tokens, vocabulary) } else { Few::default() };
    let (rule, laws) = match kind {
        0 => (Rule::Rejection, Laws::Certain),
        1 => (Rule::Rejection, Laws::Dense(&laws)),
        2 => (Rule::Block, Laws::Dense(&laws)),
        3 => (Rule::Coupled, Laws::Certain),
        4 | 5 => (Rule::Rejection, few.laws()),
        _ => (Rule::Block, few.laws()),
    };
    let mut logits: Vec<f32> = (0..(places + 1) * vocabulary).map(|_| bytes.score()).collect();
    agree(&mut logits, &tokens, parents.as_deref().unwrap_or(&[]), vocabulary);
    let locks = [&past];
    let draft = Draft { tokens: &tokens, places, lengths: Some(&lengths), parents: parents.as_deref(), laws, rule };
    let before = past.lock().unwrap().tokens().to_vec();
    let verified = verify(&sampler, &batch(&logits, &seeds, &[position], &locks), &draft);
    if kind > 3 && !matches!(&verified, Err(error) if error.kind() != Kind::Logits) {
        let dense = few.dense(places, vocabulary);
        let same = Draft { laws: Laws::Dense(&dense), ..draft };
        assert_eq!(verify(&sampler, &batch(&logits, &seeds, &[position], &[&copy]), &same), verified);
    }
    match verified {
        Ok(output) => {
            let accepted = output.accepted[0] as usize;
            assert!(accepted as i64 <= lengths[0] && output.tokens.len() == places + 1);
            let (emitted, padding) = output.tokens.split_at(accepted + 1);
            let path: Vec<usize> = output.path[..accepted].iter().map(|&place| place as usize).collect();
            assert!(emitted[..accepted].iter().eq(path.iter().map(|&place| &tokens[place])));
            assert!(padding.iter().all(|&token| token == -1));
            // The row of logits that follows each node of the path, the text itself first.
            let rows = std::iter::once(0).chain(path.iter().map(|place| place + 1));
            let rows: Vec<&[f32]> = rows.map(|place| &logits[place * vocabulary..][..vocabulary]).collect();
            for (logits, &token) in rows.iter().zip(emitted) {
                check_token(&sampler, logits, token);
            }
            assert_eq!(past.lock().unwrap().tokens().len(), before.len() + emitted.len());
            if rule == Rule::Coupled {
                for (place, (logits, &token)) in rows.iter().zip(emitted).enumerate() {
                    let (positions, locks) = ([position + place as i64], [&copy]);
                    let drawn = sample(&sampler, &batch(logits, &seeds, &positions, &locks), CHOICE, true);
                    assert_eq!(drawn.unwrap().tokens, [token], "plain decoding draws another");
                }
            }
        }
        Err(error) => {
            let blocks_of_trees = rule == Rule::Block && parents.is_some();
            let expected = matches!(error.kind(), Kind::Draft | Kind::Logits | Kind::Shape);
            assert!(expected || blocks_of_trees && error.kind() == Kind::InvalidArgument, "{error}");
            assert_eq!(past.lock().unwrap().tokens(), before);
        }
    }
}

fn batch<'a>(
    logits: &'a [f32],
    seeds: &'a [u64],
    positions: &'a [i64],
    history: &'a [&'a Mutex<History>],
) -> Batch<'a> {
    Batch { logits, count: 1, seeds, positions, rows: None, history: Some(history), logprobs: None, threads: 1 }
}

/// Makes a model of the rows: guesses that end the same text are followed by the same logits.
fn agree(logits: &mut [f32], tokens: &[i64], parents: &[i64], vocabulary: usize) {
    let mut texts: Vec<Vec<i64>> = Vec::new();
    for (place, (&token, &parent)) in tokens.iter().zip(parents).enumerate() {
        // A parent that stands behind is refused.
        let before = usize::try_from(parent).ok().and_then(|parent| texts.get(parent));
        let text = [before.map_or(&[][..], Vec::as_slice), &[token]].concat();
        if let Some(first) = texts.iter().position(|known| *known == text) {
            logits.copy_within((first + 1) * vocabulary..(first + 2) * vocabulary, (place + 1) * vocabulary);
        }
        texts.push(text);
    }
}

/// Laws of few tokens.
#[derive(Default)]
struct Few {
    ids: Vec<i64>,
    probs: Vec<f64>,
    width: usize,
}

impl Few {
    /// Each may have drawn its token; or any numbers.
    fn new(bytes: &mut Bytes, tokens: &[i64], vocabulary: usize) -> Self {
        let (hostile, width) = (bytes.byte() > 223, bytes.below(vocabulary.min(5) + 1));
        let (mut ids, mut probs) = (Vec::new(), Vec::new());
        for &token in tokens {
            let start = ids.len();
            if hostile {
                ids.extend((0..width).map(|_| bytes.below(vocabulary + 2) as i64 - 1));
                let any = bytes.byte() > 127;
                probs.extend(law(bytes, width, any));
            } else {
                probs.extend(law(bytes, width, false));
                // What has no probability need not be named.
                let id =
                    |(place, &p): (usize, &f64)| if p > 0.0 { (token + place as i64) % vocabulary as i64 } else { -1 };
                ids.extend(probs[start..].iter().enumerate().map(id));
            }
        }
        Self { ids, probs, width }
    }

    fn laws(&self) -> Laws<'_> {
        Laws::Sparse { ids: &self.ids, probs: &self.probs, width: self.width }
    }

    /// The same laws over the vocabulary.
    fn dense(&self, places: usize, vocabulary: usize) -> Vec<f64> {
        let mut dense = vec![0.0; places * vocabulary];
        for (index, (&id, &p)) in self.ids.iter().zip(&self.probs).enumerate() {
            // A place behind the row's length may hold anything.
            if (0..vocabulary as i64).contains(&id) {
                dense[index / self.width * vocabulary + id as usize] = p;
            }
        }
        dense
    }
}

/// A law over the vocabulary, or numbers that are none.
fn law(bytes: &mut Bytes, vocabulary: usize, hostile: bool) -> Vec<f64> {
    if hostile {
        return (0..vocabulary).map(|_| bytes.setting(0.5)).collect();
    }
    let weights: Vec<f64> = (0..vocabulary).map(|_| f64::from(bytes.byte())).collect();
    let sum = weights.iter().sum::<f64>();
    weights.iter().map(|weight| if sum > 0.0 { weight / sum } else { 1.0 / vocabulary as f64 }).collect()
}
