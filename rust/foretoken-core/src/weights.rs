//! Weights of a whole row in f32, for where the sum of many is wanted soon.
//!
//! Multiplications are fused where the machine can, so the bits differ from one to the next; but their error has a bound,
//! and `nucleus` decides nothing by them that the bound leaves open.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch, f32x16, f64x8, u32x16, u64x8};

use crate::scan::{CHUNK, LANES, Logit};
use crate::simd::LEVEL;

/// How many rows of lanes are summed in f32 before they are added in f64: three additions are off by 1.8e-7 at most.
const ROWS: usize = 4;

/// Sums in lanes, in f64.
#[derive(Clone, Copy)]
struct Sums<S: Simd>(f64x8<S>, f64x8<S>);

#[allow(clippy::inline_always)]
impl<S: Simd> Sums<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        Self(f64x8::splat(simd, 0.0), f64x8::splat(simd, 0.0))
    }

    #[inline(always)]
    fn add(&mut self, simd: S, part: f32x16<S>) {
        let (low, high) = simd.widen_f32x16(part);
        (self.0, self.1) = (self.0 + low, self.1 + high);
    }

    #[inline(always)]
    fn total(self) -> f64 {
        let lanes: [f64; 8] = (self.0 + self.1).into();
        lanes.iter().sum()
    }
}

/// Writes `exp(a)` with `a = (value - top) / temperature`, in f32, and zeros behind the last value; gives the sums of
/// `exp(a)` and of `exp(a) * -a`.
pub(crate) fn weights<V: Logit>(values: &[V], top: V, temperature: f64, out: &mut [[f32; CHUNK]]) -> (f64, f64) {
    let scale = (std::f64::consts::LOG2_E / temperature) as f32;
    let (chunks, rest) = values.as_chunks::<CHUNK>();
    let (out, tail) = out.split_at_mut(chunks.len());
    let mut last = [V::BANNED; CHUNK];
    last[..rest.len()].copy_from_slice(rest);
    let (sum, moment) = dispatch!(*LEVEL, simd => {
        let mut sums = [Sums::new(simd); 2];
        weigh(simd, chunks, top, scale, out, &mut sums);
        weigh(simd, &[last], top, scale, tail, &mut sums);
        (sums[0].total(), sums[1].total())
    });
    if let [last] = tail {
        last[rest.len()..].fill(0.0);
    }
    (sum, moment * -std::f64::consts::LN_2)
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn weigh<S: Simd, V: Logit>(
    simd: S,
    chunks: &[[V; CHUNK]],
    top: V,
    scale: f32,
    out: &mut [[f32; CHUNK]],
    sums: &mut [Sums<S>; 2],
) {
    for (chunk, out) in chunks.iter().zip(out) {
        // The moment only bounds an error, so sixteen of it may be added in f32.
        let mut moment = f32x16::splat(simd, 0.0);
        let rows = chunk.as_chunks::<LANES>().0.as_chunks::<ROWS>().0;
        for (rows, out) in rows.iter().zip(out.as_chunks_mut::<LANES>().0.as_chunks_mut::<ROWS>().0) {
            let mut sum = f32x16::splat(simd, 0.0);
            for (values, out) in rows.iter().zip(out) {
                let a = V::behind(simd, *values, top, scale).max(f32x16::splat(simd, LEAST));
                let weight = power16(simd, a);
                *out = weight.into();
                (sum, moment) = (sum + weight, weight.mul_add(a, moment));
            }
            sums[0].add(simd, sum);
        }
        sums[1].add(simd, moment);
    }
}

/// Weights below two to the power of this, those of banned tokens among them, are written as it: 1.7e-38.
const LEAST: f32 = -125.5;

/// The polynomial nearest to two to a power in -0.5..=0.5, by relative error, of those that are 1 at 0.
const POWER: [f32; 6] =
    [1.535_336_2e-4, 1.339_887_5e-3, 9.618_437e-3, 5.550_332_4e-2, 0.240_226_48, std::f32::consts::LN_2];

/// `2^x` for x in `LEAST..=0` in f32, within 1.1e-7 of the truth; multiplications are fused where the machine can.
///
/// Two to a power takes three operations less than e to a power: the scale of `behind` does not care which it is, and the
/// part behind the point is exact.
#[allow(clippy::inline_always)]
#[inline(always)]
fn power16<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    const ROUND: f32 = 12_583_039.0; // 1.5 · 2^23 + 127: adding it leaves the biased exponent in the low bits
    let splat = |number: f32| f32x16::splat(simd, number);
    let rounded = x + splat(ROUND);
    let rest = x - (rounded - splat(ROUND));
    let mut p = splat(POWER[0]);
    for factor in &POWER[1..] {
        p = p.mul_add(rest, splat(*factor));
    }
    let scale = rounded.bitcast::<u32x16<S>>() << 23;
    p.mul_add(rest, splat(1.0)) * scale.bitcast::<f32x16<S>>()
}

/// The sum of the weights of at least `bound`, which is above 0, and how many they are.
pub(crate) fn mass_from<'a>(chunks: impl Iterator<Item = &'a [f32; CHUNK]>, bound: f32) -> (f64, usize) {
    dispatch!(*LEVEL, simd => mass_of(simd, chunks, bound))
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn mass_of<'a, S: Simd>(simd: S, chunks: impl Iterator<Item = &'a [f32; CHUNK]>, bound: f32) -> (f64, usize) {
    let (mut sums, mut counts) = (Sums::new(simd), u32x16::splat(simd, 0));
    let (zero, none, bound) = (f32x16::splat(simd, 0.0), u32x16::splat(simd, 0), f32x16::splat(simd, bound));
    for chunk in chunks {
        for rows in chunk.as_chunks::<LANES>().0.as_chunks::<ROWS>().0 {
            let mut sum = zero;
            for weights in rows {
                let weights = f32x16::simd_from(simd, *weights);
                let enough = weights.simd_ge(bound);
                sum += enough.select(weights, zero);
                counts += enough.select(u32x16::splat(simd, 1), none);
            }
            sums.add(simd, sum);
        }
    }
    (sums.total(), counts.reduce_sum() as usize)
}

/// How far a quotient of `near_sums` may be off, and more: 7e-12 of each exponential, 2e-12 of each sum.
pub(crate) const NEAR: f64 = 1e-10;

/// The sum of `exp(a)` with `a` as in `weights` over the values whose weights are at least `bound`, and over all.
pub(crate) fn near_sums<V: Logit>(
    values: &[V],
    top: V,
    temperature: f64,
    of: &[[f32; CHUNK]],
    bound: f32,
) -> (f64, f64) {
    let scale = 1.0 / temperature;
    let (chunks, rest) = values.as_chunks::<CHUNK>();
    let mut last = [V::BANNED; CHUNK];
    last[..rest.len()].copy_from_slice(rest);
    let (whole, tail) = of.split_at(chunks.len());
    dispatch!(*LEVEL, simd => {
        let mut sums = [Sums::new(simd); 2];
        near(simd, chunks, top.wide(), scale, whole, bound, &mut sums);
        near(simd, &[last], top.wide(), scale, tail, bound, &mut sums);
        (sums[0].total(), sums[1].total())
    })
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn near<S: Simd, V: Logit>(
    simd: S,
    chunks: &[[V; CHUNK]],
    top: f64,
    scale: f64,
    of: &[[f32; CHUNK]],
    bound: f32,
    sums: &mut [Sums<S>; 2],
) {
    let splat = |number: f64| f64x8::splat(simd, number);
    let (top, scale, bound, zero) = (splat(top), splat(scale), splat(bound.into()), splat(0.0));
    for (chunk, weights) in chunks.iter().zip(of) {
        for (values, weights) in chunk.as_chunks::<LANES>().0.iter().zip(weights.as_chunks::<LANES>().0) {
            let values = V::wides(simd, *values);
            let weights = simd.widen_f32x16(f32x16::simd_from(simd, *weights));
            let low = exp8(simd, (values.0 - top) * scale);
            let high = exp8(simd, (values.1 - top) * scale);
            let (enough, most) = (weights.0.simd_ge(bound), weights.1.simd_ge(bound));
            sums[0] = Sums(sums[0].0 + enough.select(low, zero), sums[0].1 + most.select(high, zero));
            sums[1] = Sums(sums[1].0 + low, sums[1].1 + high);
        }
    }
}

/// `e^x` for x ≤ 0 within 7e-12 of the truth; below -700 it is 1e-304.
///
/// |r| ≤ 0.347 after the reduction, so the Taylor series to r^9 leaves 7e-12.
#[allow(clippy::inline_always)]
#[inline(always)]
fn exp8<S: Simd>(simd: S, x: f64x8<S>) -> f64x8<S> {
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52: adding it rounds to an integer in the low bits
    let splat = |number: f64| f64x8::splat(simd, number);
    let x = x.max(splat(-700.0));
    let rounded = x.mul_add(splat(std::f64::consts::LOG2_E), splat(ROUND));
    let r = (rounded - splat(ROUND)).mul_add(splat(-std::f64::consts::LN_2), x);
    let mut p = splat(1.0 / 362_880.0);
    for divisor in [40_320.0, 5040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        p = p.mul_add(r, splat(1.0 / divisor));
    }
    let scale = (rounded.bitcast::<u64x8<S>>() + 1023) << 52;
    p * scale.bitcast::<f64x8<S>>()
}

/// The sum of the numbers whose weights are at least `bound`.
pub(crate) fn sum_where(numbers: &[f64], weights: &[f32], bound: f32) -> f64 {
    let mut sums = [0.0; LANES];
    dispatch!(*LEVEL, _simd => for (numbers, weights) in numbers.chunks(LANES).zip(weights.chunks(LANES)) {
        for ((sum, &number), &weight) in sums.iter_mut().zip(numbers).zip(weights) {
            *sum += if weight >= bound { number } else { 0.0 };
        }
    });
    sums.iter().sum()
}

/// Whether a weight is at least `from` and less than `to`.
pub(crate) fn any_between(weights: &[f32; CHUNK], from: f32, to: f32) -> bool {
    // Counted, not searched for: a loop without an exit vectorises.
    let inside = |weight: &f32| u32::from(*weight >= from) & u32::from(*weight < to);
    dispatch!(*LEVEL, _simd => weights.iter().map(inside).sum::<u32>()) > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn weights_are_near_what_they_stand_for(
            values in proptest::collection::vec(prop_oneof![9 => -90.0..0.0f32, 1 => Just(f32::NEG_INFINITY)], 1..300),
            temperature in 0.3..10.0f64, bound in 1e-30..1.0f32,
        ) {
            let mut out = vec![[1.0; CHUNK]; values.len().div_ceil(CHUNK)];
            let (sum, moment) = weights(&values, 0.0, temperature, &mut out);
            let flat = out.as_flattened();
            for (value, &weight) in values.iter().zip(flat) {
                let a = (f64::from(*value) / temperature).max(-1000.0);
                prop_assert!((f64::from(weight) - a.exp()).abs() <= a.exp() * (1.1e-7 - 2e-7 * a) + 1e-37);
            }
            prop_assert!(flat[values.len()..].iter().all(|weight| *weight == 0.0));
            let slow: f64 = flat.iter().map(|&weight| f64::from(weight)).sum();
            prop_assert!((sum - slow).abs() <= 1.8e-7 * slow + 1e-35);
            prop_assert!(moment >= 0.0);
            let exact: Vec<f64> = values.iter().map(|value| (f64::from(*value) / temperature).exp()).collect();
            let (before, total) = near_sums(&values, 0.0, temperature, &out, bound);
            let sums = |least: f32| exact.iter().zip(flat).filter(|(_, w)| **w >= least).map(|(e, _)| e).sum::<f64>();
            let close = |near: f64, exact: f64| (near - exact).abs() <= 2e-11 * total + 1e-300;
            prop_assert!(close(total, sums(0.0)) && close(before, sums(bound)));
            let (mass, count) = mass_from(out.iter(), bound);
            let reaching: Vec<f64> = flat.iter().filter(|weight| **weight >= bound).map(|&weight| weight.into()).collect();
            prop_assert_eq!(count, reaching.len());
            prop_assert!((mass - reaching.iter().sum::<f64>()).abs() <= 1.8e-7 * mass);
        }
    }
}
