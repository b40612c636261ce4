//! DHCP on real interfaces, in network namespaces: beside another server on the same host, and on port 4011 alone.

use crate::common::{
    World, assignments,
    namespace::{EVERYBODY, Far, SERVER, run, wire, wire_through_a_switch},
};
use netboot::{proto::mac::Mac, service::Prepared};
use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const CLIENT: Mac = Mac([0x52, 0x54, 0, 0xaa, 0xbb, 1]);
const SOON: Duration = Duration::from_secs(5);

/// A request of the agent's class: it is answered whoever asks.
fn agent(kind: u8, xid: u8) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..8].copy_from_slice(&[1, 1, 6, 0, 0, 0, 0, xid]);
    bytes[10] = 0x80;
    bytes[28..34].copy_from_slice(&CLIENT.0);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind, 60, 15]);
    bytes.extend_from_slice(b"shelfboot-agent\xff");
    bytes
}

fn answers(xid: u8) -> impl Fn(&[u8]) -> bool {
    move |payload| payload.len() >= 300 && payload[0] == 2 && payload[7] == xid
}

async fn start(world: &World, more: &str) -> (netboot::service::Running, CancellationToken) {
    world.know(assignments(1, 1));
    let stop = CancellationToken::new();
    let prepared = Prepared::read(&world.write_config_for("lan0", more)).unwrap();
    (prepared.start(stop.clone()).unwrap(), stop)
}

#[test]
fn beside_another_dhcp_server_on_this_host_in_whichever_order() {
    run("lan::inside_beside_another");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a namespace by another test"]
async fn inside_beside_another() {
    wire();
    let world = World::new();
    // As dnsmasq does it: the port is its own.
    let earlier = UdpSocket::bind("0.0.0.0:67").unwrap();
    let (running, stop) = start(&world, "").await;
    let far = Far::new(&[68]);
    far.discover(CLIENT, &agent(1, 9));
    assert_eq!(far.hear(Duration::from_millis(300), answers(9)), None, "the first start listens for a moment");
    crate::common::until(|| world.state().join("surveyed").exists()).await;
    far.discover(CLIENT, &agent(1, 1));
    let (source, destination, _) = far.hear(SOON, answers(1)).expect("an answer beside the holder of the port");
    assert_eq!(source, SocketAddrV4::new(SERVER, 67));
    assert_eq!(destination, SocketAddrV4::new(EVERYBODY, 68));

    // A renewal goes to the holder of the port, whole, and nobody else answers it.
    earlier.set_read_timeout(Some(SOON)).unwrap();
    let mut buffer = [0; 2048];
    for xid in [9, 1] {
        assert_eq!(earlier.recv(&mut buffer).unwrap(), agent(1, xid).len());
    }
    drop(earlier);
    let later = UdpSocket::bind("0.0.0.0:67").expect("the port stays free for a server that starts later");
    later.set_read_timeout(Some(SOON)).unwrap();
    far.discover(CLIENT, &agent(3, 2));
    assert_eq!(later.recv(&mut buffer).unwrap(), agent(3, 2).len());
    assert_eq!(far.hear(Duration::from_millis(300), answers(2)), None);
    far.discover(CLIENT, &agent(1, 3));
    far.hear(SOON, answers(3)).expect("still an answer");

    stop_it(running, stop).await;
}

#[test]
fn on_port_4011_alone_no_discover_is_answered() {
    run("lan::inside_4011_only");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a namespace by another test"]
async fn inside_4011_only() {
    wire();
    let world = World::new();
    let (running, stop) = start(&world, "mode: 4011-only").await;
    let far = Far::new(&[68, 4011]);
    far.discover(CLIENT, &agent(1, 1));
    assert_eq!(far.hear(Duration::from_millis(300), answers(1)), None);

    // From an address of the client's own, as after its lease.
    let client = Ipv4Addr::new(10, 77, 0, 50);
    crate::common::namespace::ip("neighbour add 10.77.0.50 lladdr 52:54:00:aa:bb:01 dev lan0");
    far.send(CLIENT, SocketAddrV4::new(client, 68), SocketAddrV4::new(SERVER, 4011), &agent(8, 2));
    let (source, destination, bytes) = far.hear(SOON, answers(2)).expect("an answer from port 4011");
    assert_eq!(source, SocketAddrV4::new(SERVER, 4011));
    assert_eq!(destination, SocketAddrV4::new(client, 68));
    let url = format!("http://{SERVER}");
    assert!(bytes.windows(url.len()).any(|part| part == url.as_bytes()), "it carries netboot's address");
    stop_it(running, stop).await;
}

const POOL: &str = "mode: dhcp\ndhcp: {first: 10.77.0.100, last: 10.77.0.101, router: 10.77.0.1}";

/// A message of an ordinary device that hears unicast.
fn device(kind: u8, xid: u8, options: &[u8]) -> Vec<u8> {
    let mut bytes = agent(kind, xid);
    bytes[10] = 0;
    bytes.truncate(243);
    bytes.extend_from_slice(options);
    bytes.push(255);
    bytes.resize(300, 0);
    bytes
}

fn address_in(answer: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(answer[16], answer[17], answer[18], answer[19])
}

/// DISCOVER to ACK. Returns the address, and how long the offer took.
fn lease(far: &Far, xid: u8) -> (Ipv4Addr, Duration) {
    let begin = std::time::Instant::now();
    far.discover(CLIENT, &device(1, xid, &[]));
    let (_, destination, offer) = far.hear(SOON, answers(xid)).expect("an offer");
    let (took, address) = (begin.elapsed(), address_in(&offer));
    assert_eq!(destination, SocketAddrV4::new(address, 68), "to the card, under the address that it is about to have");
    let [a, b, c, d] = address.octets();
    far.discover(CLIENT, &device(3, xid + 1, &[50, 4, a, b, c, d, 54, 4, 10, 77, 0, 2]));
    let (source, _, ack) = far.hear(SOON, answers(xid + 1)).expect("an acknowledgement");
    assert_eq!((source, address_in(&ack)), (SocketAddrV4::new(SERVER, 67), address));
    assert!(ack.windows(3).any(|part| part == [53, 1, 5]));
    (address, took)
}

/// A client that restarts asks for the address that it had (RFC 2131, section 4.3.2): only a server that knows it answers.
fn assert_knows(far: &Far, xid: u8, address: Ipv4Addr) {
    let [a, b, c, d] = address.octets();
    far.discover(CLIENT, &device(3, xid, &[50, 4, a, b, c, d]));
    let (_, _, ack) = far.hear(SOON, answers(xid)).expect("the lease is known");
    assert!(ack.windows(3).any(|part| part == [53, 1, 5]) && address_in(&ack) == address);
}

async fn stop_it(running: netboot::service::Running, stop: CancellationToken) {
    stop.cancel();
    running.tasks.close();
    running.tasks.wait().await;
}

#[test]
fn leases_are_probed_kept_over_a_restart_and_lent_to_one_machine() {
    run("lan::inside_leases");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a namespace by another test"]
async fn inside_leases() {
    wire();
    let world = World::new();
    let (running, stop) = start(&world, POOL).await;
    let far = Far::new(&[68]);
    let (address, took) = lease(&far, 1);
    assert!((Ipv4Addr::new(10, 77, 0, 100)..=Ipv4Addr::new(10, 77, 0, 101)).contains(&address));
    assert!(took >= Duration::from_millis(400), "it was probed first: {took:?}");
    stop_it(running, stop).await;

    let (running, stop) = start(&world, POOL).await;
    assert_knows(&far, 9, address);
    assert_eq!(lease(&far, 10).0, address);

    // Another device sits on the other address of the pool, by hand: it is found, and not lent.
    let other = if address.octets()[3] == 100 { "10.77.0.101" } else { "10.77.0.100" };
    crate::common::namespace::ip(&format!("address add {other}/32 dev far0"));
    let second = Mac([0x52, 0x54, 0, 9, 9, 9]);
    let mut question = device(1, 20, &[]);
    question[28..34].copy_from_slice(&second.0);
    question[10] = 0x80;
    far.discover(second, &question);
    assert_eq!(far.hear(Duration::from_secs(2), answers(20)), None, "no address is left for it");
    stop_it(running, stop).await;
}

#[test]
fn a_second_dhcp_server_is_never_made() {
    run("lan::inside_second_server");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a namespace by another test"]
async fn inside_second_server() {
    wire();
    let world = World::new();
    world.know(assignments(1, 1));
    // Another server at the far end: it answers one DISCOVER with an offer.
    let offer = |question: &[u8]| {
        let mut bytes = question.to_vec();
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&[10, 77, 0, 200]);
        bytes.truncate(240);
        bytes.extend_from_slice(&[53, 1, 2, 54, 4, 10, 77, 0, 1, 255]);
        bytes.resize(300, 0);
        bytes
    };
    let other = Far::new(&[67]);
    let (from, to) = (SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 67), SocketAddrV4::new(EVERYBODY, 68));
    let path = world.write_config_for("lan0", POOL);
    let starting = tokio::task::spawn_blocking(move || {
        Prepared::read(&path).unwrap().open().map(drop).map_err(|error| format!("{error:#}"))
    });
    let question = |payload: &[u8]| payload[0] == 1 && payload[240..243] == [53, 1, 1];
    let (_, _, asked) = other.hear(SOON, question).expect("the question before the start");
    other.send(CLIENT, from, to, &offer(&asked));
    let error = starting.await.unwrap().unwrap_err();
    assert!(error.contains("10.77.0.1 (52:54:00:aa:bb:01)") && error.contains("there would be two"), "{error}");

    // It is gone, netboot starts and lends; it comes back, and netboot falls silent.
    let (running, stop) = start(&world, POOL).await;
    let far = Far::new(&[68]);
    lease(&far, 30);
    other.send(CLIENT, from, to, &offer(&asked));
    crate::common::until(|| running.shared.lan.dhcp_servers() == [Ipv4Addr::new(10, 77, 0, 1)]).await;
    far.discover(CLIENT, &device(1, 40, &[]));
    assert_eq!(running.shared.lan.rival(), Some(Ipv4Addr::new(10, 77, 0, 1)));
    assert_eq!(far.hear(Duration::from_millis(800), answers(40)), None, "two servers would lend one address twice");
    // Booting goes on, as beside any DHCP server.
    far.discover(CLIENT, &agent(1, 41));
    let (_, _, answer) = far.hear(SOON, answers(41)).expect("the agent's answer");
    assert_eq!(address_in(&answer), Ipv4Addr::UNSPECIFIED);
    stop_it(running, stop).await;
}

#[test]
fn a_survey_names_the_servers_and_where_answers_are_lost() {
    run("lan::inside_survey");
}

/// The program's own survey from the far end.
fn survey(arguments: &[&str]) -> serde_json::Value {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_netboot"));
    command.args(["survey", "--json", "--interface", "far0"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn codes(report: &serde_json::Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run in a namespace by another test"]
async fn inside_survey() {
    wire_through_a_switch();
    let world = World::new();
    let (running, stop) = start(&world, POOL).await;
    let own = SERVER.to_string();
    let report = tokio::task::spawn_blocking(|| survey(&["--probe", "--seconds", "2"])).await.unwrap();
    let expected = serde_json::json!([{
        "address": own, "card": "52:54:00:00:00:02", "lends_addresses": true, "boots": true, "answered": true,
        "netboot": format!("http://{SERVER}:{}", world.http),
    }]);
    assert_eq!((&report["servers"], codes(&report)), (&expected, vec![]));
    let passive = tokio::task::spawn_blocking(|| survey(&["--seconds", "1"])).await.unwrap();
    assert_eq!((&passive["servers"], codes(&passive)), (&serde_json::json!([]), vec![]), "nobody asked, nobody spoke");

    // Ports that are isolated from each other; a connection still gets through, since both ends are on one host.
    for port in ["port0", "port1"] {
        crate::common::namespace::ip(&format!("link set {port} type bridge_slave isolated on"));
    }
    let expected = format!("{SERVER}:{}", world.http);
    let report = move || survey(&["--probe", "--seconds", "2", "--netboot", &expected]);
    let report = tokio::task::spawn_blocking(report).await.unwrap();
    assert_eq!(codes(&report), ["no-dhcp-server", "answers-lost"]);
    let nobody = || survey(&["--probe", "--seconds", "1", "--netboot", "10.77.0.2:9"]);
    let report = tokio::task::spawn_blocking(nobody).await.unwrap();
    assert_eq!(codes(&report), ["no-dhcp-server", "netboot-unreachable"]);
    stop_it(running, stop).await;
}

#[test]
fn a_lease_outlives_a_kill() {
    run("lan::inside_kill");
}

/// The program itself, without rights after its start, as a service manager runs it.
fn program(config: &std::path::Path) -> std::process::Child {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_netboot"));
    command.args(["serve", "--config"]).arg(config).stdout(std::process::Stdio::null());
    command.spawn().unwrap()
}

#[test]
#[ignore = "run in a namespace by another test"]
fn inside_kill() {
    wire();
    let world = World::new();
    world.know(assignments(1, 1));
    let config = world.write_config_for("lan0", POOL);
    let far = Far::new(&[68]);
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    for round in 0..3_u8 {
        let mut running = program(&config);
        // It asks for other servers for four seconds before it serves.
        let end = std::time::Instant::now() + Duration::from_secs(30);
        let listens = || std::fs::read_to_string("/proc/thread-self/net/udp").unwrap().contains(":0FAB");
        while !listens() {
            assert!(std::time::Instant::now() < end && running.try_wait().unwrap().is_none(), "it does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
        if let Some(address) = addresses.last() {
            assert_knows(&far, 55 + 10 * round, *address);
        }
        addresses.push(lease(&far, 50 + 10 * round).0);
        running.kill().unwrap();
        running.wait().unwrap();
    }
    assert_eq!(addresses, [addresses[0]; 3]);
}
