//! Where a build's lock comes from: a file beside the template, or the cache, or apt.

use crate::{
    cache::Cache,
    files::{self, FileError, InputHash},
    packages::{
        bootstrap::BootstrapError,
        lock::{self, Layer, Lock, LockError, Package},
        resolve::{self, ResolveError},
        store::{self, FetchError, Sources},
    },
    report::Reporter,
    sources::Mirrors,
    tools::{self, Tools},
};
use profiles::{AptRepository, MachineTemplate, SigningKey};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockingError {
    /// The file cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A lock was asked for, and there is none.
    #[error("there is no lock {}", .0.display())]
    Missing(PathBuf),
    /// apt could not say what the template comes to.
    #[error("cannot resolve the template's packages")]
    Resolve(#[from] ResolveError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A lock and where it came from.
#[derive(Debug)]
pub struct Obtained {
    /// The lock.
    pub lock: Lock,
    /// The file that pins it; `None` when it was resolved for this build.
    pub file: Option<PathBuf>,
    /// It was in the cache.
    pub cached: bool,
}

/// The lock file that counts for a template: the named one, or the one beside it when it is there.
///
/// # Errors
/// [`LockingError::Missing`] when one was named or is demanded that does not exist.
pub fn file(template: &Path, named: Option<&Path>, locked: bool) -> Result<Option<PathBuf>, LockingError> {
    let path = named.map_or_else(|| lock::place(template), Path::to_owned);
    match path.exists() {
        true => Ok(Some(path)),
        false if locked || named.is_some() => Err(LockingError::Missing(path)),
        false => Ok(None),
    }
}

/// Reads a lock and holds it against what the template asks for.
///
/// # Errors
/// See [`LockingError`].
pub fn read(path: &Path, template: &MachineTemplate) -> Result<Lock, LockingError> {
    let lock = Lock::read(path)?;
    if lock.request != lock::request(template, &tools::PACKAGES) {
        return Err(LockError::Stale(path.to_owned()).into());
    }
    Ok(lock)
}

/// Without a lock file a template is resolved once, and again when it changes or with `refresh`.
///
/// # Errors
/// See [`LockingError`].
pub async fn obtain(
    cache: &Cache,
    template: &MachineTemplate,
    file: Option<&Path>,
    mirrors: &Mirrors,
    refresh: bool,
    now: OffsetDateTime,
    reporter: &mut dyn Reporter,
) -> Result<Obtained, LockingError> {
    if let Some(path) = file {
        return Ok(Obtained { lock: read(path, template)?, file: Some(path.to_owned()), cached: false });
    }
    let mut key = InputHash::default().with("request", lock::request(template, &tools::PACKAGES));
    key = key.with("template", &template.name).with("mirrors", format!("{mirrors:?}"));
    for (name, repository) in &template.repositories {
        key = key.with(name, format!("{repository:?}")).with("content", fingerprint(repository));
    }
    let folder = cache.folder("locks");
    files::create_folder(&folder)?;
    let place = folder.join(format!("{}.lock", key.finish()));
    if place.exists() && !refresh {
        // A damaged one is made anew.
        if let Ok(lock) = read(&place, template) {
            return Ok(Obtained { lock, file: None, cached: true });
        }
    }
    let lock = renew(cache, template, mirrors, now, reporter).await?;
    lock.write(&place)?;
    Ok(Obtained { lock, file: None, cached: false })
}

/// Asks apt what a template comes to now.
///
/// # Errors
/// See [`LockingError`].
pub async fn renew(
    cache: &Cache,
    template: &MachineTemplate,
    mirrors: &Mirrors,
    now: OffsetDateTime,
    reporter: &mut dyn Reporter,
) -> Result<Lock, LockingError> {
    // apt fetches again what has changed, and nothing else.
    let key = InputHash::default()
        .with("mirrors", format!("{mirrors:?}"))
        .with("others", format!("{:?}", template.repositories));
    let key = key.finish();
    let _claim = cache.claim("apt", &key, reporter).await?;
    let folder = cache.folder("apt").join(&key);
    Ok(resolve::resolve(template, &tools::PACKAGES, mirrors, now, &folder, reporter).await?)
}

/// Why there is no tools tree for work that has no template.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// The lock.
    #[error(transparent)]
    Locking(#[from] LockingError),
    /// A package file.
    #[error("cannot fetch the packages of the image tools")]
    Fetch(#[from] FetchError),
    /// The tree.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
}

/// The tools tree for work that has no template: as a lock says, or resolved once and kept. Says whether the cache had it.
///
/// # Errors
/// See [`ToolsError`].
pub async fn prepare_tools(
    cache: &Cache,
    mirrors: &Mirrors,
    lock: Option<&Path>,
    now: OffsetDateTime,
    reporter: &mut dyn Reporter,
) -> Result<(Tools, bool), ToolsError> {
    let layers = match lock {
        Some(path) => Lock::read(path).map_err(LockingError::from)?.tools,
        None => kept_tools(cache, mirrors, now, reporter).await?,
    };
    if !Tools::is_cached(cache, &layers) {
        let packages: Vec<&Package> = layers.iter().flat_map(|layer| &layer.packages).collect();
        store::fetch(cache, &Sources::new(mirrors, &BTreeMap::new()), &packages, reporter).await?;
    }
    Ok(Tools::prepare(cache, &layers, reporter).await?)
}

async fn kept_tools(
    cache: &Cache,
    mirrors: &Mirrors,
    now: OffsetDateTime,
    reporter: &mut dyn Reporter,
) -> Result<Vec<Layer>, LockingError> {
    let request = lock::request_of_tools(&tools::PACKAGES);
    let key = InputHash::default().with("tools", &request).with("mirrors", format!("{mirrors:?}")).finish();
    let folder = cache.folder("locks");
    files::create_folder(&folder)?;
    let place = folder.join(format!("{key}.lock"));
    if let Ok(kept) = Lock::read(&place)
        && kept.request == request
    {
        return Ok(kept.tools);
    }
    let _claim = cache.claim("apt", &key, reporter).await?;
    let apt = cache.folder("apt").join(&key);
    let layers = resolve::resolve_tools(&tools::PACKAGES, mirrors, &apt, reporter).await?;
    let (api_version, kind) = (profiles::API_VERSION.to_owned(), lock::KIND.to_owned());
    let template = String::new();
    let lock = Lock { api_version, kind, template, resolved_at: now, request, image: vec![], tools: layers };
    lock.write(&place)?;
    Ok(lock.tools)
}

/// What a repository on this host holds, and whose signature is believed: a repository that was packed anew, or
/// signed by another key, is resolved again. What a remote one holds is asked for with `--refresh`.
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
