//! The same scores from bytes: four times as fast where the machine multiplies bytes, and coarser.
//!
//! Vectors and codes are taken relative to the mean of the codes, scaled so that each fills -127..=127, and rounded. What the
//! rounding lost is measured, so a score is off by at most `lost(v)·|c| + |v|·lost(c)` (Cauchy and Schwarz), whatever the data.
//! On vectors whose distances differ by less than that, many codes stay open, and f32 is the better sieve.

use fearless_simd::{Level, dispatch};

use super::Book;
use super::candidates::Candidates;
use super::panels::{Bounds, LANES, Line, Size};

/// Rows that are compared at once: with four panels, their sums fill half of the registers.
pub(super) const TILE: usize = 4;

/// Panels that are compared at once.
pub(super) const GROUP: usize = 4;
/// What pays; see `pays`.
const LEAST_WIDTH: usize = 16;
/// Sums of products of bytes fit 32 bits up to this width.
const MAX_WIDTH: usize = 1 << 15;
/// What a vector is scaled by at least, so that scales never leave f32.
const LEAST: f64 = 1e-30;

/// Four numbers of each code of a panel.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Bytes(pub [u8; 4 * LANES]);

/// A whole number of each code of a panel.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Wholes(pub [i32; LANES]);

/// The codes in panels of 16, as many as fill groups; each a run of `depth` lines.
#[derive(Debug)]
pub(super) struct BytePanels {
    pub depth: usize,
    pub lines: Vec<Bytes>,
    /// -128 times the sum of each code: what the offset of the rows adds.
    pub sums: Vec<Wholes>,
    pub scales: Vec<Line>,
    /// `|c|²/2`, and +inf where a panel has no code.
    pub halves: Vec<Line>,
    pub bounds: Bounds,
    mean: Vec<f64>,
}

impl BytePanels {
    /// Packs (codes, width) finite numbers.
    pub fn pack(level: Level, codes: &[f32], width: usize) -> Self {
        let count = codes.len() / width;
        let (panels, depth) = (count.div_ceil(LANES).next_multiple_of(GROUP), width.div_ceil(4));
        let mut made = Self {
            depth,
            lines: vec![Bytes([0; 4 * LANES]); panels * depth],
            sums: vec![Wholes([0; LANES]); panels],
            scales: vec![Line([0.0; LANES]); panels],
            halves: vec![Line([f32::INFINITY; LANES]); panels],
            bounds: Bounds::default(),
            mean: mean(codes, width),
        };
        let mut rounded = Rounded::default();
        let mut all = codes.chunks(LANES * width);
        for panel in 0..panels {
            let (mut norm, mut lost) = (0.0_f64, 0.0_f64);
            for (lane, code) in all.next().unwrap_or(&[]).chunks_exact(width).enumerate() {
                rounded.take(level, code, &made.mean);
                norm = norm.max(rounded.norm);
                lost = lost.max(rounded.lost);
                made.halves[panel].0[lane] = (rounded.norm * rounded.norm / 2.0) as f32;
                made.scales[panel].0[lane] = rounded.scale;
                let numbers = rounded.numbers.as_flattened();
                made.sums[panel].0[lane] = -128 * numbers.iter().map(|&number| i32::from(number)).sum::<i32>();
                for (line, &[a, b, c, d]) in made.lines[panel * depth..].iter_mut().zip(rounded.fours(width)) {
                    line.0[4 * lane..][..4].copy_from_slice(&[a as u8, b as u8, c as u8, d as u8]);
                }
            }
            // The sum, its two scales, the half and its rounding.
            made.bounds.push(norm + lost, lost, 8);
        }
        made
    }

    /// Writes a vector as words of four bytes, each 128 above its number; gives its scale and its size.
    fn round(&self, level: Level, vector: &[f32], rounded: &mut Rounded, words: &mut Vec<u32>) -> (f32, Size) {
        rounded.take(level, vector, &self.mean);
        // The offset of four bytes at once.
        let word = |&[a, b, c, d]: &[i8; 4]| u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]) ^ 0x8080_8080;
        words.extend(rounded.fours(vector.len()).map(word));
        (rounded.scale, Size::new(vector.len(), rounded.norm, rounded.lost))
    }
}

/// A vector as whole numbers in -127..=127 times a scale, and zeros that fill a block of eight.
#[derive(Debug, Default)]
struct Rounded {
    centred: Vec<[f64; 8]>,
    numbers: Vec<[i8; 8]>,
    scale: f32,
    /// Of the vector, and of what was lost.
    norm: f64,
    lost: f64,
}

impl Rounded {
    fn take(&mut self, level: Level, vector: &[f32], mean: &[f64]) {
        let blocks = vector.len().div_ceil(8);
        self.centred.resize(blocks, [0.0; 8]);
        self.numbers.resize(blocks, [0; 8]);
        dispatch!(level, _simd => self.round(vector, mean));
    }

    #[allow(clippy::inline_always)] // only what is inlined is compiled for the wide instructions
    #[inline(always)]
    fn round(&mut self, vector: &[f32], mean: &[f64]) {
        const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52: adding it leaves a whole number in the low bits
        for (place, (&number, mean)) in vector.iter().zip(mean).enumerate() {
            self.centred[place / 8][place % 8] = f64::from(number) - mean;
        }
        let mut most = [0.0_f64; 8];
        for eight in &self.centred {
            most.iter_mut().zip(eight).for_each(|(most, number)| *most = most.max(number.abs()));
        }
        let most = most.into_iter().fold(0.0_f64, f64::max);
        self.scale = (most / 127.0).max(LEAST) as f32;
        // The scale may have been rounded down; what then goes beyond 127 is cut off, and counts as lost.
        let (scale, inverse) = (f64::from(self.scale), 1.0 / f64::from(self.scale));
        let (mut norm, mut lost) = ([0.0; 8], [0.0; 8]);
        for (eight, whole) in self.centred.iter().zip(&mut self.numbers) {
            for lane in 0..8 {
                let rounded = (eight[lane] * inverse).clamp(-127.0, 127.0) + ROUND;
                let rest = eight[lane] - (rounded - ROUND) * scale;
                norm[lane] += eight[lane] * eight[lane];
                lost[lane] += rest * rest;
                whole[lane] = rounded.to_bits() as i8;
            }
        }
        self.norm = norm.iter().sum::<f64>().sqrt();
        self.lost = lost.iter().sum::<f64>().sqrt();
    }

    /// The numbers of a vector of `width`, four at a time.
    fn fours(&self, width: usize) -> impl Iterator<Item = &[i8; 4]> {
        self.numbers.as_flattened().as_chunks().0.iter().take(width.div_ceil(4))
    }
}

/// The mean of all codes; any other point would do, but not as well.
fn mean(codes: &[f32], width: usize) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    for code in codes.chunks_exact(width) {
        mean.iter_mut().zip(code).for_each(|(mean, &number)| *mean += f64::from(number));
    }
    let count = (codes.len() / width) as f64;
    mean.into_iter().map(|sum| sum / count).collect()
}

/// Whether this machine multiplies bytes.
pub(super) fn pays(level: Level, width: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    let wide = level.as_avx512().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    let wide = false;
    // Below, comparing takes longer than multiplying.
    wide && (LEAST_WIDTH..=MAX_WIDTH).contains(&width)
}

/// Rows as bytes, as many as fill tiles.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub words: Vec<u32>,
    pub scales: Vec<f32>,
    pub sizes: Vec<Size>,
    rounded: Rounded,
}

impl Rows {
    /// Rounds some vectors in the place of those before.
    pub fn take(&mut self, level: Level, packed: &BytePanels, vectors: &[f32], width: usize) {
        let rows = vectors.len() / width;
        self.words.clear();
        self.scales.clear();
        self.sizes.clear();
        for vector in vectors.chunks_exact(width) {
            let (scale, size) = packed.round(level, vector, &mut self.rounded, &mut self.words);
            self.scales.push(scale);
            self.sizes.push(size);
        }
        let filled = rows.next_multiple_of(TILE);
        self.words.resize(filled * packed.depth, 0);
        self.scales.resize(filled, 0.0);
        self.sizes.resize(filled, Size::default());
    }
}

/// Offers each row the codes that may be among its nearest; `found` has as many rows as fill tiles.
pub(super) fn scan(
    level: Level,
    book: &Book,
    packed: &BytePanels,
    vectors: &[f32],
    rows: &Rows,
    found: &mut [Candidates],
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = level.as_avx512() {
        return avx512::scan(avx512, book, packed, vectors, rows, found);
    }
    unreachable!("bytes pay only where there is a loop for them")
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    //! The loop over bytes; here and not in `scores`, because the portable vectors have no product of bytes.

    use fearless_simd::prelude::*;
    use fearless_simd::{f32x16, i32x16, u8x64};
    use std::arch::x86_64::{__m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_set1_epi32};

    use super::super::Book;
    use super::super::candidates::Candidates;
    use super::super::scores::{At, report};
    use super::{BytePanels, Bytes, GROUP, Rows, TILE};

    fearless_simd::kernel!(
        /// Offers each row the codes that may be among its nearest.
        pub fn scan(
            avx512: Avx512,
            book: &Book,
            packed: &BytePanels,
            vectors: &[f32],
            rows: &Rows,
            found: &mut [Candidates],
        ) {
            let depth = packed.depth;
            for panel in (0..packed.halves.len()).step_by(GROUP) {
                let mut lines: [&[Bytes]; GROUP] = [&[]; GROUP];
                for (p, lines) in lines.iter_mut().enumerate() {
                    *lines = &packed.lines[(panel + p) * depth..][..depth];
                }
                for row in (0..found.len()).step_by(TILE) {
                    let mut words: [&[u32]; TILE] = [&[]; TILE];
                    for (r, words) in words.iter_mut().enumerate() {
                        *words = &rows.words[(row + r) * depth..][..depth];
                    }
                    let mut sums: [[__m512i; GROUP]; TILE] = [[_mm512_set1_epi32(0); GROUP]; TILE];
                    for p in 0..GROUP {
                        let start = i32x16::simd_from(avx512, packed.sums[panel + p].0).into();
                        for sums in &mut sums {
                            sums[p] = start;
                        }
                    }
                    for j in 0..depth {
                        let mut codes = [_mm512_set1_epi32(0); GROUP];
                        for p in 0..GROUP {
                            codes[p] = u8x64::simd_from(avx512, lines[p][j].0).into();
                        }
                        for r in 0..TILE {
                            let word = _mm512_set1_epi32(words[r][j] as i32);
                            for p in 0..GROUP {
                                sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], word, codes[p]);
                            }
                        }
                    }
                    let mut scores = [[f32x16::splat(avx512, 0.0); GROUP]; TILE];
                    for p in 0..GROUP {
                        let scale = f32x16::simd_from(avx512, packed.scales[panel + p].0);
                        let half = f32x16::simd_from(avx512, packed.halves[panel + p].0);
                        for r in 0..TILE {
                            let sum = f32x16::simd_from(avx512, _mm512_cvtepi32_ps(sums[r][p]));
                            scores[r][p] = half - sum * f32x16::splat(avx512, rows.scales[row + r]) * scale;
                        }
                    }
                    let at = At { book, panel, row, vectors, sizes: &rows.sizes };
                    report(avx512, at, &packed.bounds, &scores, found);
                }
            }
        }
    );
}
