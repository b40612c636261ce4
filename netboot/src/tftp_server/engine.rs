//! A thread that moves the packets of many transfers: one epoll set, one socket per transfer, nothing shared with
//! other threads. A packet costs three system calls here, two when a thread has one transfer only, and no task switch.

use super::{
    places::Place,
    running::Running,
    wire::{Patience, Wire},
};
use crate::{
    boot_files::BootFile,
    handed_out::{Tally, Teller},
    metrics::Way,
    proto::{
        mac::Mac,
        tftp::{
            packet::{ErrorCode, FromClient, ReadRequest, error},
            transfer::{Transfer, Transmit},
        },
    },
    shared::Shared,
};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    io,
    net::SocketAddrV4,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Instant,
};
use tokio::sync::oneshot;

/// The name of the bell among the sockets.
const BELL: u64 = 0;
const EVENTS: usize = 64;
/// Bytes of files that are under way to all clients together. A line of one gigabit needs less; more only fills the interface's
/// queue until it drops, and then whole windows are sent twice.
const UNDER_WAY: u64 = 768 << 10;
/// A file for a client.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) client: SocketAddrV4,
    pub(super) mac: Option<Mac>,
    pub(super) request: ReadRequest,
    pub(super) file: BootFile,
    pub(super) place: Place,
}

#[derive(Debug)]
enum Order {
    Start(Box<Job>),
    Stop,
}

/// The handle of such a thread.
#[derive(Debug)]
pub(super) struct Engine {
    orders: Sender<Order>,
    bell: Arc<EventFd>,
    ended: oneshot::Receiver<()>,
}

impl Engine {
    /// One of so many threads.
    pub(super) fn start(shared: Arc<Shared>, largest_block: u16, teller: Teller, threads: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        epoll.add(&*bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        let (orders, receiver) = channel();
        let (end, ended) = oneshot::channel();
        let mut worker = Worker {
            shared,
            largest_block,
            epoll,
            bell: Arc::clone(&bell),
            orders: receiver,
            teller,
            running: HashMap::new(),
            clients: HashMap::new(),
            timers: BinaryHeap::new(),
            under_way: 0,
            most_under_way: UNDER_WAY / threads.max(1) as u64,
            waiting: VecDeque::new(),
            next: BELL + 1,
            // On a single processor it would take the time from who is waited for.
            may_look: thread::available_parallelism().is_ok_and(|processors| processors.get() > 1),
        };
        thread::Builder::new().name("tftp".into()).stack_size(256 << 10).spawn(move || {
            if let Err(error) = worker.run() {
                tracing::error!("TFTP stops: {error}");
            }
            drop(end);
        })?;
        Ok(Self { orders, bell, ended })
    }

    /// Hands a job over. A transfer of the same file to the same port starts over; one of another file ends.
    pub(super) fn submit(&self, job: Job) {
        self.order(Order::Start(Box::new(job)));
    }

    /// Tells the clients, ends the thread and waits for it.
    pub(super) async fn stop(self) {
        self.order(Order::Stop);
        let _ = self.ended.await;
    }

    fn order(&self, order: Order) {
        // The receiver lives until it was told to stop.
        let _ = self.orders.send(order);
        let _ = self.bell.write(1);
    }
}

struct Worker {
    shared: Arc<Shared>,
    largest_block: u16,
    epoll: Epoll,
    bell: Arc<EventFd>,
    orders: Receiver<Order>,
    teller: Teller,
    running: HashMap<u64, Running>,
    clients: HashMap<SocketAddrV4, u64>,
    /// When to look at a transfer again. It may have got further meanwhile: then it is put in anew.
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Bytes that were sent and not yet acknowledged, of all transfers.
    under_way: u64,
    /// This thread's share of [`UNDER_WAY`].
    most_under_way: u64,
    /// Transfers that have something to send and wait until less is under way, the longest first.
    waiting: VecDeque<u64>,
    next: u64,
    /// Whether packets may be looked for without sleeping.
    may_look: bool,
}

impl Worker {
    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let count = match self.epoll.wait(&mut events, self.until_next()) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                match event.data() {
                    BELL => {
                        let _ = self.bell.read();
                        if let Some(end) = self.obey() {
                            return end;
                        }
                    }
                    number => {
                        self.receive(number, Patience::None);
                    }
                }
            }
            self.fire();
            if let Some(end) = self.follow_one() {
                return end;
            }
        }
    }

    /// While there is one transfer only, its next packet is waited for at its socket: with a client that acknowledges each block,
    /// a call less for each counts. Ends when nothing has come for a moment. The result is there when the thread has to end.
    fn follow_one(&mut self) -> Option<io::Result<()>> {
        loop {
            let mut numbers = self.running.keys();
            let (Some(number), None) = (numbers.next().copied(), numbers.next()) else { return None };
            let patience = if self.may_look { Patience::Looking } else { Patience::Moment };
            if !self.receive(number, patience) {
                return None;
            }
            if let Some(end) = self.obey() {
                return Some(end);
            }
            self.fire();
        }
    }

    /// Does what was ordered. The result is there when the thread has to end.
    fn obey(&mut self) -> Option<io::Result<()>> {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Start(job) => self.start(*job),
                Order::Stop => return Some(self.stop()),
            }
        }
        None
    }

    fn until_next(&self) -> EpollTimeout {
        let Some(Reverse((due, _))) = self.timers.peek() else { return EpollTimeout::NONE };
        // Rounded up: a timer that fires early would spin.
        let ms = due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        EpollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX))
    }

    fn start(&mut self, job: Job) {
        let Job { client, mac, request, file, place } = job;
        let now = Instant::now();
        let length = file.content.length();
        if let Some(number) = self.clients.get(&client).copied() {
            if let Some(running) = self.running.get_mut(&number).filter(|running| running.name == request.name) {
                // Its OACK or first block got lost, or EDK2 has the size now and wants the file. What came for the
                // transfer before, an ERROR above all, must not end this one.
                running.wire.drop_waiting();
                running.transfer = Transfer::start(now, &request, length, self.largest_block);
                running.tally.reset();
                return self.pump(number, now);
            }
            self.remove(number);
        }
        let number = self.next;
        self.next += 1;
        let opened = Wire::open(&self.shared, client, file.content.clone()).and_then(|wire| {
            self.epoll.add(&wire.socket, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
            Ok(wire)
        });
        let wire = match opened {
            Ok(wire) => wire,
            Err(error) => {
                tracing::warn!("no transfer to {client}: {error}");
                return;
            }
        };
        let transfer = Transfer::start(now, &request, length, self.largest_block);
        let armed = transfer.poll_timeout().unwrap_or(now);
        self.timers.push(Reverse((armed, number)));
        let (name, tally) = (request.name, Tally::new(Way::Tftp, mac, Some(file), 0));
        self.running.insert(
            number,
            Running { client, mac, name, length, wire, transfer, place, under_way: 0, waits: false, armed, tally },
        );
        self.clients.insert(client, number);
        self.pump(number, now);
    }

    /// One packet of a transfer's socket; the others are asked for by the next round. Whether something came.
    fn receive(&mut self, number: u64, patience: Patience) -> bool {
        let Some(running) = self.running.get_mut(&number) else { return false };
        let mut buffer = [0; 600];
        let (length, from) = match running.wire.receive(&mut buffer, patience) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                running.wire.drop_errors();
                // ICMP says that the port is closed: the client has left for the kernel, or was switched off and on.
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    running.transfer.handle_gone();
                    self.pump(number, Instant::now());
                }
                return false;
            }
        };
        let now = Instant::now();
        if from != Some(running.client) {
            // RFC 1350, section 4: the transfer goes on.
            if let Some(from) = from {
                let _ = running.wire.send_to(&error(ErrorCode::UnknownTransfer, "unknown transfer"), from);
            }
            return true;
        }
        if let Ok(packet) = FromClient::read(&buffer[..length]) {
            running.transfer.handle(now, &packet);
            if running.transfer.proved() {
                running.place.prove();
            }
            self.pump(number, now);
        }
        true
    }

    /// Sends what is due or lines up for it, tells how far it is, and ends what has ended.
    fn pump(&mut self, number: u64, now: Instant) {
        self.account(number);
        if let Some(running) = self.running.get_mut(&number)
            && running.transfer.has_blocks()
        {
            if !std::mem::replace(&mut running.waits, true) {
                self.waiting.push_back(number);
            }
        } else {
            self.send(number, now);
        }
        while self.under_way < self.most_under_way
            && let Some(next) = self.waiting.pop_front()
        {
            if let Some(running) = self.running.get_mut(&next) {
                running.waits = false;
                self.send(next, now);
            }
        }
    }

    /// Counts what of this transfer is under way now.
    fn account(&mut self, number: u64) {
        if let Some(running) = self.running.get_mut(&number) {
            self.under_way -= running.under_way;
            running.under_way = running.transfer.bytes_under_way();
            self.under_way += running.under_way;
        }
    }

    fn send(&mut self, number: u64, now: Instant) {
        let Some(running) = self.running.get_mut(&number) else { return };
        while let Some(transmit) = running.transfer.poll_transmit(now) {
            let size = running.transfer.block_size();
            let sent = match &transmit {
                Transmit::Options(packet) => running.wire.send(packet),
                Transmit::Blocks { first, count } => running.wire.send_blocks(*first, *count, size),
            };
            if let Err(cause) = sent {
                self.shared.metrics.tftp(None);
                tracing::warn!("the transfer to {} broke: {cause}", running.client);
                let _ = running.wire.send(&error(ErrorCode::Undefined, "the file cannot be read"));
                return self.remove(number);
            }
        }
        running.tell(now, &self.shared, &self.teller);
        match running.transfer.poll_timeout() {
            Some(due) if due < running.armed => {
                running.armed = due;
                self.timers.push(Reverse((due, number)));
            }
            Some(_) => {}
            None => {
                self.shared.metrics.tftp(running.transfer.outcome());
                running.log_end();
                return self.remove(number);
            }
        }
        self.account(number);
    }

    fn fire(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, number))) = self.timers.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.timers.pop();
            // An entry that a nearer one has replaced is of no use any more.
            let Some(running) = self.running.get_mut(&number).filter(|running| running.armed == at) else { continue };
            if running.waits {
                running.transfer.hold(now);
            } else {
                running.transfer.handle_timeout(now);
            }
            if let Some(due) = running.transfer.poll_timeout() {
                running.armed = due;
                self.timers.push(Reverse((due, number)));
            }
            self.pump(number, now);
        }
    }

    fn remove(&mut self, number: u64) {
        // Closing the socket takes it out of the epoll set.
        let Some(running) = self.running.remove(&number) else { return };
        self.under_way -= running.under_way;
        if self.clients.get(&running.client) == Some(&number) {
            self.clients.remove(&running.client);
        }
    }

    fn stop(&mut self) -> io::Result<()> {
        for running in self.running.values() {
            let _ = running.wire.send(&error(ErrorCode::Undefined, "the server is being stopped"));
        }
        self.running.clear();
        Ok(())
    }
}
