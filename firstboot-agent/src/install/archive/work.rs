//! The workers of an install, and who feeds them.

use super::{
    Stored,
    plan::{Kept, Plan, Rate},
    slot::{Buffer, Slot},
    stream::Stream,
    unpack::{self, BadChunk, Unpacker},
};
use crate::{install::source::Source, report::Reporter};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use contracts::{manifest::ImageManifest, step::Step};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::Instant,
};

/// What all threads of one install share.
#[derive(Debug)]
pub struct Work {
    /// What is to be on the disk.
    pub plan: Arc<Plan>,
    /// The disk.
    pub slot: Slot,
    progress: Mutex<Progress>,
    /// Bytes that are on the disk, flushed or not.
    done: AtomicU64,
}

#[derive(Debug)]
pub struct Progress {
    /// For each run, whether it was written.
    pub written: Vec<bool>,
    /// Bytes since the last flush.
    pub since: u64,
}

/// One run for a worker, and where its bytes came from.
struct Job {
    run: usize,
    stored: HashMap<u32, Stored>,
}

/// How a job ended.
type Outcome = (usize, Result<(), Failed>);

enum Failed {
    /// A chunk is not what was signed, and which source it came from.
    Bad(BadChunk, Option<usize>),
    Disk(anyhow::Error),
}

impl Work {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(plan: Plan, slot: Slot) -> Self {
        let progress = Mutex::new(Progress { written: vec![false; plan.runs.len()], since: 0 });
        Self { plan: Arc::new(plan), slot, progress, done: AtomicU64::new(0) }
    }

    /// What was written.
    pub fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
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

    /// The runs that were not written and not found.
    #[must_use]
    pub fn missing(&self) -> VecDeque<usize> {
        let progress = self.progress();
        (0..progress.written.len()).filter(|run| !progress.written[*run]).collect()
    }

    /// Looks at what the journal claims, on all processors. Returns the bytes that are there and true.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn look(self: Arc<Self>, claims: Vec<bool>, workers: usize) -> Result<u64> {
        let claimed: Arc<Vec<usize>> = Arc::new((0..claims.len()).filter(|run| claims[*run]).collect());
        if claimed.is_empty() {
            return Ok(0);
        }
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
    ///
    /// # Errors
    /// When no source has them, what comes is not what was signed, or the disk fails.
    pub async fn fetch(
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
