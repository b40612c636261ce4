//! The shell around [`crate::proto::dhcp`]: ports 67 and 4011, one line in the log per decision.

use crate::{
    boot_files::{bios, name_of},
    lan::ears::{Ear, Heard},
    permit::to_the_millisecond,
    proto::{
        dhcp::{
            decide::{Arch, Arrival, Decision, Destination, Outcome, Policy, Port, Ruling, Starts, answer},
            packet::{MessageType, Packet},
        },
        mac::Mac,
    },
    roster::Standing,
    shared::{Shared, lock},
};
use std::{net::IpAddr, sync::Arc, time::Instant};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// Answers one port until told to stop.
pub async fn run(shared: Arc<Shared>, ear: Ear, port: Port, stop: CancellationToken) {
    let mut buffer = vec![0; 2048];
    loop {
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            heard = ear.hear(&mut buffer) => heard,
        };
        match heard {
            Ok(heard) => {
                let bytes = &buffer[heard.content.clone()];
                if let Some((answer, destination)) = handle(&shared, port, &heard, bytes)
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

fn handle(shared: &Shared, port: Port, heard: &Heard, bytes: &[u8]) -> Option<(Vec<u8>, Destination)> {
    let source = heard.source;
    let packet = match Packet::read(bytes) {
        Ok(packet) => packet,
        Err(error) => {
            shared.metrics.dhcp(port, None);
            log(shared, &source.to_string(), &format!("silent: {error}"));
            return None;
        }
    };
    listen(shared, port, &packet);
    // The frame's sender is the client itself, unless a relay passed it on.
    let sender = heard.sender.filter(|_| packet.giaddr.is_unspecified());
    let neighbour = match packet.hlen {
        6 => None,
        _ => sender.or_else(|| shared.neighbours.find(IpAddr::V4(*source.ip()))),
    };
    let arrival = Arrival { port, server: shared.address, base_url: &shared.base_url, source, neighbour };
    let outcome = answer(&packet, &arrival, &ByRoster { shared });
    note(shared, &outcome);
    let answer = match &outcome.decision {
        Decision::Reply { kind, .. } => Some(*kind),
        Decision::Silence(_) => None,
    };
    shared.metrics.dhcp(port, answer);
    let subject = outcome.mac.map_or_else(|| source.to_string(), |mac| mac.to_string());
    match outcome.decision {
        Decision::Reply { bytes, destination, kind, what, .. } => {
            log(shared, &subject, &format!("{kind} to {destination}: {what}"));
            Some((bytes, destination))
        }
        Decision::Silence(reason) => {
            log(shared, &subject, &format!("silent: {reason}"));
            None
        }
    }
}

/// What can be learned without being asked: GUIDs of NICs, and which DHCP server clients choose.
fn listen(shared: &Shared, port: Port, packet: &Packet) {
    if port != Port::Dhcp || packet.op != 1 {
        return;
    }
    if let (Some(mac), Ok(Some(guid))) = (packet.mac(), packet.guid()) {
        lock(&shared.guids).note(Instant::now(), guid, mac);
    }
    if let (Some(MessageType::Request), Some(server)) = (packet.message_type(), packet.server_id()) {
        shared.heard_dhcp_server(server);
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
        Standing::NotListed => format!("asked by {how}; no inventory entry of this store matches it"),
        Standing::NoAssignments => format!("asked by {how}; the region has not sent its assignments yet"),
    };
    let power_on = lock(&shared.board).firmware_asked(now, mac, &message);
    // The region hears of machines that are in its inventory. An office PC that tries the network first is not.
    if matches!(standing, Standing::Listed { .. }) {
        shared.emit(now, mac, power_on);
    }
    if let Decision::Reply { boots: Some(what), .. } = &outcome.decision {
        let started = lock(&shared.board).firmware_answered(now, mac, &format!("offered {what} by {how}"));
        shared.emit(now, mac, started);
    }
}

pub(crate) fn log(shared: &Shared, subject: &str, line: &str) {
    match shared.quiet.due(Instant::now(), subject, line) {
        None => {}
        Some(0) => tracing::info!("{subject}: {line}"),
        Some(more) => tracing::info!("{subject}: {line} ({more} more since the last such line)"),
    }
}

/// Policy from the roster and the boot files in memory: nothing in here waits, since iPXE stops listening 2 s
/// after its discovery began.
struct ByRoster<'a> {
    shared: &'a Shared,
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
            Starts::Uki(arch) => arch,
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
            Standing::Listed { machine, .. } => {
                let (template, set) = (&machine.image.template, self.shared.boot.current());
                let uki = name_of(template);
                let name = match starts {
                    Starts::Uki(_) => uki.clone(),
                    Starts::NetworkLoader => bios::NETWORK_LOADER.to_owned(),
                    Starts::Script => bios::script_name(template),
                };
                // The network boot program is of use only where a script follows it.
                let script = bios::script_name(template);
                if let Some(file) = set.files.get(&uki).filter(|file| file.architecture != firmware.name()) {
                    let image = &file.architecture;
                    return Ruling::Silent(format!("its image is for {image}, and this machine is {firmware}"));
                }
                let complete = matches!(starts, Starts::Uki(_)) || set.files.contains_key(&script);
                if complete && set.files.contains_key(&name) {
                    return Ruling::Boot(name);
                }
                if !matches!(starts, Starts::Uki(_)) && set.files.contains_key(&uki) {
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
