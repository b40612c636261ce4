//! Real Kubernetes programs, and kubelet as a Debian package in a signed apt repository. Images of this
//! repository are built with the same setting with which a user names another one.

use crate::{
    cache::{Cache, Key},
    host::mirror::Mirrors,
    process,
    report::Report,
    sandbox::{self, Apart},
};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

const BUILD: &str = include_str!("../../kubernetes/build.sh");
const PACK: &str = include_str!("../../kubernetes/pack.sh");

/// Kubernetes, ready for use.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// Folder with kube-apiserver, kube-controller-manager, kubelet and VERSION.
    pub programs: PathBuf,
    /// Folder of the flat apt repository: Packages, Release, InRelease, keyring.asc.
    pub repository: PathBuf,
    /// For example `1.20.2`.
    pub version: String,
    /// True when both were in the cache.
    pub reused: bool,
}

impl Kubernetes {
    /// Before 1.27 a kubelet talks to containerd only when it is told that its runtime is a remote one; from
    /// 1.27 on that flag is unknown.
    #[must_use]
    pub fn kubelet_extra_args(&self) -> &'static str {
        let minor = self.version.split('.').nth(1).and_then(|m| m.parse::<u32>().ok());
        if minor.is_some_and(|m| m < 27) { "--container-runtime=remote" } else { "" }
    }
}

/// Builds and packs Kubernetes, or finds it in the cache.
///
/// # Errors
/// When a script fails.
pub fn make(cache: &Cache, mirrors: &Mirrors, lab: &Path, report: &Report) -> Result<Kubernetes> {
    let programs_key = programs_key(mirrors);
    let programs = cache.make("kubernetes", &programs_key, |folder| {
        report.line("kubernetes: building from Debian's source package (about ten minutes on two cores, once)");
        let work = folder.join(".work");
        run_script(cache, BUILD, &[mirrors.debian.as_ref(), work.as_os_str(), folder.as_os_str()], report)?;
        // The build root is gigabytes; of a user namespace's subordinate ids, so remove it from inside one.
        process::run(sandbox::command(Apart::Build, "rm".as_ref()).arg("-rf").arg(&work), "", report)
    })?;
    let key = Key::of([PACK, programs_key.hex(), &lab.to_string_lossy()]);
    let repository = cache.make("kubernetes-packages", &key, |folder| {
        report.line("kubernetes: packing kubelet into a signed apt repository");
        run_script(cache, PACK, &[lab.as_os_str(), programs.path.as_os_str(), folder.as_os_str()], report)
    })?;
    let version = std::fs::read_to_string(programs.path.join("VERSION")).context("reading Kubernetes' VERSION")?;
    let made = Kubernetes {
        version: version.trim().to_owned(),
        reused: programs.reused && repository.reused,
        programs: programs.path,
        repository: repository.path,
    };
    if made.reused {
        report.line(format!("kubernetes: {} from the cache", made.version));
    }
    Ok(made)
}

fn programs_key(mirrors: &Mirrors) -> Key {
    Key::of([BUILD, &mirrors.debian])
}

/// Writes the script that was compiled in (so that key and content cannot differ) and runs it.
fn run_script(cache: &Cache, script: &str, arguments: &[&std::ffi::OsStr], report: &Report) -> Result<()> {
    let path = cache.folder("scripts")?.join(format!("{}.sh", Key::of([script]).hex()));
    std::fs::write(&path, script).with_context(|| format!("writing {}", path.display()))?;
    let mut command = sandbox::command(Apart::Build, "sh".as_ref());
    process::run(command.arg(&path).args(arguments), "", report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kubelets_are_told_that_their_runtime_is_remote() {
        let kubernetes = |version: &str| Kubernetes {
            programs: PathBuf::new(),
            repository: PathBuf::new(),
            version: version.into(),
            reused: false,
        };
        assert_eq!(kubernetes("1.20.2").kubelet_extra_args(), "--container-runtime=remote");
        assert_eq!(kubernetes("1.33.1").kubelet_extra_args(), "");
    }
}
