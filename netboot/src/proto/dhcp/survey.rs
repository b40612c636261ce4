//! Which DHCP and boot servers are on the LAN, from what is heard without asking: their broadcast answers, and the
//! server that clients name in their REQUESTs.

use super::packet::{MessageType, Packet, code};
use crate::proto::mac::Mac;
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// Servers that are remembered. A LAN has one or two; anybody can forge more.
const MOST: usize = 32;
/// A server that was not heard for this long is forgotten when room is needed.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A server that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// It lends addresses.
    pub lends: bool,
    /// It answers boot clients.
    pub boots: bool,
    /// The card that its answers came from.
    pub mac: Option<Mac>,
    /// When it was heard last.
    pub last: Instant,
}

/// What is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A DHCP server that was not known.
    DhcpServer(Ipv4Addr),
    /// A boot server that was not known.
    BootServer(Ipv4Addr),
}

/// A server's answer, as a survey reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// Who speaks: option 54, else the sender.
    pub server: Ipv4Addr,
    /// The address that it lends, if it does.
    pub lends: Option<Ipv4Addr>,
    /// Whether it says something about booting.
    pub boots: bool,
}

/// Reads a server's OFFER or ACK; nothing else says who serves.
#[must_use]
pub fn read(packet: &Packet, sender: Ipv4Addr) -> Option<Spoken> {
    if packet.op != 2 || !matches!(packet.message_type(), Some(MessageType::Offer | MessageType::Ack)) {
        return None;
    }
    let server = packet.server_id().filter(|server| !server.is_unspecified()).unwrap_or(sender);
    if server.is_unspecified() || server.is_broadcast() {
        return None;
    }
    let class = packet.class();
    let class = class.starts_with("PXEClient") || class.starts_with("HTTPClient");
    // Boot menus and discovery control (PXE 2.1, table 2-1) come in option 43 of servers that leave out the class.
    let menu = packet.option(code::VENDOR).is_some_and(|vendor| matches!(vendor, [6 | 8 | 9 | 10, ..]));
    let boots = class || packet.names_a_boot_file() || menu;
    Some(Spoken { server, lends: Some(packet.yiaddr).filter(|a| !a.is_unspecified()), boots })
}

/// The server that a client names in a REQUEST.
#[must_use]
pub fn chosen_server(packet: &Packet) -> Option<Ipv4Addr> {
    let request = packet.op == 1 && packet.message_type() == Some(MessageType::Request);
    packet.server_id().filter(|server| request && !server.is_unspecified() && !server.is_broadcast())
}

/// What was heard so far.
#[derive(Debug, Default)]
pub struct Survey {
    servers: BTreeMap<Ipv4Addr, Seen>,
}

impl Survey {
    /// Notes a server's answer. Netboot's own (`own`) do not count.
    pub fn heard(&mut self, now: Instant, own: Ipv4Addr, spoken: Spoken, mac: Option<Mac>) -> Vec<News> {
        if spoken.server == own {
            return Vec::new();
        }
        self.note(now, spoken.server, spoken.lends.is_some(), spoken.boots, mac)
    }

    /// Notes that a client has chosen a server. This may be one on netboot's own host, with netboot's own address.
    pub fn chosen(&mut self, now: Instant, server: Ipv4Addr) -> Vec<News> {
        self.note(now, server, true, false, None)
    }

    fn note(&mut self, now: Instant, server: Ipv4Addr, lends: bool, boots: bool, mac: Option<Mac>) -> Vec<News> {
        if !self.servers.contains_key(&server) {
            if self.servers.len() >= MOST {
                self.servers.retain(|_, seen| now.saturating_duration_since(seen.last) < STALE);
            }
            if self.servers.len() >= MOST {
                return Vec::new();
            }
        }
        let seen = self.servers.entry(server).or_insert(Seen { lends: false, boots: false, mac, last: now });
        let mut news = Vec::new();
        if lends && !seen.lends {
            news.push(News::DhcpServer(server));
        }
        if boots && !seen.boots {
            news.push(News::BootServer(server));
        }
        (seen.lends, seen.boots, seen.last) = (seen.lends | lends, seen.boots | boots, now);
        seen.mac = mac.or(seen.mac);
        news
    }

    /// The servers, by address.
    pub fn servers(&self) -> impl Iterator<Item = (Ipv4Addr, &Seen)> {
        self.servers.iter().map(|(server, seen)| (*server, seen))
    }

    /// Those that lend addresses.
    pub fn dhcp_servers(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.servers().filter(|(_, seen)| seen.lends).map(|(server, _)| server)
    }

    /// Those that answer boot clients.
    pub fn boot_servers(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.servers().filter(|(_, seen)| seen.boots).map(|(server, _)| server)
    }

    /// What was heard, in a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let list = |servers: Vec<Ipv4Addr>| match servers.as_slice() {
            [] => "none".to_owned(),
            some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        let (dhcp, boot) = (list(self.dhcp_servers().collect()), list(self.boot_servers().collect()));
        format!("DHCP servers heard: {dhcp}; other boot servers heard: {boot}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dhcp::samples::Sample;
    use proptest::prelude::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

    fn offer(server: Ipv4Addr, yiaddr: Ipv4Addr, class: &[u8]) -> Option<Spoken> {
        let sample = Sample::discover(class).op(2).option(53, &[2]).option(54, &server.octets()).yiaddr(yiaddr);
        read(&Packet::read(&sample.bytes()).unwrap(), Ipv4Addr::new(10, 77, 0, 9))
    }

    #[test]
    fn lenders_and_boot_servers_are_told_apart_and_named_once() {
        let (mut survey, now, none) = (Survey::default(), Instant::now(), Ipv4Addr::UNSPECIFIED);
        let lease = offer(OTHER, Ipv4Addr::new(10, 77, 0, 50), b"").unwrap();
        assert_eq!(survey.heard(now, OWN, lease, None), [News::DhcpServer(OTHER)]);
        assert_eq!(survey.heard(now, OWN, lease, None), []);
        let proxy = offer(OTHER, none, b"PXEClient").unwrap();
        assert_eq!(survey.heard(now, OWN, proxy, None), [News::BootServer(OTHER)]);
        assert_eq!(survey.heard(now, OWN, offer(OWN, none, b"PXEClient").unwrap(), None), [], "our own");
        assert_eq!(survey.chosen(now, OWN), [News::DhcpServer(OWN)], "a DHCP server on this host");
        assert_eq!(survey.summary(), "DHCP servers heard: 10.77.0.1, 10.77.0.2; other boot servers heard: 10.77.0.1");
    }

    #[test]
    fn questions_refusals_and_nonsense_say_nothing() {
        let discover = Sample::edk2_pxe().bytes();
        assert_eq!(read(&Packet::read(&discover).unwrap(), OTHER), None);
        let nak = Sample::discover(b"").op(2).option(53, &[6]).option(54, &OTHER.octets()).bytes();
        assert_eq!(read(&Packet::read(&nak).unwrap(), OTHER), None);
        let request = Sample::discover(b"").option(53, &[3]).option(54, &OTHER.octets());
        let chosen = |sample: &Sample| chosen_server(&Packet::read(&sample.bytes()).unwrap());
        assert_eq!(chosen(&request), Some(OTHER));
        assert_eq!(chosen(&request.clone().option(54, &[0; 4])), None);
        assert_eq!(chosen(&request.option(53, &[1])), None);
        let anonymous = Sample::discover(b"").op(2).option(53, &[2]).bytes();
        assert_eq!(read(&Packet::read(&anonymous).unwrap(), Ipv4Addr::UNSPECIFIED), None);
        let menu = Sample::discover(b"").op(2).option(53, &[2]).option(43, &[6, 1, 3, 255]).bytes();
        let spoken = read(&Packet::read(&menu).unwrap(), OTHER).unwrap();
        assert_eq!((spoken.server, spoken.boots), (OTHER, true));
    }

    proptest! {
        #[test]
        fn forged_servers_take_no_memory(servers in proptest::collection::vec(any::<u32>(), 0..200)) {
            let (mut survey, now) = (Survey::default(), Instant::now());
            for server in servers {
                let spoken = Spoken { server: Ipv4Addr::from(server), lends: None, boots: true };
                let _ = survey.heard(now, OWN, spoken, None);
            }
            prop_assert!(survey.servers().count() <= MOST);
        }
    }
}
