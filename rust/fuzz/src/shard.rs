//! Files of packed ids: what the format is not is refused, and what it is says the ids that its bits say, one by one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use foretoken_core::error::Kind;
use foretoken_core::quantize::shard::Shard;

use super::bytes::Bytes;
use super::crc::crc64;

/// What bytes say by the format's definition.
struct Contents<'a> {
    bits: usize,
    shape: Vec<u64>,
    packed: &'a [u8],
    whole: bool,
}

/// Opens the bytes as they are, with a checksum that fits, and as the body of a file whose header fits it.
pub fn run(data: &[u8]) {
    let file = File(std::env::temp_dir().join(format!("foretoken-fuzz-{}", process::id())));
    file.load(data);
    if let Some(body) = data.len().checked_sub(8) {
        file.load(&summed(data[..body].to_vec()));
    }
    let (made, mut bytes) = made(data);
    assert!(definition(&made).is_some());
    file.load(&made);
    let mut damaged = made;
    let place = bytes.word() as usize % damaged.len();
    match bytes.below(4) {
        0 => damaged.truncate(place),
        1 => damaged.insert(place, bytes.byte()),
        _ => damaged[place] ^= 1 << bytes.below(8),
    }
    file.load(&damaged);
}

/// A file that is removed in the end, also when an assertion fails.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl File {
    fn load(&self, data: &[u8]) {
        let path: &Path = &self.0;
        fs::write(path, data).unwrap();
        let expected = definition(data);
        let (shard, expected) = match (Shard::open(path), expected) {
            (Ok(shard), Some(expected)) => (shard, expected),
            (Err(error), None) => return assert_eq!(error.kind(), Kind::Checkpoint, "{error}"),
            (Ok(shard), None) => panic!("{shard:?} was accepted"),
            (Err(error), Some(_)) => panic!("{error}"),
        };
        assert_eq!(shard.bits(), expected.bits);
        assert!(shard.shape().iter().map(|&axis| axis as u64).eq(expected.shape.iter().copied()));
        assert_eq!(shard.verify().is_ok(), expected.whole);
        let length = expected.shape.first().map_or(1, |&axis| i64::try_from(axis).unwrap_or(i64::MAX));
        let mut bytes = Bytes(data);
        for _ in 0..4 {
            // Near both ends of the axis, and beyond them.
            let mut place = || i64::from(bytes.byte() as i8).saturating_add([0, length / 2, length][bytes.below(3)]);
            let places = place()..place();
            let found = shard.read(places.clone());
            if 0 <= places.start && places.start <= places.end && places.end <= length {
                assert_eq!(found.unwrap(), expected.read(places.start as usize, places.end as usize));
            } else {
                assert_eq!(found.unwrap_err().kind(), Kind::InvalidArgument);
            }
        }
        // One that someone cuts short meanwhile.
        let rest = &data[..bytes.word() as usize % data.len()];
        fs::write(path, rest).unwrap();
        assert_eq!(shard.verify().unwrap_err().kind(), Kind::Checkpoint);
        if let Ok(found) = shard.read(0..length.min(1)) {
            assert_eq!(found, expected.read(0, length.min(1) as usize));
        }
    }
}

impl Contents<'_> {
    /// The ids of some places of the first axis, bit by bit.
    fn read(&self, from: usize, to: usize) -> Vec<i64> {
        let each = self.shape.iter().skip(1).fold(1_u128, |all, &axis| all.saturating_mul(axis.into()));
        let bit = |bit: u128| i64::from(self.packed[(bit / 8) as usize] >> (bit % 8) & 1);
        let id = |index: u128| (0..self.bits).map(|k| bit(index * self.bits as u128 + k as u128) << k).sum();
        (from as u128 * each..to as u128 * each).map(id).collect()
    }
}

/// Reads bytes as the format is defined; None if they are no such file.
fn definition(data: &[u8]) -> Option<Contents<'_>> {
    let word = |at: usize| Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?));
    let (bits, axes) = (word(12)? as usize, word(16)? as usize);
    if &data[..8] != b"FTTOKENS" || word(8)? != 1 || !(1..=32).contains(&bits) || axes > 64 || word(20)? != 0 {
        return None;
    }
    let start = 24 + 8 * axes;
    let header = data.get(24..start)?.chunks_exact(8);
    let shape: Vec<u64> = header.map(|axis| u64::from_le_bytes(axis.try_into().unwrap())).collect();
    let mut count = 1_u128;
    for &axis in &shape {
        count *= u128::from(axis);
        if count >> 64 != 0 {
            return None;
        }
    }
    let end = start as u128 + (count * bits as u128).div_ceil(8);
    if end + 8 != data.len() as u128 {
        return None;
    }
    let (body, sum) = data.split_at(end as usize);
    Some(Contents { bits, shape, packed: &body[start..], whole: sum == crc64(body).to_le_bytes() })
}

/// A file whose header fits it, with bits and shape as bytes say, and what is left of them.
fn made(data: &[u8]) -> (Vec<u8>, Bytes<'_>) {
    let mut bytes = Bytes(data);
    let bits = 1 + bytes.below(32);
    let shape: Vec<u64> = (0..bytes.below(5)).map(|_| bytes.below(7) as u64).collect();
    let count: u64 = shape.iter().product();
    let mut made = b"FTTOKENS".to_vec();
    for word in [1, bits as u32, shape.len() as u32, 0] {
        made.extend(word.to_le_bytes());
    }
    for axis in shape {
        made.extend(axis.to_le_bytes());
    }
    made.extend((0..(count as usize * bits).div_ceil(8)).map(|_| bytes.byte()));
    (summed(made), bytes)
}

fn summed(mut body: Vec<u8>) -> Vec<u8> {
    body.extend(crc64(&body).to_le_bytes());
    body
}
