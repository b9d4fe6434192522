//! Decoding kernels: from rows of logits to tokens, and from past tokens to guesses.

pub mod error;
pub mod noise;

mod automaton;
pub mod corpus;
mod corpus_file;
mod edges;
pub mod ngram;
mod rows;
pub mod stop;
pub mod suffix;
