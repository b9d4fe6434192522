//! FSQ (2309.15505): each number of a short vector is rounded to one of a few levels, and the digits make up one number.
//!
//! Digit d of L levels stands for `(d - L/2) / (L/2)`, with L/2 rounded down: five levels are -1, -1/2, 0, 1/2 and 1, of four
//! the topmost is missing, as in the paper. The first digit counts least, as in the authors' code.

use super::check_finite;
use super::residual::check_ids;
use crate::error::{Error, Result};

/// Most codes there may be: ids are below 2^31.
const MAX_CODES: u64 = 1 << 31;
/// Most levels of a number; so that every one of them is a different f32, with room to spare.
const MAX_LEVELS: i64 = 1 << 16;

/// One level of a code.
#[derive(Debug, Clone, Copy)]
struct Level {
    count: u32,
    half: f32,
    /// What the digit is worth.
    basis: u64,
    /// `x·magic >> shift` is x / count for all x below 2^31 (Granlund and Montgomery 1994).
    magic: u64,
    shift: u32,
}

/// How many levels each number of a vector has.
#[derive(Debug, Clone)]
pub struct Levels {
    each: Vec<Level>,
    codes: u64,
}

impl Levels {
    /// Checks the levels.
    ///
    /// # Errors
    /// None at all, one below 2 or above 65536, more than 2^31 codes.
    pub fn new(levels: &[i64]) -> Result<Self> {
        if levels.is_empty() {
            return Err(Error::Empty { name: "levels" });
        }
        let (mut codes, mut each) = (1_u64, Vec::with_capacity(levels.len()));
        for &level in levels {
            if !(2..=MAX_LEVELS).contains(&level) {
                return Err(Error::Range { name: "levels", value: level as f64, expected: "levels in 2..=65536" });
            }
            let shift = 31 + (level as u64).next_power_of_two().trailing_zeros();
            let magic = (1_u64 << shift).div_ceil(level as u64);
            each.push(Level { count: level as u32, half: (level / 2) as f32, basis: codes, magic, shift });
            codes = codes.saturating_mul(level as u64);
        }
        if codes > MAX_CODES {
            let limit = MAX_CODES as usize;
            return Err(Error::TooLarge {
                name: "a code of these levels",
                unit: "numbers",
                given: codes as usize,
                limit,
            });
        }
        Ok(Self { each, codes })
    }

    /// How many numbers a vector has.
    pub fn width(&self) -> usize {
        self.each.len()
    }

    /// How many codes there are: the product of the levels.
    pub fn codes(&self) -> u64 {
        self.codes
    }

    /// The digits nearest to values (rows, width), ties to the even distance from the middle; beyond the ends, the last one.
    ///
    /// # Errors
    /// Values that are not finite, or not whole rows.
    pub fn quantize(&self, values: &[f32]) -> Result<Vec<i64>> {
        let rows = self.rows("values", values)?;
        check_finite("values", values)?;
        Ok(rows
            .flat_map(|row| row.iter().zip(&self.each).map(|(&value, level)| i64::from(level.digit(value))))
            .collect())
    }

    /// The values of digits (rows, width).
    ///
    /// # Errors
    /// Digits that there are no levels for, or not whole rows.
    pub fn dequantize(&self, digits: &[i64]) -> Result<Vec<f32>> {
        let rows = self.digits(digits)?;
        Ok(rows.flat_map(|row| row.iter().zip(&self.each).map(|(&digit, level)| level.value(digit as u32))).collect())
    }

    /// The number of each row of digits.
    ///
    /// # Errors
    /// As `dequantize`.
    pub fn index(&self, digits: &[i64]) -> Result<Vec<i64>> {
        let sum = |row: &[i64]| row.iter().zip(&self.each).map(|(&digit, level)| digit * level.basis as i64).sum();
        Ok(self.digits(digits)?.map(sum).collect())
    }

    /// The digits of numbers.
    ///
    /// # Errors
    /// A number that is not below `codes`.
    pub fn split(&self, ids: &[i64]) -> Result<Vec<i64>> {
        check_ids("ids", ids, self.codes)?;
        let mut digits = Vec::with_capacity(ids.len() * self.width());
        for &id in ids {
            let mut rest = id as u64;
            digits.extend(self.each.iter().map(|level| i64::from(level.next(&mut rest))));
        }
        Ok(digits)
    }

    /// The numbers of values: `index` of `quantize`, in one go.
    ///
    /// # Errors
    /// As `quantize`.
    pub fn encode(&self, values: &[f32]) -> Result<Vec<i64>> {
        let rows = self.rows("values", values)?;
        check_finite("values", values)?;
        let sum = |row: &[f32]| {
            let worth = |(&value, level): (&f32, &Level)| u64::from(level.digit(value)) * level.basis;
            row.iter().zip(&self.each).map(worth).sum::<u64>() as i64
        };
        Ok(rows.map(sum).collect())
    }

    /// The values of numbers: `dequantize` of `split`, in one go.
    ///
    /// # Errors
    /// As `split`.
    pub fn decode(&self, ids: &[i64]) -> Result<Vec<f32>> {
        check_ids("ids", ids, self.codes)?;
        let mut values = Vec::with_capacity(ids.len() * self.width());
        for &id in ids {
            let mut rest = id as u64;
            values.extend(self.each.iter().map(|level| level.value(level.next(&mut rest))));
        }
        Ok(values)
    }

    fn rows<'a, T>(&self, name: &'static str, numbers: &'a [T]) -> Result<std::slice::ChunksExact<'a, T>> {
        let (given, width) = (numbers.len(), self.width());
        if !given.is_multiple_of(width) {
            return Err(Error::Size { name, unit: "numbers", given, expected: given / width * width });
        }
        Ok(numbers.chunks_exact(width))
    }

    fn digits<'a>(&self, digits: &'a [i64]) -> Result<std::slice::ChunksExact<'a, i64>> {
        let rows = self.rows("digits", digits)?;
        let outside = |(&digit, level): (&i64, &Level)| !(0..i64::from(level.count)).contains(&digit);
        match digits.iter().zip(self.each.iter().cycle()).position(outside) {
            Some(place) => {
                let limit = u64::from(self.each[place % self.width()].count);
                Err(Error::Code { name: "digits", place, value: digits[place], limit })
            }
            None => Ok(rows),
        }
    }
}

impl Level {
    #[inline]
    fn digit(self, value: f32) -> u32 {
        const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer, ties to even
        let inside = (value * self.half).clamp(-self.half, self.count as f32 - 1.0 - self.half);
        (inside + ROUND - ROUND + self.half) as u32
    }

    #[inline]
    fn value(self, digit: u32) -> f32 {
        (digit as f32 - self.half) / self.half
    }

    /// Takes the last digit off a number.
    #[inline]
    fn next(self, rest: &mut u64) -> u32 {
        let quotient = (*rest * self.magic) >> self.shift;
        let digit = (*rest - quotient * u64::from(self.count)) as u32;
        *rest = quotient;
        digit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digits_come_off_as_division_takes_them(levels in proptest::collection::vec(2..=1290_i64, 1..4), part in 0.0..1.0_f64) {
            prop_assume!(levels.iter().product::<i64>() <= 1 << 31);
            let made = Levels::new(&levels).unwrap();
            for id in [(part * made.codes() as f64) as i64, made.codes() as i64 - 1] {
                let mut rest = id;
                let expected: Vec<i64> = levels.iter().map(|level| (rest % level, rest /= level).0).collect();
                prop_assert_eq!(made.split(&[id]).unwrap(), expected.clone());
                prop_assert_eq!(made.index(&expected).unwrap(), [id]);
                prop_assert_eq!(made.encode(&made.decode(&[id]).unwrap()).unwrap(), [id]);
            }
        }

        #[test]
        fn division_is_exact_up_to_its_limit(level in 2..=65536_i64, offset in 0..70000_u64) {
            let level = Levels::new(&[level]).unwrap().each[0];
            for number in [offset, (1 << 31) - 1 - offset] {
                let mut rest = number;
                prop_assert_eq!(u64::from(level.next(&mut rest)), number % u64::from(level.count));
                prop_assert_eq!(rest, number / u64::from(level.count));
            }
        }
    }
}
