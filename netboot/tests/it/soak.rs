//! Garbage on every port and half-open connections, while a real transfer has to finish and memory has to stay.

use crate::{
    common::{World, assignments, uki},
    running::Program,
};
use socket2::{Domain, Socket, Type};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long the noise lasts.
const NOISE: Duration = Duration::from_secs(6);
/// Resident bytes that the service may reach.
const MOST_MEMORY: f64 = 48.0 * 1024.0 * 1024.0;

/// Numbers that look random, the same in every run (xorshift64).
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Packets that begin like DHCP, like TFTP, or like nothing, until told to stop. Each from another port.
fn datagrams(port: u16, seed: u64, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut next = numbers(seed);
        while !stop.load(Ordering::Relaxed) {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..8 {
                let mut bytes: Vec<u8> = (0..next() % 600).map(|_| next() as u8).collect();
                match next() % 3 {
                    0 if bytes.len() > 243 => {
                        // A DISCOVER of a random machine, options and all: RFC 2131, sections 2 and 4.1.
                        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
                        bytes[236..243].copy_from_slice(&[99, 130, 83, 99, 53, 1, 1]);
                    }
                    1 => bytes.splice(..0, *b"\0\x01k8s-worker.efi\0octet\0").for_each(drop),
                    _ => {}
                }
                // The kernel may say that its queue is full.
                let _ = socket.send_to(&bytes, ("127.0.0.1", port));
                sent.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(1));
        }
    })
}

/// Connections that say half a request, or nothing, and stay.
fn half_open(port: u16, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut open = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), NOISE) {
                let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nX: ");
                open.push(stream);
            }
            if open.len() > 200 {
                open.remove(0);
            }
            thread::sleep(Duration::from_millis(2));
        }
    })
}

/// Fetches the boot file by TFTP, lock step, with repeats as firmware has them.
fn fetch(port: u16) -> Vec<u8> {
    // The noise comes from another address, and has its own places.
    let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut file, mut block, mut buffer) = (Vec::new(), 0_u16, [0; 2048]);
    let mut server: SocketAddr = ([127, 0, 0, 1], port).into();
    let mut out = b"\0\x01k8s-worker.efi\0octet\0blksize\x001428\0".to_vec();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < end, "the transfer did not finish: block {block}");
        socket.send_to(&out, server).unwrap();
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        match buffer[1] {
            6 => (server, out) = (from, vec![0, 4, 0, 0]),
            3 if from == server && buffer[2..4] == (block + 1).to_be_bytes() => {
                block += 1;
                file.extend_from_slice(&buffer[4..length]);
                out = [&[0, 4], &block.to_be_bytes()[..]].concat();
                if length < 1432 {
                    socket.send_to(&out, server).unwrap();
                    return file;
                }
            }
            _ => {}
        }
    }
}

/// A page, asked for from the address of [`fetch`].
fn page(port: u16, path: &str) -> String {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let mut stream = TcpStream::from(socket);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    text
}

fn resident(metrics: &str) -> f64 {
    let name = "netboot_process_resident_memory_bytes ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_every_port_stops_no_transfer_and_takes_no_memory() {
    let world = World::new();
    world.know(assignments(1, 1));
    let program = Program::start(&world, "").await;
    program.says("boot file k8s-worker.efi").await;
    let quiet = resident(&String::from_utf8(program.get("/metrics").await).unwrap());
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let ports = [world.port("dhcp"), world.port("proxy"), world.tftp];
    let mut noise: Vec<_> =
        (1..).zip(ports).map(|(n, port)| datagrams(port, n * 77, Arc::clone(&stop), Arc::clone(&sent))).collect();
    // The page and the relay.
    noise.push(half_open(world.port("relayPort"), Arc::clone(&stop)));
    noise.push(half_open(world.http, Arc::clone(&stop)));
    let (tftp, begin) = (world.tftp, Instant::now());
    let mut fetched = 0;
    while begin.elapsed() < NOISE {
        assert!(tokio::task::spawn_blocking(move || fetch(tftp)).await.unwrap() == uki(), "another file");
        let http = world.http;
        tokio::task::spawn_blocking(move || page(http, "/v1/status")).await.unwrap();
        fetched += 1;
    }
    stop.store(true, Ordering::Relaxed);
    noise.into_iter().for_each(|thread| thread.join().unwrap());
    let loud = resident(&page(world.http, "/metrics"));
    let sent = sent.load(Ordering::Relaxed);
    eprintln!(
        "{sent} packets of noise, {fetched} transfers; memory {:.1} MiB before, {:.1} MiB after",
        quiet / 1048576.0,
        loud / 1048576.0
    );
    assert!(sent > 5000, "{sent} packets are no noise");
    assert!(loud < MOST_MEMORY, "{loud} bytes resident");
    program.end().await;
}
