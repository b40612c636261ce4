//! Joins under way: one task per machine, which goes on while the machine hangs up and asks again. Two at a time for one
//! machine, of two boots, would give it what belongs to the other.

use crate::broker::{Brokers, JoinBroker, JoinRequest, Readiness};
use crate::chain;
use crate::db::{Db, EnrollmentRow};
use contracts::enrollment::Csr;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

/// How long one try may take before it ends with a reason.
const TRY: Duration = Duration::from_secs(60);
/// How many tries run at the same time: a store chain that comes back from a power cut must not flood the cluster.
const AT_ONCE: usize = 32;

/// Runs joins.
#[derive(Debug, Clone)]
pub struct Joins {
    db: Db,
    brokers: Arc<Brokers>,
    under_way: Arc<Mutex<HashMap<String, watch::Receiver<()>>>>,
    slots: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Joins {
    /// A machine whose template has no broker does not join, and is told so.
    #[must_use]
    pub fn new(db: Db, brokers: Arc<Brokers>) -> Self {
        Self {
            db,
            brokers,
            under_way: Arc::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            questions: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: TaskTracker::new(),
        }
    }

    /// Makes sure that the join of this enrollment is under way, and waits for its end, but no longer than `patience`.
    pub async fn drive(&self, row: &EnrollmentRow, patience: Duration) {
        let Some(csrs) = row.asked.clone().filter(|_| row.join_material.is_none()) else { return };
        let Some(broker) = self.brokers.of(&row.template).cloned() else { return };
        let mut ended = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.entry(row.machine.clone()).or_insert_with(|| self.start(row.clone(), csrs, broker)).clone()
        };
        // The task drops its end of the channel when it ends, which wakes everybody who waits here.
        let _ = tokio::time::timeout(patience, ended.changed()).await;
    }

    fn start(&self, row: EnrollmentRow, csrs: Vec<Csr>, broker: Arc<dyn JoinBroker>) -> watch::Receiver<()> {
        let (end, ended) = watch::channel(());
        let this = self.clone();
        self.tasks.spawn(async move {
            this.run(&row, csrs, broker.as_ref()).await;
            this.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&row.machine);
            drop(end);
        });
        ended
    }

    async fn run(&self, row: &EnrollmentRow, csrs: Vec<Csr>, broker: &dyn JoinBroker) {
        let Ok(_slot) = self.slots.acquire().await else { return };
        let request = JoinRequest { id: row.id, name: row.machine.clone(), csrs };
        let outcome = tokio::time::timeout(TRY, broker.join(&request)).await;
        let kept = match outcome {
            Ok(Ok(material)) => {
                tracing::info!(machine = row.machine, enrollment = %row.id, "join material is ready");
                self.db.joined(row, &material, OffsetDateTime::now_utc()).await
            }
            Ok(Err(error)) => self.trouble(row, &error.to_string()).await,
            Err(_) => self.trouble(row, "the cluster did not answer within 60 s").await,
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
        let Some(broker) = self.brokers.of(&row.template) else { return Some(no_broker(&row.template)) };
        // Every machine of a region asks every other second after a power cut.
        let Ok(_slot) = self.questions.acquire().await else { return Some("the registrar is stopping".into()) };
        match broker.readiness(&row.machine, &row.boot_id).await {
            Ok(Readiness::Ready) => None,
            Ok(Readiness::NotYet(reason)) => Some(reason),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Why a join that was not finished has to wait, for people.
    #[must_use]
    pub fn waiting_reason(&self, row: &EnrollmentRow) -> String {
        match (self.brokers.of(&row.template), &row.join_error) {
            (None, _) => no_broker(&row.template),
            (Some(_), Some(error)) => error.clone(),
            (Some(_), None) => "the cluster has not answered yet".into(),
        }
    }

    /// Waits for the joins under way; for a stop, bounded by the caller.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn no_broker(template: &str) -> String {
    format!("this registrar has no cluster for the template {template}; add one to its configuration")
}
