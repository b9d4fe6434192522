//! Sound to numbers and back: linear and μ-law codes, and other rates.
//!
//! The slow twin is `foretoken.reference.wave`.

pub mod mu_law;
pub mod resample;

use fearless_simd::dispatch;

use crate::error::{Error, Result};
use crate::quantize::check_finite;
use crate::quantize::residual::check_ids;
use crate::simd::LEVEL;

/// Codes of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Coded {
    /// One a sample.
    pub ids: Vec<i64>,
    /// How many samples were beyond -1 or 1, and got the code there.
    pub clipped: usize,
}

/// Linear codes of 8 or 16 bits: `round(x · 2^(bits-1)) + 2^(bits-1)`, ties to even; 1 itself gets the topmost code.
///
/// # Errors
/// A sample that is not finite, another number of bits.
pub fn encode(samples: &[f32], bits: i64) -> Result<Coded> {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves a whole number in the low bits
    let half = half_of(bits)?;
    check_finite("samples", samples)?;
    let mut ids = vec![0; samples.len()];
    dispatch!(*LEVEL, _simd => for (id, &sample) in ids.iter_mut().zip(samples) {
        let level = (sample * half).max(-half).min(half - 1.0);
        *id = i64::from((level + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32 + half as i32);
    });
    Ok(Coded { ids, clipped: clipped(samples) })
}

/// The samples of linear codes: `(id - 2^(bits-1)) / 2^(bits-1)`, exactly.
///
/// # Errors
/// A code of more bits, another number of bits.
pub fn decode(ids: &[i64], bits: i64) -> Result<Vec<f32>> {
    let half = half_of(bits)?;
    check_ids("ids", ids, 2 * half as u64)?;
    Ok(ids.iter().map(|&id| (id as f32 - half) / half).collect())
}

fn half_of(bits: i64) -> Result<f32> {
    match bits {
        8 => Ok(128.0),
        16 => Ok(32768.0),
        _ => Err(Error::Range { name: "bits", value: bits as f64, expected: "8 or 16" }),
    }
}

fn clipped(samples: &[f32]) -> usize {
    dispatch!(*LEVEL, _simd => samples.iter().filter(|sample| sample.abs() > 1.0).count())
}
