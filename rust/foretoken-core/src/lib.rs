//! Decoding kernels: from rows of logits to tokens, and from past tokens to guesses.

pub mod batch;
pub mod chance;
mod dry;
pub mod error;
pub mod history;
pub mod kept;
pub mod logits;
mod logprobs;
pub mod native;
pub mod noise;
mod nucleus;
pub mod sample;
pub mod sampler;
mod scan;
mod simd;
mod truncate;
pub mod verify;
mod weights;

mod automaton;
pub mod corpus;
mod corpus_file;
mod edges;
pub mod lattice;
pub mod ngram;
mod parallel;
pub mod patch;
pub mod pixel;
pub mod quantize;
pub mod reveal;
mod rows;
mod shared;
pub mod stop;
pub mod suffix;
mod sync;
pub mod wave;

#[cfg(all(test, loom))]
mod models;
