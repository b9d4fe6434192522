//! Ids of a few bits each, one after another: id i takes bits `i·bits..(i + 1)·bits`, the lowest bit of a byte first.

use super::residual::check_ids;
use crate::error::{Error, Result};

/// Ids of a block, which begins and ends with a word of 32 bits.
const BLOCK: usize = 32;

/// How many bits an id has.
///
/// # Errors
/// None, or more than 32.
pub fn bits_of(bits: i64) -> Result<usize> {
    let expected = "a number of bits in 1..=32";
    let valid = usize::try_from(bits).ok().filter(|bits| (1..=BLOCK).contains(bits));
    valid.ok_or(Error::Range { name: "bits", value: bits as f64, expected })
}

/// How many bytes ids take.
pub fn size(count: usize, bits: usize) -> usize {
    // count · bits / 8, rounded up; where that does not fit, more than there can be.
    (count / 8).saturating_mul(bits).saturating_add((count % 8 * bits).div_ceil(8))
}

/// Packs ids; bits that are left in the last byte are zero.
///
/// # Errors
/// An id that does not fit.
pub fn pack(ids: &[i64], bits: i64) -> Result<Vec<u8>> {
    let bits = bits_of(bits)?;
    check_ids("ids", ids, 1 << bits)?;
    let mut bytes = Vec::with_capacity(size(ids.len(), bits));
    pack_into(ids, bits, &mut bytes);
    Ok(bytes)
}

/// Packs ids that fit, behind whole bytes.
pub(super) fn pack_into(ids: &[i64], bits: usize, bytes: &mut Vec<u8>) {
    let (start, whole) = (bytes.len(), size(ids.len(), bits));
    bytes.resize(start + whole, 0);
    let (blocks, rest) = ids.as_chunks::<BLOCK>();
    let (filled, last) = bytes[start..].split_at_mut(blocks.len() * BLOCK / 8 * bits);
    for_bits!(bits, B => pack_blocks::<B>(blocks, filled));
    if !rest.is_empty() {
        let (mut block, mut packed) = ([0; BLOCK], [0; 4 * BLOCK]);
        block[..rest.len()].copy_from_slice(rest);
        for_bits!(bits, B => pack_blocks::<B>(&[block], &mut packed[..4 * B]));
        last.copy_from_slice(&packed[..last.len()]);
    }
}

/// Unpacks `count` ids that follow `skip` others.
///
/// # Errors
/// Fewer bytes than that takes.
pub fn unpack(bytes: &[u8], bits: i64, skip: usize, count: usize) -> Result<Vec<i64>> {
    let bits = bits_of(bits)?;
    let expected = skip.checked_add(count).map_or(usize::MAX, |all| size(all, bits));
    if bytes.len() < expected {
        return Err(Error::Size { name: "packed", unit: "bytes", given: bytes.len(), expected });
    }
    // From the last place where an id begins with a byte.
    let (bytes, skip) = (&bytes[skip / 8 * bits..], skip % 8);
    let blocks = (skip + count).div_ceil(BLOCK);
    let mut ids = vec![0; blocks * BLOCK];
    let (blocks, _) = ids.as_chunks_mut::<BLOCK>();
    let whole = blocks.len().min(bytes.len() / (4 * bits));
    let (filled, last) = blocks.split_at_mut(whole);
    for_bits!(bits, B => unpack_blocks::<B>(bytes, filled));
    if let Some(last) = last.first_mut() {
        let (mut padded, rest) = ([0; 4 * BLOCK], &bytes[whole * 4 * bits..]);
        let rest = &rest[..rest.len().min(4 * bits)];
        padded[..rest.len()].copy_from_slice(rest);
        for_bits!(bits, B => unpack_blocks::<B>(&padded, std::slice::from_mut(last)));
    }
    ids.truncate(skip + count);
    ids.drain(..skip);
    Ok(ids)
}

#[inline]
fn pack_blocks<const B: usize>(blocks: &[[i64; BLOCK]], bytes: &mut [u8]) {
    for (block, bytes) in blocks.iter().zip(bytes.chunks_exact_mut(4 * B)) {
        let (words, _) = bytes.as_chunks_mut::<4>();
        let (mut word, mut filled, mut next) = (0_u64, 0, 0);
        for &id in block {
            word |= (id as u64) << filled;
            filled += B;
            if filled >= 32 {
                words[next] = (word as u32).to_le_bytes();
                (word, filled, next) = (word >> 32, filled - 32, next + 1);
            }
        }
    }
}

#[inline]
fn unpack_blocks<const B: usize>(bytes: &[u8], blocks: &mut [[i64; BLOCK]]) {
    for (block, bytes) in blocks.iter_mut().zip(bytes.chunks_exact(4 * B)) {
        let (words, _) = bytes.as_chunks::<4>();
        let (mut word, mut left, mut next) = (0_u64, 0, 0);
        for id in block {
            if left < B {
                word |= u64::from(u32::from_le_bytes(words[next])) << left;
                (left, next) = (left + 32, next + 1);
            }
            *id = (word & ((1 << B) - 1)) as i64;
            (word, left) = (word >> B, left - B);
        }
    }
}

/// Runs code compiled for each number of bits, so that every shift is a constant.
macro_rules! for_bits {
    ($bits:expr, $B:ident => $call:expr) => {
        for_bits!(@ $bits, $B => $call; 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32)
    };
    (@ $bits:expr, $B:ident => $call:expr; $($number:literal)*) => {
        match $bits {
            $($number => { const $B: usize = $number; $call })*
            _ => unreachable!("checked by bits_of"),
        }
    };
}
use for_bits;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_stand_where_they_are_said_to(
            bits in 1..=32_usize, words in proptest::collection::vec(any::<u32>(), 0..200), skip: prop::sample::Index,
        ) {
            let ids: Vec<i64> = words.iter().map(|&word| i64::from(word) & ((1 << bits) - 1)).collect();
            let packed = pack(&ids, bits as i64).unwrap();
            prop_assert_eq!(packed.len(), (ids.len() * bits).div_ceil(8));
            for bit in 0..8 * packed.len() {
                let expected = ids.get(bit / bits).map_or(0, |id| id >> (bit % bits) & 1);
                prop_assert_eq!(i64::from(packed[bit / 8] >> (bit % 8) & 1), expected);
            }
            let skip = skip.index(ids.len() + 1);
            prop_assert_eq!(unpack(&packed, bits as i64, skip, ids.len() - skip).unwrap(), &ids[skip..]);
        }
    }
}
