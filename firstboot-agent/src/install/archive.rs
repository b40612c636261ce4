//! Streams the chunked archive onto the disk: one sequential GET, taken up again where it broke off; every chunk
//! is decompressed no further than its declared size and checked before it is written.

use super::source::Source;
use crate::{report::Reporter, retry::Backoff};
use anyhow::{Context, Result, bail, ensure};
use bitar::{Archive, ChunkOffset, archive_reader::ArchiveReader};
use blake2::{Blake2b512, Digest};
use bytes::{Bytes, BytesMut};
use contracts::{manifest::ImageManifest, step::Step};
use futures_util::Stream;
use sha2::Sha256;
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// No header is larger than this: some 100,000 chunks.
const HEADER_LIMIT: u64 = 32 << 20;
/// Tries in a row that bring not one chunk.
const TRIES: u32 = 8;
/// A bad spot on a medium does not get better.
const TRIES_OF_A_MEDIUM: u32 = 2;
/// Chunks between the network and the processors.
const IN_FLIGHT: usize = 32;

/// What to do with one chunk of the archive.
#[derive(Debug)]
struct Chunk {
    at: u64,
    stored: usize,
    size: usize,
    hash: Vec<u8>,
    compressed: bool,
    places: Vec<u64>,
}

/// The archive, where it is.
#[derive(Debug, Clone, Copy)]
struct From<'a> {
    source: &'a Source,
    path: &'a str,
}

/// Installs root and hash tree. Returns the bytes written.
///
/// # Errors
/// Names the chunk that does not match, or what broke off for good.
pub async fn install(
    reporter: &Reporter,
    source: &Source,
    manifest: &ImageManifest,
    data: &Path,
    tree: &Path,
) -> Result<u64> {
    let from = From { source, path: &manifest.archive.path };
    let url = source.place(from.path);
    let header = fetch_header(from, manifest).await?;
    let chunks = read_header(header, manifest).await?;
    let total: u64 = chunks.iter().map(|chunk| chunk.size as u64 * chunk.places.len() as u64).sum();
    let writer = Writer { data: open(data)?, tree: open(tree)?, data_bytes: manifest.root.data_bytes };
    let writer = Arc::new(writer);
    let (feed, work) = mpsc::sync_channel::<(usize, Bytes)>(IN_FLIGHT);
    let work = Arc::new(Mutex::new(work));
    let (chunks, written) = (Arc::new(chunks), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
        .map(|_| {
            let (work, chunks, writer, written) = (work.clone(), chunks.clone(), writer.clone(), written.clone());
            tokio::task::spawn_blocking(move || -> Result<()> {
                let mut buffer = Vec::new();
                loop {
                    // One at a time waits at the channel, the others work.
                    let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((index, stored)) = next else { return Ok(()) };
                    let chunk = &chunks[index];
                    let content = unpack(chunk, &stored, &mut buffer).with_context(|| format!("chunk {index}"))?;
                    for place in &chunk.places {
                        writer.write(*place, content)?;
                        written.fetch_add(content.len() as u64, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    drop(work);
    let fetched = fetch_chunks(reporter, from, &chunks, feed, &written, total).await;
    // A worker that failed explains a broken feed, so its error comes first.
    for worker in workers {
        worker.await.context("a worker died")?.with_context(|| format!("installing from {url}"))?;
    }
    fetched?;
    tokio::task::spawn_blocking(move || writer.sync()).await.context("the sync died")??;
    Ok(total)
}

/// Exactly as many bytes as the manifest says, with exactly its digest, before anything parses them.
async fn fetch_header(from: From<'_>, manifest: &ImageManifest) -> Result<Bytes> {
    let want = manifest.archive.header_bytes;
    ensure!((1..=HEADER_LIMIT).contains(&want), "the manifest names an archive header of {want} bytes");
    let url = from.source.place(from.path);
    let what = || format!("fetching the header of {url}");
    let mut answer = from.source.open(from.path, 0, Some(want - 1)).await.with_context(what)?;
    let mut header = BytesMut::new();
    while let Some(part) = answer.chunk().await.with_context(what)? {
        header.extend_from_slice(&part);
        ensure!(header.len() as u64 <= want, "the header of {url} does not end after the {want} bytes asked for");
    }
    let digest = hex::encode(Sha256::digest(&header));
    ensure!(
        header.len() as u64 == want && digest == manifest.archive.header_sha256,
        "the header of {url} is not the one that was signed"
    );
    Ok(header.freeze())
}

async fn read_header(header: Bytes, manifest: &ImageManifest) -> Result<Vec<Chunk>> {
    let archive = Archive::try_init(Memory(header))
        .await
        .map_err(|error| anyhow::anyhow!("{error:?}"))
        .context("the archive's header")?;
    // Which algorithm it was is bitar's secret; anything but zstd fails at the first chunk.
    let compression = archive.chunk_compression().is_some();
    let source = manifest.root.data_bytes + manifest.root.hash_bytes;
    ensure!(
        archive.total_source_size() == source,
        "the archive is of {} bytes, the manifest of {source}",
        archive.total_source_size()
    );

    let mut places: HashMap<&[u8], Vec<u64>> = HashMap::new();
    for (offset, descriptor) in archive.iter_source_chunks() {
        places.entry(descriptor.checksum.slice()).or_default().push(offset);
    }
    let mut chunks: Vec<Chunk> = archive
        .chunk_descriptors()
        .iter()
        .map(|descriptor| Chunk {
            at: descriptor.archive_offset,
            stored: descriptor.archive_size,
            size: descriptor.source_size as usize,
            hash: descriptor.checksum.slice().to_vec(),
            compressed: compression && descriptor.archive_size != descriptor.source_size as usize,
            places: places.get(descriptor.checksum.slice()).cloned().unwrap_or_default(),
        })
        .collect();
    chunks.sort_by_key(|chunk| chunk.at);
    Ok(chunks)
}

/// Feeds the workers with one GET; a broken connection is taken up again at the first chunk that is missing.
async fn fetch_chunks(
    reporter: &Reporter,
    from: From<'_>,
    chunks: &[Chunk],
    feed: mpsc::SyncSender<(usize, Bytes)>,
    written: &AtomicU64,
    total: u64,
) -> Result<()> {
    let begun = Instant::now();
    let mut next = 0;
    let mut failures = 0;
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(20));
    while next < chunks.len() {
        let before = next;
        let show = || {
            let done = written.load(Ordering::Relaxed);
            let left = begun.elapsed().mul_f64((total - done.min(total)) as f64 / done.max(1) as f64);
            let eta = (done > 16 << 20).then_some(left);
            reporter.progress(
                Step::Install,
                done as f64 / total as f64,
                eta,
                &format!("{} of {} MiB", done >> 20, total >> 20),
            );
        };
        let Err(error) = fetch_from(from, chunks, &mut next, &feed, &show).await else { break };
        if feed_is_closed(&error) {
            return Err(error);
        }
        failures = if next > before { 1 } else { failures + 1 };
        let most = if matches!(from.source, Source::Store(_)) { TRIES } else { TRIES_OF_A_MEDIUM };
        if failures >= most {
            return Err(error.context(format!("gave up after {most} tries without progress")));
        }
        reporter.waiting(Step::Install, "connection", format!("reading broke off ({error:#}); going on from there"));
        tokio::time::sleep(backoff.next_wait()).await;
    }
    Ok(())
}

async fn fetch_from(
    from: From<'_>,
    chunks: &[Chunk],
    next: &mut usize,
    feed: &mpsc::SyncSender<(usize, Bytes)>,
    show: &impl Fn(),
) -> Result<()> {
    let mut position = chunks[*next].at;
    let mut answer = from.source.open(from.path, position, None).await?;
    let mut buffer = BytesMut::new();
    while *next < chunks.len() {
        let chunk = &chunks[*next];
        ensure!(chunk.at >= position, "the archive's chunks overlap");
        let gap = usize::try_from(chunk.at - position)?;
        while buffer.len() < gap + chunk.stored {
            let Some(part) = answer.chunk().await? else { bail!("the connection ended early") };
            buffer.extend_from_slice(&part);
        }
        let stored = buffer.split_to(gap + chunk.stored).split_off(gap).freeze();
        position = chunk.at + chunk.stored as u64;
        let item = (*next, stored);
        // Blocks while the workers are busy: that is what bounds memory.
        tokio::task::block_in_place(|| feed.send(item)).map_err(|_| FeedClosed)?;
        *next += 1;
        show();
    }
    Ok(())
}

/// The workers stopped; their own error says why.
#[derive(Debug, thiserror::Error)]
#[error("writing stopped")]
struct FeedClosed;

fn feed_is_closed(error: &anyhow::Error) -> bool {
    error.is::<FeedClosed>()
}

/// The chunk's content, checked. Never holds more than its declared size, whatever was stored.
fn unpack<'a>(chunk: &Chunk, stored: &'a [u8], buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    let content: &[u8] = if chunk.compressed {
        buffer.clear();
        let decoder = zstd::stream::read::Decoder::with_buffer(stored).context("decompressing")?;
        decoder.take(chunk.size as u64 + 1).read_to_end(buffer).context("decompressing")?;
        buffer
    } else {
        stored
    };
    ensure!(content.len() == chunk.size, "has {} bytes instead of {}", content.len(), chunk.size);
    ensure!(Blake2b512::digest(content)[..].starts_with(&chunk.hash), "does not match its signed digest");
    Ok(content)
}

/// Where the bytes go: one stream, root data first, then the hash tree.
#[derive(Debug)]
struct Writer {
    data: File,
    tree: File,
    data_bytes: u64,
}

impl Writer {
    fn write(&self, at: u64, content: &[u8]) -> Result<()> {
        let end = at + content.len() as u64;
        let split = usize::try_from(self.data_bytes.clamp(at, end) - at)?;
        let (to_data, to_tree) = content.split_at(split);
        self.data.write_all_at(to_data, at).context("writing the root")?;
        if !to_tree.is_empty() {
            let at = (at + split as u64) - self.data_bytes;
            self.tree.write_all_at(to_tree, at).context("writing the hash tree")?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.data.sync_all().context("syncing the root")?;
        self.tree.sync_all().context("syncing the hash tree")
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).open(path).with_context(|| format!("opening {} for writing", path.display()))
}

/// bitar's reader over a header that is already in memory; chunks are never read through it.
struct Memory(Bytes);

#[tough::async_trait]
impl ArchiveReader for Memory {
    type Error = std::io::Error;

    async fn read_at<'a>(&'a mut self, offset: u64, size: usize) -> Result<Bytes, Self::Error> {
        let start = usize::try_from(offset).map_err(std::io::Error::other)?;
        let end = start.checked_add(size).filter(|end| *end <= self.0.len());
        end.map(|end| self.0.slice(start..end)).ok_or_else(|| std::io::Error::other("the header is cut off"))
    }

    fn read_chunks<'a>(
        &'a mut self,
        _chunks: Vec<ChunkOffset>,
    ) -> Pin<Box<dyn Stream<Item = Result<Bytes, Self::Error>> + Send + 'a>> {
        Box::pin(futures_util::stream::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn chunk(content: &[u8], compressed: bool) -> Chunk {
        let hash = Blake2b512::digest(content).to_vec();
        Chunk { at: 0, stored: 0, size: content.len(), hash, compressed, places: vec![0] }
    }

    #[test]
    fn a_true_chunk_is_unpacked_and_a_flipped_byte_is_found() {
        let content = vec![7; 100_000];
        let stored = zstd::encode_all(&content[..], 3).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(unpack(&chunk(&content, true), &stored, &mut buffer).unwrap(), content);
        let mut bad = content.clone();
        bad[5] ^= 1;
        let error = unpack(&chunk(&content, false), &bad, &mut buffer).unwrap_err();
        assert!(error.to_string().contains("signed digest"), "{error}");
    }

    #[test]
    fn a_bomb_is_cut_off_at_its_declared_size() {
        let bomb = zstd::encode_all(std::io::repeat(0).take(1 << 30), 1).unwrap();
        let declared = Chunk { size: 4096, ..chunk(&[0; 4096], true) };
        let mut buffer = Vec::new();
        let error = unpack(&declared, &bomb, &mut buffer).unwrap_err();
        assert!(error.to_string().contains("4097 bytes instead of 4096"), "{error}");
        assert!(buffer.capacity() < 1 << 20, "{}", buffer.capacity());
    }

    #[test]
    fn a_chunk_over_the_seam_is_split() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(folder.path().join(name))
                .unwrap()
        };
        let writer = Writer { data: make("data"), tree: make("tree"), data_bytes: 10 };
        writer.write(6, b"abcdefgh").unwrap();
        writer.write(14, b"ij").unwrap();
        assert_eq!(writer.data.metadata().unwrap().size(), 10);
        let mut tree = [0; 6];
        writer.tree.read_exact_at(&mut tree, 0).unwrap();
        assert_eq!(&tree, b"efghij");
    }
}
