//! Threads that send files: the kernel takes the bytes from the page cache itself (sendfile), and a slow disk holds up
//! nothing but files.

use crate::{
    content::Content,
    handed_out::{Tally, Teller},
    proto::pace::Pace,
    shared::Shared,
};
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
        sendfile::sendfile64,
    },
};
use std::{
    collections::HashMap,
    io::{self, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

const BELL: u64 = 0;
const EVENTS: usize = 64;
/// What one connection gets before the next one's turn.
const TURN: u64 = 1 << 20;
/// What is copied at once, where there is no file.
const PIECE: u64 = 64 << 10;
/// A client takes at least [`LEAST_BYTES`] in each of these; slower ones hold a place that others need.
const PACE: Duration = Duration::from_secs(60);
const LEAST_BYTES: u64 = 256 << 10;
const LOOK_EVERY: u16 = 5000;

/// Bytes for a connection.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) stream: TcpStream,
    pub(super) content: Content,
    /// The first byte that is sent.
    pub(super) from: u64,
    /// How many.
    pub(super) length: u64,
    pub(super) tally: Tally,
    /// Gets the connection back, or hears why it is gone.
    pub(super) done: oneshot::Sender<io::Result<TcpStream>>,
}

/// The threads.
#[derive(Debug)]
pub(super) struct Senders {
    threads: Vec<(Sender<Job>, Arc<EventFd>)>,
    next: AtomicUsize,
}

impl Senders {
    pub(super) fn start(shared: &Arc<Shared>, teller: &Teller) -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(4);
        let threads = (0..count).map(|_| start(Arc::clone(shared), teller.clone())).collect::<io::Result<_>>()?;
        Ok(Self { threads, next: AtomicUsize::new(0) })
    }

    pub(super) fn submit(&self, job: Job) {
        let (sender, bell) = &self.threads[self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len()];
        // A thread ends only after its sender is gone.
        let _ = sender.send(job);
        let _ = bell.write(1);
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        for (sender, bell) in self.threads.drain(..) {
            drop(sender);
            let _ = bell.write(1);
        }
    }
}

fn start(shared: Arc<Shared>, teller: Teller) -> io::Result<(Sender<Job>, Arc<EventFd>)> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    epoll.add(&*bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
    let (sender, jobs) = channel();
    let mut worker =
        Worker { shared, teller, epoll, bell: Arc::clone(&bell), jobs, sending: HashMap::new(), next: BELL + 1 };
    thread::Builder::new().name("http-files".into()).stack_size(256 << 10).spawn(move || {
        if let Err(error) = worker.run() {
            tracing::error!("HTTP stops to send files: {error}");
        }
    })?;
    Ok((sender, bell))
}

struct Sending {
    job: Job,
    /// Sent so far.
    sent: u64,
    pace: Pace,
}

struct Worker {
    shared: Arc<Shared>,
    teller: Teller,
    epoll: Epoll,
    bell: Arc<EventFd>,
    jobs: Receiver<Job>,
    sending: HashMap<u64, Sending>,
    next: u64,
}

impl Worker {
    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut looked = Instant::now();
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::from(LOOK_EVERY)) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                match event.data() {
                    BELL => {
                        let _ = self.bell.read();
                        if !self.take() {
                            return Ok(());
                        }
                    }
                    number => self.go_on(number),
                }
            }
            let now = Instant::now();
            if now.saturating_duration_since(looked).as_millis() >= LOOK_EVERY.into() {
                looked = now;
                self.end_slow_ones(now);
            }
        }
    }

    /// Takes new jobs; false when there will be no more.
    fn take(&mut self) -> bool {
        loop {
            match self.jobs.try_recv() {
                Ok(job) => {
                    let number = self.next;
                    self.next += 1;
                    if let Err(error) = self.epoll.add(&job.stream, EpollEvent::new(EpollFlags::EPOLLOUT, number)) {
                        let _ = job.done.send(Err(error.into()));
                        continue;
                    }
                    self.sending
                        .insert(number, Sending { job, sent: 0, pace: Pace::new(Instant::now(), PACE, LEAST_BYTES) });
                    self.go_on(number);
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn go_on(&mut self, number: u64) {
        let Some(sending) = self.sending.get_mut(&number) else { return };
        let result = sending.turn();
        let over = sending.sent == sending.job.length || result.is_err();
        let place = sending.job.from + sending.sent;
        sending.job.tally.reached(Instant::now(), place, over, &self.shared, &self.teller);
        if over {
            self.end(number, result);
        }
    }

    fn end(&mut self, number: u64, result: io::Result<()>) {
        let Some(Sending { job, .. }) = self.sending.remove(&number) else { return };
        let result = result.and_then(|()| Ok(self.epoll.delete(&job.stream)?));
        // Nobody waits any more when the service is being stopped.
        let _ = job.done.send(result.map(|()| job.stream));
    }

    fn end_slow_ones(&mut self, now: Instant) {
        let mut slow = Vec::new();
        for (number, sending) in &mut self.sending {
            if sending.pace.too_slow(now, sending.sent) {
                slow.push(*number);
            }
        }
        for number in slow {
            self.end(number, Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes next to nothing")));
        }
    }
}

impl Sending {
    /// Sends until the socket is full, the turn is over, or all is sent.
    fn turn(&mut self) -> io::Result<()> {
        let mut left = TURN.min(self.job.length - self.sent);
        while left > 0 {
            let piece = if self.job.content.file().is_some() { left } else { left.min(PIECE) };
            match self.some(piece) {
                // The file is shorter than it was when it was opened.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.sent += count;
                    left -= count;
                    if count < piece {
                        // The socket is full: epoll tells when it is not.
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn some(&mut self, count: u64) -> io::Result<u64> {
        let at = self.job.from + self.sent;
        if let Some((file, begin)) = self.job.content.file() {
            let mut offset = i64::try_from(begin + at).map_err(io::Error::other)?;
            let count = usize::try_from(count).map_err(io::Error::other)?;
            return Ok(sendfile64(&self.job.stream, file, Some(&mut offset), count)? as u64);
        }
        let mut piece = vec![0; usize::try_from(count).map_err(io::Error::other)?];
        self.job.content.read_at(at, &mut piece)?;
        Ok(self.job.stream.write(&piece)? as u64)
    }
}
