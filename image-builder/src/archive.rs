//! The chunked root archive: content-defined chunks of data and hash tree, each hashed and compressed.

use crate::files::{self, FileError, at};
use bitar::{
    Compression,
    api::compress::{CreateArchiveError, CreateArchiveOptions, create_archive},
    chunker,
};
use contracts::manifest::Archive;
use sha2::{Digest, Sha256};
use std::{
    io::Read,
    path::{Path, PathBuf},
};
use tokio::io::AsyncReadExt;

/// Chunks of 64 KiB on average: small enough that two versions share most of them, large enough that the
/// dictionary of a 600 MiB root stays below 1 MiB.
const MINIMUM: usize = 16 << 10;
const AVERAGE: u32 = 64 << 10;
const MAXIMUM: usize = 256 << 10;
/// Bytes of each chunk's BLAKE2 hash: 256 bits.
const HASH_LENGTH: usize = 32;
const ZSTD_LEVEL: u32 = 9;

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The archive could not be written.
    #[error("cannot write the chunked archive")]
    Create(#[source] CreateArchiveError),
    /// zstd does not know the level.
    #[error("zstd has no level {ZSTD_LEVEL}")]
    Level,
    /// The archive's length does not fit its own dictionary.
    #[error("the chunked archive ends at byte {found}, its dictionary says {expected}")]
    Length {
        /// What the file has.
        found: u64,
        /// What it should have.
        expected: u64,
    },
}

/// A finished archive.
#[derive(Debug)]
pub struct Finished {
    /// The file.
    pub path: PathBuf,
    /// What the manifest says about it.
    pub archive: Archive,
}

/// Makes `root.bita` in the work folder from `data || hashes`.
///
/// # Errors
/// See [`ArchiveError`].
pub async fn make(work: &Path, data: &Path, hashes: &Path) -> Result<Finished, ArchiveError> {
    let path = work.join("root.bita");
    let open = |path: PathBuf| async move { tokio::fs::File::open(&path).await.map_err(|e| at("read", &path)(e)) };
    let source = open(data.to_owned()).await?.chain(open(hashes.to_owned()).await?);
    let source = tokio::io::BufReader::with_capacity(1 << 20, source);
    let output = tokio::fs::File::create(&path).await.map_err(at("write", &path))?;
    let options = CreateArchiveOptions {
        chunker_config: chunker::Config::RollSum(chunker::FilterConfig {
            filter_bits: chunker::FilterBits::from_size(AVERAGE),
            min_chunk_size: MINIMUM,
            max_chunk_size: MAXIMUM,
            window_size: 64,
        }),
        chunk_hash_length: HASH_LENGTH,
        compression: Some(Compression::zstd(ZSTD_LEVEL).map_err(|_| ArchiveError::Level)?),
        temporary_file_override: None,
        ..CreateArchiveOptions::default()
    };
    let result = create_archive(source, output, &options).await.map_err(ArchiveError::Create)?;
    let chunks: u64 = result.header.chunk_descriptors.iter().map(|chunk| u64::from(chunk.archive_size)).sum();
    let bytes = files::length(&path)?;
    let header_bytes = bytes.saturating_sub(chunks);
    let header_sha256 = hash_of_start(&path, header_bytes)?;
    if !header_is_whole(&path, header_bytes)? {
        return Err(ArchiveError::Length { found: bytes, expected: chunks });
    }
    let archive = Archive { path: format!("archives/{header_sha256}.bita"), header_bytes, header_sha256, bytes };
    Ok(Finished { path, archive })
}

fn hash_of_start(path: &Path, length: u64) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(at("read", path))?;
    file.take(length).read_to_end(&mut bytes).map_err(at("read", path))?;
    Ok(hex::encode(Sha256::digest(&bytes)))
}

/// The archive says itself where its first chunk begins: after magic (6 bytes), length (8) and dictionary, in 8
/// bytes, followed by a 64-byte checksum.
fn header_is_whole(path: &Path, header_bytes: u64) -> Result<bool, FileError> {
    let mut start = [0; 14];
    let mut file = std::fs::File::open(path).map_err(at("read", path))?;
    file.read_exact(&mut start).map_err(at("read", path))?;
    let mut dictionary = [0; 8];
    dictionary.copy_from_slice(&start[6..]);
    Ok(14 + u64::from_le_bytes(dictionary) + 8 + 64 == header_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_header_is_everything_before_the_first_chunk() {
        let folder = tempfile::tempdir().unwrap();
        let (data, hashes) = (folder.path().join("data"), folder.path().join("hashes"));
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&data, &bytes).unwrap();
        std::fs::write(&hashes, b"hash tree").unwrap();
        let one = make(folder.path(), &data, &hashes).await.unwrap().archive;
        let two = make(folder.path(), &data, &hashes).await.unwrap().archive;
        assert_eq!(one, two);
        assert!(one.header_bytes > 86 && one.header_bytes < one.bytes);
        assert_eq!(one.path, format!("archives/{}.bita", one.header_sha256));
    }
}
