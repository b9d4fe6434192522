//! x·Wᵀ over packed weights: the one loop in which a forward spends its time.
//!
//! A weight that has been loaded meets up to six rows, and four panels run side by side to hide the latency of the
//! additions. Whatever the tile, an output is `((x₀w₀ + x₁w₁) + x₂w₂) + …`, fused where the machine fuses: its bits
//! depend on its own row alone.

use fearless_simd::{Bytes, Level};
use fearless_simd::{Simd, SimdBase, SimdCvtFloat, SimdFloat, SimdFrom, dispatch, f32x16, i32x16, u32x16};

use crate::native::matrix::{Dtype, LANES, Line};
use crate::simd::LEVEL;

/// Panels in memory: each begins `stride` lines after the one before, and `depth` lines of it count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub lines: &'a [Line],
    pub stride: usize,
    pub depth: usize,
}

/// Writes the product of `rows` rows with as many panels as a row of `out` has room for.
///
/// Inputs and outputs come with the distance from one row to the next.
pub(crate) fn product(
    dtype: Dtype,
    panels: Panels,
    rows: usize,
    (x, x_pitch): (&[f32], usize),
    (out, out_pitch): (&mut [f32], usize),
) {
    let level: Level = *LEVEL;
    match dtype {
        Dtype::Float32 => {
            dispatch!(level, simd => all::<_, Float32>(simd, panels, rows, (x, x_pitch), (out, out_pitch)));
        }
        Dtype::BFloat16 => {
            dispatch!(level, simd => all::<_, BFloat16>(simd, panels, rows, (x, x_pitch), (out, out_pitch)));
        }
        Dtype::Int8 => dispatch!(level, simd => all::<_, Int8>(simd, panels, rows, (x, x_pitch), (out, out_pitch))),
    }
}

/// How a word becomes weights.
trait Words {
    const PER_WORD: usize;
    fn weights<S: Simd>(line: u32x16<S>, i: usize) -> f32x16<S>;
}

struct Float32;
struct BFloat16;
struct Int8;

#[allow(clippy::inline_always)] // here and below: only what is inlined is compiled for the wide instructions
impl Words for Float32 {
    const PER_WORD: usize = 1;
    #[inline(always)]
    fn weights<S: Simd>(line: u32x16<S>, _: usize) -> f32x16<S> {
        line.bitcast()
    }
}

#[allow(clippy::inline_always)]
impl Words for BFloat16 {
    const PER_WORD: usize = 2;
    #[inline(always)]
    fn weights<S: Simd>(line: u32x16<S>, i: usize) -> f32x16<S> {
        if i == 0 { (line << 16).bitcast() } else { (line & 0xFFFF_0000).bitcast() }
    }
}

#[allow(clippy::inline_always)]
impl Words for Int8 {
    const PER_WORD: usize = 4;
    #[inline(always)]
    fn weights<S: Simd>(line: u32x16<S>, i: usize) -> f32x16<S> {
        let line: i32x16<S> = line.bitcast();
        f32x16::float_from((line << (24 - 8 * i as u32)) >> 24)
    }
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn all<S: Simd, W: Words>(
    simd: S,
    panels: Panels,
    rows: usize,
    (x, x_pitch): (&[f32], usize),
    (out, out_pitch): (&mut [f32], usize),
) {
    let count = out_pitch / LANES;
    // Sixteen sums of one row fill a register of AVX-512 and two of AVX2, which has half as many registers.
    let wide = S::f32s::LEN == LANES;
    let mut panel = 0;
    while panel < count {
        let taken = match count - panel {
            4.. if wide || rows == 1 => 4,
            2.. => 2,
            _ => 1,
        };
        // As many sums as there are registers for, beside the weights and an input.
        let most = match taken {
            4 if wide => 6,
            2 if !wide => 3,
            _ => 4,
        };
        let mut row = 0;
        while row < rows {
            let some = (rows - row).div_ceil((rows - row).div_ceil(most)); // in parts of about one size
            let at = At { panels, panel, row, x, x_pitch, out_pitch };
            match (taken, some) {
                (4, 1) => tile::<S, W, 1, 4>(simd, at, out),
                (4, 2) => tile::<S, W, 2, 4>(simd, at, out),
                (4, 3) => tile::<S, W, 3, 4>(simd, at, out),
                (4, 4) => tile::<S, W, 4, 4>(simd, at, out),
                (4, 5) => tile::<S, W, 5, 4>(simd, at, out),
                (4, _) => tile::<S, W, 6, 4>(simd, at, out),
                (2, 1) => tile::<S, W, 1, 2>(simd, at, out),
                (2, 2) => tile::<S, W, 2, 2>(simd, at, out),
                (2, 3) => tile::<S, W, 3, 2>(simd, at, out),
                (2, _) => tile::<S, W, 4, 2>(simd, at, out),
                (_, 1) => tile::<S, W, 1, 1>(simd, at, out),
                (_, 2) => tile::<S, W, 2, 1>(simd, at, out),
                (_, 3) => tile::<S, W, 3, 1>(simd, at, out),
                _ => tile::<S, W, 4, 1>(simd, at, out),
            }
            row += some;
        }
        panel += taken;
    }
}

/// Where a tile stands.
#[derive(Clone, Copy)]
struct At<'a> {
    panels: Panels<'a>,
    panel: usize,
    row: usize,
    x: &'a [f32],
    x_pitch: usize,
    out_pitch: usize,
}

/// R rows by P panels.
fn tile<S: Simd, W: Words, const R: usize, const P: usize>(simd: S, at: At, out: &mut [f32]) {
    simd.vectorize(
        #[inline(always)]
        || {
            let depth = at.panels.depth;
            let mut lines: [&[Line]; P] = [&[]; P];
            for (p, lines) in lines.iter_mut().enumerate() {
                *lines = &at.panels.lines[(at.panel + p) * at.panels.stride..][..depth];
            }
            let mut x: [&[f32]; R] = [&[]; R];
            for (r, x) in x.iter_mut().enumerate() {
                *x = &at.x[(at.row + r) * at.x_pitch..][..depth * W::PER_WORD];
            }
            let mut sums = [[f32x16::splat(simd, 0.0); P]; R];
            for d in 0..depth {
                let mut words = [u32x16::splat(simd, 0); P];
                for p in 0..P {
                    words[p] = u32x16::simd_from(simd, lines[p][d].0);
                }
                for i in 0..W::PER_WORD {
                    let mut weights = [f32x16::splat(simd, 0.0); P];
                    for p in 0..P {
                        weights[p] = W::weights(words[p], i);
                    }
                    for r in 0..R {
                        let input = f32x16::splat(simd, x[r][d * W::PER_WORD + i]);
                        for p in 0..P {
                            sums[r][p] = weights[p].mul_add(input, sums[r][p]);
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let out = &mut out[(at.row + r) * at.out_pitch + at.panel * LANES..][..P * LANES];
                for (sum, out) in sums.iter().zip(out.chunks_exact_mut(LANES)) {
                    sum.store_slice(out);
                }
            }
        },
    );
}
