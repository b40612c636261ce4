//! The shell around [`crate::proto::tftp`]: one socket for requests; the transfers run in threads of their own, see
//! `engine`.

mod eager;
mod engine;
mod places;
mod running;
mod wire;

use self::{
    engine::{Engine, Job},
    places::{Limits, Places},
};
use crate::{
    decision, handed_out,
    proto::tftp::packet::{ErrorCode, FromClient, ReadRequest, error},
    shared::Shared,
};
use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::Arc,
    thread,
};
use tokio::net::UdpSocket;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A store has dozens of machines. Beyond these bounds requests are not answered; the client's own repeats are the
/// queue, because a refusal would stop the firmware.
pub(crate) const LIMITS: Limits = Limits { most: 1024, per_client: 16, unproved: 4 };
/// More threads than these gain nothing on a store's line.
const MOST_THREADS: usize = 4;
/// IPv4 (20), UDP (8) and TFTP (4) headers.
const HEADERS: u16 = 32;
/// Of a name that somebody asks for, in the log.
const LONGEST_SHOWN: usize = 64;

struct Server {
    shared: Arc<Shared>,
    places: Places,
    engines: Vec<Engine>,
}

/// Answers requests until told to stop.
pub async fn run(shared: Arc<Shared>, socket: UdpSocket, mtu: u16, stop: CancellationToken) {
    let largest_block = mtu.saturating_sub(HEADERS).min(65464);
    let (teller, note) = handed_out::begin(&shared);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let started: Result<Vec<Engine>, _> =
        (0..threads).map(|_| Engine::start(Arc::clone(&shared), largest_block, teller.clone(), threads)).collect();
    drop(teller);
    let engines = match started {
        Ok(engines) => engines,
        Err(error) => {
            tracing::error!("there is no TFTP: {error}");
            return;
        }
    };
    let server = Arc::new(Server { shared, places: Places::new(LIMITS), engines });
    let tasks = TaskTracker::new();
    tasks.spawn(note);
    let mut buffer = vec![0; 2048];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => break,
            received = socket.recv_from(&mut buffer) => received,
        };
        let Ok((length, SocketAddr::V4(client))) = received else { continue };
        match FromClient::read(&buffer[..length]) {
            Ok(FromClient::Read(request)) => {
                if let Some(refusal) = server.accept(&tasks, client, request) {
                    let _ = socket.send_to(&refusal, client).await;
                }
            }
            Ok(FromClient::Write) => {
                server.refuse(client, "read-only", "wanted to write by TFTP: refused");
                let _ = socket.send_to(&error(ErrorCode::AccessViolation, "read only"), client).await;
            }
            Ok(_) | Err(_) => {}
        }
    }
    tasks.close();
    // Requests in the middle of being accepted hold the server for a moment longer.
    let mut server = server;
    let engines = loop {
        match Arc::try_unwrap(server) {
            Ok(server) => break server.engines,
            Err(shared) => server = shared,
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    for engine in engines {
        engine.stop().await;
    }
    tasks.wait().await;
}

impl Server {
    /// Who it is is not looked up for a refusal: nobody has to be able to make this server work.
    fn refuse(&self, client: SocketAddrV4, code: &'static str, line: &str) {
        decision::say(&self.shared, decision::Path::Tftp, &client.ip().to_string(), false, code, line);
    }

    /// Starts a transfer, or gives the error to send.
    fn accept(self: &Arc<Self>, tasks: &TaskTracker, client: SocketAddrV4, request: ReadRequest) -> Option<Vec<u8>> {
        let name: String = request.name.escape_default().take(LONGEST_SHOWN).collect();
        if request.mode != "octet" {
            let line = format!("asked by TFTP for {name} in another mode than octet: refused");
            self.refuse(client, "not-octet", &line);
            return Some(error(ErrorCode::IllegalOperation, "only octet mode"));
        }
        let Some(file) = self.shared.boot.get(&request.name) else {
            // Firmware and loaders probe for files that nobody has.
            self.refuse(client, "no-such-file", &format!("asked by TFTP for {name}: not here"));
            return Some(error(ErrorCode::NotFound, "no such file"));
        };
        let place = match self.places.take(*client.ip()) {
            Ok(place) => place,
            Err(why) => {
                self.refuse(client, "no-place", &format!("asked by TFTP for {name}: not answered, {why}"));
                return None;
            }
        };
        let server = Arc::clone(self);
        tasks.spawn(async move {
            let mac = server.shared.neighbours.find((*client.ip()).into());
            let who = mac.map_or_else(|| client.ip().to_string(), |mac| mac.to_string());
            let line = format!("fetches {name} by TFTP");
            decision::say(&server.shared, decision::Path::Tftp, &who, true, "answered", &line);
            if let Some(mac) = mac {
                server.shared.boot_file_asked(mac).await;
            }
            // All packets of one client belong to one thread.
            let thread = client.ip().to_bits() as usize % server.engines.len();
            server.engines[thread].submit(Job { client, mac, request, file, place });
        });
        None
    }
}
