//! What a journey came to: the JSON report.

use contracts::{
    event::StepStatus,
    status::{MachineStatus, StepLine},
    step::Step,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The report of one journey. Seconds count from QEMU's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The journey's steps, in order.
    pub steps: Vec<StepTime>,
    /// From QEMU's start until the API server said `Ready`.
    pub total_seconds: f64,
    /// The same for the second start, from the disk.
    pub installed_boot_seconds: f64,
    /// The node, as the API server sees it.
    pub node: NodeRecord,
    /// What netboot handed out to this machine.
    pub bytes: Bytes,
    /// The machine's memory.
    pub guest_memory_mib: u32,
    /// What the region's cluster took to start, before the machine was switched on.
    #[serde(default)]
    pub region_seconds: f64,
    /// Firmware to `/init`, plus a plain download of the same bytes onto the disk of the same kind of guest.
    pub plain_seconds: f64,
}

/// When one step began and how long it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    /// The step.
    pub name: Step,
    /// After QEMU's start.
    pub started_s: f64,
    /// How long.
    pub seconds: f64,
}

/// The node as the API server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: String,
    /// The condition `Ready` at the end.
    pub ready: bool,
    /// The kernel's boot id at each `Ready`, in order.
    pub boot_ids: Vec<String>,
}

/// What netboot handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Boot files.
    pub boot: u64,
    /// Below `/repo/`.
    pub install: u64,
}

/// The steps' times out of netboot's status, relative to the machine's power-on.
///
/// netboot first hears of a machine when its firmware asks for an address, so `power-on` begins here at QEMU's
/// start. Nothing is before that: an agent's clock may be a little behind before it is set. A step that cannot say
/// that it is done, as `restart` cannot, lasts until the next one begins.
#[must_use]
pub fn step_times(machine: &MachineStatus, power_on: OffsetDateTime) -> Vec<StepTime> {
    let seconds = |at: OffsetDateTime| (at - power_on).as_seconds_f64().max(0.0);
    let time = |(index, line): (usize, &StepLine)| {
        let started_s = if line.step == Step::PowerOn { 0.0 } else { seconds(line.started) };
        let end = match machine.steps.get(index + 1) {
            Some(next) if line.status != StepStatus::Done => next.started,
            _ => line.updated,
        };
        StepTime { name: line.step, started_s, seconds: (seconds(end) - started_s).max(0.0) }
    };
    machine.steps.iter().enumerate().map(time).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn times_count_from_power_on() {
        let power_on = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let line = |step, from: f64, to: f64| StepLine {
            step,
            status: StepStatus::Done,
            started: power_on + Duration::seconds_f64(from),
            updated: power_on + Duration::seconds_f64(to),
            progress: None,
            eta_seconds: None,
            message: String::new(),
            code: None,
        };
        let machine = MachineStatus {
            mac: String::new(),
            name: None,
            boot_bytes: 0,
            install_bytes: 0,
            installed: false,
            tries: 0,
            paused_until: None,
            heard: None,
            firmware_starts: 0,
            images_unheard: 0,
            remaining: None,
            steps: vec![
                line(Step::PowerOn, 5.0, 5.0),
                line(Step::Netboot, 6.0, 9.5),
                line(Step::Network, -1.0, 12.0),
                StepLine { status: StepStatus::Started, ..line(Step::Restart, 20.0, 20.0) },
                line(Step::Enroll, 50.0, 51.0),
            ],
        };
        let times: Vec<_> = step_times(&machine, power_on).iter().map(|t| (t.started_s, t.seconds)).collect();
        assert_eq!(times, [(0.0, 5.0), (6.0, 3.5), (0.0, 12.0), (20.0, 30.0), (50.0, 1.0)]);
    }
}
