//! The part `ceph:` of the configuration.

use crate::yaml::Complaint;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};

/// The one that joins Ceph.
const CEPH_TEMPLATES: [&str; 1] = ["storage-node"];

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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shape {
    program: Option<PathBuf>,
    conf: PathBuf,
    keyring: PathBuf,
    name: Option<Spanned<String>>,
    fsid: Spanned<String>,
    monitors: Spanned<String>,
    templates: Option<Vec<String>>,
}

impl Shape {
    pub(super) fn validate(self, base: &Path) -> Result<CephConfig, Complaint> {
        if self.fsid.value.parse::<uuid::Uuid>().is_err() {
            return Err(Complaint::about(&self.fsid, "fsid needs the cluster's UUID, as `ceph fsid` prints it"));
        }
        if self.monitors.value.trim().is_empty() || self.monitors.value.contains('\n') {
            return Err(Complaint::about(&self.monitors, "monitors needs one line, for example [v2:10.98.0.2:3300]"));
        }
        if let Some(name) = self.name.as_ref().filter(|name| !name.value.starts_with("client.")) {
            return Err(Complaint::about(
                name,
                "name needs an entity of the kind client, for example client.registrar",
            ));
        }
        let program = self.program.unwrap_or_else(|| "ceph".into());
        Ok(CephConfig {
            // A bare name is looked for in PATH.
            program: if program.components().count() > 1 { base.join(program) } else { program },
            conf: base.join(self.conf),
            keyring: base.join(self.keyring),
            name: self.name.map_or_else(|| "client.registrar".into(), |name| name.value),
            fsid: self.fsid.value,
            monitors: self.monitors.value,
            templates: self.templates.unwrap_or_else(|| CEPH_TEMPLATES.map(str::to_owned).to_vec()),
        })
    }
}
