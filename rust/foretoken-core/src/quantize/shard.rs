//! A file of packed ids, of which any part can be read without the rest.
//!
//! Little-endian: magic (8 bytes), version u32, bits of an id u32, number of axes u32, zero u32, the size of each axis u64, the
//! packed ids (`bits`), CRC-64/XZ of everything before it u64.
//!
//! It is read, not mapped: a mapped file that someone cuts short kills the process. Opening looks at the header and at the
//! length; only `verify` looks at everything, for that takes as long as reading it.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::bits::{bits_of, pack_into, size, unpack};
use super::residual::check_ids;
use crate::corpus_file::{crc64, failed, write};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"FTTOKENS";
const VERSION: u32 = 1;
const HEADER: usize = 24;
const CHECKSUM: usize = 8;
/// Most axes of an array in numpy.
const MAX_AXES: usize = 64;
/// Ids that are packed, or bytes that are summed, at a time: what stays in the cache meanwhile; a multiple of 8.
const PIECE: usize = 1 << 16;

/// An open file.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    path: PathBuf,
    bits: usize,
    shape: Vec<usize>,
}

impl Shard {
    /// Writes ids (any shape) beside `path`, flushes to the disk, renames.
    ///
    /// # Errors
    /// An id that does not fit, a shape that is not that of the ids, whatever a disk can refuse.
    pub fn save(path: &Path, ids: &[i64], shape: &[usize], bits: i64) -> Result<()> {
        let bits = bits_of(bits)?;
        let expected = shape.iter().try_fold(1_usize, |all, &axis| all.checked_mul(axis)).unwrap_or(usize::MAX);
        if ids.len() != expected || shape.len() > MAX_AXES {
            return Err(Error::Size { name: "ids", unit: "entries", given: ids.len(), expected });
        }
        check_ids("ids", ids, 1 << bits)?;
        write(path, |out: &mut BufWriter<File>| {
            let mut sum = !0;
            let mut put = |bytes: &[u8]| {
                sum = crc64(sum, bytes);
                out.write_all(bytes)
            };
            put(&MAGIC)?;
            for number in [VERSION, bits as u32, shape.len() as u32, 0] {
                put(&number.to_le_bytes())?;
            }
            shape.iter().try_for_each(|&axis| put(&(axis as u64).to_le_bytes()))?;
            let mut piece = Vec::with_capacity(size(PIECE, bits));
            for ids in ids.chunks(PIECE) {
                piece.clear();
                pack_into(ids, bits, &mut piece);
                put(&piece)?;
            }
            out.write_all(&(!sum).to_le_bytes())
        })
    }

    /// Opens a file; looks at its header and its length.
    ///
    /// # Errors
    /// A file that is no such file, or is cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |reason: String| failed(path, "read", reason);
        let mut file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let length = file.metadata().map_err(|error| wrong(error.to_string()))?.len();
        let mut header = Vec::new();
        let limit = (HEADER + 8 * MAX_AXES) as u64;
        Read::by_ref(&mut file).take(limit).read_to_end(&mut header).map_err(|error| wrong(error.to_string()))?;
        if !header.starts_with(&MAGIC) {
            return Err(wrong("it does not begin like a token shard".to_owned()));
        }
        let word = |at: usize| {
            header.get(at..at + 4).map_or(0, |word| word.iter().rfold(0, |all, &b| all << 8 | u32::from(b)))
        };
        let (version, bits, axes) = (word(8), word(12), word(16) as usize);
        if header.len() < HEADER {
            return Err(wrong(format!("it is cut short after {length} bytes")));
        }
        if version != VERSION {
            return Err(wrong(format!("it has version {version}, this program reads version {VERSION}")));
        }
        if !(1..=32).contains(&bits) || axes > MAX_AXES || word(20) != 0 {
            return Err(wrong(format!("its header speaks of {bits} bits and {axes} axes")));
        }
        let long = |index: usize| u64::from(word(HEADER + 8 * index)) | u64::from(word(HEADER + 8 * index + 4)) << 32;
        let shape: Vec<u64> = (0..axes).map(long).collect();
        let count = shape.iter().try_fold(1_u64, |all, &axis| all.checked_mul(axis)).filter(|&count| count >> 58 == 0);
        let expected =
            count.map(|count| (Self::start_of(axes) + size(count as usize, bits as usize) + CHECKSUM) as u64);
        if expected != Some(length) {
            return Err(wrong(format!("it has {length} bytes, its header speaks of ids {shape:?} of {bits} bits")));
        }
        let shape = shape.into_iter().map(|axis| axis as usize).collect();
        Ok(Self { path: path.to_owned(), bits: bits as usize, shape })
    }

    /// Where the ids begin.
    fn start_of(axes: usize) -> usize {
        HEADER + 8 * axes
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bits of an id.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// The size of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The ids of some places of the first axis; of a file without axes, the one id at place 0.
    ///
    /// # Errors
    /// Places that there are not, a file that has changed, more than there is memory for.
    pub fn read(&self, places: Range<i64>) -> Result<Vec<i64>> {
        let length = self.shape.first().copied().unwrap_or(1);
        let outside = |value: i64| Error::Range {
            name: "place",
            value: value as f64,
            expected: "places in order, at most the size of the first axis",
        };
        let place = |value: i64| usize::try_from(value).ok().filter(|&p| p <= length).ok_or_else(|| outside(value));
        let (from, to) = (place(places.start)?, place(places.end)?);
        if from > to {
            return Err(outside(places.start));
        }
        let each = self.shape.iter().skip(1).fold(1_usize, |all, &axis| all.saturating_mul(axis));
        let (first, count) = (from * each, (to - from) * each);
        let (begin, end) = (first / 8 * self.bits, size(first + count, self.bits));
        let mut ids = Vec::<i64>::new();
        ids.try_reserve_exact(count).map_err(|_| Error::Allocation { bytes: count.saturating_mul(8) })?;
        let bytes = self.bytes(Self::start_of(self.shape.len()) + begin, end - begin)?;
        unpack(&bytes, self.bits as i64, first % 8, count)
    }

    fn bytes(&self, start: usize, count: usize) -> Result<Vec<u8>> {
        let wrong = |error: std::io::Error| failed(&self.path, "read", error.to_string());
        let mut file = File::open(&self.path).map_err(wrong)?;
        file.seek(SeekFrom::Start(start as u64)).map_err(wrong)?;
        let mut bytes = vec![0; count];
        file.read_exact(&mut bytes).map_err(wrong)?;
        Ok(bytes)
    }

    /// Reads everything and compares the checksum.
    ///
    /// # Errors
    /// A file that was damaged, or has changed.
    pub fn verify(&self) -> Result<()> {
        let wrong = |reason: String| failed(&self.path, "read", reason);
        if Self::open(&self.path)? != *self {
            return Err(wrong("it is another file than was opened".to_owned()));
        }
        let count = self.shape.iter().product::<usize>();
        let mut left = Self::start_of(self.shape.len()) + size(count, self.bits);
        let (mut sum, mut piece) = (!0, vec![0; PIECE]);
        let mut file = File::open(&self.path).map_err(|error| wrong(error.to_string()))?;
        while left > 0 {
            let piece = &mut piece[..left.min(PIECE)];
            file.read_exact(piece).map_err(|error| wrong(error.to_string()))?;
            sum = crc64(sum, piece);
            left -= piece.len();
        }
        let mut stored = [0; CHECKSUM];
        file.read_exact(&mut stored).map_err(|error| wrong(error.to_string()))?;
        if u64::from_le_bytes(stored) != !sum {
            return Err(wrong("its checksum does not fit: it was damaged".to_owned()));
        }
        Ok(())
    }
}
