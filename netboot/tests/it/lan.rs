//! DHCP on real interfaces, in network namespaces: beside another server on the same host, and on port 4011 alone.

use crate::common::{
    World, assignments,
    namespace::{EVERYBODY, Far, SERVER, run, wire},
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
    far.discover(CLIENT, &agent(1, 1));
    let (source, destination, _) = far.hear(SOON, answers(1)).expect("an answer beside the holder of the port");
    assert_eq!(source, SocketAddrV4::new(SERVER, 67));
    assert_eq!(destination, SocketAddrV4::new(EVERYBODY, 68));

    // A renewal goes to the holder of the port, whole, and nobody else answers it.
    earlier.set_read_timeout(Some(SOON)).unwrap();
    let mut buffer = [0; 2048];
    assert_eq!(earlier.recv(&mut buffer).unwrap(), agent(1, 1).len());
    drop(earlier);
    let later = UdpSocket::bind("0.0.0.0:67").expect("the port stays free for a server that starts later");
    later.set_read_timeout(Some(SOON)).unwrap();
    far.discover(CLIENT, &agent(3, 2));
    assert_eq!(later.recv(&mut buffer).unwrap(), agent(3, 2).len());
    assert_eq!(far.hear(Duration::from_millis(300), answers(2)), None);
    far.discover(CLIENT, &agent(1, 3));
    far.hear(SOON, answers(3)).expect("still an answer");

    stop.cancel();
    running.tasks.close();
    running.tasks.wait().await;
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

    stop.cancel();
    running.tasks.close();
    running.tasks.wait().await;
}
