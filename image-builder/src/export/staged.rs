//! The part of a repository that one image needs, taken out of it through TUF: a repository of its own, in a folder that nobody
//! else writes to.

use super::unpack::{self, UnpackError};
use crate::{
    files::{self, FileError, at},
    repo::layout::{is_safe, target_paths},
};
use contracts::manifest::{Channel, ImageManifest, RoleVersions};
use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};
use tough::{FilesystemTransport, IntoVec, Repository, RepositoryLoader, TargetName};
use url::Url;

/// No document of TUF's has more bytes; more files in `metadata/` than this are not looked at.
const METADATA_LIMIT: u64 = 64 << 20;

/// `TEMPLATE`, `TEMPLATE@VERSION` or `TEMPLATE:CHANNEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The template.
    pub template: String,
    /// Which of its versions.
    pub version: Which,
}

/// Which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that a channel names.
    Channel(String),
    /// This one.
    Version(String),
}

/// Not a name of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write TEMPLATE, TEMPLATE@VERSION or TEMPLATE:CHANNEL")]
pub struct NotAnImage;

impl FromStr for Wanted {
    type Err = NotAnImage;

    fn from_str(text: &str) -> Result<Self, NotAnImage> {
        let (template, version) = match text.split_once(['@', ':']) {
            Some((template, version)) if text[template.len()..].starts_with('@') => {
                (template, Which::Version(version.to_owned()))
            }
            Some((template, channel)) => (template, Which::Channel(channel.to_owned())),
            None => (text, Which::Channel("stable".to_owned())),
        };
        // The names become parts of paths.
        let (Which::Channel(other) | Which::Version(other)) = &version;
        let fine = |name: &str| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-~".contains(&b))
                && name.as_bytes()[0].is_ascii_alphanumeric()
        };
        if fine(template) && fine(other) {
            Ok(Self { template: template.to_owned(), version })
        } else {
            Err(NotAnImage)
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Which::Channel(channel) => write!(f, "{}:{channel}", self.template),
            Which::Version(version) => write!(f, "{}@{version}", self.template),
        }
    }
}

/// Why an image could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum StagedError {
    /// The root of trust is not a file that can be read.
    #[error(transparent)]
    Root(FileError),
    /// Not a repository of this root of trust, expired, or damaged.
    #[error("the repository {} cannot be believed with this root of trust", path.display())]
    Load {
        /// The repository.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// It has no such image or channel.
    #[error("the repository has no target {0}")]
    Missing(String),
    /// A target does not match its signed digest.
    #[error("the target {name} cannot be believed")]
    Target {
        /// Which.
        name: String,
        /// What is wrong.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// A document could not be read.
    #[error(transparent)]
    Document(#[from] contracts::ReadError),
    /// A document names something that would not be safe as a path.
    #[error("the manifest names '{0}', which is no path inside the repository")]
    Path(String),
    /// The archive.
    #[error("the archive cannot be believed")]
    Archive(#[source] UnpackError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// One file of the staged repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// Its path below the repository, for example `archives/….bita`.
    pub path: String,
    /// The TUF target that it is, if it is one.
    pub target: Option<String>,
}

/// A checked image, as a repository of its own.
#[derive(Debug)]
pub struct Staged {
    /// Where the repository is.
    pub folder: PathBuf,
    /// The image.
    pub manifest: ImageManifest,
    /// The versions of the roles that vouch for it.
    pub versions: RoleVersions,
    /// Every file, sorted by path.
    pub files: Vec<StagedFile>,
}

impl Staged {
    /// Takes an image out of `repository`, believing only what `root` leads to, into `repo/` of the work folder.
    ///
    /// # Errors
    /// See [`StagedError`].
    pub async fn take(repository: &Path, root: &Path, wanted: &Wanted, work: &Path) -> Result<Self, StagedError> {
        let repository = fs::canonicalize(repository).map_err(at("look at", repository))?;
        let root = files::read(root).map_err(StagedError::Root)?;
        let folder = work.join("repo");
        // Metadata first, and only then looked at: somebody may publish meanwhile.
        copy_metadata(&repository.join("metadata"), &folder.join("metadata"))?;
        let loader = RepositoryLoader::new(&root, url(&folder, "metadata"), url(&repository, "targets"));
        let load = |source| StagedError::Load { path: repository.clone(), source: Box::new(source) };
        let tuf = loader.transport(FilesystemTransport).load().await.map_err(load)?;
        let mut kept = prune_metadata(&folder.join("metadata"), &tuf)?;

        let version = match &wanted.version {
            Which::Version(version) => version.clone(),
            Which::Channel(channel) => {
                let name = Channel::target_name(&wanted.template, channel);
                contracts::read::<Channel>(&target(&tuf, &name).await?)?.image_version
            }
        };
        let name = ImageManifest::target_name(&wanted.template, &version);
        let manifest: ImageManifest = contracts::read(&target(&tuf, &name).await?)?;
        for name in targets_of(&manifest, &wanted.template, &version, &tuf) {
            let digest = digest(&tuf, &name)?;
            // The name that the agent and netboot ask for.
            let [_, path] = target_paths(&name, &digest);
            files::write(&folder.join(&path), &target(&tuf, &name).await?, 0o644)?;
            kept.push(StagedFile { path, target: Some(name) });
        }
        let archive = &manifest.archive;
        if !is_safe(&archive.path) {
            return Err(StagedError::Path(archive.path.clone()));
        }
        let (from, to) = (repository.join(&archive.path), folder.join(&archive.path));
        files::create_folder(to.parent().unwrap_or(&folder))?;
        fs::copy(&from, &to).map_err(at("read", &from))?;
        unpack::check(&to, &manifest).await.map_err(StagedError::Archive)?;
        kept.push(StagedFile { path: archive.path.clone(), target: None });
        kept.sort_by(|a, b| a.path.cmp(&b.path));
        let versions = RoleVersions {
            targets: tuf.targets().signed.version.get(),
            snapshot: tuf.snapshot().signed.version.get(),
            timestamp: tuf.timestamp().signed.version.get(),
        };
        Ok(Self { folder, manifest, versions, files: kept })
    }

    /// The staged file of a target.
    ///
    /// # Errors
    /// When it is not among the image's.
    pub fn target(&self, name: &str) -> Result<Vec<u8>, StagedError> {
        let file = self.files.iter().find(|file| file.target.as_deref() == Some(name));
        let file = file.ok_or_else(|| StagedError::Missing(name.to_owned()))?;
        Ok(files::read(&self.folder.join(&file.path))?)
    }

    /// The staged archive.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.folder.join(&self.manifest.archive.path)
    }

    /// Bytes of all files.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn bytes(&self) -> Result<u64, FileError> {
        self.files.iter().map(|file| files::length(&self.folder.join(&file.path))).sum()
    }
}

/// What the manifest names, and everything that was published beside it: bills of materials, provenance.
fn targets_of(manifest: &ImageManifest, template: &str, version: &str, tuf: &Repository) -> BTreeSet<String> {
    let beside = format!("images/{template}/{version}/");
    let known = tuf.all_targets().map(|(name, _)| name.raw().to_owned());
    let mut names: BTreeSet<String> = known.filter(|name| name.starts_with(&beside)).collect();
    names.extend([manifest.uki.clone(), manifest.boot_loader.clone(), manifest.registrar_ca.clone()]);
    if let Some(bios) = &manifest.bios {
        names.extend([bios.boot_sector.clone(), bios.core.clone()]);
    }
    names
}

async fn target(tuf: &Repository, name: &str) -> Result<Vec<u8>, StagedError> {
    let wrong = |source| StagedError::Target { name: name.to_owned(), source: Box::new(source) };
    let known = TargetName::new(name).map_err(wrong)?;
    let stream = tuf.read_target(&known).await.map_err(wrong)?;
    let stream = stream.ok_or_else(|| StagedError::Missing(name.to_owned()))?;
    stream.into_vec().await.map_err(wrong)
}

fn digest(tuf: &Repository, name: &str) -> Result<String, StagedError> {
    let found = tuf.all_targets().find(|(known, _)| known.raw() == name);
    let (known, target) = found.ok_or_else(|| StagedError::Missing(name.to_owned()))?;
    if known.raw() != known.resolved() || !is_safe(name) {
        return Err(StagedError::Path(name.to_owned()));
    }
    Ok(hex::encode(&target.hashes.sha256))
}

fn copy_metadata(from: &Path, to: &Path) -> Result<(), FileError> {
    files::create_folder(to)?;
    for entry in fs::read_dir(from).map_err(at("list", from))? {
        let path = entry.map_err(at("list", from))?.path();
        let json = path.extension().is_some_and(|extension| extension == "json");
        if json && path.is_file() && files::length(&path)? <= METADATA_LIMIT {
            let name = path.file_name().unwrap_or_default();
            files::write(&to.join(name), &files::read(&path)?, 0o644)?;
        }
    }
    Ok(())
}

/// Removes the metadata of other states: what stays is every root, and what the current time stamp leads to.
fn prune_metadata(folder: &Path, tuf: &Repository) -> Result<Vec<StagedFile>, FileError> {
    let mut keep: BTreeSet<String> = ["root.json".to_owned(), "timestamp.json".to_owned()].into();
    keep.extend((1..=tuf.root().signed.version.get()).map(|version| format!("{version}.root.json")));
    keep.insert(format!("{}.snapshot.json", tuf.snapshot().signed.version));
    keep.extend(tuf.snapshot().signed.meta.iter().map(|(name, meta)| format!("{}.{name}", meta.version)));
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder).map_err(at("list", folder))? {
        let path = entry.map_err(at("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if keep.contains(&name) {
            kept.push(StagedFile { path: format!("metadata/{name}"), target: None });
        } else {
            files::remove(&path)?;
        }
    }
    Ok(kept)
}

fn url(folder: &Path, part: &str) -> Url {
    #[expect(clippy::expect_used, reason = "the folder is absolute, and an absolute path always is a file URL")]
    Url::from_directory_path(folder.join(part)).expect("absolute path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_by_template_version_or_channel() {
        let wanted = |text: &str| text.parse::<Wanted>();
        let of = |version| Ok(Wanted { template: "k8s-worker".into(), version });
        assert_eq!(wanted("k8s-worker"), of(Which::Channel("stable".into())));
        assert_eq!(wanted("k8s-worker:canary"), of(Which::Channel("canary".into())));
        assert_eq!(wanted("k8s-worker@2026.11.1"), of(Which::Version("2026.11.1".into())));
        assert_eq!(wanted("k8s-worker@2026.11.1").unwrap().to_string(), "k8s-worker@2026.11.1");
        for bad in ["", "@1", "a@", "a:", "a/b", "a@../x", "a@1@2", "a:b:c", ".a"] {
            assert_eq!(wanted(bad), Err(NotAnImage), "{bad}");
        }
    }
}
