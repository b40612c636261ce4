//! `registrar serve --config FILE`: the file as read, and as validated.

use crate::yaml::{self, Complaint, YamlError};
use serde::Deserialize;
use serde_saphyr::Spanned;
mod ceph;
mod kubernetes;
mod nova;

pub use ceph::CephConfig;
pub use kubernetes::{KUBELET_CLIENT_SIGNER, KubernetesConfig};
pub use nova::NovaConfig;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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
    /// The region of OpenStack whose hypervisors machines become.
    pub nova: Option<NovaConfig>,
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
    kubernetes: Option<kubernetes::Shape>,
    ceph: Option<ceph::Shape>,
    nova: Option<nova::Shape>,
}

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
    let kubernetes = document.kubernetes.map(|shape| shape.validate(base)).transpose()?;
    let ceph = document.ceph.map(|shape| shape.validate(base)).transpose()?;
    let nova = document.nova.map(|shape| shape.validate(base)).transpose()?;
    let served = [
        kubernetes.as_ref().map(|cluster| &cluster.templates),
        ceph.as_ref().map(|cluster| &cluster.templates),
        nova.as_ref().map(|cluster| &cluster.templates),
    ];
    let mut seen = HashSet::new();
    if let Some(twice) = served.into_iter().flatten().flatten().find(|template| !seen.insert(*template)) {
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
        nova,
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

    const NOVA: &str = "nova:
  keystone: http://10.98.0.2:5000/v3/
  region: north
  passwordFile: keystone-password
  bus:
    address: 10.98.0.2:5672
    management: http://10.98.0.2:15672
    passwordFile: bus-password
";

    #[test]
    fn nova_has_defaults_and_https_needs_its_ca() {
        let nova = parse(&format!("{GOOD}{NOVA}")).unwrap().nova.unwrap();
        assert_eq!((nova.keystone.as_str(), nova.bus_vhost.as_str()), ("http://10.98.0.2:5000/v3", "/"));
        assert_eq!(nova.bus_password_file, Path::new("etc/bus-password"));
        assert_eq!(nova.templates, ["hypervisor"]);
        let complaint = |text: &str| parse(text).unwrap_err().to_string();
        let ca = complaint(&format!("{GOOD}{NOVA}").replace("keystone: http:", "keystone: https:"));
        assert!(ca.starts_with("etc/registrar.yaml:10:13: ") && ca.contains("`ca:`"), "{ca}");
        let bus = complaint(&format!("{GOOD}{NOVA}").replace("0.2:5672", "0.2"));
        assert!(bus.starts_with("etc/registrar.yaml:14:14: "), "{bus}");
        let tls = complaint(&format!("{GOOD}{NOVA}").replace("    address", "    tls: true\n    address"));
        assert!(tls.starts_with("etc/registrar.yaml:14:10: ") && tls.contains("`ca:`"), "{tls}");
        let none = complaint(&format!("{GOOD}{NOVA}  discover: []\n"));
        assert!(none.contains("nova-manage"), "{none}");
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
