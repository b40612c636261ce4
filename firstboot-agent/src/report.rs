//! Tells people what happens: every step as a console line and as an event for netboot, which shows it on the
//! store page and forwards it to the region.

use crate::{console, failure::Failure, net::client::Netboot, retry::Backoff};
use contracts::{
    event::{Event, StepEvent, StepStatus},
    step::Step,
};
use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// The most events kept while netboot cannot be reached; beyond that progress lines are dropped, oldest first.
const KEPT: usize = 1000;
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
    last_progress: Option<Instant>,
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
            last_progress: None,
        })))
    }

    /// Sends what waited, and everything from now on, to `netboot`. Call it after the clock is set: events are
    /// stamped when they are sent, from the monotonic time at which they happened.
    pub fn connect(&self, netboot: Netboot, mac: &str) {
        let first = {
            let mut state = self.lock();
            mac.clone_into(&mut state.mac);
            state.netboot.replace(netboot).is_none()
        };
        if first {
            let reporter = self.clone();
            tokio::spawn(async move { reporter.send_forever().await });
        }
    }

    /// Runs one step and reports its start and its end.
    ///
    /// # Errors
    /// The step's own.
    pub async fn step<T>(
        &self,
        step: Step,
        message: &str,
        work: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        self.put(step, StepStatus::Started, message.to_owned(), None);
        match work.await {
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

    /// Reports that a step began, where [`Reporter::step`] does not fit.
    pub fn started(&self, step: Step, message: impl Into<String>) {
        self.put(step, StepStatus::Started, message.into(), None);
    }

    /// Reports that a step ended well, where [`Reporter::step`] does not fit.
    pub fn done(&self, step: Step, message: impl Into<String>) {
        self.put(step, StepStatus::Done, message.into(), None);
    }

    /// Reports that a step waits and will go on by itself.
    pub fn waiting(&self, step: Step, code: &'static str, message: impl Into<String>) {
        self.put(step, StepStatus::Waiting, message.into(), Some(code));
    }

    /// Reports how far a step is; `fraction` from 0.0 to 1.0. Says nothing when it said something a moment ago.
    pub fn progress(&self, step: Step, fraction: f64, eta: Option<Duration>, message: &str) {
        {
            let mut state = self.lock();
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
            if self.lock().queue.is_empty() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
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
        let code = code.map(str::to_owned);
        self.queue(StepEvent { step, status, attempt: None, message, progress: None, eta_seconds: None, code });
    }

    fn queue(&self, mut event: StepEvent) {
        let mut state = self.lock();
        event.attempt = Some(state.attempt);
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
            let (netboot, batch) = self.batch();
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

    fn batch(&self) -> (Option<Netboot>, Vec<Event>) {
        let state = self.lock();
        let now = SystemTime::now();
        let batch = state
            .queue
            .iter()
            .take(100)
            .map(|(at, id, data)| {
                let time = OffsetDateTime::from(now.checked_sub(at.elapsed()).unwrap_or(now));
                Event::new(*id, "agent", state.mac.clone(), time, data.clone())
            })
            .collect();
        (state.netboot.clone(), batch)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
