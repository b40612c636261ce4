//! A DHCP server in mode `dhcp` under any sequence of packets, probes and waits: no panic, and no address in two hands.
//! The input is a list of steps: one byte of wait, one of probe result, one of length, and so many bytes that replace a
//! template's options.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netboot::proto::{
    dhcp::{
        decide::{Arrival, Decision, Policy, Port, Ruling, Starts},
        lease::{
            answer::{probed, serve},
            server::Server,
            settings::Settings,
        },
        packet::{MessageType, Packet},
    },
    mac::Mac,
};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

struct Nobody;

impl Policy for Nobody {
    fn ruling(&self, _: Mac, _: Starts) -> Ruling {
        Ruling::Boot("k8s-worker.efi".into())
    }
    fn by_guid(&self, _: &[u8; 16]) -> Option<Mac> {
        None
    }
}

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

fn arrival(source: SocketAddrV4) -> Arrival<'static> {
    Arrival { port: Port::Dhcp, server: SERVER, base_url: "http://10.77.0.2", source, neighbour: None }
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let settings = Settings {
        server: SERVER,
        prefix: 24,
        first: at(100),
        last: at(103),
        reservations: BTreeMap::from([(Mac([2, 0, 0, 0, 0, 9]), at(20))]),
        router: Some(at(1)),
        dns: vec![at(1)],
        ntp: vec![],
        domain: Some("store.example".into()),
        lease: Duration::from_secs(3600),
        boot_lease: Duration::from_secs(300),
        probe: bytes.first().is_some_and(|b| b % 2 == 0),
    };
    let mut now = Instant::now();
    let mut server = Server::new(settings, now, []);
    let mut holders: BTreeMap<Ipv4Addr, ([u8; 16], Instant)> = BTreeMap::new();
    while let [wait, result, client, length, after @ ..] = rest {
        let (options, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        now += Duration::from_secs(u64::from(*wait) * 8);
        let mut packet = vec![0; 236];
        packet[..3].copy_from_slice(&[1, 1, 6]);
        // Headers with other fields come with long options.
        packet[28..34].copy_from_slice(&[2, 0, 0, 0, 0, *client % 10]);
        packet.extend_from_slice(&[99, 130, 83, 99]);
        packet.extend_from_slice(options);
        if let [.., a, b] = options {
            packet[15] = *a;
            packet[12..15].copy_from_slice(if *a == 0 { &[0, 0, 0] } else { &[10, 77, 0] });
            packet[10] = *b & 0x80;
        }
        let Ok(packet) = Packet::read(&packet) else { continue };
        let source = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let served = serve(&mut server, now, &packet, &arrival(source), &Nobody);
        let ended = matches!(packet.message_type(), Some(MessageType::Decline | MessageType::Release));
        if let Some(record) = served.record.as_ref().filter(|_| ended) {
            holders.remove(&record.address);
        }
        if let Some(Decision::Reply { bytes, .. }) = served.outcome.map(|outcome| outcome.decision) {
            let reply = Packet::read(&bytes).expect("it can be read");
            if reply.message_type() == Some(MessageType::Ack) && !reply.yiaddr.is_unspecified() {
                let held = holders.get(&reply.yiaddr);
                assert!(held.is_none_or(|(who, until)| *who == packet.chaddr || *until <= now), "an address in two hands");
                holders.retain(|_, (who, _)| *who != packet.chaddr);
                let seconds = reply.requested_lease().expect("a lease has a time");
                holders.insert(reply.yiaddr, (packet.chaddr, now + Duration::from_secs(seconds.into())));
            }
        }
        let mut probe = served.probe;
        while let Some(address) = probe {
            let holder = (result % 3 == 0).then_some(Mac([2; 6]));
            let done = probed(&mut server, now, address, holder, |q| arrival(q.source), &Nobody);
            if holder.is_some() {
                holders.remove(&address);
            }
            probe = done.and_then(|(_, served)| served.probe);
        }
    }
});
