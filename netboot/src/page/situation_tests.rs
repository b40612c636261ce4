use super::*;
use crate::page::testing::{NOW, machine, store};

fn key(machines: Vec<MachineStatus>) -> &'static str {
    overview(&store(machines), true).0.key
}

fn failed() -> MachineStatus {
    machine(Step::Plan, StepStatus::Failed, Some("foreign-data"), "vda holds NTFS")
}

fn working() -> MachineStatus {
    machine(Step::Ready, StepStatus::Done, None, "ready")
}

fn stranger() -> MachineStatus {
    MachineStatus { name: None, ..machine(Step::PowerOn, StepStatus::Done, None, "asked") }
}

#[test]
fn the_machine_that_needs_people_most_speaks_for_all() {
    let busy = || machine(Step::Install, StepStatus::Progress, None, "");
    let claim = || machine(Step::Enroll, StepStatus::Waiting, Some("claim"), "the claim code EPA9-VRY4-GRNM (x)");
    let check = || machine(Step::Netboot, StepStatus::Waiting, Some("boot-refused"), "");
    assert_eq!(key(vec![]), "state.empty");
    assert_eq!(key(vec![working()]), "state.good");
    assert_eq!(key(vec![stranger(), working()]), "state.stranger");
    assert_eq!(key(vec![working(), stranger(), busy()]), "state.busy", "an office PC does not hide an install");
    assert_eq!(key(vec![busy(), busy()]), "state.busy-many");
    assert_eq!(key(vec![busy(), claim()]), "state.claim");
    assert_eq!(key(vec![claim(), check()]), "state.check");
    assert_eq!(key(vec![check(), failed()]), "state.help");
    let (headline, shown) = overview(&store(vec![working(), failed()]), true);
    assert_eq!((headline.about, headline.count, headline.tone), (Some(1), 1, Tone::Bad));
    assert_eq!(shown.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn all_is_well_only_when_all_is_well() {
    let said =
        |machines, line, images| overview(&StoreStatus { region_reachable: line, ..store(machines) }, images).0.key;
    assert_eq!(said(vec![], true, true), "state.empty");
    assert_eq!(said(vec![], false, true), "state.empty-but");
    assert_eq!(said(vec![], true, false), "state.images");
    assert_eq!(said(vec![working()], false, true), "state.good-but");
    assert_eq!(said(vec![working()], true, false), "state.images");
    assert_eq!(said(vec![failed()], true, false), "state.help", "one that needs help now comes first");
}

#[test]
fn a_device_that_gave_up_is_not_shown_and_a_machine_that_failed_is() {
    let mut status = store(vec![stranger(), failed()]);
    status.now = NOW + Duration::hours(1);
    assert_eq!(overview(&status, true).1.len(), 1);
    assert_eq!(overview(&status, true).0.key, "state.help");
}

#[test]
fn waiting_is_told_apart_by_who_has_to_act() {
    let of = |code, message| Situation::of(&machine(Step::Enroll, StepStatus::Waiting, Some(code), message));
    assert_eq!(of("claim", "read out the claim code k7qm-2f9x-otbd (why)"), Situation::Claim("K7QM-2F9X-0TBD".into()));
    assert!(matches!(of("claim", "no code in here"), Situation::Waits(_)));
    assert!(matches!(of("pending", ""), Situation::Waits(_)));
    assert_eq!(of("not-ready", ""), Situation::Busy);
    assert!(matches!(of("silent", ""), Situation::Check(_)));
    assert!(matches!(of("take-medium-out", ""), Situation::Check(_)));
    let nameless = machine(Step::Verify, StepStatus::Failed, None, "");
    assert!(matches!(Situation::of(&nameless), Situation::Failed(code) if code.code == "verify"));
}
