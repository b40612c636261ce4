//! Accepts connections, with bounds: firmware and agents come in dozens, not in thousands.

use super::Peer;
use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::shared::lock;

const MOST: usize = 256;
const MOST_PER_CLIENT: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// A peer that acknowledges nothing for this long, or keeps its window shut, is gone.
const SILENT_PEER: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(3);

type Clients = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Counts a client's connections down when one ends.
struct Place {
    clients: Clients,
    client: IpAddr,
}

impl Place {
    fn take(clients: &Clients, client: IpAddr) -> Option<Self> {
        let mut counts = lock(clients);
        let count = counts.entry(client).or_default();
        if *count >= MOST_PER_CLIENT {
            return None;
        }
        *count += 1;
        Some(Self { clients: Arc::clone(clients), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.clients);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// Serves until told to stop; requests under way get a moment to end.
pub async fn run(listener: TcpListener, router: Router, stop: CancellationToken) {
    let (places, clients, tasks) = (Arc::new(Semaphore::new(MOST)), Clients::default(), TaskTracker::new());
    loop {
        // Beyond the bound, connections wait in the kernel's queue.
        let Ok(permit) = Arc::clone(&places).acquire_owned().await else { break };
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: accepting at once again would spin.
                    tracing::warn!("accepting a connection failed: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        let Some(place) = Place::take(&clients, peer.ip()) else {
            tracing::warn!("{} has {MOST_PER_CLIENT} connections already: one more is closed", peer.ip());
            continue;
        };
        let (router, stop) = (router.clone().layer(Extension(Peer(peer))), stop.clone());
        tasks.spawn(async move {
            connection(stream, router, stop).await;
            drop((permit, place));
        });
    }
    tasks.close();
    let _ = tokio::time::timeout(GOODBYE, tasks.wait()).await;
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
