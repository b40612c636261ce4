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
    /// The Ceph cluster that machines join.
    pub ceph: Option<CephConfig>,
}

/// How the registrar reaches a Ceph cluster, and what it tells machines about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CephConfig {
    /// The program `ceph`.
    pub program: PathBuf,
    /// The cluster's ceph.conf.
    pub conf: PathBuf,
    /// The registrar's own keyring; see `deploy/ceph-caps.txt` for its rights.
    pub keyring: PathBuf,
    /// The entity in the keyring.
    pub name: String,
    /// The cluster's id.
    pub fsid: String,
    /// The monitors as machines reach them, as `mon_host` takes them.
    pub monitors: String,
    /// The templates whose machines join it.
    pub templates: Vec<String>,
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
    ceph: Option<CephShape>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CephShape {
    program: Option<PathBuf>,
    conf: PathBuf,
    keyring: PathBuf,
    name: Option<Spanned<String>>,
    fsid: Spanned<String>,
    monitors: Spanned<String>,
    templates: Option<Vec<String>>,
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

/// The one that joins Ceph.
const CEPH_TEMPLATES: [&str; 1] = ["storage-node"];

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
    let ceph = document.ceph.map(|shape| validate_ceph(shape, base)).transpose()?;
    if let Some(twice) = in_common(kubernetes.as_ref().map(|k| &k.templates), ceph.as_ref().map(|c| &c.templates)) {
        let text = format!("the template {twice} is given to two clusters; a machine joins one");
        return Err(Complaint::about(&document.kind, text));
    }
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
        ceph,
    })
}

fn in_common<'a>(one: Option<&'a Vec<String>>, other: Option<&Vec<String>>) -> Option<&'a String> {
    let other = other?;
    one?.iter().find(|template| other.contains(template))
}

fn validate_ceph(shape: CephShape, base: &Path) -> Result<CephConfig, Complaint> {
    if shape.fsid.value.parse::<uuid::Uuid>().is_err() {
        return Err(Complaint::about(&shape.fsid, "fsid needs the cluster's UUID, as `ceph fsid` prints it"));
    }
    if shape.monitors.value.trim().is_empty() || shape.monitors.value.contains('\n') {
        return Err(Complaint::about(&shape.monitors, "monitors needs one line, for example [v2:10.98.0.2:3300]"));
    }
    if let Some(name) = shape.name.as_ref().filter(|name| !name.value.starts_with("client.")) {
        return Err(Complaint::about(name, "name needs an entity of the kind client, for example client.registrar"));
    }
    let program = shape.program.unwrap_or_else(|| "ceph".into());
    Ok(CephConfig {
        // A bare name is looked for in PATH.
        program: if program.components().count() > 1 { base.join(program) } else { program },
        conf: base.join(shape.conf),
        keyring: base.join(shape.keyring),
        name: shape.name.map_or_else(|| "client.registrar".into(), |name| name.value),
        fsid: shape.fsid.value,
        monitors: shape.monitors.value,
        templates: shape.templates.unwrap_or_else(|| CEPH_TEMPLATES.map(str::to_owned).to_vec()),
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

    const CEPH: &str = "ceph:
  conf: ceph.conf
  keyring: keyring
  fsid: 3f0b5d3e-5d4a-4a64-8a4e-0d0c2a1b7f11
  monitors: \"[v2:10.98.0.2:3300]\"
";

    #[test]
    fn a_ceph_cluster_has_defaults_and_its_own_templates() {
        let ceph = parse(&format!("{GOOD}{CEPH}")).unwrap().ceph.unwrap();
        assert_eq!((ceph.program.as_path(), ceph.name.as_str()), (Path::new("ceph"), "client.registrar"));
        assert_eq!(ceph.keyring, Path::new("etc/keyring"));
        assert_eq!(ceph.templates, ["storage-node"]);
        let complaint = |text: &str| parse(text).unwrap_err().to_string();
        let fsid = complaint(&format!("{GOOD}{CEPH}").replace("3f0b5d3e-", ""));
        assert!(fsid.starts_with("etc/registrar.yaml:12:9: "), "{fsid}");
        let name = complaint(&format!("{GOOD}{CEPH}  name: osd.1\n"));
        assert!(name.contains("client.registrar"), "{name}");
        let twice = complaint(&format!("{GOOD}{CEPH}  templates: [k8s-worker]\n"));
        assert!(twice.contains("k8s-worker is given to two clusters"), "{twice}");
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
