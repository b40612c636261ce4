use super::{
    answer::{Served, probed, serve},
    server::{PROBE, Quiet, Server, Step},
    settings::Settings,
    table::{Client, NoAddress, Record},
};
use crate::proto::{
    dhcp::{
        decide::{Arch, Arrival, Decision, Destination, Family, Kind, Policy, Port, Ruling, Silence, Starts},
        packet::{MessageType, Packet, code},
        samples::Sample,
    },
    mac::Mac,
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

fn mac(last: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 1, 1, last]
}

fn settings() -> Settings {
    Settings {
        server: SERVER,
        prefix: 24,
        first: at(100),
        last: at(103),
        reservations: BTreeMap::from([(Mac(mac(9)), at(20))]),
        router: Some(at(1)),
        dns: vec![at(1), at(3)],
        ntp: vec![at(2)],
        domain: Some("store-17.example".into()),
        lease: Duration::from_secs(7200),
        boot_lease: Duration::from_secs(300),
        probe: true,
    }
}

fn server(change: impl FnOnce(&mut Settings)) -> Server {
    let mut settings = settings();
    change(&mut settings);
    settings.check().unwrap();
    Server::new(settings, Instant::now(), [])
}

fn quick() -> Server {
    server(|s| s.probe = false)
}

struct Ours;

impl Policy for Ours {
    fn ruling(&self, mac: Mac, starts: Starts) -> Ruling {
        match starts {
            _ if mac.0[5] >= 200 => Ruling::Silent("no inventory entry of this store matches it".into()),
            Starts::NetworkLoader => Ruling::Boot("undionly.kpxe".into()),
            Starts::Script => Ruling::Boot("k8s-worker.ipxe".into()),
            Starts::Uki(_) | Starts::UkiByIpxe(_) => Ruling::Boot("k8s-worker.efi".into()),
        }
    }
    fn by_guid(&self, _: &[u8; 16]) -> Option<Mac> {
        None
    }
}

fn arrival(source: Ipv4Addr) -> Arrival<'static> {
    let source = SocketAddrV4::new(source, 68);
    Arrival { port: Port::Dhcp, server: SERVER, base_url: "http://10.77.0.2", source, neighbour: None }
}

fn ask(server: &mut Server, now: Instant, sample: &Sample) -> Served {
    let served = serve(server, now, &Packet::read(&sample.bytes()).unwrap(), &arrival(at(0)), &Ours);
    server.assert_consistent();
    served
}

/// An answer as a client reads it.
#[derive(Debug)]
struct Heard {
    kind: Kind,
    packet: Packet,
    destination: Destination,
    record: Option<Record>,
    what: String,
}

fn heard(served: Served) -> Heard {
    let outcome = served.outcome.expect("a decision");
    let Decision::Reply { bytes, destination, kind, what, .. } = outcome.decision else { panic!("{outcome:?}") };
    assert!((300..=1472).contains(&bytes.len()));
    Heard { kind, packet: Packet::read(&bytes).unwrap(), destination, record: served.record, what }
}

fn quiet(served: Served) -> Quiet {
    match served.outcome.unwrap().decision {
        Decision::Silence(Silence::Lease(quiet)) => quiet,
        other => panic!("{other:?}"),
    }
}

fn till(last: u8) -> Sample {
    Sample::discover(b"MSFT 5.0").mac(mac(last)).flags(0)
}

fn selecting(sample: Sample, address: Ipv4Addr) -> Sample {
    sample.option(53, &[3]).option(50, &address.octets()).option(54, &SERVER.octets())
}

/// DISCOVER, OFFER, REQUEST, ACK, without probes.
fn lease(server: &mut Server, now: Instant, sample: &Sample) -> Heard {
    let offer = heard(ask(server, now, sample));
    assert_eq!((offer.kind, offer.record), (Kind::LeaseOffer, None), "an offer is not worth a write");
    let ack = heard(ask(server, now, &selecting(sample.clone(), offer.packet.yiaddr)));
    assert_eq!((ack.kind, ack.packet.yiaddr), (Kind::LeaseAck, offer.packet.yiaddr));
    assert!(ack.record.is_some(), "kept before it leaves");
    ack
}

#[test]
fn a_till_gets_an_address_with_everything_and_no_boot_file() {
    let (mut server, now) = (quick(), Instant::now());
    let ack = lease(&mut server, now, &till(1).option(61, &[1, 0x52, 0x54, 0, 1, 1, 1]));
    let address = ack.packet.yiaddr;
    assert!((at(100)..=at(103)).contains(&address));
    assert_eq!(ack.destination, Destination::Link(Mac(mac(1)), SocketAddrV4::new(address, 68)));
    assert_eq!(ack.packet.server_id(), Some(SERVER));
    assert_eq!(ack.packet.requested_lease(), Some(7200));
    assert_eq!(ack.packet.option(code::CLIENT_ID), Some(&[1, 0x52, 0x54, 0, 1, 1, 1][..]), "RFC 6842");
    assert_eq!((ack.packet.names_a_boot_file(), ack.packet.siaddr), (false, Ipv4Addr::UNSPECIFIED));
    assert_eq!(ack.packet.class(), "");

    let all = heard(ask(&mut server, now, &till(1)));
    let bytes = {
        let decision = ask(&mut server, now, &till(1)).outcome.unwrap().decision;
        let Decision::Reply { bytes, .. } = decision else { panic!() };
        bytes
    };
    assert_eq!(all.packet.yiaddr, address, "asked again, it keeps its address");
    for option in [
        &[1, 4, 255, 255, 255, 0][..],
        &[3, 4, 10, 77, 0, 1],
        &[6, 8, 10, 77, 0, 1, 10, 77, 0, 3],
        &[15, 16, b's', b't'],
        &[28, 4, 10, 77, 0, 255],
        &[42, 4, 10, 77, 0, 2],
        &[51, 4, 0, 0, 0x1c, 0x20],
        &[58, 4, 0, 0, 0x0e, 0x10],
        &[59, 4, 0, 0, 0x18, 0x9c],
    ] {
        assert!(bytes.windows(option.len()).any(|part| part == option), "{option:?}");
    }
}

#[test]
fn one_address_through_every_stage_of_a_boot() {
    let (mut server, now) = (quick(), Instant::now());
    let firmware = Sample::bios_pxe().mac(mac(5)).option(61, &[0, 1, 2, 3]);
    let first = lease(&mut server, now, &firmware);
    assert_eq!(first.packet.requested_lease(), Some(300), "firmware is gone in a minute");
    assert!(first.what.contains("undionly.kpxe"), "{}", first.what);
    assert_eq!(first.packet.siaddr, SERVER, "shim and U-Boot read the acknowledgement's header");
    let ipxe = lease(&mut server, now, &Sample::bios_ipxe().mac(mac(5)).option(61, &[1, 2, 2]));
    assert!(ipxe.what.contains("http://10.77.0.2/boot/k8s-worker.ipxe"), "{}", ipxe.what);
    assert_eq!(ipxe.packet.option(code::IPXE), Some(&[176, 1, 1][..]), "it need not wait for a proxy");
    let agent = Sample::discover(contracts::discovery::VENDOR_CLASS.as_bytes()).mac(mac(5));
    let initrd = lease(&mut server, now, &agent);
    assert_eq!(initrd.packet.class(), contracts::discovery::VENDOR_CLASS);
    let system = lease(&mut server, now, &till(5).option(61, &[255, 9, 9]));
    assert_eq!(system.packet.requested_lease(), Some(7200));
    let addresses = [&first, &ipxe, &initrd, &system].map(|heard| heard.packet.yiaddr);
    assert_eq!(addresses, [addresses[0]; 4]);
    assert_eq!(server.running(now), 1);
}

#[test]
fn uefi_is_told_the_file_without_a_class_and_http_boot_with_one() {
    let (mut server, now) = (quick(), Instant::now());
    let pxe = heard(ask(&mut server, now, &Sample::edk2_pxe()));
    assert_eq!((pxe.packet.class(), pxe.packet.option(code::VENDOR)), ("", None));
    assert!(pxe.packet.names_a_boot_file() && pxe.packet.siaddr == SERVER);
    let http = heard(ask(&mut server, now, &Sample::edk2_http()));
    assert_eq!(http.packet.class(), "HTTPClient");
    assert_eq!(http.packet.option(code::BOOT_FILE), Some(&b"http://10.77.0.2/boot/k8s-worker.efi\0"[..]));
    let stranger = heard(ask(&mut server, now, &Sample::edk2_pxe().mac(mac(200))));
    assert!(!stranger.packet.names_a_boot_file(), "an address, and nothing to start");
    assert!(stranger.what.contains("no inventory entry"), "{}", stranger.what);
    assert_eq!(Family::of(&Packet::read(&Sample::edk2_pxe().bytes()).unwrap()), Family::UefiPxe(Arch::X86_64));
}

#[test]
fn an_address_in_other_hands_is_found_by_the_probe_and_left_alone() {
    let (mut server, mut now) = (server(|_| {}), Instant::now());
    let sample = till(1);
    let first = ask(&mut server, now, &sample).probe.expect("a probe before the first offer");
    assert_eq!(quiet(ask(&mut server, now, &sample)), Quiet::Probing, "asked again meanwhile");
    now += PROBE;
    let intruder = Some(Mac([2, 2, 2, 2, 2, 2]));
    let (_, served) = probed(&mut server, now, first, intruder, |_| arrival(at(0)), &Ours).unwrap();
    let second = served.probe.expect("another address is probed");
    assert_ne!(first, second);
    now += PROBE;
    let own = Some(Mac(mac(1)));
    let (_, served) = probed(&mut server, now, second, own, |_| arrival(at(0)), &Ours).unwrap();
    let offer = heard(served);
    assert_eq!(offer.packet.yiaddr, second, "the client itself may answer the probe");
    let ack = heard(ask(&mut server, now, &selecting(sample.clone(), second)));
    assert_eq!(ack.kind, Kind::LeaseAck);
    assert_eq!(heard(ask(&mut server, now, &sample)).packet.yiaddr, second, "no probe of what it has");
    assert!(probed(&mut server, now, second, None, |_| arrival(at(0)), &Ours).is_none(), "nobody waits for it");
    // Nobody else gets the disputed address for ten minutes.
    for last in 2..=4 {
        if let Some(address) = ask(&mut server, now, &till(last)).probe {
            assert_ne!(address, first);
        }
    }
}

#[test]
fn whoever_answers_every_probe_is_named_and_ends_the_search() {
    let (mut server, mut now) = (server(|_| {}), Instant::now());
    let mut address = ask(&mut server, now, &till(1)).probe.unwrap();
    let intruder = Mac([2, 2, 2, 2, 2, 2]);
    for _ in 0..2 {
        now += PROBE;
        let (_, served) = probed(&mut server, now, address, Some(intruder), |_| arrival(at(0)), &Ours).unwrap();
        address = served.probe.unwrap();
    }
    now += PROBE;
    let (_, served) = probed(&mut server, now, address, Some(intruder), |_| arrival(at(0)), &Ours).unwrap();
    assert_eq!(quiet(served), Quiet::InUse(address, intruder));
}

#[test]
fn what_a_client_may_not_have_is_refused_and_what_is_not_ours_is_left_to_others() {
    let (mut server, now) = (quick(), Instant::now());
    let address = lease(&mut server, now, &till(1)).packet.yiaddr;
    let other = if address == at(100) { at(101) } else { at(100) };
    // SELECTING another address than the offered one.
    let nak = heard(ask(&mut server, now, &selecting(till(1), other)));
    assert_eq!((nak.kind, nak.destination), (Kind::LeaseNak, Destination::EVERYBODY));
    assert_eq!((nak.packet.yiaddr, nak.packet.requested_lease()), (Ipv4Addr::UNSPECIFIED, None));
    assert!(nak.packet.flags & 0x8000 != 0);
    // INIT-REBOOT: right, wrong, from elsewhere, and of a client that is unknown here.
    let reboot = |last, address: Ipv4Addr| till(last).option(53, &[3]).option(50, &address.octets());
    assert_eq!(heard(ask(&mut server, now, &reboot(1, address))).kind, Kind::LeaseAck);
    assert_eq!(heard(ask(&mut server, now, &reboot(1, other))).kind, Kind::LeaseNak);
    let elsewhere = reboot(2, Ipv4Addr::new(192, 168, 1, 9));
    assert_eq!(heard(ask(&mut server, now, &elsewhere)).kind, Kind::LeaseNak);
    assert_eq!(quiet(ask(&mut server, now, &reboot(2, other))), Quiet::Unknown(other));
    // RENEWING comes from the address, and goes back there.
    let renewed = heard(ask(&mut server, now, &till(1).option(53, &[3]).ciaddr(address)));
    assert_eq!(renewed.kind, Kind::LeaseAck);
    assert_eq!(renewed.destination, Destination::Ip(SocketAddrV4::new(address, 68)));
    // It chose another server.
    let elsewhere = till(3).option(53, &[3]).option(54, &at(7).octets()).option(50, &at(99).octets());
    assert_eq!(quiet(ask(&mut server, now, &elsewhere)), Quiet::OtherServer(at(7)));
}

#[test]
fn a_full_pool_says_so_and_goes_on_with_what_ended_first() {
    let (mut server, mut now) = (quick(), Instant::now());
    let mut given: Vec<_> = (1..=4).map(|last| lease(&mut server, now, &till(last)).packet.yiaddr).collect();
    let first = given[0];
    given.sort();
    assert_eq!(given, [at(100), at(101), at(102), at(103)]);
    assert_eq!(quiet(ask(&mut server, now, &till(5))), Quiet::NoAddress(NoAddress::Exhausted));
    // The machine with a reservation is not concerned.
    assert_eq!(lease(&mut server, now, &till(9)).packet.yiaddr, at(20));
    // One goes, and comes back before anybody else needs its address.
    let released = till(1).option(53, &[7]).ciaddr(first).option(54, &SERVER.octets());
    assert_eq!(quiet(ask(&mut server, now, &released)), Quiet::Released(first));
    assert_eq!(heard(ask(&mut server, now, &till(1))).packet.yiaddr, first);
    let _ = ask(&mut server, now, &released);
    now += Duration::from_secs(120);
    assert_eq!(lease(&mut server, now, &till(5)).packet.yiaddr, first, "the address that was given back");
    assert_eq!(quiet(ask(&mut server, now, &till(1))), Quiet::NoAddress(NoAddress::Exhausted));
    now += Duration::from_secs(7200);
    assert_eq!(server.running(now), 0);
    assert!((at(100)..=at(103)).contains(&lease(&mut server, now, &till(1)).packet.yiaddr));
}

#[test]
fn a_declined_address_is_left_alone_and_only_its_holder_may_decline() {
    let (mut server, mut now) = (quick(), Instant::now());
    let address = lease(&mut server, now, &till(1)).packet.yiaddr;
    let decline = |last| till(last).option(53, &[4]).option(50, &address.octets()).option(54, &SERVER.octets());
    assert_eq!(quiet(ask(&mut server, now, &decline(2))), Quiet::Unknown(address));
    let served = ask(&mut server, now, &decline(1));
    assert!(served.record.is_some(), "the lease's end is kept");
    assert_eq!(quiet(served), Quiet::Declined(address));
    assert_ne!(heard(ask(&mut server, now, &till(1))).packet.yiaddr, address);
    now += Duration::from_secs(601);
    for last in 2..=4 {
        lease(&mut server, now, &till(last));
    }
    assert!(server.running(now) >= 3, "after ten minutes it is lent again");
}

#[test]
fn leases_outlive_a_restart_and_records_of_another_pool_are_ignored() {
    let (mut server, now) = (quick(), Instant::now());
    let ack = lease(&mut server, now, &till(1));
    let (address, record) = (ack.packet.yiaddr, ack.record.unwrap());
    let foreign = Record { address: Ipv4Addr::new(192, 168, 1, 1), ..record.clone() };
    let later = now + Duration::from_secs(5);
    let mut again = Server::new(Settings { probe: true, ..settings() }, later, [foreign, record]);
    assert_eq!(again.running(later), 1);
    let renewed = heard(ask(&mut again, later, &till(1).option(53, &[3]).ciaddr(address)));
    assert_eq!(renewed.kind, Kind::LeaseAck);
    assert_eq!(heard(ask(&mut again, later, &till(1))).packet.yiaddr, address, "without a probe: it has it");
}

#[test]
fn who_asks_again_soon_gets_what_is_left_and_nothing_is_written() {
    let (mut server, now) = (quick(), Instant::now());
    let (after, seconds) = (|seconds| now + Duration::from_secs(seconds), |ack: &Heard| ack.packet.requested_lease());
    let again = |server: &mut Server, now, sample: &Sample| {
        let offer = heard(ask(server, now, sample));
        let ack = heard(ask(server, now, &selecting(sample.clone(), offer.packet.yiaddr)));
        assert_eq!(seconds(&offer), seconds(&ack), "what is offered is given");
        ack
    };
    let first = lease(&mut server, now, &till(1));
    assert!(again(&mut server, now, &till(1)).record.is_some(), "the disk has not said yet that it has it");
    let record = first.record.unwrap();
    server.is_on_disk(record.address, &record.client, after(7200));
    let soon = again(&mut server, after(1000), &till(1));
    assert_eq!((soon.packet.yiaddr, seconds(&soon), soon.record), (record.address, Some(6200), None));
    let firmware = again(&mut server, after(1000), &Sample::edk2_pxe().mac(mac(1)).flags(0));
    assert_eq!((seconds(&firmware), firmware.record), (Some(300), None), "the longer lease goes on");
    assert_eq!(seconds(&again(&mut server, after(1000), &till(1))), Some(6200));
    let late = again(&mut server, after(1801), &till(1));
    assert_eq!((seconds(&late), late.record.is_some()), (Some(7200), true));
    // What the disk says of the lease before is not said of this one.
    server.is_on_disk(record.address, &record.client, after(7200));
    assert!(again(&mut server, after(1802), &till(1)).record.is_some());
}

#[test]
fn a_reservation_wins_over_an_older_lease() {
    let (mut server, now) = (quick(), Instant::now());
    let ack = lease(&mut server, now, &till(7));
    let reserved = BTreeMap::from([(Mac(mac(7)), at(30))]);
    let settings = Settings { probe: false, reservations: reserved, ..settings() };
    let mut again = Server::new(settings, now, ack.record);
    let renew = till(7).option(53, &[3]).ciaddr(ack.packet.yiaddr);
    assert!(matches!(quiet(ask(&mut again, now, &renew)), Quiet::Unknown(_)));
    assert_eq!(lease(&mut again, now, &till(7)).packet.yiaddr, at(30));
}

#[test]
fn relays_inform_and_nameless_clients() {
    let (mut server, now) = (quick(), Instant::now());
    let relayed = till(1).giaddr(at(5)).option(82, &[1, 2, 3, 4]);
    let offer = heard(ask(&mut server, now, &relayed));
    assert_eq!(offer.destination, Destination::Ip(SocketAddrV4::new(at(5), 67)));
    assert_eq!((offer.packet.flags, offer.packet.option(code::RELAY)), (0, Some(&[1, 2, 3, 4][..])));
    let nak = heard(ask(&mut server, now, &selecting(relayed, at(103)).option(50, &at(50).octets())));
    assert_eq!((nak.kind, nak.destination), (Kind::LeaseNak, Destination::relay(at(5))));
    assert!(nak.packet.flags & 0x8000 != 0, "the relay must broadcast it");
    let elsewhere = till(1).giaddr(Ipv4Addr::new(10, 9, 0, 1));
    assert!(matches!(quiet(ask(&mut server, now, &elsewhere)), Quiet::OtherNetwork(_)));
    let inform = heard(ask(&mut server, now, &till(2).option(53, &[8]).ciaddr(at(60))));
    assert_eq!((inform.kind, inform.packet.yiaddr), (Kind::InformAck, Ipv4Addr::UNSPECIFIED));
    assert_eq!(inform.packet.requested_lease(), None);
    assert_eq!(inform.destination, Destination::client(at(60)));
    assert_eq!(quiet(ask(&mut server, now, &till(1).mac([0; 6]))), Quiet::Nameless);
    let by_id = till(1).mac([0; 6]).flags(0x8000).option(61, &[0, 7]);
    assert_eq!(heard(ask(&mut server, now, &by_id)).destination, Destination::EVERYBODY);
    let reply = till(1).op(2);
    let decision = ask(&mut server, now, &reply).outcome.unwrap().decision;
    assert_eq!(decision, Decision::Silence(Silence::NotARequest));
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let wrong = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        settings.check().unwrap_err().0
    };
    assert!(wrong(|s| s.first = at(104)).contains("ends before"));
    assert!(wrong(|s| s.last = Ipv4Addr::new(10, 78, 0, 1)).contains("most"));
    assert!(wrong(|s| s.last = at(255)).contains("10.77.0.255"));
    assert!(wrong(|s| s.router = Some(Ipv4Addr::new(10, 78, 0, 1))).contains("router"));
    assert!(wrong(|s| s.reservations = [1, 9].map(|last| (Mac(mac(last)), at(20))).into()).contains("10.77.0.20"));
    assert!(wrong(|s| s.reservations = [(Mac(mac(1)), SERVER)].into()).contains("10.77.0.2"));
    assert!(wrong(|s| s.boot_lease = Duration::from_secs(5)).contains("30 s"));
    assert!(wrong(|s| s.domain = Some("a b".into())).contains("domain"));
    let settings = Settings { router: Some(at(101)), ..settings() };
    assert_eq!(settings.pool().collect::<Vec<_>>(), [at(100), at(102), at(103)], "the router is not lent");
}

proptest! {
    /// Whatever is sent in whatever order: no address is lent to two clients, none outside the pool, the state stays
    /// whole, and what is granted was recorded, now or before.
    #[test]
    fn no_address_is_ever_in_two_hands(
        moves in proptest::collection::vec((0_u8..8, 1_u8..10, 95_u8..108, 0_u64..4000, any::<bool>()), 1..120),
        probe in any::<bool>(),
    ) {
        let mut server = server(|s| s.probe = probe);
        let mut now = Instant::now();
        let mut holds: BTreeMap<Ipv4Addr, (u8, Instant)> = BTreeMap::new();
        let mut disk: BTreeMap<Ipv4Addr, (Client, Instant)> = BTreeMap::new();
        let mut probes = Vec::new();
        for (kind, who, last, wait, broadcast) in moves {
            let client = till(who).flags(if broadcast { 0x8000 } else { 0 });
            let sample = match kind {
                0 | 1 => client.option(50, &at(last).octets()),
                2 => selecting(client, at(last)),
                3 => client.option(53, &[3]).option(50, &at(last).octets()),
                4 => client.option(53, &[3]).ciaddr(at(last)),
                5 => client.option(53, &[4]).option(50, &at(last).octets()),
                6 => client.option(53, &[7]).ciaddr(at(last)),
                _ => client.option(53, &[8]).ciaddr(at(last)),
            };
            let served = ask(&mut server, now, &sample);
            probes.extend(served.probe.map(|address| (address, who)));
            let reply = |served: &Served| match &served.outcome.as_ref()?.decision {
                Decision::Reply { bytes, kind, .. } => Some((Packet::read(bytes).unwrap(), *kind)),
                Decision::Silence(_) => None,
            };
            if let Some((packet, Kind::LeaseAck)) = reply(&served) {
                let until = now + Duration::from_secs(packet.requested_lease().unwrap().into());
                match &served.record {
                    Some(record) => prop_assert_eq!(record.address, packet.yiaddr),
                    None => {
                        let (client, longest) = &disk[&packet.yiaddr];
                        prop_assert!(client.mac() == Some(Mac(mac(who))) && *longest >= until);
                    }
                }
                if let Some((other, until)) = holds.get(&packet.yiaddr) {
                    prop_assert!(*other == who || *until <= now, "{} is held by {other}", packet.yiaddr);
                }
                holds.retain(|_, (holder, _)| *holder != who);
                let seconds = packet.requested_lease().unwrap();
                holds.insert(packet.yiaddr, (who, now + Duration::from_secs(seconds.into())));
            } else if kind >= 5 && served.record.is_some() {
                holds.remove(&at(last));
            }
            if let Some(record) = served.record {
                let until = now + record.remaining;
                // Not every answer waits for the word that its lease is on the disk.
                if broadcast {
                    server.is_on_disk(record.address, &record.client, until);
                }
                disk.insert(record.address, (record.client, until));
            }
            now += Duration::from_secs(wait);
            if let Some((address, _)) = probes.pop() {
                let holder = (wait % 3 == 0).then_some(Mac([2; 6]));
                if let Some((_, served)) = probed(&mut server, now, address, holder, |_| arrival(at(0)), &Ours) {
                    probes.extend(served.probe.map(|address| (address, who)));
                    if holder.is_some() { holds.remove(&address); }
                }
                server.assert_consistent();
            }
        }
    }

    #[test]
    fn any_message_is_survived(options in proptest::collection::vec(any::<u8>(), 0..80), kind in 0_u8..14) {
        let mut server = server(|_| {});
        let mut bytes = till(1).option(53, &[kind]).bytes();
        bytes.truncate(bytes.len() - 1);
        bytes.extend_from_slice(&options);
        let packet = Packet::read(&bytes).unwrap();
        let _ = serve(&mut server, Instant::now(), &packet, &arrival(at(0)), &Ours);
        server.assert_consistent();
        let step = server.handle(Instant::now(), &packet, SocketAddrV4::new(at(0), 68), MessageType::Other(kind));
        prop_assert!(matches!(step, Step::Quiet(_)));
    }
}
