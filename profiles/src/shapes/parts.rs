//! The parts that have pages of their own in docs/templates.md: container images, users, egress lists, state formats.

use crate::template::Protocol;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// State that a newer version of the software may write differently.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StateFormatSpec {
    /// The folder or file, below one of the paths to persist.
    #[schemars(with = "String")]
    pub path: Spanned<String>,
    /// A word that changes when the format does, for example `etcd-3.5`.
    #[schemars(with = "String")]
    pub format: Spanned<String>,
    /// Software that knows an older format copes with this one.
    pub going_back_safe: bool,
    /// A program with its arguments that keeps a copy before the format changes.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub snapshot: Vec<Spanned<String>>,
}

/// Whether the state partition is encrypted.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StateSpec {
    /// How.
    #[serde(default)]
    pub encryption: EncryptionSpec,
    /// What a machine does that has no TPM 2.0, where `encryption` wants one.
    #[serde(default)]
    pub without_tpm: WithoutTpmSpec,
}

/// How the state is encrypted.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EncryptionSpec {
    /// Not at all.
    #[default]
    None,
    /// LUKS2: the machine's TPM opens it, and a recovery key that the registrar keeps.
    Tpm,
}

/// What a machine without a TPM 2.0 does.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WithoutTpmSpec {
    /// It is not installed.
    #[default]
    Refuse,
    /// Its state is in the clear.
    Clear,
}

/// Which disk may get the system.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DisksSpec {
    /// Disks that may get it, the preferred ones first. A later line counts only when no disk fits the lines before it.
    #[serde(default)]
    #[schemars(with = "Vec<DiskSpec>")]
    pub system: Vec<Spanned<DiskSpec>>,
    /// Disks that never get it.
    #[serde(default)]
    #[schemars(with = "Vec<DiskSpec>")]
    pub never: Vec<Spanned<DiskSpec>>,
    /// A size, for example `120 GB`, where the 64 GB that every system needs are not enough.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub smallest: Option<Spanned<String>>,
    /// What to do when several blank disks fit.
    #[serde(default)]
    pub several: SeveralSpec,
}

/// Several blank disks that fit.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SeveralSpec {
    /// The one with the lowest place on its bus.
    #[default]
    First,
    /// Somebody has to say which.
    Stop,
}

/// A disk fits when it fits everything that is said.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DiskSpec {
    /// World Wide Name, as `firstboot-agent facts` prints it.
    #[serde(default)]
    pub wwn: Option<String>,
    /// Serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// Model; `*` stands for any characters.
    #[serde(default)]
    pub model: Option<String>,
    /// Place on the bus; `*` stands for any characters.
    #[serde(default)]
    pub path: Option<String>,
    /// `sata`, `sas`, `scsi`, `nvme`, `virtio`, `emmc`, `ufs`, `xen` or `network`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub transport: Vec<Spanned<String>>,
    /// Turning disks, or others.
    #[serde(default)]
    pub rotational: Option<bool>,
    /// A size, for example `200 GB`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub at_least: Option<Spanned<String>>,
    /// A size.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub at_most: Option<Spanned<String>>,
}

/// A container image, carried inside the machine's image.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ContainerImageSpec {
    /// The name by which pods ask for it, whole: `HOST/NAME:TAG`. A later profile's image of the same name replaces this one.
    #[schemars(with = "String")]
    pub reference: Spanned<String>,
    /// The absolute path of an OCI archive (a tar file) or an OCI image layout (a folder).
    #[schemars(with = "String")]
    pub source: Spanned<String>,
    /// `sha256:` and 64 hex digits: the digest of the image's manifest or index.
    #[schemars(with = "String")]
    pub digest: Spanned<String>,
}

/// A system user, and its group. It has no password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UserSpec {
    /// A later profile's user of the same name replaces this one.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// Its number.
    #[schemars(with = "u32")]
    pub uid: Spanned<u32>,
    /// The number of the group of the same name; as the user's where there is none.
    #[serde(default)]
    #[schemars(with = "Option<u32>")]
    pub gid: Option<Spanned<u32>>,
    /// For people.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub description: Option<Spanned<String>>,
    /// Made at every start where it is missing; `/nonexistent` where there is none.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub home: Option<Spanned<String>>,
    /// `/usr/sbin/nologin` where there is none.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub shell: Option<Spanned<String>>,
    /// Further groups, which packages bring or other users.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub groups: Vec<Spanned<String>>,
    /// Public keys for SSH, one line each, where a profile brings openssh-server.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub ssh_keys: Vec<Spanned<String>>,
}

/// An allow-list for what the machine itself sends. The agent, the loopback address, DHCP and answers are always allowed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EgressSpec {
    /// Questions to any name server.
    #[serde(default)]
    pub dns: bool,
    /// Places.
    #[serde(default)]
    pub allow: Vec<EgressRuleSpec>,
}

/// Where something may be sent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EgressRuleSpec {
    /// Networks and addresses, also several in one text, separated by commas. When all are empty the entry is left out.
    #[schemars(with = "Vec<String>")]
    pub to: Vec<Spanned<String>>,
    /// `tcp` where nothing is said.
    #[serde(default)]
    #[schemars(with = "Option<Protocol>")]
    pub protocol: Option<Spanned<Protocol>>,
    /// Ports and ranges of ports, for example `"6800-7300"`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub ports: Vec<Spanned<String>>,
}
