//! A web server that serves a repository, and can be broken in all the ways that matter.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use sha2::Digest as _;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// What is wrong with it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Faults {
    /// So many answers break off, each after so many bytes.
    pub(crate) cuts: (u32, usize),
    /// Files whose paths contain this have one other byte.
    pub(crate) lies_about: Option<&'static str>,
    /// Files whose paths contain this are not there.
    pub(crate) lacks: Option<&'static str>,
    /// It knows no ranges.
    pub(crate) no_ranges: bool,
    /// A pause before each 16 KiB.
    pub(crate) slow: Option<Duration>,
    /// Every answer is this status.
    pub(crate) status: Option<u16>,
}

/// A request that it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
}

#[derive(Debug)]
struct Inner {
    folder: Mutex<PathBuf>,
    faults: Mutex<Faults>,
    asked: Mutex<Vec<Asked>>,
    sent: Mutex<u64>,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Upstream {
    inner: Arc<Inner>,
    pub(crate) url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start(folder: PathBuf) -> Self {
        let inner = Inner {
            folder: Mutex::new(folder),
            faults: Mutex::default(),
            asked: Mutex::default(),
            sent: Mutex::default(),
        };
        let inner = Arc::new(inner);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/images", listener.local_addr().unwrap());
        let router = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inner, url, task }
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.inner.faults.lock().unwrap()
    }

    /// Serves another folder from now on.
    pub(crate) fn serve(&self, folder: PathBuf) {
        *self.inner.folder.lock().unwrap() = folder;
    }

    /// The requests for paths that contain this.
    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().iter().filter(|asked| asked.path.contains(part)).cloned().collect()
    }

    /// Bytes that were sent since the last time that this was asked.
    pub(crate) fn sent(&self) -> u64 {
        std::mem::take(&mut self.inner.sent.lock().unwrap())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn range(headers: &HeaderMap, length: usize) -> Option<(usize, usize)> {
    let text = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let (from, to) = text.split_once('-')?;
    let to = to.parse().unwrap_or(length - 1).min(length - 1);
    Some((from.parse().ok().filter(|from| *from <= to)?, to))
}

async fn serve(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches("/images/").to_owned();
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let asked = Asked { path: path.clone(), range: header(header::RANGE), if_range: header(header::IF_RANGE) };
    inner.asked.lock().unwrap().push(asked.clone());
    let mut faults = inner.faults.lock().unwrap().clone();
    if let Some(status) = faults.status {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let folder = inner.folder.lock().unwrap().clone();
    let Ok(mut bytes) = std::fs::read(folder.join(&path)) else { return StatusCode::NOT_FOUND.into_response() };
    if faults.lacks.is_some_and(|part| path.contains(part)) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if faults.lies_about.is_some_and(|part| path.contains(part)) {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    }
    let etag = format!("\"{}\"", &hex::encode(sha2::Sha256::digest(&bytes))[..16]);
    let changed = asked.if_range.is_some_and(|tag| tag != etag);
    let answer = Response::builder().header(header::ETAG, etag);
    let whole = bytes.len();
    let (answer, bytes) = match range(request.headers(), whole).filter(|_| !faults.no_ranges && !changed) {
        None => (answer, bytes),
        Some((from, to)) => {
            let range = format!("bytes {from}-{to}/{whole}");
            (answer.status(206).header(header::CONTENT_RANGE, range), bytes[from..=to].to_vec())
        }
    };
    let answer = answer.header(header::CONTENT_LENGTH, bytes.len());
    let cut = (faults.cuts.0 > 0 && bytes.len() > faults.cuts.1).then_some(faults.cuts.1);
    if cut.is_some() {
        inner.faults.lock().unwrap().cuts.0 -= 1;
    }
    faults.cuts.0 = 0;
    let (mut rest, slow) = (Bytes::from(bytes), faults.slow);
    let mut left = cut.unwrap_or(usize::MAX);
    let stream = async_stream(
        move || {
            if rest.is_empty() {
                return None;
            }
            if left == 0 {
                return Some(Err(std::io::Error::other("cut")));
            }
            let piece = rest.split_to(rest.len().min(16 << 10).min(left));
            left -= piece.len();
            *inner.sent.lock().unwrap() += piece.len() as u64;
            Some(Ok(piece))
        },
        slow,
    );
    answer.body(Body::from_stream(stream)).unwrap()
}

fn async_stream(
    mut next: impl FnMut() -> Option<std::io::Result<Bytes>> + Send + 'static,
    slow: Option<Duration>,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::unfold((), move |()| {
        let item = next();
        async move {
            if let Some(pause) = slow {
                tokio::time::sleep(pause).await;
            }
            // The last piece before a cut has to be out before the connection is torn down.
            if matches!(item, Some(Err(_))) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            item.map(|item| (item, ()))
        }
    })
}
