//! Weights in the order in which a product reads them.

use crate::native::product::{Panels, product};

/// Outputs whose sums run side by side.
pub const LANES: usize = 16;

/// Sixteen words of 32 bits, one for each of as many outputs: what a product loads at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(align(64))]
pub struct Line(pub [u32; LANES]);

/// How weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// As they are.
    Float32,
    /// The upper half of a float32, rounded to the nearest; exact for weights that were stored so.
    BFloat16,
    /// A whole number in -127..=127 times a scale for each output; this rounds.
    Int8,
}

impl Dtype {
    /// Weights a word of 32 bits holds.
    pub const fn per_word(self) -> usize {
        match self {
            Self::Float32 => 1,
            Self::BFloat16 => 2,
            Self::Int8 => 4,
        }
    }
}

/// A matrix (outputs, inputs), cut into panels of 16 outputs.
///
/// A panel is a run of lines: a line holds, for each of its outputs, the weights of the next inputs. So a product
/// reads memory from front to back, and no sum ever crosses lanes: each output adds up its inputs in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    dtype: Dtype,
    outputs: usize,
    inputs: usize,
    lines: Vec<Line>,
    scales: Vec<f32>,
}

impl Matrix {
    /// Packs rows (outputs, inputs), both multiples of 16.
    pub(crate) fn pack(dtype: Dtype, inputs: usize, rows: &[f32]) -> Self {
        let (outputs, per_word) = (rows.len() / inputs, dtype.per_word());
        let depth = inputs / per_word;
        let mut lines = vec![Line::default(); outputs / LANES * depth];
        let mut scales = Vec::new();
        for (output, row) in rows.chunks_exact(inputs).enumerate() {
            let panel = &mut lines[output / LANES * depth..][..depth];
            let scale = row.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs())) / 127.0;
            for (line, weights) in panel.iter_mut().zip(row.chunks_exact(per_word)) {
                line.0[output % LANES] = match dtype {
                    Dtype::Float32 => weights[0].to_bits(),
                    Dtype::BFloat16 => to_bfloat16(weights[0]) | (to_bfloat16(weights[1]) << 16),
                    Dtype::Int8 => u32::from_le_bytes(std::array::from_fn(|i| to_int8(weights[i], scale))),
                };
            }
            if dtype == Dtype::Int8 {
                scales.push(scale);
            }
        }
        Self { dtype, outputs, inputs, lines, scales }
    }

    /// A matrix from the parts that `words` and `scales` give; none if they do not fit.
    pub fn from_parts(dtype: Dtype, outputs: usize, inputs: usize, words: &[u32], scales: Vec<f32>) -> Option<Self> {
        let expected = outputs.checked_mul(inputs / dtype.per_word())?;
        let factors = if dtype == Dtype::Int8 { outputs } else { 0 };
        let whole = inputs > 0 && outputs.is_multiple_of(LANES) && inputs.is_multiple_of(LANES);
        if !whole || words.len() != expected || scales.len() != factors {
            return None;
        }
        let (lines, _) = words.as_chunks();
        Some(Self { dtype, outputs, inputs, lines: lines.iter().copied().map(Line).collect(), scales })
    }

    /// Its numbers, as they are packed.
    pub fn words(&self) -> Vec<u32> {
        self.lines.iter().flat_map(|line| line.0).collect()
    }

    /// What each output is multiplied by; empty but for int8.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Outputs and inputs.
    pub fn shape(&self) -> (usize, usize) {
        (self.outputs, self.inputs)
    }

    /// Panels of 16 outputs.
    pub(crate) fn panels(&self) -> usize {
        self.outputs / LANES
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.scales[..])
    }

    /// Writes the weights of one output (inputs).
    pub(crate) fn row(&self, output: usize, out: &mut [f32]) {
        let per_word = self.dtype.per_word();
        let depth = self.inputs / per_word;
        let panel = &self.lines[output / LANES * depth..][..depth];
        for (out, line) in out.chunks_exact_mut(per_word).zip(panel) {
            let word = line.0[output % LANES];
            match self.dtype {
                Dtype::Float32 => out[0] = f32::from_bits(word),
                Dtype::BFloat16 => (out[0], out[1]) = (f32::from_bits(word << 16), f32::from_bits(word & 0xFFFF_0000)),
                Dtype::Int8 => {
                    let scale = self.scales[output];
                    out.iter_mut().zip(word.to_le_bytes()).for_each(|(out, byte)| *out = f32::from(byte as i8) * scale);
                }
            }
        }
    }

    /// Writes x·Wᵀ (rows, 16 · panels) of some panels for x (rows, inputs).
    pub(crate) fn product(&self, panels: std::ops::Range<usize>, x: &[f32], out: &mut [f32]) {
        let (depth, width) = (self.inputs / self.dtype.per_word(), panels.len() * LANES);
        let lines = &self.lines[panels.start * depth..panels.end * depth];
        let rows = x.len() / self.inputs;
        product(self.dtype, Panels { lines, stride: depth, depth }, rows, (x, self.inputs), (out, width));
        if self.dtype == Dtype::Int8 && width > 0 {
            let scales = &self.scales[panels.start * LANES..panels.end * LANES];
            for row in out.chunks_exact_mut(width) {
                row.iter_mut().zip(scales).for_each(|(out, scale)| *out *= scale);
            }
        }
    }
}

/// The nearest bfloat16, ties to even; of finite numbers.
fn to_bfloat16(weight: f32) -> u32 {
    let bits = weight.to_bits();
    // Past the largest, rounding up would make an infinity.
    let most = (bits & 0x8000_0000) | 0x7F7F_0000;
    let rounded = bits + 0x7FFF + ((bits >> 16) & 1);
    (if rounded & 0x7F80_0000 == 0x7F80_0000 { most } else { rounded }) >> 16
}

fn to_int8(weight: f32, scale: f32) -> u8 {
    if scale > 0.0 { (weight / scale).round_ties_even() as i8 as u8 } else { 0 }
}

/// Whether each of these numbers is a bfloat16 already.
pub fn are_bfloat16(weights: &[f32]) -> bool {
    weights.iter().fold(0, |bits, weight| bits | weight.to_bits()).trailing_zeros() >= 16
}
