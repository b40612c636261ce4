//! The root that templates are applied to: the packages' tree without what an image leaves out, with the kernel's module lists.

use crate::{
    cache::Cache,
    command::{CommandError, Sandbox},
    debian, exclude,
    files::{FileError, InputHash},
    packages::{bootstrap::BootstrapError, lock::Layer},
    report::Reporter,
    trees,
};
use profiles::MachineTemplate;
use std::path::{Path, PathBuf};

/// Raised when this module makes another root from the same tree.
const RECIPE: &str = "1";

/// What is left out of every image. Nothing of it is needed at run time, much of it differs between two builds.
const NEVER: &[&str] = &[
    "/boot/*",
    "/initrd.img*",
    "/vmlinuz*",
    "/etc/apt/sources.list*",
    // The build host's name servers, kept by a maintainer script.
    "/etc/.resolv.conf.*",
    "/etc/hostname",
    "/etc/machine-id",
    "/etc/ssh/ssh_host_*",
    "/etc/.pwd.lock",
    "/etc/*-",
    "/run/*",
    "/tmp/*",
    "/dev/*",
    "/usr/share/doc",
    "/usr/share/info",
    "/usr/share/lintian",
    "/usr/share/locale",
    "/usr/share/man",
    "/var/backups/*",
    "/var/cache/*",
    "/var/lib/apt",
    // `status` stays: it is the list of packages that scanners look for.
    // systemd-tmpfiles makes it a link to the machine's own.
    "/var/lib/dbus/machine-id",
    "/var/lib/dpkg/*-old",
    "/var/lib/dpkg/a*",
    "/var/lib/dpkg/diversions*",
    "/var/lib/dpkg/info",
    "/var/lib/dpkg/lock*",
    "/var/lib/dpkg/parts",
    "/var/lib/dpkg/statoverride*",
    "/var/lib/dpkg/triggers",
    "/var/lib/dpkg/updates",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/deb-systemd-*",
    "/var/log/*.log",
    "/var/log/*tmp",
    "/var/log/apt",
    "/var/log/lastlog",
    "/var/tmp/*",
];

/// A root, and the tree that it was made from.
#[derive(Debug, Clone)]
pub struct Root {
    /// The root. Its files are shared with `packages`: replace them, never write to them.
    pub path: PathBuf,
    /// Everything that dpkg installed: the kernel image, licences, the lists of files.
    pub packages: PathBuf,
    /// The hash of what made it.
    pub key: String,
    /// The kernel's release, for example `6.12.48+deb13-amd64`.
    pub kernel: String,
    /// Whether the cache had it.
    pub cached: bool,
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The packages could not be installed.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// It has no kernel, or several.
    #[error("the packages bring {} kernels ({}), an image has exactly one", .0.len(), .0.join(", "))]
    Kernels(Vec<String>),
}

/// True when the cache has root and packages: no package file is needed.
#[must_use]
pub fn is_cached(cache: &Cache, template: &MachineTemplate, layers: &[Layer]) -> bool {
    cache.tree("packages", &trees::key(layers)).is_dir() && cache.tree("roots", &key(template, layers)).is_dir()
}

fn key(template: &MachineTemplate, layers: &[Layer]) -> String {
    let inputs = InputHash::default().with("recipe", RECIPE).with("packages", trees::key(layers));
    inputs.with("never", NEVER.join("\n")).with("exclude", format!("{:?}", template.exclude)).finish()
}

/// Takes the root from the cache or makes it.
///
/// # Errors
/// See [`RootError`].
pub async fn prepare(
    cache: &Cache,
    template: &MachineTemplate,
    layers: &[Layer],
    reporter: &mut dyn Reporter,
) -> Result<Root, RootError> {
    let (packages, _) = trees::prepare(cache, "packages", layers, reporter).await?;
    let kernel = kernel(&packages)?;
    let key = key(template, layers);
    let path = cache.tree("roots", &key);
    let root =
        |path, cached| Root { path, packages: packages.clone(), key: key.clone(), kernel: kernel.clone(), cached };
    if path.is_dir() {
        return Ok(root(path, true));
    }
    let claim = cache.claim("roots", &key, reporter).await?;
    if path.is_dir() {
        return Ok(root(path, true));
    }
    let scratch = cache.temporary()?;
    let tree = scratch.path().join("tree");
    trees::copy(&packages, &tree, "--link", reporter).await?;
    exclude::remove(&tree, template.exclude.iter().map(String::as_str))?;
    exclude::remove(&tree, NEVER.iter().copied())?;
    for folder in ["dev", "proc", "run", "sys", "tmp"] {
        crate::files::create_folder(&tree.join(folder))?;
    }
    let sandbox = Sandbox::of_tree(&tree).variable("SOURCE_DATE_EPOCH", debian::PACKAGE_EPOCH.to_string());
    sandbox.run(reporter, "depmod", &["-a", &kernel]).await?;
    Ok(root(cache.publish(&tree, "roots", &key, &claim)?, false))
}

fn kernel(packages: &Path) -> Result<String, RootError> {
    let folder = std::fs::read_dir(packages.join("boot")).into_iter().flatten().flatten();
    let names = folder.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut kernels: Vec<String> = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned)).collect();
    kernels.sort();
    match kernels.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(RootError::Kernels(kernels)),
    }
}
