//! Debian 13 roots with the programs of the test world, made by mmdebstrap. The host needs none of them, and Debian 12 and
//! 13 hosts test with the same versions.

use crate::{
    cache::{Cache, Entry, Key},
    host::mirror::Mirrors,
    process,
    report::Report,
    sandbox::{self, Apart},
};
use anyhow::{Context as _, Result};

const SUITE: &str = "trixie";

/// Raised when the recipe below changes in a way that the package list does not show.
const RECIPE: &str = "1";

/// One such root.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    /// Its name in messages and in the cache.
    pub name: &'static str,
    /// What it is for, and how long it takes to make.
    pub about: &'static str,
    /// What is installed.
    pub packages: &'static [&'static str],
}

impl Tree {
    /// Makes it, or finds it in the cache. The entry's path is that of the root.
    ///
    /// # Errors
    /// When mmdebstrap fails.
    pub fn make(&self, cache: &Cache, mirrors: &Mirrors, report: &Report) -> Result<Entry> {
        let Self { name, about, packages } = self;
        let mut inputs = vec![RECIPE, SUITE, &mirrors.debian];
        inputs.extend(*packages);
        let entry = cache.make(&format!("trees/{name}"), &Key::of(&inputs), |folder| {
            report.line(format!("{name} tree: {about}"));
            let root = folder.join("root");
            let mut command = sandbox::command(Apart::Build, "mmdebstrap".as_ref());
            command
                // Root of a user namespace may not mount the sysfs of a network namespace that it does not own, and no
                // package here needs it.
                .args(["--variant=minbase", "--mode=root", "--quiet", "--skip=chroot/mount/sys"])
                .arg(format!("--include={}", packages.join(",")))
                .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""])
                .args(
                    ["doc", "man", "locale", "info"].map(|part| format!("--dpkgopt=path-exclude=/usr/share/{part}/*")),
                )
                .arg(SUITE)
                .arg(&root)
                .arg(format!("deb {} {SUITE} main", mirrors.debian));
            process::run(&mut command, &format!("{name} tree: "), report)
                .with_context(|| format!("making the {name} tree"))
        })?;
        if entry.reused {
            report.line(format!("{name} tree: from the cache"));
        }
        Ok(Entry { path: entry.path.join("root"), ..entry })
    }
}
