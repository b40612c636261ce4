//! The shell around [`crate::proto::dhcp`]: ports 67 and 4011, one line in the log per decision.

use crate::{
    boot_files::{bios, ipxe, name_of},
    decision,
    lan::{
        desk,
        ears::{CLIENT_PORT, Ear, Heard},
        patience::Patience,
    },
    permit::to_the_millisecond,
    proto::{
        dhcp::{
            decide::{Arch, Arrival, Decision, Destination, Outcome, Policy, Port, Ruling, Silence, Starts, answer},
            packet::Packet,
            survey,
        },
        mac::Mac,
    },
    roster::Standing,
    shared::{Shared, lock},
};
use std::{
    net::{IpAddr, SocketAddrV4},
    sync::Arc,
    time::Instant,
};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// Answers one port until told to stop, after the pause of the first start. What other servers send to clients is
/// listened to.
pub async fn run(shared: Arc<Shared>, ear: Ear, port: Port, mut patience: Patience, stop: CancellationToken) {
    let mut buffer = vec![0; 2048];
    loop {
        let pause = async {
            match patience.until() {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            () = pause => {
                tracing::info!("the LAN was listened to: {}", lock(&shared.lan.survey).summary());
                patience.over();
                continue;
            }
            heard = ear.hear(&mut buffer) => heard,
        };
        match heard {
            Ok(heard) => {
                let bytes = &buffer[heard.content.clone()];
                if let Some((answer, destination)) = handle(&shared, port, &heard, bytes, &patience)
                    && let Err(error) = ear.say(&answer, shared.address, destination).await
                {
                    tracing::warn!("an answer to {destination} could not be sent: {error}");
                }
            }
            Err(error) => {
                tracing::warn!("receiving failed: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

fn handle(
    shared: &Shared,
    port: Port,
    heard: &Heard,
    bytes: &[u8],
    patience: &Patience,
) -> Option<(Vec<u8>, Destination)> {
    let source = heard.source;
    if heard.port == CLIENT_PORT {
        let packet = Packet::read(bytes).ok()?;
        let spoken = survey::read(&packet, *source.ip())?;
        desk::server_spoke(shared, spoken, heard.sender);
        return None;
    }
    let packet = desk::read(shared, port, source, bytes)?;
    // The frame's sender is the client itself, unless a relay passed it on.
    let sender = heard.sender.filter(|_| packet.giaddr.is_unspecified());
    let neighbour = match packet.hlen {
        6 => None,
        _ => sender.or_else(|| shared.neighbours.find(IpAddr::V4(*source.ip()))),
    };
    let arrival = Arrival { port, server: shared.address, base_url: &shared.base_url, source, neighbour };
    let mut outcome = answer(&packet, &arrival, &ByRoster { shared });
    if patience.until().is_some() && matches!(outcome.decision, Decision::Reply { .. }) {
        outcome.decision = Decision::Silence(Silence::Listening);
    }
    if port == Port::Dhcp {
        desk::relayed(shared, &packet, source, matches!(outcome.decision, Decision::Reply { .. }));
    }
    conclude(shared, port, source, outcome)
}

/// Writes a decision into the log, the counters and the board. The answer comes back, to be sent.
pub fn conclude(shared: &Shared, port: Port, source: SocketAddrV4, outcome: Outcome) -> Option<(Vec<u8>, Destination)> {
    write_down(shared, port, source, &outcome);
    reply(outcome.decision)
}

/// What is to be sent.
#[must_use]
pub fn reply(decision: Decision) -> Option<(Vec<u8>, Destination)> {
    match decision {
        Decision::Reply { bytes, destination, .. } => Some((bytes, destination)),
        Decision::Silence(_) => None,
    }
}

/// Writes a decision into the log, the counters and the board.
pub fn write_down(shared: &Shared, port: Port, source: SocketAddrV4, outcome: &Outcome) {
    note(shared, outcome);
    let path = match port {
        Port::Dhcp => decision::Path::Dhcp,
        Port::Proxy => decision::Path::Proxy,
    };
    let subject = outcome.mac.map_or_else(|| source.to_string(), |mac| mac.to_string());
    match &outcome.decision {
        Decision::Reply { destination, kind, what, .. } => {
            shared.metrics.dhcp(port, Some(*kind));
            decision::say(shared, path, &subject, true, "answered", &format!("{kind} to {destination}: {what}"));
        }
        Decision::Silence(reason) => {
            shared.metrics.dhcp(port, None);
            let policy = outcome.mac.map_or("policy", |mac| decision::policy_code(shared, mac));
            let code = decision::code(reason, policy);
            decision::say(shared, path, &subject, false, code, &format!("silent: {reason}"));
        }
    }
}

/// Tells the board what a machine's firmware does.
fn note(shared: &Shared, outcome: &Outcome) {
    let Some(mac) = outcome.mac else { return };
    let Some(how) = outcome.family.title() else { return };
    let now = OffsetDateTime::now_utc();
    let standing = shared.store.with(|roster| roster.asks(mac, shared.asker(mac, now)));
    let message = match &standing {
        Standing::Listed { installed: true, .. } => format!("asked by {how}; it is installed, so it goes to its disk"),
        Standing::Listed { .. } => format!("asked for a boot server by {how}"),
        Standing::Staging(image) => format!("asked by {how}; it is looked at for {}", image.template),
        Standing::NotListed => format!("asked by {how}; no inventory entry of this store matches it"),
        Standing::NoAssignments => format!("asked by {how}; the region has not sent its assignments yet"),
    };
    let power_on = lock(&shared.board).firmware_asked(now, mac, &message);
    // The region hears of machines that are in its inventory. An office PC that tries the network first is not.
    if matches!(standing, Standing::Listed { .. } | Standing::Staging(_)) {
        shared.emit(now, mac, power_on);
    }
    if let Decision::Reply { boots: Some(what), .. } = &outcome.decision {
        let started = lock(&shared.board).firmware_answered(now, mac, &format!("offered {what} by {how}"));
        shared.emit(now, mac, started);
    }
}

/// One line, kept back when it was written a moment ago.
pub fn log(shared: &Shared, subject: &str, line: &str) {
    match shared.quiet.due(Instant::now(), subject, line) {
        None => {}
        Some(0) => tracing::info!(client = subject, "{subject}: {line}"),
        Some(more) => {
            tracing::info!(client = subject, more, "{subject}: {line} ({more} more since the last such line)")
        }
    }
}

/// Policy from the roster and the boot files in memory: nothing in here waits, since iPXE stops listening 2 s
/// after its discovery began.
#[derive(Debug)]
pub struct ByRoster<'a> {
    /// Where both are.
    pub shared: &'a Shared,
}

impl ByRoster<'_> {
    /// Since when the power-on lasts that the machine is in, as its tries have it.
    fn power_on(&self, now: OffsetDateTime, mac: Mac) -> Option<OffsetDateTime> {
        lock(&self.shared.board).power_on(now, mac).map(to_the_millisecond)
    }
}

impl Policy for ByRoster<'_> {
    fn ruling(&self, mac: Mac, starts: Starts) -> Ruling {
        let now = OffsetDateTime::now_utc();
        let firmware = match starts {
            Starts::Uki(arch) | Starts::UkiByIpxe(arch) => arch,
            Starts::NetworkLoader | Starts::Script => Arch::X86_64,
        };
        self.shared.heard_architecture(mac, firmware.name());
        let asker = self.shared.asker(mac, now);
        let (standing, tries) =
            self.shared.store.with(|roster| (roster.asks(mac, asker), roster.tries(mac).cloned().unwrap_or_default()));
        match standing {
            Standing::NoAssignments => Ruling::Silent("the region has not sent this store's assignments yet".into()),
            Standing::NotListed => {
                Ruling::Silent("no inventory entry of this store matches it, and no window is open for it".into())
            }
            Standing::Listed { installed: true, machine } => {
                Ruling::Silent(format!("it is installed as {}: it goes to its disk", machine.name))
            }
            Standing::Listed { .. } if !tries.may_go_on(self.power_on(now, mac), now) => {
                let until = tries.paused_until(now).unwrap_or(now);
                let (hour, minute, second) = until.time().as_hms();
                Ruling::Silent(format!(
                    "{} came to nothing: the next one is answered from {hour:02}:{minute:02}:{second:02} UTC on",
                    tries.words(now).unwrap_or_default()
                ))
            }
            Standing::Listed { machine: contracts::store::StoreMachine { image, .. }, .. }
            | Standing::Staging(image) => {
                let (template, set) = (&image.template, self.shared.boot.current());
                let uki = name_of(template);
                let name = match starts {
                    Starts::Uki(_) => uki.clone(),
                    Starts::UkiByIpxe(_) => Some(ipxe::script_name(template))
                        .filter(|name| set.files.contains_key(name))
                        .unwrap_or(uki.clone()),
                    Starts::NetworkLoader => bios::NETWORK_LOADER.to_owned(),
                    Starts::Script => bios::script_name(template),
                };
                // The network boot program is of use only where a script follows it.
                let script = bios::script_name(template);
                if let Some(file) = set.files.get(&uki).filter(|file| file.architecture != firmware.name()) {
                    let image = &file.architecture;
                    return Ruling::Silent(format!("its image is for {image}, and this machine is {firmware}"));
                }
                let whole = matches!(starts, Starts::Uki(_) | Starts::UkiByIpxe(_));
                let complete = whole || set.files.contains_key(&script);
                if complete && set.files.contains_key(&name) {
                    return Ruling::Boot(name);
                }
                if !whole && set.files.contains_key(&uki) {
                    return Ruling::Silent("its image starts on UEFI only: build it anew, or switch it to UEFI".into());
                }
                if let Some(cache) = &self.shared.cache {
                    cache.machine_waits();
                }
                let why = set.problem.as_deref().unwrap_or("it is not loaded yet");
                Ruling::Silent(format!("there is no boot file {name}: {why}"))
            }
        }
    }

    fn by_guid(&self, guid: &[u8; 16]) -> Option<Mac> {
        lock(&self.shared.guids).find(Instant::now(), guid)
    }
}
