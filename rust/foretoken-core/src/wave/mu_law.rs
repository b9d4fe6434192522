//! μ-law with μ = 255 and 256 codes: the formula itself, as in 1609.03499, not the segments of G.711.
//!
//! `f(x) = sign(x) ln(1 + 255|x|) / ln 256` is cut into 256 steps of which the outermost are half as wide, and a code stands
//! for the middle of its step: code i for `f(x) = 2i/255 - 1`. There is no code for silence: 127 and 128 are ∓0.0000862.

use std::f64::consts::LN_2;
use std::sync::LazyLock;

use super::{Coded, clipped};
use crate::error::Result;
use crate::noise::exp;
use crate::quantize::check_finite;
use crate::quantize::residual::check_ids;

/// How many codes there are.
pub const CODES: usize = 256;

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::new);

struct Tables {
    /// What each code stands for.
    values: [f32; CODES],
    /// The least sample of each code but the first.
    edges: [f32; CODES - 1],
    /// For each cell of `cell_of`: how many edges are in the cells before it.
    below: [u8; CELLS],
}

/// Cells are steps of a float's bits, so that a few of them hold one edge each.
const CELLS: usize = 1 << 12;

/// Where a sample in -1..=1 lies, rising with it: its sign, and what is left of `|x| + 1/255` without its low bits.
fn cell_of(sample: f32) -> usize {
    const SHIFT: u32 = 16;
    const BIAS: f32 = 1.0 / 255.0;
    let bits = (sample.abs() + BIAS).to_bits() >> SHIFT;
    let distance = (bits - (BIAS.to_bits() >> SHIFT)) as usize;
    if sample < 0.0 { CELLS / 2 - 1 - distance } else { CELLS / 2 + distance }
}

impl Tables {
    fn new() -> Self {
        // The inverse of f at steps / 255; with an exponential of our own, so that all machines have the same bits.
        let inverse = |steps: i32| {
            let size = (exp(f64::from(steps.abs()) * (8.0 * LN_2 / 255.0)) - 1.0) / 255.0;
            (size * f64::from(steps.signum())) as f32
        };
        let values = std::array::from_fn(|id| inverse(2 * id as i32 - 255));
        let edges: [f32; CODES - 1] = std::array::from_fn(|id| inverse(2 * id as i32 - 254));
        let mut below = [0; CELLS];
        for (cell, below) in below.iter_mut().enumerate() {
            *below = edges.iter().filter(|&&edge| cell_of(edge) < cell).count() as u8;
        }
        Self { values, edges, below }
    }

    /// The number of edges that are not above a sample. A cell rises with the sample, so edges in lower cells are not above.
    fn code(&self, sample: f32) -> i64 {
        let mut code = usize::from(self.below[cell_of(sample)]);
        while code < CODES - 1 && sample >= self.edges[code] {
            code += 1;
        }
        code as i64
    }
}

/// The codes of samples; what is beyond -1 or 1 gets the code there.
///
/// # Errors
/// A sample that is not finite.
pub fn encode(samples: &[f32]) -> Result<Coded> {
    check_finite("samples", samples)?;
    let tables = &*TABLES;
    let ids = samples.iter().map(|sample| tables.code(sample.clamp(-1.0, 1.0))).collect();
    Ok(Coded { ids, clipped: clipped(samples) })
}

/// The samples of codes.
///
/// # Errors
/// A code that is not below 256.
pub fn decode(ids: &[i64]) -> Result<Vec<f32>> {
    check_ids("ids", ids, CODES as u64)?;
    let values = &TABLES.values;
    Ok(ids.iter().map(|&id| values[id as usize]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edge_and_its_neighbours_get_their_codes() {
        let tables = &*TABLES;
        for (id, &edge) in tables.edges.iter().enumerate() {
            for sample in [edge.next_down(), edge, edge.next_up()] {
                let slow = tables.edges.iter().filter(|&&edge| sample >= edge).count() as i64;
                assert_eq!(tables.code(sample), slow);
            }
            assert_eq!(tables.code(edge), id as i64 + 1);
        }
        for (id, &value) in tables.values.iter().enumerate() {
            assert_eq!(tables.code(value), id as i64);
        }
        assert_eq!((tables.code(-0.0), tables.code(0.0)), (128, 128));
        assert!(cell_of(1.0) < CELLS && tables.edges.is_sorted());
    }
}
