//! Live progress: one line when a step changes, and on the way at most one line in two seconds.

use crate::report::Report;
use contracts::{
    event::StepStatus,
    status::{MachineStatus, StepLine},
    step::Step,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use time::OffsetDateTime;

const BETWEEN_PROGRESS: Duration = Duration::from_secs(2);

/// What was said last about each step.
#[derive(Debug)]
pub struct Follower {
    report: Report,
    started: Instant,
    started_at: OffsetDateTime,
    said: BTreeMap<Step, (StepStatus, String)>,
    last_progress: Option<Instant>,
}

impl Follower {
    /// Follows a machine that was switched on at `started`, by the host's two clocks.
    #[must_use]
    pub fn new(report: Report, started: Instant, started_at: OffsetDateTime) -> Self {
        Self { report, started, started_at, said: BTreeMap::new(), last_progress: None }
    }

    /// Says what has changed since the last time.
    pub fn tell(&mut self, machine: &MachineStatus, now: Instant) {
        for line in since(machine, self.started_at) {
            let news = match self.said.get(&line.step) {
                Some((status, message)) if *status == line.status => {
                    line.status != StepStatus::Done && *message != line.message && self.may_say_progress(now)
                }
                _ => true,
            };
            if !news {
                continue;
            }
            if line.status == StepStatus::Progress {
                self.last_progress = Some(now);
            }
            let percent = line.progress.map(|p| format!(" {:3.0} %", p * 100.0)).unwrap_or_default();
            let code = line.code.as_ref().map(|c| format!(" [{c}]")).unwrap_or_default();
            self.report.line(format!(
                "{:7.1} s  {:<10} {:<8}{percent}{code} {}",
                (now - self.started).as_secs_f64(),
                line.step,
                word(line.status),
                line.message
            ));
            self.said.insert(line.step, (line.status, line.message.clone()));
        }
    }

    fn may_say_progress(&self, now: Instant) -> bool {
        self.last_progress.is_none_or(|last| now - last >= BETWEEN_PROGRESS)
    }
}

fn word(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Started => "started",
        StepStatus::Progress => "going on",
        StepStatus::Waiting => "waiting",
        StepStatus::Done => "done",
        StepStatus::Failed => "failed",
    }
}

/// Steps that moved since power-on: until a new attempt is heard of, netboot shows the one before.
fn since(machine: &MachineStatus, power_on: OffsetDateTime) -> impl Iterator<Item = &StepLine> {
    machine.steps.iter().filter(move |line| line.updated >= power_on)
}

/// A step that has failed since power-on, for people.
#[must_use]
pub fn failure(machine: &MachineStatus, power_on: OffsetDateTime) -> Option<String> {
    let failed = since(machine, power_on).find(|s| s.status == StepStatus::Failed)?;
    let code = failed.code.as_deref().unwrap_or("no code");
    Some(format!("the step {} failed ({code}): {}", failed.step, failed.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn progress_is_rare_and_changes_are_always_said() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let begin = Instant::now();
        let report = Report::new(move |l| sink.lock().unwrap().push(l.to_owned()));
        let mut follower = Follower::new(report, begin, OffsetDateTime::UNIX_EPOCH);
        let mut machine = MachineStatus {
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
            steps: vec![StepLine {
                step: Step::Install,
                status: StepStatus::Progress,
                started: OffsetDateTime::UNIX_EPOCH,
                updated: OffsetDateTime::UNIX_EPOCH,
                progress: Some(0.1),
                eta_seconds: None,
                message: "1".into(),
                code: None,
            }],
        };
        for (millis, message, status) in [
            (0, "1", StepStatus::Progress),
            (500, "2", StepStatus::Progress),
            (2100, "3", StepStatus::Progress),
            (2200, "all", StepStatus::Done),
        ] {
            machine.steps[0].message = message.into();
            machine.steps[0].status = status;
            follower.tell(&machine, begin + Duration::from_millis(millis));
        }
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("10 %") && lines[2].contains("done"), "{lines:?}");
    }
}
