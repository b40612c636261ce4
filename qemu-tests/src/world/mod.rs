//! A store and a region on one host: network namespaces, the router with the DHCP server that was there first,
//! netboot, the region with a real cluster and a real registrar.
//!
//! Everything here runs inside [`crate::sandbox::Apart::World`]: it owns its network, processes and mounts, and
//! the kernel takes them back when the first process ends.

pub mod addresses;
pub mod api;
pub mod certificates;
pub mod disk_look;
pub mod firmware;
pub mod foreign;
pub mod install_guest;
pub mod machine;
pub mod netboot;
pub mod network;
pub mod picture;
pub mod plain;
pub mod region;
pub mod registrar;
pub mod republish;
pub mod root;
pub mod secure_boot;
pub mod servers;
pub mod service;
pub mod slots;
pub mod state_look;
pub mod store;
pub mod tagged;
mod tpm;

use self::{
    netboot::NetbootSetup,
    region::Region,
    registrar::{Registrar, Selector},
    root::Root,
    store::Store,
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
    /// What machines join.
    pub region: Region,
    /// How long that took to start: no part of any journey.
    pub region_seconds: f64,
    /// The region's registrar.
    pub registrar: Registrar,
    /// The store.
    pub store: Store,
    /// Logs of its programs.
    pub logs: PathBuf,
}

/// Builds the world; `machines` is the store's inventory.
///
/// # Errors
/// When a part of it does not come up.
pub async fn build(plan: &Plan, machines: &[(&str, Selector<'_>)], report: &Report) -> Result<World> {
    let logs = make_folder(&plan.run.join("logs"))?;
    let root = Root::mount(&plan.lab, &plan.run.join("world"), &[&plan.cache, &plan.run])?;
    network::make(&root)?;
    let folder = make_folder(&plan.run.join("region"))?;
    let begin = Instant::now();
    let region = Region::start(plan, &root, &folder, &logs).await?;
    let region_seconds = begin.elapsed().as_secs_f64();
    report.line(format!("region: {} is up at {} ({region_seconds:.0} s)", region.name(), addresses::REGION));

    let registrar_folder = make_folder(&plan.run.join("registrar"))?;
    copy_folder(&plan.image.registrar_state, &registrar_folder.join("state"))?;
    let setup = registrar::Setup {
        program: &plan.registrar,
        folder: &registrar_folder,
        region: Some(&region),
        machines,
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
    Ok(World { root, region, region_seconds, registrar, store, logs })
}

impl World {
    /// Fails when a program of the world has ended.
    ///
    /// # Errors
    /// Says which, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.region.check()?;
        self.registrar.check()?;
        self.store.check()
    }
}

pub(crate) fn make_folder(path: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    Ok(path.to_owned())
}

pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    crate::process::output(Command::new("cp").arg("-a").arg(from).arg(to))?;
    Ok(())
}
