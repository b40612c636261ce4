//! The mirror's round: ask the upstreams, work out what is needed, fetch it, and only then serve the metadata that leads to
//! it. What was served before is served until then.

use super::{
    Cache,
    config::CacheConfig,
    download,
    metadata::{self, Freshness, MetadataError, Verified, moment},
    obtain::{Obstacle, Sources, obtain},
    passed,
    progress::Progress,
    resolve::{Announcements, Plan, resolve, unique},
    space::{self, Room},
    upstreams::Fault,
    want::{Judge, Object, Wanted},
};
use crate::{
    boot_files::chain,
    boot_watch,
    shared::{Shared, lock},
};
use contracts::{
    assignment::ImageRef,
    status::{CacheState, CachedImage},
};
use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// Each so many rounds all upstreams are asked, so that one that shows an old state cannot hide a new one.
const ASK_ALL_EVERY: u32 = 12;
/// How often what is here is read from end to end: disks forget, and an archive that did would stop every installation.
const READ_EVERY: Duration = Duration::from_secs(24 * 3600);
const LARGEST_TIMESTAMP: u64 = 1 << 20;

/// The mirror's own memory. What it forgets when it is dropped in the middle is found again on the disk.
struct Mirror {
    cache: Arc<Cache>,
    config: CacheConfig,
    store: String,
    trust: PathBuf,
    datastore: PathBuf,
    /// What is served.
    current: Option<Arc<Verified>>,
    /// What an upstream has that is newer.
    candidate: Option<Arc<Verified>>,
    seen: HashMap<(String, String), OffsetDateTime>,
    rounds: u32,
    /// When the archives were last read from end to end.
    read: Option<Instant>,
}

/// Runs until told to stop.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let Some(cache) = shared.cache.clone() else { return };
    let config = shared.config.now();
    let mut mirror = Mirror {
        cache: Arc::clone(&cache),
        config: config.cache.clone(),
        store: shared.credential.store.clone(),
        trust: config.trust.clone(),
        datastore: config.state.join("tuf-upstream"),
        current: None,
        candidate: None,
        seen: HashMap::new(),
        rounds: 0,
        read: None,
    };
    mirror.load().await;
    let mut noticed = HashMap::new();
    loop {
        let images = boot_watch::images(&shared);
        let reload = shared.config.now();
        mirror.config = reload.cache.clone();
        let pause = tokio::select! {
            () = stop.cancelled() => return,
            () = cache.bell.notified() => Duration::ZERO,
            pause = mirror.round(&images) => pause,
            // Something newer came out while the last one is still being fetched: it may be a fix that cannot wait.
            () = news(&cache, config.cache.check_every, &mut noticed) => Duration::ZERO,
        };
        *lock(&cache.progress) = None;
        mirror.show();
        tokio::select! {
            () = stop.cancelled() => return,
            () = cache.bell.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Returns when an upstream shows a state that is not the one that is being fetched, once for each. Transfers that take
/// hours are not in its way.
async fn news(cache: &Cache, every: Duration, noticed: &mut HashMap<usize, Vec<u8>>) {
    loop {
        tokio::time::sleep(every.mul_f64(rand::random_range(1.0..=1.5))).await;
        let sources = cache.sources();
        let usable = lock(&sources.health).usable(Instant::now());
        let Some((index, base)) = usable.first().and_then(|index| Some((*index, sources.urls.get(*index)?))) else {
            continue;
        };
        let asked = sources.fetcher.small(base, contracts::repository::TIMESTAMP, LARGEST_TIMESTAMP).await;
        let (Ok(now), Some(goal)) = (asked, lock(&cache.goal).clone()) else { continue };
        if now != goal && noticed.get(&index) != Some(&now) {
            noticed.insert(index, now);
            return;
        }
    }
}

impl Mirror {
    fn root(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.trust).map_err(|error| format!("cannot read {}: {error}", self.trust.display()))
    }

    /// What an earlier run left.
    async fn load(&mut self) {
        if !self.cache.folder.place("metadata").exists() {
            return;
        }
        let Ok(root) = self.root() else { return };
        match metadata::open(&self.cache.folder.path, &root, Some(&self.datastore.with_extension("served"))).await {
            Ok(verified) => self.current = Some(Arc::new(verified)),
            Err(error) => {
                tracing::error!("what the cache holds is not believed, it is fetched anew: {}", chain(&error))
            }
        }
    }

    /// One round. Gives the pause until the next.
    async fn round(&mut self, images: &[ImageRef]) -> Duration {
        if let Some(current) = self.current.clone() {
            let plan = self.resolve(&current, images);
            self.note_ready(&plan);
        }
        self.look().await;
        let pause = match self.work(images).await {
            Ok(due) => {
                let now = OffsetDateTime::now_utc();
                let due = due.map(|due| Duration::try_from(due - now).unwrap_or_default());
                let checks = self.config.check_every.mul_f64(rand::random_range(0.5..=1.0));
                due.map_or(checks, |due| due.min(checks))
            }
            Err(obstacle) => {
                self.explain(&obstacle);
                self.config.check_every
            }
        };
        pause.max(Duration::from_millis(200))
    }

    /// What lies in the folder when it is here: everything, or without a disk what is small.
    fn keeps(&self, object: &Object) -> bool {
        self.cache.on_disk || !passed::is_large(object)
    }

    fn explain(&self, obstacle: &Obstacle) {
        let message = chain(obstacle);
        if self.cache.status().message != message {
            tracing::error!(code = "cache-incomplete", "the cache is not complete: {message}");
        }
        let full = match obstacle {
            Obstacle::Room { .. } => true,
            Obstacle::Disk(error) => error.is_full(),
            Obstacle::Image(_) => false,
        };
        self.cache.show(|view| {
            view.state = if full { CacheState::Full } else { CacheState::Waiting };
            view.message = message;
        });
    }

    fn resolve(&mut self, verified: &Verified, images: &[ImageRef]) -> Plan {
        let mut about = Announcements {
            store: &self.store,
            seen: &mut self.seen,
            lead: self.config.lead,
            spread: self.config.spread,
            now: OffsetDateTime::now_utc(),
        };
        resolve(&self.cache.folder, &verified.targets, images, &mut about)
    }

    /// Lets the other parts know what may be offered.
    fn note_ready(&self, plan: &Plan) {
        let here = |object: &Object| !self.keeps(object) || self.cache.folder.has(object);
        let complete = |wanted: &Wanted| wanted.objects.iter().all(here);
        let missing = || Err("it is not here yet".to_owned());
        let ready = plan.meaning.iter().map(|(image, meaning)| {
            let verdict = match meaning {
                Err(why) => Err(why.clone()),
                Ok((template, version)) => {
                    let is_it = |wanted: &&Wanted| wanted.template == *template && wanted.version == *version;
                    if plan.assigned.iter().find(is_it).is_some_and(complete) { Ok(()) } else { missing() }
                }
            };
            (image.clone(), verdict)
        });
        *lock(&self.cache.ready) = ready.collect();
        let shown = plan.assigned.iter().chain(&plan.announced).map(|wanted| CachedImage {
            template: wanted.template.clone(),
            version: wanted.version.clone(),
            due: wanted.due,
            bytes: wanted.objects.iter().map(|object| object.bytes).sum(),
            complete: complete(wanted),
        });
        let images = shown.collect();
        let mut streamed = HashMap::new();
        for wanted in &plan.assigned {
            for object in wanted.objects.iter().filter(|object| !self.keeps(object)) {
                let what = format!("{} {}", wanted.template, wanted.version);
                streamed.insert(object.path.clone(), (object.clone(), what));
            }
        }
        lock(&self.cache.memory).retain(|path, _| streamed.contains_key(path));
        *lock(&self.cache.streamed) = streamed;
        self.cache.show(|view| view.images = images);
    }

    /// Asks the upstreams for something newer.
    async fn look(&mut self) {
        self.rounds = self.rounds.wrapping_add(1);
        let now = OffsetDateTime::now_utc();
        let fresh = |verified: &Arc<Verified>| verified.expiry.freshness(now, Duration::ZERO) == Freshness::Fresh;
        let all = self.rounds.is_multiple_of(ASK_ALL_EVERY) || !self.current.as_ref().is_some_and(fresh);
        let sources = self.cache.sources();
        let usable = lock(&sources.health).usable(Instant::now());
        for index in usable {
            match self.ask(&sources, index).await {
                Ok(newer) => {
                    lock(&sources.health).good(index);
                    self.cache.show(|view| view.checked = Some(OffsetDateTime::now_utc()));
                    let best = self.candidate.as_ref().or(self.current.as_ref());
                    if let Some(newer) = newer.filter(|newer| best.is_none_or(|best| newer.is_newer_than(best))) {
                        let url = &sources.urls[index];
                        let (upstream, version) = (url.as_str(), newer.version);
                        tracing::info!(
                            upstream,
                            version,
                            "the upstream {url} has version {version} of the repository, verified"
                        );
                        self.candidate = Some(Arc::new(newer));
                    }
                    if !all {
                        return;
                    }
                }
                Err(fault) => sources.bad(index, fault),
            }
        }
    }

    /// Asks one upstream. `None` when it has what is known already.
    async fn ask(&self, sources: &Sources, index: usize) -> Result<Option<Verified>, Fault> {
        let (fetcher, base) = (&sources.fetcher, &sources.urls[index]);
        let timestamp = fetcher.small(base, contracts::repository::TIMESTAMP, LARGEST_TIMESTAMP).await;
        let timestamp = timestamp.map_err(|error| Fault::Failed(chain(&error)))?;
        for known in self.candidate.iter().chain(&self.current) {
            let next_root = format!("metadata/{}.root.json", known.root_version + 1);
            if known.files.get("timestamp.json") == Some(&timestamp) {
                match fetcher.small(base, &next_root, LARGEST_TIMESTAMP).await {
                    Err(super::fetch::FetchError::Missing(_)) => return Ok(None),
                    Err(error) => return Err(Fault::Failed(chain(&error))),
                    Ok(_) => {}
                }
            }
        }
        let known = self.current.as_ref().map_or_else(BTreeMap::new, |known| known.files.clone());
        let root = self.root().map_err(Fault::Failed)?;
        let fetched = metadata::fetch(fetcher, base, &root, &self.datastore, &known).await;
        let verified = fetched.map_err(|error| match &error {
            MetadataError::Fetch(_) | MetadataError::Datastore(..) => Fault::Failed(chain(&error)),
            MetadataError::Verify(_) if error.is_rollback() => {
                Fault::Behind(format!("it went back: {}", chain(&error)))
            }
            MetadataError::Verify(_) => Fault::Lied(format!("its metadata: {}", chain(&error))),
        })?;
        if self.current.as_ref().is_some_and(|current| verified.version < current.version) {
            let text =
                format!("it has version {} of the repository, which is older than what is here", verified.version);
            return Err(Fault::Behind(text));
        }
        if let Freshness::TooOld { since } = verified.expiry.freshness(OffsetDateTime::now_utc(), self.config.stale) {
            return Err(Fault::Behind(format!("its metadata has expired {}: is it frozen?", moment(since))));
        }
        Ok(Some(verified))
    }

    /// Fetches what is missing, and switches. Gives the time at which an announced version is due.
    async fn work(&mut self, images: &[ImageRef]) -> Result<Option<OffsetDateTime>, Obstacle> {
        let Some(goal) = self.candidate.clone().or_else(|| self.current.clone()) else {
            self.cache.show(|view| {
                view.state = CacheState::Waiting;
                view.message = "no upstream has been reached yet, and nothing is here".into();
            });
            return Ok(None);
        };
        *lock(&self.cache.goal) = goal.files.get("timestamp.json").cloned();
        let plan = loop {
            let plan = self.resolve(&goal, images);
            let Some(document) = &plan.missing else { break plan };
            let progress = Progress::new("the list of images", document.bytes, 0);
            obtain(&self.cache, document, &progress).await?;
        };
        let what: Vec<_> = plan.assigned.iter().map(|image| format!("{} {}", image.template, image.version)).collect();
        let what = if what.is_empty() { "the repository".to_owned() } else { what.join(", ") };
        let needed: Vec<Object> = plan.needed().into_iter().filter(|object| self.keeps(object)).collect();
        self.fetch(&what, &needed, &plan).await?;
        if self.candidate.take().is_some() {
            if let Err(error) = self.cache.folder.publish(&goal.files) {
                self.candidate = Some(goal);
                return Err(Obstacle::Disk(error));
            }
            tracing::info!(version = goal.version, "version {} of the repository is served now", goal.version);
            self.current = Some(Arc::clone(&goal));
        }
        self.note_ready(&plan);
        self.show();
        if self.cache.on_disk && self.read.is_none_or(|read| read.elapsed() > READ_EVERY) {
            self.read_again(&plan).await?;
            self.fetch(&what, &needed, &plan).await?;
            self.note_ready(&plan);
            self.read = Some(Instant::now());
        }
        let now = OffsetDateTime::now_utc();
        let mut next = None;
        for wanted in &plan.announced {
            let due = wanted.due.unwrap_or(now);
            if due > now {
                next = Some(next.map_or(due, |next: OffsetDateTime| next.min(due)));
                continue;
            }
            let objects = unique(wanted.objects.iter().filter(|object| self.keeps(object)));
            let what = format!("{} {} (announced)", wanted.template, wanted.version);
            match self.fetch(&what, &objects, &plan).await {
                // What machines need now is here: that is what counts.
                Err(obstacle @ (Obstacle::Room { .. } | Obstacle::Image(_))) => {
                    tracing::warn!("{what} is not fetched: {}", chain(&obstacle));
                }
                other => other?,
            }
            self.note_ready(&plan);
        }
        self.sweep(&plan);
        Ok(next)
    }

    /// Fetches those of these that are not here.
    async fn fetch(&mut self, what: &str, objects: &[Object], plan: &Plan) -> Result<(), Obstacle> {
        let folder = &self.cache.folder;
        let missing: Vec<&Object> = objects.iter().filter(|object| !folder.has(object)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let all: u64 = objects.iter().map(|object| object.bytes).sum();
        let left: u64 = missing.iter().map(|object| object.bytes).sum();
        self.make_room(what, &missing, plan)?;
        let progress = Arc::new(Progress::new(what, all, all - left));
        *lock(&self.cache.progress) = Some(Arc::clone(&progress));
        for object in missing {
            obtain(&self.cache, object, &progress).await?;
        }
        self.cache.note_line(&progress);
        let seen = progress.snapshot();
        tracing::info!(
            image = what,
            bytes = left,
            fetched = seen.fetched,
            reused = seen.reused,
            "{what} is here: {left} bytes, of which {} came over the line and {} were in older images",
            seen.fetched,
            seen.reused
        );
        *lock(&self.cache.progress) = None;
        Ok(())
    }

    /// Reads every archive; one that is damaged is not offered any more, and fetched from there on.
    async fn read_again(&self, plan: &Plan) -> Result<(), Obstacle> {
        for object in plan.assigned.iter().flat_map(|wanted| &wanted.objects) {
            let Judge::Chunks(archive) = object.judge.clone() else { continue };
            let place = self.cache.folder.place(&object.path);
            let sound = tokio::task::spawn_blocking(move || download::is_sound(&place, &archive)).await;
            if matches!(sound, Ok(false)) && self.cache.folder.has(object) {
                tracing::error!("{} is damaged on the cache's disk, and is fetched again", object.path);
                self.cache.folder.demote(object).map_err(Obstacle::Disk)?;
                self.note_ready(plan);
            }
        }
        Ok(())
    }

    fn make_room(&mut self, what: &str, missing: &[&Object], plan: &Plan) -> Result<(), Obstacle> {
        let current = self.current.clone();
        let folder = self.cache.folder.clone();
        let mut kept = plan.paths(&folder);
        if let Some(current) = current {
            let images: Vec<ImageRef> = plan.meaning.keys().cloned().collect();
            kept.extend(self.resolve(&current, &images).paths(&folder));
        }
        kept.extend(self.cache.busy());
        let files = folder.list().map_err(Obstacle::Disk)?;
        let here = |object: &&Object| std::fs::metadata(folder.partial(object)).map_or(0, |found| found.len());
        let needed = missing.iter().map(|object| object.bytes.saturating_sub(here(object))).sum();
        let room = Room { most: self.config.size, free: folder.free() };
        let used = |file: &super::folder::Found| self.cache.used(file);
        let gone = space::plan(&files, &kept, used, needed, room)
            .map_err(|why| Obstacle::Room { what: what.to_owned(), why })?;
        for path in gone {
            tracing::info!("{path} is given up, so that {what} has room");
            folder.remove(&path).map_err(Obstacle::Disk)?;
        }
        Ok(())
    }

    /// Partial files that nobody wants any more.
    fn sweep(&self, plan: &Plan) {
        let kept = plan.paths(&self.cache.folder);
        let Ok(files) = self.cache.folder.list() else { return };
        for file in files.iter().filter(|file| file.path.starts_with(".partial/") && !kept.contains(&file.path)) {
            let _ = self.cache.folder.remove(&file.path);
        }
    }

    /// Tells people how it stands.
    fn show(&self) {
        let now = OffsetDateTime::now_utc();
        let bytes = self.cache.folder.list().map_or(0, |files| files.iter().map(|file| file.bytes).sum());
        let current = self.current.clone();
        let complete = self.candidate.is_none() && lock(&self.cache.ready).values().all(Result::is_ok);
        self.cache.show(|view| {
            view.bytes = bytes;
            let Some(current) = current else { return };
            view.version = Some(current.version);
            view.valid_until =
                OffsetDateTime::from_unix_timestamp(current.expiry.fresh.min(current.expiry.lasting)).ok();
            match current.expiry.freshness(now, self.config.stale) {
                Freshness::TooOld { since } => {
                    view.state = CacheState::Expired;
                    view.message =
                        format!("what images are verified by has expired {}: none is offered", moment(since));
                }
                Freshness::Stale { since, until } => {
                    view.state = CacheState::Stale;
                    view.message = format!(
                        "what images are verified by has expired {}; it is still used until {}",
                        moment(since),
                        moment(until)
                    );
                }
                Freshness::Fresh if complete => {
                    view.state = CacheState::Complete;
                    view.message = "everything that is assigned is here".into();
                }
                Freshness::Fresh => {}
            }
        });
    }
}

impl Verified {
    /// True when it is of a later version, or of a later root.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.version, self.root_version) > (other.version, other.root_version)
            && self.root_version >= other.root_version
    }
}
