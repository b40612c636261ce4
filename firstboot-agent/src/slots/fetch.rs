//! A new root into the slot that does not run. Chunks that lie in the slot already are left there (a try before was cut off), chunks
//! of the running root are copied, and only the rest is fetched. Every chunk is checked before it is written, wherever it came
//! from; the root hash over all of it is checked afterwards, by the caller.

use crate::{install::source::Source, retry::Backoff, verity};
use anyhow::{Context, Result, bail, ensure};
use blake2::{Blake2b512, Digest};
use bytes::BytesMut;
use contracts::{
    archive::{self, Chunk, Dictionary, HASH_BYTES, SEGMENT},
    manifest::ImageManifest,
};
use futures_util::StreamExt;
use sha2::Sha256;
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// What lies between two missing chunks is rather fetched too than asked around.
const GAP: u64 = 16 << 10;
/// One request asks for no more, so that a line that breaks often gets somewhere.
const REQUEST: u64 = 8 << 20;
/// Requests in a row that bring nothing.
const TRIES: u32 = 8;

/// A root and its hash tree, as one stream of bytes: the data first.
#[derive(Debug)]
pub struct Stream {
    data: File,
    tree: File,
    data_bytes: u64,
    bytes: u64,
}

impl Stream {
    /// The running system's. What is read is only used where its digest is right.
    ///
    /// # Errors
    /// When the partitions cannot be read.
    pub fn running(data: &Path, tree: &Path) -> Result<Self> {
        let open = |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
        let (data, tree) = (open(data)?, open(tree)?);
        let data_bytes = verity::data_bytes(&data, &tree)?;
        let bytes = data_bytes + verity::tree_bytes(data_bytes);
        Ok(Self { data, tree, data_bytes, bytes })
    }

    /// One to be written.
    ///
    /// # Errors
    /// When the partitions cannot be opened.
    pub fn to_write(data: &Path, tree: &Path, manifest: &ImageManifest) -> Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).open(path);
            file.with_context(|| format!("opening {} for writing", path.display()))
        };
        let (data_bytes, tree_bytes) = (manifest.root.data_bytes, manifest.root.hash_bytes);
        let bytes = data_bytes.checked_add(tree_bytes).context("the manifest names impossible sizes")?;
        Ok(Self { data: open(data)?, tree: open(tree)?, data_bytes, bytes })
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        let split = (self.data_bytes.saturating_sub(at)).min(buffer.len() as u64) as usize;
        let (first, second) = buffer.split_at_mut(split);
        if !first.is_empty() {
            self.data.read_exact_at(first, at)?;
        }
        if !second.is_empty() {
            self.tree.read_exact_at(second, at + split as u64 - self.data_bytes)?;
        }
        Ok(())
    }

    fn write(&self, at: u64, content: &[u8]) -> Result<()> {
        let split = (self.data_bytes.saturating_sub(at)).min(content.len() as u64) as usize;
        let (first, second) = content.split_at(split);
        if !first.is_empty() {
            self.data.write_all_at(first, at).context("writing the root")?;
        }
        if !second.is_empty() {
            let at = at + split as u64 - self.data_bytes;
            self.tree.write_all_at(second, at).context("writing the hash tree")?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.data.sync_all().context("syncing the root")?;
        self.tree.sync_all().context("syncing the hash tree")
    }
}

/// Where the bytes of the new root came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Moved {
    /// Bytes that came from the store: stored chunks, what lies between them, and the archive's header.
    pub fetched: u64,
    /// Bytes that were copied from the running root.
    pub copied: u64,
    /// Bytes that were in the slot already.
    pub kept: u64,
    /// Bytes of the whole archive.
    pub archive: u64,
}

/// Fills the slot.
///
/// # Errors
/// Names the chunk that does not match, or what broke off for good. What was written stays for the next try.
pub async fn fill(
    source: &Source,
    manifest: &ImageManifest,
    running: &Stream,
    slot: &Stream,
    progress: &(dyn Fn(f64, &str) + Sync),
) -> Result<Moved> {
    let header = fetch_header(source, manifest).await?;
    let dictionary = archive::read_header(&header).map_err(anyhow::Error::msg).context("the archive's header")?;
    ensure!(dictionary.source == slot.bytes, "the archive is of another size than the manifest says");
    let places = places(&dictionary);
    let mut moved = Moved { fetched: header.len() as u64, archive: manifest.archive.bytes, ..Moved::default() };
    progress(0.0, "looking at what is on the disk");
    let (missing, found) = tokio::task::block_in_place(|| {
        let seeds = beside(&dictionary, &index(running)?, running);
        take_from_disk(&dictionary, &places, &seeds, running, slot)
    })?;
    (moved.copied, moved.kept) = found;

    let groups = group(&dictionary.chunks, &missing);
    let total: u64 = groups.iter().map(|group| group.end - group.start).sum();
    let mut done = 0;
    for group in &groups {
        let (mut tries, mut backoff) = (0, Backoff::new(Duration::from_millis(500), Duration::from_secs(20)));
        loop {
            match fetch_group(source, manifest, &dictionary, &places, group, slot).await {
                Ok(()) => break,
                Err(error) => {
                    tries += 1;
                    if tries >= TRIES {
                        return Err(error.context(format!("gave up after {TRIES} tries")));
                    }
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
        done += group.end - group.start;
        moved.fetched += group.end - group.start;
        progress(done as f64 / total.max(1) as f64, &format!("{} of {} KiB fetched", done >> 10, total >> 10));
    }
    tokio::task::block_in_place(|| slot.sync())?;
    Ok(moved)
}

async fn fetch_header(source: &Source, manifest: &ImageManifest) -> Result<Vec<u8>> {
    let wanted = manifest.archive.header_bytes;
    ensure!((1..=archive::LARGEST_HEADER).contains(&wanted), "the manifest names an archive header of {wanted} bytes");
    let header = fetch(source, &manifest.archive.path, 0, wanted).await.context("fetching the archive's header")?;
    let digest = hex::encode(Sha256::digest(&header));
    ensure!(digest == manifest.archive.header_sha256, "the archive's header is not the one that was signed");
    Ok(header.to_vec())
}

/// Exactly the bytes from `start` to before `end`.
pub(super) async fn fetch(source: &Source, path: &str, start: u64, end: u64) -> Result<BytesMut> {
    let mut body = source.open(path, start, Some(end - 1)).await?;
    let mut bytes = BytesMut::new();
    while let Some(part) = body.chunk().await? {
        bytes.extend_from_slice(&part);
        ensure!(bytes.len() as u64 <= end - start, "more came than was asked for");
    }
    ensure!(bytes.len() as u64 == end - start, "the connection ended early");
    Ok(bytes)
}

/// Where each chunk belongs in the source.
fn places(dictionary: &Dictionary) -> Vec<Vec<u64>> {
    let mut places = vec![Vec::new(); dictionary.chunks.len()];
    let mut at = 0;
    for index in &dictionary.order {
        places[*index as usize].push(at);
        at += u64::from(dictionary.chunks[*index as usize].size);
    }
    places
}

/// Where a chunk lies in what runs, and how long it is.
type Seed = (u64, u32);
type Seeds = HashMap<[u8; HASH_BYTES], Seed>;

/// The chunks of what runs, cut as image-builder cuts.
fn index(running: &Stream) -> Result<Seeds> {
    let segments = usize::try_from(running.bytes.div_ceil(SEGMENT as u64))?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<Seeds> {
        let mut found = Seeds::new();
        loop {
            let segment = next.fetch_add(1, Ordering::Relaxed);
            if segment >= segments {
                return Ok(found);
            }
            let begin = segment as u64 * SEGMENT as u64;
            let mut bytes = vec![0; (running.bytes - begin).min(SEGMENT as u64) as usize];
            running.read(begin, &mut bytes).context("reading the running root")?;
            // Memory never waits, so no runtime is needed to poll it.
            futures_util::FutureExt::now_or_never(async {
                let mut chunks = archive::chunker().new_chunker(bytes.as_slice());
                while let Some(Ok((at, chunk))) = chunks.next().await {
                    let hash = Blake2b512::digest(chunk.data());
                    let mut short = [0; HASH_BYTES];
                    short.copy_from_slice(&hash[..HASH_BYTES]);
                    found.insert(short, (begin + at, u32::try_from(chunk.len()).unwrap_or(0)));
                }
            });
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut seeds = Seeds::new();
        for worker in workers {
            seeds.extend(worker.join().map_err(|_| anyhow::anyhow!("a thread died"))??);
        }
        Ok(seeds)
    })
}

/// Where each chunk lies in what runs, if it does. One that was cut elsewhere, at the ends of segments above all, is looked for
/// beside those that come before and after it in the new root: what is between two changes is only moved.
fn beside(dictionary: &Dictionary, seeds: &Seeds, running: &Stream) -> Vec<Option<u64>> {
    let chunks = &dictionary.chunks;
    let size = |index: u32| u64::from(chunks[index as usize].size);
    let seed = |chunk: &Chunk| {
        let hash: [u8; HASH_BYTES] = chunk.hash.as_slice().try_into().ok()?;
        seeds.get(&hash).filter(|(_, size)| *size == chunk.size).map(|(at, _)| *at)
    };
    let mut found: Vec<Option<u64>> = chunks.iter().map(seed).collect();
    let mut buffer = Vec::new();
    let mut look = |found: &mut Vec<Option<u64>>, index: u32, at: Option<u64>| {
        let (chunk, Some(at)) = (&chunks[index as usize], at) else { return };
        let end = at.checked_add(u64::from(chunk.size));
        if found[index as usize].is_some() || chunk.hash.is_empty() || end.is_none_or(|end| end > running.bytes) {
            return;
        }
        buffer.resize(chunk.size as usize, 0);
        if running.read(at, &mut buffer).is_ok() && Blake2b512::digest(&buffer).starts_with(&chunk.hash) {
            found[index as usize] = Some(at);
        }
    };
    for pair in dictionary.order.windows(2) {
        let at = found[pair[0] as usize].and_then(|at| at.checked_add(size(pair[0])));
        look(&mut found, pair[1], at);
    }
    for pair in dictionary.order.windows(2).rev() {
        let at = found[pair[1] as usize].and_then(|at| at.checked_sub(size(pair[0])));
        look(&mut found, pair[0], at);
    }
    found
}

/// Leaves and copies what is there. Returns the chunks that are not, in the order of the archive, and the bytes copied and left.
fn take_from_disk(
    dictionary: &Dictionary,
    places: &[Vec<u64>],
    seeds: &[Option<u64>],
    running: &Stream,
    slot: &Stream,
) -> Result<(Vec<usize>, (u64, u64))> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<(Vec<usize>, u64, u64)> {
        let (mut missing, mut copied, mut kept, mut buffer) = (Vec::new(), 0, 0, Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = dictionary.chunks.get(number) else { return Ok((missing, copied, kept)) };
            let is_right = |bytes: &[u8]| Blake2b512::digest(bytes).starts_with(&chunk.hash) && !chunk.hash.is_empty();
            buffer.resize(chunk.size as usize, 0);
            let mut wanted = Vec::new();
            for place in &places[number] {
                slot.read(*place, &mut buffer).context("reading the slot")?;
                if is_right(&buffer) { kept += u64::from(chunk.size) } else { wanted.push(*place) }
            }
            if wanted.is_empty() {
                continue;
            }
            if let Some(at) = seeds[number]
                && running.read(at, &mut buffer).is_ok()
                && is_right(&buffer)
            {
                for place in wanted {
                    slot.write(place, &buffer)?;
                    copied += u64::from(chunk.size);
                }
            } else {
                missing.push(number);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let (mut missing, mut copied, mut kept) = (Vec::new(), 0, 0);
        for worker in workers {
            let part = worker.join().map_err(|_| anyhow::anyhow!("a thread died"))??;
            missing.extend(part.0);
            copied += part.1;
            kept += part.2;
        }
        missing.sort_unstable();
        Ok((missing, (copied, kept)))
    })
}

/// One request: bytes of the archive, and the chunks that are wanted of them.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    start: u64,
    end: u64,
    chunks: Vec<usize>,
}

/// Joins missing chunks that lie close together.
fn group(chunks: &[Chunk], missing: &[usize]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for number in missing {
        let (start, end) = (chunks[*number].at, chunks[*number].at + u64::from(chunks[*number].stored));
        match groups.last_mut() {
            Some(last) if start >= last.end && start - last.end <= GAP && end - last.start <= REQUEST => {
                last.end = end;
                last.chunks.push(*number);
            }
            _ => groups.push(Group { start, end, chunks: vec![*number] }),
        }
    }
    groups
}

async fn fetch_group(
    source: &Source,
    manifest: &ImageManifest,
    dictionary: &Dictionary,
    places: &[Vec<u64>],
    group: &Group,
    slot: &Stream,
) -> Result<()> {
    if group.start == group.end {
        bail!("the archive has chunks without bytes");
    }
    let bytes = fetch(source, &manifest.archive.path, group.start, group.end).await.context("fetching chunks")?;
    tokio::task::block_in_place(|| {
        let mut buffer = Vec::new();
        for number in &group.chunks {
            let chunk = &dictionary.chunks[*number];
            let at = (chunk.at - group.start) as usize;
            let stored = &bytes[at..at + chunk.stored as usize];
            archive::check_chunk(chunk, stored, &mut buffer)
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("chunk {number} of {}", manifest.archive.path))?;
            let content = if chunk.packed { buffer.as_slice() } else { stored };
            for place in &places[*number] {
                slot.write(*place, content)?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;
