//! What there is to tell: which step is under way, what went wrong last, and what comes next. Pure: time comes from outside.

use contracts::{
    event::{StepEvent, StepStatus},
    step::Step,
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Lines that are kept for the lower part of the screen.
const LINES: usize = 8;
/// The longest text that is kept: what arrives from elsewhere must not fill memory.
const LONGEST: usize = 600;

/// The story so far.
#[derive(Debug, Clone)]
pub struct Story {
    /// When it began.
    pub begun: Instant,
    /// This program's version.
    pub version: &'static str,
    /// The attempt, as the store page and the region know it.
    pub attempt: String,
    /// MAC address of the card that reaches the boot service; empty while there is none.
    pub mac: String,
    /// Base URL of the boot service; empty while there is none.
    pub service: String,
    /// The step under way.
    pub now: Option<Now>,
    /// The last step that ended well.
    pub done: Option<Step>,
    /// What is wrong. It stays until the step that failed has ended well.
    pub trouble: Option<Trouble>,
    /// When the next try begins, while nothing is under way.
    pub next_try: Option<Instant>,
    /// What happened lately, oldest first.
    pub lines: VecDeque<String>,
}

/// The step under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Now {
    /// Which.
    pub step: Step,
    /// In words.
    pub message: String,
    /// From 0.0 to 1.0, where it is known.
    pub fraction: Option<f64>,
    /// When it will probably have ended.
    pub end: Option<Instant>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The step that it ended.
    pub step: Step,
    /// The stable code.
    pub code: String,
    /// Why, in words.
    pub why: String,
    /// Nobody has to help: somebody elsewhere decides, or it passes.
    pub waits: bool,
}

impl Story {
    /// A story that begins.
    #[must_use]
    pub fn new(version: &'static str, attempt: String) -> Self {
        Self {
            begun: Instant::now(),
            version,
            attempt,
            mac: String::new(),
            service: String::new(),
            now: None,
            done: None,
            trouble: None,
            next_try: None,
            lines: VecDeque::new(),
        }
    }

    /// Takes up what happened to a step.
    pub fn hear(&mut self, at: Instant, event: &StepEvent) {
        let step = event.step;
        let message = clean(&event.message);
        match event.status {
            StepStatus::Started => {
                self.next_try = None;
                self.now = Some(Now { step, message, fraction: None, end: None });
            }
            StepStatus::Progress => {
                let fraction = event.progress.filter(|f| f.is_finite()).map(|f| f.clamp(0.0, 1.0));
                let end = event.eta_seconds.and_then(|s| at.checked_add(Duration::from_secs(s)));
                self.now = Some(Now { step, message, fraction, end });
            }
            StepStatus::Done => {
                self.done = Some(step);
                self.now = None;
                // An earlier step of the next try says nothing about the one that failed.
                self.trouble.take_if(|trouble| step >= trouble.step);
            }
            // Every machine's first minute in its cluster.
            StepStatus::Waiting if event.code.as_deref() == Some("not-ready") => {
                self.now = Some(Now { step, message, fraction: None, end: None });
            }
            StepStatus::Waiting | StepStatus::Failed => {
                let code = event.code.as_deref().map_or_else(|| "unknown".to_owned(), clean);
                let waits = event.status == StepStatus::Waiting;
                self.trouble = Some(Trouble { step, code, why: message, waits });
                self.now = None;
            }
        }
    }

    /// Takes up a line that is no step.
    pub fn line(&mut self, text: &str) {
        self.lines.push_back(clean(text));
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    /// Notes which card reaches which boot service.
    pub fn reached(&mut self, mac: &str, service: &str) {
        (self.mac, self.service) = (clean(mac), clean(service));
    }

    /// The number for a wipe permit, in the words of a refusal ([`crate::install::permission`]).
    #[must_use]
    pub fn permit_number(&self) -> Option<&str> {
        Some(self.trouble.as_ref()?.why.split_once("number for a wipe permit is ")?.1)
    }

    /// The machine is a member of its cluster.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.done == Some(Step::Ready) && self.trouble.is_none()
    }

    /// The claim code that somebody has to read out: what stands behind "claim code" in words of the code `claim`.
    #[must_use]
    pub fn claim_code(&self) -> Option<&str> {
        let trouble = self.trouble.as_ref().filter(|trouble| trouble.code == "claim")?;
        trouble.why.split_once("claim code ")?.1.split_whitespace().next()
    }
}

/// What arrives from the network may end up here: nothing that a terminal would obey, and not without an end.
fn clean(text: &str) -> String {
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn event(step: Step, status: StepStatus, message: &str, code: Option<&str>) -> StepEvent {
        let code = code.map(str::to_owned);
        StepEvent { step, status, attempt: None, message: message.into(), progress: None, eta_seconds: None, code }
    }

    fn story() -> Story {
        Story::new("1.0.0", "a1b2".into())
    }

    #[test]
    fn trouble_stays_until_its_step_has_ended_well() {
        let (mut story, at) = (story(), Instant::now());
        story.hear(at, &event(Step::Plan, StepStatus::Failed, "an NTFS file system", Some("foreign-data")));
        story.next_try = Some(at);
        story.hear(at, &event(Step::Network, StepStatus::Started, "looking", None));
        assert_eq!(story.next_try, None);
        story.hear(at, &event(Step::Network, StepStatus::Done, "found", None));
        assert_eq!(story.trouble.as_ref().map(|t| t.code.as_str()), Some("foreign-data"));
        story.hear(at, &event(Step::Plan, StepStatus::Done, "vda", None));
        assert_eq!(story.trouble, None);
    }

    #[test]
    fn the_claim_code_is_found_in_its_words_only() {
        let (mut story, at) = (story(), Instant::now());
        let words = "call support and read out the claim code ABCD-EFGH (a person decides)";
        story.hear(at, &event(Step::Enroll, StepStatus::Waiting, words, Some("claim")));
        assert_eq!(story.claim_code(), Some("ABCD-EFGH"));
        story.hear(at, &event(Step::Enroll, StepStatus::Waiting, words, Some("pending")));
        assert_eq!(story.claim_code(), None);
    }

    #[test]
    fn what_comes_from_elsewhere_is_bounded_and_commands_nothing() {
        let mut story = story();
        for _ in 0..100 {
            story.line(&"\u{1b}[2J".repeat(1000));
        }
        assert_eq!(story.lines.len(), LINES);
        assert!(story.lines.iter().all(|line| line.len() <= LONGEST && !line.contains('\u{1b}')));
        let mut wild = event(Step::Install, StepStatus::Progress, "x", None);
        (wild.progress, wild.eta_seconds) = (Some(f64::NAN), Some(u64::MAX));
        story.hear(Instant::now(), &wild);
        assert_eq!(story.now.as_ref().unwrap().fraction, None);
    }
}
