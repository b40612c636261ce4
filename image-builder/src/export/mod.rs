//! One image of a finished repository in another shape: a CD or USB stick, a virtual disk, an artifact for registries.
//!
//! Nothing is built here. What goes out is what the repository's TUF metadata vouches for, checked byte by byte on the way;
//! the same image and the same tools make the same bytes.

pub mod cli;
pub mod disk;
pub mod fat;
pub mod iso;
pub mod oci;
pub mod staged;
pub mod unpack;

use self::{
    disk::DiskError,
    iso::{Carries, IsoError, Words},
    oci::OciError,
    staged::{Staged, StagedError, Wanted},
};
use crate::{
    cache::Cache,
    files::{self, FileError, InputHash, at},
    locking::{self, ToolsError},
    pipeline::{self, BuildError},
    report::{Reporter, Steps, mebibytes},
    sources::NoMirror,
    tools::Tools,
};
use contracts::network::NetworkConfig;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// The time of every file in an output unless SOURCE_DATE_EPOCH says another one: 2025-01-01.
pub const EPOCH: i64 = 1_735_689_600;

/// The shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// CD or USB stick that starts a machine, which then installs what its store serves
    IsoThin,
    /// CD or USB stick that carries the whole image: it installs without any network
    IsoOffline,
    /// Disk with the installed system, as it is
    Raw,
    /// The same for QEMU and OpenStack
    Qcow2,
    /// The same for VMware (stream-optimized)
    Vmdk,
    /// OCI image layout with the image as an artifact, for registries
    Oci,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::IsoThin => "iso-thin",
            Self::IsoOffline => "iso-offline",
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Oci => "oci",
        }
    }

    const fn steps(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Oci => OCI_STEPS,
            _ => STEPS,
        }
    }
}

const STEPS: &[(&str, &str)] = &[
    ("repository", "Repository: check signatures and digests"),
    ("tools", "Tools tree: image tools from Debian"),
    ("write", "Output: make and sync"),
];

const OCI_STEPS: &[(&str, &str)] =
    &[("repository", "Repository: check signatures and digests"), ("write", "Layout: write blobs and index")];

/// What is exported.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which image.
    pub image: Wanted,
    /// The repository's folder.
    pub repository: PathBuf,
    /// The TUF root of trust.
    pub root: PathBuf,
    /// The shape.
    pub format: Format,
    /// File to make, for an OCI layout the folder.
    pub out: PathBuf,
    /// netboot's base URL on a medium.
    pub netboot: Option<String>,
    /// A file with the network of the machines that start from a medium.
    pub network: Option<PathBuf>,
    /// The cache folder.
    pub cache: PathBuf,
    /// Debian mirror instead of the host's.
    pub debian_mirror: Option<String>,
    /// Debian security mirror instead of the host's.
    pub debian_security_mirror: Option<String>,
    /// A lock that pins the image tools.
    pub lock: Option<PathBuf>,
    /// The time of every file in the output (SOURCE_DATE_EPOCH).
    pub epoch: i64,
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The repository or something in it.
    #[error("cannot take the image out of the repository")]
    Staged(#[source] StagedError),
    /// This host.
    #[error(transparent)]
    Host(Box<BuildError>),
    /// No Debian mirror.
    #[error(transparent)]
    NoMirror(#[from] NoMirror),
    /// The cache.
    #[error("the cache cannot be used")]
    Cache(#[source] FileError),
    /// The tools tree.
    #[error("cannot make the tools tree")]
    Tools(#[source] ToolsError),
    /// The ISO.
    #[error("cannot make the ISO image")]
    Iso(#[source] IsoError),
    /// The disk.
    #[error("cannot make the disk image")]
    Disk(#[source] DiskError),
    /// The OCI layout.
    #[error("cannot write the OCI layout")]
    Oci(#[source] OciError),
    /// The URL of netboot.
    #[error("'{0}' is not a base URL like http://10.0.0.2")]
    Netboot(String),
    /// The network on a medium.
    #[error("{} does not describe a network: {reason}", path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What came out; `--json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The shape.
    pub format: &'static str,
    /// The template.
    pub template: String,
    /// The image's version.
    pub image_version: String,
    /// The dm-verity root hash.
    pub root_hash: String,
    /// Where it is.
    pub out: PathBuf,
    /// Bytes of the file; for an OCI layout of all blobs of the artifact. A raw disk has holes and takes less.
    pub bytes: u64,
    /// `sha256:…` of the file, for an OCI layout of the artifact's manifest. Not of raw disks, which are mostly holes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Seconds by step.
    pub seconds: BTreeMap<String, f64>,
}

/// The network that a file describes.
fn network(path: Option<&Path>) -> Result<Option<NetworkConfig>, ExportError> {
    let Some(path) = path else { return Ok(None) };
    let wrong = |reason: String| ExportError::Network { path: path.to_owned(), reason };
    let network: NetworkConfig =
        serde_json::from_slice(&files::read(path)?).map_err(|error| wrong(error.to_string()))?;
    network.check().map_err(|error| wrong(error.to_string()))?;
    Ok(Some(network))
}

/// Exports one image.
///
/// # Errors
/// See [`ExportError`]. There is no output then, and one that was there before is as it was.
pub async fn export(request: &Request, reporter: &mut dyn Reporter) -> Result<Exported, ExportError> {
    if let Some(base) = &request.netboot {
        let fine = url::Url::parse(base).is_ok_and(|url| url.scheme() == "http" && url.has_host());
        if !fine {
            return Err(ExportError::Netboot(base.clone()));
        }
    }
    let words = Words { netboot: request.netboot.clone(), network: network(request.network.as_deref())? };
    let out = std::path::absolute(&request.out).map_err(at("look at", &request.out))?;
    let above = out.parent().unwrap_or(Path::new("/")).to_owned();
    files::create_folder(&above)?;
    // Beside the output, so that a rename is all that it takes to appear; it vanishes however this ends.
    let work = tempfile::Builder::new().prefix(".new-").tempdir_in(&above).map_err(at("make a folder in", &above))?;
    let mut steps = Steps::new(reporter, request.format.steps());

    steps.begin();
    let staged = Staged::take(&request.repository, &request.root, &request.image, work.path()).await;
    let staged = staged.map_err(ExportError::Staged)?;
    let manifest = staged.manifest.clone();
    steps.done(&format!("{} {}, {}", manifest.template, manifest.image_version, mebibytes(staged.bytes()?)));

    let (bytes, digest) = if request.format == Format::Oci {
        steps.begin();
        let artifact = oci::write(&staged, &out).map_err(ExportError::Oci)?;
        steps.done(&mebibytes(artifact.bytes));
        (artifact.bytes, Some(artifact.digest))
    } else {
        pipeline::check_host().map_err(|error| ExportError::Host(Box::new(error)))?;
        let mirrors = pipeline::mirrors(request.debian_mirror.as_deref(), request.debian_security_mirror.as_deref())?;
        let cache = Cache::open(&request.cache).map_err(ExportError::Cache)?;
        let (lock, now) = (request.lock.as_deref(), OffsetDateTime::now_utc());
        let prepared = locking::prepare_tools(&cache, &mirrors, lock, now, steps.begin()).await;
        let (tools, cached) = prepared.map_err(ExportError::Tools)?;
        steps.done(if cached { "from the cache" } else { "made" });

        let reporter = steps.begin();
        let place = Place { tools: &tools, work: work.path(), epoch: request.epoch };
        let made = match request.format {
            Format::IsoThin => iso::make(&place, &staged, Carries::Nothing, words, reporter).await,
            Format::IsoOffline => iso::make(&place, &staged, Carries::Image, words, reporter).await,
            _ => Ok(disk::make(&place, &staged, request.format, reporter).await.map_err(ExportError::Disk)?),
        }
        .map_err(ExportError::Iso)?;
        let digest = match request.format {
            Format::Raw => None,
            _ => Some(format!("sha256:{}", files::sha256(&made)?)),
        };
        settle(&made, &out)?;
        let bytes = files::length(&out)?;
        steps.done(&mebibytes(bytes));
        (bytes, digest)
    };
    Ok(Exported {
        format: request.format.name(),
        template: manifest.template,
        image_version: manifest.image_version,
        root_hash: manifest.root.root_hash,
        out,
        bytes,
        digest,
        seconds: steps.seconds(),
    })
}

/// What the makers of outputs share.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Image tools.
    pub tools: &'a Tools,
    /// Folder for what is made on the way, and for the output before it is renamed.
    pub work: &'a Path,
    /// The time of every file in the output, in seconds since 1970.
    pub epoch: i64,
}

impl Place<'_> {
    /// The tools, with the work folder, at the output's time.
    fn sandbox(&self) -> crate::command::Sandbox {
        self.tools.sandbox(self.work).variable("SOURCE_DATE_EPOCH", self.epoch.to_string())
    }
}

/// A GUID that depends on nothing but the image and what it is for.
fn derived_guid(root_hash: &str, what: &str) -> Uuid {
    let hash = InputHash::default().with("export", root_hash).with("guid", what).finish();
    let number = u128::from_str_radix(&hash[..32], 16).unwrap_or_default();
    uuid::Builder::from_custom_bytes(number.to_be_bytes()).into_uuid()
}

/// Syncs a finished file and gives it its name.
fn settle(made: &Path, out: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    let file = fs::File::open(made).map_err(at("read", made))?;
    file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(at("set the mode of", made))?;
    file.sync_all().map_err(at("write", made))?;
    fs::rename(made, out).map_err(at("write", out))?;
    let folder = out.parent().unwrap_or(Path::new("/"));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("write", folder))
}
