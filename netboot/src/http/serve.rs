//! Serves HTTP on accepted connections.

use super::Peer;
use crate::accept::{self, Limits};
use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const LIMITS: Limits = Limits { most: 256, most_per_client: 32 };
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// A peer that acknowledges nothing for this long, or keeps its window shut, is gone.
const SILENT_PEER: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(3);

/// Serves until told to stop; requests under way get a moment to end.
pub async fn run(listener: TcpListener, router: Router, stop: CancellationToken) {
    let serve = |stream, peer| connection(stream, router.clone().layer(Extension(Peer(peer))), stop.clone());
    let open = accept::run(listener, "the web server", LIMITS, &stop, serve).await;
    let _ = tokio::time::timeout(GOODBYE, open.wait()).await;
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let socket = SockRef::from(&stream);
    // Short answers to firmware go out at once.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_user_timeout(Some(SILENT_PEER));
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
