//! Mode `dhcp`: the shell around [`crate::proto::dhcp::lease`].
//!
//! An answer that needs the disk waits for it in a thread of its own (`lease_writer`); the others leave at once.

use super::{
    desk,
    ears::{Mouth, Server as Ears},
    lease_writer::{Handover, Kept},
};
use crate::{
    dhcp_server::{self, ByRoster},
    proto::{
        dhcp::{
            ask::{Guise, discover},
            decide::{Arrival, Decision, Destination, Outcome, Port, answer},
            lease::{
                answer::{Served, is_probing, probed, serve},
                rival::{Rival, Turn},
                server::{PROBE, Server},
            },
            packet::Packet,
            survey,
        },
        frames,
        mac::Mac,
    },
    shared::Shared,
};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Packets that are taken in one go: after that there may be something else to do.
const TOGETHER: usize = 256;

struct Service {
    shared: Arc<Shared>,
    ears: Ears,
    mouth: Mouth,
    server: Server,
    leases: Handover,
    rival: Rival,
    /// Addresses that are being probed: until when, and who has answered.
    probes: BTreeMap<Ipv4Addr, (Instant, Option<Mac>)>,
}

/// Serves until told to stop.
pub async fn run(
    shared: Arc<Shared>,
    (ears, mouth): (Ears, Mouth),
    server: Server,
    leases: Handover,
    stop: CancellationToken,
) {
    let (rival, probes) = (Rival::default(), BTreeMap::new());
    let mut service = Service { shared, ears, mouth, server, leases, rival, probes };
    let (mut clients, mut servers, mut arp) = (vec![0; 2048], vec![0; 2048], [0; 128]);
    loop {
        let deadline = service.deadline();
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = service.ears.clients.recv_from(&mut clients) => received.map(|(length, source)| {
                service.client_says(&clients[..length], source);
            }),
            received = service.ears.frames.recv(&mut servers) => match received {
                Ok(length) => {
                    service.server_says(&servers[..length]);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            received = service.ears.arp.recv(&mut arp) => received.map(|length| service.arp_says(&arp[..length])),
            () = tokio::time::sleep_until(deadline.into()) => Ok(()),
        };
        if let Err(error) = received {
            tracing::warn!("receiving failed: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for _ in 1..TOGETHER {
            let Ok((length, source)) = service.ears.clients.try_recv_from(&mut clients) else { break };
            service.client_says(&clients[..length], source);
        }
        service.time_passes();
    }
}

fn replies(outcome: &Outcome) -> bool {
    matches!(outcome.decision, Decision::Reply { .. })
}

impl Service {
    fn deadline(&self) -> Instant {
        let probes = self.probes.values().map(|(until, _)| *until);
        let far = Instant::now() + Duration::from_secs(60);
        probes.chain(self.rival.next()).min().unwrap_or(far)
    }

    fn arrival<'a>(shared: &'a Shared, source: SocketAddrV4) -> Arrival<'a> {
        Arrival { port: Port::Dhcp, server: shared.address, base_url: &shared.base_url, source, neighbour: None }
    }

    fn client_says(&mut self, bytes: &[u8], source: SocketAddr) {
        let SocketAddr::V4(source) = source else { return };
        let shared = Arc::clone(&self.shared);
        let Some(packet) = desk::read(&shared, Port::Dhcp, source, bytes) else { return };
        let (policy, arrival) = (ByRoster { shared: &shared }, Self::arrival(&shared, source));
        let now = Instant::now();
        for (address, client, until) in self.leases.written() {
            self.server.is_on_disk(address, &client, until);
        }
        if let Some(other) = survey::chosen_server(&packet).filter(|server| *server != shared.address)
            && self.rival.suspected(now) == Some(Turn::Ask)
        {
            tracing::info!("a client has chosen the DHCP server {other}: asking whether it is there");
            self.ask();
        }
        if self.rival.server().is_some() {
            // Somebody else lends the addresses; booting goes on as beside any other DHCP server.
            let outcome = answer(&packet, &arrival, &policy);
            desk::relayed(&shared, &packet, source, replies(&outcome));
            if let Some((bytes, destination)) = dhcp_server::conclude(&shared, Port::Dhcp, source, outcome) {
                self.say(&bytes, destination);
            }
        } else {
            let served = serve(&mut self.server, now, &packet, &arrival, &policy);
            desk::relayed(&shared, &packet, source, served.outcome.as_ref().is_some_and(replies));
            self.take(now, served, source);
        }
    }

    fn take(&mut self, now: Instant, served: Served, source: SocketAddrV4) {
        if let Some(address) = served.probe {
            self.probes.insert(address, (Instant::now() + PROBE, None));
            self.frame(&frames::who_has(self.ears.mac, address));
        }
        let Some(outcome) = served.outcome.filter(|outcome| !is_probing(outcome)) else { return };
        // The client waits for the answer, and nobody for the log.
        match (served.record, dhcp_server::reply(outcome.decision.clone())) {
            (None, None) => {}
            (None, Some((bytes, destination))) => self.say(&bytes, destination),
            (Some(record), answer) => {
                let until = now + record.remaining;
                if let Err(kept) = self.leases.give(Kept { record, until, answer }) {
                    let subject = kept.record.address.to_string();
                    dhcp_server::log(&self.shared, &subject, "its lease is not answered: the disk does not follow");
                }
            }
        }
        dhcp_server::write_down(&self.shared, Port::Dhcp, source, &outcome);
    }

    fn server_says(&mut self, frame: &[u8]) {
        let Some(datagram) = frames::read(frame) else { return };
        let Ok(packet) = Packet::read(datagram.payload) else { return };
        let Some(spoken) = survey::read(&packet, *datagram.source.ip()) else { return };
        desk::server_spoke(&self.shared, spoken, Some(datagram.sender));
        if spoken.lends.is_some()
            && spoken.server != self.shared.address
            && let Some(Turn::FallSilent(server)) = self.rival.heard(Instant::now(), spoken.server)
        {
            self.shared.lan.set_rival(Some(server));
            tracing::error!(
                %server,
                code = "rival",
                "another DHCP server, {server} ({}), lends addresses on this LAN: netboot lends none until it has not \
                 been heard for ten minutes; switch one of the two off",
                datagram.sender
            );
        }
    }

    fn arp_says(&mut self, frame: &[u8]) {
        if let Some((address, card)) = frames::holder(frame)
            && card != self.ears.mac
            && let Some((_, holder)) = self.probes.get_mut(&address)
        {
            holder.get_or_insert(card);
        }
    }

    fn time_passes(&mut self) {
        let now = Instant::now();
        let over: Vec<_> = self.probes.iter().filter(|(_, (until, _))| *until <= now).map(|(a, _)| *a).collect();
        let shared = Arc::clone(&self.shared);
        for address in over {
            let Some((_, holder)) = self.probes.remove(&address) else { continue };
            if let Some(holder) = holder {
                tracing::warn!(%address, mac = %holder, code = "address-in-use", "{address} is not lent: {holder} uses it already");
            }
            let (mut source, policy) = (None, ByRoster { shared: &shared });
            let arrival = |question: &crate::proto::dhcp::lease::server::Question| {
                source = Some(question.source);
                Self::arrival(&shared, question.source)
            };
            let served = probed(&mut self.server, now, address, holder, arrival, &policy);
            if let (Some((_, served)), Some(source)) = (served, source) {
                self.take(now, served, source);
            }
        }
        match self.rival.due(now) {
            Some(Turn::Ask) => self.ask(),
            Some(Turn::Resume(server)) => {
                self.shared.lan.set_rival(None);
                tracing::warn!(%server, code = "rival-gone", "{server} is gone: netboot lends addresses again");
            }
            Some(Turn::FallSilent(_)) | None => {}
        }
    }

    /// Asks as a test client who lends addresses here; [`Self::server_says`] hears the answer.
    fn ask(&self) {
        let question = discover(Guise::Device, self.ears.mac, rand::random());
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, self.ears.port);
        let frame = frames::frame(self.ears.mac, Mac([0xff; 6]), from, to, &question);
        self.frame(&frame.unwrap_or_default());
    }

    /// Puts a frame on the wire. A full queue loses it, as the wire might.
    fn frame(&self, frame: &[u8]) {
        if let Err(error) = self.mouth.frame(frame) {
            tracing::warn!("a frame could not be sent: {error}");
        }
    }

    fn say(&self, bytes: &[u8], destination: Destination) {
        if let Err(error) = self.mouth.say(bytes, self.shared.address, destination) {
            tracing::warn!("an answer to {destination} could not be sent: {error}");
        }
    }
}
