use super::*;
use crate::page::{
    html::{Shown, page},
    testing::{machine, store},
    words::Language,
};
use contracts::status::Remaining;

fn shows(machine: MachineStatus) -> String {
    page(&Shown { status: store(vec![machine]), repository_problem: None }, Language::En.words())
}

fn failed(code: &str, message: &str) -> String {
    shows(machine(Step::Plan, StepStatus::Failed, Some(code), message))
}

#[test]
fn a_known_code_has_a_sentence_an_action_and_is_shown_itself() {
    let html = failed("foreign-data", "vda holds an NTFS file system");
    assert!(html.contains("w1 needs help."), "{html}");
    assert!(
        html.contains("There is somebody's data on its disk.") && html.contains("Do not try to delete it yourself.")
    );
    assert!(html.contains("Code for support") && html.contains(">foreign-data<"));
    assert!(html.contains("vda holds an NTFS file system"), "its own words are in the details");
}

#[test]
fn an_unknown_code_falls_back_to_its_own_words() {
    let html = failed("from-the-future", "the flux is low");
    assert!(html.contains("Call support and read out this code.") && html.contains(">from-the-future<"), "{html}");
    assert!(html.contains("What it reports</span> the flux is low"));
}

#[test]
fn a_claim_code_is_large_and_the_only_code() {
    let html = shows(machine(Step::Enroll, StepStatus::Waiting, Some("claim"), "read out EPA9-VRY4-GRNM (why)"));
    assert!(html.contains("<span>EPA9</span><b>-</b><span>VRY4</span><b>-</b><span>GRNM</span>"), "{html}");
    assert!(html.contains("is waiting for a call from you") && !html.contains("Code for support"));
}

#[test]
fn which_step_how_far_and_how_long() {
    let mut copying = machine(Step::Install, StepStatus::Progress, None, "120 of 500 MiB");
    copying.steps.last_mut().unwrap().progress = Some(0.43);
    let html = shows(copying.clone());
    assert!(html.contains("Step 7 of 12: Copying the system") && html.contains("43 % of this step"), "{html}");
    assert!(html.contains("max=12 value=6.43"), "{html}");
    assert!(html.contains("How long it takes is not known yet in this store."), "nothing is invented");
    let remaining = |remaining| shows(MachineStatus { remaining: Some(remaining), ..copying.clone() });
    let measured = remaining(Remaining { step_seconds: Some(100), ..Remaining::default() });
    assert!(
        measured.contains("Time left for this step</span> <span class=large>about 2 minutes<")
            && measured.contains("How long the rest takes"),
        "{measured}"
    );
    let span = |low, high, earlier| Remaining { journey_seconds: Some((low, high)), earlier, ..Remaining::default() };
    let known = remaining(span(290, 421, 3));
    assert!(known.contains("5 to 8 minutes") && known.contains("the last 3 servers took"), "{known}");
    assert!(remaining(span(241, 300, 1)).contains("about 5 minutes"));
    assert!(remaining(span(3, 20, 1)).contains("less than a minute"));
    assert!(remaining(Remaining { late: true, ..span(0, 60, 1) }).contains("longer than it ever did here"));
}

#[test]
fn a_boot_image_that_was_refused_says_what_to_check() {
    let mut refused = machine(Step::Netboot, StepStatus::Done, None, "handed out whole");
    crate::silence::note(&mut refused, crate::page::testing::NOW + Duration::minutes(1));
    assert!(!shows(refused.clone()).contains("boot-refused"));
    crate::silence::note(&mut refused, crate::page::testing::NOW + Duration::minutes(10));
    let html = shows(refused);
    assert!(html.contains("Its firmware may have refused it.") && html.contains("boot-refused"), "{html}");
    assert!(html.contains("Access Denied") && html.contains("boot order") && html.contains("(db)"));
}

#[test]
fn an_unlisted_device_is_named_by_the_address_on_its_label() {
    let html = shows(MachineStatus { name: None, ..machine(Step::PowerOn, StepStatus::Done, None, "asked") });
    assert!(html.contains("A device that this store does not know") && html.contains("52:54:00:AA:BB:01"), "{html}");
}

#[test]
fn a_long_report_is_cut_between_characters() {
    let html = failed("x", &"ä".repeat(5000));
    assert!(html.matches('ä').count() <= 2 * LONGEST_REPORT);
}
