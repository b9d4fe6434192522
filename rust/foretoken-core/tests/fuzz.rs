//! What libFuzzer runs for hours runs here for seconds: the same bodies over the seeds, and over changes of them.

use std::fs;
use std::path::Path;

use cases::{CASES, cases};
use foretoken_core::noise::{CHOICE, Place};

#[path = "common/cases.rs"]
mod cases;

#[path = "../../fuzz/src/lib.rs"]
mod bodies;

/// Runs a body on its seeds and on copies with some bytes changed, added or cut off.
fn replay(name: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let seeds: Vec<Vec<u8>> = names.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!seeds.is_empty(), "{} is empty", folder.display());
    for seed in &seeds {
        body(seed);
    }
    for copy in 0..cases(CASES).cases {
        let mut draws = (0..).map(|draw| {
            let place = Place { seed: 1, row: copy, position: draw, stream: CHOICE };
            (place.uniform(0) * f64::from(1 << 24)) as usize
        });
        let mut draw = |limit: usize| draws.next().unwrap() % limit.max(1);
        let mut bytes = seeds[draw(seeds.len())].clone();
        for _ in 0..draw(6) {
            let place = draw(bytes.len());
            match draw(4) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, draw(256) as u8),
                _ if bytes.is_empty() => {}
                2 => bytes[place] ^= 1 << draw(8),
                _ => bytes[place] = draw(256) as u8,
            }
        }
        body(&bytes);
    }
}

#[test]
fn corpus() {
    replay("corpus", bodies::corpus::run);
}

#[test]
fn lattice() {
    replay("lattice", bodies::lattice::run);
}

#[test]
fn sample() {
    replay("sample", bodies::sample::run);
}

#[test]
fn shard() {
    replay("shard", bodies::shard::run);
}

#[test]
fn stop() {
    replay("stop", bodies::stop::run);
}

#[test]
fn suffix() {
    replay("suffix", bodies::suffix::run);
}

#[test]
fn verify() {
    replay("verify", bodies::verify::run);
}
