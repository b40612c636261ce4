//! Peers that hold connections and do nothing with them: each ends at its limit, and not before.

use crate::common::{World, assignments};
use socket2::{Domain, Socket, Type};
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// More than socket buffers hold.
const LARGE: usize = 32 << 20;
/// A busy machine may be late, a limit is never early.
const LATE: Duration = Duration::from_secs(40);

fn connect(port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // More than the loopback's largest segment: a window that is smaller counts as shut.
    socket.set_recv_buffer_size(256 << 10).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(150))).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.into()
}

/// Says this and waits; gives what came until the server closed the connection, and when it did.
fn say_and_wait(port: u16, text: &str) -> (Vec<u8>, Duration) {
    let (mut stream, begin) = (connect(port), Instant::now());
    stream.write_all(text.as_bytes()).unwrap();
    let mut came = Vec::new();
    // A reset ends it just as well.
    if let Err(error) = stream.read_to_end(&mut came) {
        assert!(error.kind() == ErrorKind::ConnectionReset, "{error}");
    }
    (came, begin.elapsed())
}

/// Whether the server still holds its end of a connection, from /proc/net/tcp (proc(5)): one that it has closed has no inode, though
/// the kernel may go on sending what it took before.
fn is_held(server: u16, client: u16) -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let port = |field: &str| u16::from_str_radix(field.rsplit(':').next().unwrap(), 16).unwrap();
    table.lines().skip(1).any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        port(fields[1]) == server && port(fields[2]) == client && fields[9] != "0"
    })
}

/// Asks for the large file and takes so many bytes every 100 ms; gives when the server gave up.
fn crawl(port: u16, bytes: usize) -> Duration {
    let (mut stream, begin) = (connect(port), Instant::now());
    stream.write_all(b"GET /repo/archives/large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let own = stream.local_addr().unwrap().port();
    let (mut buffer, mut taken) = (vec![0; bytes], 0);
    stream.read_exact(&mut [0; 15]).unwrap();
    while is_held(port, own) && begin.elapsed() < Duration::from_secs(200) {
        taken += stream.read(&mut buffer).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(taken < LARGE / 4, "it was given up, and not given all");
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_and_slow_readers_end_at_their_limits() {
    let world = World::new();
    world.know(assignments(1, 1));
    fs::write(world.repository.folder.join("archives/large"), vec![7; LARGE]).unwrap();
    let netboot = world.start().await;
    netboot.loaded().await;
    let port = world.http;
    let on_a_thread = |work: Box<dyn FnOnce() -> Duration + Send>| tokio::task::spawn_blocking(work);
    let within = |what: &str, took: Duration, seconds: u64| {
        let limit = Duration::from_secs(seconds);
        assert!(took + Duration::from_secs(1) > limit && took < limit + LATE, "{what}: {took:?}, not {seconds} s");
    };
    let silent = on_a_thread(Box::new(move || say_and_wait(port, "").1));
    let half_head = on_a_thread(Box::new(move || say_and_wait(port, "GET /boot/k8s-worker.efi HTTP/1.1\r\nX: ").1));
    let half_call = on_a_thread(Box::new(move || say_and_wait(port, "GET /v1/status HTTP/1.1\r\nX: ").1));
    let half_body = on_a_thread(Box::new(move || {
        let head = "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[";
        let (answer, took) = say_and_wait(port, head);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("slow-body"), "{answer}");
        took
    }));
    let idle = on_a_thread(Box::new(move || {
        let (answer, took) = say_and_wait(port, "HEAD /boot/k8s-worker.efi HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        took
    }));
    // 1 kB/s: its window stays shut. 3 kB/s: it opens now and then, but 4 kB/s is the least.
    let shut = on_a_thread(Box::new(move || crawl(port, 100)));
    let slow = on_a_thread(Box::new(move || crawl(port, 300)));
    // 40 kB/s is slow, and enough: it is not given up.
    let enough = tokio::task::spawn_blocking(move || {
        let (mut stream, begin) = (connect(port), Instant::now());
        stream.write_all(b"GET /repo/archives/large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        while begin.elapsed() < Duration::from_secs(80) {
            stream.read_exact(&mut [0; 4000]).expect("it goes on");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    within("nothing said", silent.await.unwrap(), 15);
    within("half a head", half_head.await.unwrap(), 15);
    within("half a call", half_call.await.unwrap(), 15);
    within("half a body", half_body.await.unwrap(), 10);
    within("idle", idle.await.unwrap(), 30);
    // The window stays shut for half a minute, or two whole minutes pass in which next to nothing is taken: whichever comes first
    // depends on how large the kernels make their buffers.
    for (what, took) in [("1 kB/s", shut.await.unwrap()), ("3 kB/s", slow.await.unwrap())] {
        assert!((Duration::from_secs(29)..Duration::from_secs(125) + LATE).contains(&took), "{what}: {took:?}");
        eprintln!("{what} was given up after {took:?}");
    }
    enough.await.unwrap();
    netboot.stop().await;
}
