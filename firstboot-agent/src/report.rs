//! Tells people what happens: every step as a console line and as an event for netboot, which shows it on the
//! store page and forwards it to the region.

use crate::{
    console,
    deadline::{self, Sign},
    failure::Failure,
    net::client::Netboot,
    retry::Backoff,
    screen, signal,
    truth::show::{Word, Words},
};
use contracts::{
    event::{Event, StepEvent, StepStatus},
    logs::LogEnd,
    step::Step,
};
use std::{
    collections::VecDeque,
    fs,
    future::Future,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// The most events kept while netboot cannot be reached; beyond that progress lines are dropped, oldest first.
const KEPT: usize = 1000;
/// The most events in one call.
const BATCH: usize = 100;
/// Progress is worth an event at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Reports steps. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Reporter(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    attempt: Uuid,
    mac: String,
    netboot: Option<Netboot>,
    queue: VecDeque<(Instant, Uuid, StepEvent)>,
    /// From before a restart, to be sent before everything else.
    inherited: Vec<Event>,
    last_progress: Option<Instant>,
    /// Of the step under way.
    sign: Option<Sign>,
    /// The last word of each step, and where it is left for `firstboot-agent status`.
    words: Words,
    left_at: Option<&'static Path>,
    /// What went wrong or was waited for last.
    trouble: Option<String>,
    /// The last word about any step, progress left out.
    last: Option<LogEnd>,
}

impl Reporter {
    /// A reporter for one attempt. Events wait until [`Reporter::connect`].
    #[must_use]
    pub fn new(attempt: Uuid) -> Self {
        Self(Arc::new(Mutex::new(State {
            attempt,
            mac: String::new(),
            netboot: None,
            queue: VecDeque::new(),
            inherited: Vec::new(),
            last_progress: None,
            sign: None,
            words: Words::new(),
            left_at: None,
            trouble: None,
            last: None,
        })))
    }

    /// Leaves the last word of each step in this file too, from now on.
    pub fn leave_words_at(&self, path: &'static Path) {
        self.lock().left_at = Some(path);
    }

    /// Sends what waited, and everything from now on, to `netboot`. Call it after the clock is set: events are
    /// stamped when they are sent, from the monotonic time at which they happened.
    pub fn connect(&self, netboot: Netboot, mac: &str) {
        let first = {
            let mut state = self.lock();
            mac.clone_into(&mut state.mac);
            screen::reached(mac, netboot.base());
            state.netboot.replace(netboot).is_none()
        };
        if first {
            let reporter = self.clone();
            tokio::spawn(async move { reporter.send_forever().await });
        }
    }

    /// What went wrong or was waited for last, since something was done.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// The attempt that is reported.
    #[must_use]
    pub fn attempt(&self) -> Uuid {
        self.lock().attempt
    }

    /// How the attempt stands: the last word about any step.
    #[must_use]
    pub fn end(&self) -> LogEnd {
        let last = self.lock().last.clone();
        last.unwrap_or_else(|| LogEnd {
            step: None,
            status: StepStatus::Started,
            code: None,
            message: "nothing was reported".into(),
        })
    }

    /// netboot, once it was found, and the MAC address by which it knows this machine.
    #[must_use]
    pub fn store(&self) -> (Option<Netboot>, String) {
        let state = self.lock();
        (state.netboot.clone(), state.mac.clone())
    }

    /// What is reported from now on belongs to another attempt.
    pub fn begin_attempt(&self, attempt: Uuid) {
        self.lock().attempt = attempt;
    }

    /// Takes over what could not be sent before the machine restarted.
    pub fn inherit(&self, mut events: Vec<Event>) {
        events.truncate(KEPT);
        self.lock().inherited = events;
    }

    /// What netboot has not got yet, progress left out: nobody wants to see that later.
    #[must_use]
    pub fn unsent(&self) -> Vec<Event> {
        let mut events = self.events(KEPT);
        events.retain(|event| event.data.status != StepStatus::Progress);
        events
    }

    /// Runs one step and reports its start and its end. A step that is silent for too long is ended.
    ///
    /// # Errors
    /// The step's own, and `too-long`.
    pub async fn step<T>(
        &self,
        step: Step,
        message: &str,
        work: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        self.put(step, StepStatus::Started, message.to_owned(), None);
        let ended = tokio::select! {
            ended = work => ended,
            () = self.silence() => {
                let minutes = deadline::patience(step).as_secs() / 60;
                Err(Failure::new("too-long", format!("{message}: nothing has moved for {minutes} minutes")))
            }
        };
        self.lock().sign = None;
        match ended {
            Ok((value, outcome)) => {
                self.put(step, StepStatus::Done, outcome, None);
                Ok(value)
            }
            Err(failure) => {
                let status = if failure.waits { StepStatus::Waiting } else { StepStatus::Failed };
                self.put(step, status, failure.to_string(), Some(failure.code));
                Err(failure)
            }
        }
    }

    /// Returns when the step under way has been silent for too long.
    async fn silence(&self) {
        while let Some(left) = self.time_left() {
            tokio::time::sleep(left).await;
        }
    }

    /// Of its own, so that nothing is locked while somebody waits.
    fn time_left(&self) -> Option<Duration> {
        self.lock().sign.and_then(|sign| sign.left(now()))
    }

    /// The step that was to be ended, and does not end.
    #[must_use]
    pub fn stuck(&self) -> Option<Step> {
        self.lock().sign.filter(|sign| sign.is_stuck(now())).map(|sign| sign.step)
    }

    /// Reports that a step began, where [`Reporter::step`] does not fit.
    pub fn started(&self, step: Step, message: impl Into<String>) {
        self.put(step, StepStatus::Started, message.into(), None);
    }

    /// Reports that a step ended well, where [`Reporter::step`] does not fit.
    pub fn done(&self, step: Step, message: impl Into<String>) {
        self.put(step, StepStatus::Done, message.into(), None);
    }

    /// Reports that a step ended badly, where [`Reporter::step`] does not fit.
    pub fn failed(&self, step: Step, code: &'static str, message: impl Into<String>) {
        self.put(step, StepStatus::Failed, message.into(), Some(code));
        self.lock().sign = None;
    }

    /// Reports that a step waits and will go on by itself.
    pub fn waiting(&self, step: Step, code: &'static str, message: impl Into<String>) {
        self.put(step, StepStatus::Waiting, message.into(), Some(code));
    }

    /// Reports how far a step is; `fraction` from 0.0 to 1.0. Says nothing when it said something a moment ago.
    pub fn progress(&self, step: Step, fraction: f64, eta: Option<Duration>, message: &str) {
        {
            let mut state = self.lock();
            state.sign = Some(Sign { step, at: now() });
            if state.last_progress.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
                return;
            }
            state.last_progress = Some(Instant::now());
        }
        let eta_seconds = eta.map(|eta| eta.as_secs());
        let eta_text = eta_seconds.map_or(String::new(), |s| format!(", about {s} s left"));
        console::line(&format!("[{step}] {:.0} % {message}{eta_text}", fraction * 100.0));
        self.queue(StepEvent {
            step,
            status: StepStatus::Progress,
            attempt: None,
            message: message.to_owned(),
            progress: Some(fraction),
            eta_seconds,
            code: None,
        });
    }

    /// Waits until every outcome reached netboot, at most `limit`. True when it did.
    pub async fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if self.all_sent() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    fn all_sent(&self) -> bool {
        let state = self.lock();
        state.queue.is_empty() && state.inherited.is_empty()
    }

    fn put(&self, step: Step, status: StepStatus, message: String, code: Option<&'static str>) {
        let word = match status {
            StepStatus::Started => "...",
            StepStatus::Progress => "",
            StepStatus::Waiting => "waiting:",
            StepStatus::Done => "done:",
            StepStatus::Failed => "FAILED:",
        };
        let shown = code.map_or(String::new(), |code| format!(" (code {code})"));
        console::line(&format!("[{step}] {word} {message}{shown}"));
        match status {
            StepStatus::Waiting | StepStatus::Failed => self.lock().trouble = Some(message.clone()),
            StepStatus::Done => self.lock().trouble = None,
            StepStatus::Started | StepStatus::Progress => {}
        }
        let code = code.map(str::to_owned);
        self.queue(StepEvent { step, status, attempt: None, message, progress: None, eta_seconds: None, code });
    }

    fn queue(&self, mut event: StepEvent) {
        screen::hear(&event);
        signal::hear(&event);
        let mut state = self.lock();
        event.attempt = Some(state.attempt);
        if event.status != StepStatus::Progress {
            state.leave_word(&event);
        }
        state.sign = Some(Sign { step: event.step, at: now() });
        state.queue.push_back((Instant::now(), Uuid::new_v4(), event));
        if state.queue.len() > KEPT {
            let at = state.queue.iter().position(|(_, _, e)| e.status == StepStatus::Progress).unwrap_or(0);
            state.queue.remove(at);
        }
    }

    /// Without an end on purpose: while this machine runs, somebody wants to know how it is.
    async fn send_forever(&self) {
        let mut backoff = Self::backoff();
        loop {
            let netboot = self.lock().netboot.clone();
            let batch = self.events(BATCH);
            let sent = match netboot {
                Some(netboot) if !batch.is_empty() => netboot.send_events(&batch).await,
                _ => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if sent.is_ok() {
                let mut state = self.lock();
                state.queue.retain(|(_, id, _)| !batch.iter().any(|event| event.id == *id));
                state.inherited.retain(|old| !batch.iter().any(|event| event.id == old.id));
                drop(state);
                backoff = Self::backoff();
            } else {
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }

    const fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(500), Duration::from_secs(15))
    }

    /// The first so many, as they go to netboot.
    fn events(&self, most: usize) -> Vec<Event> {
        let state = self.lock();
        let now = SystemTime::now();
        let own = state.queue.iter().map(|(at, id, data)| {
            let time = OffsetDateTime::from(now.checked_sub(at.elapsed()).unwrap_or(now));
            Event::new(*id, "agent", state.mac.clone(), time, data.clone())
        });
        // netboot knows a machine by the card that reaches it; without a network nobody could tell which that is.
        let inherited = state.inherited.iter().map(|old| Event { subject: state.mac.clone(), ..old.clone() });
        inherited.chain(own).take(most).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leave_word(&mut self, event: &StepEvent) {
        let StepEvent { step, status, message, code, .. } = event;
        self.last = Some(LogEnd { step: Some(*step), status: *status, code: code.clone(), message: message.clone() });
        let at = OffsetDateTime::now_utc();
        self.words.insert(*step, Word { status: *status, message: message.clone(), code: code.clone(), at });
        // In memory, for people who ask: when it fails, the next word is written anew.
        if let (Some(path), Ok(bytes)) = (self.left_at, serde_json::to_vec(&self.words)) {
            let beside = path.with_extension("new");
            let _ = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
        }
    }
}

/// The runtime's clock, which tests can move.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_step_is_ended_and_says_how_long_it_was_silent() {
        let reporter = Reporter::new(Uuid::from_u128(1));
        let silent = async {
            tokio::time::sleep(deadline::patience(Step::Plan) / 2).await;
            // Others report while it waits.
            reporter.progress(Step::Plan, 0.5, None, "half of it");
            std::future::pending::<Result<((), String), Failure>>().await
        };
        let begin = now();
        let failure = reporter.step(Step::Plan, "choosing the disk", silent).await.unwrap_err();
        assert_eq!(now() - begin, deadline::patience(Step::Plan) * 3 / 2, "a sign of life begins it anew");
        assert_eq!(failure.code, "too-long");
        assert!(failure.to_string().contains("3 minutes"), "{failure}");
        assert_eq!(reporter.stuck(), None);
    }

    #[test]
    fn what_was_not_sent_is_inherited_with_its_ids_and_comes_first() {
        let before = Reporter::new(Uuid::from_u128(1));
        before.done(Step::Verify, "checked");
        before.progress(Step::Install, 0.5, None, "half");
        let unsent = before.unsent();
        assert_eq!(unsent.len(), 1, "progress is not kept");
        let after = Reporter::new(Uuid::from_u128(1));
        after.started(Step::Enroll, "asking");
        after.inherit(serde_json::from_slice(&serde_json::to_vec(&unsent).unwrap()).unwrap());
        assert!(!after.all_sent());
        after.lock().mac = "02:00:00:00:00:01".into();
        let events = after.events(BATCH);
        assert_eq!((events[0].id, events[0].time), (unsent[0].id, unsent[0].time));
        assert!(events.iter().all(|event| event.subject == "02:00:00:00:00:01"));
        assert_eq!(events.iter().map(|e| e.data.step).collect::<Vec<_>>(), [Step::Verify, Step::Enroll]);
    }
}
