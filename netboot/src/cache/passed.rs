//! Without a disk: what is large goes from an upstream through to the machine, or into memory, and stays nowhere.

use super::{
    Cache,
    fetch::Body,
    obtain::Sources,
    progress::Progress,
    upstreams::Fault,
    want::{Judge, LARGEST_DOCUMENT, Object},
};
use crate::{boot_files::chain, proto::http::Validators, shared::lock};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::OwnedSemaphorePermit;

/// Transfers that pass through at a time; a slow line is not made faster by more.
pub const MOST: usize = 8;
/// A machine is not kept waiting for the next byte for longer: it asks again by itself, and shows why it waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between tries when all upstreams are left alone.
const NAP: Duration = Duration::from_millis(500);

/// True for what is not kept without a disk.
#[must_use]
pub fn is_large(object: &Object) -> bool {
    matches!(object.judge, Judge::Chunks(_)) || object.bytes > LARGEST_DOCUMENT
}

/// An object that passes through.
#[derive(Debug)]
pub struct Passed {
    cache: Arc<Cache>,
    object: Object,
    what: String,
    /// It is in memory anyway.
    memory: Option<Bytes>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Too many pass through already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} transfers pass through already; ask again in a minute")]
pub struct Busy;

impl Cache {
    /// The object of this path, when it is one that passes through; `None` for what is looked for on the disk.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn pass(self: &Arc<Self>, path: &str) -> Result<Option<Passed>, Busy> {
        let Some((object, what)) = lock(&self.streamed).get(path).cloned() else { return Ok(None) };
        let memory = lock(&self.memory).get(path).cloned();
        let permit = match memory {
            Some(_) => None,
            None => Some(Arc::clone(&self.places).try_acquire_owned().map_err(|_| Busy)?),
        };
        Ok(Some(Passed { cache: Arc::clone(self), object, what, memory, permit }))
    }

    /// The object of this path, when it is one that passes through.
    #[must_use]
    pub fn streams(&self, path: &str) -> Option<Object> {
        lock(&self.streamed).get(path).map(|(object, _)| object.clone())
    }

    /// A whole object, verified, in memory. It comes when the line lets it: whoever has something better to do drops this.
    pub async fn in_memory(self: &Arc<Self>, object: &Object, what: &str) -> Bytes {
        if let Some(bytes) = lock(&self.memory).get(&object.path) {
            return bytes.clone();
        }
        loop {
            let passed = Passed {
                cache: Arc::clone(self),
                object: object.clone(),
                what: what.to_owned(),
                memory: None,
                permit: None,
            };
            let mut bytes = Vec::with_capacity(usize::try_from(object.bytes).unwrap_or_default());
            let mut pieces = std::pin::pin!(passed.body(0, object.bytes));
            while let Some(Ok(piece)) = pieces.next().await {
                bytes.extend_from_slice(&piece);
            }
            if bytes.len() as u64 == object.bytes {
                let bytes = Bytes::from(bytes);
                lock(&self.memory).insert(object.path.clone(), bytes.clone());
                return bytes;
            }
        }
    }
}

impl Passed {
    /// For HTTP's conditions. The digest names the content, whichever upstream it comes from.
    #[must_use]
    pub fn validators(&self) -> Validators {
        let digest = match &self.object.judge {
            Judge::Whole(digest) => hex::encode(digest),
            Judge::Chunks(archive) => archive.header_sha256.clone(),
        };
        Validators { length: self.object.bytes, etag: format!("\"{digest}\""), modified: SystemTime::UNIX_EPOCH }
    }

    /// The bytes from `from` on. A target that is passed through whole is checked before its last piece goes out; the
    /// chunks of archives are checked by the machine.
    pub fn body(self, from: u64, length: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
        if let Some(bytes) = &self.memory {
            let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.slice(at(from)..at(from.saturating_add(length)));
            return stream::once(async move { Ok(part) }).left_stream();
        }
        let progress = Arc::new(Progress::new(self.what, self.object.bytes, from));
        *lock(&self.cache.progress) = Some(Arc::clone(&progress));
        let whole = from == 0 && length == self.object.bytes;
        let hasher = matches!(self.object.judge, Judge::Whole(_)).then(Sha256::new).filter(|_| whole);
        let transfer = Transfer {
            cache: self.cache,
            object: self.object,
            at: from,
            end: from.saturating_add(length),
            body: None,
            hasher,
            progress,
            moved: Instant::now(),
            _permit: self.permit,
        };
        let next = |mut transfer: Transfer| async move {
            let item = transfer.next().await?;
            // After an error comes nothing more.
            if item.is_err() {
                transfer.at = transfer.end;
            }
            Some((item, transfer))
        };
        stream::unfold(transfer, next).right_stream()
    }
}

/// An upstream: its list, and its place there.
type Origin = (Arc<Sources>, usize);

struct Transfer {
    cache: Arc<Cache>,
    object: Object,
    at: u64,
    end: u64,
    /// Which upstream, what comes from it, and how much of that lies before what is wanted.
    body: Option<(Origin, Body, u64)>,
    hasher: Option<Sha256>,
    progress: Arc<Progress>,
    moved: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Transfer {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        while self.at < self.end {
            self.cache.machine_waits();
            let Some((from, mut body, skip)) = self.body.take() else {
                if self.moved.elapsed() > PATIENCE {
                    return Some(Err(io::Error::other("no upstream delivers")));
                }
                self.open().await;
                continue;
            };
            match body.next().await {
                Ok(Some(mut piece)) => {
                    let cut = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
                    let _ = piece.split_to(cut);
                    self.body = Some((from.clone(), body, skip - cut as u64));
                    let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
                    piece.truncate(left);
                    if piece.is_empty() {
                        continue;
                    }
                    self.at += piece.len() as u64;
                    self.moved = Instant::now();
                    self.progress.fetched(piece.len() as u64);
                    if let Err(error) = self.judge(&from, &piece) {
                        return Some(Err(error));
                    }
                    return Some(Ok(piece));
                }
                Ok(None) => {
                    let text = format!("{} ends after {} of {} bytes", body.name(), self.at, self.object.bytes);
                    from.0.bad(from.1, Fault::Behind(text));
                }
                Err(error) => from.0.bad(from.1, Fault::Failed(chain(&error))),
            }
        }
        None
    }

    /// The last piece of a whole target goes out only when all of it is what was signed.
    fn judge(&mut self, (sources, index): &Origin, piece: &[u8]) -> io::Result<()> {
        let Some(hasher) = &mut self.hasher else { return Ok(()) };
        hasher.update(piece);
        if self.at < self.end {
            return Ok(());
        }
        if self.object.judge == Judge::Whole(std::mem::take(hasher).finalize().into()) {
            return Ok(());
        }
        let text = format!("{} has other bytes than were signed: its SHA-256 is another one", self.object.path);
        sources.bad(*index, Fault::Lied(text));
        Err(io::Error::other("an upstream sent other bytes than were signed"))
    }

    async fn open(&mut self) {
        let sources = self.cache.sources();
        let usable = lock(&sources.health).usable(Instant::now());
        let Some(index) = usable.first().copied() else {
            tokio::time::sleep(NAP).await;
            return;
        };
        let base = &sources.urls[index];
        let range = (self.at, (self.end < self.object.bytes).then_some(self.end - 1));
        let mut opened = sources.fetcher.open(base, &self.object.path, range, None).await;
        if let (Err(super::fetch::FetchError::Missing(_)), Some(other)) = (&opened, &self.object.other) {
            opened = sources.fetcher.open(base, other, range, None).await;
        }
        match opened {
            Ok(body) => {
                let skip = self.at - body.at.min(self.at);
                self.body = Some(((sources, index), body, skip));
            }
            Err(error) => sources.bad(index, Fault::Failed(chain(&error))),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.cache.note_line(&self.progress);
        let mut shown = lock(&self.cache.progress);
        if shown.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, &self.progress)) {
            *shown = None;
        }
    }
}
