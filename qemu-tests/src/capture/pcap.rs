//! UDP packets out of a capture in the classic pcap format, which tcpdump writes in the host's byte order
//! (<https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-06.html>).

use std::net::Ipv4Addr;

/// Why a capture could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Neither byte order of the magic number.
    #[error("not a packet capture in the classic pcap format")]
    NotPcap,
    /// Something else than Ethernet.
    #[error("the capture has link type {0}, not Ethernet")]
    LinkType(u32),
}

/// One UDP packet over IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The Ethernet frame's sender.
    pub from_mac: [u8; 6],
    /// The Ethernet frame's receiver.
    pub to_mac: [u8; 6],
    /// Sender.
    pub from: (Ipv4Addr, u16),
    /// Receiver.
    pub to: (Ipv4Addr, u16),
    /// Content, as far as it was captured.
    pub payload: Vec<u8>,
}

/// All UDP packets, in order. What is not UDP over IPv4 over Ethernet is left out, and so is a last packet that
/// was still being written.
///
/// # Errors
/// See [`CaptureError`].
pub fn datagrams(file: &[u8]) -> Result<Vec<Datagram>, CaptureError> {
    Ok(frames(file)?.into_iter().filter_map(datagram).collect())
}

/// All Ethernet frames, in order, as far as they were captured; a last one that was still being written is left out.
///
/// # Errors
/// See [`CaptureError`].
pub fn frames(file: &[u8]) -> Result<Vec<&[u8]>, CaptureError> {
    let number: fn([u8; 4]) -> u32 = match file.get(..4) {
        // Microsecond and nanosecond time stamps.
        Some([0xd4 | 0x4d, 0xc3 | 0x3c, 0xb2, 0xa1]) => u32::from_le_bytes,
        Some([0xa1, 0xb2, 0xc3 | 0x3c, 0xd4 | 0x4d]) => u32::from_be_bytes,
        _ => return Err(CaptureError::NotPcap),
    };
    let at = |offset: usize| file.get(offset..offset + 4).and_then(|b| b.try_into().ok()).map(number);
    match at(20) {
        Some(1) => {}
        Some(other) => return Err(CaptureError::LinkType(other)),
        None => return Err(CaptureError::NotPcap),
    }
    let mut found = Vec::new();
    let mut offset = 24;
    while let Some(captured) = at(offset + 8) {
        let begin = offset + 16;
        let Some(frame) = file.get(begin..begin + captured as usize) else { break };
        found.push(frame);
        offset = begin + frame.len();
    }
    Ok(found)
}

/// The UDP packet in a frame, if it holds a whole one over IPv4.
#[must_use]
pub fn datagram(frame: &[u8]) -> Option<Datagram> {
    let ip = frame.get(14..)?;
    let header = usize::from(ip.first()? & 0x0f) * 4;
    let fragment = u16::from_be_bytes(ip.get(6..8)?.try_into().ok()?) & 0x1fff;
    if frame[12..14] != [0x08, 0x00] || ip[0] >> 4 != 4 || *ip.get(9)? != 17 || fragment != 0 {
        return None;
    }
    let address = |at: usize| ip.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(Ipv4Addr::from);
    let udp = ip.get(header..)?;
    let port = |at: usize| udp.get(at..at + 2).and_then(|b| <[u8; 2]>::try_from(b).ok()).map(u16::from_be_bytes);
    let length = usize::from(port(4)?).checked_sub(8)?;
    let payload = udp.get(8..)?;
    Some(Datagram {
        from_mac: frame.get(6..12)?.try_into().ok()?,
        to_mac: frame.get(..6)?.try_into().ok()?,
        from: (address(12)?, port(0)?),
        to: (address(16)?, port(2)?),
        payload: payload[..length.min(payload.len())].to_vec(),
    })
}

/// Reads a MAC address in the usual notation.
#[must_use]
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn capture(frames: &[&[u8]]) -> Vec<u8> {
        let mut file = vec![0; 24];
        file[..4].copy_from_slice(&[0xd4, 0xc3, 0xb2, 0xa1]);
        file[20] = 1;
        for frame in frames {
            file.extend([0; 8]);
            file.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
            file.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
            file.extend(*frame);
        }
        file
    }

    pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend([10, 77, 0, 2, 255, 255, 255, 255, 0, 67, 0, 68]);
        frame.extend(u16::try_from(payload.len() + 8).unwrap().to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame.extend([0; 4]);
        frame
    }

    #[test]
    fn a_datagram_is_read_without_ethernet_padding() {
        let found = datagrams(&capture(&[&frame(b"hello"), &[0; 60]])).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].payload, b"hello");
        assert_eq!((found[0].from.1, found[0].to.1), (67, 68));
        assert_eq!(found[0].from.0, Ipv4Addr::new(10, 77, 0, 2));
    }

    proptest! {
        #[test]
        fn any_frames_are_survived(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..5)) {
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            prop_assert!(datagrams(&capture(&frames)).is_ok());
        }
    }

    #[test]
    fn mac_addresses() {
        assert_eq!(mac("52:54:00:77:00:10"), Some([0x52, 0x54, 0, 0x77, 0, 0x10]));
        assert_eq!(mac("52:54"), None);
    }
}
