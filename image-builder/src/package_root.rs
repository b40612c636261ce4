//! The package root: what apt installed, before the template's files, the agent and anything that changes often.

use crate::{
    cache::Cache,
    debian::{self, DebianError, Tree},
    files::InputHash,
    report::Reporter,
    sources::Mirrors,
};
use profiles::{AptRepository, MachineTemplate, SigningKey};
use std::path::{Path, PathBuf};

/// Raised when this module makes another tree from the same packages.
const RECIPE: &str = "1";

/// A package root.
#[derive(Debug, Clone)]
pub struct PackageRoot {
    /// Where it is.
    pub path: PathBuf,
    /// The hash of what made it.
    pub key: String,
    /// The kernel's release, for example `6.12.48+deb13-amd64`.
    pub kernel: String,
    /// Whether the cache had it.
    pub cached: bool,
}

/// Why there is no package root.
#[derive(Debug, thiserror::Error)]
pub enum PackageRootError {
    /// It could not be made.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// It has no kernel, or several.
    #[error("the packages bring {} kernels ({}), an image has exactly one", .0.len(), .0.join(", "))]
    Kernels(Vec<String>),
}

/// Takes the package root from the cache or makes it.
///
/// # Errors
/// See [`PackageRootError`].
pub async fn prepare(
    cache: &Cache,
    template: &MachineTemplate,
    mirrors: &Mirrors,
    refresh: bool,
    reporter: &mut dyn Reporter,
) -> Result<PackageRoot, PackageRootError> {
    let mut inputs = InputHash::default()
        .with("recipe", RECIPE)
        .with("release", debian::RELEASE)
        .with("packages", format!("{:?}", template.packages))
        .with("mirrors", format!("{mirrors:?}"));
    for (name, repository) in &template.repositories {
        inputs = inputs.with(name, format!("{repository:?}")).with("content", fingerprint(repository));
    }
    let key = inputs.finish();
    let mut path = cache.tree("packages", &key);
    let cached = path.is_dir() && !refresh;
    if !cached {
        let scratch = cache.temporary().map_err(DebianError::from)?;
        let made = scratch.path().join("tree");
        let tree = Tree {
            mirrors,
            packages: &template.packages,
            repositories: &template.repositories,
            source_date_epoch: debian::PACKAGE_EPOCH,
        };
        debian::make(&tree, &made, scratch.path(), reporter).await?;
        path = cache.publish(&made, "packages", &key).map_err(DebianError::from)?;
    }
    let kernel = kernel(&path)?;
    Ok(PackageRoot { path, key, kernel, cached })
}

/// What a repository on this host holds, and whose signature is believed: a repository that was packed anew, or
/// signed by another key, makes a new root. What a remote one holds is asked for with `--refresh`.
fn fingerprint(repository: &AptRepository) -> Vec<u8> {
    let mut out = match &repository.signed_by {
        SigningKey::File(path) => std::fs::read(path).unwrap_or_default(),
        SigningKey::Armored(_) => Vec::new(),
    };
    let local = repository.uri.strip_prefix("file:").or_else(|| repository.uri.strip_prefix("copy:"));
    if let Some(folder) = local.map(|path| Path::new("/").join(path.trim_start_matches('/'))) {
        let flat = repository.suite.ends_with('/');
        let release = if flat { folder.join(&repository.suite) } else { folder.join("dists").join(&repository.suite) };
        for file in ["InRelease", "Release"] {
            out.extend(std::fs::read(release.join(file)).unwrap_or_default());
        }
    }
    out
}

fn kernel(root: &Path) -> Result<String, PackageRootError> {
    let folder = std::fs::read_dir(root.join("boot")).into_iter().flatten().flatten();
    let names = folder.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut kernels: Vec<String> = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned)).collect();
    kernels.sort();
    match kernels.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(PackageRootError::Kernels(kernels)),
    }
}
