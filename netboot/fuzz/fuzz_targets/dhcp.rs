//! Any bytes on port 67 or 4011: no panic, and no answer that is too short or goes back to where it must not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::proto::{
    dhcp::{
        decide::{Arrival, Decision, Policy, Port, Ruling, Starts, answer},
        packet::Packet,
    },
    mac::Mac,
};
use std::net::{Ipv4Addr, SocketAddrV4};

struct Always;

impl Policy for Always {
    fn ruling(&self, _: Mac, _: Starts) -> Ruling {
        Ruling::Boot("k8s-worker.efi".into())
    }
    fn by_guid(&self, guid: &[u8; 16]) -> Option<Mac> {
        Some(Mac([2, 0, 0, 0, 0, guid[0]]))
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = Packet::read(bytes) else { return };
    for port in [Port::Dhcp, Port::Proxy] {
        let arrival = Arrival {
            port,
            server: Ipv4Addr::new(10, 77, 0, 2),
            base_url: "http://10.77.0.2",
            source: SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 50), 4011),
            neighbour: None,
        };
        if let Decision::Reply { bytes, .. } = answer(&packet, &arrival, &Always).decision {
            assert!((300..=1472).contains(&bytes.len()));
        }
    }
});
