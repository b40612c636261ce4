//! Joins under way: one task per enrollment, which goes on while the machine hangs up and asks again.

use crate::broker::{JoinBroker, JoinRequest, Readiness};
use crate::chain;
use crate::db::{Db, EnrollmentRow};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// How long one try may take before it ends with a reason.
const TRY: Duration = Duration::from_secs(60);
/// How many tries run at the same time: a store chain that comes back from a power cut must not flood the cluster.
const AT_ONCE: usize = 32;

/// Runs joins.
#[derive(Debug, Clone)]
pub struct Joins {
    db: Db,
    broker: Option<Arc<dyn JoinBroker>>,
    under_way: Arc<Mutex<HashMap<Uuid, watch::Receiver<()>>>>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Joins {
    /// Without a broker nothing joins, and everybody who asks is told so.
    #[must_use]
    pub fn new(db: Db, broker: Option<Arc<dyn JoinBroker>>) -> Self {
        Self {
            db,
            broker,
            under_way: Arc::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: TaskTracker::new(),
        }
    }

    /// Makes sure that the join of this enrollment is under way, and waits for its end, but no longer than `patience`.
    pub async fn drive(&self, row: &EnrollmentRow, patience: Duration) {
        let Some(csr) = row.csr.clone().filter(|_| row.join_material.is_none()) else { return };
        let Some(broker) = self.broker.clone() else { return };
        let mut ended = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.entry(row.id).or_insert_with(|| self.start(row.clone(), csr, broker)).clone()
        };
        // The task drops its end of the channel when it ends, which wakes everybody who waits here.
        let _ = tokio::time::timeout(patience, ended.changed()).await;
    }

    fn start(&self, row: EnrollmentRow, csr: String, broker: Arc<dyn JoinBroker>) -> watch::Receiver<()> {
        let (end, ended) = watch::channel(());
        let this = self.clone();
        self.tasks.spawn(async move {
            this.run(&row, csr, broker.as_ref()).await;
            this.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&row.id);
            drop(end);
        });
        ended
    }

    async fn run(&self, row: &EnrollmentRow, csr: String, broker: &dyn JoinBroker) {
        let Ok(_slot) = self.slots.acquire().await else { return };
        let request = JoinRequest { id: row.id, name: row.machine.clone(), csr };
        let outcome = tokio::time::timeout(TRY, broker.join(&request)).await;
        let kept = match outcome {
            Ok(Ok(material)) => {
                tracing::info!(machine = row.machine, enrollment = %row.id, "join material is ready");
                self.db.joined(row, &material, OffsetDateTime::now_utc()).await
            }
            Ok(Err(error)) => self.trouble(row, &error.to_string()).await,
            Err(_) => self.trouble(row, "the cluster did not issue the certificate within 60 s").await,
        };
        if let Err(error) = kept {
            tracing::error!(machine = row.machine, error = chain(&error), "the join's outcome was not kept");
        }
    }

    async fn trouble(&self, row: &EnrollmentRow, reason: &str) -> Result<(), crate::db::DbError> {
        tracing::warn!(machine = row.machine, enrollment = %row.id, reason, "the join has to wait");
        self.db.join_failed(row.id, reason).await
    }

    /// Asks the cluster whether this enrollment's boot is ready; `None` when it is, otherwise why not.
    pub async fn why_not_ready(&self, row: &EnrollmentRow) -> Option<String> {
        let Some(broker) = &self.broker else { return Some(NO_CLUSTER.into()) };
        match broker.readiness(&row.machine, &row.boot_id).await {
            Ok(Readiness::Ready) => None,
            Ok(Readiness::NotYet(reason)) => Some(reason),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Why a join that was not finished has to wait, for people.
    #[must_use]
    pub fn waiting_reason(&self, row: &EnrollmentRow) -> String {
        match (&self.broker, &row.join_error) {
            (None, _) => NO_CLUSTER.into(),
            (Some(_), Some(error)) => error.clone(),
            (Some(_), None) => "the cluster has not issued the certificate yet".into(),
        }
    }

    /// Waits for the joins under way; for a stop, bounded by the caller.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

const NO_CLUSTER: &str = "this registrar has no cluster configured; add `kubernetes` to its configuration";
