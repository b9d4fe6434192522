//! Stop strings: any strings, any stream, cut up anyhow, against a search of the whole stream.

use foretoken_core::stop::{Fed, StopStrings};

use super::bytes::Bytes;

/// Feeds what bytes say.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let letter = |bytes: &mut Bytes| match bytes.byte() {
        any @ 128.. => any,
        few => few % 3,
    };
    let strings: Vec<Vec<u8>> =
        (0..bytes.below(5)).map(|_| (0..bytes.below(6)).map(|_| letter(&mut bytes)).collect()).collect();
    let made = StopStrings::new(strings.clone());
    let Ok(matcher) = made else {
        assert!(strings.iter().any(Vec::is_empty));
        return;
    };
    assert!(matcher.feed(-1, b"").is_err() && matcher.feed(1 << 40, b"").is_err());
    let (mut state, mut stream) = (0, Vec::new());
    while !bytes.is_empty() {
        let before = stream.len();
        let piece: Vec<u8> = (0..bytes.below(9)).map(|_| letter(&mut bytes)).collect();
        stream.extend(&piece);
        let fed = matcher.feed(state, &piece).unwrap();
        if let Some((begin, _)) = search(&strings, &stream) {
            assert_eq!(fed, Fed { state: 0, hold: 0, match_start: Some(begin as i64 - before as i64) });
            return;
        }
        assert_eq!((fed.match_start, fed.hold), (None, hold(&strings, &stream)));
        state = i64::from(fed.state);
    }
}

/// The first match to end, and among those the longest: (begin, end).
pub fn search(strings: &[Vec<u8>], stream: &[u8]) -> Option<(usize, usize)> {
    let ends = |end: &usize| strings.iter().filter(move |string| stream[..*end].ends_with(string)).map(Vec::len).max();
    (1..=stream.len()).find_map(|end| ends(&end).map(|length| (end - length, end)))
}

/// The longest end of the stream that begins a string.
pub fn hold(strings: &[Vec<u8>], stream: &[u8]) -> usize {
    let begins = |&length: &usize| strings.iter().any(|string| string.starts_with(&stream[stream.len() - length..]));
    (0..=stream.len()).rev().find(begins).unwrap_or(0)
}
