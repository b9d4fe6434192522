//! Rows to columns and back, for sixteen rows at a time.
//!
//! Along a row, what a new pixel is made of begins anywhere and is interleaved with other channels; across rows it is the same
//! for all. So rows are turned until sixteen of them lie side by side, one a lane.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, u8x16};

/// How many rows are turned together.
pub const LANES: usize = 16;

/// A kind of pixel that can be turned in registers.
pub trait Turn: Copy + Default {
    /// Exchanges rows and columns of a square.
    fn turn<S: Simd>(simd: S, square: [[Self; LANES]; LANES]) -> [[Self; LANES]; LANES];
}

#[allow(clippy::inline_always)]
impl Turn for u8 {
    #[inline(always)]
    fn turn<S: Simd>(simd: S, square: [[Self; LANES]; LANES]) -> [[Self; LANES]; LANES] {
        // Loops, not `map`: closures of arrays are not always inlined.
        let mut rows = [u8x16::splat(simd, 0); LANES];
        for (row, bytes) in rows.iter_mut().zip(square) {
            *row = u8x16::simd_from(simd, bytes);
        }
        // Each step moves one bit of the row's number to the end of the column's.
        for _ in 0..LANES.ilog2() {
            let before = rows;
            for (pair, (&one, &other)) in before[..LANES / 2].iter().zip(&before[LANES / 2..]).enumerate() {
                (rows[2 * pair], rows[2 * pair + 1]) = (one.zip_low(other), one.zip_high(other));
            }
        }
        let mut turned = [[0; LANES]; LANES];
        for (turned, row) in turned.iter_mut().zip(rows) {
            *turned = row.into();
        }
        turned
    }
}

#[allow(clippy::inline_always)]
impl Turn for f32 {
    #[inline(always)]
    fn turn<S: Simd>(_simd: S, square: [[Self; LANES]; LANES]) -> [[Self; LANES]; LANES] {
        let mut turned = [[0.0; LANES]; LANES];
        for (row, pixels) in square.iter().enumerate() {
            for (turned, &pixel) in turned.iter_mut().zip(pixels) {
                turned[row] = pixel;
            }
        }
        turned
    }
}

/// Writes sixteen rows as columns.
#[allow(clippy::inline_always)]
#[inline(always)]
pub(crate) fn to_columns<S: Simd, P: Turn>(simd: S, rows: [&[P]; LANES], columns: &mut [[P; LANES]]) {
    let (squares, rest) = columns.as_chunks_mut::<LANES>();
    let at = squares.len() * LANES;
    for (place, square) in squares.iter_mut().enumerate() {
        let mut part = [[P::default(); LANES]; LANES];
        for (part, row) in part.iter_mut().zip(rows) {
            *part = row.as_chunks().0[place];
        }
        *square = P::turn(simd, part);
    }
    let mut square = [[P::default(); LANES]; LANES];
    for (padded, row) in square.iter_mut().zip(rows) {
        padded[..rest.len()].copy_from_slice(&row[at..at + rest.len()]);
    }
    rest.copy_from_slice(&P::turn(simd, square)[..rest.len()]);
}

/// Writes columns, a multiple of sixteen, as rows, each `stride` behind the last; as many rows as fit.
#[allow(clippy::inline_always)]
#[inline(always)]
pub(crate) fn to_rows<S: Simd, P: Turn>(simd: S, columns: &[[P; LANES]], rows: &mut [P], stride: usize) {
    for (place, square) in columns.as_chunks::<LANES>().0.iter().enumerate() {
        let turned = P::turn(simd, *square);
        for (row, turned) in rows.chunks_exact_mut(stride).zip(turned) {
            row.as_chunks_mut().0[place] = turned;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::LEVEL;
    use fearless_simd::dispatch;

    #[test]
    fn rows_become_columns_and_rows_again() {
        for length in [1, 15, 16, 17, 64, 100] {
            let whole = length / LANES * LANES;
            let bytes: Vec<u8> = (0..LANES * length).map(|place| (place * 7 % 251) as u8).collect();
            let floats: Vec<f32> = bytes.iter().map(|&byte| byte.into()).collect();
            let (rows, rows_too) = (
                std::array::from_fn(|row| &bytes[row * length..][..length]),
                std::array::from_fn(|row| &floats[row * length..][..length]),
            );
            let (mut columns, mut columns_too) = (vec![[0_u8; LANES]; length], vec![[0.0_f32; LANES]; length]);
            let (mut back, mut back_too) = (vec![0_u8; LANES * length], vec![0.0_f32; LANES * length]);
            dispatch!(*LEVEL, simd => {
                to_columns(simd, rows, &mut columns);
                to_rows(simd, &columns, &mut back, length);
                to_columns(simd, rows_too, &mut columns_too);
                to_rows(simd, &columns_too, &mut back_too, length);
            });
            assert!(
                columns.iter().enumerate().all(|(place, column)| (0..LANES).all(|row| column[row] == rows[row][place]))
            );
            for row in 0..LANES {
                assert_eq!(back[row * length..][..whole], rows[row][..whole]);
                assert_eq!(back_too[row * length..][..whole], rows_too[row][..whole]);
            }
        }
    }
}
