//! How long the steps of earlier journeys took in this store, and what that says about one under way.
//!
//! [`StepTimes`] is pure; [`StepTimesFile`] keeps it. What is unknown stays unknown: a journey's end is named only when every
//! step that is left has been seen before.

use contracts::{
    event::StepStatus,
    status::{MachineStatus, Remaining, StepLine},
    step::Step,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
};
use time::{Duration, OffsetDateTime};

/// Journeys that are remembered of each template; older ones say less about today's line and image.
const JOURNEYS: usize = 8;
/// Templates that are remembered.
const TEMPLATES: usize = 16;
/// A longer step was no step at work: somebody pulled a plug overnight.
const LONGEST_STEP: Duration = Duration::hours(2);
/// The file is a few kilobytes.
const LARGEST_FILE: u64 = 256 << 10;
/// From this much of a step on, its own rate says more than other machines.
const MEASURED_FROM: (f64, Duration) = (0.02, Duration::seconds(5));

/// Seconds that each step took, by template; the latest journeys last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepTimes(BTreeMap<String, BTreeMap<Step, Vec<u32>>>);

impl StepTimes {
    /// Takes in one whole journey.
    pub fn learn(&mut self, template: &str, journey: &BTreeMap<Step, Duration>) {
        if !self.0.contains_key(template) && self.0.len() >= TEMPLATES {
            self.0.pop_first();
        }
        let steps = self.0.entry(template.to_owned()).or_default();
        for (step, took) in journey.iter().filter(|(_, took)| **took <= LONGEST_STEP) {
            let known = steps.entry(*step).or_default();
            known.push(u32::try_from(took.whole_seconds()).unwrap_or(0));
            let more = known.len().saturating_sub(JOURNEYS);
            known.drain(..more);
        }
    }

    /// How long a journey will still take, when one is under way.
    #[must_use]
    pub fn remaining(&self, machine: &MachineStatus, template: Option<&str>, now: OffsetDateTime) -> Option<Remaining> {
        let line = machine.steps.last()?;
        let moves = match line.status {
            StepStatus::Started | StepStatus::Progress => true,
            StepStatus::Done => line.step != Step::Ready,
            // Every machine waits for that; other waits have no end that anybody knows.
            StepStatus::Waiting => line.code.as_deref() == Some("not-ready"),
            StepStatus::Failed => false,
        };
        // A machine that only asked, and was offered nothing, is on no journey.
        if !moves || (line.step == Step::PowerOn && line.status == StepStatus::Done) {
            return None;
        }
        let known = template.and_then(|template| self.0.get(template));
        let elapsed = seconds(now - line.started);
        let measured = measured(line, now);
        let mut left = Remaining { step_seconds: measured, ..Remaining::default() };
        let Some(known) = known else { return Some(left) };
        let samples = |step: Step| known.get(&step).filter(|samples| !samples.is_empty());
        let (mut low, mut high, mut earlier) = (0, 0, usize::MAX);
        for step in Step::ALL.into_iter().filter(|step| *step >= line.step) {
            let Some(samples) = samples(step) else { return Some(left) };
            earlier = earlier.min(samples.len());
            let bounds = |samples: &[u32]| {
                let (fast, slow) = (samples.iter().min().copied(), samples.iter().max().copied());
                (u64::from(fast.unwrap_or(0)), u64::from(slow.unwrap_or(0)))
            };
            let (mut fast, mut slow) = bounds(samples);
            if step == line.step {
                left.late = elapsed > slow;
                (fast, slow) = match measured {
                    Some(seconds) => (seconds, seconds),
                    None => (fast.saturating_sub(elapsed), slow.saturating_sub(elapsed)),
                };
            }
            low += fast;
            high += slow;
        }
        left.earlier = u32::try_from(earlier).unwrap_or(0);
        left.journey_seconds = Some((low, high));
        Some(left)
    }
}

fn seconds(span: Duration) -> u64 {
    u64::try_from(span.whole_seconds()).unwrap_or(0)
}

/// From the step's own rate: the agent's word, else the share that is done.
fn measured(line: &StepLine, now: OffsetDateTime) -> Option<u64> {
    let progress = line.progress.filter(|_| line.status == StepStatus::Progress)?;
    if let Some(eta) = line.eta_seconds {
        return Some(eta.saturating_sub(seconds(now - line.updated)));
    }
    let took = line.updated - line.started;
    if progress < MEASURED_FROM.0 || progress > 1.0 || took < MEASURED_FROM.1 {
        return None;
    }
    let left = took.as_seconds_f64() * (1.0 - progress) / progress;
    // At most a hundred times what has passed, from the check above.
    Some((left as u64).saturating_sub(seconds(now - line.updated)))
}

/// The times, and the file that keeps them.
#[derive(Debug)]
pub struct StepTimesFile {
    path: PathBuf,
    times: Mutex<StepTimes>,
}

impl StepTimesFile {
    /// Reads `step-times.json` in a folder. A file that is not there or cannot be read says nothing: only estimates are lost.
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        let path = folder.join("step-times.json");
        let times = match read(&path) {
            Ok(times) => times,
            Err(error) if error.kind() == io::ErrorKind::NotFound => StepTimes::default(),
            Err(error) => {
                tracing::warn!("{} cannot be read, estimates begin anew: {error}", path.display());
                StepTimes::default()
            }
        };
        Self { path, times: Mutex::new(times) }
    }

    /// See [`StepTimes::remaining`].
    #[must_use]
    pub fn remaining(&self, machine: &MachineStatus, template: Option<&str>, now: OffsetDateTime) -> Option<Remaining> {
        crate::shared::lock(&self.times).remaining(machine, template, now)
    }

    /// Takes in one whole journey and writes the file. It waits for the disk.
    pub fn learn(&self, template: &str, journey: &BTreeMap<Step, Duration>) {
        let mut times = crate::shared::lock(&self.times);
        times.learn(template, journey);
        if let Err(error) = write(&self.path, &times) {
            tracing::warn!(
                "{} cannot be written, the next start will not know these times: {error}",
                self.path.display()
            );
        }
    }
}

fn read(path: &Path) -> io::Result<StepTimes> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST_FILE).read_to_end(&mut bytes)?;
    let mut times: StepTimes = serde_json::from_slice(&bytes)?;
    // What somebody else wrote into it stays bounded too.
    while times.0.len() > TEMPLATES {
        times.0.pop_first();
    }
    for samples in times.0.values_mut().flat_map(BTreeMap::values_mut) {
        samples.drain(..samples.len().saturating_sub(JOURNEYS));
    }
    Ok(times)
}

fn write(path: &Path, times: &StepTimes) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(times)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
#[path = "step_times_tests.rs"]
mod tests;
