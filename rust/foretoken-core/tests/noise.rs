//! The noise against its definition, written out with wide products and the logarithm of the standard library.

#[path = "common/cases.rs"]
mod cases;

use cases::{CASES, cases};
use foretoken_core::noise::{Place, exp, ln, philox};
use proptest::prelude::*;

/// Philox4x32-10 as the paper draws it: two products, whose halves change places, and two keys that grow by constants.
fn rounds(mut counter: [u64; 4], key: [u64; 2]) -> [u64; 4] {
    for round in 0..10 {
        let key = [key[0] + round * 0x9E37_79B9, key[1] + round * 0xBB67_AE85].map(|key| key % (1 << 32));
        let [first, second] = [counter[0] * 0xD251_1F53, counter[2] * 0xCD9E_8D57];
        let (high, low) = ([second >> 32, first >> 32], [second % (1 << 32), first % (1 << 32)]);
        counter = [high[0] ^ counter[1] ^ key[0], low[0], high[1] ^ counter[3] ^ key[1], low[1]];
    }
    counter
}

/// Half of a token's word: the sixteen bits that are its own in the block that eight tokens share.
fn half(place: Place, token: u32, stream: u64) -> u64 {
    let counter = [u64::from(token / 8), u64::from(place.position), u64::from(place.row), stream];
    let words = rounds(counter, [place.seed % (1 << 32), place.seed >> 32]);
    words[(token % 4) as usize] >> (16 * (token / 4 % 2)) & 0xFFFF
}

fn place() -> impl Strategy<Value = Place> {
    (any::<u64>(), any::<u32>(), any::<u32>(), 0..1u32 << 31).prop_map(|(seed, row, position, stream)| Place {
        seed,
        row,
        position,
        stream,
    })
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn words_are_those_of_the_definition(place in place(), token in prop_oneof![any::<u32>(), 0..200_000u32]) {
        let stream = u64::from(place.stream);
        let word = half(place, token, stream) << 16 | half(place, token, stream + (1 << 31));
        prop_assert_eq!(u64::from(place.word(token)), word);
        let uniform = (word as f64 + 0.5) / 4_294_967_296.0;
        prop_assert_eq!(place.uniform(token), uniform);
        let gumbel = -(-uniform.ln()).ln();
        prop_assert!((place.gumbel(token) - gumbel).abs() <= 1e-14 * gumbel.abs().max(1.0));
    }

    #[test]
    fn philox_is_ten_rounds(counter: [u32; 4], key: [u32; 2]) {
        prop_assert_eq!(philox(counter, key).map(u64::from), rounds(counter.map(u64::from), key.map(u64::from)));
    }

    #[test]
    fn logarithms_and_powers_are_those_of_libm(bits: u64, power in -745.0..0.0f64) {
        let x = f64::from_bits(bits >> 1); // any positive number
        if x > 0.0 && x.is_finite() {
            prop_assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(f64::MIN_POSITIVE));
        }
        let exact = if power < -708.0 { 0.0 } else { power.exp() };
        prop_assert!((exp(power) - exact).abs() <= 1e-15 * exact);
    }
}
