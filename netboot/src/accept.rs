//! Accepts TCP connections, with bounds in total and per client: machines come in dozens, not in thousands.

use crate::shared::lock;
use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How many connections there may be at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In all; beyond that they wait in the kernel's queue.
    pub most: usize,
    /// Of one client; beyond that they are closed.
    pub most_per_client: usize,
}

type Clients = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// Counts a client's connections down when one ends.
struct Place {
    clients: Clients,
    client: IpAddr,
}

impl Place {
    fn take(clients: &Clients, client: IpAddr, most: usize) -> Option<Self> {
        let mut counts = lock(clients);
        let count = counts.entry(client).or_default();
        if *count >= most {
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

/// Hands every connection to `serve` until told to stop; gives the connections that are still open. `name` is for the log.
pub async fn run<F>(
    listener: TcpListener,
    name: &str,
    limits: Limits,
    stop: &CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) -> TaskTracker
where
    F: Future<Output = ()> + Send + 'static,
{
    let (places, clients, tasks) = (Arc::new(Semaphore::new(limits.most)), Clients::default(), TaskTracker::new());
    loop {
        let Ok(permit) = Arc::clone(&places).acquire_owned().await else { break };
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: accepting at once again would spin.
                    tracing::warn!("accepting a connection to {name} failed: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            },
        };
        let Some(place) = Place::take(&clients, peer.ip(), limits.most_per_client) else {
            let most = limits.most_per_client;
            let client = peer.ip();
            tracing::warn!(%client, code = "too-many-connections", "{client} has {most} connections to {name} already: one more is closed");
            continue;
        };
        let served = serve(stream, peer);
        tasks.spawn(async move {
            served.await;
            drop((permit, place));
        });
    }
    tasks.close();
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_a_freed_place_is_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move {
                let limits = Limits { most: 8, most_per_client: 2 };
                // Each connection is held until its client ends it.
                let hold = |mut stream: TcpStream, _| async move {
                    let _ = stream.read(&mut [0; 1]).await;
                };
                run(listener, "a test", limits, &stop, hold).await.wait().await;
            }
        });
        let [first, second, mut third] = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0, "the third is closed");
        drop(first);
        // The place is free once the server has noticed; until then it closes what comes.
        let held = async {
            loop {
                let mut next = TcpStream::connect(address).await.unwrap();
                let read = tokio::time::timeout(Duration::from_millis(200), next.read(&mut [0; 1])).await;
                if read.is_err() {
                    break next;
                }
            }
        };
        let held = tokio::time::timeout(Duration::from_secs(20), held).await.unwrap();
        stop.cancel();
        drop((second, held));
        running.await.unwrap();
    }
}
