//! One run's content: every chunk unpacked no further than its declared size, and held against its signed digest.

use super::{
    BLOCK, Stored,
    plan::{Plan, Run},
    slot::Buffer,
};
use blake2::{Blake2b512, Digest};
use contracts::archive::Chunk;
use std::collections::HashMap;

/// A chunk that is not what was signed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("chunk {chunk} {what}")]
pub struct BadChunk {
    /// Which.
    pub chunk: u32,
    what: String,
}

/// What a processor needs to unpack: memory and zstd's tables, used again for every run.
pub struct Unpacker {
    buffer: Buffer,
    zstd: zstd::bulk::Decompressor<'static>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Unpacker").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}

impl Unpacker {
    /// With nothing in it yet.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { buffer: Buffer::default(), zstd: zstd::bulk::Decompressor::new()? })
    }

    /// The content of a run, lying in memory as it lies in its first block.
    ///
    /// # Errors
    /// The first chunk that is not what was signed.
    pub fn unpack(&mut self, plan: &Plan, run: usize, stored: &HashMap<u32, Stored>) -> Result<&[u8], BadChunk> {
        let Run { bytes, .. } = &plan.runs[run];
        let offset = to_usize(bytes.start % BLOCK);
        let memory = self.buffer.take(offset + to_usize(bytes.end - bytes.start));
        let mut at = offset;
        for (index, chunk) in plan.pieces(run) {
            let into = &mut memory[at..at + chunk.size as usize];
            let bad = |what| BadChunk { chunk: index, what };
            let (stored, _) = stored.get(&index).ok_or_else(|| bad("is missing".into()))?;
            one(chunk, stored, into, &mut self.zstd).map_err(bad)?;
            at += into.len();
        }
        Ok(&memory[offset..])
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn one(chunk: &Chunk, stored: &[u8], into: &mut [u8], zstd: &mut zstd::bulk::Decompressor<'_>) -> Result<(), String> {
    let length = if chunk.packed {
        // What would be longer does not fit, and is given up there.
        zstd.decompress_to_buffer(stored, into)
            .map_err(|error| format!("does not unpack to the {} bytes that the dictionary says: {error}", chunk.size))?
    } else {
        into.copy_from_slice(stored);
        stored.len()
    };
    if length != into.len() {
        return Err(format!("has {length} bytes instead of {}", into.len()));
    }
    if is_true(chunk, into) { Ok(()) } else { Err("does not match its signed digest".into()) }
}

/// Whether these bytes are the chunk's content.
#[must_use]
pub fn is_true(chunk: &Chunk, content: &[u8]) -> bool {
    Blake2b512::digest(content).starts_with(&chunk.hash)
}

/// Whether these bytes, as they lie on the disk, are the run's content.
#[must_use]
pub fn is_run_true(plan: &Plan, run: usize, mut content: &[u8]) -> bool {
    let all = plan.pieces(run).all(|(_, chunk)| {
        content.split_at_checked(chunk.size as usize).is_some_and(|(piece, rest)| {
            content = rest;
            is_true(chunk, piece)
        })
    });
    all && content.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use contracts::archive::Dictionary;
    use std::io::Read as _;

    fn plan(content: &[u8], stored: &[u8], packed: bool) -> Plan {
        let hash = Blake2b512::digest(content)[..32].to_vec();
        let chunk = Chunk { at: 0, stored: stored.len() as u32, size: content.len() as u32, hash, packed };
        Plan::new(Dictionary { chunks: vec![chunk], order: vec![0, 0], source: 2 * content.len() as u64 })
    }

    fn unpack(plan: &Plan, stored: &[u8]) -> Result<Vec<u8>, String> {
        let stored = HashMap::from([(0, (Bytes::copy_from_slice(stored), 0))]);
        let mut unpacker = Unpacker::new().unwrap();
        unpacker.unpack(plan, 0, &stored).map(<[u8]>::to_vec).map_err(|error| error.to_string())
    }

    #[test]
    fn a_true_chunk_is_unpacked_everywhere_and_a_flipped_byte_is_found() {
        let content = vec![7; 100_000];
        let stored = zstd::encode_all(&content[..], 3).unwrap();
        assert_eq!(
            unpack(&plan(&content, &stored, true), &stored).unwrap(),
            [content.clone(), content.clone()].concat()
        );
        let plan = plan(&content, &content, false);
        let mut bad = content.clone();
        bad[5] ^= 1;
        assert!(unpack(&plan, &bad).unwrap_err().contains("chunk 0 does not match its signed digest"));
        let twice = [content.clone(), content.clone()].concat();
        assert!(is_run_true(&plan, 0, &twice));
        assert!(!is_run_true(&plan, 0, &twice[1..]));
        assert!(!is_run_true(&plan, 0, &[twice, vec![7]].concat()));
    }

    #[test]
    fn what_is_longer_or_shorter_than_declared_is_cut_off() {
        let bomb = zstd::encode_all(std::io::repeat(0).take(1 << 30), 1).unwrap();
        let plan = plan(&[0; 4096], &bomb, true);
        let mut unpacker = Unpacker::new().unwrap();
        let stored = HashMap::from([(0, (Bytes::from(bomb), 0))]);
        let error = unpacker.unpack(&plan, 0, &stored).unwrap_err().to_string();
        assert!(error.contains("4096 bytes"), "{error}");
        let short = zstd::encode_all(&[0; 4095][..], 1).unwrap();
        assert!(unpack(&plan, &short).unwrap_err().contains("4095 bytes instead of 4096"));
        assert!(unpack(&plan, b"no zstd").is_err());
    }
}
