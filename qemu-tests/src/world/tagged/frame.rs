//! Tags of VLANs on Ethernet frames (IEEE 802.1Q, 9.6), as QEMU and the kernel hand frames over: from the receiver's address on,
//! without checksum.

use crate::capture::pcap;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Receiver and sender.
const ADDRESSES: usize = 12;
/// The two, and what is in the frame.
const HEADER: usize = ADDRESSES + 2;
/// `0x8100` and the tag's control information.
const TAG: usize = 4;
/// What a tag begins with.
const PROTOCOL: [u8; 2] = [0x81, 0x00];
/// The bits of the control information that name the VLAN.
const VLAN_BITS: u16 = 0x0fff;
const DHCP_SERVER: u16 = 67;

/// Why a frame does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is shorter than its header.
    NoFrame,
    /// It has no tag.
    Untagged,
    /// It is of another VLAN; 0 is a tag that names none.
    Other(u16),
}

/// The frame with a tag of this VLAN, whatever tags it has already; `None` where it is shorter than a header.
#[must_use]
pub fn tag(frame: &[u8], vlan: u16) -> Option<Vec<u8>> {
    frame.get(..HEADER)?;
    let (addresses, rest) = frame.split_at(ADDRESSES);
    Some([addresses, &PROTOCOL, &(vlan & VLAN_BITS).to_be_bytes(), rest].concat())
}

/// The frame without its tag, which has to be of this VLAN.
///
/// # Errors
/// See [`Refused`].
pub fn untag(frame: &[u8], vlan: u16) -> Result<Vec<u8>, Refused> {
    let kind = frame.get(ADDRESSES..HEADER).ok_or(Refused::NoFrame)?;
    if kind != PROTOCOL {
        return Err(Refused::Untagged);
    }
    // The frame's own type has to follow.
    let control = frame.get(HEADER..HEADER + TAG).ok_or(Refused::NoFrame)?;
    match u16::from_be_bytes([control[0], control[1]]) & VLAN_BITS {
        named if named == vlan => Ok([&frame[..ADDRESSES], &frame[ADDRESSES + TAG..]].concat()),
        other => Err(Refused::Other(other)),
    }
}

/// The address that the sender of an untagged frame has, by IPv4, IPv6 or ARP. One that is still asking for an address has none;
/// link-local ones do not count, because every interface gives itself one.
#[must_use]
pub fn sender(frame: &[u8]) -> Option<IpAddr> {
    let v4 = |at: usize| {
        let bytes: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes)).filter(|ip| !ip.is_unspecified() && !ip.is_link_local()).map(IpAddr::V4)
    };
    match u16::from_be_bytes(frame.get(ADDRESSES..HEADER)?.try_into().ok()?) {
        0x0800 => v4(HEADER + 12),
        // RFC 826: the sender's address is behind two types, two lengths, the operation and its hardware address.
        0x0806 => v4(HEADER + 14),
        0x86dd => {
            let bytes: [u8; 16] = frame.get(HEADER + 8..HEADER + 24)?.try_into().ok()?;
            let ip = Ipv6Addr::from(bytes);
            (!ip.is_unspecified() && !ip.is_unicast_link_local()).then_some(IpAddr::V6(ip))
        }
        _ => None,
    }
}

/// What came to a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames for the machine.
    pub to_machine: u64,
    /// Frames of the machine's that passed.
    pub passed: u64,
    /// Frames of the machine's without a tag.
    pub untagged: u64,
    /// Those of them that ask for an address: DHCP, IPv4.
    pub asked: u64,
    /// Frames of the machine's with another tag.
    pub other: u64,
    /// What is shorter than a frame.
    pub no_frame: u64,
    /// Frames that nobody took.
    pub lost: u64,
    /// Addresses that untagged frames came from.
    pub outside: BTreeSet<IpAddr>,
}

impl Counts {
    /// Counts a frame for the machine; returns what it gets.
    pub fn for_machine(&mut self, frame: &[u8], vlan: u16) -> Option<Vec<u8>> {
        let tagged = tag(frame, vlan);
        *(if tagged.is_some() { &mut self.to_machine } else { &mut self.no_frame }) += 1;
        tagged
    }

    /// Counts a frame of the machine's; returns what everybody else gets.
    pub fn of_machine(&mut self, frame: &[u8], vlan: u16) -> Option<Vec<u8>> {
        let judged = untag(frame, vlan);
        match judged {
            Ok(_) => self.passed += 1,
            Err(Refused::NoFrame) => self.no_frame += 1,
            Err(Refused::Other(_)) => self.other += 1,
            Err(Refused::Untagged) => {
                self.untagged += 1;
                self.asked += u64::from(pcap::datagram(frame).is_some_and(|udp| udp.to.1 == DHCP_SERVER));
                self.outside.extend(sender(frame));
            }
        }
        judged.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    const FROM_TO: [u8; ADDRESSES] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2];

    fn frame(kind: u16, rest: &[u8]) -> Vec<u8> {
        [&FROM_TO[..], &kind.to_be_bytes(), rest].concat()
    }

    fn ipv4(from: [u8; 4], to_port: u16) -> Vec<u8> {
        let header = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0][..], &from, &[255; 4]].concat();
        frame(0x0800, &[&header[..], &[0, 68], &to_port.to_be_bytes(), &[0, 8, 0, 0]].concat())
    }

    fn ipv6(from: Ipv6Addr) -> Vec<u8> {
        frame(0x86dd, &[&[0x60, 0, 0, 0, 0, 0, 58, 255][..], &from.octets(), &[0xff; 16]].concat())
    }

    #[test]
    fn the_tag_stands_between_addresses_and_type() {
        let tagged = tag(&frame(0x0806, b"who?"), 20).unwrap();
        assert_eq!(tagged, [&FROM_TO[..], &[0x81, 0x00, 0x00, 20, 0x08, 0x06], b"who?"].concat());
        // A switch ignores the priority in the upper bits.
        let urgent = [&FROM_TO[..], &[0x81, 0x00, 0xe0, 20, 0x08, 0x06], b"who?"].concat();
        assert_eq!(untag(&urgent, 20), Ok(frame(0x0806, b"who?")));
    }

    #[test]
    fn what_has_not_exactly_this_tag_does_not_pass() {
        let plain = frame(0x0800, b"hello");
        assert_eq!(untag(&plain, 20), Err(Refused::Untagged));
        assert_eq!(untag(&tag(&plain, 21).unwrap(), 20), Err(Refused::Other(21)));
        assert_eq!(untag(&tag(&plain, 0).unwrap(), 20), Err(Refused::Other(0)));
        // The outer tag is the one that counts.
        assert_eq!(untag(&tag(&tag(&plain, 20).unwrap(), 21).unwrap(), 20), Err(Refused::Other(21)));
        // A provider's tag (IEEE 802.1ad) is none of these.
        assert_eq!(untag(&frame(0x88a8, &[0, 20, 8, 0]), 20), Err(Refused::Untagged));
        assert_eq!(untag(&tag(&plain, 20).unwrap()[..17], 20), Err(Refused::NoFrame));
        assert_eq!((untag(&[], 20), tag(&[0; 13], 20)), (Err(Refused::NoFrame), None));
    }

    #[test]
    fn a_sender_has_an_address_once_it_uses_one() {
        assert_eq!(sender(&ipv4([0; 4], 67)), None);
        assert_eq!(sender(&ipv4([169, 254, 1, 1], 67)), None);
        assert_eq!(sender(&ipv4([10, 0, 0, 7], 80)), Some([10, 0, 0, 7].into()));
        let arp = |from: [u8; 4]| frame(0x0806, &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2; 6], &from, &[0; 10]].concat());
        // An ARP probe (RFC 5227, 2.1.1) asks whether somebody has it.
        assert_eq!(sender(&arp([0; 4])), None);
        assert_eq!(sender(&arp([10, 0, 0, 7])), Some([10, 0, 0, 7].into()));
        let global = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);
        assert_eq!(sender(&ipv6(global)), Some(global.into()));
        for none in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7)] {
            assert_eq!(sender(&ipv6(none)), None);
        }
    }

    #[test]
    fn all_that_comes_is_counted() {
        let mut counts = Counts::default();
        assert!(counts.of_machine(&ipv4([0; 4], 67), 20).is_none());
        assert!(counts.of_machine(&ipv4([10, 0, 0, 7], 80), 20).is_none());
        assert!(counts.of_machine(&tag(&ipv4([10, 0, 0, 8], 67), 21).unwrap(), 20).is_none());
        assert!(counts.of_machine(&tag(&ipv4([10, 0, 0, 9], 67), 20).unwrap(), 20).is_some());
        assert!(counts.of_machine(b"short", 20).is_none());
        assert!(counts.for_machine(&ipv4([10, 0, 0, 1], 68), 20).is_some());
        assert!(counts.for_machine(b"short", 20).is_none());
        let outside = BTreeSet::from([[10, 0, 0, 7].into()]);
        let wanted =
            Counts { to_machine: 1, passed: 1, untagged: 2, asked: 1, other: 1, no_frame: 2, lost: 0, outside };
        assert_eq!(counts, wanted);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..80), tagged: bool, vlan: u16) {
            let mut bytes = bytes;
            if let Some(kind) = bytes.get_mut(ADDRESSES..HEADER).filter(|_| tagged) {
                kind.copy_from_slice(&PROTOCOL);
            }
            let mut counts = Counts::default();
            let passed = counts.of_machine(&bytes, vlan);
            prop_assert_eq!(passed.is_some(), counts.passed == 1);
            prop_assert_eq!(counts.passed + counts.untagged + counts.other + counts.no_frame, 1);
            // What passed is what came, but for the tag.
            if let Some(plain) = passed {
                prop_assert_eq!(&plain[..ADDRESSES], &bytes[..ADDRESSES]);
                prop_assert_eq!(&plain[ADDRESSES..], &bytes[ADDRESSES + TAG..]);
            }
        }

        #[test]
        fn a_tag_comes_off_as_it_went_on(bytes in vec(any::<u8>(), HEADER..1600), vlan in 1_u16..=4094, other in 1_u16..=4094) {
            let tagged = tag(&bytes, vlan).unwrap();
            prop_assert_eq!(tagged.len(), bytes.len() + TAG);
            match untag(&tagged, other) {
                Ok(plain) => prop_assert!(vlan == other && plain == bytes),
                Err(refused) => prop_assert!(vlan != other && refused == Refused::Other(vlan)),
            }
        }
    }
}
