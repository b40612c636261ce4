//! A store and a region on one host: network namespaces, the router with the DHCP server that was there first,
//! netboot, the region with a real Kubernetes control plane and a real registrar.
//!
//! Everything here runs inside [`crate::sandbox::Apart::World`]: it owns its network, processes and mounts, and
//! the kernel takes them back when the first process ends.

pub mod addresses;
pub mod api;
pub mod certificates;
pub mod control_plane;
pub mod disk_look;
pub mod firmware;
pub mod foreign;
pub mod machine;
pub mod network;
pub mod plain;
pub mod registrar;
pub mod republish;
pub mod root;
pub mod secure_boot;
pub mod service;
pub mod slots;
pub mod store;

use self::{
    control_plane::ControlPlane,
    registrar::Registrar,
    root::Root,
    store::{NetbootSetup, Store},
};
use crate::{journey::Plan, report::Report};
use anyhow::{Context as _, Result};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// A store, a region and nothing switched on yet.
#[derive(Debug)]
pub struct World {
    /// Where its programs run.
    pub root: Root,
    /// The region's Kubernetes.
    pub control_plane: ControlPlane,
    /// The region's registrar.
    pub registrar: Registrar,
    /// The store.
    pub store: Store,
    /// How a registrar reaches the cluster.
    pub kubeconfig: PathBuf,
    /// Logs of its programs.
    pub logs: PathBuf,
}

/// Builds the world.
///
/// # Errors
/// When a part of it does not come up.
pub async fn build(plan: &Plan, report: &Report) -> Result<World> {
    let begin = Instant::now();
    let logs = make_folder(&plan.run.join("logs"))?;
    let root = Root::mount(&plan.lab, &plan.run.join("world"), &[&plan.cache, &plan.run])?;
    network::make(&root)?;
    let region = make_folder(&plan.run.join("region"))?;
    let control_plane = ControlPlane::start(&root, &plan.kubernetes, &region, &logs).await?;
    let manifest = std::fs::read_to_string(&plan.rbac).with_context(|| format!("reading {}", plan.rbac.display()))?;
    let kubeconfig = control_plane.admit_registrar(&manifest).await?;
    report.line(format!(
        "region: Kubernetes is up at {} ({:.0} s)",
        control_plane.endpoint,
        begin.elapsed().as_secs_f64()
    ));

    let registrar_folder = make_folder(&plan.run.join("registrar"))?;
    copy_folder(&plan.image.registrar_state, &registrar_folder.join("state"))?;
    let setup = registrar::Setup {
        program: &plan.registrar,
        folder: &registrar_folder,
        kubeconfig: &kubeconfig,
        api: &control_plane.endpoint,
        template: &plan.image.template,
        person: plan.person,
        port: addresses::REGISTRAR_PORT,
    };
    let registrar = Registrar::start(&root, setup, "registrar", &logs).await?;
    report.line("region: the registrar is up");

    let setup = NetbootSetup {
        program: &plan.netboot,
        repository: &plan.image.repository,
        trust: &plan.image.trust,
        credential: &registrar.store_credential,
    };
    let store = Store::start(&root, setup, &plan.run, &logs).await?;
    report.line("store: its DHCP server is up, and netboot beside it");
    Ok(World { root, control_plane, registrar, store, kubeconfig, logs })
}

impl World {
    /// Fails when a program of the world has ended.
    ///
    /// # Errors
    /// Says which, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.control_plane.check()?;
        self.registrar.check()?;
        self.store.check()
    }
}

fn make_folder(path: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    Ok(path.to_owned())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    crate::process::output(Command::new("cp").arg("-a").arg(from).arg(to))?;
    Ok(())
}
