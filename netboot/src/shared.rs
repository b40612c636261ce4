//! What the service's tasks share, and the few operations that touch several of its parts.

use crate::{
    admission::Asker,
    board::Board,
    boot_files::{BootFiles, chain},
    cache::Cache,
    config::Live,
    interface::Neighbours,
    lan::desk::Lan,
    metrics::Metrics,
    names::Names,
    outbox::{Offer, Outbox, queue::Weight},
    page::state::PageState,
    permit::to_the_millisecond,
    proto::{dhcp::guids::Guids, mac::Mac},
    quiet_log::QuietLog,
    roster::{Line, Roster, Standing},
    step_times::StepTimesFile,
    store::{Store, StoreError},
    voucher::Signer,
};
use contracts::{
    event::{Event, StepEvent},
    status::StoreStatus,
    store::StoreCredential,
};
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

/// Machines whose processor is remembered.
const MOST_ARCHITECTURES: usize = 1024;

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
    /// What each machine is doing. The outbox keeps it on the disk.
    pub board: Arc<Mutex<Board>>,
    /// Events for the region.
    pub outbox: Outbox,
    /// Rings when the assignments have changed.
    pub assignments_bell: Notify,
    /// Whether the region answered the last call.
    pub region_reachable: AtomicBool,
    /// GUIDs of DISCOVERs.
    pub guids: Mutex<Guids>,
    /// Processors of machines whose firmware was heard.
    pub architectures: Mutex<BTreeMap<Mac, &'static str>>,
    /// What is known of the LAN's DHCP.
    pub lan: Lan,
    /// Addresses of the region's hosts.
    pub names: Arc<Names>,
    /// What is counted.
    pub metrics: Metrics,
    /// Keeps repeats out of the log.
    pub quiet: QuietLog,
    /// What the store page keeps.
    pub page: PageState,
    /// What machines logged.
    pub logs: crate::logs::Logs,
    /// How long the steps of earlier journeys took.
    pub step_times: StepTimesFile,
}

/// Locks; a panic elsewhere does not make counters and queues unusable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Queues one of netboot's own events, and does not wait for the disk.
    pub fn emit(&self, now: OffsetDateTime, mac: Mac, event: Option<StepEvent>) {
        let Some(data) = event else { return };
        let source = format!("netboot/{}", self.credential.store);
        let weight = Weight::of(data.status);
        let event = Event::new(Uuid::new_v4(), source, mac.to_string(), now, data);
        let posted = Offer::new(&event, Some(mac), weight).map_err(|e| chain(&e));
        if let Err(problem) = posted.and_then(|offer| self.outbox.post(offer).map_err(|e| chain(&e))) {
            tracing::error!(%mac, code = "event-lost", "an event of {mac} is lost: {problem}");
        }
    }

    /// Queues an event of another kind of netboot's own.
    pub(crate) fn post<D: serde::Serialize>(&self, event: &Event<D>, machine: Option<Mac>) {
        let posted = Offer::new(event, machine, Weight::Outcome).map_err(|e| chain(&e));
        if let Err(problem) = posted.and_then(|offer| self.outbox.post(offer).map_err(|e| chain(&e))) {
            tracing::error!("an event about {} is lost: {problem}", event.subject);
        }
    }

    /// Who a machine is to windows.
    #[must_use]
    pub fn asker(&self, mac: Mac, now: OffsetDateTime) -> Asker<'static> {
        Asker { now, architecture: lock(&self.architectures).get(&mac).copied() }
    }

    /// A machine's firmware said which processor it has.
    pub fn heard_architecture(&self, mac: Mac, architecture: &'static str) {
        let mut all = lock(&self.architectures);
        if all.len() < MOST_ARCHITECTURES || all.contains_key(&mac) {
            all.insert(mac, architecture);
        }
    }

    /// Changes a machine's line in the ledger, durably, off the async threads: it waits for the disk. A place that it takes in a
    /// window is told to the region.
    ///
    /// # Errors
    /// [`StoreError`] when the ledger cannot be written.
    pub async fn note_line(
        self: &Arc<Self>,
        mac: Mac,
        decide: impl FnOnce(&Roster) -> Option<Line> + Send + 'static,
    ) -> Result<Option<Line>, StoreError> {
        let shared = Arc::clone(self);
        blocking(move || {
            let mut before = None;
            let changed = shared.store.change(mac, |roster| {
                before = roster.ledger.get(&mac).map(|line| (line.entry.clone(), line.epoch));
                decide(roster)
            })?;
            if let Some(line) = changed.as_ref().filter(|line| before != Some((line.entry.clone(), line.epoch))) {
                tracing::info!(%mac, entry = line.entry, epoch = line.epoch, "{mac} has the entry {} now", line.entry);
                shared.place_taken(mac, &line.entry);
            }
            Ok(changed)
        })
        .await
    }

    /// A machine asks for a boot file: from here on it holds its entry. Only machines whose firmware was heard
    /// take one, so that somebody who looks at the file with a browser does not.
    pub async fn boot_file_asked(self: &Arc<Self>, mac: Mac) {
        if !lock(&self.board).firmware_is_booting(OffsetDateTime::now_utc(), mac) {
            return;
        }
        let now = OffsetDateTime::now_utc();
        let asker = self.asker(mac, now);
        let power_on = to_the_millisecond(lock(&self.board).last_power_on(mac).unwrap_or(now));
        match self.note_line(mac, move |roster| roster.begin_try(mac, power_on, asker)).await {
            Ok(Some(line)) => {
                let words = line.tries.words(now).unwrap_or_else(|| "first try".into());
                tracing::info!(%mac, code = "try", tries = line.tries.count(now), "{mac}: {words} to install {}", line.entry);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "{mac} could not be given its entry");
            }
        }
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
            (machine.tries, machine.paused_until) = self.store.with(|roster| {
                let tries = roster.tries(mac);
                (tries.map_or(0, |t| t.count(now) as u32), tries.and_then(|t| t.paused_until(now)))
            });
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
            events_waiting: self.outbox.waiting(),
            events_refused: self.outbox.refused_kept(),
            state_problem: self.state_problem(),
            windows: self.store.with(|roster| roster.windows(now)),
            dhcp_servers: self.lan.dhcp_servers().iter().map(ToString::to_string).collect(),
            cache: self.cache.as_ref().map(|cache| cache.status()),
            machines,
        }
    }

    /// A journey has ended well: later ones can be told how long they will take.
    pub(crate) async fn learn(self: &Arc<Self>, mac: Mac) {
        let Some(journey) = lock(&self.board).whole_journey(mac) else { return };
        let Standing::Listed { machine, .. } = self.store.with(|r| r.standing(mac)) else { return };
        let shared = Arc::clone(self);
        blocking(move || shared.step_times.learn(&machine.image.template, &journey)).await;
    }

    /// What of this store's own state was damaged, in a sentence for IT.
    #[must_use]
    pub fn state_problem(&self) -> Option<String> {
        let problems: Vec<_> = self.store.problem().into_iter().chain(self.outbox.problem()).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
