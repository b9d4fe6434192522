//! Counter-based noise: (seed, row, position, token, stream) → uniform, Gumbel; the same bits on every machine.
//!
//! Philox4x32-10 is from Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
//! Nothing has a state, so a token's noise does not depend on what was drawn before it: drafted or not,
//! alone or in a batch, a choice is the same. `ln` is ours because `libm` differs between machines.

use std::sync::LazyLock;

/// Gumbel noise of a choice, one number a token.
pub const CHOICE: u32 = 0;
/// Uniform noise of the ratio test, one number a sibling.
pub const ACCEPT: u32 = 1;
/// Uniform noise of XTC.
pub const XTC: u32 = 2;
/// Gumbel noise of the draw after a rejection.
pub const RESIDUAL: u32 = 3;
/// Gumbel noise of a drafter that is verified by rejection; every stream from here on is a drafter's.
pub const DRAFT: u32 = 4;

/// Noise of masked steps but the first: a token's of step s is `MASKED + 2s`, that of the choice among positions one more.
///
/// Drafters count their streams up from `DRAFT` and never come this far.
pub const MASKED: u32 = 1 << 30;

/// Set in a stream's number where the lower halves of words are drawn.
const LOWER: u32 = 1 << 31;

/// One more than the largest position, row and token that the counter can tell apart.
pub const LIMIT: i64 = 1 << 32;

/// What the rounds of Philox4x32 multiply by.
pub(crate) const PHILOX: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];

/// The keys of the ten rounds.
fn rounds([mut k0, mut k1]: [u32; 2]) -> [[u32; 2]; 10] {
    std::array::from_fn(|_| {
        let key = [k0, k1];
        (k0, k1) = (k0.wrapping_add(0x9E37_79B9), k1.wrapping_add(0xBB67_AE85));
        key
    })
}

/// The ten rounds of Philox4x32.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    rounds(key).into_iter().fold(counter, |[a, b, c, d], [k0, k1]| {
        let first = u64::from(a) * u64::from(PHILOX[0]);
        let second = u64::from(c) * u64::from(PHILOX[1]);
        [(second >> 32) as u32 ^ b ^ k0, second as u32, (first >> 32) as u32 ^ d ^ k1, first as u32]
    })
}

/// Where noise is drawn: a seed, the index of a sample, a place in its text, and a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The seed of the request.
    pub seed: u64,
    /// Which sample of a prompt.
    pub row: u32,
    /// The place in the text.
    pub position: u32,
    /// What the noise is for.
    pub stream: u32,
}

impl Place {
    fn key(self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }

    /// The keys of Philox's rounds here.
    pub(crate) fn keys(self) -> [[u32; 2]; 10] {
        rounds(self.key())
    }

    /// The word of one token: two halves of 16 bits, drawn apart.
    ///
    /// One draw of Philox holds the upper halves of eight tokens. They alone decide whether a token can still win, so the
    /// lower halves of nearly all are never drawn.
    pub fn word(self, token: u32) -> u32 {
        self.upper(token) << 16 | Self { stream: self.stream | LOWER, ..self }.upper(token)
    }

    /// The upper half of that word: token `8b + w + 4h` has half `h` (0: the lower) of word `w` of block `b`.
    pub(crate) fn upper(self, token: u32) -> u32 {
        let words = philox([token >> 3, self.position, self.row, self.stream], self.key());
        (words[(token & 3) as usize] >> ((token & 4) * 4)) & 0xFFFF
    }

    /// A number in (0, 1), never 0 and never 1.
    pub fn uniform(self, token: u32) -> f64 {
        uniform(self.word(token))
    }

    /// A number of the standard Gumbel law, between -3.14 and 22.88.
    pub fn gumbel(self, token: u32) -> f64 {
        gumbel(self.word(token))
    }
}

/// The middle of the word's interval of (0, 1); exact.
#[inline]
pub fn uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) * (1.0 / 4_294_967_296.0)
}

/// The Gumbel quantile of a word.
#[inline]
pub fn gumbel(word: u32) -> f64 {
    -ln(-ln(uniform(word)))
}

/// `ln2` in two parts: the first has 33 bits, so its product with an exponent is exact.
const LN2_HI: f64 = 0.693_147_180_369_123_8;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;

/// The natural logarithm of a positive, finite number: fixed f64 operations, within 3 ulp of libm's.
///
/// With `m` in [√½, √2) and `s = (m-1)/(m+1)`, `ln m = 2·atanh s`, and |s| ≤ 0.172, so twelve terms
/// leave an error of 2e-20. No fused multiply-add may be used here: the torch twin has none.
pub fn ln(x: f64) -> f64 {
    const SMALL: f64 = 18_014_398_509_481_984.0; // 2^54 makes a subnormal normal
    debug_assert!(x > 0.0 && x.is_finite());
    let (bits, shift) = if x < f64::MIN_POSITIVE { ((x * SMALL).to_bits(), 54) } else { (x.to_bits(), 0) };
    let mut e = (bits >> 52) as i64 - 1022 - shift;
    let mut m = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FE0_0000_0000_0000);
    if m < std::f64::consts::FRAC_1_SQRT_2 {
        m *= 2.0;
        e -= 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 1.0 / 23.0;
    for divisor in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = p * z + 1.0 / divisor;
    }
    let e = e as f64;
    e * LN2_HI + (2.0 * s * p + e * LN2_LO)
}

/// `e^x` for x ≤ 0, branch-free so that loops over rows vectorise; below -708 it is 0, never subnormal.
///
/// |r| ≤ 0.347 after the reduction, so the Taylor series to r^13 leaves 4e-18. It is summed in pairs (Estrin), which
/// waits less for each product than Horner: 17 µs instead of 24 for 4096 numbers with SSE2.
#[allow(clippy::inline_always)]
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52: adding it rounds to an integer in the low bits
    let inside = if x > -708.0 { x } else { -708.0 };
    let rounded = inside * std::f64::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = (inside - k * LN2_HI) - k * LN2_LO;
    let pair = |even: f64, odd: f64| 1.0 / even + r * (1.0 / odd);
    let r2 = r * r;
    let r4 = r2 * r2;
    let low = (pair(1.0, 1.0) + r2 * pair(2.0, 6.0)) + r4 * (pair(24.0, 120.0) + r2 * pair(720.0, 5040.0));
    let high = pair(40_320.0, 362_880.0) + r2 * pair(3_628_800.0, 39_916_800.0);
    let p = low + r4 * r4 * (high + r4 * pair(479_001_600.0, 6_227_020_800.0));
    let scale = f64::from_bits(rounded.to_bits().wrapping_add(1023) << 52);
    if x >= -708.0 { p * scale } else { 0.0 }
}

const STEPS: f64 = 16.0;
const LOWEST: f64 = -4.0;
const CUTS: usize = 433;

/// For a shortfall of `LOWEST + i / STEPS`: the word below which no Gumbel number makes it up.
static CUT: LazyLock<[u32; CUTS]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let shortfall = LOWEST + i as f64 / STEPS;
        // Two words less than the quantile cover the rounding of `gumbel`, which is under 1e-14.
        ((-(-shortfall).exp()).exp() * 4_294_967_296.0 - 2.5).max(0.0) as u32
    })
});

/// The words that surely lose: a token whose score lacks `shortfall` and whose word is below this stays behind.
///
/// A table read instead of two logarithms; being conservative, it changes the speed and never the choice.
#[derive(Debug, Clone, Copy)]
pub struct Cuts(&'static [u32; CUTS]);

impl Cuts {
    /// The table, made on first use.
    pub fn get() -> Self {
        Self(&CUT)
    }

    /// The smallest word that may still make up for `shortfall`; NaN counts as none needed.
    #[inline]
    pub fn at(self, shortfall: f64) -> u32 {
        self.0[(((shortfall - LOWEST) * STEPS) as usize).min(CUTS - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn philox_gives_the_known_answers_of_random123() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn the_extreme_words_stay_inside() {
        assert!(uniform(0) > 0.0 && uniform(u32::MAX) < 1.0);
        assert!((-3.2..0.0).contains(&gumbel(0)), "{}", gumbel(0));
        assert!((22.87..22.88).contains(&gumbel(u32::MAX)), "{}", gumbel(u32::MAX));
    }

    #[test]
    fn exp_of_nothing_is_zero() {
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e300), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    proptest! {
        #[test]
        fn ln_agrees_with_libm(x in prop_oneof![1e-12..2.0f64, 1e-320..1e300f64, Just(f64::MIN_POSITIVE)]) {
            // Three units in the last place: the worst of 2e8 numbers in 0.5..1.5 is off by 4.81e-16, near √½.
            prop_assert!((ln(x) - x.ln()).abs() <= 6e-16 * x.ln().abs().max(f64::MIN_POSITIVE));
        }

        #[test]
        fn exp_agrees_with_libm(x in -708.0..0.0f64) {
            prop_assert!((exp(x) - x.exp()).abs() <= 1e-15 * x.exp());
        }

        #[test]
        fn words_below_a_cut_never_make_it_up(word: u32, shortfall in -6.0..30.0f64) {
            if word < Cuts::get().at(shortfall) {
                prop_assert!(gumbel(word) < shortfall);
            }
        }

        #[test]
        fn a_cut_wastes_little(word: u32, shortfall in -3.0..20.0f64) {
            if gumbel(word) < shortfall - 0.07 {
                prop_assert!(word <= Cuts::get().at(shortfall).saturating_add(2));
            }
        }
    }
}
