//! The part `kubernetes:` of the configuration.

use crate::yaml::Complaint;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};

/// The signer whose certificates a kubelet uses towards the API server.
pub const KUBELET_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// The templates that ship with the project and join Kubernetes.
const KUBERNETES_TEMPLATES: [&str; 2] = ["k8s-control-plane", "k8s-worker"];

/// How the registrar reaches the cluster, and what it tells nodes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// The registrar's own credential; see `deploy/rbac.yaml` for its rights.
    pub kubeconfig: PathBuf,
    /// The API server as nodes reach it.
    pub endpoint: String,
    /// The CSR signer.
    pub signer: String,
    /// The templates whose machines join it.
    pub templates: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shape {
    kubeconfig: PathBuf,
    endpoint: Spanned<String>,
    signer: Option<String>,
    templates: Option<Vec<String>>,
}

impl Shape {
    pub(super) fn validate(self, base: &Path) -> Result<KubernetesConfig, Complaint> {
        if !self.endpoint.value.starts_with("https://") {
            return Err(Complaint::about(&self.endpoint, "endpoint needs an https:// URL that nodes can reach"));
        }
        Ok(KubernetesConfig {
            kubeconfig: base.join(self.kubeconfig),
            endpoint: self.endpoint.value,
            signer: self.signer.unwrap_or_else(|| KUBELET_CLIENT_SIGNER.into()),
            templates: self.templates.unwrap_or_else(|| KUBERNETES_TEMPLATES.map(str::to_owned).to_vec()),
        })
    }
}
