//! The agent's calls.

use super::{ApiError, Peer, Who};
use crate::{
    admission::Asker,
    boot_files::{chain, name_of},
    decision,
    ingest::{self, IngestError},
    outbox::PutError,
    proto::mac::Mac,
    roster::{Line, Progress, Roster, Standing},
    shared::{Shared, lock},
};
use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use contracts::{
    assignment::{Action, Assignment, BootMode, MachineReport, RegistrarEndpoint, TimeReply},
    facts::{Disk, DiskContent, MachineFacts},
    status::StoreStatus,
    voucher::{VouchedRelay, Voucher, VoucherRequest, VoucherStatement},
};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;

type Service = State<Arc<Shared>>;

pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const LARGEST_REPORT: usize = 256 << 10;
pub(crate) const LARGEST_BATCH: usize = 1 << 20;
pub(crate) const LARGEST_VOUCHER: usize = 4 << 10;

/// Reads a body, bounded in size and time.
pub(super) async fn read(body: Body, most: usize) -> Result<Bytes, ApiError> {
    let late = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "the request's body did not come in time");
    let read = tokio::time::timeout(READ_TIMEOUT, axum::body::to_bytes(body, most)).await.map_err(late)?;
    read.map_err(|error| {
        let message = format!("the body is larger than {most} bytes, or was cut off: {error}");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", message)
    })
}

pub(super) fn bad(error: &dyn std::error::Error) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad-document", chain(error))
}

pub(super) fn internal(error: &dyn std::error::Error) -> ApiError {
    let message = chain(error);
    tracing::error!("a call failed: {message}");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}

/// It may work later: whoever calls keeps what it has.
fn unavailable(code: &'static str, error: &dyn std::error::Error) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string())
}

/// `GET /v1/time`.
pub async fn time() -> Response {
    // The firmware's and the agent's clocks are set from this: no cache may answer in its place.
    let reply = TimeReply { utc: OffsetDateTime::now_utc(), source: "system-clock".into() };
    ([(header::CACHE_CONTROL, "no-store")], Json(reply)).into_response()
}

/// `GET /v1/status`.
pub async fn status(State(shared): Service) -> Json<StoreStatus> {
    Json(shared.status())
}

/// `POST /v1/machines`.
pub async fn machines(
    State(shared): Service,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Json<Assignment>, ApiError> {
    let report: MachineReport = contracts::read(&read(body, LARGEST_REPORT).await?).map_err(|e| bad(&e))?;
    let mac: Mac = report.mac.parse().map_err(|e| bad(&e))?;
    if let Some(seen) = peer.mac(&shared).filter(|seen| *seen != mac) {
        let line = format!("{} says that it is {mac}, the LAN shows {seen}", peer.0.ip());
        if shared.store.with(|roster| is_another(roster, seen, &report.facts)) {
            decision::say(&shared, decision::Path::Machines, &seen.to_string(), false, "not-your-machine", &line);
            return Err(ApiError::new(StatusCode::CONFLICT, "not-your-machine", line));
        }
        tracing::warn!(%mac, %seen, code = "other-card", "{line}");
    }
    let store = shared.credential.store.clone();
    let (now, attempt) = (OffsetDateTime::now_utc(), report.attempt);
    lock(&shared.board).reported(now, mac, attempt);
    let asker = shared.asker(mac, now);
    let judge = || {
        let verdict = shared
            .store
            .with(|roster| learn_again(roster, mac, &store, &report.facts, decide(roster, mac, &report, asker)));
        check_image(&shared, verdict)
    };
    let mut verdict = judge();
    let noted = match verdict.note {
        Note::Nothing => Ok(None),
        Note::Hold => shared.note_line(mac, move |roster| roster.bind(mac, Progress::None, asker)).await,
        Note::Installing => shared.note_line(mac, move |roster| roster.installing(mac, attempt, asker)).await,
        Note::Installed => {
            let learn = move |roster: &Roster| {
                let progress = Progress::Installed { at: now };
                roster.installed(mac, Some(attempt), now).or_else(|| roster.bind(mac, progress, asker))
            };
            shared.note_line(mac, learn).await
        }
    };
    noted.map_err(|e| internal(&e))?;
    // Another machine may have taken the last free entry a moment ago.
    let holds = shared.store.with(|roster| matches!(roster.standing(mac), Standing::Listed { .. }));
    if verdict.note != Note::Nothing && !holds {
        verdict = judge();
    }
    lock(&shared.board).set_name(now, mac, verdict.name.as_deref());
    let action = format!("{:?}", verdict.assignment.action).to_lowercase();
    tracing::info!(
        %mac, path = "machines", code = action, %attempt,
        "{mac}: {action} ({:?}): {}", report.boot_mode, verdict.assignment.reason
    );
    let relay = format!("{}:{}", shared.address, shared.config.now().relay_port);
    let server_name = shared.credential.server_name.clone();
    let registrars = vec![RegistrarEndpoint { relay, server_name }];
    let fleet = shared.store.with(|roster| roster.orders(mac));
    let mirrors = shared.config.now().cache.mirrors();
    Ok(Json(Assignment { registrars, store: Some(store), fleet, mirrors, ..verdict.assignment }))
}

/// An assignment, and what the ledger is to note before it is given.
#[derive(Debug, Clone, PartialEq)]
struct Verdict {
    assignment: Assignment,
    note: Note,
    name: Option<String>,
}

/// What the ledger is to note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    /// Nothing new.
    Nothing,
    /// It holds its entry.
    Hold,
    /// It is told to install in this attempt.
    Installing,
    /// Its disk holds a verified image.
    Installed,
}

/// What a machine is to do. A system that started from its disk always goes on: nothing that this store knows or
/// lost may stop it from working.
fn decide(roster: &Roster, mac: Mac, report: &MachineReport, asker: Asker<'_>) -> Verdict {
    let say = |action, reason: String, note, name| Verdict {
        assignment: Assignment {
            version: contracts::VERSION,
            action,
            reason,
            store: None,
            image: None,
            mirrors: vec![],
            registrars: vec![],
            fleet: vec![],
            stage: false,
        },
        note,
        name,
    };
    if let Some(retired) = roster.retired(mac).filter(|_| report.boot_mode == BootMode::Installer) {
        let reason = format!(
            "{} is retired: it wipes its own disks, and installs nothing until its entry is opened again",
            retired.name
        );
        let mut verdict = say(Action::Wait, reason, Note::Nothing, Some(retired.name.clone()));
        // Once it is wiped, it can be looked at for the shelf.
        verdict.assignment.image = roster.staging(asker.now).cloned();
        verdict.assignment.stage = verdict.assignment.image.is_some();
        return verdict;
    }
    match (roster.asks(mac, asker), report.boot_mode) {
        (Standing::Listed { machine, .. }, BootMode::Installed) => {
            // A store whose ledger was lost learns again who is installed here. Of known lines only the one of this very install
            // is concerned: its first start has the install's attempt, and what it said before the restart may be lost.
            let line = roster.ledger.get(&mac);
            let note = match line.is_none_or(|line| line.attempt == Some(report.attempt)) {
                true => Note::Installed,
                false => Note::Nothing,
            };
            let mut verdict =
                say(Action::Boot, format!("{} started from its disk", machine.name), note, Some(machine.name));
            // It takes another version by itself, when this names one.
            verdict.assignment.image = Some(machine.image);
            verdict
        }
        (_, BootMode::Installed) => say(Action::Boot, "an installed system goes on".into(), Note::Nothing, None),
        (Standing::NoAssignments, _) => {
            let reason = "this store has not heard from its region yet: the machine waits until the line is up";
            say(Action::Wait, reason.into(), Note::Nothing, None)
        }
        (Standing::Staging(image), _) => {
            let reason = format!("this machine is looked at for {}; nothing is written to any disk", image.template);
            let mut verdict = say(Action::Wait, reason, Note::Nothing, None);
            (verdict.assignment.image, verdict.assignment.stage) = (Some(image), true);
            verdict
        }
        (Standing::NotListed, _) => {
            let reason = "no inventory entry of this store matches this machine, no place for a spare is free and no window is \
                          open for it: tell support its MAC address";
            say(Action::Refuse, format!("{reason} {mac}"), Note::Nothing, None)
        }
        (Standing::Listed { machine, installed: true }, _) => {
            let reason = format!("{} is installed: it starts from its disk", machine.name);
            say(Action::Boot, reason, Note::Nothing, Some(machine.name))
        }
        (Standing::Listed { machine, installed: false }, _) => {
            let reason = format!("{} gets the template {}", machine.name, machine.image.template);
            let mut verdict = say(Action::Install, reason, Note::Installing, Some(machine.name));
            verdict.assignment.image = Some(machine.image);
            verdict
        }
    }
}

/// Whether whoever asks is a machine of its own, and not the one that it says it is: netboot knows the card that the LAN shows, and
/// the report does not name it among the machine's. A card that nobody knows may be a bridge or a bond, which reports leave out.
fn is_another(roster: &Roster, seen: Mac, facts: &MachineFacts) -> bool {
    let own = facts.nics.iter().any(|nic| {
        nic.mac.parse() == Ok(seen) || nic.permanent_mac.as_ref().is_some_and(|mac| mac.parse() == Ok(seen))
    });
    !own && roster.knows(seen)
}

/// A store whose ledger was lost (a new router, say) learns from a machine's disk that this very machine is installed
/// here already. Anything that the ledger knows of the machine is better than that: IT may have ordered a reinstall.
fn learn_again(roster: &Roster, mac: Mac, store: &str, facts: &MachineFacts, verdict: Verdict) -> Verdict {
    let is_ours = |disk: &Disk| match &disk.content {
        DiskContent::Installed { owner: Some(owner), .. } => {
            owner.store == store && owner.machine.parse() == Ok(mac) && !disk.removable
        }
        _ => false,
    };
    // Its firmware fetched the boot image a moment ago, and has had a line since.
    let unknown = roster.ledger.get(&mac).is_none_or(Line::is_blank);
    if verdict.assignment.action != Action::Install || !unknown || !facts.disks.iter().any(is_ours) {
        return verdict;
    }
    let name = verdict.name.as_deref().unwrap_or("this machine");
    let reason = format!("{name} was installed in this store before: it starts from its disk");
    let assignment = Assignment { action: Action::Boot, reason, image: None, ..verdict.assignment };
    Verdict { assignment, note: Note::Installed, name: verdict.name }
}

/// A machine whose image cannot be had waits, instead of failing halfway.
fn check_image(shared: &Shared, verdict: Verdict) -> Verdict {
    let Some(image) = verdict.assignment.image.as_ref().filter(|_| verdict.assignment.action == Action::Install) else {
        return verdict;
    };
    let boot = shared.boot.current();
    if boot.files.contains_key(&name_of(&image.template)) {
        return verdict;
    }
    if let Some(cache) = &shared.cache {
        cache.machine_waits();
    }
    let why = boot.problem.as_deref().unwrap_or("it is still being verified");
    let reason = format!("the image {} is not ready in this store: {why}", image.template);
    let assignment = Assignment { action: Action::Wait, reason, image: None, ..verdict.assignment };
    Verdict { assignment, note: Note::Hold, name: verdict.name }
}

/// `POST /v1/events`.
pub async fn events(
    State(shared): Service,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let bytes = read(body, LARGEST_BATCH).await?;
    let events = ingest::read(&bytes).map_err(|e| bad(&e))?;
    if let Some(seen) = peer.mac(&shared)
        && let Err(other) = shared.may_speak(seen, &events)
    {
        let line = format!("events about {} are refused: the LAN shows {seen}", other.escape_default());
        decision::say(&shared, decision::Path::Events, &seen.to_string(), false, "not-your-machine", &line);
        let message = format!("{} is not the machine {other}", peer.0.ip());
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not-your-machine", message));
    }
    shared.ingest(events).await.map_err(|error| match error {
        IngestError::Queue(full @ PutError::Full(_)) => unavailable("queue-full", &full),
        IngestError::Queue(PutError::Disk(text)) => internal(&PutError::Disk(text)),
        IngestError::Queue(busy) => unavailable("queue-busy", &busy),
        IngestError::Store(error) => internal(&error),
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/vouchers`.
pub async fn vouchers(
    State(shared): Service,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Json<Voucher>, ApiError> {
    let bytes = read(body, LARGEST_VOUCHER).await?;
    let request: VoucherRequest = serde_json::from_slice(&bytes).map_err(|e| bad(&e))?;
    let Who { mac, way } = peer.who(&shared).map_err(|unknown| {
        let (who, code) = (peer.0.ip(), unknown.code());
        let line = format!("no voucher: it is not a neighbour on the store LAN, and {unknown}");
        decision::say(&shared, decision::Path::Vouchers, &who.to_string(), false, code, &line);
        let message = format!(
            "{who} is not a neighbour on the store LAN, and {unknown}: see `relays` in netboot's configuration"
        );
        ApiError::new(StatusCode::CONFLICT, code, message)
    })?;
    let (code, why) = match shared.store.with(|roster| roster.standing(mac)) {
        Standing::Listed { .. } => ("", ""),
        Standing::NoAssignments => ("no-assignments", "this store has not heard from its region yet"),
        Standing::NotListed | Standing::Staging(_) => {
            ("not-admitted", "no inventory entry and no window of this store has it")
        }
    };
    if !code.is_empty() {
        decision::say(&shared, decision::Path::Vouchers, &mac.to_string(), false, code, &format!("no voucher: {why}"));
        return Err(ApiError::new(StatusCode::FORBIDDEN, code, format!("the store does not vouch for {mac}: {why}")));
    }
    let statement = VoucherStatement {
        version: contracts::VERSION,
        store: shared.credential.store.clone(),
        fingerprint: request.fingerprint.to_ascii_lowercase(),
        mac: mac.to_string(),
        entry: shared.store.with(|roster| roster.ledger.get(&mac).map(|line| line.entry.clone())),
        relay: way
            .as_ref()
            .map(|way| VouchedRelay { address: way.relay.to_string(), information: hex::encode(&way.information) }),
        time: OffsetDateTime::now_utc(),
    };
    let voucher = shared.signer.vouch(&statement).map_err(|e| bad(&e))?;
    let through = way.map(|way| format!(", known by {way}")).unwrap_or_default();
    let line = format!("vouched for the key {}{through}", statement.fingerprint);
    decision::say(&shared, decision::Path::Vouchers, &mac.to_string(), true, "vouched", &line);
    Ok(Json(voucher))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{
        assignment::ImageRef,
        store::{MachineSelector, StoreAssignments, StoreMachine},
    };

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn roster() -> Roster {
        let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
        let machine = StoreMachine { name: "w1".into(), selector: MachineSelector::Any, image, epoch: 1 };
        let document = StoreAssignments {
            version: 1,
            store: "s".into(),
            generation: 1,
            machines: vec![machine],
            windows: vec![],
            orders: vec![],
            retired: vec![],
            staging: None,
        };
        Roster { assignments: Some(document), ..Roster::default() }
    }

    const ASKER: Asker<'_> = Asker { now: OffsetDateTime::UNIX_EPOCH, architecture: None };

    fn report(mode: BootMode) -> MachineReport {
        let facts = serde_json::json!({
            "version": 1, "firmware": "uefi", "cpus": 1, "memory_bytes": 1, "nics": [], "disks": [],
            "smbios": {"manufacturer": "", "product": "", "serial": "", "uuid": ""},
        });
        MachineReport {
            version: 1,
            attempt: uuid::Uuid::from_u128(1),
            boot_mode: mode,
            mac: MAC.to_string(),
            boot_id: String::new(),
            facts: serde_json::from_value(facts).unwrap(),
        }
    }

    fn judged(roster: &Roster, mac: Mac, mode: BootMode) -> Verdict {
        decide(roster, mac, &report(mode), ASKER)
    }

    fn action(roster: &Roster, mode: BootMode) -> Action {
        judged(roster, MAC, mode).assignment.action
    }

    #[test]
    fn each_standing_has_its_action() {
        let mut roster = roster();
        assert_eq!(action(&roster, BootMode::Installer), Action::Install);
        assert_eq!(judged(&roster, MAC, BootMode::Installer).note, Note::Installing);
        let line = roster.bind(MAC, Progress::Installed { at: OffsetDateTime::UNIX_EPOCH }, ASKER).unwrap();
        roster.ledger.insert(MAC, line);
        assert_eq!(action(&roster, BootMode::Installer), Action::Boot);
        let other = judged(&roster, Mac([2; 6]), BootMode::Installer).assignment;
        assert_eq!(other.action, Action::Refuse);
        assert!(other.reason.contains("02:02:02:02:02:02"));
        assert_eq!(action(&Roster::default(), BootMode::Installer), Action::Wait);
    }

    #[test]
    fn a_retired_machine_is_told_to_wait_and_an_installed_system_goes_on() {
        let mut roster = roster();
        assert_eq!(action(&roster, BootMode::Installer), Action::Install);
        let retired = contracts::store::RetiredMachine { mac: MAC.to_string(), name: "w1".into() };
        roster.assignments.as_mut().unwrap().retired.push(retired);
        let verdict = judged(&roster, MAC, BootMode::Installer);
        assert_eq!((verdict.assignment.action, verdict.note), (Action::Wait, Note::Nothing));
        assert_eq!(action(&roster, BootMode::Installed), Action::Boot);
    }

    #[test]
    fn a_lost_ledger_learns_from_the_disk_of_this_very_machine() {
        let facts = |store: &str, machine: &str| -> MachineFacts {
            let owner = serde_json::json!({"store": store, "machine": machine});
            serde_json::from_value(serde_json::json!({
                "version": 1, "firmware": "uefi", "cpus": 1, "memory_bytes": 1, "nics": [],
                "smbios": {"manufacturer": "", "product": "", "serial": "", "uuid": ""},
                "disks": [{
                    "kernel_name": "vda", "bytes": 1, "sector_bytes": 512, "path": "", "removable": false,
                    "read_only": false, "content": {"kind": "installed", "root_hashes": [], "owner": owner},
                }],
            }))
            .unwrap()
        };
        let mut roster = roster();
        let asked = |roster: &Roster, facts: &MachineFacts| {
            learn_again(roster, MAC, "s", facts, judged(roster, MAC, BootMode::Installer))
        };
        let own = facts("s", &MAC.to_string());
        let verdict = asked(&roster, &own);
        assert_eq!(verdict.assignment.action, Action::Boot);
        assert_eq!(verdict.note, Note::Installed);
        let line = roster.bind(MAC, Progress::None, ASKER).unwrap();
        roster.ledger.insert(MAC, line);
        assert_eq!(asked(&roster, &own).assignment.action, Action::Boot, "its firmware has asked for the boot image");
        for other in [facts("another", &MAC.to_string()), facts("s", "02:02:02:02:02:02")] {
            assert_eq!(asked(&roster, &other).assignment.action, Action::Install, "{other:?}");
        }
        let line = roster.bind(MAC, Progress::Installing, ASKER).unwrap();
        roster.ledger.insert(MAC, line);
        assert_eq!(asked(&roster, &own).assignment.action, Action::Install, "the ledger knows better");
    }

    #[test]
    fn a_machine_that_netboot_knows_is_not_another_one_unless_both_are_its_cards() {
        let nic = |mac: Mac| serde_json::json!({"kernel_name": "eth0", "mac": mac.to_string(), "driver": "", "path": "", "carrier": true});
        let facts = |nics: &[Mac]| -> MachineFacts {
            let mut facts = serde_json::to_value(report(BootMode::Installer).facts).unwrap();
            facts["nics"] = nics.iter().map(|mac| nic(*mac)).collect();
            serde_json::from_value(facts).unwrap()
        };
        let (named, other) = (Mac([2, 0, 0, 0, 0, 8]), Mac([2, 0, 0, 0, 0, 9]));
        let mut roster = roster();
        assert!(!is_another(&roster, other, &facts(&[MAC])), "a bridge of its own, perhaps");
        roster.assignments.as_mut().unwrap().machines[0].selector = MachineSelector::Mac(named.to_string());
        assert!(is_another(&roster, named, &facts(&[MAC])), "the inventory names it");
        assert!(!is_another(&roster, named, &facts(&[MAC, named])), "its second card");
        let line = roster.bind(named, Progress::None, ASKER).unwrap();
        roster.ledger.insert(other, line);
        assert!(is_another(&roster, other, &facts(&[MAC])), "the ledger has it");
    }

    #[test]
    fn an_installed_system_always_goes_on() {
        assert_eq!(action(&Roster::default(), BootMode::Installed), Action::Boot);
        let mut roster = roster();
        let verdict = judged(&roster, MAC, BootMode::Installed);
        assert_eq!(verdict.assignment.action, Action::Boot);
        assert_eq!(verdict.note, Note::Installed, "a lost ledger learns again");
        let line = roster.installing(MAC, uuid::Uuid::from_u128(1), ASKER).unwrap();
        roster.ledger.insert(MAC, line);
        assert_eq!(
            judged(&roster, MAC, BootMode::Installed).note,
            Note::Installed,
            "the first start of this very install"
        );
        let line = roster.installing(MAC, uuid::Uuid::from_u128(2), ASKER).unwrap();
        roster.ledger.insert(MAC, line);
        assert_eq!(judged(&roster, MAC, BootMode::Installed).note, Note::Nothing, "the install before the order");
        roster.assignments.as_mut().unwrap().machines.clear();
        assert_eq!(action(&roster, BootMode::Installed), Action::Boot);
    }
}
