//! Whether the service can do its work: a pure function of a few facts, and the gathering of them.

use crate::{boot_files::name_of, outbox::queue::MOST as MOST_EVENTS, shared::Shared};
use contracts::status::{Health, Reason};
use std::{collections::BTreeSet, net::Ipv4Addr, path::Path, sync::atomic::Ordering};

/// Less room than this on the disk of the state, in bytes, is worth a warning: a commit needs some pages more than it adds.
const LITTLE_ROOM: u64 = 16 << 20;

/// What health is judged from.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Templates that the assignments name; none when the region never sent any.
    pub templates: Option<BTreeSet<String>>,
    /// Templates whose boot file is loaded and verified.
    pub loaded: BTreeSet<String>,
    /// What is wrong with the images, in a sentence.
    pub problem: Option<String>,
    /// Whether the region answered the last call.
    pub region_reachable: bool,
    /// Events that wait for the region.
    pub events_waiting: usize,
    /// Bytes free on the disk of the state, where the kernel tells.
    pub state_room: Option<u64>,
    /// Other boot servers that were heard within a day.
    pub boot_servers: Vec<Ipv4Addr>,
    /// Another DHCP server that keeps this one silent, in mode `dhcp`.
    pub rival: Option<Ipv4Addr>,
}

impl Facts {
    /// What the running service is like now.
    #[must_use]
    pub fn of(shared: &Shared) -> Self {
        let (boot, config) = (shared.boot.current(), shared.config.now());
        let templates = shared.store.with(|roster| {
            let named = |a: &contracts::store::StoreAssignments| {
                a.machines.iter().map(|machine| machine.image.template.clone()).collect::<BTreeSet<_>>()
            };
            roster.assignments.as_ref().map(named)
        });
        let has_file = |template: &&String| boot.files.contains_key(&name_of(template));
        Self {
            loaded: templates.iter().flatten().filter(has_file).cloned().collect(),
            templates,
            problem: boot.problem.clone(),
            region_reachable: shared.region_reachable.load(Ordering::Relaxed),
            events_waiting: shared.outbox.waiting(),
            state_room: room(&config.state),
            boot_servers: shared.lan.boot_servers(),
            rival: shared.lan.rival(),
        }
    }
}

fn room(folder: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    Some(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// Judges. A region that is out of reach is no reason: the store goes on with what it has.
#[must_use]
pub fn judge(facts: &Facts) -> Health {
    let (mut reasons, mut warnings) = (Vec::new(), Vec::new());
    let reason = |code: &str, message: String| Reason { code: code.into(), message };
    match &facts.templates {
        None => reasons.push(reason(
            "no-assignments",
            "the region has never sent this store's assignments: check the line and the credential".into(),
        )),
        Some(templates) => {
            let missing: Vec<_> = templates.difference(&facts.loaded).map(String::as_str).collect();
            let why = facts.problem.as_deref().unwrap_or("it is still being verified");
            if !missing.is_empty() {
                reasons.push(reason("no-boot-image", format!("no boot image of {}: {why}", missing.join(", "))));
            } else if let Some(problem) = &facts.problem {
                warnings.push(reason("images", format!("older images are served: {problem}")));
            }
        }
    }
    if !facts.region_reachable {
        let waiting = facts.events_waiting;
        warnings.push(reason("region-unreachable", format!("the region does not answer; {waiting} events wait")));
    }
    if facts.events_waiting > MOST_EVENTS / 10 * 9 {
        warnings.push(reason("event-queue", "the queue of events is nearly full: progress is dropped first".into()));
    }
    if let Some(room) = facts.state_room.filter(|room| *room < LITTLE_ROOM) {
        warnings.push(reason("state-disk", format!("the disk of the state has {room} bytes left: make room")));
    }
    if let Some(server) = facts.rival {
        let message = format!("the DHCP server {server} lends addresses here, so netboot lends none: switch one off");
        warnings.push(reason("second-dhcp-server", message));
    }
    if !facts.boot_servers.is_empty() {
        let servers: Vec<_> = facts.boot_servers.iter().map(ToString::to_string).collect();
        let message = format!("machines may start from another boot server: {}", servers.join(", "));
        warnings.push(reason("other-boot-server", message));
    }
    Health { version: contracts::VERSION, ready: reasons.is_empty(), reasons, warnings }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(all: &[Reason]) -> Vec<&str> {
        all.iter().map(|reason| reason.code.as_str()).collect()
    }

    #[test]
    fn ready_means_that_every_assigned_image_is_there() {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let mut facts = Facts { region_reachable: true, ..Facts::default() };
        assert_eq!(codes(&judge(&facts).reasons), ["no-assignments"]);
        facts.templates = Some(set(&["a", "b"]));
        facts.loaded = set(&["a"]);
        let health = judge(&facts);
        assert!(!health.ready && health.reasons[0].message.contains("of b:"), "{health:?}");
        facts.loaded = set(&["a", "b"]);
        assert_eq!(judge(&facts), Health { version: 1, ready: true, reasons: vec![], warnings: vec![] });
        facts.templates = Some(set(&[]));
        assert!(judge(&facts).ready, "a store without machines lacks nothing");
    }

    #[test]
    fn what_does_not_stop_the_work_is_a_warning() {
        let facts = Facts {
            templates: Some(BTreeSet::new()),
            problem: Some("expired".into()),
            events_waiting: MOST_EVENTS,
            state_room: Some(4096),
            ..Facts::default()
        };
        let health = judge(&facts);
        assert!(health.ready);
        assert_eq!(codes(&health.warnings), ["images", "region-unreachable", "event-queue", "state-disk"]);
        let server = Ipv4Addr::new(10, 77, 0, 1);
        let lan = Facts { boot_servers: vec![server], rival: Some(server), ..facts };
        let warnings = judge(&lan).warnings;
        assert_eq!(codes(&warnings)[4..], ["second-dhcp-server", "other-boot-server"]);
        assert!(warnings[4].message.contains("10.77.0.1") && warnings[5].message.contains("10.77.0.1"));
    }
}
