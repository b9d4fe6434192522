//! What is fuzzed: each module's `run` makes calls of the core out of any bytes, and panics if an answer is wrong.
//!
//! libFuzzer calls them (`fuzz_targets/`), and `cargo test` does, over the seeds (`foretoken-core/tests/fuzz.rs`).

pub mod bytes;
pub mod corpus;
pub mod crc;
pub mod lattice;
pub mod rescan;
pub mod sample;
pub mod shard;
pub mod stop;
pub mod suffix;
pub mod verify;
