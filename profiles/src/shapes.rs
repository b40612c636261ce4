//! The YAML as written: plain shapes, unknown fields denied. [`crate::template`] is what is left when it is valid.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

mod parts;

pub use parts::{
    ContainerImageSpec, DiskSpec, DisksSpec, EgressRuleSpec, EgressSpec, EncryptionSpec, SeveralSpec, StateFormatSpec,
    StateSpec, UserSpec, WithoutTpmSpec,
};

/// `kind: MachineTemplate`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TemplateDocument {
    /// [`crate::API_VERSION`].
    pub api_version: String,
    /// `MachineTemplate`.
    pub kind: String,
    /// Who.
    pub metadata: Metadata,
    /// What.
    pub spec: TemplateSpec,
}

/// Name and a sentence.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// Lower-case letters, digits and dashes; the same as the file's name.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// A sentence for people.
    #[serde(default)]
    pub description: String,
}

/// What a machine template is made of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TemplateSpec {
    /// Software profiles by name; later ones win.
    #[schemars(with = "Vec<String>")]
    pub software: Vec<Spanned<String>>,
    /// Configuration profiles by name; later ones win.
    #[schemars(with = "Vec<String>")]
    pub configuration: Vec<Spanned<String>>,
    /// Which disk may get the system; any that is blank, fixed and large enough, when it is left out.
    #[serde(default)]
    pub disks: Option<DisksSpec>,
    /// Disks for the data of the machine's role.
    #[serde(default)]
    pub data_disks: Option<DataDisksSpec>,
    /// Whether the state partition is encrypted; it is not, when this is left out.
    #[serde(default)]
    pub state: StateSpec,
    /// What is kept over updates, and whether an older version of the software can read it.
    #[serde(default)]
    pub state_formats: Vec<StateFormatSpec>,
    /// How the machine joins its cluster.
    pub join: JoinSpec,
}

/// Which disks are for data: every blank one that is large enough.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DataDisksSpec {
    /// A size, for example `100 GB`.
    #[schemars(with = "String")]
    pub smallest: Spanned<String>,
}

/// The join driver, and what the machine does with it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JoinSpec {
    /// One of [`contracts::join::DRIVERS`].
    #[schemars(with = "String")]
    pub driver: Spanned<String>,
    /// Certificates to ask the region for.
    #[serde(default)]
    pub certificates: Vec<CertificateSpec>,
    /// Files that are written when the region has answered, in this order.
    #[serde(default)]
    pub files: Vec<FileSpec>,
    /// Units that are started after that.
    #[schemars(with = "Vec<String>")]
    pub units: Vec<Spanned<String>>,
    /// How the machine tells that it works.
    pub ready: ReadySpec,
}

/// A certificate, with a key that the machine makes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CertificateSpec {
    /// One of the driver's purposes.
    #[schemars(with = "String")]
    pub purpose: Spanned<String>,
    /// The subject's organization.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub organization: Option<Spanned<String>>,
    /// The subject's common name.
    #[schemars(with = "String")]
    pub common_name: Spanned<String>,
    /// Where the key is kept.
    #[schemars(with = "String")]
    pub key: Spanned<String>,
    /// Where the certificate is written.
    #[schemars(with = "String")]
    pub certificate: Spanned<String>,
}

/// The machine's own check.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ReadySpec {
    /// A URL on this machine that answers with a success.
    Http(#[schemars(with = "String")] Spanned<String>),
    /// A program with its arguments that ends with exit status 0.
    Command(#[schemars(with = "Vec<String>")] Vec<Spanned<String>>),
}

/// `kind: SoftwareProfile`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SoftwareDocument {
    /// [`crate::API_VERSION`].
    pub api_version: String,
    /// `SoftwareProfile`.
    pub kind: String,
    /// Who.
    pub metadata: Metadata,
    /// What.
    pub spec: SoftwareSpec,
}

/// What is installed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SoftwareSpec {
    /// Parameters by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterSpec>,
    /// Debian packages.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub packages: Vec<Spanned<String>>,
    /// Apt repositories besides Debian's own.
    #[serde(default)]
    pub repositories: Vec<RepositorySpec>,
    /// Paths that are left out of the image; `*` stands for any part of one name.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<Spanned<String>>,
    /// Container images that containerd has before the first pod starts.
    #[serde(default)]
    pub container_images: Vec<ContainerImageSpec>,
}

/// An apt repository.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RepositorySpec {
    /// A later profile's repository of the same name replaces this one.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// `https://…`, `file:///…`.
    #[schemars(with = "String")]
    pub uri: Spanned<String>,
    /// A suite, or a folder that ends in `/` for a flat repository.
    #[schemars(with = "String")]
    pub suite: Spanned<String>,
    /// Components; none for a flat repository.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub components: Vec<Spanned<String>>,
    /// The absolute path of an OpenPGP key, or the armored key itself.
    #[schemars(with = "String")]
    pub signed_by: Spanned<String>,
}

/// A parameter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ParameterSpec {
    /// What it is for.
    pub description: String,
    /// What its values look like.
    #[serde(default, rename = "type")]
    pub kind: ParameterKind,
    /// The values that there are, for `type: choice`.
    #[serde(default)]
    pub choices: Vec<String>,
    /// Who may say its value.
    #[serde(default)]
    pub per: Scope,
    /// Its value when the settings file names none. Without a default, the settings file must name one.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub default: Option<Spanned<String>>,
}

/// Who may say the value of a parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// The settings file, when the image is built.
    #[default]
    Build,
    /// The registrar's inventory as well, for a region and for each store. Only files below `/etc` can hold it: the machine fills
    /// them in.
    Store,
}

/// What a parameter's values look like. Empty values are fine where the default is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ParameterKind {
    /// Anything.
    #[default]
    Text,
    /// A whole number, not negative.
    Integer,
    /// A decimal number above zero, for example `1.5`.
    Ratio,
    /// A size, for example `100 GB`.
    Size,
    /// One or more networks, separated by commas: `10.20.0.0/16`.
    Networks,
    /// An absolute path.
    Path,
    /// One of `choices`.
    Choice,
}

/// `kind: ConfigurationProfile`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfigurationDocument {
    /// [`crate::API_VERSION`].
    pub api_version: String,
    /// `ConfigurationProfile`.
    pub kind: String,
    /// Who.
    pub metadata: Metadata,
    /// What.
    pub spec: ConfigurationSpec,
}

/// How it is set up.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConfigurationSpec {
    /// Parameters by name.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterSpec>,
    /// Files to write.
    #[serde(default)]
    pub files: Vec<FileSpec>,
    /// Symbolic links to make.
    #[serde(default)]
    pub links: Vec<LinkSpec>,
    /// Empty folders to make.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub folders: Vec<Spanned<String>>,
    /// systemd units.
    #[serde(default)]
    pub units: UnitsSpec,
    /// Kernel settings by name, for example `net.ipv4.ip_forward`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub sysctls: BTreeMap<String, Spanned<String>>,
    /// Kernel modules that are loaded at every start.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub modules: Vec<Spanned<String>>,
    /// Arguments for the kernel, behind those that every image has. They are signed with the boot image.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub kernel_arguments: Vec<Spanned<String>>,
    /// System users with fixed numbers.
    #[serde(default)]
    pub users: Vec<UserSpec>,
    /// What the machine itself may send. With one such list in any profile, everything else is refused.
    #[serde(default)]
    pub egress: Option<EgressSpec>,
    /// Folders that are kept on the state partition.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub persist: Vec<Spanned<String>>,
}

/// A file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FileSpec {
    /// Absolute.
    #[schemars(with = "String")]
    pub path: Spanned<String>,
    /// Octal, quoted.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub mode: Option<Spanned<String>>,
    /// Text, with `${parameter}`; `$${` stands for `${`.
    #[schemars(with = "String")]
    pub content: Spanned<String>,
}

/// A symbolic link.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LinkSpec {
    /// Absolute.
    #[schemars(with = "String")]
    pub path: Spanned<String>,
    /// Where it points.
    #[schemars(with = "String")]
    pub target: Spanned<String>,
}

/// systemd units by what is done to them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UnitsSpec {
    /// Started at every start of the machine.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub enable: Vec<Spanned<String>>,
    /// Never started.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub mask: Vec<Spanned<String>>,
}

/// `kind: Settings`: values for parameters, kept beside the site's own files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SettingsDocument {
    /// [`crate::API_VERSION`].
    pub api_version: String,
    /// `Settings`.
    pub kind: String,
    /// Values by parameter name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub parameters: BTreeMap<String, Spanned<String>>,
}
