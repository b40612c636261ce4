//! A machine template with its profiles merged and its parameters filled in: what image-builder builds.

use contracts::{
    disks::DiskPolicy,
    machine::{DataDisks, JoinConfig, StateFormat},
    state::StatePolicy,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
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
    /// Files whose content the machine completes, by absolute path below `/etc`. Where the build has all values, the same file is
    /// among [`MachineTemplate::files`].
    pub late_files: BTreeMap<String, File>,
    /// The parameters that they may hold, with the build's values.
    pub late_parameters: BTreeMap<String, Option<String>>,
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
    /// Arguments for the kernel, in their order.
    pub kernel_arguments: Vec<String>,
    /// System users by name.
    pub users: BTreeMap<String, User>,
    /// What the machine may send; `None` is everything.
    pub egress: Option<Egress>,
    /// Folders that are kept on the state partition.
    pub persist: BTreeSet<String>,
    /// Whether the state partition is encrypted.
    pub state: StatePolicy,
    /// What is kept there, and whether older software can read it.
    pub state_formats: Vec<StateFormat>,
    /// Which disk may get the system.
    pub disks: DiskPolicy,
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

/// A system user, and its group of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// For people; may be empty.
    pub description: String,
    /// Absolute.
    pub home: String,
    /// Absolute.
    pub shell: String,
    /// Further groups.
    pub groups: Vec<String>,
    /// Lines of authorized_keys.
    pub ssh_keys: Vec<String>,
}

/// What a machine itself may send besides answers, DHCP and what its agent sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// Questions to any name server.
    pub dns: bool,
    /// Places.
    pub rules: Vec<EgressRule>,
}

/// Where something may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// Never empty.
    pub to: Vec<Network>,
    /// How.
    pub protocol: Protocol,
    /// First and last port of each range, in order, without overlaps.
    pub ports: Vec<(u16, u16)>,
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub address: IpAddr,
    /// How many bits.
    pub length: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.length) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => write!(f, "{}", self.address),
            _ => write!(f, "{}/{}", self.address, self.length),
        }
    }
}

/// A protocol above IP, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, of both versions of IP.
    Icmp,
    /// Everything, whatever the port: for the networks of pods on this machine, for example.
    Any,
}

impl Protocol {
    /// As templates write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Any => "any",
        }
    }
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
