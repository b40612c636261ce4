//! The socket: accepts, bounds and ends connections.

use crate::api::{self, Api};
use crate::broker::{Brokers, SetupError};
use crate::config::Config;
use crate::inventory_watch::{self, LoadError};
use crate::joins::Joins;
use crate::state::{State, StateError};
use crate::tls::{Tls, TlsError};
use crate::upkeep;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Every store holds one long poll, every machine that boots one or two calls.
const CONNECTIONS: usize = 4096;
const HANDSHAKE: Duration = Duration::from_secs(15);
/// Also how long a connection may stay idle between two requests.
const HEADERS: Duration = Duration::from_secs(60);
const MAX_HEADER_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;
/// How long a stop waits for calls and joins under way.
const GRACE: Duration = Duration::from_secs(10);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder.
    #[error("the state folder is not usable")]
    State(#[source] StateError),
    /// TLS.
    #[error("TLS cannot be set up")]
    Tls(#[source] TlsError),
    /// The inventory.
    #[error("the inventory cannot be loaded")]
    Inventory(#[source] LoadError),
    /// The cluster's configuration.
    #[error("the cluster's configuration is not usable")]
    Cluster(#[source] SetupError),
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A server that listens, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Tls,
    router: Router,
    api: Api,
}

impl Server {
    /// Opens state, inventory and socket, with the brokers that the configuration names.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &Config, stop: CancellationToken) -> Result<Self, StartError> {
        let brokers = Brokers::of_config(config).await.map_err(StartError::Cluster)?;
        Self::start_with(config, brokers, stop).await
    }

    /// The same with other brokers.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_with(config: &Config, brokers: Brokers, stop: CancellationToken) -> Result<Self, StartError> {
        let state = State::open(&config.state).await.map_err(StartError::State)?;
        let tls = Tls::new(&state.server_files().map_err(StartError::State)?).map_err(StartError::Tls)?;
        let current = inventory_watch::follow(config.inventory.clone(), state.db.clone(), stop.clone())
            .await
            .map_err(StartError::Inventory)?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        upkeep::start(state.db.clone(), config.keep_events, stop.clone());
        let brokers = Arc::new(brokers);
        let joins = Joins::new(state.db.clone(), Arc::clone(&brokers));
        let api = Api { db: state.db, current, brokers, joins, stop };
        Ok(Self { listener, tls, router: api::router(api.clone()), api })
    }

    /// Where it listens; tells the port when the configuration said 0.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`, then ends calls and joins under way in good order.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.api.stop.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the client went away already: others must still get in.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                tracing::warn!(%peer, "too many connections; this one is closed");
                continue;
            };
            let (tls, router, watcher) = (self.tls.clone(), self.router.clone(), graceful.watcher());
            tokio::spawn(async move {
                serve(stream, peer, &tls, &router, watcher).await;
                drop(slot);
            });
        }
        drop(self.listener);
        let end = async {
            graceful.shutdown().await;
            self.api.joins.finish().await;
        };
        if tokio::time::timeout(GRACE, end).await.is_err() {
            tracing::warn!("calls under way were cut off; the machines will ask again");
        }
        self.api.db.close().await;
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, tls: &Tls, router: &Router, watcher: Watcher) {
    let _ = stream.set_nodelay(true);
    let acceptor = tokio_rustls::TlsAcceptor::from(tls.config.clone());
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%peer, %error, "TLS handshake refused"),
        Err(_) => return tracing::info!(%peer, "TLS handshake took too long"),
    };
    let identity = match tls.identity(stream.get_ref().1.peer_certificates()) {
        Ok(identity) => identity,
        Err(error) => return tracing::warn!(%peer, %error, "no identity"),
    };
    tracing::debug!(%peer, ?identity, "connected");
    let service = TowerToHyperService::new(api::for_caller(router, identity));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
