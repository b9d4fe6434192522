//! The file of a corpus: its documents, from which the automaton is built anew, or with it; and a checksum over all of it.
//!
//! Little-endian: magic (8 bytes), version u32, longest match u32, memory limit u64, number of documents, of tokens, of states
//! and of slots u64, the length of each document u32, the tokens u32, the states (8 × u32), the slots (2 × u32), CRC-64/XZ of
//! everything before it u64. Without the automaton there are no states and no slots. With it the file is sixteen times as large
//! and is read four times as fast; every index in it is checked before it is believed.
//!
//! It is read, not mapped: a mapped file that someone cuts short kills the process, all of it must be looked at anyway to be
//! trusted, and a corpus goes on growing.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::automaton::{Automaton, Flat};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"FTCORPUS";
const VERSION: u32 = 2;
const HEADER: usize = 56;
const CHECKSUM: usize = 8;
/// How much is read, summed and converted at a time: what stays in the cache meanwhile.
const PIECE: usize = 1 << 16;

/// What a file says.
#[derive(Debug)]
pub(crate) struct Contents {
    pub memory_limit: u64,
    pub max_match: u32,
    pub documents: Vec<Box<[u32]>>,
    pub automaton: Option<Automaton>,
}

/// Writes a corpus, with its automaton if that is given.
pub(crate) fn encode(
    out: impl Write,
    memory_limit: u64,
    max_match: u32,
    documents: &VecDeque<Box<[u32]>>,
    automaton: Option<&Automaton>,
) -> io::Result<()> {
    let mut out = Summed { inner: out, sum: !0 };
    let tokens: usize = documents.iter().map(|document| document.len()).sum();
    let (states, slots) = automaton.map_or((0, 0), Automaton::sizes);
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&max_match.to_le_bytes())?;
    out.write_all(&memory_limit.to_le_bytes())?;
    for size in [documents.len(), tokens, states, slots] {
        out.write_all(&(size as u64).to_le_bytes())?;
    }
    let mut words = Words { out: &mut out, buffer: Vec::with_capacity(PIECE) };
    documents.iter().try_for_each(|document| words.put(&[document.len() as u32]))?;
    documents.iter().try_for_each(|document| words.put(document))?;
    if let Some(automaton) = automaton {
        automaton.states().try_for_each(|state| words.put(&state))?;
        automaton.slots().try_for_each(|slot| words.put(&slot))?;
    }
    words.flush()?;
    let sum = !out.sum;
    out.inner.write_all(&sum.to_le_bytes())?;
    out.inner.flush()
}

/// Reads a corpus from a source of `length` bytes; nothing is allocated before its header has been compared with that.
pub(crate) fn decode(source: impl Read, length: u64) -> Result<Contents> {
    let broken = |reason: String| Error::Corpus { reason };
    let stopped = |error: io::Error| broken(format!("reading stopped: {error}"));
    let mut source = Summed { inner: source, sum: !0 };
    let mut header = [0; HEADER];
    let begun = length.min(HEADER as u64) as usize;
    source.read_exact(&mut header[..begun]).map_err(stopped)?;
    if !header.starts_with(&MAGIC) {
        return Err(broken("it does not begin like a corpus of foretoken".to_owned()));
    }
    if length < (HEADER + CHECKSUM) as u64 {
        return Err(broken(format!("it is cut short after {length} bytes")));
    }
    let version = u32_at(&header, 8);
    if version != VERSION {
        return Err(broken(format!("it has version {version}, this program reads version {VERSION}")));
    }
    let [documents, tokens, states, slots] = [24, 32, 40, 48].map(|offset| u64_at(&header, offset));
    let words = [(documents, 1), (tokens, 1), (states, 8), (slots, 2)];
    let expected = words.iter().map(|&(count, size)| u128::from(count) * 4 * size).sum::<u128>();
    let expected = expected + (HEADER + CHECKSUM) as u128;
    if expected != u128::from(length) {
        return Err(broken(format!("it has {length} bytes, its header says {expected}")));
    }
    let mut reader = Reader { source: &mut source, piece: vec![0; PIECE] };
    let lengths = reader.take(documents, |[length]| length).map_err(stopped)?;
    let rest = reader.take(tokens, |[token]| token).map_err(stopped)?;
    let states = reader.take(states, |state: [u32; 8]| state.into()).map_err(stopped)?;
    let slots = reader.take(slots, |[token, target]| (token, target)).map_err(stopped)?;
    let (sum, mut stored) = (!source.sum, [0; CHECKSUM]);
    source.read_exact(&mut stored).map_err(stopped)?;
    if sum != u64::from_le_bytes(stored) {
        return Err(broken("its checksum does not fit: it was damaged".to_owned()));
    }
    // Sizes fit the file from here on; what remains is a file that was made wrong on purpose, checksum and all.
    let total: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
    if total != tokens || lengths.contains(&0) || rest.iter().any(|&token| token >= 1 << 31) {
        return Err(broken("its lengths or its token ids contradict each other".to_owned()));
    }
    let max_match = u32_at(&header, 12);
    let automaton = (!states.is_empty()).then(|| Flat { states, slots }.checked(max_match, tokens)).transpose();
    let automaton = automaton.map_err(|reason| broken(format!("its automaton contradicts itself: {reason}")))?;
    let mut from = 0;
    let cut = |&length: &u32| {
        let document: Box<[u32]> = rest[from..from + length as usize].into();
        from += length as usize;
        document
    };
    let documents = lengths.iter().map(cut).collect();
    Ok(Contents { memory_limit: u64_at(&header, 16), max_match, documents, automaton })
}

/// Opens a file to be decoded; with its length.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    opened.map(|(length, file)| (file, length)).map_err(|error| failed(path, "read", error.to_string()))
}

/// Writes beside `path`, flushes to the disk, renames.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let temporary = beside(path).ok_or_else(|| failed(path, "written", "it names no file".to_owned()))?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|file: File| {
            let mut out = BufWriter::with_capacity(PIECE, file);
            fill(&mut out)?;
            out.flush()?;
            out.get_ref().sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The first failure is the one to report; that the temporary file could not be made either is the usual reason.
        drop(fs::remove_file(&temporary));
        failed(path, "written", error.to_string())
    })
}

/// A name in the same folder that no other thread or process uses.
fn beside(path: &Path) -> Option<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name()?.to_os_string();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}.{count}.tmp", std::process::id()));
    Some(path.with_file_name(name))
}

pub(crate) fn failed(path: &Path, action: &'static str, reason: String) -> Error {
    Error::File { path: path.display().to_string(), action, reason }
}

/// A stream and the checksum of what has passed through it.
struct Summed<T> {
    inner: T,
    sum: u64,
}

impl<R: Read> Summed<R> {
    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.sum = crc64(self.sum, bytes);
        Ok(())
    }
}

impl<W: Write> Summed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum = crc64(self.sum, bytes);
        self.inner.write_all(bytes)
    }
}

/// Numbers on their way to a stream.
struct Words<'a, W> {
    out: &'a mut Summed<W>,
    buffer: Vec<u8>,
}

impl<W: Write> Words<'_, W> {
    fn put(&mut self, words: &[u32]) -> io::Result<()> {
        for word in words {
            self.buffer.extend(word.to_le_bytes());
            if self.buffer.len() >= PIECE {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Numbers on their way from a stream.
struct Reader<'a, R> {
    source: &'a mut Summed<R>,
    piece: Vec<u8>,
}

impl<R: Read> Reader<'_, R> {
    /// The next `count` entries of N numbers each.
    fn take<const N: usize, T>(&mut self, count: u64, entry: impl Fn([u32; N]) -> T) -> io::Result<Vec<T>> {
        let mut left = count as usize * 4 * N;
        let mut taken = Vec::with_capacity(count as usize);
        while left > 0 {
            let size = left.min(PIECE); // a multiple of the size of any entry
            let piece = &mut self.piece[..size];
            self.source.read_exact(piece)?;
            taken.extend(piece.chunks_exact(4 * N).map(|bytes| {
                let mut words = [0; N];
                words.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(word, bytes)| *word = u32_at(bytes, 0));
                entry(words)
            }));
            left -= size;
        }
        Ok(taken)
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

/// CRC-64/XZ: polynomial 0x42F0E1EBA9EA3693 reflected, start and end inverted by the caller. Finds every error of at most 64 bits
/// in a row. Eight bytes at a time ("slicing by 8"): byte by byte it would take longer than the reading.
pub(crate) fn crc64(mut sum: u64, bytes: &[u8]) -> u64 {
    static TABLES: [[u64; 256]; 8] = {
        let mut tables = [[0; 256]; 8];
        let mut byte = 0;
        while byte < 256 {
            let mut value = byte as u64;
            let mut bit = 0;
            while bit < 8 {
                value = (value >> 1) ^ if value & 1 == 1 { 0xC96C_5795_D787_0F42 } else { 0 };
                bit += 1;
            }
            tables[0][byte] = value;
            byte += 1;
        }
        let mut slice = 1;
        while slice < 8 {
            let mut byte = 0;
            while byte < 256 {
                let before: u64 = tables[slice - 1][byte];
                tables[slice][byte] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
                byte += 1;
            }
            slice += 1;
        }
        tables
    };
    let mut eights = bytes.chunks_exact(8);
    for eight in &mut eights {
        let word = (sum ^ u64_at(eight, 0)).to_le_bytes();
        sum = word.iter().zip(TABLES.iter().rev()).fold(0, |sum, (&byte, table)| sum ^ table[usize::from(byte)]);
    }
    for &byte in eights.remainder() {
        sum = TABLES[0][((sum ^ u64::from(byte)) & 0xFF) as usize] ^ (sum >> 8);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(!crc64(!0, b"123456789"), 0x995D_C9BB_DF19_39FA);
        let long: Vec<u8> = (0..1000_u32).map(|number| (number * number) as u8).collect();
        let bytewise = long.iter().fold(!0, |sum, byte| crc64(sum, &[*byte]));
        assert_eq!(crc64(!0, &long), bytewise);
    }
}
