//! What happens to one row between two products: norms, rotations, gates, the softmax of attention.
//!
//! Plain loops in fixed order that the compiler vectorises, so the bits of a row depend on the row alone.

use fearless_simd::dispatch;

use crate::native::matrix::LANES;
use crate::simd::LEVEL;

/// Writes x / √(mean x² + eps) · gain, where the mean is over `size` numbers and the rest of x is 0.
pub(crate) fn norm(x: &[f32], gain: &[f32], size: usize, eps: f32, out: &mut [f32]) {
    dispatch!(*LEVEL, _simd => {
        let mut squares = [0.0; LANES];
        for x in x.as_chunks::<LANES>().0 {
            for (square, x) in squares.iter_mut().zip(x) {
                *square += x * x;
            }
        }
        let scale = 1.0 / (sum(&squares) / size as f32 + eps).sqrt();
        for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
            *out = x * scale * gain;
        }
    });
}

/// Adds, number by number.
pub(crate) fn add(to: &mut [f32], x: &[f32]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
}

/// Turns a head by the angles of its position and multiplies it (`RoFormer`, 2104.09864).
pub(crate) fn rotate(head: &mut [f32], turn: &[f32], scale: f32) {
    let half = turn.len() / 2;
    let (cosines, sines) = turn.split_at(half);
    let (left, right) = head.split_at_mut(half);
    for (((left, right), cosine), sine) in left.iter_mut().zip(right).zip(cosines).zip(sines) {
        (*left, *right) = ((*left * cosine - *right * sine) * scale, (*right * cosine + *left * sine) * scale);
    }
}

/// Writes silu(gate) · up from panels of 16 gates, each followed by the 16 numbers they open (Shazeer, 2002.05202).
pub(crate) fn gate(gates_and_ups: &[f32], out: &mut [f32]) {
    dispatch!(*LEVEL, _simd => {
        let pairs = gates_and_ups.as_chunks::<{ 2 * LANES }>().0;
        for (out, pair) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(pairs) {
            for i in 0..LANES {
                let (gate, up) = (pair[i], pair[LANES + i]);
                let small = exp(-gate.abs());
                let open = if gate < 0.0 { small } else { 1.0 } / (1.0 + small);
                out[i] = gate * open * up;
            }
        }
    });
}

/// Turns the first `length` scores into probabilities, the rest into 0; there is room for a multiple of 16.
pub(crate) fn soften(scores: &mut [f32], length: usize) {
    scores[length..].fill(f32::NEG_INFINITY);
    dispatch!(*LEVEL, _simd => {
        let mut tops = [f32::NEG_INFINITY; LANES];
        for chunk in scores.as_chunks::<LANES>().0 {
            for (top, score) in tops.iter_mut().zip(chunk) {
                *top = if score > top { *score } else { *top };
            }
        }
        let top = tops.iter().fold(f32::NEG_INFINITY, |top, &lane| if lane > top { lane } else { top });
        let mut sums = [0.0; LANES];
        for chunk in scores.as_chunks_mut::<LANES>().0 {
            for (sum, score) in sums.iter_mut().zip(chunk) {
                *score = exp(*score - top);
                *sum += *score;
            }
        }
        let inverse = 1.0 / sum(&sums);
        for score in scores.iter_mut() {
            *score *= inverse;
        }
    });
}

#[allow(clippy::inline_always)] // only what is inlined is compiled for the wide instructions
#[inline(always)]
fn sum(lanes: &[f32; LANES]) -> f32 {
    let mut lanes = *lanes;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[half + i];
        }
    }
    lanes[0]
}

/// `e^x` for x ≤ 0 within 2 ulp or so, without a branch; below -87 it is 0, and NaN stays NaN.
///
/// |r| ≤ 0.347 after the reduction, so the Taylor series to r^7 leaves 6e-9.
#[allow(clippy::inline_always)]
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer in the low bits
    const LN2_HI: f32 = 0.693_359_4; // 10 bits, so its product with an exponent is exact
    const LN2_LO: f32 = -2.121_944_4e-4;
    let inside = if x < -87.0 { -87.0 } else { x };
    let rounded = inside * std::f32::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = (inside - k * LN2_HI) - k * LN2_LO;
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + coefficient;
    }
    let scale = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { p * scale }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exponentials_are_near_libm(x in -90.0..0.0f32) {
            let slow = if x < -87.0 { 0.0 } else { f64::from(x).exp() };
            prop_assert!((f64::from(exp(x)) - slow).abs() <= 3e-7 * slow);
        }

        #[test]
        fn gates_are_those_of_silu(gate in -100.0..100.0f32, up in -3.0..3.0f32) {
            let mut out = [0.0; LANES];
            let mut pair = [gate; 2 * LANES];
            pair[LANES..].fill(up);
            super::gate(&pair, &mut out);
            let slow = f64::from(gate) / (1.0 + (-f64::from(gate)).exp()) * f64::from(up);
            prop_assert!((f64::from(out[3]) - slow).abs() <= 1e-6 * slow.abs() + 1e-30);
        }

        #[test]
        fn probabilities_sum_to_one(scores in proptest::collection::vec(-30.0..30.0f32, 1..70)) {
            let length = scores.len();
            let mut room = vec![f32::NAN; length.next_multiple_of(LANES)];
            room[..length].copy_from_slice(&scores);
            soften(&mut room, length);
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = scores.iter().map(|score| f64::from(score - top).exp()).sum();
            for (p, score) in room.iter().zip(&scores) {
                let slow = f64::from(score - top).exp() / total;
                prop_assert!((f64::from(*p) - slow).abs() <= 1e-6);
            }
            prop_assert!(room[length..].iter().all(|p| *p == 0.0));
        }
    }

    #[test]
    fn not_a_number_stays_one() {
        assert!(exp(f32::NAN).is_nan());
        let mut scores = [f32::NAN; LANES];
        soften(&mut scores, 3);
        assert!(scores[2].is_nan());
    }
}
