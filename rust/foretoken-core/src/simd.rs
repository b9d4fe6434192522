//! The loops that wide registers make faster, compiled once an instruction set and chosen as the process runs.
//!
//! The bits are the same on all, because each lane does the operations of the scalar function in the same order, and the
//! compiler fuses no multiply-add by itself.

use std::sync::LazyLock;

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f32x16, f64x8, u32x16, u64x8};

use crate::noise::{PHILOX, Place, exp};
use crate::scan::{CHUNK, LANES, Logit};

/// What this machine can do; asked once, because asking costs as much as 64 words of noise.
pub(crate) static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);

/// Finds the maxima of the lanes of each chunk, banned where a lane has no value; gives the largest `Logit::bits`.
pub(crate) fn maxima<V: Logit>(values: &[V], lanes: &mut Vec<[V; LANES]>) -> u32 {
    lanes.clear();
    lanes.resize(values.len().div_ceil(CHUNK), [V::BANNED; LANES]);
    let (chunks, rest) = values.as_chunks::<CHUNK>();
    let mut bits = dispatch!(*LEVEL, simd => V::maxima(simd, chunks, lanes));
    if let Some(most) = lanes.last_mut() {
        for row in rest.chunks(LANES) {
            for (most, &value) in most.iter_mut().zip(row) {
                *most = if value > *most { value } else { *most };
                bits = bits.max(value.bits());
            }
        }
    }
    bits
}

#[allow(clippy::inline_always)] // here and below: only inlined code is compiled for the instruction set
#[inline(always)]
pub(crate) fn maxima_f32<S: Simd>(simd: S, chunks: &[[f32; CHUNK]], lanes: &mut [[f32; LANES]]) -> u32 {
    let mut bits = u32x16::splat(simd, 0);
    for (chunk, most) in chunks.iter().zip(lanes) {
        let mut best = f32x16::splat(simd, f32::NEG_INFINITY);
        for row in chunk.as_chunks::<LANES>().0 {
            let values = f32x16::simd_from(simd, *row);
            best = best.max(values);
            bits = bits.max(values.bitcast::<u32x16<S>>() & u32x16::splat(simd, 0x7FFF_FFFF));
        }
        *most = best.into();
    }
    bits.reduce_max()
}

#[allow(clippy::inline_always)]
#[inline(always)]
pub(crate) fn maxima_f64<S: Simd>(simd: S, chunks: &[[f64; CHUNK]], lanes: &mut [[f64; LANES]]) {
    for (chunk, most) in chunks.iter().zip(lanes) {
        let mut best = [f64x8::splat(simd, f64::NEG_INFINITY); 2];
        for row in chunk.as_chunks::<8>().0.as_chunks::<2>().0 {
            best = [best[0].max(f64x8::simd_from(simd, row[0])), best[1].max(f64x8::simd_from(simd, row[1]))];
        }
        best[0].store_slice(&mut most[..8]);
        best[1].store_slice(&mut most[8..]);
    }
}

/// Writes `exp(value/scale - top)`.
pub(crate) fn exps<V: Logit>(values: &[V], scale: f64, top: f64, out: &mut [f64]) {
    dispatch!(*LEVEL, _simd => for (out, value) in out.iter_mut().zip(values) {
        *out = exp(value.wide() / scale - top);
    });
}

/// How many blocks of eight tokens a chunk has.
const EIGHTS: usize = CHUNK / 8;

/// The upper halves of the words of a chunk's tokens; one chunk after another takes the same memory.
pub(crate) struct Words {
    place: Place,
    keys: [[u32; 2]; 10],
    blocks: [[u32; EIGHTS]; 4],
}

impl Words {
    /// None yet.
    pub(crate) fn new(place: Place) -> Self {
        Self { place, keys: place.keys(), blocks: [[0; EIGHTS]; 4] }
    }

    /// Draws those of tokens `CHUNK * chunk` and on; gives the largest upper half.
    pub(crate) fn draw(&mut self, chunk: usize) -> u32 {
        let Self { place, keys, blocks } = self;
        dispatch!(*LEVEL, simd => draw(simd, *place, keys, (chunk * EIGHTS) as u32, blocks))
    }

    /// The upper half of the word of a token of the chunk.
    #[inline]
    pub(crate) fn of(&self, token: u32) -> u32 {
        self.blocks[(token & 3) as usize][(token as usize % CHUNK) >> 3] >> ((token & 4) * 4) & 0xFFFF
    }

    /// The largest upper half of each lane. Few chunks are asked for it, so it is not found as they are drawn.
    pub(crate) fn lanes(&self) -> [u32; LANES] {
        let mut most = [0; LANES];
        for (word, blocks) in self.blocks.iter().enumerate() {
            for pair in blocks.as_chunks::<2>().0 {
                for (odd, block) in pair.iter().enumerate() {
                    for (half, drawn) in [block & 0xFFFF, block >> 16].into_iter().enumerate() {
                        let lane = &mut most[8 * odd + 4 * half + word];
                        *lane = drawn.max(*lane);
                    }
                }
            }
        }
        most
    }
}

/// Ten rounds of Philox as `noise::philox` has them, for all blocks of a chunk; gives the largest half.
///
/// A round waits for two products, so the four eights of a chunk go through it side by side, where registers are wide
/// enough to hold them: 51 instead of 72 µs a row of 128 k with AVX-512. On narrower ones they would be spilled.
#[allow(clippy::inline_always)]
#[inline(always)]
fn draw<S: Simd>(simd: S, place: Place, keys: &[[u32; 2]; 10], first: u32, blocks: &mut [[u32; EIGHTS]; 4]) -> u32 {
    let mut most = [u64x8::splat(simd, 0); 2];
    if S::u64s::LEN == 8 {
        side_by_side::<S, 4>(simd, place, keys, first, [0, 8, 16, 24], blocks, &mut most);
    } else {
        for block in (0..EIGHTS).step_by(8) {
            side_by_side::<S, 1>(simd, place, keys, first, [block], blocks, &mut most);
        }
    }
    let [upper, lower] = most.map(<[u64; 8]>::from);
    upper.map(|word| word >> 16).into_iter().chain(lower).fold(0, u64::max) as u32
}

/// The rounds for some eights of blocks at once, which begin at `starts`.
///
/// A word lies in the low half of a lane of 64 bits, where one instruction multiplies it; what is in the high half is
/// never read.
#[allow(clippy::inline_always)]
#[inline(always)]
fn side_by_side<S: Simd, const N: usize>(
    simd: S,
    place: Place,
    keys: &[[u32; 2]; 10],
    first: u32,
    starts: [usize; N],
    blocks: &mut [[u32; EIGHTS]; 4],
    most: &mut [u64x8<S>; 2],
) {
    let splat = |word: u32| u64x8::splat(simd, word.into());
    let (low, half) = (splat(u32::MAX), splat(0xFFFF));
    let mut states = starts.map(|start| {
        let counter: [u64; 8] = std::array::from_fn(|lane| u64::from(first) + (start + lane) as u64);
        [u64x8::simd_from(simd, counter), splat(place.position), splat(place.row), splat(place.stream)]
    });
    for &[k0, k1] in keys {
        states = states.map(|[a, b, c, d]| {
            let (p, q) = ((a & low) * splat(PHILOX[0]), (c & low) * splat(PHILOX[1]));
            [(q >> 32) ^ b ^ splat(k0), q, (p >> 32) ^ d ^ splat(k1), p]
        });
    }
    for (start, state) in starts.into_iter().zip(states) {
        for (word, state) in state.into_iter().enumerate() {
            // The largest word has the largest upper half, which is shifted down once, in the end.
            most[0] = most[0].max(state & low);
            most[1] = most[1].max(state & half);
            let drawn: [u64; 8] = state.into();
            blocks[word][start..start + 8].copy_from_slice(&drawn.map(|word| word as u32));
        }
    }
}

/// Writes, for each row of `left` (rows, rank), its products with `columns` (rank, width) to the row of `scores` (rows, width).
/// Each sum runs over the rank in its order.
pub(crate) fn products<'a>(left: impl Iterator<Item = &'a [f32]>, columns: &[f32], width: usize, scores: &mut [f32]) {
    /// Sums that stay in registers, so that the loop over the rank stores nothing.
    const LANES: usize = 16;
    dispatch!(*LEVEL, _simd => for (scores, left) in scores.chunks_exact_mut(width).zip(left) {
        let mut blocks = scores.chunks_exact_mut(LANES);
        let mut start = 0;
        for block in &mut blocks {
            let mut sums = [0.0; LANES];
            for (&factor, column) in left.iter().zip(columns.chunks_exact(width)) {
                for (sum, value) in sums.iter_mut().zip(&column[start..start + LANES]) {
                    *sum += factor * value;
                }
            }
            block.copy_from_slice(&sums);
            start += LANES;
        }
        for (place, score) in blocks.into_remainder().iter_mut().enumerate() {
            let column = columns.iter().skip(start + place).step_by(width);
            *score = left.iter().zip(column).fold(0.0, |sum, (factor, value)| sum + factor * value);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn wide_exponentials_have_the_bits_of_narrow_ones(
            values in proptest::collection::vec(prop_oneof![-800.0..0.0f64, Just(f64::NEG_INFINITY)], 0..100),
            scale in 0.1..2.0f64,
        ) {
            let mut out = vec![0.0; values.len()];
            exps(&values, scale, 0.0, &mut out);
            for (out, value) in out.iter().zip(&values) {
                prop_assert_eq!(out.to_bits(), exp(value / scale).to_bits());
            }
        }

        #[test]
        fn the_words_of_a_chunk_are_those_of_its_tokens(
            seed: u64, row: u32, position: u32, stream in 0u32..5, chunk in 0usize..1 << 24,
        ) {
            let place = Place { seed, row, position, stream };
            let mut words = Words::new(place);
            words.draw(chunk + 1); // leaves nothing behind
            let most = words.draw(chunk);
            let of = |index: usize| place.upper((chunk * CHUNK + index) as u32);
            for index in 0..CHUNK {
                prop_assert_eq!(words.of((chunk * CHUNK + index) as u32), of(index));
            }
            for (lane, most) in words.lanes().into_iter().enumerate() {
                prop_assert_eq!(Some(most), (lane..CHUNK).step_by(LANES).map(of).max());
            }
            prop_assert_eq!(Some(most), (0..CHUNK).map(of).max());
        }

        #[test]
        fn maxima_are_those_of_every_sixteenth(values in proptest::collection::vec(-5.0..5.0f32, 1..700)) {
            let mut lanes = Vec::new();
            prop_assert!(maxima(&values, &mut lanes) <= f32::INFINITY.to_bits());
            for (chunk, lanes) in values.chunks(CHUNK).zip(&lanes) {
                for (lane, most) in lanes.iter().enumerate() {
                    let slow = chunk.iter().skip(lane).step_by(LANES).fold(f32::NEG_INFINITY, |a, &b| a.max(b));
                    prop_assert_eq!(*most, slow);
                }
            }
        }

        #[test]
        fn a_nan_anywhere_shows(count in 1usize..700, place: prop::sample::Index, negative: bool) {
            let mut values = vec![f32::NEG_INFINITY; count];
            values[place.index(count)] = if negative { -f32::NAN } else { f32::NAN };
            prop_assert!(maxima(&values, &mut Vec::new()) > f32::INFINITY.to_bits());
        }
    }
}
