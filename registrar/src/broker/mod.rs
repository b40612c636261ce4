//! Join brokers: how a machine becomes a member of one kind of cluster, and whether that cluster sees it.

mod kubernetes;

pub use kubernetes::{KubernetesBroker, SetupError};

use contracts::enrollment::JoinMaterial;
use futures_util::future::BoxFuture;
use uuid::Uuid;

/// One join to be brokered. Asked again with the same id, a broker goes on where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The enrollment.
    pub id: Uuid,
    /// The admitted name.
    pub name: String,
    /// The checked CSR, PEM.
    pub csr: String,
}

/// Whether the cluster sees a boot of a machine ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// Not yet; a sentence for people.
    NotYet(String),
}

/// Why a broker could not do its part now. Always worth another try: whatever is wrong can be put right at the
/// cluster, and the machine goes on asking.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No answer, or not a useful one.
    #[error("the cluster's API server does not answer as it should: {0}")]
    Unavailable(String),
    /// An answer: no.
    #[error("the cluster did not issue the certificate: {0}")]
    NotIssued(String),
}

/// One kind of cluster.
pub trait JoinBroker: Send + Sync + std::fmt::Debug {
    /// Makes the join material for one machine. The caller bounds the time and may drop the future.
    fn join<'a>(&'a self, request: &'a JoinRequest) -> BoxFuture<'a, Result<JoinMaterial, BrokerError>>;

    /// Asks the cluster about one boot of one machine.
    fn readiness<'a>(&'a self, name: &'a str, boot_id: &'a str) -> BoxFuture<'a, Result<Readiness, BrokerError>>;
}
