//! A machine template with its profiles merged and its parameters filled in: what image-builder builds.

use contracts::machine::{DataDisks, JoinConfig};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// Everything that a machine of one kind is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineTemplate {
    /// For example `k8s-worker`.
    pub name: String,
    /// A sentence for people.
    pub description: String,
    /// Debian packages.
    pub packages: BTreeSet<String>,
    /// Those of them that the first software profile names: templates that begin alike share a layer.
    pub base_packages: BTreeSet<String>,
    /// Apt repositories besides Debian's own, by name.
    pub repositories: BTreeMap<String, AptRepository>,
    /// Paths that are left out of the image; `*` stands for any part of one name.
    pub exclude: BTreeSet<String>,
    /// Container images by the name that pods use.
    pub container_images: BTreeMap<String, ContainerImage>,
    /// Files by absolute path.
    pub files: BTreeMap<String, File>,
    /// Symbolic links: path to target.
    pub links: BTreeMap<String, String>,
    /// Empty folders.
    pub folders: BTreeSet<String>,
    /// Units: `true` is started at every start, `false` is masked.
    pub units: BTreeMap<String, bool>,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Kernel modules to load.
    pub modules: BTreeSet<String>,
    /// Folders that are kept on the state partition.
    pub persist: BTreeSet<String>,
    /// Disks for the data of the machine's role.
    pub data_disks: Option<DataDisks>,
    /// The join driver.
    pub join: JoinConfig,
}

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Permission bits.
    pub mode: u32,
    /// Text.
    pub content: String,
}

/// A container image that the machine's image carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerImage {
    /// An OCI archive, or the folder of an OCI image layout.
    pub source: PathBuf,
    /// Of its manifest or index: `sha256:` and 64 hex digits in lower case.
    pub digest: String,
}

/// An apt repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AptRepository {
    /// `https://…`, `file:///…`.
    pub uri: String,
    /// A suite, or a folder that ends in `/` for a flat repository.
    pub suite: String,
    /// Components; none for a flat repository.
    pub components: Vec<String>,
    /// Whose signature is believed.
    pub signed_by: SigningKey,
}

/// An OpenPGP key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// A file, armored or binary.
    File(PathBuf),
    /// The armored key.
    Armored(String),
}
