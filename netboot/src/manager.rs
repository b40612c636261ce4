//! Tells a service manager how the service is (sd_notify(3)). Without one, nothing happens.

use crate::shared::{Shared, lock};
use sd_notify::NotifyState;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager could not be told: {error}");
    }
}

/// The service answers.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] follows.
pub fn reloading() {
    // CLOCK_MONOTONIC tells the manager which of several reloads this is.
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let microseconds = now.map_or(0, |t| i128::from(t.tv_sec()) * 1_000_000 + i128::from(t.tv_nsec()) / 1000);
    let line = format!("MONOTONIC_USEC={microseconds}");
    tell(&[NotifyState::Reloading, NotifyState::Custom(&line)]);
}

/// The service ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the manager's watchdog as long as the service does its work: tasks are scheduled, and nobody holds the locks that
/// every answer needs.
pub async fn watchdog(shared: Arc<Shared>, stop: CancellationToken) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let every = (patience / 3).max(Duration::from_millis(10));
    loop {
        let look = Arc::clone(&shared);
        let looked = tokio::task::spawn_blocking(move || {
            let _ = look.store.with(|roster| roster.ledger.len());
            drop(lock(&look.board));
            let _ = look.outbox.waiting();
        });
        match tokio::time::timeout(every, looked).await {
            Ok(Ok(())) => tell(&[NotifyState::Watchdog]),
            _ => tracing::error!("the service hangs: the watchdog is not fed"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}
