//! What look-ups cost without Python: `cargo run --release --example lookup -- TOKENS` where TOKENS is a file of u32 (little-endian),
//! the last 100,000 of which are a row that is looked up, and those before them a corpus. Prints one line of JSON.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use foretoken_core::corpus::Corpus;
use foretoken_core::ngram::NGram;
use foretoken_core::suffix::Suffix;

const CONTEXT: usize = 32_768;
const STEPS: usize = 4000;
/// Tokens that a step adds, and that it guesses.
const ADDED: usize = 4;
const K: i64 = 8;

fn main() {
    let path = std::env::args().nth(1).expect("a file of tokens");
    let bytes = std::fs::read(path).expect("the file");
    let word = |chunk: &[u8]| i64::from(u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
    let tokens: Vec<i64> = bytes.chunks_exact(4).map(word).collect();
    let (before, row) = tokens.split_at(tokens.len() - 100_000);
    let mut lines = Vec::new();

    let ngram = NGram::new(4, 2).unwrap();
    ngram.start(0, &row[..CONTEXT]).unwrap();
    let (append, propose) =
        steps(row, |added| ngram.extend(0, added).unwrap(), |_| drop(black_box(ngram.propose(0, K).unwrap())));
    let (_, kmp) = steps(row, |_| (), |text| drop(black_box(longest_by_kmp(text, 2, 4, K as usize))));
    lines.push(format!(r#""n-gram": {{"append": {append:.4}, "propose": {propose:.3}, "kmp": {kmp:.3}}}"#));

    for size in [0, 1_000_000, 10_000_000] {
        if size > before.len() {
            continue;
        }
        let corpus = Arc::new(Corpus::new(1 << 40, 64).unwrap());
        let started = Instant::now();
        before[before.len() - size..].chunks(5000).for_each(|document| corpus.add(document).unwrap());
        let build = started.elapsed().as_secs_f64();
        let suffix = Suffix::new(64, Some(Arc::clone(&corpus)), 2).unwrap();
        suffix.start(0, &row[..CONTEXT]).unwrap();
        let (append, propose) =
            steps(row, |added| suffix.extend(0, added).unwrap(), |_| drop(black_box(suffix.propose(0, K).unwrap())));
        let bytes = corpus.memory();
        let reads = [("one reader", 1, false), ("two readers", 2, false), ("two readers and a writer", 2, true)];
        let reads = reads.map(|(name, readers, write)| {
            let (rate, cpu) = read(&corpus, row, readers, write);
            format!(r#""{name}": {{"steps a second": {rate:.0}, "CPU a step": {cpu:.3}}}"#)
        });
        let costs = format!(r#""append": {append:.4}, "propose": {propose:.3}, "build": {build:.3}, "bytes": {bytes}"#);
        lines.push(format!(r#""suffix {size}": {{{costs}, "reads": {{{}}}}}"#, reads.join(", ")));
    }
    println!("{{{}}}", lines.join(", "));
}

/// Median microseconds a token of appending, and of proposing, as a row grows.
fn steps(row: &[i64], append: impl Fn(&[i64]), propose: impl Fn(&[i64])) -> (f64, f64) {
    let (mut appends, mut proposals) = (Vec::new(), Vec::new());
    for step in 0..STEPS {
        let end = CONTEXT + step * ADDED;
        let started = Instant::now();
        append(&row[end..end + ADDED]);
        let appended = Instant::now();
        propose(&row[..end + ADDED]);
        appends.push((appended - started).as_secs_f64() * 1e6 / ADDED as f64);
        proposals.push(appended.elapsed().as_secs_f64() * 1e6);
    }
    [appends, proposals].map(|mut times| *times.select_nth_unstable_by(STEPS / 2, f64::total_cmp).1).into()
}

/// Steps a second of all readers together, each with a row of its own, beside one that adds documents or none; and the
/// microseconds of CPU that a step took, which a machine with other work to do does not change.
fn read(corpus: &Arc<Corpus>, row: &[i64], readers: usize, write: bool) -> (f64, f64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if write {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    corpus.add(&row[..200]).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
        }
        let started = Instant::now();
        let work: Vec<_> = (0..readers)
            .map(|reader| {
                scope.spawn(move || {
                    let suffix = Suffix::new(64, Some(Arc::clone(corpus)), 2).unwrap();
                    suffix.start(0, &row[..CONTEXT]).unwrap();
                    let (rounds, before) = (100_000, on_cpu());
                    for round in 0..rounds {
                        let place = CONTEXT + (round * ADDED + reader * 1000) % 60_000;
                        suffix.extend(0, &row[place..place + ADDED]).unwrap();
                        black_box(suffix.propose(0, K).unwrap());
                    }
                    (rounds, on_cpu() - before)
                })
            })
            .collect();
        let done_by: Vec<(usize, f64)> = work.into_iter().map(|reader| reader.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        let steps = done_by.iter().map(|(rounds, _)| *rounds as f64).sum::<f64>();
        (steps / started.elapsed().as_secs_f64(), done_by.iter().map(|(_, cpu)| cpu).sum::<f64>() / steps)
    })
}

/// Microseconds that this thread has run so far; 0 where Linux does not say.
fn on_cpu() -> f64 {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    said.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}

/// What vLLM's n-gram proposer does for each draft: the longest end of the text, of at most `max_n` tokens, that stood before, by
/// the failure function of Knuth, Morris & Pratt over the reversed text; among equals the first occurrence.
fn longest_by_kmp(text: &[i64], min_n: usize, max_n: usize, k: usize) -> Vec<i64> {
    let token = |place: usize| text[text.len() - 1 - place];
    let mut prefixes = vec![0; max_n];
    let (mut longest, mut position, mut length, mut place) = (0, 0, 0, 1);
    while place < text.len() {
        if token(length) == token(place) {
            length += 1;
            if length >= longest {
                (longest, position) = (length, place);
            }
            if place < max_n {
                prefixes[place] = length;
            }
            if length == max_n {
                length = prefixes[max_n - 1];
            }
            place += 1;
        } else if length != 0 {
            length = prefixes[length - 1];
        } else {
            place += 1;
        }
    }
    if longest < min_n {
        return Vec::new();
    }
    let start = text.len() - 1 - position + longest;
    text[start..text.len().min(start + k)].to_vec()
}
