//! The root in which the world's programs run: the lab tree below a tmpfs, so that the cached tree stays as it
//! was made, with the cache and the run folder at their own paths.

use crate::process;
use anyhow::{Context as _, Result};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The world's root.
#[derive(Debug, Clone)]
pub struct Root {
    path: PathBuf,
    visible: Vec<PathBuf>,
}

impl Root {
    /// Mounts it. The caller has its own mount namespace; nothing is ever unmounted by hand.
    ///
    /// # Errors
    /// When a mount fails.
    pub fn mount(lab: &Path, scratch: &Path, visible: &[&Path]) -> Result<Self> {
        let make = |path: &Path| std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()));
        make(scratch)?;
        mount(["-t", "tmpfs", "-o", "mode=0755", "tmpfs"], scratch)?;
        let [upper, work, path] = ["upper", "work", "root"].map(|name| scratch.join(name));
        [&upper, &work, &path].into_iter().try_for_each(|p| make(p))?;
        let layers = format!("lowerdir={},upperdir={},workdir={}", lab.display(), upper.display(), work.display());
        mount(["-t", "overlay", "-o", &layers, "overlay"], &path)?;
        mount(["-t", "tmpfs", "-o", "mode=0755", "tmpfs"], &path.join("run"))?;
        mount(["-t", "tmpfs", "-o", "mode=1777", "tmpfs"], &path.join("tmp"))?;
        for folder in ["/proc", "/sys", "/dev"] {
            mount(["--rbind", folder], &path.join(&folder[1..]))?;
        }
        for folder in visible {
            let inside = path.join(folder.strip_prefix("/").unwrap_or(folder));
            make(&inside)?;
            mount([std::ffi::OsStr::new("--bind"), folder.as_os_str()], &inside)?;
        }
        make(&path.join("run/netns"))?;
        Ok(Self { path, visible: visible.iter().map(|folder| (*folder).to_owned()).collect() })
    }

    /// Another root beside this one, with the same folders visible and the same network namespaces; those that were made by
    /// now.
    ///
    /// # Errors
    /// When a mount fails.
    pub fn another(&self, tree: &Path, scratch: &Path) -> Result<Self> {
        let visible: Vec<&Path> = self.visible.iter().map(PathBuf::as_path).collect();
        let other = Self::mount(tree, scratch, &visible)?;
        mount(
            [std::ffi::OsStr::new("--rbind"), self.path.join("run/netns").as_os_str()],
            &other.path.join("run/netns"),
        )?;
        Ok(other)
    }

    /// A program of the root, in this process' network namespace: the store's LAN.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.path).arg(program);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").current_dir("/");
        command
    }

    /// A program of the root, in a named network namespace.
    #[must_use]
    pub fn command_in(&self, namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

fn mount<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>, target: &Path) -> Result<()> {
    let mut command = Command::new("mount");
    command.args(arguments).arg(target);
    process::output(&mut command).with_context(|| format!("mounting {}", target.display()))?;
    Ok(())
}
