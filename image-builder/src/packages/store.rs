//! Package files in the cache, by SHA-256. What is there was checked when it came and is checked again when it is used.

use super::{
    apt,
    lock::{DEBIAN, Package, SECURITY},
};
use crate::{
    cache::Cache,
    command::{CommandError, Sandbox},
    files::{self, FileError, at},
    report::{Reporter, Silent, mebibytes},
    sources::Mirrors,
};
use profiles::AptRepository;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Transfers at a time. apt itself uses one connection for each server.
const TRANSFERS: usize = 6;
/// Where apt keeps the program that fetches files the way apt does, with its proxies and passwords.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// Why a package file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source does not have it any more.
    #[error("{source_name} no longer has {package} {version}")]
    Gone {
        /// `debian`, `debian-security` or a repository of the template.
        source_name: String,
        /// The package.
        package: String,
        /// The version that the lock names.
        version: String,
    },
    /// What the source has is another file than the one that was locked.
    #[error("{source_name} has another {package} {version} than the lock names")]
    Different {
        /// See [`FetchError::Gone`].
        source_name: String,
        /// The package.
        package: String,
        /// The version.
        version: String,
    },
    /// The template has no repository of that name.
    #[error("the lock takes {package} from {source_name}, and the template has no such repository")]
    NoSource {
        /// The package.
        package: String,
        /// The name.
        source_name: String,
    },
    /// apt's helper failed otherwise.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Where packages come from, by the name that a lock uses.
#[derive(Debug, Clone)]
pub struct Sources(BTreeMap<String, String>);

impl Sources {
    /// Debian's mirrors and the template's repositories.
    #[must_use]
    pub fn new(mirrors: &Mirrors, repositories: &BTreeMap<String, AptRepository>) -> Self {
        let own = repositories.iter().map(|(name, repository)| (name.clone(), apt::address(repository)));
        let debian = [(DEBIAN.to_owned(), mirrors.archive.clone()), (SECURITY.to_owned(), mirrors.security.clone())];
        Self(own.chain(debian).collect())
    }

    fn address(&self, package: &Package) -> Result<String, FetchError> {
        let base = self.0.get(&package.source).ok_or_else(|| FetchError::NoSource {
            package: package.name.clone(),
            source_name: package.source.clone(),
        })?;
        Ok(format!("{base}/{}", package.path))
    }
}

/// Where a package's file is in the cache.
#[must_use]
pub fn place(cache: &Cache, package: &Package) -> PathBuf {
    cache.folder("packages").join(package.file_name())
}

/// Fetches what is missing, and says how many packages and bytes that was.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch(
    cache: &Cache,
    sources: &Sources,
    packages: &[&Package],
    reporter: &mut dyn Reporter,
) -> Result<(usize, u64), FetchError> {
    files::create_folder(&cache.folder("packages"))?;
    let missing: Vec<&Package> = packages.iter().copied().filter(|package| !place(cache, package).exists()).collect();
    let bytes: u64 = missing.iter().map(|package| package.bytes).sum();
    if missing.is_empty() {
        return Ok((0, 0));
    }
    reporter.line(&format!("{} packages to fetch, {}", missing.len(), mebibytes(bytes)));
    let scratch = cache.temporary()?;
    let mut remote: Vec<(&Package, String, PathBuf)> = Vec::new();
    for package in &missing {
        let (address, file) = (sources.address(package)?, scratch.path().join(package.file_name()));
        match address.strip_prefix("file:") {
            Some(path) => copy(package, &Path::new("/").join(path.trim_start_matches('/')), &file)?,
            None => remote.push((package, address, file)),
        }
    }
    download(&remote, reporter).await?;
    for package in &missing {
        let file = scratch.path().join(package.file_name());
        check(package, &file)?;
        let place = place(cache, package);
        std::fs::rename(&file, &place).map_err(at("move into place", &place))?;
    }
    Ok((missing.len(), bytes))
}

fn copy(package: &Package, from: &Path, to: &Path) -> Result<(), FetchError> {
    if !from.exists() {
        return Err(gone(package));
    }
    std::fs::copy(from, to).map_err(at("copy", from))?;
    Ok(())
}

/// Runs apt's helper on every share of the files at a time. Which file failed tells its output.
async fn download(files: &[(&Package, String, PathBuf)], reporter: &mut dyn Reporter) -> Result<(), FetchError> {
    let shares = files.len().min(TRANSFERS);
    let runs = (0..shares).map(|share| async move {
        let mut arguments: Vec<String> = vec!["-o".into(), "Acquire::Retries=3".into(), "download-file".into()];
        for (package, address, file) in files.iter().skip(share).step_by(shares) {
            arguments.extend([address.clone(), file.display().to_string(), format!("SHA256:{}", package.sha256)]);
        }
        // Six programs at once have nothing to say that a person could follow.
        Sandbox::host().output(&mut Silent, HELPER, &arguments).await.err()
    });
    let failed: Vec<CommandError> = futures_util::future::join_all(runs).await.into_iter().flatten().collect();
    let Some(error) = failed.into_iter().next() else { return Ok(()) };
    if let CommandError::Failed { tail, .. } = &error {
        tail.lines().for_each(|line| reporter.line(line));
        let named = |line: &&str| line.contains("404") || line.contains("File not found");
        for line in tail.lines().filter(named) {
            if let Some((package, ..)) = files.iter().find(|(_, address, _)| line.contains(address.as_str())) {
                return Err(gone(package));
            }
        }
        let mismatch = |line: &&str| line.contains("Hash Sum mismatch") || line.contains("unexpected size");
        for line in tail.lines().filter(mismatch) {
            if let Some((package, ..)) = files.iter().find(|(_, address, _)| line.contains(address.as_str())) {
                return Err(different(package));
            }
        }
    }
    Err(error.into())
}

fn check(package: &Package, file: &Path) -> Result<(), FetchError> {
    if files::length(file)? == package.bytes && files::sha256(file)? == package.sha256 {
        Ok(())
    } else {
        Err(different(package))
    }
}

fn gone(package: &Package) -> FetchError {
    let (source_name, version) = (package.source.clone(), package.version.clone());
    FetchError::Gone { source_name, package: package.name.clone(), version }
}

fn different(package: &Package) -> FetchError {
    let (source_name, version) = (package.source.clone(), package.version.clone());
    FetchError::Different { source_name, package: package.name.clone(), version }
}
