//! Any bytes as an answer to a DHCPDISCOVER: no panic, and what is believed makes sense.
#![no_main]

use firstboot_agent::net::dhcp::Heard;
use libfuzzer_sys::fuzz_target;

const XID: u32 = 7;
const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

fuzz_target!(|bytes: &[u8]| {
    // Most of it would fail at the header, which other tests look at.
    let mut packet = bytes.to_vec();
    if packet.len() >= 240 {
        (packet[0], packet[2]) = (2, 6);
        packet[4..8].copy_from_slice(&XID.to_be_bytes());
        packet[28..34].copy_from_slice(&MAC);
        packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
    }
    let mut heard = Heard::default();
    heard.take(&packet, XID, MAC);
    if let Some(lease) = heard.offer {
        assert!(lease.prefix <= 32 && !lease.address.is_unspecified());
    }
    if let Some(url) = heard.netboot {
        assert!(url.starts_with("http://"));
    }
});
