//! The install engine: puts the chunked archive onto a slot.
//!
//! One request brings the chunks in the order of the disk; all processors unpack, check and write them, in runs of about a MiB.
//! A journal says what is on the disk for good, so that a restart looks there first and fetches the rest. [`plan`] decides,
//! [`journal`] remembers, [`stream`] fetches, [`unpack`] checks, [`slot`] writes; [`work`] is the shell that runs them.

pub mod flusher;
pub mod journal;
pub mod plan;
pub mod shared;
pub mod slot;
pub mod stream;
pub mod unpack;
pub mod work;

use super::source::Source;
use crate::report::Reporter;
use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use contracts::{archive, manifest::ImageManifest, step::Step};
use flusher::Flusher;
use journal::Journal;
use plan::Plan;
use serde::Serialize;
use sha2::{Digest, Sha256};
use slot::Slot;
use std::{collections::BTreeSet, path::Path, sync::Arc};
use work::Work;

/// What the disk is written in.
pub const BLOCK: u64 = 4096;

/// The stored bytes of a chunk, and which source they came from.
pub type Stored = (Bytes, usize);

/// What an install came to, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    /// Root and hash tree.
    pub bytes: u64,
    /// Of them, what was on the disk already.
    pub found: u64,
    /// What came over the line or from the medium, without the header.
    pub fetched: u64,
}

impl std::fmt::Display for Installed {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} MiB", self.bytes >> 20)?;
        if self.found > 0 {
            write!(to, ", {} of them were there already", self.found >> 20)?;
        }
        write!(to, "; {} KiB were fetched", self.fetched >> 10)
    }
}

/// Installs root and hash tree onto two partitions. Sources are asked in their order, the next one when one fails or lies.
/// When this returns, everything is on the disk for good.
///
/// # Errors
/// Names the chunk that does not match, or what broke off for good.
pub async fn install(
    reporter: &Reporter,
    sources: &[Source],
    manifest: &ImageManifest,
    data: &Path,
    tree: &Path,
) -> Result<Installed> {
    let plan = read_header(&fetch_header(sources, manifest).await?, manifest)?;
    let slot = Slot::open(data, tree, manifest.root.data_bytes, manifest.root.hash_bytes)?;
    let journal = Journal::open(&slot, identity(manifest), &plan)?;
    let workers = plan.workers(processors());
    let work = Arc::new(Work::new(plan, slot));

    let claims = journal.as_ref().map_or_else(Vec::new, |journal| journal.claims.clone());
    if claims.contains(&true) {
        let words = "an install was cut off here; looking at what it left on the disk";
        reporter.progress(Step::Install, 0.0, None, words);
    }
    let found = work.clone().look(claims, workers).await?;
    let missing = work.missing();
    let flusher = Flusher::start(work.clone(), journal);
    let fetched = work.clone().fetch(reporter, sources, manifest, missing, workers).await;
    // Also after a failure: what did come is written down for the next try.
    let flushed = tokio::task::spawn_blocking(move || flusher.finish()).await.context("flushing the disk")?;
    let fetched = fetched?;
    flushed?;
    Ok(Installed { bytes: work.plan.source, found, fetched })
}

/// What a cut-off install left on a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Bytes of root and hash tree that the journal claims.
    pub claimed: u64,
    /// Of them, those that are as they have to be.
    pub found: u64,
    /// Bytes that have to be fetched still, and those between them that a request reads over.
    pub to_fetch: u64,
    /// The newest record's number; 0 when there is none.
    pub sequence: u64,
}

/// Looks at what an install of this image would find on a slot. Nothing is written.
///
/// # Errors
/// When the archive's header cannot be had, or the disk cannot be read.
pub async fn left_on(slot: Slot, sources: &[Source], manifest: &ImageManifest) -> Result<Left> {
    let plan = read_header(&fetch_header(sources, manifest).await?, manifest)?;
    let journal = Journal::open(&slot, identity(manifest), &plan)?;
    let workers = plan.workers(processors());
    let work = Arc::new(Work::new(plan, slot));
    let sequence = journal.as_ref().map_or(0, Journal::sequence);
    let claims = journal.map_or_else(Vec::new, |journal| journal.claims);
    let runs = work.plan.runs.iter().zip(&claims).filter(|(_, claimed)| **claimed);
    let claimed = runs.map(|(run, _)| run.bytes.end - run.bytes.start).sum();
    let found = work.clone().look(claims, workers).await?;
    let needs: BTreeSet<u32> = work.missing().into_iter().flat_map(|run| work.plan.needs(run)).collect();
    let to_fetch = work.plan.bytes_to_fetch(&needs);
    Ok(Left { claimed, found, to_fetch, sequence })
}

/// What the journal calls this image: its archive's header, which also says how it is cut.
fn identity(manifest: &ImageManifest) -> [u8; 32] {
    Sha256::digest(manifest.archive.header_sha256.as_bytes()).into()
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Exactly as many bytes as the manifest says, with exactly its digest, before anything parses them; from the first source that
/// has them.
async fn fetch_header(sources: &[Source], manifest: &ImageManifest) -> Result<Bytes> {
    let mut last = None;
    for source in sources {
        match header_from(source, manifest).await {
            Ok(header) => return Ok(header),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("there is no source")?)
}

async fn header_from(source: &Source, manifest: &ImageManifest) -> Result<Bytes> {
    let (want, path) = (manifest.archive.header_bytes, &manifest.archive.path);
    ensure!((1..=archive::LARGEST_HEADER).contains(&want), "the manifest names an archive header of {want} bytes");
    let url = source.place(path);
    let what = || format!("fetching the header of {url}");
    let mut answer = source.open(path, 0, Some(want - 1)).await.with_context(what)?;
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

fn read_header(header: &[u8], manifest: &ImageManifest) -> Result<Plan> {
    let dictionary = archive::read_header(header).map_err(|what| anyhow::anyhow!("the archive's header: {what}"))?;
    let source = manifest.root.data_bytes.checked_add(manifest.root.hash_bytes);
    ensure!(
        Some(dictionary.source) == source,
        "the archive is of {} bytes, the manifest of {}",
        dictionary.source,
        source.unwrap_or(u64::MAX)
    );
    Ok(Plan::new(dictionary))
}
