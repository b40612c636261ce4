//! `/boot/TEMPLATE.efi`, the boot files of BIOS machines, and `/repo/…` from the repository's folder: one file after the
//! other on a connection, without the web framework, so that the kernel can send them.

use super::sender::{Job, Senders};
use crate::{
    beneath,
    boot_files::BootFile,
    cache::passed::Passed,
    content::Content,
    decision,
    handed_out::Tally,
    metrics::Way,
    proto::{
        http::{
            Validators,
            reply::{self, Reply, content_type},
            request::{Area, FileRequest},
        },
        mac::Mac,
    },
    shared::{Shared, lock},
    slow,
};
use axum::http::StatusCode;
use futures_util::StreamExt;
use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::oneshot};

/// A client that takes nothing of a piece for so long holds a place that others need.
const SLOWEST_WRITE: Duration = Duration::from_secs(60);
/// Of a name that somebody asks for, in the log.
const LONGEST_SHOWN: usize = 64;

/// What is sent to a client.
struct Found {
    content: Content,
    validators: Validators,
    /// In the log and the metrics.
    boot: Option<BootFile>,
}

/// Answers one request for a file; gives the connection back when another one may follow.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    senders: &Senders,
    mac: Option<Mac>,
    mut stream: TcpStream,
    request: &FileRequest<'_>,
) -> io::Result<Option<TcpStream>> {
    let now = SystemTime::now();
    let name = request.names.join("/");
    if request.area == Area::Repository
        && let Some(cache) = &shared.cache
    {
        match cache.pass(&name) {
            Ok(None) => {}
            Ok(Some(passed)) => return pass_through(shared, mac, stream, request, passed, now).await,
            Err(busy) => {
                shared.metrics.http("/repo", StatusCode::SERVICE_UNAVAILABLE);
                let reply = problem(request, 503, &busy.to_string(), now);
                stream.write_all(reply.head.as_bytes()).await?;
                return Ok(request.keep_open.then_some(stream));
            }
        }
    }
    let (found, reply) = match find(shared, request.area, &name).await {
        Ok(found) => {
            let reply = reply::file(request, &found.validators, content_type(&name), now);
            (Some(found), reply)
        }
        Err((status, message)) => (None, problem(request, status, message, now)),
    };
    let area = if request.area == Area::Boot { "/boot" } else { "/repo" };
    shared.metrics.http(area, StatusCode::from_u16(reply.status).unwrap_or_default());
    if request.area == Area::Boot {
        let who = mac.map_or_else(|| client(&stream), |mac| mac.to_string());
        let shown: String = name.escape_default().take(LONGEST_SHOWN).collect();
        let (answered, code, text) = match &found {
            Some(_) => (true, "answered", "fetches"),
            None => (false, "no-such-file", "asked in vain for"),
        };
        decision::say(shared, decision::Path::Boot, &who, answered, code, &format!("{text} /boot/{shown} by HTTP"));
    }
    if let (Some(mac), Some(_), true) = (mac, found.as_ref().and_then(|f| f.boot.as_ref()), reply.length > 0) {
        shared.boot_file_asked(mac).await;
    }
    stream.write_all(reply.head.as_bytes()).await?;
    let Some(found) = found.filter(|_| reply.length > 0) else {
        return Ok(request.keep_open.then_some(stream));
    };
    let Reply { from, length, .. } = reply;
    let way = if request.area == Area::Boot { Way::Boot } else { Way::Repository };
    let tally = Tally::new(way, mac, found.boot, from);
    let (done, sent) = oneshot::channel();
    let rate = mac.and_then(|mac| slow::rate(&shared.config.now().slow_down, mac));
    senders.submit(Job { stream: stream.into_std()?, content: found.content, from, length, tally, rate, done });
    let stream = sent.await.map_err(io::Error::other)??;
    if !request.keep_open {
        return Ok(None);
    }
    TcpStream::from_std(stream).map(Some)
}

/// Without a disk: what comes from an upstream goes on to the client. When it breaks for good, so does the connection: the
/// client sees that the file is not whole, and asks for the rest.
async fn pass_through(
    shared: &Arc<Shared>,
    mac: Option<Mac>,
    mut stream: TcpStream,
    request: &FileRequest<'_>,
    passed: Passed,
    now: SystemTime,
) -> io::Result<Option<TcpStream>> {
    let kind = content_type(request.names.last().map_or("", String::as_str));
    let reply = reply::file(request, &passed.validators(), kind, now);
    shared.metrics.http("/repo", StatusCode::from_u16(reply.status).unwrap_or_default());
    stream.write_all(reply.head.as_bytes()).await?;
    let mut pieces = std::pin::pin!(passed.body(reply.from, reply.length));
    while reply.length > 0
        && let Some(piece) = pieces.next().await
    {
        let piece = piece?;
        tokio::time::timeout(SLOWEST_WRITE, stream.write_all(&piece)).await??;
        shared.metrics.sent(Way::Repository, piece.len() as u64);
        if let Some(mac) = mac {
            lock(&shared.board).install_sent(OffsetDateTime::now_utc(), mac, piece.len() as u64);
        }
    }
    Ok(request.keep_open.then_some(stream))
}

fn client(stream: &TcpStream) -> String {
    stream.peer_addr().map_or_else(|_| "somebody".into(), |address| address.ip().to_string())
}

fn problem(request: &FileRequest<'_>, status: u16, message: &str, now: SystemTime) -> Reply {
    let code = match status {
        404 => "not-found",
        503 => "busy",
        _ => "internal",
    };
    let body = serde_json::json!({ "code": code, "message": message }).to_string();
    reply::error(request, status, &body, now)
}

/// Looks for a file; else the status, and what is wrong.
async fn find(shared: &Arc<Shared>, area: Area, name: &str) -> Result<Found, (u16, &'static str)> {
    if area == Area::Boot {
        let file = shared.boot.get(name).ok_or((404, "there is no boot file of this name"))?;
        return Ok(Found { content: file.content.clone(), validators: file.validators.clone(), boot: Some(file) });
    }
    if name.split('/').any(|part| part.starts_with('.')) {
        // Work of the cache that is under way.
        return Err((404, "the repository has no such file"));
    }
    if let Some(cache) = &shared.cache {
        cache.note_served(name);
    }
    let (folder, owned) = (shared.config.now().repository.clone(), name.to_owned());
    let opened = tokio::task::spawn_blocking(move || beneath::open(&folder, &owned)).await;
    match opened.map_err(io::Error::other).flatten() {
        Ok((file, validators)) => {
            Ok(Found { content: Content::of_file(file, validators.length), validators, boot: None })
        }
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Err((404, "the repository has no such file"))
            }
            _ => {
                tracing::warn!("the repository's file {} cannot be opened: {error}", name.escape_default());
                Err((404, "the repository's file cannot be opened"))
            }
        },
    }
}
