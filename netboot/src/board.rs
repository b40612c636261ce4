//! What each machine is doing: the source of the store page, of `/v1/status`, and of netboot's own events.
//!
//! Pure: time comes in as an argument, events to emit come out. An attempt lasts from one power-on to the next;
//! the restart in the middle of the journey belongs to it, although the firmware asks the network again then.

use crate::proto::mac::Mac;
use contracts::{
    event::{StepEvent, StepStatus},
    status::{MachineStatus, StepLine},
    step::Step,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Machines that are remembered; beyond that the one unheard of for longest is forgotten.
pub(crate) const MOST: usize = 256;
/// Firmware repeats its requests, and goes from PXE to HTTP Boot, for this long within one power-on.
const FIRMWARE_PATIENCE: Duration = Duration::minutes(3);
/// After the `restart` step, the same journey comes back within this.
const RESTART_PATIENCE: Duration = Duration::minutes(10);
const PROGRESS_EVERY: Duration = Duration::seconds(1);
/// Kept on the disk too: a field that is new needs a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    name: Option<String>,
    boot_bytes: u64,
    install_bytes: u64,
    attempt: Option<Uuid>,
    /// The attempt under which the machine last asked what to do.
    #[serde(default)]
    reported: Option<Uuid>,
    lines: Vec<StepLine>,
    #[serde(with = "time::serde::rfc3339")]
    heard: OffsetDateTime,
    #[serde(default, with = "time::serde::rfc3339::option")]
    firmware_heard: Option<OffsetDateTime>,
    #[serde(default)]
    firmware_starts: u32,
    #[serde(default)]
    images_unheard: u32,
    /// Steps that failed, or waited for something: how long they took says nothing about other journeys.
    #[serde(default)]
    held_up: BTreeSet<Step>,
}

/// All machines.
#[derive(Debug, Default)]
pub struct Board {
    machines: BTreeMap<Mac, Entry>,
}

fn event(step: Step, status: StepStatus, message: impl Into<String>) -> StepEvent {
    let message = message.into();
    StepEvent { step, status, attempt: None, message, progress: None, eta_seconds: None, code: None }
}

impl Board {
    /// The machine's firmware asked for a boot server. Gives the `power-on` event when that begins an attempt.
    pub fn firmware_asked(&mut self, now: OffsetDateTime, mac: Mac, message: &str) -> Option<StepEvent> {
        let entry = self.entry(now, mac);
        let begins = entry.firmware_begins_attempt(now);
        entry.firmware_heard = Some(now);
        if !begins {
            return None;
        }
        entry.begin();
        entry.attempt = None;
        entry.firmware_starts = entry.firmware_starts.saturating_add(1);
        let event = event(Step::PowerOn, StepStatus::Done, message);
        entry.note(now, &event);
        Some(event)
    }

    /// The machine's firmware got an answer. Gives the start of `netboot`, once per attempt.
    pub fn firmware_answered(&mut self, now: OffsetDateTime, mac: Mac, message: &str) -> Option<StepEvent> {
        let entry = self.entry(now, mac);
        if entry.line(Step::Netboot).is_some() {
            return None;
        }
        let event = event(Step::Netboot, StepStatus::Started, message);
        entry.note(now, &event);
        Some(event)
    }

    /// True when the machine's firmware was heard in this attempt: it may take a spare's entry.
    #[must_use]
    pub fn firmware_is_booting(&self, now: OffsetDateTime, mac: Mac) -> bool {
        let heard = self.machines.get(&mac).and_then(|e| e.firmware_heard);
        heard.is_some_and(|at| now - at < RESTART_PATIENCE)
    }

    /// Bytes of the boot file went out; `progress` is how much of the file is through, 1.0 at its end.
    pub fn boot_sent(&mut self, now: OffsetDateTime, mac: Mac, bytes: u64, progress: f64) -> Option<StepEvent> {
        let entry = self.entry(now, mac);
        entry.boot_bytes += bytes;
        let line = entry.line(Step::Netboot)?;
        if line.status == StepStatus::Done {
            return None;
        }
        let event = if progress >= 1.0 {
            entry.images_unheard = entry.images_unheard.saturating_add(1);
            event(Step::Netboot, StepStatus::Done, "the boot image was handed out whole")
        } else {
            if line.progress.is_some() && now - line.updated < PROGRESS_EVERY {
                return None;
            }
            let message = format!("handing out the boot image: {:.0} %", progress * 100.0);
            StepEvent { progress: Some(progress), ..event(Step::Netboot, StepStatus::Progress, message) }
        };
        entry.note(now, &event);
        Some(event)
    }

    /// Bytes below `/repo/` went out.
    pub fn install_sent(&mut self, now: OffsetDateTime, mac: Mac, bytes: u64) {
        self.entry(now, mac).install_bytes += bytes;
    }

    /// The agent said something.
    pub fn agent_said(&mut self, now: OffsetDateTime, mac: Mac, event: &StepEvent) {
        let entry = self.entry(now, mac);
        (entry.firmware_starts, entry.images_unheard) = (0, 0);
        if let Some(attempt) = event.attempt
            && entry.attempt != Some(attempt)
        {
            let goes_on = entry.attempt.is_none() || entry.lines.last().is_some_and(|l| l.step == Step::Restart);
            if !goes_on {
                entry.begin();
            }
            entry.attempt = Some(attempt);
        }
        entry.note(now, event);
    }

    /// Since when the power-on lasts that the machine's firmware is in; `None` when what it says next begins another one.
    #[must_use]
    pub fn power_on(&self, now: OffsetDateTime, mac: Mac) -> Option<OffsetDateTime> {
        let entry = self.machines.get(&mac).filter(|entry| !entry.firmware_begins_attempt(now))?;
        entry.line(Step::PowerOn).map(|line| line.started)
    }

    /// Since when the last power-on lasts that the machine's firmware began.
    #[must_use]
    pub fn last_power_on(&self, mac: Mac) -> Option<OffsetDateTime> {
        self.machines.get(&mac)?.line(Step::PowerOn).map(|line| line.started)
    }

    /// The agent asked what to do, under this attempt.
    pub fn reported(&mut self, now: OffsetDateTime, mac: Mac, attempt: Uuid) {
        self.entry(now, mac).reported = Some(attempt);
    }

    /// Whether this is the attempt under which the machine last asked what to do.
    #[must_use]
    pub fn is_reported(&self, mac: Mac, attempt: Uuid) -> bool {
        self.machines.get(&mac).is_some_and(|entry| entry.reported == Some(attempt))
    }

    /// The inventory's name for a machine.
    pub fn set_name(&mut self, now: OffsetDateTime, mac: Mac, name: Option<&str>) {
        self.entry(now, mac).name = name.map(str::to_owned);
    }

    /// How long each step of a machine's whole journey took, from its start to the start of the next; only when the journey
    /// has ended, began with an install, and is seen from its first step on. Steps that were held up are left out.
    #[must_use]
    pub fn whole_journey(&self, mac: Mac) -> Option<BTreeMap<Step, Duration>> {
        let entry = self.machines.get(&mac)?;
        let last = entry.line(Step::Ready).filter(|line| line.status == StepStatus::Done)?;
        let seen = |step: &Step| entry.line(*step).is_some_and(|line| line.status == StepStatus::Done);
        if !Step::ALL.iter().filter(|step| **step != Step::Restart).all(seen) {
            return None;
        }
        let ends = entry.lines.iter().skip(1).map(|next| next.started).chain([last.updated]);
        let taken = entry.lines.iter().zip(ends).map(|(line, end)| (line.step, end - line.started));
        Some(taken.filter(|(step, took)| !entry.held_up.contains(step) && !took.is_negative()).collect())
    }

    /// Every machine, the most recently heard first. `installed` tells whether its permit is used up.
    #[must_use]
    pub fn machines(&self, installed: impl Fn(Mac) -> bool) -> Vec<MachineStatus> {
        let mut entries: Vec<_> = self.machines.iter().collect();
        entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.heard));
        let status = |(mac, entry): (&Mac, &Entry)| MachineStatus {
            mac: mac.to_string(),
            name: entry.name.clone(),
            boot_bytes: entry.boot_bytes,
            install_bytes: entry.install_bytes,
            installed: installed(*mac),
            tries: 0,
            paused_until: None,
            heard: Some(entry.heard),
            firmware_starts: entry.firmware_starts,
            images_unheard: entry.images_unheard,
            remaining: None,
            steps: entry.lines.clone(),
        };
        entries.into_iter().map(status).collect()
    }

    /// True when this machine is remembered.
    #[must_use]
    pub fn has(&self, mac: Mac) -> bool {
        self.machines.contains_key(&mac)
    }

    /// What is shown of a machine, for [`Board::restore`] after a restart.
    #[must_use]
    pub fn saved(&self, mac: Mac) -> Option<String> {
        serde_json::to_string(self.machines.get(&mac)?).ok()
    }

    /// Shows a machine as it was saved. False for what was not.
    pub fn restore(&mut self, mac: Mac, saved: &[u8]) -> bool {
        let Ok(entry) = serde_json::from_slice::<Entry>(saved) else { return false };
        let fits = entry.lines.len() <= Step::ALL.len() && self.machines.len() < MOST;
        if fits {
            self.machines.insert(mac, entry);
        }
        fits
    }

    fn entry(&mut self, now: OffsetDateTime, mac: Mac) -> &mut Entry {
        if !self.machines.contains_key(&mac) && self.machines.len() >= MOST {
            // Machines that work with an agent or stand in the inventory go last: strangers, or one who makes up addresses,
            // must not push them out.
            let worth = |entry: &Entry| (entry.name.is_some() || entry.attempt.is_some(), entry.heard);
            let oldest = self.machines.iter().min_by_key(|(_, e)| worth(e)).map(|(mac, _)| *mac);
            oldest.and_then(|mac| self.machines.remove(&mac));
        }
        let entry = self.machines.entry(mac).or_insert_with(|| Entry {
            name: None,
            boot_bytes: 0,
            install_bytes: 0,
            attempt: None,
            reported: None,
            lines: Vec::new(),
            heard: now,
            firmware_heard: None,
            firmware_starts: 0,
            images_unheard: 0,
            held_up: BTreeSet::new(),
        });
        entry.heard = now;
        entry
    }
}

impl Entry {
    /// Another attempt.
    fn begin(&mut self) {
        self.lines.clear();
        self.held_up.clear();
    }

    fn line(&self, step: Step) -> Option<&StepLine> {
        self.lines.iter().find(|line| line.step == step)
    }

    fn firmware_begins_attempt(&self, now: OffsetDateTime) -> bool {
        let Some(last) = self.lines.last() else { return true };
        match last.step {
            Step::Restart => now - last.updated > RESTART_PATIENCE,
            Step::PowerOn | Step::Netboot if last.status != StepStatus::Done || last.step == Step::PowerOn => {
                self.firmware_heard.is_none_or(|at| now - at > FIRMWARE_PATIENCE)
            }
            _ => true,
        }
    }

    fn note(&mut self, now: OffsetDateTime, event: &StepEvent) {
        // Every machine waits a while until its cluster reports it ready.
        let held_up = match event.status {
            StepStatus::Failed => true,
            StepStatus::Waiting => event.code.as_deref() != Some("not-ready"),
            _ => false,
        };
        if held_up {
            self.held_up.insert(event.step);
        }
        let known = self.lines.iter().position(|line| line.step == event.step);
        let Some(at) = known else {
            self.lines.push(StepLine {
                step: event.step,
                status: event.status,
                started: now,
                updated: now,
                progress: event.progress,
                eta_seconds: event.eta_seconds,
                message: event.message.clone(),
                code: event.code.clone(),
            });
            return;
        };
        // The installed system finds the network once more after the restart: that step stays as it ended. A failure is news at
        // any time: a version that was given up is told of after machines have joined with it.
        let stays = match event.status {
            StepStatus::Failed => false,
            StepStatus::Done => at + 1 < self.lines.len(),
            // What was done may have been the last thing: a machine that is wiped for the shelf waits there.
            StepStatus::Waiting => at + 1 < self.lines.len() || event.step == Step::Ready,
            _ => true,
        };
        if self.lines[at].status == StepStatus::Done && stays {
            return;
        }
        let line = &mut self.lines[at];
        line.status = event.status;
        line.updated = now;
        line.progress = event.progress.or(line.progress.filter(|_| event.status == StepStatus::Waiting));
        line.eta_seconds = event.eta_seconds;
        line.message.clone_from(&event.message);
        line.code.clone_from(&event.code);
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
