//! The file of a corpus: its documents, from which the automaton is built anew, and a checksum over all of it.
//!
//! Little-endian: magic (8 bytes), version u32, longest match u32, memory limit u64, number of documents u64, number of tokens
//! u64, the length of each document u32, the tokens u32, CRC-64/XZ of everything before it u64. Keeping the automaton itself
//! would make the file sixteen times as large, and each index in it one more thing to distrust.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"FTCORPUS";
const VERSION: u32 = 1;
const HEADER: usize = 40;
const CHECKSUM: usize = 8;

/// What a file says.
#[derive(Debug)]
pub(crate) struct Contents {
    pub memory_limit: u64,
    pub max_match: u32,
    pub documents: Vec<Box<[u32]>>,
}

pub(crate) fn encode(memory_limit: u64, max_match: u32, tokens: usize, documents: &VecDeque<Box<[u32]>>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 4 * (documents.len() + tokens) + CHECKSUM);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(max_match.to_le_bytes());
    bytes.extend(memory_limit.to_le_bytes());
    bytes.extend((documents.len() as u64).to_le_bytes());
    bytes.extend((tokens as u64).to_le_bytes());
    for document in documents {
        bytes.extend((document.len() as u32).to_le_bytes());
    }
    for token in documents.iter().flatten() {
        bytes.extend(token.to_le_bytes());
    }
    let sum = crc64(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Contents> {
    let broken = |reason: String| Error::Corpus { reason };
    if !bytes.starts_with(&MAGIC) {
        return Err(broken("it does not begin like a corpus of foretoken".to_owned()));
    }
    if bytes.len() < HEADER + CHECKSUM {
        return Err(broken(format!("it is cut short after {} bytes", bytes.len())));
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(broken(format!("it has version {version}, this program reads version {VERSION}")));
    }
    let (documents, tokens) = (u64_at(bytes, 24), u64_at(bytes, 32));
    let expected = (u128::from(documents) + u128::from(tokens)) * 4 + (HEADER + CHECKSUM) as u128;
    if expected != bytes.len() as u128 {
        return Err(broken(format!("it has {} bytes, its header says {expected}", bytes.len())));
    }
    let (body, sum) = bytes.split_at(bytes.len() - CHECKSUM);
    if crc64(body) != u64_at(sum, 0) {
        return Err(broken("its checksum does not fit: it was damaged".to_owned()));
    }
    // Sizes fit the file from here on; what remains is a file that was made wrong on purpose, checksum and all.
    let mut numbers = body[HEADER..].chunks_exact(4).map(|chunk| u32_at(chunk, 0));
    let lengths: Vec<u32> = numbers.by_ref().take(documents as usize).collect();
    let total: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
    let rest: Vec<u32> = numbers.collect();
    if total != tokens || lengths.contains(&0) || rest.iter().any(|&token| token >= 1 << 31) {
        return Err(broken("its lengths or its token ids contradict each other".to_owned()));
    }
    let mut from = 0;
    let cut = |&length: &u32| {
        let document: Box<[u32]> = rest[from..from + length as usize].into();
        from += length as usize;
        document
    };
    Ok(Contents {
        memory_limit: u64_at(bytes, 16),
        max_match: u32_at(bytes, 12),
        documents: lengths.iter().map(cut).collect(),
    })
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| failed(path, "read", error.to_string()))
}

/// Writes beside `path`, flushes to the disk, renames.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path).ok_or_else(|| failed(path, "written", "it names no file".to_owned()))?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file: File| {
            file.write_all(bytes)?;
            file.sync_all()
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

/// CRC-64/XZ: polynomial 0x42F0E1EBA9EA3693 reflected, start and end inverted. Finds every error of at most 64 bits in a row.
fn crc64(bytes: &[u8]) -> u64 {
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut value = byte as u64;
            let mut bit = 0;
            while bit < 8 {
                value = (value >> 1) ^ if value & 1 == 1 { 0xC96C_5795_D787_0F42 } else { 0 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, &byte| TABLE[((sum ^ u64::from(byte)) & 0xFF) as usize] ^ (sum >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc64(b"123456789"), 0x995D_C9BB_DF19_39FA);
    }
}
