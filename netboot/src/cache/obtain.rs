//! Getting an object from whichever upstream has it.

use super::{
    Cache, CacheError,
    download::{DownloadError, Way},
    fetch::{FetchError, Fetcher, Limiter},
    folder::FolderError,
    progress::Progress,
    upstreams::{Fault, Upstreams},
    want::{Judge, Object},
};
use crate::{boot_files::chain, names::Names, shared::lock};
use contracts::status::{CacheState, UpstreamStatus};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Instant,
};
use url::Url;

/// After this much, a connection that breaks is a line that breaks, and not an upstream that does not work.
const GOOD_PIECE: u64 = 64 << 10;

/// What no upstream can help with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    /// Our own disk.
    #[error(transparent)]
    Disk(FolderError),
    /// What was signed makes no sense.
    #[error("{0}")]
    Image(String),
    /// There is no room.
    #[error("{what}: {why}")]
    Room {
        /// What for.
        what: String,
        /// Why.
        why: super::space::NoRoom,
    },
}

/// The upstreams, how they are, and the way to them. SIGHUP exchanges all of it; what is under way ends with the old ones.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) urls: Vec<Url>,
    pub(super) fetcher: Fetcher,
    pub(super) health: Mutex<Upstreams>,
}

impl Sources {
    pub(super) fn new(urls: &[Url], limiter: Arc<Limiter>, names: &Arc<Names>) -> Result<Self, CacheError> {
        let fetcher = Fetcher::new(urls, limiter, names).map_err(CacheError::Client)?;
        let health = Mutex::new(Upstreams::new(urls.len()));
        Ok(Self { urls: urls.to_vec(), fetcher, health })
    }

    /// Takes over what is known of those that stay.
    pub(super) fn remember(self, old: &Self) -> Self {
        let before: Vec<_> = self.urls.iter().map(|url| old.urls.iter().position(|other| other == url)).collect();
        *lock(&self.health) = lock(&old.health).rearranged(&before);
        self
    }

    pub(super) fn status(&self) -> Vec<UpstreamStatus> {
        let health = lock(&self.health);
        let one = |(index, url): (usize, &Url)| {
            let problem = health.fault(index).map(|fault| fault.message().to_owned());
            UpstreamStatus { url: url.to_string(), problem }
        };
        self.urls.iter().enumerate().map(one).collect()
    }

    /// Notes what is wrong with one, in the log too.
    pub(super) fn bad(&self, index: usize, fault: Fault) {
        let (url, message) = (&self.urls[index], fault.message().to_owned());
        let lied = matches!(fault, Fault::Lied(_));
        let same = lock(&self.health).fault(index).is_some_and(|before| before.message() == message);
        let wait = lock(&self.health).bad(index, fault, Instant::now(), rand::random());
        let (seconds, upstream) = (wait.as_secs(), url.as_str());
        if lied {
            tracing::error!(
                upstream,
                code = "upstream-lied",
                seconds,
                "the upstream {url} is not believed and left alone for {seconds} s: {message}"
            );
        } else if !same {
            tracing::warn!(
                upstream,
                code = "upstream-fault",
                seconds,
                "the upstream {url} is left alone for {seconds} s: {message}"
            );
        }
    }
}

/// What an upstream did wrong, when it was the upstream.
fn fault(error: DownloadError) -> Result<Fault, Obstacle> {
    let message = chain(&error);
    match error {
        DownloadError::Fetch(FetchError::Missing(_)) | DownloadError::Short(..) => Ok(Fault::Behind(message)),
        DownloadError::Fetch(_) => Ok(Fault::Failed(message)),
        DownloadError::Lied(..) => Ok(Fault::Lied(message)),
        DownloadError::Image(..) => Err(Obstacle::Image(message)),
        DownloadError::Disk(error) => Err(Obstacle::Disk(error)),
    }
}

/// Fetches an object from the first upstream that delivers it. Goes on for ever, with growing pauses: the line may come back
/// at any time, and whoever has something better to do drops this.
///
/// # Errors
/// [`Obstacle`].
pub(super) async fn obtain(cache: &Cache, object: &Object, progress: &Progress) -> Result<(), Obstacle> {
    let sources = cache.sources();
    loop {
        if cache.folder.has(object) {
            return Ok(());
        }
        let usable = lock(&sources.health).usable(Instant::now());
        for index in usable {
            let way = Way { fetcher: &sources.fetcher, base: &sources.urls[index], folder: &cache.folder, progress };
            let before = progress.snapshot().fetched;
            cache.show(|view| view.state = CacheState::Fetching);
            let Err(error) = way.fetch(object, earlier(cache, object)).await else {
                lock(&sources.health).good(index);
                progress.finished(object.bytes);
                return Ok(());
            };
            let fault = fault(error)?;
            if progress.snapshot().fetched.saturating_sub(before) > GOOD_PIECE {
                lock(&sources.health).good(index);
            }
            sources.bad(index, fault);
        }
        let wait = lock(&sources.health).wait(Instant::now());
        if !wait.is_zero() {
            cache.show(|view| {
                view.state = CacheState::Waiting;
                view.message = format!("no upstream delivers now; the next try is in {} s", wait.as_secs().max(1));
            });
            tokio::time::sleep(wait).await;
        }
    }
}

/// Archives that may share chunks with this one: all that are here.
fn earlier(cache: &Cache, object: &Object) -> Vec<PathBuf> {
    if matches!(object.judge, Judge::Whole(_)) {
        return Vec::new();
    }
    let folder = std::fs::read_dir(cache.folder.place("archives"));
    let mut found: Vec<_> = folder.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    // The newest first, and not more than can be looked through.
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().and_then(|m| m.modified()).ok()));
    found.truncate(4);
    found
}
