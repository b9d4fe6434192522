//! The numbers that patches are written in.

/// A floating-point format.
pub trait Format: 'static {
    /// What a number is stored as.
    type Bits: Copy + Default + Send + Sync;

    /// The nearest number of this format, an even one among two.
    fn bits(value: f32) -> Self::Bits;

    /// The number that is stored.
    fn value(bits: Self::Bits) -> f32;
}

/// 32 bits.
#[derive(Debug)]
pub enum Single {}

/// 16 bits with the exponent of 32 (bfloat16).
#[derive(Debug)]
pub enum Brain {}

/// 16 bits with an exponent of 5 (IEEE 754 half precision).
#[derive(Debug)]
pub enum Half {}

#[allow(clippy::inline_always)] // only inlined code is compiled for the instruction set
impl Format for Single {
    type Bits = f32;

    #[inline(always)]
    fn bits(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn value(bits: f32) -> f32 {
        bits
    }
}

#[allow(clippy::inline_always)] // only inlined code is compiled for the instruction set
impl Format for Brain {
    type Bits = u16;

    #[inline(always)]
    fn bits(value: f32) -> u16 {
        let bits = value.to_bits();
        if value.is_nan() {
            return (bits >> 16) as u16 | 0x40; // quiet, and never rounded to infinity
        }
        ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
    }

    #[inline(always)]
    fn value(bits: u16) -> f32 {
        f32::from_bits(u32::from(bits) << 16)
    }
}

#[allow(clippy::inline_always)] // only inlined code is compiled for the instruction set
impl Format for Half {
    type Bits = u16;

    #[inline(always)]
    fn bits(value: f32) -> u16 {
        let bits = value.to_bits();
        let (sign, size) = ((bits >> 16) as u16 & 0x8000, bits & 0x7FFF_FFFF);
        if size > 0x7F80_0000 {
            return sign | 0x7E00;
        }
        let rounded = if size < 0x3880_0000 {
            // Below 2^-14 the spacing is 2^-24: the sum rounds there, and leaves the count of it in the low bits.
            (f32::from_bits(size) + 0.5).to_bits() - 0x3F00_0000
        } else {
            // The exponent's bias is smaller by 112; what rounds up to 2^16 or beyond becomes infinity.
            let near = (size + 0x0FFF + (size >> 13 & 1)) - (112 << 23);
            (near >> 13).min(0x7C00)
        };
        sign | rounded as u16
    }

    #[inline(always)]
    fn value(bits: u16) -> f32 {
        let (sign, size) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7FFF));
        let value = match size {
            0..0x400 => (size as f32 / 16_777_216.0).to_bits(), // counts of 2^-24
            0x400..0x7C00 => (size << 13) + (112 << 23),
            _ => (size << 13) | 0x7F80_0000,
        };
        f32::from_bits(sign | value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back() {
        for bits in 0..=u16::MAX {
            let value = Half::value(bits);
            if value.is_nan() {
                assert!(Half::value(Half::bits(value)).is_nan());
            } else {
                assert_eq!(Half::bits(value), bits);
            }
            let value = Brain::value(bits);
            assert!(Brain::bits(value) == bits || Brain::value(Brain::bits(value)).is_nan());
        }
    }

    #[test]
    fn halves_are_the_nearest() {
        let halves: Vec<f32> = (0..0x7C00).map(Half::value).collect();
        assert!(halves.is_sorted());
        for (low, pair) in halves.windows(2).enumerate() {
            let middle = f32::midpoint(pair[0], pair[1]);
            assert_eq!(usize::from(Half::bits(middle)), low + low % 2, "{middle}");
            assert_eq!(usize::from(Half::bits(middle.next_down())), low);
            assert_eq!(usize::from(Half::bits(-middle.next_up())), 0x8001 + low);
        }
        assert_eq!(Half::bits(65_519.0), 0x7BFF);
        assert_eq!(Half::bits(65_520.0), 0x7C00);
        assert_eq!(Half::bits(f32::NEG_INFINITY), 0xFC00);
        assert_eq!(Half::bits(1e30), 0x7C00);
        assert_eq!((Brain::bits(1.0), Brain::bits(f32::MAX)), (0x3F80, 0x7F80));
        assert_eq!(Brain::bits(1.0 + 1.0 / 256.0), 0x3F80); // half of a step: to the even one
        assert_eq!(Brain::bits(1.0 + 3.0 / 256.0), 0x3F82);
    }
}
