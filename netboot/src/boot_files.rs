//! Boot files: the signed UKI of each template that the assignments name, verified through TUF, and held open
//! under one name for TFTP (`TEMPLATE.efi`) and HTTP (`/boot/TEMPLATE.efi`). For BIOS machines see [`bios`].

pub mod bios;
pub mod ipxe;

use crate::{
    beneath,
    cache::{
        Cache,
        metadata::{Expiry, Freshness, moment},
    },
    content::Content,
    proto::http::Validators,
};
use bytes::Bytes;
use contracts::{
    assignment::ImageRef,
    manifest::{Channel, ImageManifest},
};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;
use tough::{ExpirationEnforcement, FilesystemTransport, Repository, RepositoryLoader, TargetName};
use url::Url;

/// A UKI with every driver has some 100 MB.
pub(crate) const LARGEST_BOOT_FILE: u64 = 512 << 20;
const LARGEST_DOCUMENT: u64 = 1 << 20;

/// Why boot files cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file or folder is missing.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// A path that no URL can name.
    #[error("{} is not a folder that a URL can name", .0.display())]
    Path(PathBuf),
    /// TUF does not accept the repository.
    #[error("the repository {} does not verify from {}", .repository.display(), .trust.display())]
    Verify {
        /// The repository.
        repository: PathBuf,
        /// The root of trust.
        trust: PathBuf,
        /// What TUF says.
        #[source]
        source: Box<tough::error::Error>,
    },
    /// It was valid once.
    #[error("the repository {} is signed for no longer than {}", .repository.display(), moment(*.since))]
    Expired {
        /// The repository.
        repository: PathBuf,
        /// Until when it was valid, Unix time.
        since: i64,
        /// All of its dates.
        expiry: Expiry,
    },
    /// A target is not what the signed metadata says.
    #[error("the target `{0}` does not verify")]
    Target(String, #[source] Box<tough::error::Error>),
    /// The file of a target is not what the signed metadata says.
    #[error("the file {} is not the target that the signed metadata names: it is damaged, or somebody else's", .0.display())]
    Digest(PathBuf),
    /// A target is not there.
    #[error("the repository has no target `{0}`")]
    NoTarget(String),
    /// A target is larger than makes sense.
    #[error("the target `{name}` has {bytes} bytes, more than {most}")]
    TooLarge {
        /// Its name.
        name: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        most: u64,
    },
    /// A UKI that BIOS machines cannot be started from.
    #[error("the target `{0}` cannot be taken apart for BIOS machines")]
    Uki(String, #[source] bios::NotForBios),
    /// A document in the repository is unreadable.
    #[error("the target `{0}` is unreadable")]
    Document(String, #[source] contracts::ReadError),
}

/// One boot file.
#[derive(Debug, Clone)]
pub struct BootFile {
    /// What is in it.
    pub content: Content,
    /// For HTTP's conditions.
    pub validators: Validators,
    /// The image's version.
    pub version: String,
    /// The processor that it is for, as the manifest names it.
    pub architecture: String,
    /// Which part of the boot this file is, as shares of 1: where it begins and where it ends. What is only a step on
    /// the way to the boot image ends at 0.
    pub share: (f64, f64),
}

impl BootFile {
    /// A file whose content nobody changes in place. `digest` is that of the content, or of what it is a part of, with a
    /// word for the part: it becomes the entity tag.
    fn new(content: Content, digest: &str, version: &str, share: (f64, f64)) -> Self {
        let (length, etag) = (content.length(), format!("\"{digest}\""));
        let validators = Validators { length, etag, modified: SystemTime::now() };
        Self { content, validators, version: version.to_owned(), architecture: "x86_64".into(), share }
    }

    /// The same for another processor.
    fn built_for(self, architecture: &str) -> Self {
        Self { architecture: architecture.to_owned(), ..self }
    }

    /// How much of the whole boot is through when `fraction` of this file is.
    #[must_use]
    pub fn progress(&self, fraction: f64) -> f64 {
        let (from, to) = self.share;
        // Exactly the end at the end: 1.0 means that everything was handed out.
        if fraction >= 1.0 { to } else { from + (to - from) * fraction }
    }
}

/// What is served now.
#[derive(Debug, Clone, Default)]
pub struct BootSet {
    /// By name, `TEMPLATE.efi`.
    pub files: BTreeMap<String, BootFile>,
    /// Why something is missing, in a sentence for people.
    pub problem: Option<String>,
    /// Until when what they were verified by is valid.
    pub expiry: Option<Expiry>,
}

/// The boot files, exchanged as a whole.
#[derive(Debug, Default)]
pub struct BootFiles {
    current: RwLock<Arc<BootSet>>,
}

/// The name of a template's boot file.
#[must_use]
pub fn name_of(template: &str) -> String {
    format!("{template}.efi")
}

impl BootFiles {
    /// What is served now.
    #[must_use]
    pub fn current(&self) -> Arc<BootSet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One file. Letters' case does not matter: some firmware writes names in capital letters.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<BootFile> {
        let current = self.current();
        let exact = current.files.get(name);
        let alike = || current.files.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, file)| file);
        exact.or_else(alike).cloned()
    }

    /// Says why something is missing; what is served stays.
    pub fn withhold(&self, why: String) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.problem.as_ref() != Some(&why) {
            *current = Arc::new(BootSet { problem: Some(why), ..BootSet::clone(&current) });
        }
    }

    /// Puts other files in place. Transfers under way keep theirs.
    pub fn replace(&self, set: BootSet) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
    }
}

/// A repository and what it is verified from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The repository's folder.
    pub repository: PathBuf,
    /// The TUF root.
    pub trust: PathBuf,
    /// Folder in which TUF keeps the newest versions it has seen, so that nobody can go back behind them.
    pub datastore: PathBuf,
    /// How long timestamp and snapshot are believed after their expiry.
    pub stale: Duration,
    /// Where boot images come from when there is no disk for them.
    pub cache: Option<Arc<Cache>>,
}

impl Source {
    /// A digest of `timestamp.json`: it changes whenever the repository does.
    #[must_use]
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        let bytes = std::fs::read(self.repository.join("metadata/timestamp.json")).ok()?;
        Some(Sha256::digest(bytes).into())
    }

    /// Verifies the repository from the root of trust.
    ///
    /// # Errors
    /// [`BootError::Read`], [`BootError::Verify`] or [`BootError::Expired`].
    pub async fn open(&self) -> Result<Repository, BootError> {
        let root = std::fs::read(&self.trust).map_err(|e| BootError::Read(self.trust.clone(), e))?;
        std::fs::create_dir_all(&self.datastore).map_err(|e| BootError::Read(self.datastore.clone(), e))?;
        crate::cache::metadata::forget_time(&self.datastore);
        let (metadata, targets) = (self.url("metadata")?, self.url("targets")?);
        let loader = RepositoryLoader::new(&root, metadata, targets)
            .transport(FilesystemTransport)
            // Judged below, by the configuration's policy.
            .expiration_enforcement(ExpirationEnforcement::Unsafe);
        let opened = loader.datastore(&self.datastore).load().await.map_err(|source| BootError::Verify {
            repository: self.repository.clone(),
            trust: self.trust.clone(),
            source: Box::new(source),
        })?;
        let expiry = Expiry::of(&opened);
        match expiry.freshness(OffsetDateTime::now_utc(), self.stale) {
            Freshness::Fresh => {}
            Freshness::Stale { since, until } => tracing::warn!(
                "timestamp or snapshot of the repository have expired {}; `staleMetadata` allows them until {}",
                moment(since),
                moment(until)
            ),
            Freshness::TooOld { since } => {
                return Err(BootError::Expired { repository: self.repository.clone(), since, expiry });
            }
        }
        Ok(opened)
    }

    fn url(&self, folder: &str) -> Result<Url, BootError> {
        let path = self.repository.canonicalize().map_err(|e| BootError::Read(self.repository.clone(), e))?;
        Url::from_directory_path(path.join(folder)).map_err(|()| BootError::Path(self.repository.clone()))
    }

    /// Loads the boot files of these images. `base_url` is where BIOS machines find theirs. An image that is missing or damaged is a problem of its own; the
    /// others are served.
    ///
    /// # Errors
    /// [`BootError`] when the repository as a whole cannot be trusted.
    pub async fn load(&self, images: &[ImageRef], base_url: &str) -> Result<BootSet, BootError> {
        let repository = self.open().await?;
        let mut set = BootSet { expiry: Some(Expiry::of(&repository)), ..BootSet::default() };
        for image in images {
            let name = name_of(&image.template);
            if set.files.contains_key(&name) {
                continue;
            }
            match self.load_one(&repository, image, base_url).await {
                Ok(files) => set.files.extend(files),
                Err(error) => {
                    let text = format!("{}: {}", image.template, chain(&error));
                    tracing::error!("no boot file for {text}");
                    set.problem.get_or_insert(text);
                }
            }
        }
        Ok(set)
    }
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Source {
    /// The files of one image, by name.
    async fn load_one(
        &self,
        repository: &Repository,
        image: &ImageRef,
        base_url: &str,
    ) -> Result<Vec<(String, BootFile)>, BootError> {
        let version = match &image.version {
            Some(version) => version.clone(),
            None => {
                let name = Channel::target_name(&image.template, &image.channel);
                document::<Channel>(repository, &name).await?.image_version
            }
        };
        let name = ImageManifest::target_name(&image.template, &version);
        let manifest: ImageManifest = document(repository, &name).await?;
        let uki = self.verified(repository, &manifest.uki, LARGEST_BOOT_FILE).await?;
        let mut files = match &manifest.bios {
            None => Vec::new(),
            Some(parts) => {
                let loader = target(repository, &parts.network_loader, LARGEST_DOCUMENT).await?;
                let wrong = |e| BootError::Uki(manifest.uki.clone(), e);
                bios::files(&image.template, &version, &uki, loader, base_url).map_err(wrong)?
            }
        };
        // Where there is none, iPXE gets the image itself.
        files.extend(ipxe::script(&image.template, &version, &uki, base_url).ok());
        let boot_file = BootFile::new(uki.content, &uki.digest, &version, (0.0, 1.0)).built_for(&manifest.architecture);
        files.push((name_of(&image.template), boot_file));
        Ok(files)
    }

    /// Opens the file of a target and checks its digest. It stays open: what is served is what was checked, whatever is
    /// renamed or removed in the repository meanwhile.
    async fn verified(&self, repository: &Repository, name: &str, most: u64) -> Result<Verified, BootError> {
        let (length, digest) = listed(repository, name, most)?;
        // The name that `tough` gives with consistent snapshots.
        let path = format!("targets/{digest}.{name}");
        if let Some(cache) = &self.cache
            && let Some(object) = cache.streams(&path)
        {
            let content = cache.in_memory(&object, &format!("the boot image {name}")).await.into();
            return Ok(Verified { content, digest });
        }
        let (folder, place) = (self.repository.clone(), self.repository.join(&path));
        let listed_digest = digest.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let (file, _) = beneath::open(&folder, &path)?;
            let same = digest_of(&file, length)?.is_some_and(|found| found == digest);
            Ok(same.then(|| Verified { content: Content::of_file(file, length), digest }))
        });
        match checked.await.map_err(io::Error::other).flatten() {
            Ok(Some(verified)) => Ok(verified),
            Ok(None) => {
                if let Some(cache) = &self.cache {
                    cache.discard(&format!("targets/{listed_digest}.{name}"));
                }
                Err(BootError::Digest(place))
            }
            Err(error) => Err(BootError::Read(place, error)),
        }
    }
}

/// A file that is what the signed metadata says.
#[derive(Debug)]
struct Verified {
    content: Content,
    /// SHA-256, hexadecimal.
    digest: String,
}

/// The SHA-256 of a file of this length; none when it has another one.
fn digest_of(file: &std::fs::File, length: u64) -> io::Result<Option<String>> {
    let (mut hasher, mut buffer, mut left) = (Sha256::new(), vec![0; 64 << 10], length);
    // One byte more: a file that goes on is another file.
    let mut reader = file.take(length.saturating_add(1));
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => {
                let Some(rest) = left.checked_sub(count as u64) else { return Ok(None) };
                left = rest;
                hasher.update(&buffer[..count]);
            }
        }
    }
    Ok((left == 0).then(|| hex::encode(hasher.finalize())))
}

/// Length and SHA-256 of a target by the signed metadata.
fn listed(repository: &Repository, name: &str, most: u64) -> Result<(u64, String), BootError> {
    let target_name = TargetName::new(name).map_err(|e| BootError::Target(name.to_owned(), Box::new(e)))?;
    let found = repository.all_targets().find(|(n, _)| **n == target_name);
    let (_, listed) = found.ok_or_else(|| BootError::NoTarget(name.to_owned()))?;
    if listed.length > most {
        return Err(BootError::TooLarge { name: name.to_owned(), bytes: listed.length, most });
    }
    Ok((listed.length, hex::encode(&listed.hashes.sha256)))
}

async fn document<T>(repository: &Repository, name: &str) -> Result<T, BootError>
where
    T: contracts::Versioned + serde::de::DeserializeOwned,
{
    let bytes = target(repository, name, LARGEST_DOCUMENT).await?;
    contracts::read(&bytes).map_err(|e| BootError::Document(name.to_owned(), e))
}

/// Reads a small target. The stream's last item says whether the digest was right, so nothing is used before.
async fn target(repository: &Repository, name: &str, most: u64) -> Result<Bytes, BootError> {
    let (length, _) = listed(repository, name, most)?;
    let broken = |e| BootError::Target(name.to_owned(), Box::new(e));
    let missing = || BootError::NoTarget(name.to_owned());
    let target_name = TargetName::new(name).map_err(broken)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    let mut stream = std::pin::pin!(repository.read_target(&target_name).await.map_err(broken)?.ok_or_else(missing)?);
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.map_err(broken)?);
    }
    Ok(bytes.into())
}
