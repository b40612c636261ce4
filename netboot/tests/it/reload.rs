//! SIGHUP while the program works.

use crate::{
    common::{World, assignments, uki},
    running::Program,
};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    time::Duration,
};

/// More than socket buffers hold, so that the transfer is under way for certain.
const LARGE: usize = 32 << 20;

fn change(config: &PathBuf, from: &str, to: &str) {
    let text = fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(config, text.replace(from, to)).unwrap();
}

/// A large download that has begun and waits for its reader.
fn begin_download(port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET /repo/archives/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    stream
}

/// A TFTP transfer whose first block has come.
struct Tftp {
    socket: UdpSocket,
    transfer: SocketAddr,
    got: Vec<u8>,
}

impl Tftp {
    fn begin(port: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(b"\0\x01k8s-worker.efi\0octet\0blksize\x001024\0", ("127.0.0.1", port)).unwrap();
        let (_, transfer) = socket.recv_from(&mut [0; 100]).unwrap();
        let mut tftp = Self { socket, transfer, got: Vec::new() };
        tftp.next(0);
        tftp
    }

    /// Acknowledges a block and takes the next; false after the last.
    fn next(&mut self, block: u16) -> bool {
        self.socket.send_to(&[&[0, 4], &block.to_be_bytes()[..]].concat(), self.transfer).unwrap();
        let mut buffer = [0; 2048];
        let (length, _) = self.socket.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..4], [&[0, 3], &(block + 1).to_be_bytes()[..]].concat());
        self.got.extend_from_slice(&buffer[4..length]);
        length == 1028
    }

    fn finish(mut self) -> Vec<u8> {
        let mut block = 1;
        while self.next(block) {
            block += 1;
        }
        self.got
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_upstreams_are_asked_at_once() {
    let (world, upstream, _) = crate::cache::store("").await;
    let broken = crate::cache::upstream::Upstream::start("/nonexistent".into()).await;
    broken.faults().status = Some(503);
    let mut world = world;
    world.more = world.more.replace(&upstream.url, &broken.url).replace("checkEvery: 1s", "checkEvery: 1h");
    let program = Program::start(&world, "").await;
    program.says("is left alone").await;
    let config = world.folder.path().join("netboot.yaml");
    change(&config, &format!("[{}]", broken.url), &format!("[{}, {}]", broken.url, upstream.url));
    program.signal(Signal::SIGHUP);
    program.says("changed: upstreams").await;
    program.says("boot file k8s-worker.efi").await;
    let status: serde_json::Value = serde_json::from_slice(&program.get("/v1/status").await).unwrap();
    let shown: Vec<_> = status["cache"]["upstreams"].as_array().unwrap().iter().map(|one| &one["url"]).collect();
    assert!(shown.len() == 2 && shown[1].as_str().unwrap().starts_with(&upstream.url), "{status}");
    assert!(status["cache"]["upstreams"][0]["problem"].is_string(), "what is known of one that stays is not forgotten");
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_go_on_while_the_configuration_is_exchanged() {
    let world = World::new();
    world.know(assignments(1, 1));
    fs::write(world.repository.folder.join("archives/large"), vec![7; LARGE]).unwrap();
    let program = Program::start(&world, "logLevel: info\n").await;
    program.says("boot file k8s-worker.efi").await;
    let config = world.folder.path().join("netboot.yaml");

    let mut download = begin_download(world.http);
    let transfer = Tftp::begin(world.tftp);
    change(&config, "logLevel: info", "logLevel: debug");
    change(&config, "relayPort: ", "relayPort: 7443 # ");
    program.signal(Signal::SIGHUP);
    program.says("changed: logLevel").await;
    program.says("a restart is needed for relayPort").await;

    let mut rest = Vec::new();
    download.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > LARGE - 1000 && rest.ends_with(&[7; 100]), "{} bytes", rest.len());
    assert_eq!(transfer.finish(), uki());
    // The new level is in force.
    program.get("/boot/none.efi").await;
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"\0\x01none\0octet\0", ("127.0.0.1", world.tftp)).unwrap();
    program.says("DEBUG").await;

    change(&config, "kind: Netboot", "kind: Toaster");
    program.signal(Signal::SIGHUP);
    program.says("the configuration stays as it is: ").await;
    program.says("kind: is `Toaster`, must be `Netboot`").await;
    let metrics = String::from_utf8(program.get("/metrics").await).unwrap();
    assert!(metrics.contains("netboot_config_reloads_total{result=\"taken\"} 1"), "{metrics}");
    assert!(metrics.contains("netboot_config_reloads_total{result=\"refused\"} 1"), "{metrics}");
    program.end().await;
}
