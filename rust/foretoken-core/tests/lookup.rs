//! The look-up drafters against rescans of the whole text, which are slow and obviously right.

#[path = "common/cases.rs"]
mod cases;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cases::{CASES, cases};
use foretoken_core::corpus::Corpus;
use foretoken_core::error::{Error, Kind};
use foretoken_core::ngram::NGram;
use foretoken_core::suffix::{Guess, Suffix};
use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../fuzz/src/rescan.rs"]
mod rescan;

#[path = "../../fuzz/src/crc.rs"]
mod crc;

use crc::crc64;
use rescan::{ngram_by_rescan, suffix_by_rescan};

fn text(longest: usize) -> impl Strategy<Value = Vec<i64>> {
    (1..5_i64).prop_flat_map(move |letters| vec(0..letters, 0..longest))
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn a_guess_equals_a_rescan(
        text in text(30), documents in vec(text(12), 0..3), cut in 0..30_usize, max_match in 1..9_usize, deeper in 0..3_i64,
        below in 0..9_usize, k in 0..6_usize,
    ) {
        let min_match = max_match.saturating_sub(below).max(1);
        let corpus = Arc::new(Corpus::new(1 << 20, max_match as i64 + deeper)?);
        let suffix = Suffix::new(max_match as i64, Some(Arc::clone(&corpus)), min_match as i64)?;
        let ngram = NGram::new(max_match as i64, min_match as i64)?;
        let documents: Vec<&[i64]> = documents.iter().map(Vec::as_slice).filter(|d| !d.is_empty()).collect();
        let (prompt, output) = text.split_at(cut.min(text.len()));
        suffix.start(0, prompt)?;
        ngram.start(0, prompt)?;
        for document in &documents {
            corpus.add(document)?;
        }
        suffix.extend(0, output)?;
        ngram.extend(0, output)?;
        prop_assert_eq!(suffix.propose(0, k as i64)?, suffix_by_rescan(&text, &documents, max_match, min_match, k));
        prop_assert_eq!(ngram.propose(0, k as i64)?, ngram_by_rescan(&text, max_match, min_match, k));
    }
}

proptest! {
    // Each compares dozens of guesses.
    #![proptest_config(cases(CASES / 30))]

    #[test]
    fn ngram_equals_a_rescan(text in text(60), cut in 0..60_usize, max_n in 1..6_usize, below in 0..5_usize, k in 0..9_usize) {
        let min_n = max_n.saturating_sub(below).max(1);
        let drafter = NGram::new(max_n as i64, min_n as i64)?;
        let cut = cut.min(text.len());
        drafter.start(3, &text[..cut])?;
        for end in cut..=text.len() {
            prop_assert_eq!(drafter.propose(3, k as i64)?, ngram_by_rescan(&text[..end], max_n, min_n, k));
            if end < text.len() {
                drafter.extend(3, &text[end..=end])?;
            }
        }
    }

    #[test]
    fn suffix_equals_a_rescan(
        text in text(40), documents in vec(text(20), 0..6), cut in 0..40_usize, max_match in 1..9_usize, deeper in 0..3_i64,
        below in 0..9_usize, k in 0..9_usize,
    ) {
        let min_match = max_match.saturating_sub(below).max(1);
        let corpus = Arc::new(Corpus::new(1 << 20, max_match as i64 + deeper)?);
        let drafter = Suffix::new(max_match as i64, Some(Arc::clone(&corpus)), min_match as i64)?;
        let documents: Vec<&[i64]> = documents.iter().map(Vec::as_slice).filter(|d| !d.is_empty()).collect();
        let cut = cut.min(text.len());
        drafter.start(-1, &text[..cut])?;
        let mut added = 0;
        for end in cut..=text.len() {
            let expected = suffix_by_rescan(&text[..end], &documents[..added], max_match, min_match, k);
            prop_assert_eq!(drafter.propose(-1, k as i64)?, expected);
            if end % 3 == 0 && added < documents.len() {
                corpus.add(documents[added])?;
                added += 1;
            }
            if end < text.len() {
                drafter.extend(-1, &text[end..=end])?;
            }
        }
    }

}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_corpus_keeps_to_its_limit(documents in vec(text(60), 1..30), limit in 100..9000_i64) {
        let corpus = Corpus::new(limit, 8)?;
        let mut kept: Vec<Vec<i64>> = Vec::new();
        for document in documents.into_iter().filter(|document| !document.is_empty()) {
            let before = (corpus.len(), corpus.to_bytes(false));
            match corpus.add(&document) {
                Ok(()) => kept.push(document),
                Err(error) => {
                    prop_assert_eq!(error.kind(), Kind::Limit);
                    prop_assert_eq!(before, (corpus.len(), corpus.to_bytes(false)));
                }
            }
            prop_assert!(corpus.memory() <= corpus.memory_limit());
            kept.drain(..kept.len() - corpus.len());
            prop_assert_eq!(corpus.tokens(), kept.iter().map(Vec::len).sum::<usize>());
            // Eviction leaves what adding the remaining documents to an empty corpus would have made.
            let again = Corpus::from_bytes(&corpus.to_bytes(false))?;
            prop_assert_eq!((again.len(), again.memory()), (corpus.len(), corpus.memory()));
        }
    }
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_corpus_is_noticed() {
    let corpus = Corpus::new(1 << 16, 8).unwrap();
    corpus.add(&[5, 6, 7, 5, 6]).unwrap();
    corpus.add(&[1 << 30, 9]).unwrap();
    for index in [false, true] {
        check_damage(&corpus.to_bytes(index), index);
    }
}

fn check_damage(bytes: &[u8], index: bool) {
    assert_eq!(Corpus::from_bytes(bytes).unwrap().to_bytes(index), bytes);
    for length in 0..bytes.len() {
        assert_eq!(Corpus::from_bytes(&bytes[..length]).unwrap_err().kind(), Kind::Checkpoint);
    }
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Corpus::from_bytes(&damaged).unwrap_err().kind(), Kind::Checkpoint);
    }
}

#[test]
fn rows_are_started_once_and_stopped_once() {
    let drafter = NGram::new(4, 1).unwrap();
    assert_eq!(drafter.extend(7, &[1]), Err(Error::UnknownRow { row: 7 }));
    drafter.start(7, &[1, 2, 1]).unwrap();
    assert_eq!(drafter.start(7, &[]), Err(Error::RowStarted { row: 7 }));
    // Nothing of a list with a bad id is taken.
    assert_eq!(drafter.extend(7, &[2, -1]), Err(Error::TokenId { place: 1, token: -1 }));
    assert_eq!(drafter.extend(7, &[1 << 31]), Err(Error::TokenId { place: 0, token: 1 << 31 }));
    assert_eq!(drafter.propose(7, 4), Ok((vec![2, 1, 2, 1], 1)));
    drafter.stop(7).unwrap();
    assert_eq!(drafter.stop(7), Err(Error::UnknownRow { row: 7 }));
    assert_eq!(drafter.propose(7, 1), Err(Error::UnknownRow { row: 7 }));
}

#[test]
fn ranges_are_checked() {
    assert!(NGram::new(0, 1).is_err() && NGram::new(65, 1).is_err() && NGram::new(2, 3).is_err());
    assert!(
        Suffix::new(0, None, 1).is_err() && Suffix::new(1025, None, 1).is_err() && Suffix::new(2, None, 3).is_err()
    );
    assert!(Corpus::new(0, 4).is_err() && Corpus::new(-5, 4).is_err() && Corpus::new(9, 0).is_err());
    let shallow = Arc::new(Corpus::new(100, 4).unwrap());
    assert!(matches!(Suffix::new(5, Some(Arc::clone(&shallow)), 1), Err(Error::Contradiction { .. })));
    assert_eq!(shallow.add(&[]), Err(Error::Empty { name: "tokens" }));
    assert!(matches!(shallow.add(&[1; 1000]), Err(Error::Memory { tokens: 1000, .. })));
    let drafter = Suffix::new(4, Some(shallow), 1).unwrap();
    drafter.start(0, &[1, 1]).unwrap();
    assert!(drafter.propose(0, -1).is_err() && drafter.propose(0, 65537).is_err());
    assert_eq!(drafter.propose(0, 0), Ok(Guess::default()));
}

/// Document i is 7 and then i + 100 five times: what a look-up of 7 finds says which documents it has seen, and how many.
#[test]
fn a_look_up_sees_whole_documents_or_none() {
    const DOCUMENTS: i64 = 3000;
    let corpus = Arc::new(Corpus::new(1 << 26, 8).unwrap());
    let written = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for document in 0..DOCUMENTS {
                let mut tokens = [document + 100; 6];
                tokens[0] = 7;
                corpus.add(&tokens).unwrap();
                let before = answered.load(Ordering::Acquire);
                while document % 100 == 0 && answered.load(Ordering::Acquire) == before {
                    std::thread::yield_now(); // so that they do take turns
                }
            }
            written.store(true, Ordering::Release);
        });
        let reader = |row: i64| {
            let (corpus, written, answered) = (&corpus, &written, &answered);
            scope.spawn(move || {
                let drafter = Suffix::new(8, Some(Arc::clone(corpus)), 1).unwrap();
                drafter.start(row, &[7]).unwrap();
                let mut newest = -1;
                loop {
                    let finished = written.load(Ordering::Acquire);
                    let Guess { tokens, probabilities, match_length } = drafter.propose(row, 5).unwrap();
                    if let Some(&token) = tokens.first() {
                        assert_eq!((tokens.as_slice(), match_length), (&[token; 5][..], 1));
                        assert_eq!(probabilities, [1.0 / (token - 99) as f64, 1.0, 1.0, 1.0, 1.0]);
                        assert!(token - 100 >= newest, "an older state after a newer one");
                        newest = token - 100;
                        answered.fetch_add(1, Ordering::AcqRel);
                    }
                    if finished {
                        assert_eq!(newest, DOCUMENTS - 1);
                        return;
                    }
                }
            })
        };
        for reader in [reader(0), reader(1)] {
            reader.join().unwrap();
        }
    });
    assert!(answered.into_inner() > DOCUMENTS as usize / 100);
}

#[test]
fn a_file_with_the_automaton_is_as_good_as_one_without() {
    let corpus = Corpus::new(1 << 23, 8).unwrap();
    let text: Vec<i64> = (0..3000_i64).map(|place| place * place % 101 % 7).collect();
    text.chunks(50).for_each(|document| corpus.add(document).unwrap());
    let [plain, indexed] = [false, true].map(|index| Arc::new(Corpus::from_bytes(&corpus.to_bytes(index)).unwrap()));
    assert_eq!(plain.to_bytes(true), indexed.to_bytes(true));
    for end in 0..200 {
        let [one, other] = [&plain, &indexed].map(|corpus| {
            let drafter = Suffix::new(8, Some(Arc::clone(corpus)), 1).unwrap();
            drafter.start(0, &text[end..end + 3]).unwrap();
            drafter.propose(0, 20).unwrap()
        });
        assert_eq!(one, other);
        for corpus in [&plain, &indexed] {
            corpus.add(&text[end..=2 * end]).unwrap();
        }
    }
    // An empty corpus is already larger than the smallest limit, and is read again all the same.
    assert!(Corpus::from_bytes(&Corpus::new(1, 8).unwrap().to_bytes(true)).unwrap().is_empty());
    // The control: a file whose automaton does not fit its own limit is refused, though its checksum is right.
    let mut small = corpus.to_bytes(true);
    let body = small.len() - 8;
    small[16..24].copy_from_slice(&1000_u64.to_le_bytes());
    let sum = crc64(&small[..body]).to_le_bytes();
    small[body..].copy_from_slice(&sum);
    assert_eq!(Corpus::from_bytes(&small).unwrap_err().kind(), Kind::Checkpoint);
}

#[test]
fn threads_share_a_drafter_and_a_corpus() {
    let corpus = Arc::new(Corpus::new(1 << 15, 16).unwrap());
    let drafter = Suffix::new(16, Some(Arc::clone(&corpus)), 1).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_i64 {
            let (corpus, drafter) = (&corpus, &drafter);
            scope.spawn(move || {
                drafter.start(thread, &[]).unwrap();
                for step in 0..200 {
                    drafter.extend(thread, &[step % 7, thread]).unwrap();
                    let guess = drafter.propose(thread, 5).unwrap();
                    assert!(guess.tokens.iter().all(|&token| (0..7).contains(&token)));
                    corpus.add(&[step % 7, thread, step % 5]).unwrap();
                }
                drafter.stop(thread).unwrap();
            });
        }
    });
    assert!(corpus.memory() <= 1 << 15);
}
