//! HTTP clients: one connection each, one file each, read as fast as it comes.

use crate::{Who, report::Report};
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket},
};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

/// Arguments of `http`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    who: Who,
    /// The port.
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// The path.
    #[arg(long)]
    path: String,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Nothing may take longer.
    #[arg(long, default_value_t = 300.0)]
    most_seconds: f64,
}

struct Download {
    stream: TcpStream,
    head: Vec<u8>,
    /// Bytes of the body that are missing; none until the head is there.
    left: Option<u64>,
    length: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let threads = arguments.threads.clamp(1, arguments.who.clients.max(1));
    let begin = Instant::now();
    let parts: Vec<Result<Report>> = thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                let numbers = (thread..arguments.who.clients).step_by(threads as usize).collect();
                scope.spawn(move || downloads(arguments, numbers, begin))
            })
            .collect();
        started.into_iter().map(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a thread broke"))).collect()
    });
    let mut total = Report::default();
    for part in parts {
        total.add(part?);
    }
    Ok(total)
}

fn downloads(arguments: &Arguments, numbers: Vec<u32>, begin: Instant) -> Result<Report> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("making an epoll set")?;
    let mut all = Vec::new();
    for (index, number) in numbers.into_iter().enumerate() {
        let stream = open(arguments, number)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64)).context("watching a socket")?;
        all.push(Some(Download { stream, head: Vec::new(), left: None, length: 0 }));
    }
    let mut report = Report::default();
    let mut buffer = vec![0; 256 << 10];
    let mut events = [EpollEvent::empty(); 64];
    let mut open = all.len();
    while open > 0 {
        ensure!(begin.elapsed().as_secs_f64() < arguments.most_seconds, "{open} downloads are not through in time");
        let count = match epoll.wait(&mut events, EpollTimeout::from(500_u16)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error).context("waiting for data"),
        };
        for event in &events[..count] {
            let index = usize::try_from(event.data())?;
            let Some(download) = &mut all[index] else { continue };
            if download.read(&mut buffer)? {
                let took = begin.elapsed().as_secs_f64();
                report.files += 1;
                report.bytes += download.length;
                report.fastest = Some(report.fastest.map_or(took, |f| f.min(took)));
                report.slowest = Some(took);
                report.seconds = took;
                all[index] = None;
                open -= 1;
            }
        }
    }
    Ok(report)
}

fn open(arguments: &Arguments, number: u32) -> Result<TcpStream> {
    let made =
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context("making a socket")?;
    let from = SocketAddrV4::new(arguments.who.address(number), 0);
    bind(made.as_raw_fd(), &SockaddrIn::from(from)).context("binding a client's socket")?;
    let to = SocketAddrV4::new(arguments.who.server, arguments.port);
    connect(made.as_raw_fd(), &SockaddrIn::from(to)).context("connecting")?;
    let mut stream = TcpStream::from(made);
    stream.set_write_timeout(Some(Duration::from_secs(10))).context("setting a timeout")?;
    write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: UefiHttpBoot/1.0\r\n\r\n", arguments.path, to.ip())
        .context("asking")?;
    stream.set_nonblocking(true).context("preparing a socket")?;
    Ok(stream)
}

impl Download {
    /// Reads what is there. True at the end of the file.
    fn read(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => bail!("the server closed the connection, {:?} bytes are missing", self.left),
            Ok(count) => count as u64,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("reading"),
        };
        let Some(left) = self.left else {
            self.head.extend_from_slice(&buffer[..usize::try_from(count)?]);
            let Some(end) = self.head.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(false) };
            let text = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
            ensure!(
                text.starts_with("http/1.1 200"),
                "the server answered: {}",
                text.lines().next().unwrap_or_default()
            );
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            self.length = length.context("the answer has no length")?.trim().parse().context("reading the length")?;
            let body = (self.head.len() - end - 4) as u64;
            self.left = Some(self.length.checked_sub(body).context("more bytes than were announced")?);
            self.head = Vec::new();
            return Ok(self.left == Some(0));
        };
        let left = left.checked_sub(count).context("more bytes than were announced")?;
        self.left = Some(left);
        Ok(left == 0)
    }
}
