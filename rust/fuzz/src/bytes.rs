//! Numbers out of bytes: what a fuzzer mutates becomes arguments. Zeros follow when the bytes are used up.

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number below `limit`, which is at least 1 and at most 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// Any eight bytes.
    pub fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    /// A score: mostly small multiples of a half, which add up exactly and tie often; sometimes hostile.
    pub fn score(&mut self) -> f32 {
        match self.byte() {
            255 => f32::NAN,
            254 => f32::INFINITY,
            240..=253 => f32::NEG_INFINITY,
            239 => f32::MAX,
            238 => f32::MIN,
            237 => f32::MIN_POSITIVE,
            236 => -0.0,
            235 => f32::from_bits(self.word() as u32),
            small => (f32::from(small) - 117.0) / 2.0,
        }
    }

    /// An argument of a sampler: mostly as it is when nothing is asked for, else in its range, at its ends, or hostile.
    pub fn setting(&mut self, off: f64) -> f64 {
        match self.byte() {
            0..=127 => off,
            128..=239 => f64::from(self.byte()) / 128.0,
            240 => f64::NAN,
            241 => f64::INFINITY,
            242 => -1.0,
            243 => 1e30,
            244 => 1e-30,
            245 => f64::MIN_POSITIVE,
            246 => 1.0,
            247 => 0.0,
            _ => f64::from_bits(self.word()),
        }
    }
}
