//! Tests with real interfaces: this test program runs itself again in a network namespace of its own.

use netboot::{
    lan::packet_socket::{self, PacketSocket},
    proto::{frames, mac::Mac},
};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
    process::Command,
    time::{Duration, Instant},
};

/// Set inside the namespace.
const INSIDE: &str = "SHELFBOOT_TEST_NAMESPACE";

/// Netboot's side of the wire.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(crate) const EVERYBODY: Ipv4Addr = Ipv4Addr::BROADCAST;

/// Runs one ignored test of this program inside a new network namespace, and asserts that it ran and passed.
pub(crate) fn run(test: &str) {
    let mut command = Command::new("unshare");
    command.arg("--net");
    let root = nix::unistd::geteuid().is_root();
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("timeout").arg("120").arg(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let output = command.output().expect("unshare (util-linux) and timeout (coreutils) are needed for this test");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{test} inside a namespace:\n{text}");
}

/// A wire: `lan0` is netboot's end with [`SERVER`]/24, `far0` the other end without an address.
pub(crate) fn wire() {
    assert!(std::env::var_os(INSIDE).is_some(), "this test is run by another one, in a network namespace");
    ip("link set lo up");
    ip("link add lan0 type veth peer name far0 address 52:54:00:aa:bb:01");
    ip(&format!("address add {SERVER}/24 broadcast + dev lan0"));
    ip("link set lan0 up");
    ip("link set far0 up");
}

/// The same wire through a switch whose ports can be isolated: `port0` is at netboot's end, `port1` at the far end.
pub(crate) fn wire_through_a_switch() {
    assert!(std::env::var_os(INSIDE).is_some(), "this test is run by another one, in a network namespace");
    ip("link set lo up");
    ip("link add sw0 type bridge");
    ip("link add lan0 address 52:54:00:00:00:02 type veth peer name port0");
    ip("link add far0 address 52:54:00:aa:bb:01 type veth peer name port1");
    ip("link set port0 master sw0");
    ip("link set port1 master sw0");
    ip(&format!("address add {SERVER}/24 broadcast + dev lan0"));
    for link in ["sw0", "port0", "port1", "lan0", "far0"] {
        ip(&format!("link set {link} up"));
    }
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is needed for this test");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A client at the far end that speaks in frames.
pub(crate) struct Far {
    socket: PacketSocket,
}

impl Far {
    pub(crate) fn new(ports: &[u16]) -> Self {
        Self { socket: packet_socket::hear_udp("far0", ports).unwrap() }
    }

    /// Broadcasts from this card.
    pub(crate) fn send(&self, mac: Mac, source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) {
        let frame = frames::frame(mac, Mac([0xff; 6]), source, destination, payload).unwrap();
        assert_eq!(self.socket.socket.send(&frame).unwrap(), frame.len());
    }

    pub(crate) fn discover(&self, mac: Mac, payload: &[u8]) {
        let (nobody, client) = (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), SocketAddrV4::new(EVERYBODY, 67));
        self.send(mac, nobody, client, payload);
    }

    /// The next datagram that `wanted` takes: its source, its destination, its content.
    pub(crate) fn hear(
        &self,
        limit: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<(SocketAddrV4, SocketAddrV4, Vec<u8>)> {
        use nix::sys::socket::{MsgFlags, recv};
        let end = Instant::now() + limit;
        let mut buffer = [0; 2048];
        while Instant::now() < end {
            match recv(self.socket.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    if let Some(datagram) = frames::read(&buffer[..length]).filter(|d| wanted(d.payload)) {
                        return Some((datagram.source, datagram.destination, datagram.payload.to_vec()));
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("{error}"),
            }
        }
        None
    }
}
