//! What machines become members of: a real cluster in the region's namespace, and what it says about its members.

pub mod ceph;
pub mod kubernetes;
mod node;
pub mod nova;

use self::{ceph::Ceph, kubernetes::ControlPlane, nova::Nova};
use super::root::Root;
use crate::{journey::Plan, materials::region::Materials};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// A running cluster.
#[derive(Debug)]
pub enum Region {
    /// Kubernetes, and the registrar's kubeconfig for it.
    Kubernetes(Box<ControlPlane>, PathBuf),
    /// Ceph.
    Ceph(Box<Ceph>),
    /// OpenStack.
    Nova(Box<Nova>),
}

/// A machine, as its cluster shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The cluster calls it ready.
    pub ready: bool,
    /// Why not, in the cluster's words.
    pub reason: String,
    /// The boot that the cluster has seen.
    pub boot_id: String,
    /// The cluster's own lines about it.
    pub words: String,
}

impl Region {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When a program of it does not come up.
    pub async fn start(plan: &Plan, root: &Root, folder: &Path, logs: &Path) -> Result<Self> {
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
        match &plan.region {
            Materials::Kubernetes { programs, rbac } => {
                let plane = ControlPlane::start(root, programs, folder, logs).await?;
                let kubeconfig = plane.admit_registrar(&read(rbac)?).await?;
                Ok(Self::Kubernetes(Box::new(plane), kubeconfig))
            }
            Materials::Nova { tree } => Ok(Self::Nova(Box::new(Nova::start(root, tree, folder, logs).await?))),
            Materials::Ceph { tree, caps } => {
                let disks = plan.shape.data_disks;
                Ok(Self::Ceph(Box::new(Ceph::start(root, tree, folder, logs, &read(caps)?, disks).await?)))
            }
        }
    }

    /// In words.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kubernetes(..) => "Kubernetes",
            Self::Ceph(_) => "Ceph",
            Self::Nova(_) => "OpenStack",
        }
    }

    /// The Kubernetes control plane.
    ///
    /// # Errors
    /// When it is another cluster.
    pub fn kubernetes(&self) -> Result<&ControlPlane> {
        match self {
            Self::Kubernetes(plane, _) => Ok(plane),
            _ => bail!("this case needs a template whose machines join Kubernetes"),
        }
    }

    /// The Ceph cluster.
    ///
    /// # Errors
    /// When it is another one.
    pub fn ceph(&self) -> Result<&Ceph> {
        match self {
            Self::Ceph(ceph) => Ok(ceph),
            _ => bail!("this case needs a template whose machines join Ceph"),
        }
    }

    /// OpenStack.
    ///
    /// # Errors
    /// When it is another one.
    pub fn nova(&self) -> Result<&Nova> {
        match self {
            Self::Nova(nova) => Ok(nova),
            _ => bail!("this case needs a template whose machines join Nova"),
        }
    }

    /// Fails when one of its programs has ended.
    ///
    /// # Errors
    /// Says which, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        match self {
            Self::Kubernetes(plane, _) => plane.check(),
            Self::Ceph(ceph) => ceph.check(),
            Self::Nova(nova) => nova.check(),
        }
    }

    /// The root in which the registrar finds the cluster's own commands.
    #[must_use]
    pub fn root<'a>(&'a self, world: &'a Root) -> &'a Root {
        match self {
            Self::Kubernetes(..) => world,
            Self::Ceph(ceph) => &ceph.root,
            Self::Nova(nova) => &nova.root,
        }
    }

    /// The registrar's part of its configuration for this cluster: a name and its fields.
    #[must_use]
    pub fn configuration(&self) -> (&'static str, Value) {
        match self {
            Self::Kubernetes(plane, kubeconfig) => {
                ("kubernetes", json!({"kubeconfig": kubeconfig, "endpoint": plane.endpoint}))
            }
            Self::Ceph(ceph) => ("ceph", ceph.configuration()),
            Self::Nova(nova) => ("nova", nova.configuration()),
        }
    }

    /// How often it may be asked: Kubernetes answers from memory, the others start programs or ask the machine.
    #[must_use]
    pub fn ask_every(&self) -> Duration {
        match self {
            Self::Kubernetes(..) => Duration::from_millis(250),
            Self::Ceph(_) | Self::Nova(_) => Duration::from_secs(1),
        }
    }

    /// Asks the cluster about one machine, with an administrator's rights; `None` while it does not know it.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn member(&self, name: &str) -> Result<Option<Member>> {
        match self {
            Self::Kubernetes(plane, _) => node::get(&plane.api, name).await,
            Self::Ceph(ceph) => ceph.member(name).await,
            Self::Nova(nova) => nova.member(name).await,
        }
    }
}
