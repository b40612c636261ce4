//! One segment of the source: its chunks, hashed and compressed.

use super::{ArchiveError, Earlier, HASH_LENGTH, SEGMENT, ZSTD_LEVEL, chunker};
use crate::files::at;
use futures_util::StreamExt as _;
use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

/// A segment as it goes into the archive.
pub(super) struct Packed {
    pub(super) source: Vec<u8>,
    pub(super) chunks: Vec<PackedChunk>,
}

pub(super) struct PackedChunk {
    pub(super) hash: Vec<u8>,
    pub(super) source_bytes: u32,
    /// Compressed, or as it is when that is shorter.
    pub(super) bytes: Vec<u8>,
    pub(super) reused: bool,
}

pub(super) fn pack(
    path: &Path,
    file: &File,
    index: usize,
    length: u64,
    earlier: &Earlier,
    runtime: &tokio::runtime::Handle,
) -> Result<Packed, ArchiveError> {
    let begin = index as u64 * SEGMENT as u64;
    let bytes = usize::try_from(length - begin).unwrap_or(SEGMENT).min(SEGMENT);
    let mut source = vec![0; bytes];
    file.read_exact_at(&mut source, begin).map_err(at("read", path))?;
    let mut chunks = Vec::new();
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(ArchiveError::Compress)?;
    // The source is memory, so nothing ever waits.
    runtime.block_on(async {
        let mut stream = chunker().new_chunker(source.as_slice());
        while let Some(next) = stream.next().await {
            let (_, chunk) = next.map_err(at("read", path))?;
            let verified = chunk.verify();
            let mut hash = verified.hash().to_vec();
            hash.truncate(HASH_LENGTH);
            let source_bytes = u32::try_from(verified.len()).unwrap_or(u32::MAX);
            let known = earlier.get(&hash, verified.data());
            let reused = known.is_some();
            let bytes = match known {
                Some(bytes) => bytes,
                None => {
                    let packed = compressor.compress(verified.data()).map_err(ArchiveError::Compress)?;
                    if packed.len() < verified.len() { packed } else { verified.data().to_vec() }
                }
            };
            chunks.push(PackedChunk { hash, source_bytes, bytes, reused });
        }
        Ok::<(), ArchiveError>(())
    })?;
    Ok(Packed { source, chunks })
}
