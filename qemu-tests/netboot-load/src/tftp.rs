//! Many TFTP clients on a few threads, each with one epoll set.

use crate::{
    Who,
    client::{Client, Dialect, Next},
    report::Report,
};
use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::{
    io,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    thread,
    time::{Duration, Instant},
};

/// Arguments of `tftp`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    who: Who,
    /// The file's name.
    #[arg(long)]
    file: String,
    /// Whose dialect.
    #[arg(long, value_enum)]
    dialect: Dialect,
    /// How long the clock runs.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// How long the clients run before that.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let begin = Instant::now() + Duration::from_secs_f64(arguments.warm_up);
    let end = begin + Duration::from_secs_f64(arguments.seconds);
    let threads = arguments.threads.clamp(1, arguments.who.clients.max(1));
    let mut total = Report { seconds: arguments.seconds, ..Report::default() };
    let parts: Vec<Result<Report>> = thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                let numbers = (thread..arguments.who.clients).step_by(threads as usize);
                scope.spawn(move || Fleet::new(arguments, numbers.collect(), false)?.run(begin, end))
            })
            .collect();
        started.into_iter().map(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a thread broke"))).collect()
    });
    for part in parts {
        total.add(part?);
    }
    Ok(total)
}

/// The clients of one thread.
pub(crate) struct Fleet {
    who: Who,
    file: String,
    dialect: Dialect,
    /// Each client fetches the file once, and the times are kept.
    once: bool,
    epoll: Epoll,
    places: Vec<Place>,
    report: Report,
}

struct Place {
    number: u32,
    socket: UdpSocket,
    transfer: Option<SocketAddrV4>,
    client: Client,
    /// What of the client's bytes is in the report.
    counted: u64,
    over: bool,
    began: Instant,
}

impl Fleet {
    fn new(arguments: &Arguments, numbers: Vec<u32>, once: bool) -> Result<Self> {
        let mut fleet = Self::empty(arguments.who.clone(), &arguments.file, arguments.dialect, once)?;
        numbers.into_iter().try_for_each(|number| fleet.add(number, Instant::now()))?;
        Ok(fleet)
    }

    pub(crate) fn empty(who: Who, file: &str, dialect: Dialect, once: bool) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("making an epoll set")?;
        Ok(Self { who, file: file.to_owned(), dialect, once, epoll, places: Vec::new(), report: Report::default() })
    }

    /// A client begins; its time counts from `began`.
    pub(crate) fn add(&mut self, number: u32, began: Instant) -> Result<()> {
        let now = Instant::now();
        let place = Place {
            number,
            socket: socket(&self.who, number)?,
            transfer: None,
            client: Client::new(self.dialect, &self.file, now),
            counted: 0,
            over: false,
            began,
        };
        self.places.push(place);
        let index = self.places.len() - 1;
        self.watch(index)?;
        self.request(index, now)
    }

    fn watch(&self, index: usize) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        self.epoll.add(&self.places[index].socket, event).context("watching a socket")
    }

    fn request(&mut self, index: usize, now: Instant) -> Result<()> {
        let (server, place) = (SocketAddrV4::new(self.who.server, 69), &mut self.places[index]);
        place.transfer = None;
        let packet = place.client.request(now);
        send(&place.socket, &packet, server)
    }

    /// All that want a file have it or have failed.
    pub(crate) fn over(&self) -> bool {
        self.places.iter().all(|place| place.over)
    }

    fn run(mut self, begin: Instant, end: Instant) -> Result<Report> {
        let mut counting = false;
        loop {
            let now = Instant::now();
            if now >= end {
                self.give_up();
                return Ok(self.into_report());
            }
            if !counting && now >= begin {
                counting = true;
                self.report = Report::default();
                self.places.iter_mut().for_each(|place| place.counted = place.client.received());
            }
            self.turn(end.min(now + Duration::from_millis(20)))?;
        }
    }

    /// Ends all transfers, so that no server keeps any for the next run.
    fn give_up(&self) {
        for place in &self.places {
            if let Some(transfer) = place.transfer {
                let _ = send(&place.socket, b"\0\x05\0\0enough\0", transfer);
            }
        }
    }

    pub(crate) fn into_report(mut self) -> Report {
        for index in 0..self.places.len() {
            self.count(index);
        }
        self.report.repeats += self.places.iter().map(|place| place.client.repeats).sum::<u64>();
        self.report
    }

    /// Handles what comes until then, and what has not come in time.
    pub(crate) fn turn(&mut self, until: Instant) -> Result<()> {
        let mut events = [EpollEvent::empty(); 128];
        let mut buffer = [0; 2048];
        loop {
            let left = until.saturating_duration_since(Instant::now()).as_millis();
            let timeout = EpollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error).context("waiting for packets"),
            };
            for event in &events[..count] {
                let index = usize::try_from(event.data())?;
                // A window is up to four packets; the rest comes with the next round.
                for _ in 0..4 {
                    match self.places[index].socket.recv_from(&mut buffer) {
                        Ok((length, SocketAddr::V4(from))) => self.packet(index, &buffer[..length], from)?,
                        _ => break,
                    }
                }
            }
            if left == 0 {
                break;
            }
        }
        let now = Instant::now();
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            if place.over || place.client.due() > now {
                continue;
            }
            match place.client.handle_timeout(now) {
                Ok((packet, to_transfer)) => {
                    let request = SocketAddrV4::new(self.who.server, 69);
                    let to = if to_transfer { place.transfer.unwrap_or(request) } else { request };
                    send(&place.socket, &packet, to)?;
                }
                Err(problem) => self.failed(index, problem)?,
            }
        }
        Ok(())
    }

    fn packet(&mut self, index: usize, packet: &[u8], from: SocketAddrV4) -> Result<()> {
        let now = Instant::now();
        let place = &mut self.places[index];
        if place.over || *place.transfer.get_or_insert(from) != from {
            return Ok(());
        }
        match place.client.handle(packet, now) {
            Next::Wait => Ok(()),
            Next::Answer(answer) => send(&place.socket, &answer, from),
            Next::Request(last) => {
                send(&place.socket, &last, from)?;
                place.socket = socket(&self.who, place.number)?;
                self.watch(index)?;
                self.request(index, now)
            }
            Next::Done(answer) => {
                send(&place.socket, &answer, from)?;
                self.count(index);
                self.report.files += 1;
                let took = now.saturating_duration_since(self.places[index].began).as_secs_f64();
                self.report.fastest = Some(self.report.fastest.map_or(took, |f| f.min(took)));
                self.report.slowest = Some(self.report.slowest.map_or(took, |s| s.max(took)));
                self.again(index)
            }
            Next::Failed(problem) => self.failed(index, problem),
        }
    }

    fn failed(&mut self, index: usize, problem: String) -> Result<()> {
        self.count(index);
        self.report.failed += 1;
        self.report.problem.get_or_insert(problem);
        self.again(index)
    }

    fn count(&mut self, index: usize) {
        let place = &mut self.places[index];
        self.report.bytes += place.client.received() - place.counted;
        place.counted = place.client.received();
    }

    fn again(&mut self, index: usize) -> Result<()> {
        let place = &mut self.places[index];
        self.report.repeats += std::mem::take(&mut place.client.repeats);
        if self.once {
            place.over = true;
            return Ok(());
        }
        let now = Instant::now();
        place.client = Client::new(self.dialect, &self.file, now);
        place.counted = 0;
        place.socket = socket(&self.who, place.number)?;
        self.watch(index)?;
        self.request(index, now)
    }
}

fn socket(who: &Who, number: u32) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddrV4::new(who.address(number), 0)).context("opening a client's socket")?;
    socket.set_nonblocking(true).context("opening a client's socket")?;
    Ok(socket)
}

/// What the kernel has no room for is lost, and what a closed port has refused does not matter.
fn send(socket: &UdpSocket, packet: &[u8], to: SocketAddrV4) -> Result<()> {
    match socket.send_to(packet, to) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
            Err(error).context("sending a packet")
        }
        _ => Ok(()),
    }
}
