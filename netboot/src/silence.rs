//! What it means when nothing is heard of a machine: codes that no agent can send, because none runs.
//!
//! Pure: a machine's status and the time in, the same status with the step marked out. The store page has the words for
//! people (`code.…` in its catalogues), and what to check.

use contracts::{
    event::StepStatus,
    status::{MachineStatus, StepLine},
    step::Step,
};
use time::{Duration, OffsetDateTime};

/// It was offered a boot image and has fetched nothing of it.
pub const NOT_FETCHED: &str = "boot-not-fetched";
/// It fetched a part of its boot image and stopped.
pub const CUT_OFF: &str = "boot-cut-off";
/// It got its boot image whole, but its agent never spoke.
pub const REFUSED: &str = "boot-refused";
/// It is installed, but its firmware asks the network instead of starting from the disk.
pub const BOOT_ORDER: &str = "boot-order";
/// Its agent spoke, and does not any more.
pub const SILENT: &str = "silent";
/// It was given so many boot images in vain that it gets none for a while.
pub const PAUSED: &str = "too-many-tries";

/// All of them.
pub const CODES: [&str; 6] = [NOT_FETCHED, CUT_OFF, REFUSED, BOOT_ORDER, SILENT, PAUSED];

/// Firmware repeats its requests for about a minute before it gives up.
const FIRMWARE_FETCHES: Duration = Duration::minutes(2);
/// A TFTP transfer without any answer is given up before that.
const TRANSFER_MOVES: Duration = Duration::minutes(1);
/// The agent speaks within this after the boot image was handed out, also on slow machines.
const AGENT_STARTS: Duration = Duration::minutes(3);
/// An installed system speaks within this after its firmware asked the network in passing.
const DISK_STARTS: Duration = Duration::minutes(5);
/// While it installs, the agent says every second how far it is; the longest quiet thing is making a file system.
const AGENT_SPEAKS: Duration = Duration::minutes(5);
/// Firmware of large servers takes minutes; joining asks the region for five minutes before it says so.
const AGENT_SPEAKS_LATER: Duration = Duration::minutes(12);

/// So many starts of the firmware that lead nowhere are no chance: it goes round in circles.
const CIRCLES: u32 = 3;

/// Marks the last step of a machine that is silent for longer than any machine that works.
pub fn note(machine: &mut MachineStatus, now: OffsetDateTime) {
    let Some(line) = machine.steps.last() else { return };
    let Some((code, message)) =
        paused(machine, line, now).or_else(|| circles(machine, line)).or_else(|| silence(machine, line, now))
    else {
        return;
    };
    let Some(line) = machine.steps.last_mut() else { return };
    line.status = StepStatus::Waiting;
    line.code = Some(code.into());
    line.message = message.into();
}

type Finding = (&'static str, &'static str);

fn paused(machine: &MachineStatus, line: &StepLine, now: OffsetDateTime) -> Option<Finding> {
    let early = matches!(line.step, Step::PowerOn | Step::Netboot);
    (early && machine.paused_until.is_some_and(|until| until > now))
        .then_some((PAUSED, "it was given boot images again and again without an install that came of it"))
}

/// Firmware that begins anew each time never is silent for long.
fn circles(machine: &MachineStatus, line: &StepLine) -> Option<Finding> {
    let early = matches!(line.step, Step::PowerOn | Step::Netboot);
    let offered = machine.name.is_some() && !machine.installed;
    if !early || !offered || machine.firmware_starts < CIRCLES {
        return None;
    }
    if machine.images_unheard >= CIRCLES - 1 {
        return Some((REFUSED, "the boot image was handed out whole again and again, but no agent has spoken"));
    }
    (line.step == Step::Netboot && machine.images_unheard == 0)
        .then_some((NOT_FETCHED, "a boot image is offered again and again, and never fetched whole"))
}

fn silence(machine: &MachineStatus, line: &StepLine, now: OffsetDateTime) -> Option<Finding> {
    let (installed, firmware_starts, listed) = (machine.installed, machine.firmware_starts, machine.name.is_some());
    use StepStatus::{Done, Failed, Progress, Started, Waiting};
    let since = now - line.updated;
    match (line.step, line.status) {
        (Step::PowerOn, Done) if installed && listed && (firmware_starts > 1 || since > DISK_STARTS) => Some((
            BOOT_ORDER,
            "this machine is installed, but its firmware asks the network and does not start from the disk",
        )),
        (Step::Netboot, Started) if since > FIRMWARE_FETCHES => {
            Some((NOT_FETCHED, "a boot image was offered, but the firmware has not fetched it"))
        }
        (Step::Netboot, Progress) if since > TRANSFER_MOVES => {
            Some((CUT_OFF, "a part of the boot image was fetched, then nothing more was heard"))
        }
        (Step::Netboot, Done) if since > AGENT_STARTS => Some((
            REFUSED,
            "the boot image was handed out whole, but no agent has spoken: the firmware may have refused it",
        )),
        (Step::PowerOn | Step::Netboot, _) | (Step::Ready, Done) | (_, Failed) => None,
        (Step::Restart | Step::Enroll | Step::Join | Step::Ready, _) | (_, Waiting) if since > AGENT_SPEAKS_LATER => {
            Some((SILENT, "nothing has been heard from this machine for many minutes"))
        }
        (Step::Restart | Step::Enroll | Step::Join | Step::Ready, _) | (_, Waiting) => None,
        _ if since > AGENT_SPEAKS => Some((SILENT, "nothing has been heard from this machine for minutes")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(step: Step, status: StepStatus, installed: bool, firmware_starts: u32) -> MachineStatus {
        let at = OffsetDateTime::UNIX_EPOCH;
        let line = StepLine {
            step,
            status,
            started: at,
            updated: at,
            progress: None,
            eta_seconds: None,
            message: String::new(),
            code: None,
        };
        MachineStatus {
            mac: "02:00:00:00:00:01".into(),
            name: Some("w1".into()),
            boot_bytes: 0,
            install_bytes: 0,
            installed,
            heard: Some(at),
            firmware_starts,
            images_unheard: 0,
            tries: 0,
            paused_until: None,
            remaining: None,
            steps: vec![line],
        }
    }

    fn noted(mut machine: MachineStatus, seconds: i64) -> Option<String> {
        note(&mut machine, OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds));
        machine.steps[0].code.clone()
    }

    fn code(step: Step, status: StepStatus, seconds: i64, installed: bool, firmware_starts: u32) -> Option<String> {
        noted(machine(step, status, installed, firmware_starts), seconds)
    }

    #[test]
    fn each_silence_has_its_time_and_its_code() {
        use StepStatus::{Done, Failed, Progress, Started, Waiting};
        for (step, status, quiet, silent, expected) in [
            (Step::Netboot, Started, 120, 121, NOT_FETCHED),
            (Step::Netboot, Progress, 60, 61, CUT_OFF),
            (Step::Netboot, Done, 180, 181, REFUSED),
            (Step::Install, Progress, 300, 301, SILENT),
            (Step::Restart, Started, 720, 721, SILENT),
            (Step::Enroll, Waiting, 720, 721, SILENT),
        ] {
            assert_eq!(code(step, status, quiet, false, 1), None, "{step} {quiet}");
            assert_eq!(code(step, status, silent, false, 1).as_deref(), Some(expected), "{step} {silent}");
        }
        assert_eq!(code(Step::Ready, Done, 1_000_000, true, 0), None, "a machine that works has nothing to say");
        assert_eq!(code(Step::Plan, Failed, 1_000_000, false, 0), None, "why it failed matters more");
        assert_eq!(code(Step::PowerOn, Done, 1_000_000, false, 9), None, "not installed, not offered anything");
    }

    #[test]
    fn firmware_that_goes_round_in_circles_is_seen_although_it_never_is_silent() {
        let round = |step, status, starts, images_unheard| {
            noted(MachineStatus { images_unheard, ..machine(step, status, false, starts) }, 1)
        };
        assert_eq!(round(Step::Netboot, StepStatus::Progress, 3, 1), None);
        assert_eq!(round(Step::PowerOn, StepStatus::Done, 3, 2).as_deref(), Some(REFUSED));
        assert_eq!(round(Step::Netboot, StepStatus::Started, 3, 2).as_deref(), Some(REFUSED));
        assert_eq!(round(Step::Netboot, StepStatus::Started, 3, 0).as_deref(), Some(NOT_FETCHED));
        assert_eq!(round(Step::Install, StepStatus::Started, 9, 9), None, "the agent runs");
        let until = Some(OffsetDateTime::UNIX_EPOCH + Duration::seconds(60));
        let paused = |seconds| {
            noted(MachineStatus { paused_until: until, ..machine(Step::Netboot, StepStatus::Done, false, 1) }, seconds)
        };
        assert_eq!(paused(59).as_deref(), Some(PAUSED));
        assert_eq!(paused(60), None);
    }

    #[test]
    fn an_installed_machine_that_comes_to_the_network_again_and_again_has_a_wrong_boot_order() {
        assert_eq!(code(Step::PowerOn, StepStatus::Done, 300, true, 1), None, "it goes on to its disk now");
        assert_eq!(code(Step::PowerOn, StepStatus::Done, 301, true, 1).as_deref(), Some(BOOT_ORDER));
        assert_eq!(code(Step::PowerOn, StepStatus::Done, 1, true, 2).as_deref(), Some(BOOT_ORDER));
    }
}
