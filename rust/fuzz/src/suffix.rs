//! The look-up drafters: any sequence of calls, right and wrong ones, answers as a rescan does.

use std::collections::HashMap;
use std::sync::Arc;

use foretoken_core::corpus::Corpus;
use foretoken_core::error::{Error, Kind};
use foretoken_core::ngram::NGram;
use foretoken_core::suffix::Suffix;

use super::bytes::Bytes;
use super::rescan::{ngram_by_rescan, suffix_by_rescan};

/// A rescan costs the square of a text's length.
const LONGEST: usize = 120;

/// Calls what bytes say.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let max_match = 1 + bytes.below(6);
    let min_match = 1 + bytes.below(max_match);
    let limit = 64 * (1 + i64::from(bytes.byte()));
    let corpus = Arc::new(Corpus::new(limit, (max_match + bytes.below(3)) as i64).unwrap());
    let suffix = Suffix::new(max_match as i64, Some(Arc::clone(&corpus)), min_match as i64).unwrap();
    let ngram = NGram::new(max_match as i64, min_match as i64).unwrap();
    let mut rows: HashMap<i64, Vec<i64>> = HashMap::new();
    let mut documents: Vec<Vec<i64>> = Vec::new();
    while !bytes.is_empty() {
        let (call, row) = (bytes.below(8), bytes.below(3) as i64);
        let known = rows.get(&row).cloned();
        match call {
            0 => {
                let started = tokens(&mut bytes);
                let expected = match (&known, wrong(&started)) {
                    (Some(_), _) => Err(Error::RowStarted { row }),
                    (None, Some(error)) => Err(error),
                    (None, None) => {
                        rows.insert(row, started.clone());
                        Ok(())
                    }
                };
                assert_eq!(suffix.start(row, &started), expected);
                assert_eq!(ngram.start(row, &started), expected);
            }
            1 | 2 => {
                let added = tokens(&mut bytes);
                let expected = match (known, wrong(&added)) {
                    (None, _) => Err(Error::UnknownRow { row }),
                    (_, Some(error)) => Err(error),
                    (Some(text), _) if text.len() > LONGEST => continue,
                    (Some(text), None) => {
                        rows.insert(row, [text, added.clone()].concat());
                        Ok(())
                    }
                };
                assert_eq!(suffix.extend(row, &added), expected);
                assert_eq!(ngram.extend(row, &added), expected);
            }
            3 => {
                let expected = rows.remove(&row).map(drop).ok_or(Error::UnknownRow { row });
                assert_eq!(suffix.stop(row), expected);
                assert_eq!(ngram.stop(row), expected);
            }
            4 => {
                let document = tokens(&mut bytes);
                match corpus.add(&document) {
                    Ok(()) => documents.push(document),
                    Err(error) => {
                        let refused = document.is_empty() || wrong(&document).is_some();
                        assert!(refused || error.kind() == Kind::Limit, "{error}");
                    }
                }
                documents.drain(..documents.len() - corpus.len());
                assert!(corpus.memory() <= corpus.memory_limit());
            }
            _ => {
                let k = bytes.below(9);
                let (guess, copy) = (suffix.propose(row, k as i64), ngram.propose(row, k as i64));
                let Some(text) = known else {
                    assert_eq!(guess, Err(Error::UnknownRow { row }));
                    assert_eq!(copy, Err(Error::UnknownRow { row }));
                    continue;
                };
                let sources: Vec<&[i64]> = documents.iter().map(Vec::as_slice).collect();
                assert_eq!(guess, Ok(suffix_by_rescan(&text, &sources, max_match, min_match, k)));
                assert_eq!(copy, Ok(ngram_by_rescan(&text, max_match, min_match, k)));
            }
        }
    }
}

/// Few different ids, so that everything repeats; the largest one; rarely one that is none.
fn tokens(bytes: &mut Bytes) -> Vec<i64> {
    let token = |byte| match byte {
        255 => -1,
        254 => 1 << 31,
        253 => (1 << 31) - 1,
        small => i64::from(small % 5),
    };
    (0..bytes.below(24)).map(|_| token(bytes.byte())).collect()
}

fn wrong(tokens: &[i64]) -> Option<Error> {
    let place = tokens.iter().position(|token| !(0..1 << 31).contains(token))?;
    Some(Error::TokenId { place, token: tokens[place] })
}
