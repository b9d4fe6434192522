//! Small Llama-shaped models run whole on the CPU: forward passes and the draft loop, without Python in between.
//!
//! The slow twin is `foretoken.model.llama`. Every number of a row is summed in an order that knows neither the other
//! rows of a call nor how many threads share it, so a row has the same logits to the bit however it is read: one unit
//! at a time, as a block of guesses, alone or in a batch. There is no pool: a session has its own threads, and does
//! without them where they do not answer, as in a process that was forked.

pub mod block;
pub mod blocks;
mod cache;
pub mod config;
pub(crate) mod crew;
pub mod draft;
mod forward;
pub mod matrix;
pub mod model;
mod pays;
mod pointwise;
mod product;
pub mod session;
pub(crate) mod team;
#[cfg(test)]
mod tests;
mod tree;
