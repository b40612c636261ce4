//! What one device received, in a form in which two runs can be compared: what is random or a time is blanked, repeats are
//! counted, and the rest must be equal byte by byte.

use super::{
    dhcp,
    pcap::{self, CaptureError, Datagram},
};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Fields that a server draws by lot or takes from its clock: renewal and rebinding time (dnsmasq spreads them).
const RANDOM_OPTIONS: [u8; 2] = [58, 59];
/// Ports below this belong to somebody; above it clients and TFTP servers draw them by lot.
const FIRST_RANDOM_PORT: u16 = 1024;
/// The PXE boot server's port is above it.
const PXE_PORT: u16 = 4011;

/// One packet, and how often it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// For people.
    pub what: String,
    /// Everything in it that is not random.
    pub content: Vec<u8>,
    /// It was sent from this interface.
    pub from_mac: [u8; 6],
    /// How often it came. No part of the comparison: a client that waits asks again.
    pub times: usize,
}

/// Everything that one device received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// Each packet once, in the order of their first coming.
    pub packets: Vec<Packet>,
    /// ARP, by sender: every host asks, whatever runs on it.
    pub arp: BTreeMap<[u8; 6], usize>,
}

impl Received {
    /// Reads the capture of the wire of `device`.
    ///
    /// # Errors
    /// When it is no capture.
    pub fn of(device: [u8; 6], capture: &[u8]) -> Result<Self, CaptureError> {
        let mut received = Self::default();
        for frame in pcap::frames(capture)? {
            let (Some(to), Some(from)) = (mac_at(frame, 0), mac_at(frame, 6)) else { continue };
            // The lowest bit of the first byte: broadcast and multicast.
            if from == device || (to != device && to[0] & 1 == 0) {
                continue;
            }
            if frame.get(12..14) == Some(&[0x08, 0x06]) {
                *received.arp.entry(from).or_default() += 1;
                continue;
            }
            received.add(Packet { from_mac: from, times: 1, ..normal(frame) });
        }
        Ok(received)
    }

    fn add(&mut self, packet: Packet) {
        let same = |p: &&mut Packet| p.content == packet.content && p.from_mac == packet.from_mac;
        match self.packets.iter_mut().find(same) {
            Some(known) => known.times += 1,
            None => self.packets.push(packet),
        }
    }

    /// How two runs differ, in words; empty when they do not.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let count = self.packets.len().max(other.packets.len());
        let pairs = (0..count).map(|index| (self.packets.get(index), other.packets.get(index)));
        let differ = pairs.filter_map(|pair| match pair {
            (Some(a), Some(b)) if (&a.content, a.from_mac) == (&b.content, b.from_mac) => None,
            (Some(a), Some(b)) if a.what == b.what => Some(format!("{}: {}", a.what, first_difference(a, b))),
            (Some(a), Some(b)) => Some(format!("{} became {}", a.what, b.what)),
            (Some(a), None) => Some(format!("{} is missing", a.what)),
            (None, Some(b)) => Some(format!("{} is new", b.what)),
            (None, None) => None,
        });
        differ.collect()
    }

    /// Packets that this interface sent, or that name this address as their sender or as DHCP or boot server.
    pub fn from_server(&self, mac: [u8; 6], address: Ipv4Addr) -> impl Iterator<Item = &Packet> {
        let words = format!(" {address} ");
        self.packets.iter().filter(move |packet| packet.from_mac == mac || packet.what.contains(&words))
    }
}

fn first_difference(a: &Packet, b: &Packet) -> String {
    if a.from_mac != b.from_mac {
        return "it came from another interface".into();
    }
    let at = a.content.iter().zip(&b.content).position(|(x, y)| x != y).unwrap_or(a.content.len().min(b.content.len()));
    let byte = |packet: &Packet| packet.content.get(at).map_or("nothing".to_owned(), |b| format!("{b:#04x}"));
    format!("byte {at} was {} and became {}", byte(a), byte(b))
}

fn mac_at(frame: &[u8], at: usize) -> Option<[u8; 6]> {
    frame.get(at..at + 6)?.try_into().ok()
}

/// The packet of a frame without what is random in it.
fn normal(frame: &[u8]) -> Packet {
    let packet = |what: String, content: Vec<u8>| Packet { what, content, from_mac: [0; 6], times: 1 };
    let Some(datagram) = pcap::datagram(frame) else {
        let (kind, protocol) = (frame.get(12..14).unwrap_or_default(), frame.get(23).copied().unwrap_or_default());
        return packet(format!("frame of type {}, protocol {protocol}", hex::encode(kind)), frame.to_vec());
    };
    let Datagram { from, to, payload, .. } = &datagram;
    let (from_port, to_port) = (known_port(from.1), known_port(to.1));
    let mut content: Vec<u8> = [from.0.octets(), to.0.octets()].concat();
    content.extend([from_port.to_be_bytes(), to_port.to_be_bytes()].concat());
    if let Some(message) = dhcp::read(payload) {
        content.extend(without_random(payload));
        let kind = message.kind().map_or("BOOTP".to_owned(), |kind| word(kind).to_owned());
        let server = message.options.get(&dhcp::SERVER).and_then(|v| <[u8; 4]>::try_from(v.as_slice()).ok());
        let server = server.map_or(from.0, Ipv4Addr::from);
        let next = Ipv4Addr::new(payload[20], payload[21], payload[22], payload[23]);
        let mut what = format!("{kind} of {server} from {} : {}", from.0, Ipv4Addr::from(message.your_address));
        if !message.file.is_empty() {
            what += &format!(", file {} at {next} ", message.file);
        }
        return packet(what, content);
    }
    content.extend(payload);
    let mut what = format!("UDP from {} port {from_port} to port {to_port}, {} bytes", from.0, payload.len());
    if let [0, 3, high, low, ..] = payload.as_slice() {
        what += &format!(" (TFTP data {})", u16::from_be_bytes([*high, *low]));
    }
    packet(what, content)
}

fn known_port(port: u16) -> u16 {
    if port < FIRST_RANDOM_PORT || port == PXE_PORT { port } else { 0 }
}

fn word(kind: u8) -> &'static str {
    match kind {
        dhcp::DISCOVER => "DISCOVER",
        dhcp::OFFER => "OFFER",
        dhcp::REQUEST => "REQUEST",
        dhcp::ACK => "ACK",
        6 => "NAK",
        _ => "DHCP message",
    }
}

/// A DHCP message with transaction, seconds and random times blanked.
fn without_random(payload: &[u8]) -> Vec<u8> {
    let mut out = payload.to_vec();
    out[4..10].fill(0);
    let mut at = 240;
    while let (Some(&code), Some(&length)) = (out.get(at), out.get(at + 1)) {
        match code {
            0 => at += 1,
            255 => break,
            _ => {
                let end = (at + 2 + usize::from(length)).min(out.len());
                if RANDOM_OPTIONS.contains(&code) {
                    out[at + 2..end].fill(0);
                }
                at = end;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::pcap::tests::{capture, frame};
    use proptest::prelude::*;

    const DEVICE: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];

    fn offer(server: u8, xid: u8, renewal: u8, lease: u8) -> Vec<u8> {
        let mut message = vec![0; 236];
        message[0] = 2;
        message[7] = xid;
        message[28..34].copy_from_slice(&DEVICE);
        message.extend([99, 130, 83, 99, 53, 1, 2, 54, 4, 10, 77, 0, server, 58, 4, 0, 0, 0, renewal]);
        message.extend([51, 4, 0, 0, 0, lease, 255]);
        frame(&message)
    }

    fn received(frames: &[&[u8]]) -> Received {
        Received::of(DEVICE, &capture(frames)).unwrap()
    }

    #[test]
    fn what_is_random_does_not_count_and_what_is_not_does() {
        let before = received(&[&offer(1, 7, 10, 60), &offer(1, 8, 11, 60)]);
        assert_eq!((before.packets.len(), before.packets[0].times), (1, 2));
        assert!(before.differences(&received(&[&offer(1, 9, 12, 60)])).is_empty());
        let longer = before.differences(&received(&[&offer(1, 9, 12, 61)]));
        assert!(longer[0].contains("was 0x3c and became 0x3d"), "{longer:?}");
    }

    #[test]
    fn another_servers_offer_is_new_and_is_its() {
        let (before, after) = (received(&[&offer(1, 7, 1, 1)]), received(&[&offer(1, 7, 1, 1), &offer(2, 7, 1, 1)]));
        assert!(before.differences(&after)[0].contains("is new"));
        assert_eq!(after.differences(&before), ["OFFER of 10.77.0.2 from 10.77.0.2 : 0.0.0.0 is missing"]);
        let netboot = Ipv4Addr::new(10, 77, 0, 2);
        assert_eq!(after.from_server([1; 6], netboot).count(), 2, "the frame itself comes from 10.77.0.2");
    }

    #[test]
    fn what_it_sent_itself_and_what_was_for_others_was_not_received() {
        let mut own = offer(1, 7, 1, 1);
        own[6..12].copy_from_slice(&DEVICE);
        let mut others = offer(1, 7, 1, 1);
        others[..6].copy_from_slice(&[2; 6]);
        let mut arp = vec![0xff; 6];
        arp.extend([3; 6]);
        arp.extend([0x08, 0x06, 0, 1]);
        let seen = received(&[&own, &others, &arp]);
        assert!(seen.packets.is_empty());
        assert_eq!(seen.arp, [([3; 6], 1)].into());
    }

    proptest! {
        #[test]
        fn any_frames_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut message = vec![0; 236];
            message.extend([99, 130, 83, 99]);
            message.extend(&tail);
            let _ = received(&[&frame(&message), &tail]);
        }
    }
}
