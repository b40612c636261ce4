//! Keeps the store's assignments current by a long poll.

use super::{backoff::Backoff, client::Region};
use crate::{boot_files::chain, shared::Shared};
use contracts::store::StoreAssignments;
use reqwest::StatusCode;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// The registrar holds a poll for some 25 s.
const POLL_TIMEOUT: Duration = Duration::from_secs(60);
/// A registrar that answers at once without news must not be asked without pause.
const SHORTEST_ROUND: Duration = Duration::from_secs(1);
pub(crate) const LARGEST: usize = 4 << 20;

/// Runs until told to stop.
pub async fn run(shared: Arc<Shared>, region: Arc<Region>, stop: CancellationToken) {
    let (mut backoff, mut reachable) = (Backoff::default(), false);
    loop {
        let began = Instant::now();
        let polled = tokio::select! {
            () = stop.cancelled() => return,
            polled = poll(&shared, &region, reachable) => polled,
        };
        reachable = polled.is_ok();
        if shared.region_reachable.swap(reachable, Ordering::Relaxed) != reachable && reachable {
            tracing::info!(code = "region-answers", "the region answers");
        }
        let pause = match polled {
            Ok(news) => {
                backoff.reset();
                if news { Duration::ZERO } else { SHORTEST_ROUND.saturating_sub(began.elapsed()) }
            }
            Err(problem) => {
                let pause = backoff.wait(&mut rand::rng());
                if shared.quiet.due(began, "region", &problem).is_some() {
                    tracing::warn!(
                        code = "no-answer",
                        "no assignments from the region, the known ones stay in force: {problem}"
                    );
                }
                pause
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks once. True when there was news. Without `hold`, the registrar answers at once: after a start or a failure,
/// that tells whether the line is up.
async fn poll(shared: &Arc<Shared>, region: &Region, hold: bool) -> Result<bool, String> {
    let known = shared.store.with(|r| r.assignments.as_ref().map(|a| a.generation));
    let cursor = known.filter(|_| hold).map(|generation| format!("?after={generation}")).unwrap_or_default();
    let url = |base: &str| format!("{base}/v1/store/assignments{cursor}");
    let called = region.call(|client, base| client.get(url(base)).timeout(POLL_TIMEOUT)).await;
    let mut response = called.map_err(|e| chain(&e))?;
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|e| chain(&e))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LARGEST {
            return Err(format!("the assignments are larger than {LARGEST} bytes"));
        }
    }
    let document: StoreAssignments = contracts::read(&bytes).map_err(|e| chain(&e))?;
    if !is_news(known, &shared.credential.store, &document)? {
        return Ok(false);
    }
    let (generation, machines) = (document.generation, document.machines.len());
    let store = Arc::clone(shared);
    // It waits for the disk: nothing is decided from a document that a power cut could take back.
    let written = tokio::task::spawn_blocking(move || store.store.set_assignments(document)).await;
    written.map_err(|e| chain(&e))?.map_err(|e| chain(&e))?;
    tracing::info!(
        code = "assignments",
        generation,
        machines,
        "assignments of generation {generation}: {machines} machines"
    );
    shared.assignments_bell.notify_one();
    Ok(true)
}

/// Whether a document is to be used.
fn is_news(known: Option<u64>, store: &str, document: &StoreAssignments) -> Result<bool, String> {
    if document.store != store {
        return Err(format!("the registrar sent the assignments of store `{}`, this is `{store}`", document.store));
    }
    match known {
        Some(known) if document.generation < known => Err(format!(
            "the registrar offers generation {}, this store already has {known}: if the registrar was set up \
             anew, remove this store's state folder",
            document.generation
        )),
        known => Ok(known != Some(document.generation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_documents_of_this_store_are_news() {
        let document = |generation| StoreAssignments {
            version: 1,
            store: "s".into(),
            generation,
            machines: vec![],
            windows: vec![],
            orders: vec![],
            retired: vec![],
            staging: None,
        };
        assert_eq!(is_news(None, "s", &document(0)), Ok(true));
        assert_eq!(is_news(Some(3), "s", &document(3)), Ok(false));
        assert_eq!(is_news(Some(3), "s", &document(4)), Ok(true));
        assert!(is_news(Some(3), "s", &document(2)).is_err());
        assert!(is_news(None, "t", &document(9)).is_err());
    }
}
