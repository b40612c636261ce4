//! What the server lends, and what it says with it.

use crate::proto::mac::Mac;
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

/// Largest pool. A store's LAN has some hundred devices; each address that is lent takes some hundred bytes of memory.
pub const LARGEST_POOL: u32 = 4096;

/// Settings that make sense together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This server.
    pub server: Ipv4Addr,
    /// Length of the LAN's prefix.
    pub prefix: u8,
    /// First address of the pool.
    pub first: Ipv4Addr,
    /// Last address of the pool.
    pub last: Ipv4Addr,
    /// Addresses for machines that are known by their MAC address, inside or outside the pool.
    pub reservations: BTreeMap<Mac, Ipv4Addr>,
    /// Default router (option 3).
    pub router: Option<Ipv4Addr>,
    /// Name servers (option 6).
    pub dns: Vec<Ipv4Addr>,
    /// Time servers (option 42).
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name (option 15).
    pub domain: Option<String>,
    /// How long an operating system keeps its address.
    pub lease: Duration,
    /// How long firmware does: it will be gone in a minute, and the system that it starts asks for itself.
    pub boot_lease: Duration,
    /// Whether an address is probed before it is offered.
    pub probe: bool,
}

/// Settings that do not make sense, in a sentence that names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSettings(pub String);

impl Settings {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), BadSettings> {
        let bad = |text: String| Err(BadSettings(text));
        if !(8..=30).contains(&self.prefix) {
            return bad(format!("the LAN's prefix has {} bits; 8 to 30 make sense", self.prefix));
        }
        if self.first > self.last {
            return bad(format!("the pool begins at {} and ends before that, at {}", self.first, self.last));
        }
        let size = u32::from(self.last) - u32::from(self.first) + 1;
        if size > LARGEST_POOL {
            return bad(format!("the pool has {size} addresses, {LARGEST_POOL} are the most"));
        }
        for (what, address) in [("pool's first address", self.first), ("pool's last address", self.last)] {
            if !self.is_host(address) {
                return bad(format!("the {what} {address} is no host address of {}/{}", self.server, self.prefix));
            }
        }
        if self.router.is_some_and(|router| !self.is_host(router)) {
            return bad(format!("the router is not on the LAN {}/{}", self.server, self.prefix));
        }
        let mut taken = BTreeMap::new();
        for (mac, address) in &self.reservations {
            if !self.is_host(*address) || *address == self.server {
                return bad(format!("{mac} cannot have {address}: it is no free host address of the LAN"));
            }
            if let Some(other) = taken.insert(address, mac) {
                return bad(format!("{address} is reserved for {other} and for {mac}"));
            }
        }
        if self.boot_lease < Duration::from_secs(30) || self.lease < self.boot_lease {
            return bad("leases are at least 30 s for firmware, and not shorter for systems".into());
        }
        if self.dns.len() > 4 || self.ntp.len() > 4 {
            return bad("four name servers and four time servers are the most".into());
        }
        if self
            .domain
            .as_deref()
            .is_some_and(|d| d.is_empty() || d.len() > 64 || !d.bytes().all(|b| b.is_ascii_graphic()))
        {
            return bad("the domain has 1 to 64 printable characters".into());
        }
        Ok(())
    }

    /// The subnet mask.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// Whether an address is on the LAN.
    #[must_use]
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        let mask = u32::from(self.mask());
        u32::from(address) & mask == u32::from(self.server) & mask
    }

    fn is_host(&self, address: Ipv4Addr) -> bool {
        let host = u32::from(address) & !u32::from(self.mask());
        self.is_local(address) && host != 0 && host != !u32::from(self.mask())
    }

    /// Whether the pool may lend an address to anybody: it is inside, and neither the server's, the router's nor reserved.
    #[must_use]
    pub fn in_pool(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
            && address != self.server
            && Some(address) != self.router
            && !self.dns.contains(&address)
            && !self.ntp.contains(&address)
            && !self.reservations.values().any(|reserved| *reserved == address)
    }

    /// The addresses of the pool, in order.
    pub fn pool(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from).filter(|address| self.in_pool(*address))
    }
}
