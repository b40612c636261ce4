//! Ethernet frames and IPv4 packets around DHCP, for hearing and answering without holding port 67.

use super::mac::Mac;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Hops that an answer may take: a relay can be some routers away.
const TTL: u8 = 64;

/// A UDP datagram that was taken out of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The card that sent the frame: the client's own, or a relay's.
    pub sender: Mac,
    /// Source address and port.
    pub source: SocketAddrV4,
    /// Destination address and port.
    pub destination: SocketAddrV4,
    /// What UDP carries.
    pub payload: &'a [u8],
}

/// Takes a frame apart. `None` for everything but whole UDP over IPv4. Checksums are not looked at: between
/// virtual machines and inside one host the sender leaves them to a network card that is never passed.
#[must_use]
pub fn read(frame: &[u8]) -> Option<Datagram<'_>> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(etherparse::LinkSlice::Ethernet2(ethernet)) = &sliced.link else { return None };
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (&sliced.net, &sliced.transport) else {
        return None;
    };
    let header = ip.header();
    if header.more_fragments() || header.fragments_offset().value() != 0 {
        return None;
    }
    Some(Datagram {
        sender: Mac(ethernet.source()),
        source: SocketAddrV4::new(header.source_addr(), udp.source_port()),
        destination: SocketAddrV4::new(header.destination_addr(), udp.destination_port()),
        payload: udp.payload(),
    })
}

/// An IPv4 packet with a UDP datagram in it, checksums and all. `None` when the payload does not fit into one.
#[must_use]
pub fn packet(source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let builder = PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), TTL)
        .udp(source.port(), destination.port());
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).ok()?;
    Some(bytes)
}

/// The same in an Ethernet frame, for a client that cannot answer ARP because it has no address yet.
#[must_use]
pub fn frame(from: Mac, to: Mac, source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(from.0, to.0)
        .ipv4(source.ip().octets(), destination.ip().octets(), TTL)
        .udp(source.port(), destination.port());
    let mut bytes = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut bytes, payload).ok()?;
    Some(bytes)
}

/// Asks who has an address (ARP). With 0.0.0.0 as the asker's address the question changes nobody's table
/// (RFC 5227, section 2.1.1).
#[must_use]
pub fn who_has(from: Mac, asked: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend_from_slice(&from.0);
    // EtherType ARP; Ethernet, IPv4, lengths 6 and 4, operation 1 (RFC 826).
    bytes.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    bytes.extend_from_slice(&from.0);
    bytes.extend_from_slice(&[0; 10]);
    bytes.extend_from_slice(&asked.octets());
    bytes
}

/// Who says in an ARP frame that it has which address: replies, and announcements of any kind.
#[must_use]
pub fn holder(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let arp = frame.get(12..42)?;
    if arp[..8] != [8, 6, 0, 1, 8, 0, 6, 4] || arp[8] != 0 || !matches!(arp[9], 1 | 2) {
        return None;
    }
    let mac = Mac([arp[10], arp[11], arp[12], arp[13], arp[14], arp[15]]);
    let address = Ipv4Addr::new(arp[16], arp[17], arp[18], arp[19]);
    (!address.is_unspecified()).then_some((address, mac))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (source, destination) = (at("10.77.0.2:67"), at("10.77.0.50:68"));
        let bytes = frame(A, B, source, destination, b"hello").unwrap();
        assert_eq!(bytes[..6], B.0);
        let expected = Datagram { sender: A, source, destination, payload: b"hello" };
        assert_eq!(read(&bytes), Some(expected));
        let packet = packet(source, destination, b"hello").unwrap();
        assert_eq!(packet, bytes[14..]);
        // The checksum over the whole header comes out as 0xffff (RFC 1071).
        let sum: u32 = packet[..20].chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn fragments_and_frames_with_padding() {
        let mut bytes = frame(A, B, at("0.0.0.0:68"), at("255.255.255.255:67"), b"hi").unwrap();
        bytes.resize(60, 0);
        assert_eq!(read(&bytes).unwrap().payload, b"hi", "Ethernet's padding is not content");
        bytes[20] = 0x20;
        assert_eq!(read(&bytes), None, "a first fragment");
    }

    #[test]
    fn arp_questions_claim_nothing_and_answers_do() {
        let asked = Ipv4Addr::new(10, 77, 0, 9);
        let question = who_has(A, asked);
        assert_eq!((question.len(), holder(&question)), (42, None));
        let mut answer = question;
        answer[21] = 2;
        answer[22..28].copy_from_slice(&B.0);
        answer[28..32].copy_from_slice(&asked.octets());
        assert_eq!(holder(&answer), Some((asked, B)));
    }

    proptest! {
        #[test]
        fn any_frame_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_usize..3) {
            let whole = frame(A, B, at("0.0.0.0:68"), at("255.255.255.255:67"), &[7; 60]).unwrap();
            // Two thirds get past the Ethernet header, one third past IP's.
            let known = [0_usize, 14, 34][kind].min(bytes.len());
            bytes[..known].copy_from_slice(&whole[..known]);
            let _ = (read(&bytes), holder(&bytes));
        }
    }
}
