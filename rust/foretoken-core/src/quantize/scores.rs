//! The scores of some rows with all codes: the loop in which a search spends its time.
//!
//! No score is written to memory but those that matter: a tile compares its own with the best of its rows so far.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, SimdMask, dispatch, f32x16};

use super::Book;
use super::candidates::Candidates;
use super::panels::{Bounds, LANES, Line, Panels, Size, error};

/// Offers each row the codes that may be among its nearest.
pub(super) fn scan(
    level: Level,
    book: &Book,
    packed: &Panels,
    vectors: &[f32],
    sizes: &[Size],
    rows: &mut [Candidates],
) {
    let at = At { book, panel: 0, row: 0, vectors, sizes };
    dispatch!(level, simd => all(simd, at, packed, rows));
}

#[allow(clippy::inline_always)] // here and below: only what is inlined is compiled for the wide instructions
#[inline(always)]
fn all<S: Simd>(simd: S, at: At, packed: &Panels, rows: &mut [Candidates]) {
    // Sums of a tile stay in registers: 32 of AVX-512 hold 16 with a panel each, 16 of AVX2 hold 12 halves, of SSE 12 quarters.
    match S::f32s::LEN {
        16 => walk::<S, 4, 4>(simd, at, packed, rows),
        8 => walk::<S, 6, 1>(simd, at, packed, rows),
        _ => walk::<S, 3, 1>(simd, at, packed, rows),
    }
}

/// Goes through the book in groups of P panels, and through the rows R at a time.
#[allow(clippy::inline_always)]
#[inline(always)]
fn walk<S: Simd, const R: usize, const P: usize>(simd: S, mut at: At, packed: &Panels, rows: &mut [Candidates]) {
    let panels = packed.halves.len();
    while at.panel < panels {
        let whole = panels - at.panel >= P;
        at.row = 0;
        while at.row < rows.len() {
            at.row += match (rows.len() - at.row >= R, whole) {
                (true, true) => tile::<S, R, P>(simd, at, packed, rows),
                (true, false) => tile::<S, R, 1>(simd, at, packed, rows),
                (false, true) => tile::<S, 1, P>(simd, at, packed, rows),
                (false, false) => tile::<S, 1, 1>(simd, at, packed, rows),
            };
        }
        at.panel += if whole { P } else { 1 };
    }
}

/// Where a tile stands.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub book: &'a Book<'a>,
    pub panel: usize,
    pub row: usize,
    pub vectors: &'a [f32],
    pub sizes: &'a [Size],
}

/// R rows by P panels; gives R.
fn tile<S: Simd, const R: usize, const P: usize>(simd: S, at: At, packed: &Panels, rows: &mut [Candidates]) -> usize {
    simd.vectorize(
        #[inline(always)]
        || {
            let width = at.book.width;
            let mut lines: [&[Line]; P] = [&[]; P];
            for (p, lines) in lines.iter_mut().enumerate() {
                *lines = &packed.lines[(at.panel + p) * width..][..width];
            }
            let mut x: [&[f32]; R] = [&[]; R];
            for (r, x) in x.iter_mut().enumerate() {
                *x = &at.vectors[(at.row + r) * width..][..width];
            }
            let mut sums = [[f32x16::splat(simd, 0.0); P]; R];
            for p in 0..P {
                let half = f32x16::simd_from(simd, packed.halves[at.panel + p].0);
                for sums in &mut sums {
                    sums[p] = half;
                }
            }
            for j in 0..width {
                let mut codes = [f32x16::splat(simd, 0.0); P];
                for p in 0..P {
                    codes[p] = f32x16::simd_from(simd, lines[p][j].0);
                }
                for r in 0..R {
                    let number = f32x16::splat(simd, x[r][j]);
                    for p in 0..P {
                        sums[r][p] = codes[p].mul_add(number, sums[r][p]);
                    }
                }
            }
            report(simd, at, &packed.bounds, &sums, rows);
            R
        },
    )
}

/// Offers each row of a tile those of its scores that may be among the lowest.
#[allow(clippy::inline_always)]
#[inline(always)]
pub(super) fn report<S: Simd, const R: usize, const P: usize>(
    simd: S,
    at: At,
    bounds: &Bounds,
    scores: &[[f32x16<S>; P]; R],
    rows: &mut [Candidates],
) {
    let bounds = bounds.of(at.panel..at.panel + P);
    let rows = &mut rows[at.row..at.row + R];
    for (r, (row, scores)) in rows.iter_mut().zip(scores).enumerate() {
        let error = error(bounds, at.sizes[at.row + r]);
        let limit = f32x16::splat(simd, row.limit(error));
        let mut least = scores[0];
        for scores in &scores[1..] {
            least = least.min(*scores);
        }
        if least.simd_le(limit).any_true() {
            let vector = &at.vectors[(at.row + r) * at.book.width..][..at.book.width];
            for (p, scores) in scores.iter().enumerate() {
                let (bits, scores): (u64, [f32; LANES]) = (scores.simd_le(limit).to_bitmask(), (*scores).into());
                row.offer(&scores, bits, error, (at.panel + p) * LANES, (at.book, vector));
            }
        }
    }
}
