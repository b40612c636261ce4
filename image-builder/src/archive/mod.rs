//! The chunked root archive (bita): content-defined chunks of data and hash tree, each hashed and compressed.
//!
//! Written by our own code for two reasons: chunks that an earlier archive has are taken over instead of compressed again, and
//! all processors find boundaries. For that, the source is cut into segments of a fixed length, where a chunk always ends.

mod earlier;
mod segment;

pub use earlier::{Earlier, keep};

use crate::files::{self, FileError, at};
use bitar::{
    Compression,
    chunk_dictionary::{ChunkDescriptor, ChunkDictionary, ChunkerParameters, chunker_parameters::ChunkingAlgorithm},
    chunker,
};
use blake2::{Blake2b512, Digest as _};
use contracts::{
    archive::{HASH_BYTES as HASH_LENGTH, SEGMENT, chunker},
    manifest::Archive,
};
use segment::Packed;
use sha2::Sha256;
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::{Path, PathBuf},
    sync::mpsc,
};

/// Half the time of level 9 for one percent more bytes (zstd -b on a worker's files, blocks of 64 KiB).
const ZSTD_LEVEL: i32 = 5;
/// Written into the dictionary; no reader of ours looks at it.
const APPLICATION: &str = concat!("shelfboot ", env!("CARGO_PKG_VERSION"));

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A chunk could not be compressed.
    #[error("cannot compress a chunk")]
    Compress(#[source] io::Error),
    /// zstd does not know the level.
    #[error("zstd has no level {ZSTD_LEVEL}")]
    Level,
}

/// A finished archive.
#[derive(Debug)]
pub struct Finished {
    /// The file.
    pub path: PathBuf,
    /// What the manifest says about it.
    pub archive: Archive,
    /// How many of its chunks came from earlier archives.
    pub reused: usize,
    /// How many chunks it has.
    pub chunks: usize,
}

/// The folder of a cache that keeps archives. Another zstd makes other bytes.
#[must_use]
pub fn kept(cache: &crate::cache::Cache) -> PathBuf {
    cache.folder("archives").join(format!("zstd-{ZSTD_LEVEL}-{}", zstd::zstd_safe::version_number()))
}

fn compression() -> Result<Compression, ArchiveError> {
    Compression::zstd(ZSTD_LEVEL.unsigned_abs()).map_err(|_| ArchiveError::Level)
}

/// Makes `root.bita` in the work folder from data and hash tree that are both there, without the help of earlier archives.
///
/// # Errors
/// See [`ArchiveError`].
pub async fn make(work: &Path, data: &Path, hashes: &Path) -> Result<Finished, ArchiveError> {
    let mut packer = Packer::new(work, Earlier::none(), tokio::runtime::Handle::current())?;
    let sources = [data.to_owned(), hashes.to_owned()];
    let packing = tokio::task::spawn_blocking(move || {
        sources.iter().try_for_each(|source| packer.add(source))?;
        packer.finish()
    });
    packing.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// An archive under way. Blocks: for a thread of its own. It wants a runtime because bitar's chunker is a stream.
#[derive(Debug)]
pub struct Packer {
    folder: PathBuf,
    earlier: Earlier,
    chunks: BufWriter<File>,
    descriptors: Vec<ChunkDescriptor>,
    order: Vec<u32>,
    known: HashMap<Vec<u8>, u32>,
    checksum: Blake2b512,
    source_bytes: u64,
    archive_bytes: u64,
    reused: usize,
    runtime: tokio::runtime::Handle,
}

impl Packer {
    /// Begins `root.bita` in the work folder.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn new(work: &Path, earlier: Earlier, runtime: tokio::runtime::Handle) -> Result<Self, ArchiveError> {
        let path = work.join("root.chunks");
        let chunks = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        Ok(Self {
            folder: work.to_owned(),
            earlier,
            chunks: BufWriter::with_capacity(1 << 20, chunks.map_err(at("write", &path))?),
            descriptors: Vec::new(),
            order: Vec::new(),
            known: HashMap::new(),
            checksum: Blake2b512::new(),
            source_bytes: 0,
            archive_bytes: 0,
            reused: 0,
            runtime,
        })
    }

    /// Adds a file to the end of the source. The result depends on the bytes alone, not on the number of processors.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn add(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let length = files::length(path)?;
        let file = File::open(path).map_err(at("read", path))?;
        let segments = usize::try_from(length.div_ceil(SEGMENT as u64)).unwrap_or(usize::MAX);
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(1, segments.max(1));
        let (earlier, runtime) = (self.earlier.clone(), self.runtime.clone());
        std::thread::scope(|scope| {
            // Segment n comes from thread n modulo threads; each may be one segment ahead.
            let mut sources = Vec::new();
            for first in 0..threads {
                let (send, receive) = mpsc::sync_channel(1);
                sources.push(receive);
                let (file, earlier, runtime) = (&file, &earlier, &runtime);
                scope.spawn(move || {
                    for index in (first..segments).step_by(threads) {
                        let packed = segment::pack(path, file, index, length, earlier, runtime);
                        let failed = packed.is_err();
                        if send.send(packed).is_err() || failed {
                            return;
                        }
                    }
                });
            }
            // The checksum over everything is a thread's work of its own.
            let (to_checksum, checksummed) = mpsc::sync_channel::<Vec<u8>>(threads);
            let mut checksum = std::mem::take(&mut self.checksum);
            let summing = scope.spawn(move || {
                checksummed.iter().for_each(|source| checksum.update(&source));
                checksum
            });
            for index in 0..segments {
                let Ok(packed) = sources[index % threads].recv() else { break };
                let source = self.append(packed?)?;
                // Its receiver lives until this sender is gone.
                let _ = to_checksum.send(source);
            }
            drop(to_checksum);
            self.checksum = summing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(())
        })
    }

    /// Adds the chunks of a segment; gives its source back.
    fn append(&mut self, packed: Packed) -> Result<Vec<u8>, ArchiveError> {
        self.source_bytes += packed.source.len() as u64;
        for chunk in packed.chunks {
            let next = u32::try_from(self.descriptors.len()).unwrap_or(u32::MAX);
            if let Some(known) = self.known.get(&chunk.hash) {
                self.order.push(*known);
                continue;
            }
            self.chunks.write_all(&chunk.bytes).map_err(at("write into", &self.folder))?;
            let size = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
            self.descriptors.push(ChunkDescriptor {
                checksum: chunk.hash.clone(),
                source_size: chunk.source_bytes,
                archive_offset: self.archive_bytes,
                archive_size: size,
            });
            self.archive_bytes += u64::from(size);
            self.reused += usize::from(chunk.reused);
            self.known.insert(chunk.hash, next);
            self.order.push(next);
        }
        Ok(packed.source)
    }

    /// Writes the dictionary before the chunks.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn finish(self) -> Result<Finished, ArchiveError> {
        let chunker::Config::RollSum(filter) = chunker() else { unreachable!("it is a rolling sum") };
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let chunks = self.descriptors.len();
        let dictionary = ChunkDictionary {
            rebuild_order: self.order,
            application_version: APPLICATION.into(),
            chunk_descriptors: self.descriptors,
            source_checksum: self.checksum.finalize().to_vec(),
            source_total_size: self.source_bytes,
            chunker_params: Some(ChunkerParameters {
                chunk_filter_bits: filter.filter_bits.bits(),
                min_chunk_size: narrow(filter.min_chunk_size),
                max_chunk_size: narrow(filter.max_chunk_size),
                rolling_hash_window_size: narrow(filter.window_size),
                chunk_hash_length: narrow(HASH_LENGTH),
                chunking_algorithm: ChunkingAlgorithm::Rollsum as i32,
            }),
            chunk_compression: Some(Some(compression()?).into()),
            metadata: BTreeMap::new(),
        };
        let path = self.folder.join("root.bita");
        let write = || -> io::Result<Vec<u8>> {
            let header = bitar::header::build(&dictionary, None)?;
            let mut out = File::create(&path)?;
            out.write_all(&header)?;
            let mut chunks = self.chunks.into_inner().map_err(io::IntoInnerError::into_error)?;
            chunks.rewind()?;
            io::copy(&mut chunks, &mut out)?;
            Ok(header)
        };
        let header = write().map_err(at("write", &path))?;
        files::remove(&self.folder.join("root.chunks"))?;
        let header_sha256 = hex::encode(Sha256::digest(&header));
        let header_bytes = header.len() as u64;
        let archive = Archive {
            path: format!("archives/{header_sha256}.bita"),
            header_bytes,
            header_sha256,
            bytes: header_bytes + self.archive_bytes,
        };
        Ok(Finished { path, archive, reused: self.reused, chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(folder: &Path, sources: &[&Path], earlier: Earlier, runtime: &tokio::runtime::Runtime) -> Finished {
        let mut packer = Packer::new(folder, earlier, runtime.handle().clone()).unwrap();
        sources.iter().for_each(|source| packer.add(source).unwrap());
        packer.finish().unwrap()
    }

    fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let next = move || {
            // splitmix64, so that chunks end where chance wants
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed >> 56) as u8
        };
        std::iter::repeat_with(next).take(bytes).collect()
    }

    /// The archive's source, put together by bitar.
    fn restored(path: &Path, runtime: &tokio::runtime::Runtime) -> Vec<u8> {
        runtime.block_on(async {
            let reader = bitar::archive_reader::IoReader::new(tokio::fs::File::open(path).await.unwrap());
            let mut archive = bitar::Archive::try_init(reader).await.unwrap();
            let mut out = vec![0; usize::try_from(archive.total_source_size()).unwrap()];
            let places: Vec<(u64, Vec<u8>)> =
                archive.iter_source_chunks().map(|(at, chunk)| (at, chunk.checksum.to_vec())).collect();
            let index = archive.build_source_index();
            let mut chunks = HashMap::new();
            {
                use futures_util::StreamExt as _;
                let mut stream = archive.chunk_stream(&index);
                while let Some(chunk) = stream.next().await {
                    let verified = chunk.unwrap().decompress().unwrap().verify().unwrap();
                    let mut hash = verified.hash().to_vec();
                    hash.truncate(HASH_LENGTH);
                    chunks.insert(hash, verified.data().to_vec());
                }
            }
            for (at, hash) in places {
                let (at, data) = (usize::try_from(at).unwrap(), &chunks[&hash]);
                out[at..at + data.len()].copy_from_slice(data);
            }
            out
        })
    }

    #[test]
    fn bitar_reads_it_and_an_earlier_archive_saves_work_but_changes_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (data, hashes) = (folder.path().join("data"), folder.path().join("hashes"));
        let mut bytes = noise(SEGMENT * 2 + 77_777, 1);
        bytes.extend(vec![0; 1_000_000]);
        std::fs::write(&data, &bytes).unwrap();
        std::fs::write(&hashes, b"hash tree").unwrap();
        let sources = [data.as_path(), hashes.as_path()];
        let first = make(folder.path(), &sources, Earlier::none(), &runtime);
        assert_eq!(first.reused, 0);
        assert_eq!(first.archive.bytes, std::fs::metadata(&first.path).unwrap().len());
        assert_eq!(first.archive.path, format!("archives/{}.bita", first.archive.header_sha256));
        assert!(restored(&first.path, &runtime) == [bytes.as_slice(), b"hash tree"].concat());

        let kept = folder.path().join("kept.bita");
        std::fs::rename(&first.path, &kept).unwrap();
        bytes[SEGMENT + 5] ^= 1;
        std::fs::write(&data, &bytes).unwrap();
        let earlier = runtime.block_on(Earlier::open(std::slice::from_ref(&kept)));
        let second = make(folder.path(), &sources, earlier, &runtime);
        assert!(second.reused + 3 >= second.chunks && second.reused < second.chunks, "{second:?}");
        let with_help = std::fs::read(&second.path).unwrap();
        let alone = make(folder.path(), &sources, Earlier::none(), &runtime);
        assert!(with_help == std::fs::read(&alone.path).unwrap(), "an earlier archive changes nothing");

        // A damaged earlier archive is noticed and not believed.
        let mut damaged = std::fs::read(&kept).unwrap();
        let end = damaged.len();
        damaged[end - 900_000..].fill(7);
        std::fs::write(&kept, &damaged).unwrap();
        let earlier = runtime.block_on(Earlier::open(std::slice::from_ref(&kept)));
        let third = make(folder.path(), &sources, earlier, &runtime);
        assert!(third.reused < second.reused);
        assert!(with_help == std::fs::read(&third.path).unwrap());
    }
}
