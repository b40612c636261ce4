//! A region of OpenStack as a tree: packages, databases with their schemas, users, catalog and cells are made once; a run
//! starts the services from a copy on write.

use crate::{
    cache::{Cache, Entry, Key},
    host::mirror::Mirrors,
    process,
    report::Report,
    sandbox::{self, Apart},
};
use anyhow::{Context as _, Result};
use std::fs;

/// Everything below `qemu-tests/openstack/`; it goes into the tree as `/region`.
const FILES: &[(&str, &str)] = &[
    ("build.sh", include_str!("../../openstack/build.sh")),
    ("debconf", include_str!("../../openstack/debconf")),
    ("identities.py", include_str!("../../openstack/identities.py")),
    ("in-tree.sh", include_str!("../../openstack/in-tree.sh")),
    ("policy.sh", include_str!("../../openstack/policy.sh")),
    ("prepare.sh", include_str!("../../openstack/prepare.sh")),
    ("region.py", include_str!("../../openstack/region.py")),
    ("run.sh", include_str!("../../openstack/run.sh")),
    ("settings", include_str!("../../openstack/settings")),
    ("services.sh", include_str!("../../openstack/services.sh")),
];

/// Makes the tree, or finds it in the cache. The entry's path is that of the root.
///
/// # Errors
/// When a package cannot be had, or a service does not come up while the tree is prepared.
pub fn make(cache: &Cache, mirrors: &Mirrors, report: &Report) -> Result<Entry> {
    let mut inputs = vec![mirrors.debian.as_str()];
    inputs.extend(FILES.iter().map(|(_, text)| *text));
    let entry = cache.make("trees/openstack", &Key::of(&inputs), |folder| {
        report.line("openstack tree: MariaDB, RabbitMQ, Keystone, Placement and Nova, prepared (about six minutes)");
        let recipe = folder.join("recipe");
        fs::create_dir(&recipe).with_context(|| format!("making {}", recipe.display()))?;
        for (name, text) in FILES {
            let path = recipe.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        let mut command = sandbox::command(Apart::Build, "bash".as_ref());
        command.arg(recipe.join("build.sh")).arg(&mirrors.debian).arg(folder.join("root"));
        process::run(&mut command, "openstack tree: ", report).context("making the openstack tree")
    })?;
    if entry.reused {
        report.line("openstack tree: from the cache");
    }
    Ok(Entry { path: entry.path.join("root"), ..entry })
}
