//! What the region of a template is made of, and what an image of that template is told about this world.

use super::{
    ceph::CEPH,
    kubernetes::{self, Kubernetes},
    openstack,
};
use crate::{cache::Cache, host::mirror::Mirrors, report::Report, world::addresses as at};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// What machines of a template join.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Materials {
    /// A Kubernetes control plane.
    Kubernetes {
        /// Folder with kube-apiserver, kube-controller-manager and kubelet.
        programs: PathBuf,
        /// The registrar's manifest for the cluster.
        rbac: PathBuf,
    },
    /// OpenStack: message bus, databases, Keystone, Placement, Nova.
    Nova {
        /// The prepared tree.
        tree: PathBuf,
    },
    /// Ceph's monitor and manager.
    Ceph {
        /// The root with its programs.
        tree: PathBuf,
        /// The registrar's rights.
        caps: PathBuf,
    },
}

/// The machine that is installed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Shape {
    /// Memory: the least that is promised to work.
    pub memory_mib: u32,
    /// Blank disks besides the system disk.
    pub data_disks: u32,
}

/// Materials, the machine's shape, and the settings with which the image is built.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// For the region.
    pub materials: Materials,
    /// Of the machine.
    pub shape: Shape,
    /// For the image: parameters by name.
    pub parameters: Map<String, Value>,
    /// The inventory asks for a person's word for this template.
    pub person: bool,
}

/// Makes what is missing for machines of this template.
///
/// # Errors
/// When something cannot be made.
pub fn prepare(
    cache: &Cache,
    checkout: &Path,
    template: &str,
    mirrors: &Mirrors,
    lab: &Path,
    report: &Report,
) -> Result<Prepared> {
    match template {
        "storage-node" => {
            let tree = CEPH.make(cache, mirrors, report)?.path;
            Ok(Prepared {
                materials: Materials::Ceph { tree, caps: checkout.join("registrar/deploy/ceph-caps.txt") },
                shape: Shape { memory_mib: 3072, data_disks: 3 },
                parameters: object(json!({
                    "ceph.publicNetwork": at::STORE_NETWORK,
                    "ceph.smallestDisk": "8 GB",
                    // The least that Ceph accepts.
                    "ceph.osdMemoryTarget": "939524096",
                })),
                person: true,
            })
        }
        "hypervisor" => Ok(Prepared {
            materials: Materials::Nova { tree: openstack::make(cache, mirrors, report)?.path },
            shape: Shape { memory_mib: 2048, data_disks: 0 },
            parameters: object(json!({
                // Emulation in emulation: nothing else works everywhere.
                "nova.virtType": "qemu",
                "nova.cpuMode": "none",
                "nova.reservedMemoryMiB": "256",
            })),
            person: true,
        }),
        _ => {
            let kubernetes = kubernetes::make(cache, mirrors, lab, report)?;
            let parameters = parameters_for(&kubernetes);
            let rbac = checkout.join("registrar/deploy/rbac.yaml");
            let materials = Materials::Kubernetes { programs: kubernetes.programs, rbac };
            Ok(Prepared { materials, shape: Shape { memory_mib: 1024, data_disks: 0 }, parameters, person: false })
        }
    }
}

fn parameters_for(kubernetes: &Kubernetes) -> Map<String, Value> {
    object(json!({
        "kubernetes.repository.uri": format!("file://{}", kubernetes.repository.display()),
        "kubernetes.repository.signedBy": kubernetes.repository.join("keyring.asc"),
        "kubelet.extraArgs": kubernetes.kubelet_extra_args(),
    }))
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
