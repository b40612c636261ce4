//! Reads the messages that clients send to a DHCP server (RFC 2131, section 4.3), and says what to answer.

use super::{
    settings::Settings,
    table::{Client, NoAddress, Record, Table},
};
use crate::proto::{
    dhcp::packet::{MessageType, Packet, code},
    mac::Mac,
};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

/// How long a probed device has to answer. Devices answer ARP in milliseconds, sleeping ones in a few hundred; iPXE
/// listens for two seconds in all.
pub const PROBE: Duration = Duration::from_millis(400);
/// Addresses that are tried for one DISCOVER before the client has to ask again.
const MOST_TRIES: u8 = 3;
/// Clients that wait for a probe at the same time; the others ask again by themselves.
const MOST_WAITING: usize = 512;

/// What the server says to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
    /// DHCPNAK: what the client believes to have, it may not use.
    Nak,
    /// DHCPACK to an INFORM: options without an address.
    Inform,
}

/// An answer, before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What it is.
    pub verdict: Verdict,
    /// The client's address; 0.0.0.0 for a NAK and an INFORM.
    pub address: Ipv4Addr,
    /// For how long.
    pub lease: Duration,
    /// What must be on the disk before the answer leaves.
    pub record: Option<Record>,
}

/// A question whose answer waits for a probe.
#[derive(Debug, Clone)]
pub struct Question {
    /// The packet.
    pub packet: Packet,
    /// Where it came from.
    pub source: SocketAddrV4,
}

/// What to do about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Answer.
    Grant(Grant),
    /// Ask the LAN who has this address, and call [`Server::probed`] after [`PROBE`].
    Probe(Ipv4Addr),
    /// Only this must be kept; the client gets no answer.
    Keep(Record, Quiet),
    /// Say nothing.
    Quiet(Quiet),
}

/// Why the server says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Quiet {
    /// It is not for this server.
    #[error("it has chosen the server {0}")]
    OtherServer(Ipv4Addr),
    /// The client is unknown here, and another server may know it (RFC 2131, section 4.3.2).
    #[error("it asks for {0}, of which this server knows nothing")]
    Unknown(Ipv4Addr),
    /// No address for it.
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
    /// A probe is under way.
    #[error("its address is being probed")]
    Probing,
    /// Too many probes are under way.
    #[error("too many addresses are being probed; it will ask again")]
    Busy,
    /// It came through a relay from a network for which there is no pool.
    #[error("the relay {0} stands in a network for which there is no pool")]
    OtherNetwork(Ipv4Addr),
    /// It says nothing about its sender.
    #[error("it names no hardware address and no client identifier")]
    Nameless,
    /// A release.
    #[error("it gives {0} back")]
    Released(Ipv4Addr),
    /// A decline.
    #[error("it says that another device uses {0}, which is left alone for ten minutes")]
    Declined(Ipv4Addr),
    /// A probe found somebody.
    #[error("{1} uses {0}, which was to be offered; it will ask again")]
    InUse(Ipv4Addr, Mac),
    /// A message that clients do not send.
    #[error("a {0:?} is nothing that a client sends")]
    NotAsked(MessageType),
}

/// The server's state.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    table: Table,
    waiting: BTreeMap<Ipv4Addr, (Question, Client, u8)>,
}

impl Server {
    /// A server with what was kept from before.
    #[must_use]
    pub fn new(settings: Settings, now: Instant, kept: impl IntoIterator<Item = Record>) -> Self {
        let mut table = Table::default();
        table.restore(&settings, now, kept);
        Self { settings, table, waiting: BTreeMap::new() }
    }

    /// What it lends.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many leases run.
    #[must_use]
    pub fn running(&self, now: Instant) -> usize {
        self.table.running(now)
    }

    /// Decides about one packet that came to port 67.
    pub fn handle(&mut self, now: Instant, packet: &Packet, source: SocketAddrV4, message: MessageType) -> Step {
        let Some(client) = Client::of(packet) else { return Step::Quiet(Quiet::Nameless) };
        let relay = packet.giaddr;
        if !relay.is_unspecified() && !self.settings.is_local(relay) {
            return Step::Quiet(Quiet::OtherNetwork(relay));
        }
        match message {
            MessageType::Discover => self.discover(now, packet, source, client, 0),
            MessageType::Request => self.request(now, packet, &client),
            MessageType::Decline => self.decline(now, packet, &client),
            MessageType::Release => match self.table.release(now, &client, packet.ciaddr) {
                Some(record) => Step::Keep(record, Quiet::Released(packet.ciaddr)),
                None => Step::Quiet(Quiet::Unknown(packet.ciaddr)),
            },
            MessageType::Inform => Step::Grant(Grant {
                verdict: Verdict::Inform,
                address: Ipv4Addr::UNSPECIFIED,
                lease: Duration::ZERO,
                record: None,
            }),
            other => Step::Quiet(Quiet::NotAsked(other)),
        }
    }

    fn discover(&mut self, now: Instant, packet: &Packet, source: SocketAddrV4, client: Client, tries: u8) -> Step {
        if self.table.is_probing(now, &client) {
            return Step::Quiet(Quiet::Probing);
        }
        let address = match self.table.choose(&self.settings, now, &client, packet.requested_address()) {
            Ok(address) => address,
            Err(none) => return Step::Quiet(none.into()),
        };
        // Through a relay the client is on the same LAN (see `handle`), so ARP reaches it too.
        if !self.settings.probe || self.table.is_proven(now, &client, address) {
            return self.offer(now, packet, client, address);
        }
        self.waiting.retain(|address, (_, client, _)| {
            self.table.is_probing(now, client) && self.table.latest(client) == Some(*address)
        });
        if self.waiting.len() >= MOST_WAITING {
            return Step::Quiet(Quiet::Busy);
        }
        self.table.probing(now, client.clone(), address, PROBE * 4);
        self.waiting.insert(address, (Question { packet: packet.clone(), source }, client, tries));
        Step::Probe(address)
    }

    fn offer(&mut self, now: Instant, packet: &Packet, client: Client, address: Ipv4Addr) -> Step {
        let lease = self.lent_already(now, packet, &client, address).unwrap_or_else(|| self.lease_for(packet));
        self.table.offered(now, client, address);
        Step::Grant(Grant { verdict: Verdict::Offer, address, lease, record: None })
    }

    /// A probe has ended: nobody answered, or this card did. Comes back with the question that waited for it.
    pub fn probed(&mut self, now: Instant, address: Ipv4Addr, holder: Option<Mac>) -> Option<(Question, Step)> {
        let (question, client, tries) = self.waiting.remove(&address)?;
        // The client may have gone elsewhere meanwhile, or the answer come too late.
        if self.table.latest(&client) != Some(address) || !self.table.is_probing(now, &client) {
            return None;
        }
        let step = match holder.filter(|holder| client.mac() != Some(*holder)) {
            None => self.offer(now, &question.packet, client, address),
            Some(holder) => {
                self.table.taken(now, address);
                if tries + 1 >= MOST_TRIES {
                    Step::Quiet(Quiet::InUse(address, holder))
                } else {
                    self.discover(now, &question.packet, question.source, client, tries + 1)
                }
            }
        };
        Some((question, step))
    }

    fn request(&mut self, now: Instant, packet: &Packet, client: &Client) -> Step {
        let nak = || {
            let address = Ipv4Addr::UNSPECIFIED;
            Step::Grant(Grant { verdict: Verdict::Nak, address, lease: Duration::ZERO, record: None })
        };
        let wanted = packet.requested_address().unwrap_or(packet.ciaddr);
        match packet.server_id() {
            Some(other) if other != self.settings.server => {
                self.table.forget_offer(client);
                return Step::Quiet(Quiet::OtherServer(other));
            }
            // SELECTING: it chose this server, so this server has to answer.
            Some(_) if !self.grants(client, wanted) => return nak(),
            Some(_) => {}
            // INIT-REBOOT, RENEWING, REBINDING: it has, or had, an address.
            None if !self.settings.is_local(wanted) => return nak(),
            None if self.grants(client, wanted) => {}
            None => {
                return match self.table.latest(client) {
                    // It is known here by another address.
                    Some(_) => nak(),
                    None => Step::Quiet(Quiet::Unknown(wanted)),
                };
            }
        }
        if let Some(lease) = self.lent_already(now, packet, client, wanted) {
            return Step::Grant(Grant { verdict: Verdict::Ack, address: wanted, lease, record: None });
        }
        let lease = self.lease_for(packet);
        let record = self.table.bind(now, client.clone(), wanted, lease);
        Step::Grant(Grant { verdict: Verdict::Ack, address: wanted, lease, record: Some(record) })
    }

    /// The disk has a lease.
    pub fn is_on_disk(&mut self, address: Ipv4Addr, client: &Client, until: Instant) {
        self.table.is_on_disk(address, client, until);
    }

    /// What is left of a lease that began a short while ago: it is given again, and nothing has to be written. A machine that
    /// starts from the network asks four times in a minute (RFC 2131, section 4.3.1, has a server give what was given before).
    fn lent_already(&self, now: Instant, packet: &Packet, client: &Client, address: Ipv4Addr) -> Option<Duration> {
        let (left, wanted) = (self.table.left_on_disk(now, client, address), self.lease_for(packet));
        (left >= wanted / 4 * 3).then(|| left.min(wanted))
    }

    /// Whether a client may have an address now. A reservation that was made after the lease wins.
    fn grants(&self, client: &Client, address: Ipv4Addr) -> bool {
        let reserved = client.mac().and_then(|mac| self.settings.reservations.get(&mac));
        self.table.may_have(client, address) && reserved.map_or(self.settings.in_pool(address), |r| *r == address)
    }

    fn decline(&mut self, now: Instant, packet: &Packet, client: &Client) -> Step {
        let address = packet.requested_address().unwrap_or(packet.ciaddr);
        // Only who was given an address may say that it is in use.
        if packet.server_id().is_some_and(|server| server != self.settings.server)
            || !self.table.may_have(client, address)
        {
            return Step::Quiet(Quiet::Unknown(address));
        }
        match self.table.taken(now, address) {
            Some(record) => Step::Keep(record, Quiet::Declined(address)),
            None => Step::Quiet(Quiet::Declined(address)),
        }
    }

    fn lease_for(&self, packet: &Packet) -> Duration {
        let class = packet.class();
        let firmware = class.starts_with("PXEClient") || class.starts_with("HTTPClient");
        let longest = if firmware || packet.option(code::IPXE).is_some() {
            self.settings.boot_lease
        } else {
            self.settings.lease
        };
        let wish = packet.requested_lease().map_or(longest, |seconds| Duration::from_secs(seconds.into()));
        wish.clamp(self.settings.boot_lease, longest)
    }

    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        self.table.assert_consistent(&self.settings);
        assert!(self.waiting.len() <= MOST_WAITING);
    }
}
