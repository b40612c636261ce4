//! Reading files of an upstream over HTTP, with ranges, through the bandwidth's limit.

use super::bandwidth::{Bucket, Schedule};
use crate::names::{ForHttp, Names};
use bytes::Bytes;
use reqwest::{Client, StatusCode, header};
use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use url::Url;

use crate::shared::lock;

const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// A server that sends less than this in this time, without our limit being the reason, is as good as silent.
const CRAWL: (u64, Duration) = (4 << 10, Duration::from_secs(60));
/// Waits for the bucket are cut into such pieces: the limit may change meanwhile.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// A machine that asked for something that is not here yet counts as waiting for this long.
const WAITS_FOR: time::Duration = time::Duration::minutes(5);

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No such file.
    #[error("{0} is not there")]
    Missing(String),
    /// The line.
    #[error("{0} cannot be fetched")]
    Broken(String, #[source] reqwest::Error),
    /// It goes too slowly to be called a line.
    #[error("{0} comes at less than a hundred bytes a second")]
    Crawls(String),
    /// The server's answer.
    #[error("{0} is answered with HTTP status {1}")]
    Status(String, u16),
    /// An answer to a range that is not the range.
    #[error("{0} is answered with other bytes than were asked for")]
    Range(String),
    /// More than there may be.
    #[error("{0} is longer than {1} bytes")]
    TooLong(String, u64),
    /// Not a path.
    #[error("{0:?} is not a path within a repository")]
    Path(String),
}

/// The limit that all fetching goes through.
#[derive(Debug)]
pub struct Limiter {
    schedule: RwLock<Schedule>,
    bucket: Mutex<Bucket>,
    begin: Instant,
    fetched: AtomicU64,
    /// Unix time until which a machine waits for what is fetched.
    waiting_until: AtomicI64,
}

impl Limiter {
    /// Through this schedule.
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule: RwLock::new(schedule),
            bucket: Mutex::default(),
            begin: Instant::now(),
            fetched: AtomicU64::new(0),
            waiting_until: AtomicI64::new(0),
        }
    }

    /// A machine waits for its install right now: its own limit holds for a while.
    pub fn machine_waits(&self, now: OffsetDateTime) {
        self.waiting_until.store((now + WAITS_FOR).unix_timestamp(), Ordering::Relaxed);
    }

    /// True while a machine waits.
    #[must_use]
    pub fn is_waited_for(&self, now: OffsetDateTime) -> bool {
        now.unix_timestamp() < self.waiting_until.load(Ordering::Relaxed)
    }

    /// The schedule.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        self.schedule.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Another schedule, at once.
    pub fn set_schedule(&self, schedule: Schedule) {
        *self.schedule.write().unwrap_or_else(std::sync::PoisonError::into_inner) = schedule;
    }

    /// Bytes that came through.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Counts a piece, and waits until the next one may be read. Gives the time waited.
    pub async fn pass(&self, bytes: u64) -> Duration {
        lock(&self.bucket).spend(bytes);
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
        let mut waited = Duration::ZERO;
        loop {
            let now = OffsetDateTime::now_utc();
            let limit = self.schedule().limit(now, self.is_waited_for(now));
            let wait = lock(&self.bucket).wait(self.begin.elapsed(), limit).min(LONGEST_NAP);
            if wait.is_zero() {
                return waited;
            }
            tokio::time::sleep(wait).await;
            waited += wait;
        }
    }
}

/// An HTTP client for upstreams.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    /// Counts and limits.
    pub limiter: Arc<Limiter>,
}

impl Fetcher {
    /// A client for these upstreams.
    ///
    /// # Errors
    /// When there is no TLS on this machine.
    pub fn new(upstreams: &[Url], limiter: Arc<Limiter>, names: &Arc<Names>) -> Result<Self, reqwest::Error> {
        // Says no only when it was said before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut client = Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            // What is allowed to be reached is in the configuration, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(ForHttp(Arc::clone(names)))
            .no_proxy();
        if upstreams.iter().all(|url| url.scheme() == "http") {
            // No certificate store is looked for where none is needed: many a router has none.
            client = client.tls_certs_only([]);
        }
        Ok(Self { client: client.build()?, limiter })
    }

    /// Opens a file from byte `from` to byte `to` (inclusive; `None` is its end). `etag` is the one that the beginning of
    /// the file came with: when the file has changed, it comes whole.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn open(
        &self,
        base: &Url,
        path: &str,
        (from, to): (u64, Option<u64>),
        etag: Option<&str>,
    ) -> Result<Body, FetchError> {
        if !contracts::repository::is_safe(path) {
            return Err(FetchError::Path(path.to_owned()));
        }
        let url = base.join(path).map_err(|_| FetchError::Path(path.to_owned()))?;
        let name = url.to_string();
        let ranged = from > 0 || to.is_some();
        let mut request = self.client.get(url).header(header::ACCEPT_ENCODING, "identity");
        if ranged {
            let to = to.map(|to| to.to_string()).unwrap_or_default();
            request = request.header(header::RANGE, format!("bytes={from}-{to}"));
            if let Some(etag) = etag {
                request = request.header(header::IF_RANGE, etag);
            }
        }
        let answer = request.send().await.map_err(|error| FetchError::Broken(name.clone(), error.without_url()))?;
        let at = match answer.status() {
            StatusCode::PARTIAL_CONTENT if ranged => {
                let range = answer.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let first = range.and_then(first_byte).filter(|first| *first == from);
                first.ok_or_else(|| FetchError::Range(name.clone()))?
            }
            StatusCode::OK => 0,
            // Buckets that may not be listed say 403 for what is not there.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => return Err(FetchError::Missing(name)),
            status => return Err(FetchError::Status(name, status.as_u16())),
        };
        let etag = answer.headers().get(header::ETAG).and_then(|value| value.to_str().ok());
        // RFC 9110, section 13.1.5: a weak one must not be sent in If-Range.
        let etag = etag.filter(|etag| !etag.starts_with("W/") && etag.len() < 256).map(str::to_owned);
        let limiter = Arc::clone(&self.limiter);
        Ok(Body { name, answer, limiter, at, etag, window: (Instant::now(), 0) })
    }

    /// A whole small file.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn small(&self, base: &Url, path: &str, most: u64) -> Result<Vec<u8>, FetchError> {
        let mut body = self.open(base, path, (0, None), None).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > most {
                return Err(FetchError::TooLong(body.name, most));
            }
        }
        Ok(bytes)
    }
}

/// The first number of `bytes 5-9/10`.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// A file on its way.
#[derive(Debug)]
pub struct Body {
    name: String,
    answer: reqwest::Response,
    limiter: Arc<Limiter>,
    /// Where the first byte lies in the file: what was asked for, or 0 when the whole file comes.
    pub at: u64,
    /// The file's strong tag.
    pub etag: Option<String>,
    window: (Instant, u64),
}

impl Body {
    /// The next piece.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let piece = self.answer.chunk().await;
        let piece = piece.map_err(|error| FetchError::Broken(self.name.clone(), error.without_url()))?;
        let Some(piece) = piece else { return Ok(None) };
        let bytes = piece.len() as u64;
        self.window.1 += bytes;
        if self.window.0.elapsed() > CRAWL.1 {
            if self.window.1 < CRAWL.0 {
                return Err(FetchError::Crawls(self.name.clone()));
            }
            self.window = (Instant::now(), 0);
        }
        // What was waited for our own limit is not the server's.
        self.window.0 += self.limiter.pass(bytes).await;
        Ok(Some(piece))
    }

    /// The address, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_of_answers() {
        assert_eq!(first_byte("bytes 5-9/10"), Some(5));
        assert_eq!(first_byte("bytes */10"), None);
    }

    proptest! {
        #[test]
        fn any_range_is_survived(text in ".{0,30}") {
            let _ = first_byte(&text);
        }
    }
}
