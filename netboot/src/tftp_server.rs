//! The shell around [`crate::proto::tftp`]: one socket for requests, one per transfer.

use crate::{
    boot_files::BootFile,
    metrics::Way,
    proto::{
        mac::Mac,
        tftp::{
            packet::{ErrorCode, FromClient, ReadRequest, error},
            transfer::{Outcome, Transfer},
        },
    },
    shared::{Shared, lock},
    sockets,
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use time::OffsetDateTime;
use tokio::{
    net::UdpSocket,
    sync::{Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Transfers at the same time. More wait in the queue: a refusal would stop the firmware.
const AT_ONCE: usize = 32;
/// Transfers that wait or run. Beyond that the client's own repeats are the queue.
const MOST: usize = 512;
/// IPv4 (20), UDP (8) and TFTP (4) headers.
const HEADERS: u16 = 32;

/// A transfer under way: its number, its file, and how to start it over.
struct Running {
    number: u64,
    name: String,
    restart: mpsc::Sender<ReadRequest>,
}

type Transfers = Mutex<HashMap<SocketAddr, Running>>;

struct Server {
    shared: Arc<Shared>,
    transfers: Transfers,
    started: AtomicU64,
    places: Semaphore,
    largest_block: u16,
    stop: CancellationToken,
}

/// Answers requests until told to stop.
pub async fn run(shared: Arc<Shared>, socket: UdpSocket, mtu: u16, stop: CancellationToken) {
    let server = Arc::new(Server {
        shared,
        transfers: Transfers::default(),
        started: AtomicU64::new(0),
        places: Semaphore::new(AT_ONCE),
        largest_block: mtu.saturating_sub(HEADERS).min(65464),
        stop: stop.clone(),
    });
    let tasks = TaskTracker::new();
    let mut buffer = vec![0; 2048];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => break,
            received = socket.recv_from(&mut buffer) => received,
        };
        let Ok((length, client)) = received else { continue };
        match FromClient::read(&buffer[..length]) {
            Ok(FromClient::Read(request)) => {
                if let Some(refusal) = server.accept(&tasks, client, request) {
                    let _ = socket.send_to(&refusal, client).await;
                }
            }
            Ok(FromClient::Write) => {
                let _ = socket.send_to(&error(ErrorCode::AccessViolation, "read only"), client).await;
            }
            Ok(_) | Err(_) => {}
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// Throws away what waits in a transfer's socket. Asks the kernel itself: tokio may not have heard of it yet.
fn drop_waiting(socket: &UdpSocket) {
    let socket = socket2::SockRef::from(socket);
    let mut nothing = [];
    while socket.recv(&mut nothing).is_ok() {}
}

impl Server {
    /// Starts a transfer, or gives the error to send.
    fn accept(self: &Arc<Self>, tasks: &TaskTracker, client: SocketAddr, request: ReadRequest) -> Option<Vec<u8>> {
        // The same port asks again: its OACK or first block got lost, or EDK2 has the size now and wants the file.
        if let Some(running) = lock(&self.transfers).get(&client)
            && running.name == request.name
            && running.restart.try_send(request.clone()).is_ok()
        {
            return None;
        }
        if request.mode != "octet" {
            return Some(error(ErrorCode::IllegalOperation, "only octet mode"));
        }
        let Some(file) = self.shared.boot.get(&request.name) else {
            // Firmware and loaders probe for files that nobody has.
            tracing::debug!("{client} asked for {}: not here", request.name.escape_default());
            return Some(error(ErrorCode::NotFound, "no such file"));
        };
        let (restart, restarts) = mpsc::channel(2);
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        {
            let mut transfers = lock(&self.transfers);
            if transfers.len() >= MOST {
                return None;
            }
            // Another file from the same port: the transfer before it ends, because its channel closes.
            transfers.insert(client, Running { number, name: request.name.clone(), restart });
        }
        tasks.spawn(Arc::clone(self).transfers(number, client, request, file, restarts));
        None
    }

    /// Sends the file, and again when the client asks again just as the transfer ends.
    async fn transfers(
        self: Arc<Self>,
        number: u64,
        client: SocketAddr,
        mut request: ReadRequest,
        file: BootFile,
        mut restarts: mpsc::Receiver<ReadRequest>,
    ) {
        let mac = self.shared.neighbours.find(client.ip());
        loop {
            if let Err(error) = self.transfer(client, mac, request, &file, &mut restarts).await {
                self.shared.metrics.tftp(None);
                tracing::warn!("the transfer to {client} broke: {error}");
            }
            let mut transfers = lock(&self.transfers);
            match restarts.try_recv() {
                Ok(again) => request = again,
                Err(_) => {
                    if transfers.get(&client).is_some_and(|running| running.number == number) {
                        transfers.remove(&client);
                    }
                    return;
                }
            }
        }
    }

    async fn transfer(
        &self,
        client: SocketAddr,
        mac: Option<Mac>,
        mut request: ReadRequest,
        file: &BootFile,
        restarts: &mut mpsc::Receiver<ReadRequest>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let _place = self.places.acquire().await?;
        if let Some(mac) = mac {
            self.shared.boot_file_asked(mac).await;
        }
        // A new port per transfer (RFC 1350, section 4): it tells two transfers of one client apart.
        let interface = self.shared.config.now().interface.clone();
        let socket = sockets::udp("TFTP transfer", &interface, self.shared.address, 0, false)?;
        let socket = UdpSocket::from_std(socket)?;
        let mut transfer = Transfer::start(Instant::now(), &request, file.bytes.clone(), self.largest_block);
        let mut buffer = vec![0; 2048];
        let mut counted = 0;
        loop {
            while let Some(packet) = transfer.poll_transmit() {
                socket.send_to(&packet, client).await?;
            }
            self.count(mac, &transfer, &mut counted, file);
            let Some(due) = transfer.poll_timeout() else { break };
            tokio::select! {
                // In this order: EDK2 asks for the size, sends ERROR, and asks again from the same port. The ERROR
                // belongs to the transfer that ends, not to the one that begins.
                biased;
                () = self.stop.cancelled() => {
                    socket.send_to(&error(ErrorCode::Undefined, "the server is being stopped"), client).await?;
                    return Ok(());
                }
                received = socket.recv_from(&mut buffer) => match received? {
                    (length, from) if from == client => {
                        if let Ok(packet) = FromClient::read(&buffer[..length]) {
                            transfer.handle(Instant::now(), &packet);
                        }
                    }
                    (_, stranger) => {
                        socket.send_to(&error(ErrorCode::UnknownTransfer, "unknown transfer"), stranger).await?;
                    }
                },
                () = tokio::time::sleep_until(due.into()) => transfer.handle_timeout(Instant::now()),
                again = restarts.recv() => {
                    let Some(again) = again else { return Ok(()) };
                    // What came for the transfer before, an ERROR above all, must not end this one.
                    drop_waiting(&socket);
                    request = again;
                    counted = 0;
                    transfer = Transfer::start(Instant::now(), &request, file.bytes.clone(), self.largest_block);
                }
            }
        }
        self.shared.metrics.tftp(transfer.outcome());
        let who = mac.map_or_else(|| client.to_string(), |mac| mac.to_string());
        match transfer.outcome() {
            Some(Outcome::Complete { .. }) => tracing::info!("{who}: {} was sent whole by TFTP", request.name),
            Some(Outcome::Probed) => tracing::debug!("{who}: asked for the size of {}", request.name),
            Some(Outcome::Refused { code, text }) => {
                tracing::warn!("{who}: refused {} after {counted} bytes (error {code}: {text})", request.name);
            }
            _ => tracing::warn!("{who}: fell silent after {counted} bytes of {}", request.name),
        }
        Ok(())
    }

    /// Passes what was acknowledged since last time to the board.
    fn count(&self, mac: Option<Mac>, transfer: &Transfer, counted: &mut u64, file: &BootFile) {
        let whole = file.validators.length;
        let complete = matches!(transfer.outcome(), Some(Outcome::Complete { .. }));
        let acknowledged = if complete { whole } else { transfer.acknowledged_bytes().min(whole.saturating_sub(1)) };
        self.shared.metrics.sent(Way::Tftp, acknowledged.saturating_sub(*counted));
        let Some(mac) = mac.filter(|_| acknowledged > *counted) else {
            *counted = acknowledged.max(*counted);
            return;
        };
        let now = OffsetDateTime::now_utc();
        let progress = if complete { 1.0 } else { acknowledged as f64 / whole as f64 };
        let event = lock(&self.shared.board).boot_sent(now, mac, acknowledged - *counted, file.progress(progress));
        *counted = acknowledged;
        self.shared.emit(now, mac, event);
    }
}
