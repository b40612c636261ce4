//! What both DHCP modes do before a decision: limits, and what is learned by listening.

use crate::{
    config::Mode,
    dhcp_server::log,
    proto::{
        dhcp::{
            decide::{Port, Silence},
            limits::Limits,
            packet::Packet,
            relayed::{self, Behind, Relayed},
            survey::{self, News, Spoken, Survey},
        },
        mac::Mac,
    },
    shared::{Shared, lock},
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Mutex,
    time::{Duration, Instant},
};

/// What is known of the LAN's DHCP.
#[derive(Debug)]
pub struct Lan {
    /// The servers.
    pub survey: Mutex<Survey>,
    /// The server that keeps this one silent.
    rival: Mutex<Option<Ipv4Addr>>,
    /// Who is behind which relay.
    relayed: Mutex<Relayed>,
    /// Who asks too often. Clients are told apart by the address that they write into their packets.
    limits: Mutex<Limits<[u8; 16]>>,
}

impl Lan {
    /// Nothing heard yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            survey: Mutex::default(),
            rival: Mutex::default(),
            relayed: Mutex::default(),
            limits: Mutex::new(Limits::new(now)),
        }
    }

    /// The DHCP servers that were heard.
    #[must_use]
    pub fn dhcp_servers(&self) -> Vec<Ipv4Addr> {
        lock(&self.survey).dhcp_servers().collect()
    }

    /// Other boot servers that were heard within a day.
    #[must_use]
    pub fn boot_servers(&self) -> Vec<Ipv4Addr> {
        let lately = |at: Instant| at.elapsed() < Duration::from_secs(24 * 3600);
        lock(&self.survey).servers().filter(|(_, seen)| seen.boots && lately(seen.last)).map(|(a, _)| a).collect()
    }

    /// Who has an address, as listed relays have it.
    ///
    /// # Errors
    /// [`relayed::Unknown`].
    pub fn behind_relay(&self, address: Ipv4Addr) -> Result<Behind, relayed::Unknown> {
        lock(&self.relayed).who(Instant::now(), address)
    }

    /// The DHCP server that keeps this one silent, in mode `dhcp`.
    #[must_use]
    pub fn rival(&self) -> Option<Ipv4Addr> {
        *lock(&self.rival)
    }

    /// Notes it, or that it is gone.
    pub fn set_rival(&self, server: Option<Ipv4Addr>) {
        *lock(&self.rival) = server;
    }
}

/// Reads a client's packet, and learns from it. Nothing when it is not to be looked at; the log has the reason.
#[must_use]
pub fn read(shared: &Shared, port: Port, source: SocketAddrV4, bytes: &[u8]) -> Option<Packet> {
    let silent = |reason: String| {
        shared.metrics.dhcp(port, None);
        log(shared, &source.to_string(), &format!("silent: {reason}"));
    };
    let packet = match Packet::read(bytes) {
        Ok(packet) => packet,
        Err(error) => {
            silent(error.to_string());
            return None;
        }
    };
    let now = Instant::now();
    if !lock(&shared.lan.limits).allow(now, packet.chaddr) {
        silent(Silence::TooMany.to_string());
        return None;
    }
    if port == Port::Dhcp && packet.op == 1 {
        if let (Some(mac), Ok(Some(guid))) = (packet.mac(), packet.guid()) {
            lock(&shared.guids).note(now, guid, mac);
        }
        // In mode `dhcp` netboot's own address is no news; otherwise it is a DHCP server on the same host.
        let own = |server: &Ipv4Addr| *server == shared.address && shared.config.now().mode == Mode::Dhcp;
        if let Some(server) = survey::chosen_server(&packet).filter(|server| !own(server)) {
            let news = lock(&shared.lan.survey).chosen(now, server);
            tell(shared, &news, None);
        }
    }
    Some(packet)
}

/// Notes who is behind a relay, and whether this packet was answered.
pub fn relayed(shared: &Shared, packet: &Packet, source: SocketAddrV4, answered: bool) {
    let config = shared.config.now();
    if !config.relays.is_empty() {
        lock(&shared.lan.relayed).heard(Instant::now(), &config.relays, *source.ip(), packet, answered);
    }
}

/// Learns from another server's answer.
pub fn server_spoke(shared: &Shared, spoken: Spoken, card: Option<Mac>) {
    let news = lock(&shared.lan.survey).heard(Instant::now(), shared.address, spoken, card);
    tell(shared, &news, card);
}

fn tell(shared: &Shared, news: &[News], card: Option<Mac>) {
    let card = card.map_or_else(String::new, |card| format!(" ({card})"));
    for news in news {
        match news {
            News::DhcpServer(server) if *server == shared.address => {
                tracing::info!("a DHCP server on this host was heard");
            }
            News::DhcpServer(server) => {
                tracing::info!(%server, code = "dhcp-server", "the DHCP server {server}{card} was heard");
            }
            News::BootServer(server) => tracing::warn!(
                %server,
                code = "boot-server",
                "another boot server, {server}{card}, answers on this LAN: machines may start from it instead; take the \
                 store's machines out of it, or switch it off"
            ),
        }
    }
}
