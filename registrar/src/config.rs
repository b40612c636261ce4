//! `registrar serve --config FILE`: the file as read, and as validated.

use crate::yaml::{self, Complaint, YamlError};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The signer whose certificates a kubelet uses towards the API server.
pub const KUBELET_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// Long enough to compare one season's faults with the next.
const KEEP_EVENTS_DAYS: u32 = 90;

/// A validated configuration. Paths are absolute or relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The state folder made by `registrar init`.
    pub state: PathBuf,
    /// The inventory file.
    pub inventory: PathBuf,
    /// How long events and the enrollments of former boots are kept.
    pub keep_events: time::Duration,
    /// The Kubernetes cluster that machines join.
    pub kubernetes: Option<KubernetesConfig>,
}

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
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: Spanned<String>,
    kind: Spanned<String>,
    listen: Spanned<String>,
    state: PathBuf,
    inventory: PathBuf,
    keep_events_days: Option<Spanned<u32>>,
    kubernetes: Option<KubernetesShape>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KubernetesShape {
    kubeconfig: PathBuf,
    endpoint: Spanned<String>,
    signer: Option<String>,
    templates: Option<Vec<String>>,
}

/// The templates that ship with the project and join Kubernetes.
const KUBERNETES_TEMPLATES: [&str; 2] = ["k8s-control-plane", "k8s-worker"];

/// Reads and validates a configuration file; relative paths in it start at the file's own folder.
///
/// # Errors
/// [`YamlError`], placed.
pub fn read(path: &Path) -> Result<Config, YamlError> {
    let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
    validate(yaml::read(path)?, &base).map_err(|complaint| yaml::placed(path, complaint))
}

fn validate(document: Document, base: &Path) -> Result<Config, Complaint> {
    yaml::check_kind(&document.api_version, &document.kind, "Registrar")?;
    let listen = document
        .listen
        .value
        .parse()
        .map_err(|_| Complaint::about(&document.listen, "listen needs ADDRESS:PORT, for example 0.0.0.0:7443"))?;
    let kubernetes = document.kubernetes.map(|shape| validate_kubernetes(shape, base)).transpose()?;
    let days = document.keep_events_days.as_ref().map_or(KEEP_EVENTS_DAYS, |days| days.value);
    if let Some(zero) = document.keep_events_days.as_ref().filter(|days| days.value == 0) {
        return Err(Complaint::about(zero, "keepEventsDays needs at least 1: without events nobody sees what failed"));
    }
    Ok(Config {
        listen,
        state: base.join(document.state),
        inventory: base.join(document.inventory),
        keep_events: time::Duration::days(days.into()),
        kubernetes,
    })
}

fn validate_kubernetes(shape: KubernetesShape, base: &Path) -> Result<KubernetesConfig, Complaint> {
    if !shape.endpoint.value.starts_with("https://") {
        return Err(Complaint::about(&shape.endpoint, "endpoint needs an https:// URL that nodes can reach"));
    }
    Ok(KubernetesConfig {
        kubeconfig: base.join(shape.kubeconfig),
        endpoint: shape.endpoint.value,
        signer: shape.signer.unwrap_or_else(|| KUBELET_CLIENT_SIGNER.into()),
        templates: shape.templates.unwrap_or_else(|| KUBERNETES_TEMPLATES.map(str::to_owned).to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: shelfboot.dev/v1
kind: Registrar
listen: \"0.0.0.0:7443\"
state: state
inventory: /etc/inventory.yaml
kubernetes:
  kubeconfig: kubeconfig
  endpoint: https://10.98.0.2:6443
";

    fn parse(text: &str) -> Result<Config, YamlError> {
        let path = Path::new("etc/registrar.yaml");
        validate(yaml::parse(path, text)?, Path::new("etc")).map_err(|complaint| yaml::placed(path, complaint))
    }

    #[test]
    fn paths_start_at_the_file_and_the_signer_has_a_default() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.state, Path::new("etc/state"));
        assert_eq!(config.inventory, Path::new("/etc/inventory.yaml"));
        assert_eq!(config.keep_events, time::Duration::days(90));
        assert_eq!(parse(&format!("{GOOD}keepEventsDays: 7\n")).unwrap().keep_events, time::Duration::days(7));
        let kubernetes = config.kubernetes.unwrap();
        assert_eq!(kubernetes.signer, KUBELET_CLIENT_SIGNER);
        assert!(kubernetes.templates.contains(&"k8s-worker".to_owned()));
        let own = parse(&format!("{GOOD}  templates: [till-cluster]\n")).unwrap().kubernetes.unwrap();
        assert_eq!(own.templates, ["till-cluster"]);
    }

    #[test]
    fn complaints_are_placed() {
        let listen = parse(&GOOD.replace("0.0.0.0:7443", "7443")).unwrap_err().to_string();
        assert!(listen.starts_with("etc/registrar.yaml:3:9: "), "{listen}");
        let unknown = parse(&GOOD.replace("  endpoint", "  endpont")).unwrap_err().to_string();
        assert!(unknown.starts_with("etc/registrar.yaml:8:"), "{unknown}");
        let none = parse(&format!("{GOOD}keepEventsDays: 0\n")).unwrap_err().to_string();
        assert!(none.starts_with("etc/registrar.yaml:9:17: "), "{none}");
        let plain = parse(&GOOD.replace("https:", "http:")).unwrap_err().to_string();
        assert!(plain.starts_with("etc/registrar.yaml:8:13: "), "{plain}");
    }
}
