//! CycloneDX 1.6 in JSON: the parts of it that are used here, written and read.
//!
//! Packages are components with a package URL; the files of the root lie inside the component that brought them, so that
//! a path's origin is where it stands. What has no package is inside a component of type `data`: a profile, or a program
//! that the build ran. Lengths and the targets of links are properties, `shelfboot:bytes` and `shelfboot:link`.
//!
//! Source: <https://cyclonedx.org/docs/1.6/json/>.

mod write;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
pub use write::write;

/// A whole document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bom {
    /// Where the schema is.
    #[serde(rename = "$schema")]
    pub schema: String,
    /// `CycloneDX`.
    pub bom_format: String,
    /// `1.6`.
    pub spec_version: String,
    /// `urn:uuid:…`, derived from the content.
    pub serial_number: String,
    /// 1: an image never changes.
    pub version: u32,
    /// When, with what, of what.
    pub metadata: Metadata,
    /// The parts.
    pub components: Vec<Component>,
    /// Which part needs which.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
}

/// About the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// RFC 3339.
    pub timestamp: String,
    /// What wrote it.
    pub tools: Tools,
    /// The image.
    pub component: Component,
}

/// What wrote the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// image-builder.
    pub components: Vec<Component>,
}

/// A part of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// `library`, `file`, `data`, ….
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name inside the document; files have none.
    #[serde(rename = "bom-ref", default, skip_serializing_if = "Option::is_none")]
    pub bom_ref: Option<String>,
    /// Who supplies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Supplier>,
    /// Who takes care of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Its name; of a file the absolute path.
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Of its bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<Hash>,
    /// At most one, an expression.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<License>,
    /// The package URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    /// What it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pedigree: Option<Pedigree>,
    /// Where more can be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_references: Vec<ExternalReference>,
    /// What the format has no field for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
    /// What lies inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
}

/// Who supplies something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supplier {
    /// A name.
    pub name: String,
}

/// A digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash {
    /// `SHA-256`.
    pub alg: String,
    /// In hex.
    pub content: String,
}

/// A licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct License {
    /// An SPDX expression.
    pub expression: String,
    /// `declared`.
    pub acknowledgement: String,
}

/// What a package was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pedigree {
    /// The source package.
    pub ancestors: Vec<Component>,
}

/// A place on the web.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalReference {
    /// `website`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where.
    pub url: String,
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// `shelfboot:…`.
    pub name: String,
    /// Text.
    pub value: String,
}

/// What one part needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The part.
    #[serde(rename = "ref")]
    pub of: String,
    /// What it needs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub depends_on: BTreeSet<String>,
}

/// `shelfboot:bytes`: the length of a file.
pub const BYTES: &str = "shelfboot:bytes";
/// `shelfboot:link`: where a symbolic link points.
pub const LINK: &str = "shelfboot:link";
/// `shelfboot:origin`: `package`, `profile`, `made` or `agent`.
pub const ORIGIN: &str = "shelfboot:origin";
/// `shelfboot:from`: of a file of the initrd, the component that it came from.
pub const FROM: &str = "shelfboot:from";
/// `shelfboot:in`: `root` or `boot`, where a package is. One that is in both has it twice.
pub const IN: &str = "shelfboot:in";
/// `shelfboot:instead-of`: of a file that the build made, the package whose file it replaces.
pub const INSTEAD_OF: &str = "shelfboot:instead-of";
/// `shelfboot:why-no-licence`: why nothing is said about a package's licence.
pub const WHY_NO_LICENCE: &str = "shelfboot:why-no-licence";
/// The reference of the component that holds the files of the initrd.
pub const INITRD: &str = "initrd";
impl Component {
    /// The value of a property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|property| property.name == name).map(|property| property.value.as_str())
    }

    /// Its SHA-256 in hex.
    #[must_use]
    pub fn sha256(&self) -> Option<&str> {
        self.hashes.iter().find(|hash| hash.alg == "SHA-256").map(|hash| hash.content.as_str())
    }
}
