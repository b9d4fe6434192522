//! Pictures and films to patches and back: resize, normalise, cut and pack in one pass.
//!
//! A band is what one row of blocks of patches covers. It is resized (`resize`), looked up (`tone`) and cut (`cut`) before
//! the next one is begun, so that nothing of the size of a picture is ever kept, and bands are what threads share.

mod bands;
mod cut;
pub mod filter;
pub mod format;
mod passes;
mod paste;
mod resize;
mod sample;
pub mod shape;
#[cfg(test)]
mod tests;
mod tone;
mod turn;

pub use cut::{Plan, layout, patchify};
pub use paste::{Paste, Pixel, unpatchify};
pub use sample::Sample;
pub use shape::{Cut, Region};
pub use tone::Tone;

/// Pixels (frames, height, width, channels), one frame for a picture.
#[derive(Debug, Clone, Copy)]
pub struct Film<'a, P> {
    /// The pixels, row by row.
    pub pixels: &'a [P],
    /// Frames, height, width, channels.
    pub shape: [usize; 4],
}
