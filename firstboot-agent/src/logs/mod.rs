//! What this machine logged of an attempt, kept in memory and sent to netboot as one bundle: when a try has failed, when the attempt
//! ended well, and before a restart that nothing else explains. What could not be sent waits on the state partition, where there
//! is one of ours ([`kept`]); before a disk is chosen nothing survives a restart but what reached netboot.

pub mod book;
pub mod kept;
pub mod kernel;

use crate::report::Reporter;
use book::Book;
use contracts::{
    VERSION,
    logs::{LogBundle, LogEnd, LogPart},
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};
use time::OffsetDateTime;

static BOOK: Mutex<Book> = Mutex::new(Book::new());

/// The same end again is worth sending after this long.
const AGAIN: Duration = Duration::from_secs(10 * 60);
/// How long a machine that is about to restart tries to send.
const HURRY: Duration = Duration::from_secs(10);

/// Keeps one line that was said.
pub fn line(text: &str) {
    let since_start = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from);
    lock(&BOOK).write(since_start.unwrap_or_default(), text);
}

/// How many lines were said so far.
fn written() -> u64 {
    lock(&BOOK).written()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts the bundle of the attempt under way together, bounded and without secrets.
#[must_use]
pub fn bundle(reporter: &Reporter, part: LogPart) -> LogBundle {
    let (lines, left_out) = lock(&BOOK).text();
    let mut bundle = LogBundle {
        version: VERSION,
        attempt: reporter.attempt(),
        mac: reporter.store().1,
        part,
        agent: env!("CARGO_PKG_VERSION").into(),
        time: OffsetDateTime::now_utc(),
        end: reporter.end(),
        lines,
        left_out,
        kernel: kernel::tail(),
    };
    bundle.tidy();
    bundle
}

/// A bundle that waits, and the file that keeps it.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What was logged.
    pub bundle: LogBundle,
    /// To be removed once it is sent.
    pub file: Option<PathBuf>,
}

/// Sends bundles. Clones share what waits.
#[derive(Debug, Clone)]
pub struct Teller {
    reporter: Reporter,
    part: LogPart,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Of attempts before this one.
    waiting: Vec<Waiting>,
    sent: Option<(LogEnd, Instant)>,
}

impl Teller {
    /// For the attempts that `reporter` reports.
    #[must_use]
    pub fn new(reporter: &Reporter, part: LogPart) -> Self {
        Self { reporter: reporter.clone(), part, state: Arc::default() }
    }

    /// Takes over what could not be sent before.
    pub fn inherit(&self, waiting: Vec<Waiting>) {
        let mut state = lock(&self.state);
        state.waiting.extend(waiting);
        let more = state.waiting.len().saturating_sub(kept::MOST);
        state.waiting.drain(..more);
    }

    /// Sends what waits, and the log of the attempt under way, when its end is news. True when nothing is left to be sent.
    pub async fn tell(&self) -> bool {
        let end = self.reporter.end();
        let due = is_due(lock(&self.state).sent.as_ref(), &end, Instant::now());
        let (Some(netboot), mac) = self.reporter.store() else { return false };
        let waiting = lock(&self.state).waiting.clone();
        for Waiting { mut bundle, file } in waiting {
            if bundle.mac.is_empty() {
                // It was never on a network.
                bundle.mac.clone_from(&mac);
            }
            if netboot.send_log(&bundle).await.is_err() {
                return false;
            }
            lock(&self.state).waiting.retain(|other| !is_same(&other.bundle, &bundle));
            if let Some(file) = file {
                let _ = std::fs::remove_file(file);
            }
        }
        if due && netboot.send_log(&bundle(&self.reporter, self.part)).await.is_err() {
            return false;
        }
        if due {
            lock(&self.state).sent = Some((end, Instant::now()));
        }
        true
    }

    /// For a machine that is about to restart, with threads that may be stuck: returns after a few seconds in any case.
    pub fn tell_in_a_hurry(&self) {
        let (done, ended) = mpsc::channel();
        let teller = self.clone();
        std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                let _ = runtime.block_on(tokio::time::timeout(HURRY, teller.tell()));
            }
            let _ = done.send(());
        });
        let _ = ended.recv_timeout(HURRY + Duration::from_secs(1));
    }

    /// Everything that netboot has not got, the attempt under way last.
    #[must_use]
    pub fn unsent(&self) -> Vec<LogBundle> {
        let mut all: Vec<_> = lock(&self.state).waiting.iter().map(|waiting| waiting.bundle.clone()).collect();
        all.push(bundle(&self.reporter, self.part));
        all
    }
}

/// This very end has been sent.
fn has_sent(teller: &Teller, end: &LogEnd) -> bool {
    lock(&teller.state).sent.as_ref().is_some_and(|(sent, _)| sent == end)
}

fn is_same(one: &LogBundle, other: &LogBundle) -> bool {
    (one.attempt, one.part) == (other.attempt, other.part)
}

/// A try that fails as the one before did tells nothing new for a while; one that waits for somebody has not ended.
fn is_due(sent: Option<&(LogEnd, Instant)>, end: &LogEnd, now: Instant) -> bool {
    let same = |sent: &LogEnd| (sent.step, sent.status, &sent.code) == (end.step, end.status, &end.code);
    sent.is_none_or(|(before, at)| !same(before) || now.saturating_duration_since(*at) >= AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::{event::StepStatus, step::Step};

    #[test]
    fn only_news_is_sent() {
        let end = |code: &str, message: &str| LogEnd {
            step: Some(Step::Plan),
            status: StepStatus::Failed,
            code: Some(code.into()),
            message: message.into(),
        };
        let at = Instant::now();
        assert!(is_due(None, &end("no-disk", "a"), at));
        let sent = (end("no-disk", "a"), at);
        assert!(!is_due(Some(&sent), &end("no-disk", "another sentence"), at + AGAIN / 2));
        assert!(is_due(Some(&sent), &end("foreign-data", "a"), at));
        assert!(is_due(Some(&sent), &end("no-disk", "a"), at + AGAIN));
    }

    #[tokio::test]
    async fn without_a_store_everything_waits() {
        let reporter = Reporter::new(uuid::Uuid::from_u128(5));
        reporter.failed(Step::Network, "no-link", "no cable");
        let teller = Teller::new(&reporter, LogPart::Installer);
        assert!(!teller.tell().await);
        let mut old = bundle(&reporter, LogPart::Installer);
        old.attempt = uuid::Uuid::from_u128(4);
        teller.inherit(vec![Waiting { bundle: old, file: None }]);
        let unsent = teller.unsent();
        assert_eq!(unsent.iter().map(|b| b.attempt.as_u128()).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(unsent[1].end.code.as_deref(), Some("no-link"));
        assert!(unsent[1].lines.contains("FAILED: no cable"));
    }
}
