//! Join brokers: how a machine becomes a member of one kind of cluster, and whether that cluster sees it.
//! docs/join-drivers.md shows how to write one.

mod ceph;
mod command;
mod kubernetes;
mod nova;

pub use ceph::CephBroker;
pub use kubernetes::{KubernetesBroker, Unusable as KubernetesUnusable, check as check_kubernetes};
pub use nova::{NovaBroker, Unusable as NovaUnusable};

use crate::config::Config;
use contracts::enrollment::{Csr, JoinMaterial};
use futures_util::future::BoxFuture;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// One join to be brokered. Asked again with the same id, a broker goes on where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The enrollment.
    pub id: Uuid,
    /// The admitted name.
    pub name: String,
    /// What [`JoinBroker::check`] made of the machine's CSRs.
    pub csrs: Vec<Csr>,
}

/// Whether the cluster sees a boot of a machine ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// Not yet; a sentence for people.
    NotYet(String),
}

/// Why a machine does not get what it asks for: a stable code, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// For example `csr-subject`.
    pub code: &'static str,
    /// Why, and what to do.
    pub reason: String,
}

/// Why a broker could not do its part now. Always worth another try: whatever is wrong can be put right at the
/// cluster, and the machine goes on asking.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No answer, or not a useful one.
    #[error("the cluster does not answer as it should: {0}")]
    Unavailable(String),
    /// An answer: no.
    #[error("the cluster did not issue the certificate: {0}")]
    NotIssued(String),
    /// This kind of cluster cannot take back what it gave; says what a person can do.
    #[error("{0}")]
    NotRevocable(String),
}

/// One kind of cluster.
pub trait JoinBroker: Send + Sync + std::fmt::Debug {
    /// Whether a machine of this name may have what it asks for; gives the CSRs as they are kept: exactly what was
    /// checked. Pure: it runs while the database is locked.
    ///
    /// # Errors
    /// [`Objection`].
    fn check(&self, name: &str, csrs: &[Csr]) -> Result<Vec<Csr>, Objection>;

    /// Makes the join material for one machine. The caller bounds the time and may drop the future.
    fn join<'a>(&'a self, request: &'a JoinRequest) -> BoxFuture<'a, Result<JoinMaterial, BrokerError>>;

    /// Asks the cluster about one boot of one machine.
    fn readiness<'a>(&'a self, name: &'a str, boot_id: &'a str) -> BoxFuture<'a, Result<Readiness, BrokerError>>;

    /// Makes what the machine was given useless at the cluster, and ends what it has open there. Harmless to repeat.
    /// Gives sentences for people: what was done.
    fn revoke<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, BrokerError>>;
}

/// Why a cluster's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Kubernetes.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesUnusable),
    /// Nova.
    #[error(transparent)]
    Nova(#[from] NovaUnusable),
}

/// For drivers that hand out no certificates.
fn no_certificates(csrs: &[Csr]) -> Result<Vec<Csr>, Objection> {
    match csrs.first() {
        None => Ok(Vec::new()),
        Some(csr) => {
            let reason = format!("no certificates are issued here for the purpose `{}`", csr.purpose);
            Err(Objection { code: "csr-purpose", reason })
        }
    }
}

impl Brokers {
    /// The brokers that a configuration names. Nothing is connected yet.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn of_config(config: &Config) -> Result<Self, SetupError> {
        let mut brokers = Self::default();
        if let Some(cluster) = &config.kubernetes {
            brokers.serve(&cluster.templates, Arc::new(KubernetesBroker::new(cluster).await?));
        }
        if let Some(cluster) = &config.ceph {
            brokers.serve(&cluster.templates, Arc::new(CephBroker::new(cluster)));
        }
        if let Some(cluster) = &config.nova {
            brokers.serve(&cluster.templates, Arc::new(NovaBroker::new(cluster)?));
        }
        Ok(brokers)
    }
}

/// Which broker serves which template.
#[derive(Debug, Clone, Default)]
pub struct Brokers(HashMap<String, Arc<dyn JoinBroker>>);

impl Brokers {
    /// Gives these templates to a broker; a template has one.
    pub fn serve(&mut self, templates: &[String], broker: Arc<dyn JoinBroker>) {
        self.0.extend(templates.iter().map(|template| (template.clone(), Arc::clone(&broker))));
    }

    /// The broker of a template.
    #[must_use]
    pub fn of(&self, template: &str) -> Option<&Arc<dyn JoinBroker>> {
        self.0.get(template)
    }
}
