//! Makes Debian trees with mmdebstrap.

use crate::{
    command::{CommandError, Sandbox},
    files::{self, FileError},
    report::Reporter,
    sources::Mirrors,
};
use profiles::{AptRepository, SigningKey};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The Debian release of images and tools.
pub const RELEASE: &str = "trixie";

/// The time of everything that installing packages writes, 2025-01-01. Not 0: in /etc/shadow that would mean a
/// password that must be changed (shadow(5)).
pub const PACKAGE_EPOCH: i64 = 1_735_689_600;

/// Its sources: the release, what was fixed since, and security.
const SUITES: [&str; 2] = ["trixie", "trixie-updates"];

/// Why a tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// mmdebstrap or apt failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What goes into a tree.
#[derive(Debug)]
pub struct Tree<'a> {
    /// Where Debian's packages come from.
    pub mirrors: &'a Mirrors,
    /// Packages on top of Debian's essential and required ones.
    pub packages: &'a BTreeSet<String>,
    /// Repositories besides Debian's.
    pub repositories: &'a BTreeMap<String, AptRepository>,
    /// No file is newer than this (seconds since 1970).
    pub source_date_epoch: i64,
}

/// Makes the tree at `place`; `scratch` is an empty folder for keys and the like.
///
/// # Errors
/// See [`DebianError`].
pub async fn make(
    tree: &Tree<'_>,
    place: &Path,
    scratch: &Path,
    reporter: &mut dyn Reporter,
) -> Result<(), DebianError> {
    let stub = no_initramfs(scratch, reporter).await?;
    let mut packages: Vec<String> = tree.packages.iter().cloned().collect();
    packages.push(stub.display().to_string());
    let mut arguments = vec![
        "--mode=root".to_owned(),
        "--variant=minbase".to_owned(),
        "--verbose".to_owned(),
        // Shows local repositories and packages to apt inside the tree.
        "--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount".to_owned(),
        // Recommended packages would triple the tree, initramfs-tools among them.
        "--aptopt=APT::Install-Recommends \"false\"".to_owned(),
        // Keys and folders of the builder need not be readable by apt's own user.
        "--aptopt=APT::Sandbox::User \"root\"".to_owned(),
        "--aptopt=Acquire::Retries \"3\"".to_owned(),
        "--aptopt=Acquire::Languages \"none\"".to_owned(),
        format!("--include={}", packages.join(",")),
    ];
    for path in ["doc/*", "man/*", "info/*", "locale/*", "lintian/*", "bug/*", "bash-completion/*"] {
        arguments.push(format!("--dpkgopt=path-exclude=/usr/share/{path}"));
    }
    arguments.push(RELEASE.to_owned());
    arguments.push(place.display().to_string());
    arguments.extend(debian_lines(tree.mirrors));
    for (name, repository) in tree.repositories {
        let key = key_file(name, &repository.signed_by, scratch)?;
        arguments.push(repository_line(repository, &key));
    }
    // What mmdebstrap leaves behind when it is killed goes with the scratch folder.
    let sandbox = Sandbox::host()
        .variable("SOURCE_DATE_EPOCH", tree.source_date_epoch.to_string())
        .variable("TMPDIR", scratch.display().to_string());
    Ok(sandbox.run(reporter, "mmdebstrap", &arguments).await?)
}

fn debian_lines(mirrors: &Mirrors) -> Vec<String> {
    let mut lines: Vec<String> = SUITES.iter().map(|suite| format!("deb {} {suite} main", mirrors.archive)).collect();
    lines.push(format!("deb {} {RELEASE}-security main", mirrors.security));
    lines
}

/// A source line. `copy:` becomes `file:`, for which mmdebstrap has a hook.
fn repository_line(repository: &AptRepository, key: &Path) -> String {
    let uri = match repository.uri.strip_prefix("copy:") {
        Some(path) => format!("file:{path}"),
        None => repository.uri.clone(),
    };
    let mut line = format!("deb [signed-by={}] {uri} {}", key.display(), repository.suite);
    for component in &repository.components {
        line.push(' ');
        line.push_str(component);
    }
    line
}

/// apt tells armored from binary keys by the file's name (sources.list(5), Signed-By).
fn key_file(name: &str, key: &SigningKey, scratch: &Path) -> Result<PathBuf, FileError> {
    let bytes = match key {
        SigningKey::File(path) => files::read(path)?,
        SigningKey::Armored(text) => text.clone().into_bytes(),
    };
    let extension = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") { "asc" } else { "gpg" };
    let path = scratch.join(format!("{name}.{extension}"));
    files::write(&path, &bytes, 0o644)?;
    Ok(path)
}

/// Debian's kernel depends on a program that makes an initramfs, and would make one at every installation. Ours
/// comes from elsewhere, so an empty package stands in for it.
async fn no_initramfs(scratch: &Path, reporter: &mut dyn Reporter) -> Result<PathBuf, DebianError> {
    let control = "Package: shelfboot-no-initramfs\nVersion: 1\nArchitecture: all\nMaintainer: Shelfboot\n\
                   Provides: linux-initramfs-tool\nDescription: stands in for a maker of initramfs images\n";
    let folder = scratch.join("no-initramfs");
    files::write(&folder.join("DEBIAN/control"), control.as_bytes(), 0o644)?;
    let package = scratch.join("shelfboot-no-initramfs.deb");
    let arguments = ["--root-owner-group".as_ref(), "--build".as_ref(), folder.as_os_str(), package.as_os_str()];
    Sandbox::host().run(reporter, "dpkg-deb", &arguments).await?;
    Ok(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_and_ordinary_repositories_become_source_lines() {
        let mut repository = AptRepository {
            uri: "copy:///srv/apt".into(),
            suite: "./".into(),
            components: Vec::new(),
            signed_by: SigningKey::File("/k".into()),
        };
        assert_eq!(repository_line(&repository, Path::new("/k.gpg")), "deb [signed-by=/k.gpg] file:///srv/apt ./");
        repository.suite = "trixie".into();
        repository.components = vec!["main".into(), "extra".into()];
        let line = repository_line(&repository, Path::new("/k.gpg"));
        assert_eq!(line, "deb [signed-by=/k.gpg] file:///srv/apt trixie main extra");
    }

    #[test]
    fn a_key_is_named_after_its_form() {
        let folder = tempfile::tempdir().unwrap();
        let armored = SigningKey::Armored("\n-----BEGIN PGP PUBLIC KEY BLOCK-----".into());
        assert!(key_file("k", &armored, folder.path()).unwrap().ends_with("k.asc"));
    }
}
