//! `/boot/TEMPLATE.efi` and the boot files of BIOS machines from memory and `/repo/…` from the repository's folder.

use super::{ApiError, Peer};
use crate::{
    beneath,
    content::Content,
    metrics::Way,
    proto::{
        http::{Conditions, Plan, Validators, plan, relative_path},
        mac::Mac,
    },
    shared::{Shared, lock},
};
use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header, response::Builder},
    response::Response,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use std::{io, sync::Arc};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

const PIECE: usize = 64 << 10;

/// Everything that is not a call of the API.
pub async fn any(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let not_found = || ApiError::new(StatusCode::NOT_FOUND, "not-found", "there is nothing of this name");
    if !matches!(method, Method::GET | Method::HEAD) {
        let message = "files can be fetched, nothing else";
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", message));
    }
    let names = relative_path(uri.path()).ok_or_else(not_found)?;
    let mac = peer.mac(&shared);
    let request = &Asked { method, headers };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["boot", name] => boot(&shared, mac, name, request).await.ok_or_else(not_found),
        ["repo", path @ ..] if !path.is_empty() => repository(&shared, mac, &path.join("/"), request).await,
        _ => Err(not_found()),
    }
}

/// A request, as far as it matters for a file.
struct Asked {
    method: Method,
    headers: HeaderMap,
}

async fn boot(shared: &Arc<Shared>, mac: Option<Mac>, name: &str, request: &Asked) -> Option<Response> {
    let file = shared.boot.get(name)?;
    let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("efi") => "application/efi",
        Some("ipxe") => "text/plain",
        _ => "application/octet-stream",
    };
    let reply = Reply::plan(request, &file.validators, kind);
    if let Some(mac) = mac.filter(|_| reply.sends_body) {
        shared.boot_file_asked(mac).await;
    }
    let from = reply.from;
    let part = file.content.slice(from..from + reply.length);
    let whole = file.validators.length;
    let shared = Arc::clone(shared);
    let mut at = from;
    let counted = pieces(part).inspect(move |piece| {
        let Ok(piece) = piece else { return };
        at += piece.len() as u64;
        shared.metrics.sent(Way::Boot, piece.len() as u64);
        let Some(mac) = mac else { return };
        let now = OffsetDateTime::now_utc();
        let event =
            lock(&shared.board).boot_sent(now, mac, piece.len() as u64, file.progress(at as f64 / whole as f64));
        shared.emit(now, mac, event);
    });
    Some(reply.with(counted))
}

/// Cuts into pieces, so that progress is seen.
fn pieces(content: Content) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(content, |rest| async move {
        let piece = rest.slice(0..PIECE as u64);
        let rest = rest.slice(PIECE as u64..rest.length());
        let read = tokio::task::spawn_blocking(move || piece.to_bytes());
        let bytes = read.await.map_err(io::Error::other).flatten();
        (!matches!(&bytes, Ok(bytes) if bytes.is_empty())).then_some((bytes, rest))
    })
}

async fn repository(shared: &Arc<Shared>, mac: Option<Mac>, path: &str, request: &Asked) -> Result<Response, ApiError> {
    let folder = shared.config.now().repository.clone();
    if path.split('/').any(|part| part.starts_with('.')) {
        // Work of the cache that is under way.
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not-found", "the repository has no such file"));
    }
    if let Some(cache) = &shared.cache {
        cache.note_served(path);
    }
    let owned = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || beneath::open(&folder, &owned)).await;
    let (file, validators) = opened.map_err(io::Error::other).flatten().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            ApiError::new(StatusCode::NOT_FOUND, "not-found", "the repository has no such file")
        }
        _ => {
            tracing::warn!("the repository's file {} cannot be opened: {error}", path.escape_default());
            ApiError::new(StatusCode::NOT_FOUND, "not-found", "the repository's file cannot be opened")
        }
    })?;
    let kind = match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("json") => "application/json",
        Some("efi") => "application/efi",
        Some("pem") => "application/x-pem-file",
        _ => "application/octet-stream",
    };
    let reply = Reply::plan(request, &validators, kind);
    let mut file = tokio::fs::File::from_std(file);
    file.seek(io::SeekFrom::Start(reply.from)).await.map_err(|e| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "disk", format!("the repository cannot be read: {e}"))
    })?;
    let shared = Arc::clone(shared);
    let counted = ReaderStream::with_capacity(file.take(reply.length), PIECE).inspect(move |piece| {
        let Ok(piece) = piece else { return };
        shared.metrics.sent(Way::Repository, piece.len() as u64);
        if let Some(mac) = mac {
            lock(&shared.board).install_sent(OffsetDateTime::now_utc(), mac, piece.len() as u64);
        }
    });
    Ok(reply.with(counted))
}

/// The head of a response, and which bytes follow.
struct Reply {
    head: Builder,
    sends_body: bool,
    from: u64,
    length: u64,
}

impl Reply {
    /// Exactly one Content-Length, HEAD included: firmware sizes its buffer by it, and takes no chunks.
    fn plan(request: &Asked, file: &Validators, kind: &str) -> Self {
        let headers = &request.headers;
        let conditions = Conditions {
            range: text(headers, header::RANGE),
            if_range: text(headers, header::IF_RANGE),
            if_match: text(headers, header::IF_MATCH),
            if_none_match: text(headers, header::IF_NONE_MATCH),
            if_unmodified_since: text(headers, header::IF_UNMODIFIED_SINCE),
        };
        let plan = match plan(&conditions, file) {
            // RFC 9110, section 14.2: Range means nothing outside GET.
            Plan::Part { .. } | Plan::NotSatisfiable if request.method == Method::HEAD => Plan::Whole,
            plan => plan,
        };
        let head = Response::builder()
            .header(header::ETAG, &file.etag)
            .header(header::LAST_MODIFIED, httpdate::fmt_http_date(file.modified))
            .header(header::ACCEPT_RANGES, "bytes");
        let size = file.length;
        let (head, from, length) = match plan {
            Plan::Whole => (head.status(StatusCode::OK), 0, size),
            Plan::Part { first, last } => {
                let range = format!("bytes {first}-{last}/{size}");
                let head = head.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
                (head, first, last - first + 1)
            }
            Plan::NotModified => (head.status(StatusCode::NOT_MODIFIED), 0, 0),
            Plan::PreconditionFailed => (head.status(StatusCode::PRECONDITION_FAILED), 0, 0),
            Plan::NotSatisfiable => {
                let head = head.status(StatusCode::RANGE_NOT_SATISFIABLE);
                (head.header(header::CONTENT_RANGE, format!("bytes */{size}")), 0, 0)
            }
        };
        let head = match plan {
            Plan::NotModified => head,
            Plan::Whole | Plan::Part { .. } => {
                head.header(header::CONTENT_TYPE, kind).header(header::CONTENT_LENGTH, length)
            }
            Plan::PreconditionFailed | Plan::NotSatisfiable => head.header(header::CONTENT_LENGTH, 0),
        };
        let sends_body = request.method == Method::GET && length > 0;
        Self { head, sends_body, from, length }
    }

    fn with(self, body: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
        let body = if self.sends_body { Body::from_stream(body) } else { Body::empty() };
        // Every header was made from numbers and dates.
        self.head.body(body).unwrap_or_default()
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
