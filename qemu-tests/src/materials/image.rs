//! The image that the demo installs: keys, the registrar's CA and the repository, made by image-builder with
//! settings for the local Kubernetes packages.

use super::{programs::Programs, site::Site};
use crate::{
    cache::{Cache, Key},
    host::mirror::Mirrors,
    process,
    report::Report,
    sandbox::{self, Apart},
    world::registrar,
};
use anyhow::{Context as _, Result, ensure};
use contracts::manifest::ImageManifest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// An image, ready to be served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// The template.
    pub template: String,
    /// The image repository.
    pub repository: PathBuf,
    /// The TUF root of trust.
    pub trust: PathBuf,
    /// The keys that signed it.
    pub keys: PathBuf,
    /// The registrar's state whose CA is in the repository; to be copied before use.
    pub registrar_state: PathBuf,
    /// What the image is.
    pub manifest: ImageManifest,
    /// The signed boot image.
    pub uki: PathBuf,
    /// More versions in the repository, by the names of their channels.
    #[serde(default)]
    pub versions: BTreeMap<String, ImageManifest>,
}

/// A further version of an image: its template, and the name of its version and of its channel.
#[derive(Debug, Clone)]
pub struct Further {
    /// The template.
    pub site: Site,
    /// The name.
    pub name: &'static str,
}

/// Builds the image; image-builder itself re-uses what it has made before.
///
/// # Errors
/// When image-builder or the registrar fails.
pub fn make(
    cache: &Cache,
    site: &Site,
    further: &[Further],
    programs: &Programs,
    parameters: &Map<String, Value>,
    mirrors: &Mirrors,
    report: &Report,
) -> Result<Image> {
    let Identity { keys, registrar_state } = identity(cache, programs, report)?;
    let settings = settings_text(parameters);
    let template = site.template.as_str();
    let sites: Vec<&Site> = std::iter::once(site).chain(further.iter().map(|further| &further.site)).collect();
    let key = key(&sites, programs, &keys, &registrar_state, &settings, mirrors)?;
    let build = |folder: &Path, site: &Site, name: Option<&str>| -> Result<Vec<u8>> {
        report.line(format!("image: building {template} {}", name.unwrap_or_default()));
        let file = folder.join("settings.yaml");
        fs::write(&file, &settings).with_context(|| format!("writing {}", file.display()))?;
        let mut command = if sandbox::am_root() {
            sandbox::tied(programs.image_builder.as_os_str())
        } else {
            // image-builder wants to be root; of a user namespace is enough.
            sandbox::command(Apart::Build, programs.image_builder.as_os_str())
        };
        command
            .arg("build")
            .arg(site.folder.join(format!("templates/{template}.yaml")))
            .args([
                "--debian-mirror",
                &mirrors.debian,
                "--json",
                "--spdx",
                "--invocation",
                "urn:shelfboot:test",
                "--settings",
            ])
            .arg(&file);
        if let Some(security) = &mirrors.security {
            command.args(["--debian-security-mirror", security]);
        }
        for (flag, path) in [
            ("--keys", keys.as_path()),
            ("--agent", &programs.agent),
            ("--registrar-ca", &registrar_state.join("ca.pem")),
            ("--repository", &folder.join("repository")),
            ("--cache", cache.root()),
        ] {
            command.arg(flag).arg(path);
        }
        if let Some(name) = name {
            command.args(["--channel", name, "--image-version", name]);
        }
        // Its summary comes on stdout, its progress on stderr: that goes to the terminal as it is.
        command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::inherit());
        let output = command.output().context("starting image-builder")?;
        ensure!(output.status.success(), "image-builder ended with {}", output.status);
        Ok(process::last_line(&output.stdout).into())
    };
    let entry = cache.make("images", &key, |folder| {
        let summary = build(folder, site, None)?;
        fs::write(folder.join("summary.json"), summary).context("writing image-builder's summary")?;
        further.iter().try_for_each(|further| build(folder, &further.site, Some(further.name)).map(|_| ()))
    })?;
    if entry.reused {
        report.line("image: from the cache");
    }
    cache.prune("images", KEEP_IMAGES)?;

    let repository = entry.path.join("repository");
    let summary = fs::read(entry.path.join("summary.json")).context("reading image-builder's summary")?;
    let summary: Summary = serde_json::from_slice(&summary).context("reading image-builder's summary")?;
    let manifest = manifest(&repository, &summary.manifest)?;
    let versions = further.iter().map(|further| {
        let found = self::manifest(&repository, &ImageManifest::target_name(template, further.name))?;
        Ok((further.name.to_owned(), found))
    });
    let versions = versions.collect::<Result<_>>()?;
    let uki = target(&repository, &manifest.uki)?;
    Ok(Image {
        template: template.to_owned(),
        trust: repository.join("metadata/1.root.json"),
        repository,
        keys,
        registrar_state,
        manifest,
        uki,
        versions,
    })
}

fn manifest(repository: &Path, name: &str) -> Result<ImageManifest> {
    let path = target(repository, name)?;
    Ok(contracts::read(&fs::read(&path).with_context(|| format!("reading {}", path.display()))?)?)
}

/// Who signs images, and whose certificates are in them.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The key set.
    pub keys: PathBuf,
    /// The registrar's state with its certificate authority.
    pub registrar_state: PathBuf,
}

/// Takes keys and the registrar's authority from the cache, or makes them.
///
/// # Errors
/// When image-builder or the registrar fails.
pub fn identity(cache: &Cache, programs: &Programs, report: &Report) -> Result<Identity> {
    let identity = cache.folder("identity")?;
    let keys = once(&identity.join("keys"), |keys| {
        report.line("image: making development keys");
        process::output(Command::new(&programs.image_builder).args(["keys", "init", "--out"]).arg(keys))?;
        Ok(())
    })?;
    // The CA is part of the repository, so it is there before the first build and the same for every run.
    let registrar_state = once(&identity.join("registrar"), |state| {
        report.line("image: making the registrar's certificate authority");
        registrar::init(&programs.registrar, state)
    })?;
    Ok(Identity { keys, registrar_state })
}

/// How many images are kept; each has a few hundred megabytes.
const KEEP_IMAGES: usize = 3;

/// A repository's time stamp is believed for 30 days; after this many an image is built again.
const REBUILD_AFTER_DAYS: i64 = 7;

/// Everything that decides what an image contains.
fn key(
    sites: &[&Site],
    programs: &Programs,
    keys: &Path,
    registrar_state: &Path,
    settings: &str,
    mirrors: &Mirrors,
) -> Result<Key> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let period = time::OffsetDateTime::now_utc().unix_timestamp() / (REBUILD_AFTER_DAYS * 24 * 3600);
    let mut inputs = vec![
        sites.first().map(|site| site.template.clone()).unwrap_or_default().into_bytes(),
        settings.into(),
        mirrors.debian.as_bytes().to_vec(),
        mirrors.security.clone().unwrap_or_default().into_bytes(),
        period.to_string().into_bytes(),
        read(&programs.image_builder)?,
        read(&programs.agent)?,
        read(&registrar_state.join("ca.pem"))?,
        read(&keys.join("tuf/1.root.json"))?,
    ];
    let folders = ["templates", "software", "configuration"];
    for folder in sites.iter().flat_map(|site| folders.map(|folder| site.folder.join(folder))) {
        let entries = fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        files.sort();
        for file in files {
            inputs.push(file.file_name().unwrap_or_default().as_encoded_bytes().to_vec());
            inputs.push(read(&file)?);
        }
    }
    Ok(Key::of(&inputs))
}

/// What the test world reads of image-builder's summary.
#[derive(Debug, Deserialize)]
struct Summary {
    manifest: String,
}

/// Settings as a user writes them, for this world.
pub(crate) fn settings_text(parameters: &Map<String, Value>) -> String {
    let settings = json!({"apiVersion": "shelfboot.dev/v1", "kind": "Settings", "parameters": parameters});
    format!("{settings:#}\n")
}

/// Something that is made once and then kept, complete or not at all.
fn once(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if !path.exists() {
        let part = path.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("removing {}", part.display()))?;
        }
        make(&part)?;
        fs::rename(&part, path).with_context(|| format!("naming {}", path.display()))?;
    }
    Ok(path.to_owned())
}

/// The file of a TUF target. With consistent snapshots its name begins with its digest, which the newest
/// targets metadata tells. Nothing is verified: image-builder has just written it here.
pub(crate) fn target(repository: &Path, name: &str) -> Result<PathBuf> {
    let metadata = repository.join("metadata");
    let mut newest = None;
    for entry in fs::read_dir(&metadata).with_context(|| format!("listing {}", metadata.display()))? {
        let file = entry.with_context(|| format!("listing {}", metadata.display()))?.file_name();
        let version = file.to_str().and_then(|f| f.strip_suffix(".targets.json")).and_then(|v| v.parse::<u64>().ok());
        newest = newest.max(version);
    }
    let file = metadata.join(format!("{}.targets.json", newest.context("the repository has no targets metadata")?));
    let targets = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let targets: serde_json::Value = serde_json::from_slice(&targets).context("reading the targets metadata")?;
    let digest = targets["signed"]["targets"][name]["hashes"]["sha256"].as_str();
    let digest = digest.with_context(|| format!("the repository {} has no target {name}", repository.display()))?;
    Ok(repository.join("targets").join(format!("{digest}.{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_by_the_newest_metadata() {
        let repository = tempfile::tempdir().unwrap();
        let metadata = repository.path().join("metadata");
        fs::create_dir(&metadata).unwrap();
        for (version, digest) in [(9, "aa"), (10, "bb")] {
            let targets = json!({"signed": {"targets": {"images/t/1/uki.efi": {"hashes": {"sha256": digest}}}}});
            fs::write(metadata.join(format!("{version}.targets.json")), targets.to_string()).unwrap();
        }
        let found = target(repository.path(), "images/t/1/uki.efi").unwrap();
        assert_eq!(found, repository.path().join("targets/bb.images/t/1/uki.efi"));
        assert!(target(repository.path(), "images/t/2/uki.efi").is_err());
    }
}
