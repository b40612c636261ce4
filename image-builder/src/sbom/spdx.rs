//! SPDX 2.3 in JSON, written only. Files with digests and their relationships to packages; symbolic links have no bytes
//! and are in the CycloneDX list alone.
//!
//! Source: <https://spdx.github.io/spdx-spec/v2.3/>.

use super::{
    SbomError,
    copyright::Licence,
    derived_uuid,
    inventory::{Content, Digests, Inventory, Origin, Package},
    rfc3339,
};
use aws_lc_rs::digest;
use serde::Serialize;
use std::collections::BTreeMap;

const NO_ASSERTION: &str = "NOASSERTION";

/// A whole document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    document_describes: Vec<String>,
    packages: Vec<SpdxPackage>,
    files: Vec<File>,
    has_extracted_licensing_infos: Vec<ExtractedLicence>,
    relationships: Vec<Relationship>,
}

#[derive(Debug, Clone, Serialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct SpdxPackage {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version_info: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<String>,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_verification_code: Option<VerificationCode>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    source_info: String,
    license_concluded: &'static str,
    license_declared: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<&'static str>,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationCode {
    package_verification_code_value: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "SPDXID")]
    id: String,
    file_name: String,
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExtractedLicence {
    license_id: String,
    name: String,
    extracted_text: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";
const INITRD: &str = "SPDXRef-Initrd";

/// Writes an inventory whose files have SHA-1 digests; one without any is left out. Everything is sorted, so equal
/// inventories make equal documents.
///
/// # Errors
/// [`SbomError::Time`] and [`SbomError::Json`].
pub fn write(inventory: &Inventory) -> Result<Document, SbomError> {
    let mut out = Writer::default();
    let ids: BTreeMap<&str, String> =
        inventory.packages.iter().map(|(url, package)| (url.as_str(), package_id(url, package))).collect();
    for (url, package) in &inventory.packages {
        out.packages.insert(ids[url.as_str()].clone(), of_package(url, package));
        for licence in package.licence.declared().iter().flat_map(|declared| &declared.named) {
            let text = licence
                .text
                .clone()
                .unwrap_or_else(|| format!("{} names this licence and gives no text of it.", package.installed.name));
            let licence =
                ExtractedLicence { license_id: licence.id.clone(), name: licence.name.clone(), extracted_text: text };
            out.licences.insert(licence.license_id.clone(), licence);
        }
        for other in package.depends.iter().filter_map(|url| ids.get(url.as_str())) {
            out.relate(&ids[url.as_str()], "DEPENDS_ON", other);
        }
    }
    for (reference, digest) in &inventory.containers {
        let id = format!("SPDXRef-Container-{}-{}", id_of(reference), digest.trim_start_matches("sha256:"));
        let purpose = Some("CONTAINER");
        let package =
            SpdxPackage { version_info: digest.clone(), primary_package_purpose: purpose, ..plain(&id, reference) };
        out.packages.insert(id, package);
    }
    for (path, entry) in &inventory.root {
        let Content::File(digests) = &entry.content else { continue };
        let holder = match &entry.origin {
            Origin::Package(url) => ids.get(url.as_str()).cloned().unwrap_or_else(|| IMAGE.into()),
            other => out.group(other, inventory),
        };
        let replaced = match &entry.origin {
            Origin::Made { instead_of: Some(url), .. } => Some(format!("instead of the file of {url}")),
            _ => None,
        };
        out.file(&holder, "Root", path, digests, replaced);
    }
    let initrd = SpdxPackage { comment: "what the boot image unpacks into memory".into(), ..plain(INITRD, "initrd") };
    out.packages.insert(INITRD.into(), initrd);
    for (path, entry) in &inventory.initrd {
        let Content::File(digests) = &entry.content else { continue };
        out.file(INITRD, "Initrd", path, digests, Some(format!("from {}", from(&entry.origin))));
    }
    let holders: Vec<String> = out.packages.keys().cloned().collect();
    holders.iter().for_each(|holder| out.relate(IMAGE, "CONTAINS", holder));
    out.relate(DOCUMENT, "DESCRIBES", IMAGE);
    out.finish(inventory)
}

#[derive(Default)]
struct Writer {
    packages: BTreeMap<String, SpdxPackage>,
    files: Vec<File>,
    /// SHA-1 of the files of each package.
    analyzed: BTreeMap<String, Vec<String>>,
    licences: BTreeMap<String, ExtractedLicence>,
    relationships: Vec<Relationship>,
}

impl Writer {
    fn relate(&mut self, of: &str, how: &'static str, to: &str) {
        self.relationships.push(Relationship {
            spdx_element_id: of.into(),
            relationship_type: how,
            related_spdx_element: to.into(),
        });
    }

    /// The package that holds the files of an origin that is no package.
    fn group(&mut self, origin: &Origin, inventory: &Inventory) -> String {
        let name = from(origin);
        let id = format!("SPDXRef-{}", id_of(&name));
        let mut group = plain(&id, &name);
        if *origin == Origin::Agent {
            group.checksums = checksums(&inventory.agent);
        }
        self.packages.entry(id.clone()).or_insert(group);
        id
    }

    fn file(&mut self, holder: &str, place: &str, path: &str, digests: &Digests, comment: Option<String>) {
        let Some(sha1) = &digests.sha1 else { return };
        let id = format!("SPDXRef-{place}-{}", self.files.len() + 1);
        self.analyzed.entry(holder.to_owned()).or_default().push(sha1.clone());
        self.relate(holder, "CONTAINS", &id);
        self.files.push(File { id, file_name: format!(".{path}"), checksums: checksums(digests), comment });
    }

    fn finish(mut self, inventory: &Inventory) -> Result<Document, SbomError> {
        for (holder, mut digests) in std::mem::take(&mut self.analyzed) {
            if let Some(package) = self.packages.get_mut(&holder) {
                package.files_analyzed = true;
                digests.sort();
                // Section 7.9: SHA-1 over the sorted SHA-1 digests of the files.
                let code = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, digests.concat().as_bytes());
                let code = VerificationCode { package_verification_code_value: hex::encode(code) };
                package.package_verification_code = Some(code);
            }
        }
        let image = SpdxPackage {
            version_info: inventory.image_version.clone(),
            comment: format!("{}; root hash {}", inventory.description, inventory.root_hash),
            primary_package_purpose: Some("OPERATING-SYSTEM"),
            ..plain(IMAGE, &inventory.template)
        };
        let name = format!("{}-{}", inventory.template, inventory.image_version);
        let mut document = Document {
            spdx_version: "SPDX-2.3",
            data_license: "CC0-1.0",
            id: DOCUMENT,
            document_namespace: String::new(),
            creation_info: CreationInfo {
                created: rfc3339(inventory.created)?,
                creators: vec![format!("Tool: image-builder-{}", env!("CARGO_PKG_VERSION"))],
            },
            document_describes: vec![IMAGE.into()],
            packages: [image].into_iter().chain(self.packages.into_values()).collect(),
            files: self.files,
            has_extracted_licensing_infos: self.licences.into_values().collect(),
            relationships: self.relationships,
            name,
        };
        let content = derived_uuid(&serde_json::to_vec(&document).map_err(SbomError::Json)?);
        document.document_namespace = format!("https://shelfboot.dev/spdx/{}-{content}", document.name);
        Ok(document)
    }
}

fn plain(id: &str, name: &str) -> SpdxPackage {
    SpdxPackage {
        id: id.into(),
        name: name.into(),
        download_location: NO_ASSERTION,
        license_concluded: NO_ASSERTION,
        license_declared: NO_ASSERTION.into(),
        copyright_text: NO_ASSERTION,
        ..SpdxPackage::default()
    }
}

fn of_package(url: &str, package: &Package) -> SpdxPackage {
    let known = &package.installed;
    let declared = match &package.licence {
        Licence::Declared(declared) => declared.expression.clone(),
        Licence::ForPeople | Licence::NoFile => NO_ASSERTION.into(),
    };
    let reference = ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: url.to_owned(),
    };
    let digest = package.sha256.iter().map(|digest| Checksum { algorithm: "SHA256", checksum_value: digest.clone() });
    SpdxPackage {
        version_info: known.version.clone(),
        supplier: supplier(&known.maintainer),
        checksums: digest.collect(),
        homepage: known.homepage.clone().filter(|url| url.starts_with("http://") || url.starts_with("https://")),
        source_info: format!("built from the source package {} {}", known.source.0, known.source.1),
        license_declared: declared,
        license_comments: package.licence.why_not(),
        external_refs: vec![reference],
        ..plain(&package_id(url, package), &known.name)
    }
}

/// `Name <mail>` as SPDX writes it.
fn supplier(maintainer: &str) -> Option<String> {
    let (name, mail) = maintainer.split_once('<').unwrap_or((maintainer, ""));
    let name = name.trim().replace(['(', ')'], "");
    let mail = mail.trim().trim_end_matches('>');
    match (name.is_empty(), mail.is_empty()) {
        (true, _) => None,
        (false, true) => Some(format!("Organization: {name}")),
        (false, false) => Some(format!("Organization: {name} ({mail})")),
    }
}

/// Unlike names and versions, ids have only letters, digits, `.` and `-`. The end keeps ids of different packages apart.
fn package_id(url: &str, package: &Package) -> String {
    let end = derived_uuid(url.as_bytes()).simple().to_string();
    format!("SPDXRef-Package-{}-{}", id_of(&package.installed.name), &end[..8])
}

fn id_of(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

fn from(origin: &Origin) -> String {
    match origin {
        Origin::Package(url) => url.clone(),
        Origin::Profile { profile, .. } => format!("profile {profile}"),
        Origin::Agent => "firstboot-agent".into(),
        Origin::Made { by, .. } => format!("made by {by}"),
    }
}

fn checksums(digests: &Digests) -> Vec<Checksum> {
    let sha1 = digests.sha1.iter().map(|digest| Checksum { algorithm: "SHA1", checksum_value: digest.clone() });
    sha1.chain([Checksum { algorithm: "SHA256", checksum_value: digests.sha256.clone() }]).collect()
}
