//! Any bytes on port 67 or 4011: no panic, no answer that is too short, too long for its question, or goes where it must not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::proto::{
    dhcp::{
        decide::{Arrival, Decision, Destination, Policy, Port, Ruling, Starts, answer},
        packet::Packet,
        relayed::Relayed,
        survey,
    },
    frames,
    mac::Mac,
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Instant,
};

struct Always;

impl Policy for Always {
    fn ruling(&self, _: Mac, starts: Starts) -> Ruling {
        Ruling::Boot(if starts == Starts::Script { "k8s-worker.ipxe".into() } else { "k8s-worker.efi".into() })
    }
    fn by_guid(&self, guid: &[u8; 16]) -> Option<Mac> {
        Some(Mac([2, 0, 0, 0, 0, guid[0]]))
    }
}

fuzz_target!(|bytes: &[u8]| {
    // Packet sockets give whole frames; ARP comes the same way.
    let _ = (frames::read(bytes), frames::holder(bytes));
    let Ok(packet) = Packet::read(bytes) else { return };
    let _ = (survey::read(&packet, Ipv4Addr::UNSPECIFIED), survey::chosen_server(&packet), packet.netboot_url());
    let (now, relay) = (Instant::now(), packet.giaddr);
    let mut relayed = Relayed::default();
    relayed.heard(now, &[relay], relay, &packet, true);
    for address in [packet.ciaddr, packet.requested_address().unwrap_or(packet.ciaddr)] {
        if let Ok(behind) = relayed.who(now, address) {
            assert!(Some(behind.mac) == packet.mac() && behind.way.relay == relay && !relay.is_unspecified());
        }
    }
    for port in [Port::Dhcp, Port::Proxy] {
        let arrival = Arrival {
            port,
            server: Ipv4Addr::new(10, 77, 0, 2),
            base_url: "http://10.77.0.2",
            source: SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 50), 4011),
            neighbour: None,
        };
        if let Decision::Reply { bytes: reply, destination, .. } = answer(&packet, &arrival, &Always).decision {
            assert!((300..=1472).contains(&reply.len()) && reply.len() <= 3 * bytes.len());
            let Destination::Ip(to) = destination else { panic!("a proxy knows no client's address") };
            assert!(packet.giaddr.is_unspecified() || to == SocketAddrV4::new(packet.giaddr, 67));
            assert_eq!(Packet::read(&reply).expect("it can be read").server_id(), Some(arrival.server));
        }
    }
});
