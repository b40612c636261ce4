//! Who has which address. Everything is bounded by the pool and the reservations: a lease is kept per address, not per
//! client, so a flood of made-up clients can use up addresses and nothing else.

use super::settings::Settings;
use crate::proto::{dhcp::packet::Packet, mac::Mac};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// An offer that nobody takes up is forgotten after this.
const OFFER_STANDS: Duration = Duration::from_secs(60);
/// An address that somebody else uses is left alone for this long.
const LEFT_ALONE: Duration = Duration::from_secs(600);

/// Who a client is: its hardware address. The client identifier (option 61) is not asked, because firmware, iPXE, the
/// initrd and the installed system each send another one, and each would burn an address. Only where the hardware
/// address says nothing (Infiniband, RFC 4390) the identifier has to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Client(Vec<u8>);

impl Client {
    /// `None` when a packet says nothing about its sender.
    #[must_use]
    pub fn of(packet: &Packet) -> Option<Self> {
        let address = packet.chaddr.get(..usize::from(packet.hlen)).unwrap_or_default();
        if address.iter().any(|byte| *byte != 0) {
            return Some(Self([&[packet.htype], address].concat()));
        }
        let id = packet.option(super::super::packet::code::CLIENT_ID).filter(|id| !id.is_empty())?;
        Some(Self([&[0], id].concat()))
    }

    /// The MAC address, if this is an Ethernet client.
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        match self.0.as_slice() {
            [1, a, b, c, d, e, f] => Some(Mac([*a, *b, *c, *d, *e, *f])),
            _ => None,
        }
    }
}

/// What must outlive a restart: a binding, or its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The address.
    pub address: Ipv4Addr,
    /// Who has it, or had it last.
    pub client: Client,
    /// How long from now it is lent; zero when it was given back.
    pub remaining: Duration,
}

/// What is known of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    client: Client,
    state: State,
    /// When that state ends.
    until: Instant,
    /// The disk has this lease, with this end.
    on_disk: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is being probed for this client.
    Probing,
    /// It was offered.
    Offered,
    /// It is lent; `until` is the lease's end. After that it is the client's again when it comes back in time.
    Bound,
    /// Somebody else uses it.
    Taken,
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<Ipv4Addr, Entry>,
    /// The address that each client had last: exactly the clients in `entries`.
    latest: HashMap<Client, Ipv4Addr>,
}

/// Why there is no address for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// Everything is lent.
    #[error("every address of the pool is lent")]
    Exhausted,
    /// Its reserved address is in other hands.
    #[error("its reserved address {0} is used by another device")]
    ReservedTaken(Ipv4Addr),
}

impl Table {
    /// Takes back what was kept. Records of other pools are ignored.
    pub fn restore(&mut self, settings: &Settings, now: Instant, records: impl IntoIterator<Item = Record>) {
        for record in records {
            let reserved = record.client.mac().and_then(|mac| settings.reservations.get(&mac));
            if reserved.map_or(settings.in_pool(record.address), |address| *address == record.address) {
                let (address, client, until) = (record.address, record.client, now + record.remaining);
                self.put(address, client.clone(), State::Bound, until);
                self.is_on_disk(address, &client, until);
            }
        }
    }

    /// The address for a client that asks for one, by preference: its reservation, the one that it has or had, the
    /// one that it wishes, one that nobody had yet (begun at a place that follows from the client, so that a lost
    /// state leads to the same addresses), the one whose lease ended first.
    ///
    /// # Errors
    /// [`NoAddress`].
    pub fn choose(
        &self,
        settings: &Settings,
        now: Instant,
        client: &Client,
        wish: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, NoAddress> {
        if let Some(reserved) = client.mac().and_then(|mac| settings.reservations.get(&mac)) {
            let usable = self
                .entries
                .get(reserved)
                .is_none_or(|e| e.client == *client && e.state != State::Taken || e.until <= now);
            return if usable { Ok(*reserved) } else { Err(NoAddress::ReservedTaken(*reserved)) };
        }
        if let Some(address) = self.latest.get(client).filter(|address| settings.in_pool(**address)) {
            return Ok(*address);
        }
        let unused = |address: &Ipv4Addr| !self.entries.contains_key(address);
        let over = |address: &Ipv4Addr| self.entries.get(address).is_none_or(|entry| entry.until <= now);
        if let Some(wish) = wish.filter(|wish| settings.in_pool(*wish) && over(wish)) {
            return Ok(wish);
        }
        let size = u32::from(settings.last) - u32::from(settings.first) + 1;
        let begin = u32::from(settings.first) + spread(client) % size;
        let later = (begin..=u32::from(settings.last)).chain(u32::from(settings.first)..begin);
        if let Some(address) = later.map(Ipv4Addr::from).find(|a| settings.in_pool(*a) && unused(a)) {
            return Ok(address);
        }
        let ended = self.entries.iter().filter(|(address, e)| settings.in_pool(**address) && e.until <= now);
        ended.min_by_key(|(_, entry)| entry.until).map(|(address, _)| *address).ok_or(NoAddress::Exhausted)
    }

    /// Whether the client was told of this address so lately that probing it again would only cost time.
    #[must_use]
    pub fn is_proven(&self, now: Instant, client: &Client, address: Ipv4Addr) -> bool {
        self.of(client, address)
            .is_some_and(|entry| matches!(entry.state, State::Offered | State::Bound) && entry.until > now)
    }

    /// Whether a probe for this client is under way.
    #[must_use]
    pub fn is_probing(&self, now: Instant, client: &Client) -> bool {
        let entry = self.latest.get(client).and_then(|address| self.entries.get(address));
        entry.is_some_and(|entry| entry.state == State::Probing && entry.until > now)
    }

    /// Notes a probe that ends by itself after `limit`.
    pub fn probing(&mut self, now: Instant, client: Client, address: Ipv4Addr, limit: Duration) {
        self.put(address, client, State::Probing, now + limit);
    }

    /// Notes an offer. A lease that runs goes on running.
    pub fn offered(&mut self, now: Instant, client: Client, address: Ipv4Addr) {
        if !self.is_bound(now, &client, address) {
            self.put(address, client, State::Offered, now + OFFER_STANDS);
        }
    }

    /// Lends an address.
    pub fn bind(&mut self, now: Instant, client: Client, address: Ipv4Addr, lease: Duration) -> Record {
        self.put(address, client.clone(), State::Bound, now + lease);
        Record { address, client, remaining: lease }
    }

    /// The disk has a lease now. One that was changed meanwhile is another one.
    pub fn is_on_disk(&mut self, address: Ipv4Addr, client: &Client, until: Instant) {
        if let Some(entry) = self.entries.get_mut(&address)
            && (&entry.client, entry.state, entry.until) == (client, State::Bound, until)
        {
            entry.on_disk = true;
        }
    }

    /// How long the disk says that an address is this client's; nothing when it says so no more, or not yet.
    #[must_use]
    pub fn left_on_disk(&self, now: Instant, client: &Client, address: Ipv4Addr) -> Duration {
        let lent = self.of(client, address).filter(|entry| entry.state == State::Bound && entry.on_disk);
        lent.map_or(Duration::ZERO, |entry| entry.until.saturating_duration_since(now))
    }

    /// Whether an address is this client's to ask for: offered to it, or lent to it now or the last time that it was lent.
    #[must_use]
    pub fn may_have(&self, client: &Client, address: Ipv4Addr) -> bool {
        self.of(client, address).is_some_and(|entry| matches!(entry.state, State::Offered | State::Bound))
    }

    /// Whether a lease runs.
    #[must_use]
    pub fn is_bound(&self, now: Instant, client: &Client, address: Ipv4Addr) -> bool {
        self.of(client, address).is_some_and(|entry| entry.state == State::Bound && entry.until > now)
    }

    /// The address that a client had last.
    #[must_use]
    pub fn latest(&self, client: &Client) -> Option<Ipv4Addr> {
        self.latest.get(client).copied()
    }

    /// The client takes another server's offer: ours is void. A lease of its own stays until its end.
    pub fn forget_offer(&mut self, client: &Client) {
        let Some(address) = self.latest(client) else { return };
        if self.of(client, address).is_some_and(|e| matches!(e.state, State::Offered | State::Probing)) {
            self.entries.remove(&address);
            self.latest.remove(client);
        }
    }

    /// The client gives its address back; it gets the same one when it returns before others have used up the pool.
    pub fn release(&mut self, now: Instant, client: &Client, address: Ipv4Addr) -> Option<Record> {
        let entry = self.entries.get_mut(&address).filter(|e| e.client == *client && e.state == State::Bound)?;
        (entry.until, entry.on_disk) = (entry.until.min(now), false);
        Some(Record { address, client: client.clone(), remaining: Duration::ZERO })
    }

    /// Somebody else uses this address: nobody gets it for a while, and its client another one.
    pub fn taken(&mut self, now: Instant, address: Ipv4Addr) -> Option<Record> {
        let entry = self.entries.get_mut(&address)?;
        let was_bound = entry.state == State::Bound;
        (entry.state, entry.until) = (State::Taken, now + LEFT_ALONE);
        let client = entry.client.clone();
        if self.latest.get(&client) == Some(&address) {
            self.latest.remove(&client);
        }
        was_bound.then_some(Record { address, client, remaining: Duration::ZERO })
    }

    /// How many leases run.
    #[must_use]
    pub fn running(&self, now: Instant) -> usize {
        self.entries.values().filter(|entry| entry.state == State::Bound && entry.until > now).count()
    }

    fn of(&self, client: &Client, address: Ipv4Addr) -> Option<&Entry> {
        self.entries.get(&address).filter(|entry| entry.client == *client)
    }

    fn put(&mut self, address: Ipv4Addr, client: Client, state: State, until: Instant) {
        if let Some(old) = self.latest.insert(client.clone(), address).filter(|old| *old != address) {
            self.entries.remove(&old);
        }
        let before = self.entries.insert(address, Entry { client: client.clone(), state, until, on_disk: false });
        if let Some(before) = before.filter(|before| before.client != client)
            && self.latest.get(&before.client) == Some(&address)
        {
            self.latest.remove(&before.client);
        }
    }

    /// Every address has one client, every client one address, and no more addresses than there are.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self, settings: &Settings) {
        for (client, address) in &self.latest {
            assert_eq!(&self.entries[address].client, client);
        }
        for (address, entry) in &self.entries {
            let reserved = entry.client.mac().and_then(|mac| settings.reservations.get(&mac));
            assert!(settings.in_pool(*address) || reserved == Some(address), "{address} is not ours to lend");
            assert!(entry.state == State::Taken || self.latest.get(&entry.client) == Some(address));
        }
    }
}

/// FNV-1a: spreads clients over the pool, the same in every run.
fn spread(client: &Client) -> u32 {
    client.0.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
