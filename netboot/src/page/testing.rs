//! Machines and stores for the page's tests.

use contracts::{
    event::StepStatus,
    status::{MachineStatus, StepLine, StoreStatus},
    step::Step,
};
use time::{Duration, OffsetDateTime};

/// The clock of these tests.
pub(crate) const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// A listed machine whose last step stands like this, every step before it being done.
pub(crate) fn machine(step: Step, status: StepStatus, code: Option<&str>, message: &str) -> MachineStatus {
    let line = |step, status| StepLine {
        step,
        status,
        started: NOW - Duration::seconds(30),
        updated: NOW,
        progress: None,
        eta_seconds: None,
        message: String::new(),
        code: None,
    };
    let before = Step::ALL.into_iter().filter(|other| *other < step);
    let mut steps: Vec<StepLine> = before.map(|step| line(step, StepStatus::Done)).collect();
    steps.push(StepLine { code: code.map(str::to_owned), message: message.into(), ..line(step, status) });
    MachineStatus {
        mac: "52:54:00:aa:bb:01".into(),
        name: Some("w1".into()),
        boot_bytes: 0,
        install_bytes: 0,
        installed: false,
        heard: Some(NOW),
        firmware_starts: 0,
        images_unheard: 0,
        tries: 0,
        paused_until: None,
        remaining: None,
        steps,
    }
}

/// A store with these machines and a good line.
pub(crate) fn store(machines: Vec<MachineStatus>) -> StoreStatus {
    StoreStatus {
        version: contracts::VERSION,
        store: "store-17".into(),
        now: NOW,
        region_reachable: true,
        events_waiting: 0,
        events_refused: 0,
        state_problem: None,
        windows: vec![],
        dhcp_servers: vec![],
        cache: None,
        machines,
    }
}
