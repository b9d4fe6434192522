//! Decoding kernels: from rows of logits to tokens, and from past tokens to guesses.

pub mod batch;
pub mod chance;
mod dry;
pub mod error;
pub mod history;
pub mod kept;
pub mod logits;
mod logprobs;
pub mod noise;
pub mod sample;
pub mod sampler;
mod scan;
mod simd;
mod truncate;
pub mod verify;

mod automaton;
pub mod corpus;
mod corpus_file;
mod edges;
pub mod ngram;
mod rows;
pub mod stop;
pub mod suffix;
