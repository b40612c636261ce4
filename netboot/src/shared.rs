//! What the service's tasks share, and the few operations that touch several of its parts.

use crate::{
    board::Board,
    boot_files::BootFiles,
    cache::Cache,
    config::Live,
    interface::Neighbours,
    metrics::Metrics,
    outbox::{Full, Outbox},
    page::state::PageState,
    proto::{dhcp::guids::Guids, mac::Mac},
    quiet_log::QuietLog,
    roster::{Progress, Standing},
    step_times::StepTimesFile,
    store::{Store, StoreError},
    voucher::Signer,
};
use contracts::{
    event::{Event, StepEvent, StepStatus},
    status::StoreStatus,
    step::Step,
    store::StoreCredential,
};
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

/// DHCP servers that are remembered for the status page.
const MOST_DHCP_SERVERS: usize = 16;

/// The state of the running service.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force: SIGHUP exchanges it.
    pub config: Live,
    /// The address on the store LAN.
    pub address: Ipv4Addr,
    /// `http://ADDRESS[:PORT]`.
    pub base_url: String,
    /// The store's credential.
    pub credential: StoreCredential,
    /// Its key.
    pub signer: Signer,
    /// The durable state.
    pub store: Store,
    /// The boot files.
    pub boot: BootFiles,
    /// The cache of the repository, where netboot mirrors it itself.
    pub cache: Option<Arc<Cache>>,
    /// Who is who on the LAN.
    pub neighbours: Neighbours,
    /// What each machine is doing.
    pub board: Mutex<Board>,
    /// Events for the region.
    pub outbox: Mutex<Outbox>,
    /// Rings when there is something in the outbox.
    pub outbox_bell: Notify,
    /// Rings when the assignments have changed.
    pub assignments_bell: Notify,
    /// Whether the region answered the last call.
    pub region_reachable: AtomicBool,
    /// GUIDs of DISCOVERs.
    pub guids: Mutex<Guids>,
    /// DHCP servers that clients have chosen.
    pub dhcp_servers: Mutex<BTreeSet<Ipv4Addr>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Keeps repeats out of the log.
    pub quiet: QuietLog,
    /// What the store page keeps.
    pub page: PageState,
    /// How long the steps of earlier journeys took.
    pub step_times: StepTimesFile,
}

/// Why events were not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The queue is full.
    #[error(transparent)]
    Full(#[from] Full),
    /// The ledger cannot be written.
    #[error("the ledger cannot be written")]
    Store(#[source] StoreError),
}

/// Locks; a panic elsewhere does not make counters and queues unusable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Queues one of netboot's own events.
    pub fn emit(&self, now: OffsetDateTime, mac: Mac, event: Option<StepEvent>) {
        let Some(data) = event else { return };
        let source = format!("netboot/{}", self.credential.store);
        let event = Event::new(Uuid::new_v4(), source, mac.to_string(), now, data);
        if lock(&self.outbox).push(event).is_err() {
            tracing::error!(
                "an event of {mac} is lost: the queue is full of outcomes; is the line to the region down?"
            );
        }
        self.outbox_bell.notify_one();
    }

    /// Gives a machine its entry, durably, off the async threads: it waits for the disk.
    ///
    /// # Errors
    /// [`StoreError`] when the ledger cannot be written.
    pub async fn bind(self: &Arc<Self>, mac: Mac, progress: Progress) -> Result<(), StoreError> {
        let shared = Arc::clone(self);
        blocking(move || shared.store.bind(mac, progress)).await
    }

    /// A machine asks for a boot file: from here on it holds its entry. Only machines whose firmware was heard
    /// take one, so that somebody who looks at the file with a browser does not.
    pub async fn boot_file_asked(self: &Arc<Self>, mac: Mac) {
        if !lock(&self.board).firmware_is_booting(OffsetDateTime::now_utc(), mac) {
            return;
        }
        if let Err(error) = self.bind(mac, Progress::None).await {
            tracing::error!(error = &error as &dyn std::error::Error, "{mac} could not be given its entry");
        }
    }

    /// Takes events of the agent. An install that ended well is in the ledger when this returns.
    ///
    /// # Errors
    /// [`IngestError`]: the agent keeps its events and sends them again.
    pub async fn ingest(self: &Arc<Self>, events: Vec<Event>) -> Result<(), IngestError> {
        let now = OffsetDateTime::now_utc();
        for mut event in stamp(events, now) {
            if lock(&self.outbox).knows(&event.id) {
                continue;
            }
            let Ok(mac) = event.subject.parse::<Mac>() else {
                tracing::warn!("an event names no machine (subject `{}`): dropped", event.subject.escape_default());
                continue;
            };
            event.subject = mac.to_string();
            if (event.data.step, event.data.status) == (Step::Verify, StepStatus::Done) {
                let shared = Arc::clone(self);
                let noted = blocking(move || shared.store.set_installed(mac, now)).await.map_err(IngestError::Store)?;
                tracing::info!(
                    "{mac} has a verified image on its disk{}",
                    if noted { ": noted in the ledger" } else { "" }
                );
            }
            lock(&self.board).agent_said(now, mac, &event.data);
            if (event.data.step, event.data.status) == (Step::Ready, StepStatus::Done) {
                self.learn(mac).await;
            }
            lock(&self.outbox).push(event)?;
        }
        self.outbox_bell.notify_one();
        Ok(())
    }

    /// The store at a glance.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        let now = OffsetDateTime::now_utc();
        let installed = |mac| self.store.with(|r| matches!(r.standing(mac), Standing::Listed { installed: true, .. }));
        let mut machines = lock(&self.board).machines(installed);
        for machine in &mut machines {
            let Ok(mac) = machine.mac.parse() else { continue };
            let mut template = None;
            if let Standing::Listed { machine: entry, .. } = self.store.with(|r| r.standing(mac)) {
                machine.name = Some(entry.name);
                template = Some(entry.image.template);
            }
            crate::silence::note(machine, now);
            machine.remaining = self.step_times.remaining(machine, template.as_deref(), now);
        }
        StoreStatus {
            version: contracts::VERSION,
            store: self.credential.store.clone(),
            now,
            region_reachable: self.region_reachable.load(Ordering::Relaxed),
            events_waiting: lock(&self.outbox).len(),
            events_refused: 0,
            state_problem: None,
            windows: vec![],
            dhcp_servers: lock(&self.dhcp_servers).iter().map(ToString::to_string).collect(),
            cache: self.cache.as_ref().map(|cache| cache.status()),
            machines,
        }
    }

    /// A journey has ended well: later ones can be told how long they will take.
    async fn learn(self: &Arc<Self>, mac: Mac) {
        let Some(journey) = lock(&self.board).whole_journey(mac) else { return };
        let Standing::Listed { machine, .. } = self.store.with(|r| r.standing(mac)) else { return };
        let shared = Arc::clone(self);
        blocking(move || shared.step_times.learn(&machine.image.template, &journey)).await;
    }

    /// Notes a DHCP server that a client has chosen.
    pub fn heard_dhcp_server(&self, server: Ipv4Addr) {
        let mut servers = lock(&self.dhcp_servers);
        if server != self.address && servers.len() < MOST_DHCP_SERVERS && servers.insert(server) {
            tracing::info!("the store's DHCP server {server} was heard");
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Stamps a batch as received: its latest event is now, and the others keep their distance to it, because the
/// machine's clock may be years off. A distance that says that the clock was set in between does not count.
fn stamp(mut events: Vec<Event>, now: OffsetDateTime) -> Vec<Event> {
    const BELIEVABLE: time::Duration = time::Duration::minutes(10);
    let Some(latest) = events.iter().map(|e| e.time).max() else { return events };
    for event in &mut events {
        let before = latest - event.time;
        event.time = if before <= BELIEVABLE { now - before } else { now };
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_stamped_as_received_and_keeps_its_distances() {
        let at = |seconds: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let event = |seconds| {
            let data = StepEvent {
                step: Step::Network,
                status: StepStatus::Started,
                attempt: None,
                message: String::new(),
                progress: None,
                eta_seconds: None,
                code: None,
            };
            Event::new(Uuid::new_v4(), "agent", "02:00:00:00:00:01", at(seconds), data)
        };
        let stamped = stamp(vec![event(3), event(1_000_000), event(1_000_007)], at(5000));
        let times: Vec<_> = stamped.iter().map(|e| e.time).collect();
        assert_eq!(times, [at(5000), at(4993), at(5000)]);
    }
}
