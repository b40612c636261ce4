//! Threads that send files: the kernel takes the bytes from the page cache itself (sendfile), and a slow disk holds up
//! nothing but files.

use crate::{
    content::Content,
    handed_out::{Tally, Teller},
    proto::pace::{Pace, Throttle},
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
    collections::{BTreeSet, HashMap},
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
pub(crate) const PACE: Duration = Duration::from_secs(60);
pub(crate) const LEAST_BYTES: u64 = 256 << 10;
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
    /// Bytes a second that this client gets at most.
    pub(super) rate: Option<u64>,
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
    let (bell_of_it, sending, waiting) = (Arc::clone(&bell), HashMap::new(), BTreeSet::new());
    let mut worker = Worker { shared, teller, epoll, bell: bell_of_it, jobs, sending, waiting, next: BELL + 1 };
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
    throttle: Option<Throttle>,
    /// Epoll watches the connection; not while it waits for its throttle.
    watched: bool,
}

struct Worker {
    shared: Arc<Shared>,
    teller: Teller,
    epoll: Epoll,
    bell: Arc<EventFd>,
    jobs: Receiver<Job>,
    sending: HashMap<u64, Sending>,
    /// Who waits for a throttle, and until when.
    waiting: BTreeSet<(Instant, u64)>,
    next: u64,
}

impl Worker {
    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut looked = Instant::now();
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::from(self.patience())) {
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
            while let Some((until, number)) = self.waiting.first().copied().filter(|(until, _)| *until <= now) {
                self.waiting.remove(&(until, number));
                self.watch(number);
            }
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
                    let now = Instant::now();
                    let throttle = job.rate.map(|rate| Throttle::new(now, rate));
                    let pace = Pace::new(now, PACE, LEAST_BYTES);
                    self.sending.insert(number, Sending { job, sent: 0, pace, throttle, watched: true });
                    self.go_on(number);
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn go_on(&mut self, number: u64) {
        let Some(sending) = self.sending.get_mut(&number) else { return };
        let now = Instant::now();
        let result = sending.turn(now);
        let over = sending.sent == sending.job.length || result.is_err();
        let place = sending.job.from + sending.sent;
        sending.job.tally.reached(now, place, over, &self.shared, &self.teller);
        if over {
            self.end(number, result);
        } else if let Some(until) = sending.throttle.as_ref().and_then(|throttle| throttle.may(now).err())
            && self.epoll.delete(&sending.job.stream).is_ok()
        {
            sending.watched = false;
            self.waiting.insert((until, number));
        }
    }

    /// A throttle lets bytes pass again.
    fn watch(&mut self, number: u64) {
        let Some(sending) = self.sending.get_mut(&number) else { return };
        match self.epoll.add(&sending.job.stream, EpollEvent::new(EpollFlags::EPOLLOUT, number)) {
            Ok(()) => sending.watched = true,
            Err(error) => self.end(number, Err(error.into())),
        }
    }

    /// Milliseconds until there is something to do without being asked.
    fn patience(&self) -> u16 {
        let Some((until, _)) = self.waiting.first() else { return LOOK_EVERY };
        let left = until.saturating_duration_since(Instant::now()).as_millis() + 1;
        u16::try_from(left).unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    fn end(&mut self, number: u64, result: io::Result<()>) {
        let Some(Sending { job, watched, .. }) = self.sending.remove(&number) else { return };
        // Who waits in vain is found missing when its time comes.
        let result = result.and_then(|()| if watched { Ok(self.epoll.delete(&job.stream)?) } else { Ok(()) });
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
    fn turn(&mut self, now: Instant) -> io::Result<()> {
        let mut left = TURN.min(self.job.length - self.sent);
        let Some(throttle) = &mut self.throttle else { return self.send(left) };
        let Ok(most) = throttle.may(now) else { return Ok(()) };
        left = left.min(most);
        let before = self.sent;
        let result = self.send(left);
        if let Some(throttle) = &mut self.throttle {
            throttle.passed(now, self.sent - before);
        }
        result
    }

    fn send(&mut self, mut left: u64) -> io::Result<()> {
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
