//! What each mode opens, and the tasks that it starts.

use super::{
    ears::{self, Ear},
    lease_service,
    lease_store::LeaseStore,
    lease_writer::LeaseWriter,
    patience::Patience,
    probe,
};
use crate::{
    config::{Config, Mode},
    dhcp_server, interface,
    proto::dhcp::{
        decide::Port,
        lease::{
            server::Server,
            settings::{BadSettings, Settings},
        },
    },
    shared::Shared,
};
use anyhow::{Context, Result};
use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long another DHCP server has to answer before this one starts.
const OTHERS_MAY_ANSWER: Duration = Duration::from_secs(4);

/// Why a DHCP server does not start.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// There is one.
    #[error("the DHCP server {server} ({card}) answers on {interface}: with `mode: dhcp` there would be two")]
    OtherServer {
        /// Its address.
        server: Ipv4Addr,
        /// Its card.
        card: crate::proto::mac::Mac,
        /// Where.
        interface: String,
    },
    /// It cannot be asked for.
    #[error("cannot ask {0} whether another DHCP server is there")]
    Probe(String, #[source] std::io::Error),
}

/// DHCP, opened.
#[derive(Debug)]
pub enum Opened {
    /// Mode `proxy`, and how it hears.
    Proxy(ears::Opened, String),
    /// Mode `dhcp`.
    Server(Box<ears::OpenedServer>, Box<Settings>),
    /// Mode `4011-only`.
    Nothing,
}

/// The settings of mode `dhcp`, if that is the mode.
///
/// # Errors
/// What does not fit together.
pub fn settings(config: &Config, address: Ipv4Addr) -> Result<Option<Settings>, BadSettings> {
    let Some(pool) = config.dhcp.as_ref().filter(|_| config.mode == Mode::Dhcp) else { return Ok(None) };
    pool.settings(address, interface::prefix(&config.interface, address).unwrap_or(0)).map(Some)
}

/// Opens what the mode needs. Mode `dhcp` asks for other servers first, and waits four seconds for their answers.
///
/// # Errors
/// When a socket or the leases cannot be opened, or another DHCP server answers.
pub fn open(config: &Config, address: Ipv4Addr) -> Result<Opened> {
    let (name, port) = (&config.interface, config.dhcp_port);
    match (config.mode, settings(config, address)?) {
        (Mode::Proxy, _) => {
            let (opened, how) = ears::proxy(name, port)?;
            Ok(Opened::Proxy(opened, how))
        }
        (Mode::Dhcp, Some(settings)) => {
            let opened = ears::server(name, port)?;
            let asked = probe::other_dhcp_server(name, address, OTHERS_MAY_ANSWER);
            if let Some(other) = asked.map_err(|e| DhcpError::Probe(name.clone(), e))? {
                let (server, card) = (other.spoken.server, other.card);
                return Err(DhcpError::OtherServer { server, card, interface: name.clone() }.into());
            }
            Ok(Opened::Server(Box::new(opened), Box::new(settings)))
        }
        (Mode::Only4011 | Mode::Dhcp, _) => Ok(Opened::Nothing),
    }
}

impl Opened {
    /// Starts the tasks, inside a runtime.
    ///
    /// # Errors
    /// When the runtime does not take the sockets, or the leases cannot be read.
    pub fn start(self, shared: &Arc<Shared>, tasks: &TaskTracker, stop: &CancellationToken) -> Result<()> {
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        let (take, interface) = ("the runtime does not take a socket", shared.config.now().interface.clone());
        match self {
            Self::Proxy(opened, how) => {
                tracing::info!("DHCP is heard on {interface} {how}");
                let patience = Patience::new(&shared.config.now().state, Instant::now());
                let ear = Ear::new(opened).context(take)?;
                tasks.spawn(dhcp_server::run(shared, ear, Port::Dhcp, patience, stop));
            }
            Self::Server(opened, settings) => {
                let now = OffsetDateTime::now_utc();
                let store = LeaseStore::open(&shared.config.now().state, now)?;
                let kept = store.load(now.unix_timestamp())?;
                let (first, last) = (settings.first, settings.last);
                let server = Server::new(*settings, Instant::now(), kept);
                let running = server.running(Instant::now());
                tracing::info!("DHCP on {interface}: {first} to {last} are lent, {running} leases run");
                let ears = ears::Server::new(*opened).context(take)?;
                let mouth = || ears.mouth().context("a socket cannot be used twice");
                let (leases, writer) = LeaseWriter::new(store, mouth()?, shared.address);
                tasks.spawn_blocking(|| writer.run());
                let mouth = mouth()?;
                tasks.spawn(lease_service::run(shared, (ears, mouth), server, leases, stop));
            }
            Self::Nothing => {
                tracing::info!("DHCP is not heard on {interface}: boot clients are served on port 4011 alone")
            }
        }
        Ok(())
    }
}
