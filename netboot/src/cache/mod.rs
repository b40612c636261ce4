//! The cache: netboot's own verified copy of what its store needs of the image repository.
//!
//! Decisions are pure: [`bandwidth`] (how fast), [`upstreams`] (whom to ask), [`want`] (what and when), [`delta`] (which
//! chunks), [`space`] (what goes). [`metadata`] has `tough` verify before anything is believed; [`folder`] puts in place only
//! what is whole, and exchanges metadata by one rename; [`mirror`] ties it together, and is where to start reading.

pub mod bandwidth;
pub mod check;
pub mod config;
pub mod delta;
pub mod download;
pub mod fetch;
pub mod folder;
pub mod metadata;
pub mod mirror;
mod obtain;
pub mod passed;
pub mod progress;
pub mod resolve;
pub mod space;
pub mod upstreams;
pub mod want;

use crate::names::Names;
use crate::shared::lock;
use bytes::Bytes;
use config::CacheConfig;
use contracts::{
    assignment::ImageRef,
    status::{CacheState, CacheStatus, Fetching},
};
use fetch::Limiter;
use folder::{Folder, FolderError};
use obtain::Sources;
use progress::Progress;
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore};
use want::Object;

/// A file that a machine was sent so lately stays: the machine may come back for the rest.
const BUSY: Duration = Duration::from_secs(2 * 3600);
/// Files that are remembered as sent lately.
const MOST_BUSY: usize = 512;

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Its folder.
    #[error("the cache's folder cannot be used")]
    Folder(#[from] FolderError),
    /// `check`: there is nothing to begin with.
    #[error("no upstream has a repository that verifies, and the cache is empty")]
    NoUpstream,
    /// The HTTP client.
    #[error("cannot make the HTTP client for `upstreams`")]
    Client(#[source] reqwest::Error),
}

/// What the other parts of netboot see of the cache.
#[derive(Debug)]
pub struct Cache {
    /// Its folder.
    pub folder: Folder,
    /// Counts and limits what is fetched.
    pub limiter: Arc<Limiter>,
    /// The upstreams.
    sources: Mutex<Arc<Sources>>,
    names: Arc<Names>,
    /// Without a disk: what passes through, by path, and what it is for.
    streamed: Mutex<HashMap<String, (Object, String)>>,
    /// Without a disk: boot images, by path.
    memory: Mutex<HashMap<String, Bytes>>,
    /// Transfers that may pass through.
    places: Arc<Semaphore>,
    /// False without a disk.
    on_disk: bool,
    /// The timestamp of what is fetched or served.
    goal: Mutex<Option<Vec<u8>>>,
    /// Rings when assignments have changed.
    bell: Notify,
    view: Mutex<CacheStatus>,
    progress: Mutex<Option<Arc<Progress>>>,
    /// The fastest that was seen: what the line can do when nothing limits it.
    line: Mutex<Option<u64>>,
    /// What may be offered, or why not.
    ready: Mutex<HashMap<ImageRef, Result<(), String>>>,
    busy: Mutex<HashMap<String, Instant>>,
}

impl Cache {
    /// Takes over other settings. How fast things are fetched changes at once, the rest with the next round.
    pub fn reconfigure(&self, config: &CacheConfig) {
        self.limiter.set_schedule(config.bandwidth.clone());
        let old = self.sources();
        if old.urls == config.upstreams || config.upstreams.is_empty() {
            return;
        }
        match Sources::new(&config.upstreams, Arc::clone(&self.limiter), &self.names) {
            Ok(new) => {
                *lock(&self.sources) = Arc::new(new.remember(&old));
                // What was begun at the old ones is gone on with at the new ones.
                self.bell.notify_one();
            }
            Err(error) => tracing::error!("the upstreams stay as they are: {}", crate::boot_files::chain(&error)),
        }
    }

    /// The upstreams in force. Take them once for each piece of work: their numbers belong together.
    fn sources(&self) -> Arc<Sources> {
        Arc::clone(&lock(&self.sources))
    }

    /// Prepares the folder; nothing is fetched yet.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn open(folder: &Path, config: &CacheConfig, names: &Arc<Names>) -> Result<Self, CacheError> {
        let limiter = Arc::new(Limiter::new(config.bandwidth.clone()));
        let sources = Sources::new(&config.upstreams, Arc::clone(&limiter), names)?;
        let view = CacheStatus { on_disk: config.on_disk, bytes_most: config.size, ..CacheStatus::default() };
        Ok(Self {
            folder: Folder::open(folder)?,
            limiter,
            sources: Mutex::new(Arc::new(sources)),
            names: Arc::clone(names),
            streamed: Mutex::default(),
            memory: Mutex::default(),
            places: Arc::new(Semaphore::new(passed::MOST)),
            on_disk: config.on_disk,
            goal: Mutex::default(),
            bell: Notify::new(),
            view: Mutex::new(view),
            progress: Mutex::default(),
            line: Mutex::default(),
            ready: Mutex::default(),
            busy: Mutex::default(),
        })
    }

    /// The assignments are others now.
    pub fn assignments_changed(&self) {
        self.bell.notify_one();
    }

    /// A file turned out to be damaged: it goes, and is fetched again.
    pub fn discard(&self, path: &str) {
        tracing::error!("{path} is damaged on the cache's disk, and is fetched again");
        if let Err(error) = self.folder.remove(path) {
            tracing::error!("{}", crate::boot_files::chain(&error));
        }
        self.bell.notify_one();
    }

    /// A machine asked for something that is not here: what is fetched may be fetched faster.
    pub fn machine_waits(&self) {
        self.limiter.machine_waits(OffsetDateTime::now_utc());
    }

    /// Whether machines may be given an image: all of it is here.
    ///
    /// # Errors
    /// Why not, in a sentence for people.
    pub fn offer(&self, image: &ImageRef) -> Result<(), String> {
        let ready = lock(&self.ready).get(image).cloned();
        match ready {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(self.fetching().map_or(why, |fetching| sentence(&fetching))),
            None => Err(self.fetching().map_or_else(|| "it is not here yet".into(), |fetching| sentence(&fetching))),
        }
    }

    /// A machine is sent a file.
    pub fn note_served(&self, path: &str) {
        let mut busy = lock(&self.busy);
        if busy.len() >= MOST_BUSY {
            busy.retain(|_, at| at.elapsed() < BUSY);
        }
        if busy.len() < MOST_BUSY || busy.contains_key(path) {
            busy.insert(path.to_owned(), Instant::now());
        }
    }

    /// When a file was last used, as far as is known.
    fn used(&self, file: &folder::Found) -> SystemTime {
        let at = lock(&self.busy).get(&file.path).copied();
        at.and_then(|at| SystemTime::now().checked_sub(at.elapsed())).unwrap_or(file.modified).max(file.modified)
    }

    /// Files that machines were sent lately.
    fn busy(&self) -> Vec<String> {
        lock(&self.busy).iter().filter(|(_, at)| at.elapsed() < BUSY).map(|(path, _)| path.clone()).collect()
    }

    /// A transfer has ended.
    fn note_line(&self, progress: &Progress) {
        let mut line = lock(&self.line);
        *line = progress.average().max(*line);
    }

    /// What is being fetched.
    fn fetching(&self) -> Option<Fetching> {
        let progress = lock(&self.progress).clone()?;
        let (seen, now) = (progress.snapshot(), OffsetDateTime::now_utc());
        let limiter = &self.limiter;
        let waits = limiter.is_waited_for(now);
        let schedule = limiter.schedule();
        let limit = schedule.limit(now, waits);
        let line = {
            let mut line = lock(&self.line);
            *line = seen.rate.max(*line).filter(|rate| *rate > 0);
            // A limit hides what the line could do.
            limit.map_or(*line, |limit| line.map(|line| line.max(limit)))
        };
        let left = seen.bytes.saturating_sub(seen.done);
        let slow = |line: u64| if limit.is_none() { seen.rate.unwrap_or(line).max(1) } else { line };
        let eta_seconds = line.map(|line| schedule.expected(now, left, slow(line), waits).as_secs());
        Some(Fetching {
            what: seen.what,
            bytes: seen.bytes,
            done: seen.done,
            reused: seen.reused,
            rate: seen.rate.unwrap_or_default(),
            limit,
            eta_seconds,
            machine_waits: waits,
        })
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        let fetching = self.fetching();
        let mut view = lock(&self.view).clone();
        if let Some(fetching) = &fetching
            && view.state != CacheState::Waiting
        {
            view.state = CacheState::Fetching;
            view.message = sentence(fetching);
        }
        view.upstreams = self.sources().status();
        if !self.on_disk && view.state == CacheState::Complete {
            view.message = self.time_through(&view);
        }
        CacheStatus { fetching, ..view }
    }

    /// How long an installation takes without a disk, as far as the line is known.
    fn time_through(&self, view: &CacheStatus) -> String {
        let (now, limiter) = (OffsetDateTime::now_utc(), &self.limiter);
        let schedule = limiter.schedule();
        let line = (*lock(&self.line)).or(schedule.limit(now, true));
        let each = view.images.iter().map(|image| {
            let time = line.map(|line| schedule.expected(now, image.bytes, line, true).as_secs().div_ceil(60));
            let time = time.map(|minutes| format!(", about {minutes} minutes")).unwrap_or_default();
            format!("{} {} ({} MB{time})", image.template, image.version, image.bytes.div_ceil(1_000_000))
        });
        let each: Vec<_> = each.collect();
        format!("there is no disk for a cache: images come through from the region: {}", each.join("; "))
    }

    fn show(&self, change: impl FnOnce(&mut CacheStatus)) {
        change(&mut lock(&self.view));
    }
}

/// `k8s-worker 2 is being fetched: 43 % of 640 MB, about 12 minutes left`.
fn sentence(fetching: &Fetching) -> String {
    let percent = fetching.done.saturating_mul(100).checked_div(fetching.bytes).unwrap_or(100);
    let left = match fetching.eta_seconds {
        None => String::new(),
        Some(seconds) if seconds < 90 => format!(", about {seconds} seconds left"),
        Some(seconds) if seconds < 90 * 60 => format!(", about {} minutes left", seconds.div_ceil(60)),
        Some(seconds) => format!(", about {} hours left", seconds.div_ceil(3600)),
    };
    format!("{} is being fetched: {percent} % of {} MB{left}", fetching.what, fetching.bytes.div_ceil(1_000_000))
}
