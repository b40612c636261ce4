//! The lock: every package of an image and of the tools that make it, by version and SHA-256.
//!
//! One package is one line, so that a change reads well in a review. Addresses of mirrors are no part of it: the same
//! lock is built from any mirror that has the files.

use crate::files::{self, FileError, InputHash};
use profiles::MachineTemplate;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// `kind` of the document.
pub const KIND: &str = "Lock";
/// The source of packages from Debian's archive.
pub const DEBIAN: &str = "debian";
/// The source of packages from Debian's security archive.
pub const SECURITY: &str = "debian-security";

/// A lock has some 400 packages of 250 bytes each; this is 50 times as much.
const MAX_BYTES: u64 = 8 << 20;
const MAX_PACKAGE_BYTES: u64 = 4 << 30;

/// What a template was resolved to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// [`profiles::API_VERSION`].
    pub api_version: String,
    /// [`KIND`].
    pub kind: String,
    /// The template.
    pub template: String,
    /// When. Images built from this lock carry this time, unless SOURCE_DATE_EPOCH names another.
    #[serde(with = "time::serde::rfc3339")]
    pub resolved_at: OffsetDateTime,
    /// Hash of what was asked for, see [`request`].
    pub request: String,
    /// Layers of the image, in the order in which they are installed; none in a lock of the tools alone.
    pub image: Vec<Layer>,
    /// Layers of the tools tree.
    pub tools: Vec<Layer>,
}

/// Packages that are installed together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// `essential`, `base`, or what the rest belongs to.
    pub layer: String,
    /// In the order in which apt would install them.
    pub packages: Vec<Package>,
}

/// One package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// For example `libc6`.
    pub name: String,
    /// For example `2.41-12`.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// [`DEBIAN`], [`SECURITY`], or the name of a repository of the template.
    pub source: String,
    /// Below the source's address.
    pub path: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// SHA-256 of the file, 64 hex digits.
    pub sha256: String,
}

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Too long to be a lock.
    #[error("{} has {bytes} bytes, a lock has at most {MAX_BYTES}", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// Not a lock, or something in it is not what it should be.
    #[error("the lock {} cannot be used: {problem}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The template asks for something else by now.
    #[error("the lock {} is older than its template: the template asks for other packages or repositories", .0.display())]
    Stale(PathBuf),
}

/// Where the lock of a template is: beside it, `NAME.lock`.
#[must_use]
pub fn place(template: &Path) -> PathBuf {
    template.with_extension("lock")
}

/// The hash of what decides which tools there are.
#[must_use]
pub fn request_of_tools(tools: &[&str]) -> String {
    InputHash::default().with("release", crate::debian::RELEASE).with("tools", tools.join(",")).finish()
}

/// The hash of everything that decides what a template is resolved to, but for the state of the mirrors: packages by layer, and
/// repositories without their addresses, which differ from host to host.
#[must_use]
pub fn request(template: &MachineTemplate, tools: &[&str]) -> String {
    let mut hash = InputHash::default().with("release", crate::debian::RELEASE).with("tools", tools.join(","));
    for packages in [&template.base_packages, &template.packages] {
        hash = hash.with("layer", packages.iter().map(String::as_str).collect::<Vec<_>>().join(","));
    }
    for (name, repository) in &template.repositories {
        hash = hash.with("repository", name).with("suite", &repository.suite);
        hash = hash.with("components", repository.components.join(","));
    }
    hash.finish()
}

impl Lock {
    /// Reads and checks a lock.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let bytes = files::length(path)?;
        if bytes > MAX_BYTES {
            return Err(LockError::TooLong { path: path.to_owned(), bytes });
        }
        Self::parse(&files::read(path)?).map_err(|problem| LockError::Content { path: path.to_owned(), problem })
    }

    /// Reads a lock from bytes of any kind.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let lock: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        lock.check().map(|()| lock)
    }

    /// Every package: of the image, then of the tools.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        self.image.iter().chain(&self.tools).flat_map(|layer| &layer.packages)
    }

    /// The document, one package a line.
    #[must_use]
    pub fn text(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let time = self.resolved_at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        let mut out = String::from("{\n");
        let head = [
            ("apiVersion", self.api_version.as_str()),
            ("kind", &self.kind),
            ("template", &self.template),
            ("resolvedAt", &time),
            ("request", &self.request),
        ];
        for (name, value) in head {
            let _ = writeln!(out, "  \"{name}\": {},", quoted(value));
        }
        for (name, layers, end) in [("image", &self.image, ","), ("tools", &self.tools, "")] {
            let layers: Vec<String> = layers.iter().map(layer_text).collect();
            let _ = writeln!(out, "  \"{name}\": [\n{}\n  ]{end}", layers.join(",\n"));
        }
        out + "}\n"
    }

    /// Writes it beside its place, then into it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(files::at("write into", folder))?;
        std::io::Write::write_all(&mut file, self.text().as_bytes()).map_err(files::at("write", path))?;
        files::publish(file.path(), path)
    }

    fn check(&self) -> Result<(), String> {
        if self.api_version != profiles::API_VERSION || self.kind != KIND {
            return Err(format!(
                "it says apiVersion {:?} and kind {:?}, a lock says {:?} and {KIND:?}",
                self.api_version,
                self.kind,
                profiles::API_VERSION
            ));
        }
        if self.tools.is_empty() {
            return Err("it has no tools".into());
        }
        for layers in [&self.image, &self.tools] {
            let mut names = BTreeSet::new();
            for package in layers.iter().flat_map(|layer| &layer.packages) {
                package.check()?;
                if !names.insert(&package.name) {
                    return Err(format!("the package {} is there twice", package.name));
                }
            }
            if layers.first().is_some_and(|layer| layer.packages.is_empty()) {
                return Err("its first layer has no packages".into());
            }
        }
        Ok(())
    }
}

fn layer_text(layer: &Layer) -> String {
    let line = |package| format!("      {}", serde_json::to_string(package).unwrap_or_default());
    let lines: Vec<String> = layer.packages.iter().map(line).collect();
    format!(
        "    {{\"layer\": {}, \"packages\": [\n{}\n    ]}}",
        serde_json::Value::from(layer.layer.as_str()),
        lines.join(",\n")
    )
}

impl Package {
    /// A name that is safe as a file's, unlike `path` and `version`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.deb", self.sha256)
    }

    /// What is in a lock becomes file names, addresses and arguments.
    fn check(&self) -> Result<(), String> {
        let name = |text: &str| {
            // Debian policy 5.6.1; repositories have names of the same kind.
            (1..=128).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
                && text.as_bytes()[0].is_ascii_alphanumeric()
        };
        // Debian policy 5.6.12.
        let version = self.version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-~:".contains(&b));
        let path = self.path.split('/').all(|part| !part.is_empty() && part != "..")
            && self.path.bytes().all(|b| b.is_ascii_graphic() && !b"'\"\\<>?#".contains(&b));
        let problem = |what: &str, value: &str| Err(format!("the package {:?} has the {what} {value:?}", self.name));
        if !name(&self.name) {
            return Err(format!("{:?} is not a package's name", self.name));
        }
        if !version || self.version.is_empty() || self.version.len() > 128 {
            return problem("version", &self.version);
        }
        if !name(&self.source) {
            return problem("source", &self.source);
        }
        if !path || self.path.len() > 1024 {
            return problem("path", &self.path);
        }
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return problem("SHA-256", &self.sha256);
        }
        if !matches!(self.architecture.as_str(), "amd64" | "all") {
            return problem("architecture", &self.architecture);
        }
        if self.bytes == 0 || self.bytes > MAX_PACKAGE_BYTES {
            return problem("length", &self.bytes.to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use time::macros::datetime;

    pub(crate) fn package(name: &str, version: &str, source: &str, bytes: u64) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: source.into(),
            path: format!("pool/main/{name}_{version}_amd64.deb"),
            bytes,
            sha256: InputHash::default().with(name, version).finish(),
        }
    }

    pub(crate) fn lock(image: &[&[Package]]) -> Lock {
        let layer = |(name, packages): (&str, &[Package])| Layer { layer: name.into(), packages: packages.to_vec() };
        Lock {
            api_version: profiles::API_VERSION.into(),
            kind: KIND.into(),
            template: "till".into(),
            resolved_at: datetime!(2026-11-01 12:00 UTC),
            request: "00".repeat(32),
            image: ["essential", "base", "till"].into_iter().zip(image.iter().copied()).map(layer).collect(),
            tools: vec![layer(("essential", &[package("dash", "0.5", DEBIAN, 9)]))],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written =
            lock(&[&[package("libc6", "2.41-12+deb13u4", DEBIAN, 2_800_000)], &[package("udev", "1:2", SECURITY, 5)]]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("till.lock");
        written.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), written);
        insta::assert_snapshot!(written.text());
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        type Change = fn(&mut Package);
        let changes: [Change; 9] = [
            |p| p.path = "../../etc/passwd".into(),
            |p| p.path = "/etc/passwd".into(),
            |p| p.path = "pool/a b.deb".into(),
            |p| p.sha256 = "../x".into(),
            |p| p.sha256 = "AB".repeat(32),
            |p| p.name = "--install".into(),
            |p| p.version = "1 2".into(),
            |p| p.source = "a/b".into(),
            |p| p.bytes = 0,
        ];
        for change in changes {
            let mut bad = package("libc6", "2", DEBIAN, 9);
            change(&mut bad);
            assert!(Lock::parse(lock(&[&[bad.clone()]]).text().as_bytes()).is_err(), "{bad:?}");
        }
        let twice = [package("a", "1", DEBIAN, 1), package("a", "2", DEBIAN, 1)];
        assert!(Lock::parse(lock(&[&twice]).text().as_bytes()).is_err());
        assert!(Lock::parse(lock(&[&[]]).text().as_bytes()).is_err(), "no packages");
        assert!(Lock::parse(lock(&[]).text().as_bytes()).is_ok(), "the tools alone");
    }
}
