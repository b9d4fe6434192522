//! FSQ (2309.15505): each number of a short vector is rounded to one of a few levels, and the digits make up one number.
//!
//! Digit d of L levels stands for `(d - L/2) / (L/2)`, with L/2 rounded down: five levels are -1, -1/2, 0, 1/2 and 1, of four
//! the topmost is missing, as in the paper. The first digit counts least, as in the authors' code.

use fearless_simd::dispatch;

use super::check_finite;
use super::residual::check_ids;
use crate::error::{Error, Result};
use crate::simd::LEVEL;

/// Most codes there may be: ids are below 2^31.
const MAX_CODES: u64 = 1 << 31;
/// Most levels of a number; so that every one of them is a different f32, with room to spare.
const MAX_LEVELS: i64 = 1 << 16;

/// Numbers that are worked on at a time: a multiple of what a register holds.
const LANES: usize = 16;

/// One level of a code.
#[derive(Debug, Clone, Copy)]
struct Level {
    count: u32,
    half: f32,
    /// What the digit is worth.
    basis: u32,
    /// `x·magic >> shift` is x / count for all x below 2^31 (Granlund and Montgomery 1994).
    magic: u64,
    shift: u32,
}

/// How many levels each number of a vector has.
#[derive(Debug, Clone)]
pub struct Levels {
    each: Vec<Level>,
    tiled: Tiled,
    codes: u64,
}

/// The same again and again, as many as fill whole registers, so that a loop over all numbers needs no other loop inside.
#[derive(Debug, Clone)]
struct Tiled {
    half: Vec<f32>,
    /// The largest digit, from the middle.
    most: Vec<f32>,
    count: Vec<u64>,
    basis: Vec<u32>,
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
            each.push(Level { count: level as u32, half: (level / 2) as f32, basis: codes as u32, magic, shift });
            codes = codes.saturating_mul(level as u64);
        }
        if codes > MAX_CODES {
            let (limit, given) = (MAX_CODES as usize, codes as usize);
            return Err(Error::TooLarge { name: "a code of these levels", unit: "numbers", given, limit });
        }
        let tiled = || each.iter().cycle().take(each.len() * LANES);
        let tiled = Tiled {
            half: tiled().map(|level| level.half).collect(),
            most: tiled().map(|level| level.count as f32 - 1.0 - level.half).collect(),
            count: tiled().map(|level| u64::from(level.count)).collect(),
            basis: tiled().map(|level| level.basis).collect(),
        };
        Ok(Self { each, tiled, codes })
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
        self.check_rows("values", values)?;
        check_finite("values", values)?;
        let Tiled { half, most, .. } = &self.tiled;
        let mut digits = vec![0; values.len()];
        dispatch!(*LEVEL, _simd => for (digits, values) in self.tiles(&mut digits, values) {
            for (((to, &value), &half), &most) in digits.iter_mut().zip(values).zip(half).zip(most) {
                *to = i64::from(digit(value, half, most));
            }
        });
        Ok(digits)
    }

    /// The values of digits (rows, width).
    ///
    /// # Errors
    /// Digits that there are no levels for, or not whole rows.
    pub fn dequantize(&self, digits: &[i64]) -> Result<Vec<f32>> {
        self.check_digits(digits)?;
        let mut values = vec![0.0; digits.len()];
        dispatch!(*LEVEL, _simd => for (values, digits) in self.tiles(&mut values, digits) {
            for ((to, &digit), &half) in values.iter_mut().zip(digits).zip(&self.tiled.half) {
                *to = value(digit as i32, half);
            }
        });
        Ok(values)
    }

    /// The number of each row of digits.
    ///
    /// # Errors
    /// As `dequantize`.
    pub fn index(&self, digits: &[i64]) -> Result<Vec<i64>> {
        self.check_digits(digits)?;
        Ok(self.sums(
            digits,
            #[inline(always)]
            |digits, parts| {
                for ((part, &digit), &basis) in parts.iter_mut().zip(digits).zip(&self.tiled.basis) {
                    *part = digit as u32 * basis;
                }
            },
        ))
    }

    /// The digits of numbers.
    ///
    /// # Errors
    /// A number that is not below `codes`.
    pub fn split(&self, ids: &[i64]) -> Result<Vec<i64>> {
        check_ids("ids", ids, self.codes)?;
        Ok(self.digits(ids, |digit, _| i64::from(digit)))
    }

    /// The numbers of values: `index` of `quantize`, in one go.
    ///
    /// # Errors
    /// As `quantize`.
    pub fn encode(&self, values: &[f32]) -> Result<Vec<i64>> {
        self.check_rows("values", values)?;
        check_finite("values", values)?;
        let Tiled { half, most, basis, .. } = &self.tiled;
        Ok(self.sums(
            values,
            #[inline(always)]
            |values, parts| {
                let levels = half.iter().zip(most).zip(basis);
                for ((part, &value), ((&half, &most), &basis)) in parts.iter_mut().zip(values).zip(levels) {
                    *part = digit(value, half, most) as u32 * basis;
                }
            },
        ))
    }

    /// The values of numbers: `dequantize` of `split`, in one go.
    ///
    /// # Errors
    /// As `split`.
    pub fn decode(&self, ids: &[i64]) -> Result<Vec<f32>> {
        check_ids("ids", ids, self.codes)?;
        Ok(self.digits(ids, value))
    }

    /// What becomes of each digit of numbers that were checked, given its level's half.
    fn digits<T: Copy + Default>(&self, ids: &[i64], result: impl Fn(i32, f32) -> T) -> Vec<T> {
        let width = self.width();
        let mut out = vec![T::default(); ids.len() * width];
        dispatch!(*LEVEL, _simd => for (out, ids) in out.chunks_mut(width * LANES).zip(ids.chunks(LANES)) {
            let (mut rest, mut digits) = ([0; LANES], [T::default(); LANES]);
            rest.iter_mut().zip(ids).for_each(|(rest, &id)| *rest = id as u64);
            for (place, level) in self.each.iter().enumerate() {
                for (digit, rest) in digits.iter_mut().zip(&mut rest) {
                    *digit = result(level.next(rest), level.half);
                }
                for (out, &digit) in out.iter_mut().skip(place).step_by(width).zip(&digits) {
                    *out = digit;
                }
            }
        });
        out
    }

    /// As many numbers at a time as the levels are tiled to.
    fn tiles<'a, T, U>(&self, to: &'a mut [T], from: &'a [U]) -> impl Iterator<Item = (&'a mut [T], &'a [U])> {
        let width = self.tiled.half.len();
        to.chunks_mut(width).zip(from.chunks(width))
    }

    /// The sum of what each row's numbers are worth.
    fn sums<T>(&self, numbers: &[T], worth: impl Fn(&[T], &mut [u32])) -> Vec<i64> {
        let width = self.tiled.half.len();
        let (mut out, mut parts) = (vec![0; numbers.len() / self.width()], vec![0; width]);
        dispatch!(*LEVEL, _simd => for (out, numbers) in out.chunks_mut(LANES).zip(numbers.chunks(width)) {
            worth(numbers, &mut parts);
            match self.each.len() {
                1 => add::<1>(&parts, out),
                2 => add::<2>(&parts, out),
                3 => add::<3>(&parts, out),
                4 => add::<4>(&parts, out),
                5 => add::<5>(&parts, out),
                6 => add::<6>(&parts, out),
                width => {
                    for (out, parts) in out.iter_mut().zip(parts.chunks_exact(width)) {
                        *out = i64::from(parts.iter().sum::<u32>());
                    }
                }
            }
        });
        out
    }

    fn check_rows<T>(&self, name: &'static str, numbers: &[T]) -> Result<()> {
        let (given, width) = (numbers.len(), self.width());
        if given.is_multiple_of(width) {
            return Ok(());
        }
        Err(Error::Size { name, unit: "numbers", given, expected: given / width * width })
    }

    fn check_digits(&self, digits: &[i64]) -> Result<()> {
        self.check_rows("digits", digits)?;
        let mut wrong = false;
        dispatch!(*LEVEL, _simd => for digits in digits.chunks(self.tiled.count.len()) {
            for (&digit, &count) in digits.iter().zip(&self.tiled.count) {
                // A negative number is a large one without a sign.
                wrong |= digit as u64 >= count;
            }
        });
        if !wrong {
            return Ok(());
        }
        let levels = self.each.iter().cycle();
        let place =
            digits.iter().zip(levels).position(|(&digit, level)| digit as u64 >= u64::from(level.count)).unwrap_or(0);
        let limit = u64::from(self.each[place % self.width()].count);
        Err(Error::Code { name: "digits", place, value: digits[place], limit })
    }
}

/// The digit nearest to a value.
#[allow(clippy::inline_always)] // here and below: only what is inlined is compiled for the wide instructions
#[inline(always)]
fn digit(value: f32, half: f32, most: f32) -> i32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves a whole number in the low bits, ties to even
    let product = value * half;
    let inside = if product > -half { product } else { -half };
    let inside = if inside < most { inside } else { most };
    (inside + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32 + half as i32
}

/// The value of a digit.
#[allow(clippy::inline_always)]
#[inline(always)]
fn value(digit: i32, half: f32) -> f32 {
    (digit as f32 - half) / half
}

/// The sums of rows of a few numbers: a loop of known length is none.
#[allow(clippy::inline_always)]
#[inline(always)]
fn add<const M: usize>(parts: &[u32], out: &mut [i64]) {
    for (out, parts) in out.iter_mut().zip(parts.as_chunks::<M>().0) {
        *out = i64::from(parts.iter().sum::<u32>());
    }
}

impl Level {
    /// Takes the last digit off a number.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn next(&self, rest: &mut u64) -> i32 {
        let quotient = (*rest * self.magic) >> self.shift;
        let digit = *rest - quotient * u64::from(self.count);
        *rest = quotient;
        digit as i32
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
                prop_assert_eq!(level.next(&mut rest) as u64, number % u64::from(level.count));
                prop_assert_eq!(rest, number / u64::from(level.count));
            }
        }
    }
}
