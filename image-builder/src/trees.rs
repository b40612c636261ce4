//! Debian trees in the cache, layer on layer: what templates have in common is installed once.

use crate::{
    cache::{Cache, Claim},
    command::Sandbox,
    files::InputHash,
    packages::{
        bootstrap::{self, BootstrapError, Plain},
        lock::{Layer, Package},
    },
    report::Reporter,
};
use std::path::{Path, PathBuf};

/// Raised when this crate makes another tree from the same packages.
const RECIPE: &str = "2";

/// The key of a tree: the packages of its layers.
#[must_use]
pub fn key(layers: &[Layer]) -> String {
    let packages = layers.iter().flat_map(|layer| &layer.packages);
    packages
        .fold(InputHash::default().with("recipe", RECIPE), |hash, package| hash.with("package", &package.sha256))
        .finish()
}

/// Takes the tree of these layers from the cache or makes it; says whether the cache had it. The first layers (essential packages
/// and the base profile's) make a tree of their own, which the rest is installed into a copy of.
///
/// # Errors
/// See [`BootstrapError`].
pub async fn prepare(
    cache: &Cache,
    kind: &str,
    layers: &[Layer],
    reporter: &mut dyn Reporter,
) -> Result<(PathBuf, bool), BootstrapError> {
    let key = key(layers);
    let place = cache.tree(kind, &key);
    if place.is_dir() {
        return Ok((place, true));
    }
    let claim = cache.claim(kind, &key, reporter).await?;
    if place.is_dir() {
        return Ok((place, true));
    }
    let below = layers.iter().take(layers.len() - 1).map(|layer| layer.packages.len()).sum::<usize>();
    let top = layers.last().map_or(&[][..], |layer| &layer.packages);
    if layers.len() > 2 && below > 0 && !top.is_empty() {
        let top: Vec<&Package> = top.iter().collect();
        // dpkg keeps one processor busy with the layers below; the others have time for these packages.
        let below = Box::pin(prepare(cache, kind, &layers[..layers.len() - 1], reporter));
        let (below, plain) = tokio::join!(below, Plain::make(cache, &top));
        let ((base, _), plain) = (below?, plain?);
        let scratch = cache.temporary()?;
        let tree = scratch.path().join("tree");
        copy(&base, &tree, "--reflink=auto", reporter).await?;
        bootstrap::install(&tree, &plain, &top, reporter).await?;
        return Ok((cache.publish(&tree, kind, &key, &claim)?, false));
    }
    Ok((from_nothing(cache, kind, &key, layers, &claim, reporter).await?, false))
}

async fn from_nothing(
    cache: &Cache,
    kind: &str,
    key: &str,
    layers: &[Layer],
    claim: &Claim,
    reporter: &mut dyn Reporter,
) -> Result<PathBuf, BootstrapError> {
    let packages: Vec<&Package> = layers.iter().flat_map(|layer| &layer.packages).collect();
    let plain = Plain::make(cache, &packages).await?;
    let scratch = cache.temporary()?;
    let tree = scratch.path().join("tree");
    bootstrap::begin(&tree, &plain, &layers[0].packages)?;
    bootstrap::install(&tree, &plain, &packages, reporter).await?;
    Ok(cache.publish(&tree, kind, key, claim)?)
}

/// Copies a tree with everything that the file system knows of it. `how` is `--reflink=auto`, or `--link` for a tree whose
/// files are replaced and never written to.
///
/// # Errors
/// [`crate::command::CommandError`].
pub async fn copy(
    from: &Path,
    to: &Path,
    how: &str,
    reporter: &mut dyn Reporter,
) -> Result<(), crate::command::CommandError> {
    let arguments = ["-a".as_ref(), how.as_ref(), "--".as_ref(), from.as_os_str(), to.as_os_str()];
    Sandbox::host().run(reporter, "cp", &arguments).await
}
