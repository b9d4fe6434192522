//! The checksum of a corpus' file, to be forged.

/// CRC-64/XZ, bit by bit.
pub fn crc64(bytes: &[u8]) -> u64 {
    !bytes.iter().fold(!0, |sum, &byte| {
        (0..8).fold(sum ^ u64::from(byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xC96C_5795_D787_0F42 } else { 0 })
    })
}
