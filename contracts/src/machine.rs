//! What an installed image tells its own agent: `/usr/lib/shelfboot/machine.json`, made by image-builder from
//! the template and protected by dm-verity like everything else in the root.

use serde::{Deserialize, Serialize};

/// Where the document lies in an image's root.
pub const MACHINE_CONFIG_PATH: &str = "/usr/lib/shelfboot/machine.json";

/// The template's part that the machine itself needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The template's name.
    pub template: String,
    /// The image's version.
    pub image_version: String,
    /// Absolute paths of folders that are bound from the state partition.
    pub persist: Vec<String>,
    /// How this machine joins its cluster.
    pub join: JoinConfig,
}

/// The join driver and what the template sets for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "driver")]
pub enum JoinConfig {
    /// A Kubernetes node by certificate signing request.
    Kubernetes {
        /// Where the kubelet's kubeconfig is written.
        kubeconfig: String,
        /// Folder for the kubelet's key and certificate.
        pki_dir: String,
        /// Where the cluster's CA certificates are written.
        ca_file: String,
        /// The unit that is started after that.
        unit: String,
        /// The kubelet's own health endpoint, for example `http://127.0.0.1:10248/healthz`.
        health_url: String,
    },
}
