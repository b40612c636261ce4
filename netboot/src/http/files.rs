//! `/boot/TEMPLATE.efi`, the boot files of BIOS machines, and `/repo/…` from the repository's folder: one file after the
//! other on a connection, without the web framework, so that the kernel can send them.

use super::sender::{Job, Senders};
use crate::{
    beneath,
    boot_files::BootFile,
    content::Content,
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
    shared::Shared,
};
use axum::http::StatusCode;
use std::{io, sync::Arc, time::SystemTime};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::oneshot};

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
    let (found, reply) = match find(shared, request.area, &name).await {
        Ok(found) => {
            let reply = reply::file(request, &found.validators, content_type(&name), now);
            (Some(found), reply)
        }
        Err((status, message)) => (None, problem(request, status, message, now)),
    };
    let area = if request.area == Area::Boot { "/boot" } else { "/repo" };
    shared.metrics.http(area, StatusCode::from_u16(reply.status).unwrap_or_default());
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
    senders.submit(Job { stream: stream.into_std()?, content: found.content, from, length, tally, done });
    let stream = sent.await.map_err(io::Error::other)??;
    if !request.keep_open {
        return Ok(None);
    }
    TcpStream::from_std(stream).map(Some)
}

fn problem(request: &FileRequest<'_>, status: u16, message: &str, now: SystemTime) -> Reply {
    let code = if status == 404 { "not-found" } else { "internal" };
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
