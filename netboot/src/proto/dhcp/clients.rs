//! Models of boot clients, with the rules by which each accepts or throws away an answer (see docs/pxe.md for their
//! sources). They know the wire and nothing of our code: options are found as each client's own parser finds them.

use super::{decide::Port, samples::Sample};
use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// What a client has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Booted {
    pub(crate) address: Ipv4Addr,
    pub(crate) server: Ipv4Addr,
    pub(crate) file: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    /// EDK2's PXE driver; before April 2017 it threw away every proxy offer with PXE sub-options.
    Edk2 { old: bool },
    /// EDK2's HTTP Boot driver.
    Edk2Http,
    /// A PXE ROM.
    Rom,
    /// iPXE.
    Ipxe,
    /// A device that only wants an address.
    Device,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Selecting { until: Instant },
    Requesting { until: Instant, tries: u8 },
    Asking4011 { until: Instant, tries: u8, server: Ipv4Addr },
    Done(Booted),
    Leased(Ipv4Addr),
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) model: Model,
    pub(crate) mac: [u8; 6],
    sample: Sample,
    attempt: u32,
    round: usize,
    began: Instant,
    state: State,
    offers: Vec<Vec<u8>>,
    lease: Option<Vec<u8>>,
    acked: bool,
}

/// Waits between DISCOVERs (PXE 2.1, section 2.2.5); iPXE begins earlier.
const WAITS: [u64; 4] = [4, 8, 16, 32];
const IPXE_WAITS: [u64; 4] = [1, 2, 4, 8];

impl Client {
    pub(crate) fn new(model: Model, mac: [u8; 6], now: Instant) -> Self {
        let sample = match model {
            Model::Edk2 { .. } => Sample::edk2_pxe(),
            Model::Edk2Http => Sample::edk2_http(),
            Model::Rom => Sample::bios_pxe(),
            Model::Ipxe => Sample::bios_ipxe().flags(0),
            Model::Device => Sample::discover(b"MSFT 5.0"),
        };
        Self {
            model,
            mac,
            sample: sample.mac(mac),
            attempt: 0,
            round: 0,
            began: now,
            state: State::Selecting { until: now },
            offers: Vec::new(),
            lease: None,
            acked: false,
        }
    }

    pub(crate) fn booted(&self) -> Option<&Booted> {
        if let State::Done(booted) = &self.state { Some(booted) } else { None }
    }

    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        match &self.state {
            State::Leased(address) => Some(*address),
            State::Done(booted) => Some(booted.address),
            _ => self.lease.as_deref().filter(|_| self.acked).map(yiaddr),
        }
    }

    pub(crate) fn is_through(&self) -> bool {
        matches!(self.state, State::Done(_) | State::Leased(_))
    }

    fn xid(&self) -> u32 {
        u32::from_be_bytes([self.mac[2], self.mac[4], self.mac[5], 0]) + self.attempt
    }

    fn waits(&self) -> [u64; 4] {
        if self.model == Model::Ipxe { IPXE_WAITS } else { WAITS }
    }

    /// What it sends now, and to which port.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<(Vec<u8>, Port)> {
        let seconds = Duration::from_secs;
        match self.state.clone() {
            State::Done(_) | State::Leased(_) => None,
            State::Selecting { until } if now < until => None,
            State::Selecting { .. } => {
                if let Some(lease) = self.select(now) {
                    self.lease = Some(lease);
                    self.state = State::Requesting { until: now, tries: 0 };
                    return self.tick(now);
                }
                if self.round == self.waits().len() {
                    // It goes through its boot order, and begins again.
                    self.round = 0;
                }
                if self.round == 0 || self.model != Model::Ipxe {
                    (self.began, self.attempt) = (now, self.attempt + 1);
                    self.offers.clear();
                }
                self.state = State::Selecting { until: now + seconds(self.waits()[self.round]) };
                self.round += 1;
                Some((self.sample.clone().xid(self.xid()).bytes(), Port::Dhcp))
            }
            State::Requesting { until, .. } | State::Asking4011 { until, .. } if now < until => None,
            State::Requesting { tries, .. } if tries < 4 => {
                self.state = State::Requesting { until: now + seconds(2), tries: tries + 1 };
                let lease = self.lease.clone().unwrap_or_default();
                let request = self.sample.clone().xid(self.xid()).option(53, &[3]);
                let request =
                    request.option(50, &yiaddr(&lease).octets()).option(54, option(&lease, 54).unwrap_or(&[]));
                Some((request.bytes(), Port::Dhcp))
            }
            State::Asking4011 { tries, server, .. } if tries < 4 => {
                // 1, 2, 3, 4 s (EDK2).
                let until = now + seconds(u64::from(tries) + 1);
                self.state = State::Asking4011 { until, tries: tries + 1, server };
                let address = self.lease.as_deref().map_or(Ipv4Addr::UNSPECIFIED, yiaddr);
                Some((self.sample.clone().xid(self.xid()).option(53, &[3]).ciaddr(address).bytes(), Port::Proxy))
            }
            State::Requesting { .. } | State::Asking4011 { .. } => {
                self.restart(now);
                None
            }
        }
    }

    fn restart(&mut self, now: Instant) {
        (self.round, self.lease, self.acked) = (0, None, false);
        self.offers.clear();
        self.state = State::Selecting { until: now };
    }

    /// When it acts next without being spoken to.
    pub(crate) fn next(&self) -> Option<Instant> {
        match self.state {
            State::Selecting { until } | State::Requesting { until, .. } | State::Asking4011 { until, .. } => {
                Some(until)
            }
            State::Done(_) | State::Leased(_) => None,
        }
    }

    /// A packet arrives; `port` is the one that it came from.
    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8], port: u16) {
        let mine = bytes.len() >= 300
            && bytes[0] == 2
            && bytes[1..3] == [1, 6]
            && bytes[4..8] == self.xid().to_be_bytes()
            && bytes[28..34] == self.mac
            && bytes[236..240] == [99, 130, 83, 99];
        // EDK2: no message type is BOOTP, no server id is thrown away, more than 1472 bytes too.
        let kind = option(bytes, 53).and_then(|v| v.first().copied());
        let server_id = option(bytes, 54).filter(|id| id.len() == 4 && *id != [0; 4]);
        let (Some(kind), Some(server_id), true) = (kind, server_id, mine && bytes.len() <= 1472) else { return };
        match (&self.state, kind) {
            (State::Selecting { .. }, 2) => {
                assert!(self.offers.len() < 64, "a flood of offers");
                self.offers.push(bytes.to_vec());
                // Devices and iPXE act as soon as they have what they need.
                if matches!(self.model, Model::Ipxe | Model::Device)
                    && let Some(lease) = self.select(now)
                {
                    self.lease = Some(lease);
                    self.state = State::Requesting { until: now, tries: 0 };
                }
            }
            (State::Requesting { .. }, 5) if self.lease.as_deref().and_then(|l| option(l, 54)) == Some(server_id) => {
                self.lease = Some(bytes.to_vec());
                self.acked = true;
                self.after_lease(now);
            }
            (State::Requesting { .. }, 6) => self.restart(now),
            (State::Asking4011 { server, .. }, 5 | 2) if port == 4011 && server.octets() == server_id => {
                let server = *server;
                if let Some(file) = self.file(bytes) {
                    self.boot(
                        file,
                        Some(bytes).filter(|b| siaddr(b) != Ipv4Addr::UNSPECIFIED).map_or(server, siaddr),
                        bytes,
                    );
                }
            }
            _ => {}
        }
    }

    /// The offers that lend an address, those of this family without one, in order.
    fn split(&self) -> (Vec<&Vec<u8>>, Vec<&Vec<u8>>) {
        let class: &[u8] = if self.model == Model::Edk2Http { b"HTTPClient" } else { b"PXEClient" };
        let (lend, proxy): (Vec<_>, Vec<_>) = self.offers.iter().partition(|o| !yiaddr(o).is_unspecified());
        let mine = |offer: &&Vec<u8>| option(offer, 60).is_some_and(|c| c.starts_with(class));
        let discarded = |offer: &&Vec<u8>| {
            matches!(self.model, Model::Edk2 { old: true }) && option(offer, 43).is_some_and(has_discovery)
        };
        (lend, proxy.into_iter().filter(|offer| mine(offer) && !discarded(offer)).collect())
    }

    /// The lease offer that it takes, once it has all that it waits for.
    fn select(&self, now: Instant) -> Option<Vec<u8>> {
        let (lend, proxy) = self.split();
        let with_file = lend.iter().find(|offer| self.boots_by_lease(offer));
        let first = (*lend.first()?).clone();
        match self.model {
            Model::Device => Some(first),
            // It waits for a proxy until 2 s after it began, unless it is told that there is none.
            Model::Ipxe => {
                let told = lend.iter().any(|o| option(o, 175).is_some_and(|v| v.windows(3).any(|p| p == [176, 1, 1])));
                let waited = now >= self.began + Duration::from_secs(2);
                (told || !proxy.is_empty() || waited).then(|| with_file.map_or(first, |offer| (*offer).clone()))
            }
            // Without anything to boot it takes no lease at all.
            _ if with_file.is_some() => with_file.map(|offer| (*offer).clone()),
            _ => (!proxy.is_empty()).then_some(first),
        }
    }

    fn boots_by_lease(&self, offer: &[u8]) -> bool {
        match self.model {
            Model::Edk2Http => {
                option(offer, 60).is_some_and(|c| c.starts_with(b"HTTPClient")) && self.file(offer).is_some()
            }
            _ => self.file(offer).is_some(),
        }
    }

    fn after_lease(&mut self, now: Instant) {
        let lease = self.lease.clone().unwrap_or_default();
        if self.model == Model::Device {
            self.state = State::Leased(yiaddr(&lease));
            return;
        }
        let binl = option(&lease, 60).is_some_and(|c| c.starts_with(b"PXEClient")) && option(&lease, 43).is_none();
        if self.boots_by_lease(&lease) && !(binl && matches!(self.model, Model::Edk2 { .. })) {
            if let Some(file) = self.file(&lease) {
                self.boot(file, siaddr(&lease), &lease);
            }
            return;
        }
        let Some(proxy) = self.split().1.first().map(|offer| (*offer).clone()) else {
            self.restart(now);
            return;
        };
        let server = if siaddr(&proxy).is_unspecified() { address_of(option(&proxy, 54)) } else { siaddr(&proxy) };
        let file = self.file(&proxy);
        let direct = match self.model {
            // Without PXE sub-options the offer is a BINL server's, which is asked again.
            Model::Edk2 { .. } => option(&proxy, 43).is_some_and(|v| has_discovery(v) && control(v) & 8 != 0),
            Model::Rom => option(&proxy, 43).is_some_and(|v| control(v) & 8 != 0),
            Model::Ipxe => !siaddr(&proxy).is_unspecified(),
            Model::Edk2Http | Model::Device => true,
        };
        match file.filter(|_| direct) {
            Some(file) => self.boot(file, server, &proxy),
            None => self.state = State::Asking4011 { until: now, tries: 0, server },
        }
    }

    /// The boot file, as this client's parser finds it.
    fn file(&self, packet: &[u8]) -> Option<String> {
        let header = || text(packet.get(108..236)?);
        let by_option = || text(option(packet, 67)?);
        let name = if self.model == Model::Rom { header().or_else(by_option) } else { by_option().or_else(header) };
        name.filter(|name| self.model != Model::Edk2Http || literal(name))
    }

    fn boot(&mut self, file: String, server: Ipv4Addr, by: &[u8]) {
        // EDK2 writes a NUL behind option 67 when it ends without one: into the next option.
        let ended = option(by, 67).is_none_or(|v| v.last() == Some(&0));
        assert!(ended, "{:?}: option 67 has no NUL inside", self.model);
        if !file.starts_with("http://") {
            // shim looks only at the header, for its second stage; U-Boot for everything.
            assert_eq!((text(&by[108..236]), siaddr(by)), (Some(file.clone()), server), "{:?}", self.model);
        }
        let address = self.lease.as_deref().map_or(Ipv4Addr::UNSPECIFIED, yiaddr);
        self.state = State::Done(Booted { address, server, file });
    }
}

/// EDK2's walk through the options: the first of a code, PADs skipped, an end that must come.
pub(crate) fn option(packet: &[u8], code: u8) -> Option<&[u8]> {
    let mut rest = packet.get(240..)?;
    loop {
        match rest {
            [0, after @ ..] => rest = after,
            [255, ..] | [] | [_] => return None,
            [found, length, after @ ..] => {
                let value = after.get(..usize::from(*length))?;
                if *found == code {
                    return Some(value);
                }
                rest = &after[value.len()..];
            }
        }
    }
}

/// Sub-options 6 to 10 (PXE 2.1, table 2-1).
fn has_discovery(vendor: &[u8]) -> bool {
    sub_options(vendor).any(|(code, _)| (6..=10).contains(&code))
}

fn control(vendor: &[u8]) -> u8 {
    sub_options(vendor).find(|(code, _)| *code == 6).and_then(|(_, v)| v.first().copied()).unwrap_or(0)
}

fn sub_options(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [code, length, after @ ..] = rest else { return None };
        if *code == 255 {
            return None;
        }
        let value = after.get(..usize::from(*length))?;
        rest = &after[value.len()..];
        Some((*code, value))
    })
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    (end > 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// A URL with an address in it: a name would need a DNS server in the lease.
fn literal(url: &str) -> bool {
    let host = url.strip_prefix("http://").and_then(|rest| rest.split(['/', ':']).next());
    host.is_some_and(|host| host.parse::<Ipv4Addr>().is_ok())
}

fn address_of(bytes: Option<&[u8]>) -> Ipv4Addr {
    bytes.and_then(|b| <[u8; 4]>::try_from(b).ok()).map_or(Ipv4Addr::UNSPECIFIED, Ipv4Addr::from)
}

fn yiaddr(packet: &[u8]) -> Ipv4Addr {
    address_of(packet.get(16..20))
}

fn siaddr(packet: &[u8]) -> Ipv4Addr {
    address_of(packet.get(20..24))
}
