//! How many random cases each property is tried on.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// What every run of the tests tries of each kernel.
pub const CASES: u32 = 100_000;

/// This many cases, times the number in `FORETOKEN_CASES`; the same in every run, and the first of them whatever the number.
pub fn cases(count: u32) -> ProptestConfig {
    let more =
        std::env::var("FORETOKEN_CASES").map_or(1, |number| number.parse().expect("FORETOKEN_CASES is a number"));
    ProptestConfig {
        cases: count.saturating_mul(more),
        // A property that fails today must fail for the next person, too.
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
