//! Files of a corpus: bytes that are none are refused, and what is accepted can be used without a panic or an endless search.

use std::sync::Arc;

use foretoken_core::corpus::Corpus;
use foretoken_core::error::Kind;
use foretoken_core::suffix::Suffix;

use super::crc::crc64;

/// Loads the bytes as they are, and with a checksum that fits: behind it lies what a forger could reach.
pub fn run(data: &[u8]) {
    load(data);
    if let Some(body) = data.len().checked_sub(8) {
        let mut forged = data[..body].to_vec();
        forged.extend(crc64(&data[..body]).to_le_bytes());
        load(&forged);
    }
}

fn load(data: &[u8]) {
    let corpus = match Corpus::from_bytes(data) {
        Ok(corpus) => Arc::new(corpus),
        Err(error) => return assert_eq!(error.kind(), Kind::Checkpoint, "{error}"),
    };
    // One without documents has the state of the empty context, whatever its limit.
    assert!(corpus.memory() <= corpus.memory_limit().max(32));
    for index in [false, true] {
        // A file that says the same, but for room to grow that was given up.
        let again = Corpus::from_bytes(&corpus.to_bytes(index)).unwrap();
        assert_eq!((again.len(), again.tokens()), (corpus.len(), corpus.tokens()));
    }
    let suffix = Suffix::new(i64::from(corpus.max_match()), Some(Arc::clone(&corpus)), 1).unwrap();
    suffix.start(0, &[]).unwrap();
    for &byte in data.iter().rev().take(40) {
        let token = i64::from(byte % 8);
        suffix.extend(0, &[token]).unwrap();
        let guess = suffix.propose(0, 5).unwrap();
        assert!(guess.tokens.len() <= 5 && guess.probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
        match corpus.add(&[token, 1, token, 2]) {
            Ok(()) => assert!(corpus.memory() <= corpus.memory_limit()),
            Err(error) => assert_eq!(error.kind(), Kind::Limit, "{error}"),
        }
    }
}
