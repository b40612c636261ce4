//! The install engine: puts the chunked archive onto a slot.
//!
//! One request brings the chunks in the order of the disk; all processors unpack, check and write them, in runs of about a MiB.
//! A journal says what is on the disk for good, so that a restart looks there first and fetches the rest. [`plan`] decides,
//! [`journal`] remembers, [`stream`] fetches, [`unpack`] checks, [`slot`] writes; this file is the shell that runs them.

pub mod journal;
pub mod plan;
pub mod slot;
pub mod stream;
pub mod unpack;

use super::source::Source;
use crate::report::Reporter;
use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use contracts::{archive, manifest::ImageManifest, step::Step};
use journal::Journal;
use plan::{Kept, Plan, Rate};
use sha2::{Digest, Sha256};
use slot::{Buffer, Slot};
use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};
use stream::Stream;
use unpack::{BadChunk, Unpacker};

/// What the disk is written in.
pub const BLOCK: u64 = 4096;
/// How often somebody looks whether a flush is due.
const LOOK: Duration = Duration::from_millis(200);

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
    let header = fetch_header(sources, manifest).await?;
    let plan = Arc::new(read_header(&header, manifest)?);
    drop(header);
    let slot = Slot::open(data, tree, manifest.root.data_bytes, manifest.root.hash_bytes)?;
    let identity = Sha256::digest(manifest.archive.header_sha256.as_bytes()).into();
    let journal = Journal::open(&slot, identity, &plan)?;
    let workers = plan.workers(std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let work = Arc::new(Work {
        progress: Mutex::new(Progress { written: vec![false; plan.runs.len()], since: 0 }),
        done: AtomicU64::new(0),
        plan,
        slot,
    });

    let claims = journal.as_ref().map_or_else(Vec::new, |journal| journal.claims.clone());
    let found = work.clone().look(claims, workers, reporter).await?;
    let missing = work.missing();
    let flusher = Flusher::start(work.clone(), journal);
    let fetched = work.clone().fetch(reporter, sources, manifest, missing, workers).await;
    // Also after a failure: what did come is written down for the next try.
    let flushed = tokio::task::spawn_blocking(move || flusher.finish()).await.context("flushing the disk")?;
    let fetched = fetched?;
    flushed?;
    Ok(Installed { bytes: work.plan.source, found, fetched })
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

/// What all threads of one install share.
#[derive(Debug)]
struct Work {
    plan: Arc<Plan>,
    slot: Slot,
    progress: Mutex<Progress>,
    /// Bytes that are on the disk, flushed or not.
    done: AtomicU64,
}

#[derive(Debug)]
struct Progress {
    written: Vec<bool>,
    /// Bytes since the last flush.
    since: u64,
}

/// One run for a worker, and where its bytes came from.
struct Job {
    run: usize,
    stored: HashMap<u32, Stored>,
}

/// The stored bytes of a chunk, and which source they came from.
pub type Stored = (Bytes, usize);

/// How a job ended.
type Outcome = (usize, Result<(), Failed>);

enum Failed {
    /// A chunk is not what was signed, and which source it came from.
    Bad(BadChunk, Option<usize>),
    Disk(anyhow::Error),
}

impl Work {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn length(&self, run: usize) -> u64 {
        self.plan.runs[run].bytes.end - self.plan.runs[run].bytes.start
    }

    fn mark(&self, run: usize, is_new: bool) {
        let length = self.length(run);
        let mut progress = self.progress();
        progress.written[run] = true;
        progress.since += if is_new { length } else { 0 };
        self.done.fetch_add(length, Ordering::Relaxed);
    }

    fn missing(&self) -> VecDeque<usize> {
        let progress = self.progress();
        (0..progress.written.len()).filter(|run| !progress.written[*run]).collect()
    }

    /// Looks at what the journal claims, on all processors. Returns the bytes that are there and true.
    async fn look(self: Arc<Self>, claims: Vec<bool>, workers: usize, reporter: &Reporter) -> Result<u64> {
        let claimed: Arc<Vec<usize>> = Arc::new((0..claims.len()).filter(|run| claims[*run]).collect());
        if claimed.is_empty() {
            return Ok(0);
        }
        let words = "an install was cut off here; looking at what it left on the disk";
        reporter.progress(Step::Install, 0.0, None, words);
        let next = Arc::new(AtomicUsize::new(0));
        let lookers: Vec<_> = (0..workers)
            .map(|_| {
                let (work, claimed, next) = (self.clone(), claimed.clone(), next.clone());
                tokio::task::spawn_blocking(move || -> Result<()> {
                    let mut buffer = Buffer::default();
                    while let Some(run) = claimed.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let content = work.slot.read_run(&work.plan.runs[*run], &mut buffer)?;
                        if unpack::is_run_true(&work.plan, *run, content) {
                            work.slot.has_run(&work.plan.runs[*run], content)?;
                            work.mark(*run, false);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        for looker in lookers {
            looker.await.context("looking at the disk")??;
        }
        Ok(self.done.load(Ordering::Relaxed))
    }

    /// Fetches the missing runs and has them written. Returns the bytes that came.
    async fn fetch(
        self: Arc<Self>,
        reporter: &Reporter,
        sources: &[Source],
        manifest: &ImageManifest,
        missing: VecDeque<usize>,
        workers: usize,
    ) -> Result<u64> {
        let (feed, jobs) = mpsc::sync_channel::<Job>(workers);
        let jobs = Arc::new(Mutex::new(jobs));
        let (tell, outcomes) = mpsc::channel::<Outcome>();
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                let (work, jobs, tell) = (self.clone(), jobs.clone(), tell.clone());
                tokio::task::spawn_blocking(move || work.labour(&jobs, &tell))
            })
            .collect();
        drop((jobs, tell));
        let fetched = self.feed(reporter, sources, manifest, missing, (feed, outcomes)).await;
        // Whatever happened, nobody writes any more after this.
        for worker in workers {
            worker.await.context("a worker died")?;
        }
        fetched
    }

    async fn feed(
        &self,
        reporter: &Reporter,
        sources: &[Source],
        manifest: &ImageManifest,
        mut missing: VecDeque<usize>,
        (feed, outcomes): (mpsc::SyncSender<Job>, mpsc::Receiver<Outcome>),
    ) -> Result<u64> {
        let mut stream = Stream::new(sources, &manifest.archive.path)?;
        let place = stream.place();
        let mut kept = Keeper::default();
        let mut show = Show::new(self.done.load(Ordering::Relaxed));
        let waiting = |words| reporter.waiting(Step::Install, "connection", words);
        let mut under_way = 0usize;
        loop {
            let Some(run) = missing.pop_front() else {
                if under_way == 0 {
                    break;
                }
                // Nothing to fetch: the workers have the last runs.
                let outcome = tokio::task::block_in_place(|| outcomes.recv()).context("the workers died")?;
                under_way -= 1;
                settle(outcome, &mut stream, &mut missing, &mut kept)
                    .with_context(|| format!("installing from {place}"))?;
                show.show(reporter, self);
                continue;
            };
            let mut job = Job { run, stored: HashMap::new() };
            for need in self.plan.needs(run) {
                let stored = if let Some(stored) = kept.stored.get(&need) {
                    stored.clone()
                } else {
                    let last = || self.plan.read_on(need, std::iter::once(run).chain(missing.iter().copied()));
                    stream.chunk(&self.plan, need, last, &waiting).await?
                };
                kept.after(&self.plan, need, run, &stored);
                job.stored.insert(need, stored);
            }
            // Blocks while the workers are busy: that is what bounds memory. When none is left, they have said why.
            under_way += usize::from(tokio::task::block_in_place(|| feed.send(job)).is_ok());
            while let Ok(outcome) = outcomes.try_recv() {
                under_way -= 1;
                settle(outcome, &mut stream, &mut missing, &mut kept)
                    .with_context(|| format!("installing from {place}"))?;
            }
            show.show(reporter, self);
        }
        Ok(stream.fetched)
    }

    /// One worker: until there are no more jobs.
    fn labour(&self, jobs: &Mutex<mpsc::Receiver<Job>>, tell: &mpsc::Sender<Outcome>) {
        let mut unpacker = Unpacker::new();
        loop {
            // One at a time waits at the channel, the others work.
            let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = next else { return };
            let outcome = match &mut unpacker {
                Ok(unpacker) => self.one(unpacker, &job),
                Err(error) => Err(Failed::Disk(anyhow::anyhow!("no memory to unpack: {error}"))),
            };
            if tell.send((job.run, outcome)).is_err() {
                return;
            }
        }
    }

    fn one(&self, unpacker: &mut Unpacker, job: &Job) -> Result<(), Failed> {
        let content = unpacker.unpack(&self.plan, job.run, &job.stored);
        let content = content.map_err(|bad| {
            let source = job.stored.get(&bad.chunk).map(|(_, source)| *source);
            Failed::Bad(bad, source)
        })?;
        self.slot.write_run(&self.plan.runs[job.run], content).map_err(Failed::Disk)?;
        self.mark(job.run, true);
        Ok(())
    }
}

/// A run that a source lied about is fetched again from the others.
fn settle(
    (run, outcome): Outcome,
    stream: &mut Stream<'_>,
    missing: &mut VecDeque<usize>,
    kept: &mut Keeper,
) -> Result<()> {
    match outcome {
        Ok(()) => Ok(()),
        Err(Failed::Disk(error)) => Err(error),
        Err(Failed::Bad(bad, source)) => {
            let left = source.is_some_and(|source| stream.turns.lied(source));
            ensure!(left, bad);
            // Nothing of a liar is used again.
            *kept = Keeper::default();
            missing.push_front(run);
            Ok(())
        }
    }
}

/// Stored chunks that come again.
#[derive(Default)]
struct Keeper {
    bounds: Kept,
    stored: HashMap<u32, Stored>,
}

impl Keeper {
    fn after(&mut self, plan: &Plan, chunk: u32, run: usize, (stored, source): &Stored) {
        let length = stored.len() as u64;
        if !plan.comes_again(chunk, run) {
            self.bounds.forget(chunk, length);
            self.stored.remove(&chunk);
        } else if !self.stored.contains_key(&chunk) && self.bounds.take(chunk, length) {
            // A copy: what came holds on to all that came with it.
            self.stored.insert(chunk, (Bytes::copy_from_slice(stored), *source));
        }
    }
}

/// How far it is, for people.
struct Show(Rate);

impl Show {
    fn new(done: u64) -> Self {
        Self(Rate::new(Instant::now(), done))
    }

    fn show(&mut self, reporter: &Reporter, work: &Work) {
        let (done, total) = (work.done.load(Ordering::Relaxed), work.plan.source);
        self.0.add(Instant::now(), done);
        let rate = self.0.per_second().map_or_else(String::new, |rate| format!(", {:.1} MiB/s", rate / 1_048_576.0));
        let words = format!("{} of {} MiB{rate}", done >> 20, total >> 20);
        reporter.progress(Step::Install, done as f64 / total as f64, self.0.eta(total - done.min(total)), &words);
    }
}

/// The thread that flushes and writes the journal, beside the workers: they never wait for it.
struct Flusher {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Flusher {
    fn start(work: Arc<Work>, mut journal: Option<Journal>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            loop {
                let is_over = !matches!(stopped.recv_timeout(LOOK), Err(mpsc::RecvTimeoutError::Timeout));
                let due = plan::is_flush_due(work.progress().since, last.elapsed());
                if is_over || due {
                    flush(&work, journal.as_mut())?;
                    last = Instant::now();
                }
                if is_over {
                    return Ok(());
                }
            }
        });
        Self { stop, thread }
    }

    /// Flushes a last time. Blocks.
    fn finish(self) -> Result<()> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow::anyhow!("the flushing thread died"))?
    }
}

/// What is written is put down only after the flush that followed it.
fn flush(work: &Work, journal: Option<&mut Journal>) -> Result<()> {
    let mut runs = {
        let mut progress = work.progress();
        progress.since = 0;
        progress.written.clone()
    };
    for (run, written) in runs.iter_mut().enumerate().filter(|(_, written)| **written) {
        *written = work.slot.is_whole(&work.plan.runs[run]);
    }
    work.slot.flush()?;
    journal.map_or(Ok(()), |journal| journal.write(&work.slot, &runs))
}
