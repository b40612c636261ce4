//! What an image is made of: packages, files and where each of them came from. Shapes only: [`super::collect()`]
//! looks at the trees, [`super::origin`] decides.

use super::{copyright::Licence, dpkg::Installed};
use crate::packages::lock::{DEBIAN, Lock, SECURITY};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// Everything in one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The template.
    pub template: String,
    /// The image's version.
    pub image_version: String,
    /// A sentence about the template.
    pub description: String,
    /// The time of the build.
    pub created: OffsetDateTime,
    /// The dm-verity root hash.
    pub root_hash: String,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution, as its os-release(5) names it.
    pub distribution: Distribution,
    /// By package URL.
    pub packages: BTreeMap<String, Package>,
    /// Container images that the root carries, by reference: `sha256:` and 64 hex digits.
    pub containers: BTreeMap<String, String>,
    /// The agent's bytes.
    pub agent: Digests,
    /// Files and links of the root, by absolute path.
    pub root: BTreeMap<String, Entry>,
    /// Files and links of the initrd, by absolute path.
    pub initrd: BTreeMap<String, Entry>,
}

/// From os-release(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `debian`.
    pub id: String,
    /// For people.
    pub name: String,
    /// `13`.
    pub version: String,
    /// `trixie`.
    pub codename: String,
}

impl Distribution {
    /// Reads os-release(5).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let fields: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k, v.trim_matches(['"', '\''])))
            .collect();
        let get = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
        Self { id: get("ID"), name: get("NAME"), version: get("VERSION_ID"), codename: get("VERSION_CODENAME") }
    }
}

/// A Debian package of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// What dpkg says.
    pub installed: Installed,
    /// SHA-256 of the `.deb`, where it is known.
    pub sha256: Option<String>,
    /// What its copyright file says.
    pub licence: Licence,
    /// The package URLs that it depends on.
    pub depends: BTreeSet<String>,
    /// It is installed in the root.
    pub in_root: bool,
    /// Something of it is in the boot image, or starts it.
    pub in_boot: bool,
}

/// Length and digests of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Digests {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// SHA-1 in hex, where it was asked for: SPDX 2.3 wants it of every file.
    pub sha1: Option<String>,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File(Digests),
    /// A symbolic link, and where it points.
    Link(String),
}

/// A path of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What lies there.
    pub content: Content,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a file came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A package brought it, and it is as it was: the package URL.
    Package(String),
    /// A profile asked for it.
    Profile {
        /// For example `configuration/base`.
        profile: String,
        /// `files`, `links` or `units`.
        section: &'static str,
    },
    /// The agent.
    Agent,
    /// A program made it; of a package's file, made it another one.
    Made {
        /// For example `depmod`.
        by: &'static str,
        /// The package URL, when the path is of a package.
        instead_of: Option<String>,
    },
}

/// Where the package URL says that a package comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// SHA-256 of the `.deb` in hex, where it is known.
    pub sha256: Option<String>,
    /// The name of the template's repository that it came from; `None` is Debian.
    pub repository: Option<String>,
}

/// What is pinned, by name, version and architecture.
#[derive(Debug, Clone, Default)]
pub struct Pins(BTreeMap<(String, String, String), Pinned>);

impl Pins {
    /// Everything that a lock pins, in the image and in the tools tree.
    #[must_use]
    pub fn of_lock(lock: &Lock) -> Self {
        let packages = lock.image.iter().chain(&lock.tools).flat_map(|layer| &layer.packages);
        Self::new(packages.map(|package| Pinned {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: Some(package.sha256.clone()),
            repository: Some(&package.source).filter(|source| ![DEBIAN, SECURITY].contains(&source.as_str())).cloned(),
        }))
    }

    /// From a list.
    #[must_use]
    pub fn new(list: impl IntoIterator<Item = Pinned>) -> Self {
        let key = |pin: &Pinned| (pin.name.clone(), pin.version.clone(), pin.architecture.clone());
        Self(list.into_iter().map(|pin| (key(&pin), pin)).collect())
    }

    /// What is known of an installed package.
    #[must_use]
    pub fn of(&self, package: &Installed) -> Option<&Pinned> {
        self.0.get(&(package.name.clone(), package.version.clone(), package.architecture.clone()))
    }
}

/// The package URL of a Debian package, or of one in Debian's format from another repository.
///
/// Source: <https://github.com/package-url/purl-spec>, type `deb`.
#[must_use]
pub fn package_url(package: &Installed, repository: Option<&str>, codename: &str) -> String {
    let (name, version) = (encode(&package.name), encode(&package.version));
    let (vendor, architecture) = (encode(repository.unwrap_or("debian")), encode(&package.architecture));
    format!("pkg:deb/{vendor}/{name}@{version}?arch={architecture}&distro={}", encode(codename))
}

/// Letters, digits and `.-_~` stay, and `:`, as the specification says; everything else is percent-encoded.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_url_is_encoded_as_the_specification_says() {
        let package = Installed {
            name: "libstdc++6".into(),
            version: "1:14.2.0~rc1+b1-19".into(),
            architecture: "amd64".into(),
            ..Installed::default()
        };
        let url = package_url(&package, None, "trixie");
        assert_eq!(url, "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0~rc1%2Bb1-19?arch=amd64&distro=trixie");
        assert!(package_url(&package, Some("kubernetes"), "trixie").starts_with("pkg:deb/kubernetes/libstdc"));
    }

    #[test]
    fn os_release_names_the_distribution() {
        let read =
            Distribution::parse("ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\n");
        assert_eq!((read.id.as_str(), read.version.as_str(), read.codename.as_str()), ("debian", "13", "trixie"));
    }
}
