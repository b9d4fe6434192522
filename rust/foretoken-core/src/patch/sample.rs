//! Kinds of pixels, and how they are weighed when a picture is resized.

use fearless_simd::dispatch;

use crate::patch::turn::Turn;
use crate::simd::LEVEL;

/// A kind of pixel, and how it is weighed.
pub trait Sample: Turn + Into<f32> + Send + Sync + 'static {
    /// What a pixel is multiplied with, and the sum.
    type Weight: Copy + Send + Sync;

    /// A weight with so many bits behind the point.
    fn weight(exact: f64, precision: u32) -> Self::Weight;
    /// The sum of nothing.
    fn start(precision: u32) -> Self::Weight;
    /// A sum with one pixel more.
    fn add(sum: Self::Weight, weight: Self::Weight, pixel: Self) -> Self::Weight;
    /// The pixel of a sum.
    fn end(sum: Self::Weight, precision: u32) -> Self;
    /// The first place of what is no number, if there is one.
    fn wrong(pixels: &[Self]) -> Option<usize>;
}

#[allow(clippy::inline_always)] // only inlined code is compiled for the instruction set
impl Sample for u8 {
    type Weight = i32;

    fn weight(exact: f64, precision: u32) -> i32 {
        // Rounded half away from zero.
        let scaled = exact * f64::from(1 << precision);
        (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
    }

    #[inline(always)]
    fn start(precision: u32) -> i32 {
        1 << (precision - 1)
    }

    #[inline(always)]
    fn add(sum: i32, weight: i32, pixel: u8) -> i32 {
        sum.wrapping_add(weight.wrapping_mul(pixel.into()))
    }

    #[inline(always)]
    fn end(sum: i32, precision: u32) -> u8 {
        (sum >> precision).clamp(0, 255) as u8
    }

    fn wrong(_pixels: &[u8]) -> Option<usize> {
        None
    }
}

#[allow(clippy::inline_always)]
impl Sample for f32 {
    type Weight = f64;

    fn weight(exact: f64, _precision: u32) -> f64 {
        exact
    }

    #[inline(always)]
    fn start(_precision: u32) -> f64 {
        0.0
    }

    #[inline(always)]
    fn add(sum: f64, weight: f64, pixel: f32) -> f64 {
        sum + f64::from(pixel) * weight
    }

    #[inline(always)]
    fn end(sum: f64, _precision: u32) -> f32 {
        sum as f32
    }

    fn wrong(pixels: &[f32]) -> Option<usize> {
        // Counted first, not searched for: a loop without an exit vectorises.
        let count = dispatch!(*LEVEL, _simd => pixels.iter().map(|pixel| u64::from(!pixel.is_finite())).sum::<u64>());
        if count == 0 { None } else { pixels.iter().position(|pixel| !pixel.is_finite()) }
    }
}
