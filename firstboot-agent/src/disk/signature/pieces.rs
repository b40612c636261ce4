//! A disk of zeros with some bytes in it, made from a short text of bytes: for tests and for the fuzzer.

use super::window::ReadAt;
use std::io;

/// The disk's length in bytes: large enough for every place that is looked at.
const BYTES: u64 = 6 << 20;

/// A byte with flags, then pieces: four bytes of place, two of length (both little-endian), and the bytes. Places at or beyond
/// half of their range count from the end of the disk.
#[derive(Debug, Clone, Default)]
pub struct Pieces<'a> {
    /// The flags: bit 0 for sectors of 4096 bytes.
    pub flags: u8,
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> Pieces<'a> {
    /// Takes as many pieces as there are whole ones; any bytes make a disk.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Self {
        let Some((flags, mut rest)) = bytes.split_first() else { return Self::default() };
        let mut pieces = Vec::new();
        while let Some((head, after)) = rest.split_at_checked(6) {
            let place = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            let length = usize::from(u16::from_le_bytes([head[4], head[5]])).min(after.len());
            let (piece, after) = after.split_at(length);
            let place = match place.checked_sub(1 << 31) {
                Some(back) => BYTES - 1 - u64::from(back) % BYTES,
                None => u64::from(place) % BYTES,
            };
            pieces.push((place, piece));
            rest = after;
        }
        Self { flags: *flags, pieces }
    }

    /// Bytes of its sectors.
    #[must_use]
    pub const fn sector_bytes(&self) -> u32 {
        if self.flags & 1 == 0 { 512 } else { 4096 }
    }
}

impl ReadAt for Pieces<'_> {
    fn length(&self) -> u64 {
        BYTES
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end =
            at.checked_add(buffer.len() as u64).filter(|end| *end <= BYTES).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.fill(0);
        for (place, piece) in &self.pieces {
            let (from, to) = ((*place).max(at), (place + piece.len() as u64).min(end));
            if from < to {
                let source = &piece[(from - place) as usize..(to - place) as usize];
                buffer[(from - at) as usize..(to - at) as usize].copy_from_slice(source);
            }
        }
        Ok(())
    }
}
