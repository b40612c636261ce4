//! Who is at the other end of a cable: LLDP (IEEE 802.1AB-2016), heard, never sent. Switches speak every 30 seconds, and
//! some at once when a link comes up. Anybody on the cable can claim anything, so it is a hint for people and no more.

use super::interface::Links;
use contracts::facts::{Neighbour, Nic};
use nix::sys::socket::{LinkAddr, recvfrom};
use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

/// The EtherType.
const LLDP: u16 = 0x88cc;
/// Neighbours that are kept, one for each interface.
const MOST: usize = 64;
/// The longest name that is kept, in characters.
const LONGEST: usize = 64;

/// What was heard, by the kernel's name of the interface.
pub type Heard = BTreeMap<String, Neighbour>;

/// Reads the payload of an LLDP frame, from the first TLV on. `None` when a mandatory TLV is missing or out of order, and
/// when the neighbour takes its leave (a time to live of 0).
#[must_use]
pub fn parse(payload: &[u8]) -> Option<Neighbour> {
    let mut neighbour = Neighbour::default();
    let mut rest = payload;
    // Chassis, port and time to live come first, in this order (section 8.2).
    for (number, expected) in (1..=3).enumerate() {
        let (kind, value, after) = next(rest)?;
        if kind != expected {
            return None;
        }
        match number {
            0 => neighbour.chassis = identifier(value, 4, 5)?,
            1 => neighbour.port = identifier(value, 3, 4)?,
            _ if value.get(..2)? == [0, 0] => return None,
            _ => {}
        }
        rest = after;
    }
    while let Some((kind, value, after)) = next(rest) {
        match kind {
            0 => break,
            4 => neighbour.port_description = text(value),
            5 => neighbour.system = text(value),
            // IEEE 802.1: the VLAN of untagged frames (IEEE 802.1Q, D.2.1).
            127 if value.starts_with(&[0x00, 0x80, 0xc2, 1]) => {
                neighbour.vlan = value.get(4..6).map(|b| u16::from_be_bytes([b[0], b[1]])).filter(|vlan| *vlan != 0);
            }
            _ => {}
        }
        rest = after;
    }
    Some(neighbour)
}

/// Type, value, and what follows.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let head = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
    let (value, after) = bytes[2..].split_at_checked(usize::from(head & 0x1ff))?;
    Some(((head >> 9) as u8, value, after))
}

/// A chassis or port: its subtype, then a MAC address (`mac`), a network address (`address`) or text.
fn identifier(value: &[u8], mac: u8, address: u8) -> Option<String> {
    let (subtype, value) = value.split_first()?;
    Some(match value {
        bytes if *subtype == mac && bytes.len() == 6 => {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
        }
        [1, a, b, c, d] if *subtype == address => std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string(),
        _ => text(value),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

/// Hears LLDP on all interfaces. The kernel keeps what comes until it is asked for, and drops what is too much.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Opens a packet socket, which needs CAP_NET_RAW. Frames reach it only from interfaces that let multicast through.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> std::io::Result<Self> {
        let protocol = socket2::Protocol::from(i32::from(LLDP.to_be()));
        let socket = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::DGRAM, Some(protocol))?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket.into()))
    }

    /// Takes what has come.
    pub fn drain(&self, heard: &mut Heard) {
        let mut frame = [0; 2048];
        // A bound, should somebody send faster than this reads.
        for _ in 0..1000 {
            let Ok((length, from)) = recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut frame) else { return };
            let name = from.and_then(|from| interface_name(from.ifindex()));
            if let Some((name, neighbour)) = name.zip(parse(&frame[..length]))
                && (heard.contains_key(&name) || heard.len() < MOST)
            {
                heard.insert(name, neighbour);
            }
        }
    }
}

fn interface_name(index: usize) -> Option<String> {
    let entries = fs::read_dir("/sys/class/net").ok()?.flatten();
    let mut named = entries.map(|entry| (entry.path().join("ifindex"), entry.file_name()));
    let is_it = |path: &std::path::Path| fs::read_to_string(path).is_ok_and(|text| text.trim().parse() == Ok(index));
    named.find(|(path, _)| is_it(path)).map(|(_, name)| name.to_string_lossy().into_owned())
}

/// Listens for a while, and ends as soon as every one of the interfaces has been heard from. Without the right to, nothing is
/// heard.
#[must_use]
pub fn listen(interfaces: &[String], limit: Duration) -> Heard {
    let mut heard = Heard::new();
    let (Ok(listener), Ok(runtime)) =
        (Listener::open(), tokio::runtime::Builder::new_current_thread().enable_all().build())
    else {
        return heard;
    };
    let multicast = |on| {
        runtime.block_on(async {
            let Ok(links) = Links::open() else { return };
            for name in interfaces {
                let _ = links.hear_multicast(name, on).await;
            }
        });
    };
    multicast(true);
    let end = Instant::now() + limit;
    while Instant::now() < end && !interfaces.iter().all(|name| heard.contains_key(name)) {
        std::thread::sleep(Duration::from_millis(50));
        listener.drain(&mut heard);
    }
    multicast(false);
    heard
}

/// Puts what was heard beside the cards.
pub fn add(nics: &mut [Nic], heard: &Heard) {
    for nic in nics {
        nic.neighbour = heard.get(&nic.kernel_name).cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        let head = u16::from(kind) << 9 | u16::try_from(value.len()).unwrap();
        [&head.to_be_bytes()[..], value].concat()
    }

    fn frame(ttl: u16) -> Vec<u8> {
        [
            tlv(1, &[4, 0, 0x1b, 0x21, 0, 0, 1]),
            tlv(2, b"\x05Gi1/0/7"),
            tlv(3, &ttl.to_be_bytes()),
            tlv(4, b"server \x1b[2J"),
            tlv(5, b"store-switch"),
            tlv(127, &[0, 0x80, 0xc2, 1, 0, 20]),
            tlv(0, &[]),
            vec![0; 30],
        ]
        .concat()
    }

    #[test]
    fn a_switch_says_who_it_is() {
        let expected = Neighbour {
            chassis: "00:1b:21:00:00:01".into(),
            port: "Gi1/0/7".into(),
            system: "store-switch".into(),
            port_description: "server [2J".into(),
            vlan: Some(20),
        };
        assert_eq!(parse(&frame(120)), Some(expected));
        assert_eq!(parse(&frame(0)), None, "it takes its leave");
        assert_eq!(parse(&frame(120)[2..]), None);
        let by_address = [tlv(1, &[5, 1, 10, 0, 0, 1]), tlv(2, b"\x07p1"), tlv(3, &[0, 1])].concat();
        assert_eq!(parse(&by_address).unwrap().chassis, "10.0.0.1");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0_usize..100, at in 0_usize..80, byte in any::<u8>()) {
            let _ = parse(&bytes);
            let mut damaged = frame(120);
            damaged[at] = byte;
            if let Some(found) = parse(&damaged[..damaged.len() - cut.min(damaged.len())]) {
                let safe = !found.system.chars().any(char::is_control);
                prop_assert!(safe && found.system.chars().count() <= LONGEST);
            }
            let _ = parse(&[damaged, bytes].concat());
        }
    }
}
