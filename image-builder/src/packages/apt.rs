//! What apt is told and what it answers. Pure: text in, text out.

use crate::{debian, sources::Mirrors};
use profiles::AptRepository;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// Stands in for a maker of initramfs images: Debian's kernel depends on one, and ours comes from elsewhere. apt and dpkg take it
/// for installed.
pub const STAND_IN: &str = "Package: shelfboot-no-initramfs\nStatus: install ok installed\nMaintainer: Shelfboot\n\
                            Architecture: all\nVersion: 1\nProvides: linux-initramfs-tool\n\
                            Description: stands in for a maker of initramfs images\n\n";

/// A configuration that keeps apt inside `folder`: nothing of the host but its keys, its proxy and its passwords
/// (apt.conf(5), "Dir"). Several share the lists; sources and what apt works out from them are of one `name`.
#[must_use]
pub fn configuration(folder: &Path, name: &str) -> String {
    let folder = folder.display();
    let (sources, cache) = (format!("sources-{name}.list"), format!("cache-{name}"));
    let mut out = String::from("#clear APT::Architectures;\n#clear APT::NeverAutoRemove;\n#clear DPkg::Post-Invoke;\n");
    for (name, value) in [
        ("APT::Architecture", "amd64"),
        ("APT::Architectures", "amd64"),
        ("APT::Install-Recommends", "false"),
        ("APT::Install-Suggests", "false"),
        // Keys and folders of the builder need not be readable by apt's own user.
        ("APT::Sandbox::User", "root"),
        ("APT::Get::Assume-Yes", "true"),
        ("Acquire::Languages", "none"),
        ("Acquire::Retries", "3"),
        ("Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled", "false"),
        ("Dir::Etc::PreferencesParts", "/dev/null"),
        ("Dir::Etc::Preferences", "/dev/null"),
        ("Dir::Etc::SourceParts", "/dev/null"),
    ] {
        let _ = writeln!(out, "{name} \"{value}\";");
    }
    for (name, place) in [
        ("Dir::Etc::SourceList", sources.as_str()),
        ("Dir::State", "state"),
        ("Dir::State::Status", "status"),
        ("Dir::Cache", &cache),
        ("Dir::Log", "log"),
    ] {
        let _ = writeln!(out, "{name} \"{folder}/{place}\";");
    }
    out
}

/// Source lines (sources.list(5)): Debian's suites, then the template's repositories with their keys.
#[must_use]
pub fn sources(
    mirrors: &Mirrors,
    debian_key: Option<&Path>,
    repositories: &BTreeMap<String, AptRepository>,
    keys: &BTreeMap<String, PathBuf>,
) -> String {
    let signed = |key: Option<&Path>| key.map_or_else(String::new, |key| format!("[signed-by={}] ", key.display()));
    let mut out = String::new();
    for suite in debian::SUITES {
        let _ = writeln!(out, "deb {}{} {suite} main", signed(debian_key), mirrors.archive);
    }
    let _ = writeln!(out, "deb {}{} {}-security main", signed(debian_key), mirrors.security, debian::RELEASE);
    for (name, repository) in repositories {
        let key = keys.get(name).map(PathBuf::as_path);
        let components = repository.components.join(" ");
        let line = format!("deb {}{} {} {components}", signed(key), address(repository), repository.suite);
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// A repository's address as `print-uris` begins with it: folders as `file:/…`, whatever way they were written.
#[must_use]
pub fn address(repository: &AptRepository) -> String {
    let folder = ["copy:", "file:"].iter().find_map(|scheme| repository.uri.strip_prefix(scheme));
    let uri = folder.map_or_else(|| repository.uri.clone(), |path| format!("file:/{}", path.trim_start_matches('/')));
    uri.trim_end_matches('/').to_owned()
}

/// The packages that a simulated installation would install, in its order (`Inst NAME (VERSION …)`): names and versions.
#[must_use]
pub fn installed(simulation: &str) -> Vec<(String, String)> {
    simulation.lines().filter_map(installed_line).collect()
}

fn installed_line(line: &str) -> Option<(String, String)> {
    let rest = line.strip_prefix("Inst ")?;
    let (name, rest) = rest.split_once(' ')?;
    // `[old version]` stands between for an upgrade; nothing is installed here.
    let version = rest.strip_prefix('(')?.split([' ', ')']).next()?;
    let name = name.split(':').next().unwrap_or(name);
    Some((name.to_owned(), version.to_owned()))
}

/// The files that an installation would fetch (`'URI' FILE BYTES HASH`): `NAME_VERSION_ARCHITECTURE.deb` and address.
#[must_use]
pub fn addresses(print_uris: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (uri, rest) = line.strip_prefix('\'')?.split_once('\'')?;
        let file = rest.split_whitespace().next()?;
        Some((file.replace("%3a", ":"), uri.to_owned()))
    };
    print_uris.lines().filter_map(line).collect()
}

/// What the package lists say of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// Below the repository's address.
    pub file: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file; `None` when the list names none.
    pub sha256: Option<String>,
}

/// Reads the stanzas of `apt-cache show`. One that lacks a field is left out.
#[must_use]
pub fn records(text: &str) -> Vec<Record> {
    let stanza = |stanza: &str| {
        let fields: BTreeMap<&str, &str> = stanza
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split_once(": "))
            .collect();
        let field = |name: &str| fields.get(name).map(|value| value.trim().to_owned());
        Some(Record {
            name: field("Package")?,
            version: field("Version")?,
            architecture: field("Architecture")?,
            file: field("Filename")?.trim_start_matches("./").to_owned(),
            bytes: field("Size")?.parse().ok()?,
            sha256: field("SHA256"),
        })
    };
    text.split("\n\n").filter_map(stanza).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use profiles::SigningKey;

    #[test]
    fn a_simulation_names_what_is_installed_in_its_order() {
        let text = "Reading package lists...\nInst libc6 (2.41-12 Debian:13/stable [amd64])\n\
                    Inst libgcc-s1 (14.2.0-19 Debian:13/stable [amd64]) []\nInst libx:amd64 (1:2 x [amd64])\n\
                    Conf libc6 (2.41-12 Debian:13/stable [amd64])\nInst odd\nInst odder 3\n";
        let expected = [("libc6", "2.41-12"), ("libgcc-s1", "14.2.0-19"), ("libx", "1:2")];
        assert_eq!(installed(text), expected.map(|(name, version)| (name.to_owned(), version.to_owned())));
    }

    #[test]
    fn addresses_are_found_by_file_name() {
        let text =
            "Need to get 1 B\n'http://m/debian/pool/libx_1%3a2_amd64.deb' libx_1%3a2_amd64.deb 60 MD5Sum:00\n'broken\n";
        let found = addresses(text);
        assert_eq!(found["libx_1:2_amd64.deb"], "http://m/debian/pool/libx_1%3a2_amd64.deb");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn records_are_read_and_broken_ones_left_out() {
        let text = "Package: a\nVersion: 1\nArchitecture: all\nDepends: b,\n c\nFilename: ./a_1_all.deb\nSize: 7\nSHA256: ab\n\n\
                    Package: b\nVersion: 2\nSize: many\n";
        let expected = Record {
            name: "a".into(),
            version: "1".into(),
            architecture: "all".into(),
            file: "a_1_all.deb".into(),
            bytes: 7,
            sha256: Some("ab".into()),
        };
        assert_eq!(records(text), [expected]);
    }

    #[test]
    fn flat_and_ordinary_repositories_become_source_lines() {
        let flat = AptRepository {
            uri: "copy:///srv/apt/".into(),
            suite: "./".into(),
            components: Vec::new(),
            signed_by: SigningKey::File("/k".into()),
        };
        let ordinary = AptRepository {
            uri: "https://packages.example".into(),
            suite: "trixie".into(),
            components: vec!["main".into(), "extra".into()],
            ..flat.clone()
        };
        let repositories = BTreeMap::from([("flat".to_owned(), flat), ("ordinary".to_owned(), ordinary)]);
        let keys = BTreeMap::from([("flat".to_owned(), PathBuf::from("/keys/flat.gpg"))]);
        let mirrors = Mirrors { archive: "http://m/debian".into(), security: "http://m/debian-security".into() };
        insta::assert_snapshot!(sources(&mirrors, Some(Path::new("/keys/debian.gpg")), &repositories, &keys));
    }

    #[test]
    fn the_configuration_is_the_documented_one() {
        insta::assert_snapshot!(configuration(Path::new("/srv/apt"), "image"));
    }
}
