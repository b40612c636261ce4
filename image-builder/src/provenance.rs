//! Provenance: an in-toto statement with a SLSA predicate that says what was built, from what and by whom, in a signed DSSE
//! envelope. `docs/provenance.md` documents the build type.
//!
//! Sources: <https://github.com/in-toto/attestation/tree/main/spec/v1>, <https://slsa.dev/spec/v1.0/provenance>,
//! <https://github.com/secure-systems-lab/dsse>.

use crate::{
    files::{self, FileError},
    repository::Publication,
    sbom::{Inventory, origin::profile_name},
};
use aws_lc_rs::rand::SystemRandom;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use profiles::Explanation;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use time::OffsetDateTime;
use tough::key_source::KeySource;

/// What the parameters below mean is written down under this name, in `docs/provenance.md`.
pub const BUILD_TYPE: &str = "https://shelfboot.dev/provenance/image/v1";
/// Who built it, unless the build is told: somebody of whom nothing is known.
pub const UNKNOWN_BUILDER: &str = "https://shelfboot.dev/provenance/unknown-builder";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Why there is no provenance.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The statement could not be written as JSON.
    #[error("cannot write the provenance as JSON")]
    Json(#[source] serde_json::Error),
    /// The key could not be read, or would not sign.
    #[error("cannot sign the provenance")]
    Sign(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Without a key there is no signature.
    #[error("there is no key that could sign the provenance")]
    NoKey,
}

/// What went into a build.
#[derive(Debug)]
pub struct Build<'a> {
    /// The template's file.
    pub template: &'a Path,
    /// The settings' file.
    pub settings: Option<&'a Path>,
    /// Names the profiles that took part.
    pub explanation: &'a Explanation,
    /// The packages.
    pub inventory: &'a Inventory,
    /// The agent.
    pub agent: &'a Path,
    /// The registrar's CA: published, but not made here.
    pub registrar_ca: &'a Path,
    /// The channel.
    pub channel: &'a str,
    /// A URI for the place and the people that built it.
    pub builder: &'a str,
    /// A URI for this one build.
    pub invocation: Option<&'a str>,
    /// When the build began and ended, by the clock. Stated of a build that has a name: others give the same provenance whenever
    /// they run.
    pub times: (OffsetDateTime, OffsetDateTime),
}

/// An in-toto statement, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Resource>,
    predicate_type: &'static str,
    predicate: Predicate,
}

/// A file, package or document (`ResourceDescriptor`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    digest: BTreeMap<&'static str, String>,
}

/// SLSA provenance, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    build_type: &'static str,
    external_parameters: Parameters,
    resolved_dependencies: Vec<Resource>,
}

/// What the person or pipeline chose; see `docs/provenance.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    template: String,
    image_version: String,
    channel: String,
    architecture: &'static str,
    source_date_epoch: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings_sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct RunDetails {
    builder: Builder,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<RunMetadata>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Builder {
    id: String,
    version: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunMetadata {
    invocation_id: String,
    #[serde(with = "time::serde::rfc3339")]
    started_on: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    finished_on: OffsetDateTime,
}

/// A DSSE envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload: String,
    payload_type: &'static str,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Signature {
    keyid: String,
    sig: String,
}

/// TUF target name of the provenance of one image.
#[must_use]
pub fn target_name(template: &str, image_version: &str) -> String {
    format!("images/{template}/{image_version}/provenance.dsse.json")
}

/// States what a publication was made from. Its files are read for their digests.
///
/// # Errors
/// [`ProvenanceError::File`].
pub fn state(publication: &Publication, build: &Build<'_>) -> Result<Statement, ProvenanceError> {
    let all = publication.fixed.iter().chain(&publication.replaceable).chain(&publication.plain);
    let mut subject = Vec::new();
    for (name, path) in all.filter(|(_, path)| path != build.registrar_ca) {
        subject.push(of_file(name.clone(), path)?);
    }
    subject.sort_by(|one, other| one.name.cmp(&other.name));
    let inventory = build.inventory;
    let seconds = |time: OffsetDateTime| time.replace_nanosecond(0).unwrap_or(time);
    Ok(Statement {
        kind: "https://in-toto.io/Statement/v1",
        subject,
        predicate_type: "https://slsa.dev/provenance/v1",
        predicate: Predicate {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE,
                external_parameters: Parameters {
                    template: inventory.template.clone(),
                    image_version: inventory.image_version.clone(),
                    channel: build.channel.to_owned(),
                    architecture: "x86_64",
                    source_date_epoch: inventory.created.unix_timestamp(),
                    settings_sha256: build.settings.map(files::sha256).transpose()?,
                },
                resolved_dependencies: dependencies(build)?,
            },
            run_details: RunDetails {
                builder: Builder {
                    id: build.builder.to_owned(),
                    version: BTreeMap::from([("image-builder", env!("CARGO_PKG_VERSION"))]),
                },
                metadata: build.invocation.map(|invocation| RunMetadata {
                    invocation_id: invocation.to_owned(),
                    started_on: seconds(build.times.0),
                    finished_on: seconds(build.times.1),
                }),
            },
        },
    })
}

/// The template and the profiles that it took parts from, the agent, the CA, and every package.
fn dependencies(build: &Build<'_>) -> Result<Vec<Resource>, ProvenanceError> {
    let mut documents: BTreeSet<&Path> = BTreeSet::from([build.template]);
    for part in &build.explanation.parts {
        documents.extend(part.over.iter().chain([&part.from]).map(|place| place.file.as_path()));
    }
    let mut out = Vec::new();
    // Settings are a parameter: their digest stands there.
    for path in documents.into_iter().filter(|path| Some(*path) != build.settings) {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        out.push(of_file(format!("{}.{extension}", profile_name(path)), path)?);
    }
    out.sort_by(|one, other| one.name.cmp(&other.name));
    out.push(of_file("firstboot-agent".into(), build.agent)?);
    out.push(of_file("registrar-ca.pem".into(), build.registrar_ca)?);
    out.extend(build.inventory.containers.iter().map(|(reference, digest)| Resource {
        name: Some(reference.clone()),
        uri: None,
        digest: digest.strip_prefix("sha256:").map(|hex| ("sha256", hex.to_owned())).into_iter().collect(),
    }));
    out.extend(build.inventory.packages.iter().map(|(url, package)| Resource {
        name: None,
        uri: Some(url.clone()),
        digest: package.sha256.iter().map(|digest| ("sha256", digest.clone())).collect(),
    }));
    Ok(out)
}

fn of_file(name: String, path: &Path) -> Result<Resource, ProvenanceError> {
    Ok(Resource { name: Some(name), uri: None, digest: BTreeMap::from([("sha256", files::sha256(path)?)]) })
}

/// What is signed: the type and the bytes, each with its length, so that neither can be taken for a part of the other.
#[must_use]
pub fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// Signs a statement with every key; their ids are those of TUF, so that `root.json` says whose they are.
///
/// # Errors
/// See [`ProvenanceError`].
pub async fn sign(statement: &Statement, keys: &[Box<dyn KeySource>]) -> Result<Envelope, ProvenanceError> {
    if keys.is_empty() {
        return Err(ProvenanceError::NoKey);
    }
    let payload = serde_json::to_vec(statement).map_err(ProvenanceError::Json)?;
    let message = pre_authentication_encoding(&payload);
    let mut signatures = Vec::new();
    for key in keys {
        let key = key.as_sign().await.map_err(ProvenanceError::Sign)?;
        let id = key.tuf_key().key_id().map_err(|error| ProvenanceError::Sign(Box::new(error)))?;
        let signature = key.sign(&message, &SystemRandom::new()).await.map_err(ProvenanceError::Sign)?;
        signatures.push(Signature { keyid: hex::encode(&id), sig: BASE64.encode(signature) });
    }
    Ok(Envelope { payload: BASE64.encode(payload), payload_type: PAYLOAD_TYPE, signatures })
}

/// Writes the signed provenance of a publication into the work folder.
///
/// # Errors
/// See [`ProvenanceError`].
pub async fn make(
    work: &Path,
    publication: &Publication,
    build: &Build<'_>,
    keys: &[Box<dyn KeySource>],
) -> Result<(String, PathBuf), ProvenanceError> {
    let envelope = sign(&state(publication, build)?, keys).await?;
    let path = work.join("provenance.dsse.json");
    files::write(&path, &serde_json::to_vec(&envelope).map_err(ProvenanceError::Json)?, 0o644)?;
    Ok((target_name(&build.inventory.template, &build.inventory.image_version), path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use time::macros::datetime;
    use tough::schema::key::Key;

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        // The specification's own example has the type `http://example.com/HelloWorld`; ours is fixed.
        assert_eq!(
            pre_authentication_encoding(b"hello world"),
            b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
        );
    }

    #[tokio::test]
    async fn a_statement_names_what_came_out_and_what_went_in_and_its_signature_holds() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            files::write(&path, name.as_bytes(), 0o644).unwrap();
            path
        };
        let keys = crate::keys::init(&folder.path().join("keys")).await.unwrap();
        let (template, ca) = (file("templates/till.yaml"), file("ca.pem"));
        let inventory = Inventory {
            template: "till".into(),
            image_version: "7".into(),
            description: String::new(),
            created: datetime!(2026-11-01 00:00 UTC),
            root_hash: String::new(),
            kernel: String::new(),
            distribution: Default::default(),
            packages: BTreeMap::new(),
            containers: BTreeMap::from([("registry.example/pause:3".into(), format!("sha256:{}", "ab".repeat(32)))]),
            agent: Default::default(),
            root: BTreeMap::new(),
            initrd: BTreeMap::new(),
        };
        let publication = Publication {
            fixed: vec![("images/till/7/uki.efi".into(), file("uki.efi"))],
            replaceable: vec![("region/registrar-ca.pem".into(), ca.clone())],
            plain: vec![("archives/x.bita".into(), file("x.bita"))],
        };
        let explanation = Explanation { template: "till".into(), description: String::new(), parts: Vec::new() };
        let build = Build {
            template: &template,
            settings: Some(&file("settings.yaml")),
            explanation: &explanation,
            inventory: &inventory,
            agent: &file("agent"),
            registrar_ca: &ca,
            channel: "stable",
            builder: UNKNOWN_BUILDER,
            invocation: Some("https://ci.example/runs/7"),
            times: (datetime!(2026-11-02 10:00:00.5 UTC), datetime!(2026-11-02 10:01 UTC)),
        };
        let statement = state(&publication, &build).unwrap();
        insta::assert_json_snapshot!(statement);

        let unnamed = state(&publication, &Build { invocation: None, ..build }).unwrap();
        assert_eq!(unnamed.predicate.run_details.metadata, None);

        let envelope = sign(&statement, &keys.targets()).await.unwrap();
        let payload = BASE64.decode(&envelope.payload).unwrap();
        let Key::Ed25519 { keyval, .. } = keys.targets()[0].as_sign().await.unwrap().tuf_key() else { panic!("a key") };
        let key = UnparsedPublicKey::new(&ED25519, &keyval.public[..]);
        let signature = BASE64.decode(&envelope.signatures[0].sig).unwrap();
        key.verify(&pre_authentication_encoding(&payload), &signature).unwrap();
        let other = [&payload[..], b" "].concat();
        assert!(key.verify(&pre_authentication_encoding(&other), &signature).is_err());
        assert!(matches!(sign(&statement, &[]).await, Err(ProvenanceError::NoKey)));
    }
}
