//! A LAN in virtual time: clients of every kind, the store's DHCP server and netboot, or netboot as the only server, with
//! packets that are lost, doubled and overtaken. Seeded, so that a failure can be repeated.

use super::{
    clients::{Client, Model},
    decide::{Arrival, Decision, Destination, Policy, Port, Ruling, Starts, answer},
    lease::{
        answer::{Served, probed, serve},
        server::{PROBE, Server},
        settings::Settings,
    },
    packet::Packet,
};
use crate::proto::mac::Mac;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

const NETBOOT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const STORE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Machines of ours have an even last byte.
struct Inventory;

impl Policy for Inventory {
    fn ruling(&self, mac: Mac, starts: Starts) -> Ruling {
        match starts {
            _ if !mac.0[5].is_multiple_of(2) => Ruling::Silent("no inventory entry of this store matches it".into()),
            Starts::Uki(_) | Starts::UkiByIpxe(_) => Ruling::Boot("k8s-worker.efi".into()),
            Starts::NetworkLoader => Ruling::Boot("undionly.kpxe".into()),
            Starts::Script => Ruling::Boot("k8s-worker.ipxe".into()),
        }
    }
    fn by_guid(&self, _: &[u8; 16]) -> Option<Mac> {
        None
    }
}

/// Boots nobody: the store's own DHCP server.
struct Nobody;

impl Policy for Nobody {
    fn ruling(&self, _: Mac, _: Starts) -> Ruling {
        Ruling::Silent("it boots nobody".into())
    }
    fn by_guid(&self, _: &[u8; 16]) -> Option<Mac> {
        None
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A packet of a client reaches a server's port.
    ToServer { proxy: bool, from: usize, bytes: Vec<u8> },
    /// An answer reaches a client; everybody hears broadcasts.
    ToClients { only: Option<usize>, port: u16, bytes: Vec<u8> },
    /// A client's timer.
    Timer(usize),
    /// A probe ends.
    Probed(Ipv4Addr),
}

struct Lan {
    random: StdRng,
    loss: f64,
    now: Instant,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    clients: Vec<Client>,
    /// The server of the LAN's addresses: netboot itself in mode `dhcp`.
    server: Server,
    netboot_lends: bool,
    /// When each client's one timer fires.
    timers: BTreeMap<usize, Instant>,
    /// Answers of netboot that each client heard.
    heard_netboot: BTreeMap<usize, u32>,
}

impl Lan {
    fn new(seed: u64, loss: f64, netboot_lends: bool, models: &[(Model, [u8; 6])]) -> Self {
        let now = Instant::now();
        let settings = Settings {
            server: if netboot_lends { NETBOOT } else { STORE },
            prefix: 24,
            first: Ipv4Addr::new(10, 77, 0, 100),
            last: Ipv4Addr::new(10, 77, 0, 199),
            reservations: BTreeMap::new(),
            router: Some(STORE),
            dns: vec![STORE],
            ntp: vec![],
            domain: None,
            lease: Duration::from_secs(7200),
            boot_lease: Duration::from_secs(300),
            probe: netboot_lends,
        };
        let mut lan = Self {
            random: StdRng::seed_from_u64(seed),
            loss,
            now,
            queue: BTreeMap::new(),
            sequence: 0,
            clients: models.iter().map(|(model, mac)| Client::new(*model, *mac, now)).collect(),
            server: Server::new(settings, now, []),
            netboot_lends,
            timers: BTreeMap::new(),
            heard_netboot: BTreeMap::new(),
        };
        for client in 0..lan.clients.len() {
            let after = Duration::from_millis(client as u64);
            lan.timers.insert(client, now + after);
            lan.put(after, Event::Timer(client));
        }
        lan
    }

    fn put(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    /// Over the wire: lost, doubled, late.
    fn send(&mut self, event: Event) {
        let copies = if self.random.random_bool(0.05) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.random.random_bool(self.loss) {
                let delay = Duration::from_micros(self.random.random_range(100..300_000));
                self.put(delay, event.clone());
            }
        }
    }

    fn run(&mut self, limit: Duration) {
        // Whoever is not to boot asks for a whole round.
        let (end, at_least) = (self.now + limit, self.now + limit.min(Duration::from_secs(70)));
        while let Some(((at, _), event)) = self.queue.pop_first() {
            let served = |client: &Client| client.is_through() || !is_served(client);
            if at > end || at > at_least && self.clients.iter().all(served) {
                break;
            }
            self.now = at;
            match event {
                Event::Timer(client) if self.timers.get(&client) == Some(&at) => {
                    self.timers.remove(&client);
                    self.poll(client);
                }
                Event::Timer(_) => {}
                Event::ToClients { only, port, bytes } => {
                    for client in 0..self.clients.len() {
                        if only.is_none_or(|only| only == client) {
                            self.clients[client].receive(at, &bytes, port);
                            self.poll(client);
                        }
                    }
                }
                Event::ToServer { proxy, from, bytes } => self.ask(proxy, from, &bytes),
                Event::Probed(address) => {
                    let done = probed(
                        &mut self.server,
                        at,
                        address,
                        None,
                        |q| arrival(NETBOOT, Port::Dhcp, q.source),
                        &Inventory,
                    );
                    if let Some((_, served)) = done {
                        self.served(served, NETBOOT);
                    }
                }
            }
        }
    }

    fn poll(&mut self, client: usize) {
        while let Some((bytes, port)) = self.clients[client].tick(self.now) {
            self.send(Event::ToServer { proxy: port == Port::Proxy, from: client, bytes });
        }
        if let Some(next) = self.clients[client].next().map(|next| next.max(self.now + Duration::from_millis(1)))
            && self.timers.get(&client) != Some(&next)
        {
            self.timers.insert(client, next);
            self.put(next - self.now, Event::Timer(client));
        }
    }

    fn ask(&mut self, proxy: bool, from: usize, bytes: &[u8]) {
        let packet = Packet::read(bytes).expect("what clients send can be read");
        let client = self.clients[from].address().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let source = SocketAddrV4::new(client, if proxy { 4011 } else { 68 });
        let port = if proxy { Port::Proxy } else { Port::Dhcp };
        if !proxy {
            let (own, policy): (_, &dyn Policy) =
                if self.netboot_lends { (NETBOOT, &Inventory) } else { (STORE, &Nobody) };
            let served = serve(&mut self.server, self.now, &packet, &arrival(own, port, source), policy);
            self.served(served, own);
            if self.netboot_lends {
                return;
            }
        }
        let outcome = answer(&packet, &arrival(NETBOOT, port, source), &Inventory);
        self.reply(outcome.decision, NETBOOT, if proxy { 4011 } else { 67 });
    }

    fn served(&mut self, served: Served, from: Ipv4Addr) {
        if let Some(address) = served.probe {
            self.put(PROBE, Event::Probed(address));
        }
        if let Some(outcome) = served.outcome {
            self.reply(outcome.decision, from, 67);
        }
    }

    fn reply(&mut self, decision: Decision, from: Ipv4Addr, port: u16) {
        let Decision::Reply { bytes, destination, .. } = decision else { return };
        let only = match destination {
            Destination::Ip(to) if to.ip().is_broadcast() => None,
            Destination::Ip(to) => self.clients.iter().position(|client| client.address() == Some(*to.ip())),
            Destination::Link(mac, _) => self.clients.iter().position(|client| client.mac == mac.0),
        };
        if from == NETBOOT && !self.netboot_lends {
            let asker = self.clients.iter().position(|client| bytes[28..34] == client.mac).expect("nobody is made up");
            *self.heard_netboot.entry(asker).or_default() += 1;
        }
        self.send(Event::ToClients { only, port, bytes });
    }

    fn assert_addresses_are_single(&self) {
        let held: Vec<_> = self.clients.iter().filter_map(Client::address).collect();
        assert_eq!(held.iter().collect::<BTreeSet<_>>().len(), held.len(), "an address in two hands: {held:?}");
    }
}

fn arrival(own: Ipv4Addr, port: Port, source: SocketAddrV4) -> Arrival<'static> {
    Arrival { port, server: own, base_url: "http://10.77.0.2", source, neighbour: None }
}

fn mac(last: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 1, 7, last]
}

const MODELS: [Model; 6] =
    [Model::Edk2 { old: false }, Model::Edk2 { old: true }, Model::Edk2Http, Model::Rom, Model::Ipxe, Model::Device];

/// Two of every kind: one of ours (even), one of somebody else.
fn everybody() -> Vec<(Model, [u8; 6])> {
    let all = MODELS.iter().chain(&MODELS).enumerate();
    all.map(|(n, model)| (*model, mac(2 * (n as u8 % 6) + u8::from(n >= 6)))).collect()
}

fn is_served(client: &Client) -> bool {
    client.model == Model::Device || client.mac[5].is_multiple_of(2)
}

fn expected(model: Model) -> Option<&'static str> {
    match model {
        Model::Edk2 { .. } => Some("k8s-worker.efi"),
        Model::Edk2Http => Some("http://10.77.0.2/boot/k8s-worker.efi"),
        Model::Rom => Some("undionly.kpxe"),
        Model::Ipxe => Some("http://10.77.0.2/boot/k8s-worker.ipxe"),
        Model::Device => None,
    }
}

fn check(lan: &Lan, seed: u64, loss: f64) {
    lan.assert_addresses_are_single();
    for (n, client) in lan.clients.iter().enumerate() {
        let ours = client.mac[5].is_multiple_of(2);
        let context = format!("{:?} {:02x?}, seed {seed}, loss {loss}", client.model, client.mac);
        match (client.model, ours) {
            (Model::Device, _) => assert!(client.address().is_some(), "no address for {context}"),
            (model, true) => {
                let booted = client.booted().unwrap_or_else(|| panic!("did not boot: {context}"));
                assert_eq!(Some(booted.file.as_str()), expected(model), "{context}");
                assert_eq!(booted.server, NETBOOT, "{context}");
            }
            (_, false) => assert_eq!(client.booted(), None, "{context}"),
        }
        if client.model == Model::Device || !ours {
            assert_eq!(lan.heard_netboot.get(&n), None, "netboot spoke to {context}");
        }
    }
}

#[test]
fn beside_the_stores_server_every_machine_of_ours_boots_and_nobody_else_hears_a_word() {
    for (loss, seeds) in [(0.0, 2), (0.1, 10), (0.25, 20)] {
        for seed in 0..seeds {
            let mut lan = Lan::new(seed, loss, false, &everybody());
            lan.run(Duration::from_secs(1800));
            check(&lan, seed, loss);
        }
    }
}

#[test]
fn as_the_only_server_every_machine_gets_one_address_and_ours_boot() {
    for (loss, seeds) in [(0.0, 2), (0.1, 10), (0.25, 20)] {
        for seed in 0..seeds {
            let mut lan = Lan::new(seed, loss, true, &everybody());
            lan.run(Duration::from_secs(1800));
            check(&lan, seed, loss);
        }
    }
}

#[test]
fn without_loss_the_answers_come_within_the_first_round() {
    for netboot_lends in [false, true] {
        let mut lan = Lan::new(7, 0.0, netboot_lends, &everybody()[..6]);
        let began = lan.now;
        lan.run(Duration::from_secs(8));
        check(&lan, 7, 0.0);
        assert!(lan.now - began <= Duration::from_secs(8), "{:?}", lan.now - began);
    }
}

#[test]
fn a_hundred_machines_in_the_same_second() {
    let storm: Vec<_> = (0..150_u8)
        .flat_map(|n| [(MODELS[usize::from(n) % 5], [2, 0, 0, 0, 1, n & !1]), (Model::Device, [2, 0, 0, 0, 2, n])])
        .collect();
    let mut seen = BTreeSet::new();
    let storm: Vec<_> = storm.into_iter().filter(|(_, mac)| seen.insert(*mac)).take(100).collect();
    let mut lan = Lan::new(1, 0.02, true, &storm);
    lan.run(Duration::from_secs(900));
    lan.assert_addresses_are_single();
    assert!(lan.clients.iter().all(Client::is_through));
}
