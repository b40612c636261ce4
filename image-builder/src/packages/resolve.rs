//! Makes a lock: asks apt, in folders of its own, which packages a template and the tools come to.

use super::{
    apt::{self, Record},
    lock::{self, DEBIAN, Layer, Lock, Package, SECURITY},
};
use crate::{
    command::{CommandError, Sandbox},
    files::{self, FileError},
    report::Reporter,
    sources::Mirrors,
};
use profiles::{AptRepository, MachineTemplate, SigningKey};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// Debian's keys, where its package puts them. Without the file apt looks at those that the host trusts.
const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What every tree has: Debian's essential packages, and those that a system needs to work with packages (policy 2.5).
const ESSENTIAL: [&str; 2] = ["?essential", "?priority(required)"];

/// Why a template could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// apt refused or failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// apt would install something that the lists do not describe.
    #[error("the package lists do not describe {name} {version} ({problem})")]
    NotListed {
        /// Which package.
        name: String,
        /// Which version.
        version: String,
        /// What is missing.
        problem: &'static str,
    },
    /// Two layers want two versions of a package.
    #[error("the base profile brings {name} {base}, the whole template {whole}")]
    Layers {
        /// Which package.
        name: String,
        /// The version of the base layer.
        base: String,
        /// The version that the template comes to.
        whole: String,
    },
}

/// Asks apt. What `folder` has of an earlier time is used as far as it is still true. Needs the network, unless every source is a
/// folder.
///
/// # Errors
/// See [`ResolveError`].
pub async fn resolve(
    template: &MachineTemplate,
    tools: &[&str],
    mirrors: &Mirrors,
    now: OffsetDateTime,
    folder: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Lock, ResolveError> {
    let whole = Apt::prepare(folder, "image", mirrors, &template.repositories)?;
    whole.update(reporter).await?;
    let image = whole.image(template, reporter).await?;
    let none = BTreeMap::new();
    // The lists are there already.
    let tools_layers = layers_of_tools(&Apt::prepare(folder, "tools", mirrors, &none)?, tools, reporter).await?;
    Ok(Lock {
        api_version: profiles::API_VERSION.into(),
        kind: lock::KIND.into(),
        template: template.name.clone(),
        resolved_at: now,
        request: lock::request(template, tools),
        image,
        tools: tools_layers,
    })
}

/// Asks apt for the tools alone; see [`resolve`]. They come from Debian, whatever a template's repositories hold.
///
/// # Errors
/// See [`ResolveError`].
pub async fn resolve_tools(
    tools: &[&str],
    mirrors: &Mirrors,
    folder: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Vec<Layer>, ResolveError> {
    let none = BTreeMap::new();
    let debian = Apt::prepare(folder, "tools", mirrors, &none)?;
    debian.update(reporter).await?;
    layers_of_tools(&debian, tools, reporter).await
}

async fn layers_of_tools(
    debian: &Apt<'_>,
    tools: &[&str],
    reporter: &mut dyn Reporter,
) -> Result<Vec<Layer>, ResolveError> {
    let essential = debian.closure(&ESSENTIAL.map(str::to_owned), reporter).await?;
    let names = essential.iter().map(|(name, _)| name.clone()).chain(tools.iter().map(|tool| (*tool).to_owned()));
    let names: Vec<String> = names.collect();
    let all = debian.closure(&names, reporter).await?;
    let found = debian.describe(&all, &names, reporter).await?;
    let layer = |name: &str, wanted: &dyn Fn(&str) -> bool| {
        let packages = all.iter().filter(|(name, _)| wanted(name)).filter_map(|(name, _)| found.get(name).cloned());
        Layer { layer: name.into(), packages: packages.collect() }
    };
    let first = |name: &str| essential.iter().any(|(essential, _)| essential == name);
    Ok(vec![layer("essential", &first), layer("tools", &|name| !first(name))])
}

/// apt in folders of its own.
struct Apt<'a> {
    configuration: PathBuf,
    mirrors: &'a Mirrors,
    repositories: &'a BTreeMap<String, AptRepository>,
}

/// Names and versions in the order of their installation.
type Versions = Vec<(String, String)>;

impl<'a> Apt<'a> {
    fn prepare(
        folder: &Path,
        name: &str,
        mirrors: &'a Mirrors,
        repositories: &'a BTreeMap<String, AptRepository>,
    ) -> Result<Self, FileError> {
        for part in ["state/lists/partial", &format!("cache-{name}/archives/partial"), "log", "keys"] {
            files::create_folder(&folder.join(part))?;
        }
        let mut keys = BTreeMap::new();
        for (name, repository) in repositories {
            keys.insert(name.clone(), key_file(name, &repository.signed_by, &folder.join("keys"))?);
        }
        let debian = Path::new(DEBIAN_KEYS);
        let sources = apt::sources(mirrors, debian.exists().then_some(debian), repositories, &keys);
        files::write(&folder.join(format!("sources-{name}.list")), sources.as_bytes(), 0o644)?;
        files::write(&folder.join("status"), apt::STAND_IN.as_bytes(), 0o644)?;
        let configuration = folder.join(format!("{name}.conf"));
        files::write(&configuration, apt::configuration(folder, name).as_bytes(), 0o644)?;
        Ok(Self { configuration, mirrors, repositories })
    }

    async fn update(&self, reporter: &mut dyn Reporter) -> Result<(), CommandError> {
        // A list that cannot be had is an error, not a warning: an old one would lock old versions.
        let arguments = [
            "-c".as_ref(),
            self.configuration.as_os_str(),
            "-o".as_ref(),
            "APT::Update::Error-Mode=any".as_ref(),
            "-qq".as_ref(),
            "update".as_ref(),
        ];
        Sandbox::host().run(reporter, "apt-get", &arguments).await
    }

    async fn ask(
        &self,
        program: &str,
        words: &[&str],
        packages: &[String],
        reporter: &mut dyn Reporter,
    ) -> Result<String, CommandError> {
        let mut arguments: Vec<std::ffi::OsString> = vec!["-c".into(), self.configuration.clone().into()];
        arguments.extend(words.iter().map(Into::into));
        arguments.extend(packages.iter().map(Into::into));
        Sandbox::host().output(reporter, program, &arguments).await
    }

    /// The packages with everything that they depend on.
    async fn closure(&self, packages: &[String], reporter: &mut dyn Reporter) -> Result<Versions, CommandError> {
        Ok(apt::installed(&self.ask("apt-get", &["--simulate", "install"], packages, reporter).await?))
    }

    /// Essential packages, the base profile's, and the rest: each layer asks for all of the layer below, so that they nest.
    async fn image(&self, template: &MachineTemplate, reporter: &mut dyn Reporter) -> Result<Vec<Layer>, ResolveError> {
        let pins: BTreeMap<&str, &String> =
            template.packages.iter().filter_map(|package| Some((package.split_once('=')?.0, package))).collect();
        let named = |versions: &Versions, more: &BTreeSet<String>| {
            let names = versions
                .iter()
                .map(|(name, _)| name.as_str())
                .chain(more.iter().map(|p| p.split('=').next().unwrap_or(p)));
            let names: BTreeSet<&str> = names.collect();
            names
                .into_iter()
                .map(|name| pins.get(name).map_or_else(|| name.to_owned(), |pin| (*pin).clone()))
                .collect::<Vec<_>>()
        };
        let essential = self.closure(&ESSENTIAL.map(str::to_owned), reporter).await?;
        let base = self.closure(&named(&essential, &template.base_packages), reporter).await?;
        let request = named(&base, &template.packages);
        let all = self.closure(&request, reporter).await?;
        for (name, version) in &base {
            match all.iter().find(|(other, _)| other == name) {
                Some((_, whole)) if whole != version => {
                    return Err(ResolveError::Layers {
                        name: name.clone(),
                        base: version.clone(),
                        whole: whole.clone(),
                    });
                }
                _ => {}
            }
        }
        let described = self.describe(&all, &request, reporter).await?;
        let mut taken = BTreeSet::new();
        let mut layer = |name: &str, versions: &Versions| {
            let fresh = versions.iter().filter(|(name, _)| taken.insert(name.clone()));
            Layer {
                layer: name.to_owned(),
                packages: fresh.filter_map(|(name, _)| described.get(name).cloned()).collect(),
            }
        };
        Ok(vec![layer("essential", &essential), layer("base", &base), layer(&template.name, &all)])
    }

    /// File, length and digest of every package, and which source has it.
    async fn describe(
        &self,
        versions: &Versions,
        request: &[String],
        reporter: &mut dyn Reporter,
    ) -> Result<BTreeMap<String, Package>, ResolveError> {
        let addresses = apt::addresses(&self.ask("apt-get", &["--print-uris", "install"], request, reporter).await?);
        let wanted: Vec<String> = versions.iter().map(|(name, version)| format!("{name}={version}")).collect();
        let records = apt::records(&self.ask("apt-cache", &["show"], &wanted, reporter).await?);
        let mut out = BTreeMap::new();
        for (name, version) in versions {
            let problem = |problem| ResolveError::NotListed { name: name.clone(), version: version.clone(), problem };
            let of_package = |record: &&Record| record.name == *name && record.version == *version;
            let candidates: Vec<&Record> = records.iter().filter(of_package).collect();
            let architecture = candidates.first().map(|record| record.architecture.as_str());
            let file = format!("{name}_{version}_{}.deb", architecture.ok_or_else(|| problem("no record"))?);
            let address = addresses.get(&file).ok_or_else(|| problem("no address"))?;
            let (source, path) = self.source(address).ok_or_else(|| problem("an address of no source"))?;
            let record = candidates.iter().find(|record| decoded(&path).ends_with(decoded(&record.file).as_str()));
            let record = record.ok_or_else(|| problem("no record for its address"))?;
            let sha256 = record.sha256.clone().ok_or_else(|| problem("no SHA-256"))?;
            let (architecture, bytes) = (record.architecture.clone(), record.bytes);
            out.insert(
                name.clone(),
                Package { name: name.clone(), version: version.clone(), architecture, source, path, bytes, sha256 },
            );
        }
        Ok(out)
    }

    /// Which source an address belongs to, and the path below it.
    fn source(&self, address: &str) -> Option<(String, String)> {
        let debian = [(DEBIAN, self.mirrors.archive.clone()), (SECURITY, self.mirrors.security.clone())];
        let others = self.repositories.iter().map(|(name, repository)| (name.as_str(), apt::address(repository)));
        let fits = |(name, base): (&str, String)| {
            let path = address.strip_prefix(&base)?.strip_prefix('/')?;
            let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            Some((base.len(), name.to_owned(), path.join("/")))
        };
        // The longest one: a security archive may lie below the archive.
        others.chain(debian).filter_map(fits).max().map(|(_, name, path)| (name, path))
    }
}

fn decoded(path: &str) -> String {
    path.replace("%3a", ":").replace("%7e", "~").replace("%2b", "+")
}

/// apt tells armored from binary keys by the file's name (sources.list(5), Signed-By).
fn key_file(name: &str, key: &SigningKey, folder: &Path) -> Result<PathBuf, FileError> {
    let bytes = match key {
        SigningKey::File(path) => files::read(path)?,
        SigningKey::Armored(text) => text.clone().into_bytes(),
    };
    let extension = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") { "asc" } else { "gpg" };
    let path = folder.join(format!("{name}.{extension}"));
    files::write(&path, &bytes, 0o644)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_after_its_form() {
        let folder = tempfile::tempdir().unwrap();
        let armored = SigningKey::Armored("\n-----BEGIN PGP PUBLIC KEY BLOCK-----".into());
        assert!(key_file("k", &armored, folder.path()).unwrap().ends_with("k.asc"));
    }

    #[test]
    fn an_address_belongs_to_the_source_that_fits_longest() {
        let mirrors = Mirrors { archive: "http://m/debian".into(), security: "http://m/debian/security".into() };
        let repositories = BTreeMap::from([(
            "own".to_owned(),
            AptRepository {
                uri: "file:///srv/apt/".into(),
                suite: "./".into(),
                components: vec![],
                signed_by: SigningKey::Armored(String::new()),
            },
        )]);
        let apt = Apt { configuration: PathBuf::new(), mirrors: &mirrors, repositories: &repositories };
        let source = |address: &str| apt.source(address);
        let pair = |source: &str, path: &str| Some((source.to_owned(), path.to_owned()));
        assert_eq!(source("http://m/debian/pool/a.deb"), pair("debian", "pool/a.deb"));
        assert_eq!(source("http://m/debian/security/pool/a.deb"), pair("debian-security", "pool/a.deb"));
        assert_eq!(source("file:/srv/apt/./kubelet.deb"), pair("own", "kubelet.deb"));
        assert_eq!(source("http://m/debianx/a.deb"), None);
    }
}
