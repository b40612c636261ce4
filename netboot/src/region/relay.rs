//! The blind TCP relay: machines reach the registrar through it, and nothing else. What passes is TLS from end to
//! end; netboot neither can nor wants to read it.

use crate::{
    accept::{self, Limits},
    names::{Names, endpoint::Endpoint},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// A machine has a connection for its enrollment and now and then a second one; several may share a router's address.
pub(crate) const LIMITS: Limits = Limits { most: 128, most_per_client: 32 };
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any long poll.
pub(crate) const IDLE: Duration = Duration::from_secs(180);

/// Relays until told to stop.
pub async fn run(listener: TcpListener, registrars: Vec<Endpoint>, names: Arc<Names>, stop: CancellationToken) {
    let registrars = Arc::new(registrars);
    let serve = |stream, peer| {
        let (registrars, names, stop) = (Arc::clone(&registrars), Arc::clone(&names), stop.clone());
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = relay(stream, peer, &registrars, &names, IDLE) => {}
            }
        }
    };
    accept::run(listener, "the relay", LIMITS, &stop, serve).await.wait().await;
}

async fn relay(client: TcpStream, peer: SocketAddr, registrars: &[Endpoint], names: &Names, idle: Duration) {
    let Some(server) = connect(registrars, names).await else {
        tracing::warn!(client = %peer, code = "no-registrar", "{peer} wants the registrar: none of {} can be reached", list(registrars));
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client, server) = (client.into_split(), server.into_split());
    let activity = Activity::new();
    tokio::select! {
        _ = async { tokio::join!(pump(client.0, server.1, &activity), pump(server.0, client.1, &activity)) } => {}
        () = activity.idle_for(idle) => tracing::debug!("the relay of {peer} was idle and is closed"),
    }
}

/// The first that takes the connection.
async fn connect(registrars: &[Endpoint], names: &Names) -> Option<TcpStream> {
    for endpoint in registrars {
        let found = endpoint.addresses(names).await;
        for address in found.iter().flatten() {
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => tracing::debug!("{address}: {error}"),
                Err(_) => tracing::debug!("{address}: no answer"),
            }
        }
        if let Err(error) = found {
            tracing::debug!("{error}");
        }
    }
    None
}

fn list(registrars: &[Endpoint]) -> String {
    registrars.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Copies one direction to its end, then passes the end on.
async fn pump(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, activity: &Activity) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                activity.note();
                if to.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
                activity.note();
            }
        }
    }
    let _ = to.shutdown().await;
}

/// When something last moved.
struct Activity {
    began: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { began: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn note(&self) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(elapsed, Ordering::Relaxed);
    }

    async fn idle_for(&self, idle: Duration) {
        loop {
            let last = self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let due = last + idle;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: SocketAddr) -> Endpoint {
        address.to_string().parse().unwrap()
    }

    async fn pair() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_through_the_first_registrar_that_answers() {
        let (dead, dead_address) = pair().await;
        drop(dead);
        let (registrar, registrar_address) = pair().await;
        let (relay, relay_address) = pair().await;
        let stop = CancellationToken::new();
        let running =
            tokio::spawn(run(relay, vec![at(dead_address), at(registrar_address)], Arc::default(), stop.clone()));
        let server = tokio::spawn(async move {
            let (mut stream, _) = registrar.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
        });
        let mut client = TcpStream::connect(relay_address).await.unwrap();
        client.write_all(b"opaque").await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"opaque", "the end of one direction leaves the other open");
        server.await.unwrap();
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let (_silent, registrar_address) = pair().await;
        let (front, front_address) = pair().await;
        let mut client = TcpStream::connect(front_address).await.unwrap();
        let (accepted, peer) = front.accept().await.unwrap();
        relay(accepted, peer, &[at(registrar_address)], &Names::default(), Duration::from_millis(50)).await;
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
