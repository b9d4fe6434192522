//! The stop-string matcher against a search of the whole stream, for any way to cut the stream up.

#[path = "common/cases.rs"]
mod cases;

use cases::{CASES, cases};
use foretoken_core::error::{Error, Kind};
use foretoken_core::stop::{Fed, StopStrings};
use proptest::collection::vec;
use proptest::prelude::*;

/// The first match to end, and among those the longest: (begin, end).
fn search(strings: &[Vec<u8>], stream: &[u8]) -> Option<(usize, usize)> {
    let ends = |end: &usize| strings.iter().filter(move |string| stream[..*end].ends_with(string)).map(Vec::len).max();
    (1..=stream.len()).find_map(|end| ends(&end).map(|length| (end - length, end)))
}

/// The longest end of the stream that begins a string.
fn hold(strings: &[Vec<u8>], stream: &[u8]) -> usize {
    let begins = |&length: &usize| strings.iter().any(|string| string.starts_with(&stream[stream.len() - length..]));
    (0..=stream.len()).rev().find(begins).unwrap_or(0)
}

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xC3), Just(0xA9), Just(0x80)], 0..longest)
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn any_cut_finds_the_same(strings in vec(bytes(5), 0..5), pieces in vec(bytes(6), 0..12)) {
        let strings: Vec<Vec<u8>> = strings.into_iter().filter(|string| !string.is_empty()).collect();
        let matcher = StopStrings::new(strings.clone())?;
        let expected = search(&strings, &pieces.concat());
        let (mut state, mut read) = (0, Vec::new());
        for piece in pieces {
            let fed = matcher.feed(i64::from(state), &piece)?;
            let before = read.len();
            read.extend(&piece);
            match expected {
                Some((begin, end)) if end <= read.len() => {
                    let match_start = Some(begin as i64 - before as i64);
                    prop_assert_eq!(fed, Fed { state: 0, hold: 0, match_start });
                    return Ok(());
                }
                _ => prop_assert_eq!((fed.hold, fed.match_start), (hold(&strings, &read), None)),
            }
            state = fed.state;
        }
    }
}

#[test]
fn wrong_strings_and_states_are_refused() {
    assert_eq!(StopStrings::new(vec![vec![1], vec![]]).unwrap_err(), Error::Empty { name: "a stop string" });
    assert_eq!(StopStrings::new(vec![vec![0; 40000]; 2]).unwrap_err().kind(), Kind::Limit);
    let matcher = StopStrings::new(vec![b"ab".to_vec()]).unwrap();
    assert!(matcher.feed(2, b"").is_ok() && matcher.feed(3, b"").is_err() && matcher.feed(-1, b"").is_err());
    let silent = StopStrings::new(Vec::new()).unwrap();
    assert_eq!(silent.feed(0, b"anything").unwrap(), Fed { state: 0, hold: 0, match_start: None });
}
