//! A build, from template to repository, as a list of steps.

use crate::{
    apply::{self, ApplyError},
    archive::{self, ArchiveError},
    bios::{self, BiosError},
    cache::{Cache, CacheError},
    command::{CommandError, Sandbox},
    debian::DebianError,
    files::{self, FileError, InputHash},
    initrd::{self, InitrdError, Parts},
    keys::{Keys, KeysError},
    package_root::{self, PackageRootError},
    report::{Reporter, Steps, Summary, mebibytes},
    repository::{Expiry, Publication, Repository, RepositoryError},
    root_image::{self, RootImageError, Seeds},
    sources::{self, NoMirror},
    tools::Tools,
    uki::{self, UkiError},
};
use contracts::{
    machine::MachineConfig,
    manifest::{Bios, Channel, ImageManifest, TrustFloor},
};
use profiles::{MachineTemplate, ProfileError};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The steps by name and title, in order.
pub const STEPS: &[(&str, &str)] = &[
    ("tools", "Tools tree: image tools from Debian"),
    ("packages", "Root: Debian packages"),
    ("template", "Root: files, units and agent of the template"),
    ("root", "Root: EROFS image"),
    ("verity", "Root: dm-verity hash tree"),
    ("initrd", "Initrd: agent, drivers, tools"),
    ("uki", "Boot image: join and sign"),
    ("bios", "Boot files for BIOS machines"),
    ("archive", "Archive: chunk and compress the root"),
    ("publish", "Repository: sign and publish"),
];

/// The kernel unpacks the initrd into memory beside the boot image. A machine needs about four times the unpacked
/// size and 170 MB; the smallest one has 1 GiB, and the agent wants its share.
const MAX_INITRD_UNPACKED: u64 = 120 << 20;

/// What firmware fetches over TFTP, at 3 to 4 MB/s on real machines.
const MAX_UKI: u64 = 64 << 20;

/// 60 % of an 8 GiB slot: room for the next version to grow.
const MAX_ROOT: u64 = (8 << 30) / 10 * 6;

/// TUF target of the boot loader.
const BOOT_LOADER: &str = "boot/x86_64/systemd-bootx64.efi";
/// TUF target of the network boot program for BIOS machines.
const BIOS_NETWORK_LOADER: &str = "boot/bios/undionly.kpxe";
/// TUF target of the first sector of a BIOS machine's disk.
const BIOS_BOOT_SECTOR: &str = "boot/bios/boot.img";
/// TUF target of GRUB's core image.
const BIOS_CORE: &str = "boot/bios/core.img";
/// TUF target of the registrar's CA.
const REGISTRAR_CA: &str = "region/registrar-ca.pem";

/// What is built, and from what.
#[derive(Debug, Clone)]
pub struct Request {
    /// The machine template.
    pub template: PathBuf,
    /// Parameter values.
    pub settings: Option<PathBuf>,
    /// The key set.
    pub keys: PathBuf,
    /// The agent, a static program.
    pub agent: PathBuf,
    /// The registrar's CA certificates, PEM.
    pub registrar_ca: PathBuf,
    /// The repository's folder.
    pub repository: PathBuf,
    /// The channel that names this image from now on.
    pub channel: String,
    /// The image's version; by default the time of the build.
    pub image_version: Option<String>,
    /// The cache folder.
    pub cache: PathBuf,
    /// Debian mirror instead of the host's.
    pub debian_mirror: Option<String>,
    /// Debian security mirror instead of the host's.
    pub debian_security_mirror: Option<String>,
    /// Fetch packages again.
    pub refresh: bool,
    /// For how long the metadata is believed.
    pub expiry: Expiry,
    /// The time of the build (SOURCE_DATE_EPOCH).
    pub built_at: OffsetDateTime,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// mmdebstrap, mounts and device nodes need root.
    #[error("image-builder has to run as root")]
    NotRoot,
    /// A program of the host is missing.
    #[error("the program {0} is not installed")]
    NoProgram(&'static str),
    /// The template.
    #[error("the template cannot be used")]
    Template(#[source] Box<ProfileError>),
    /// A name that would not be safe in paths and file names.
    #[error("'{value}' is not a {what}")]
    Name {
        /// For example `channel`.
        what: &'static str,
        /// What was given.
        value: String,
    },
    /// The agent that was named.
    #[error("the agent cannot be used")]
    Agent(#[source] InitrdError),
    /// The registrar's CA.
    #[error("{} holds no PEM certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The version is in the repository.
    #[error("the repository has {template} {image_version} already, and an image never changes")]
    VersionExists {
        /// The template.
        template: String,
        /// The version.
        image_version: String,
    },
    /// No Debian mirror.
    #[error(transparent)]
    NoMirror(#[from] NoMirror),
    /// The keys.
    #[error("the keys cannot be used")]
    Keys(#[source] KeysError),
    /// The cache.
    #[error("the cache cannot be used")]
    Cache(#[source] CacheError),
    /// The tools tree.
    #[error("cannot make the tools tree")]
    Tools(#[source] DebianError),
    /// The package root.
    #[error("cannot install the packages")]
    Packages(#[source] PackageRootError),
    /// The copy of the package root.
    #[error("cannot copy the package root")]
    Copy(#[source] CommandError),
    /// The template's files, units and the agent.
    #[error("cannot apply the template")]
    Apply(#[source] ApplyError),
    /// The root image.
    #[error("cannot make the root image")]
    RootImage(#[source] RootImageError),
    /// The initrd.
    #[error("cannot make the initrd")]
    Initrd(#[source] InitrdError),
    /// The UKI.
    #[error("cannot make the boot image")]
    Uki(#[source] UkiError),
    /// The boot files for BIOS machines.
    #[error("cannot make the boot files for BIOS machines")]
    Bios(#[source] BiosError),
    /// The archive.
    #[error("cannot make the archive")]
    Archive(#[source] ArchiveError),
    /// The repository.
    #[error("cannot publish")]
    Repository(#[source] RepositoryError),
    /// Too big for its place.
    #[error("the {what} has {}, at most {} fit", mebibytes(*bytes), mebibytes(*limit))]
    TooBig {
        /// For example `root`.
        what: &'static str,
        /// Its bytes.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A document could not be written as JSON.
    #[error("cannot write a document as JSON")]
    Json(#[source] serde_json::Error),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Builds and publishes one image.
///
/// # Errors
/// See [`BuildError`].
pub async fn build(request: &Request, reporter: &mut dyn Reporter) -> Result<Summary, BuildError> {
    let template = profiles::load(&request.template, request.settings.as_deref());
    let template = template.map_err(|error| BuildError::Template(Box::new(error)))?;
    let image_version = image_version(request)?;
    check_name("channel", &request.channel)?;
    initrd::check_agent(&request.agent).map_err(BuildError::Agent)?;
    check_certificate(&request.registrar_ca)?;
    let keys = Keys::open(&request.keys).map_err(BuildError::Keys)?;
    // After what needs no rights: a wrong file is found by whoever may read it.
    check_host()?;
    let host_sources = sources::read_host(Path::new("/etc/apt"));
    let mirrors =
        sources::choose(request.debian_mirror.as_deref(), request.debian_security_mirror.as_deref(), &host_sources)?;
    let repository = Repository::open(&request.repository, keys.clone()).await.map_err(BuildError::Repository)?;
    let manifest_name = ImageManifest::target_name(&template.name, &image_version);
    if repository.has(&manifest_name) {
        return Err(BuildError::VersionExists { template: template.name, image_version });
    }
    let cache = Cache::open(&request.cache).map_err(BuildError::Cache)?;
    let work = cache.temporary()?;
    let mut steps = Steps::new(reporter, STEPS);

    let (tools, cached) =
        Tools::prepare(&cache, &mirrors, request.refresh, steps.begin()).await.map_err(BuildError::Tools)?;
    steps.done(source_of(cached));

    let packages = package_root::prepare(&cache, &template, &mirrors, request.refresh, steps.begin()).await;
    let packages = packages.map_err(BuildError::Packages)?;
    steps.done(&format!("kernel {}, {}", packages.kernel, source_of(packages.cached)));

    let machine = machine_config(&template, &image_version);
    let tree = work.path().join("root");
    let reporter = steps.begin();
    let arguments = ["-a", "--reflink=auto", "--"].map(AsRef::as_ref);
    let arguments: Vec<&std::ffi::OsStr> =
        arguments.into_iter().chain([packages.path.as_os_str(), tree.as_os_str()]).collect();
    Sandbox::host().run(reporter, "cp", &arguments).await.map_err(BuildError::Copy)?;
    apply::apply(&tree, &template, &machine, &request.agent, &packages.kernel, reporter)
        .await
        .map_err(BuildError::Apply)?;
    steps.done(&format!("{} files, {} units", template.files.len(), template.units.len()));

    let seeds = Seeds::of(&input_key(&template, &image_version, &packages.key, &request.agent)?);
    let epoch = request.built_at.unix_timestamp();
    let bytes = root_image::make_data(&tools, work.path(), &tree, &seeds, epoch, steps.begin()).await;
    let bytes = bytes.map_err(BuildError::RootImage)?;
    check_size("root", bytes, MAX_ROOT)?;
    steps.done(&mebibytes(bytes));

    let image = root_image::make_hashes(&tools, work.path(), &seeds, steps.begin()).await;
    let image = image.map_err(BuildError::RootImage)?;
    steps.done(&format!("root hash {}", image.root.root_hash));

    let floor =
        TrustFloor { version: contracts::VERSION, built_at: request.built_at, roles: repository.next_versions() };
    let trust_root = files::read(&keys.root_json())?;
    let parts = Parts {
        agent: &request.agent,
        root: &packages.path,
        kernel: &packages.kernel,
        trust_root: &trust_root,
        floor: &floor,
    };
    let initrd = initrd::make(&tools, work.path(), &parts, steps.begin()).await.map_err(BuildError::Initrd)?;
    check_size("unpacked initrd", initrd.unpacked, MAX_INITRD_UNPACKED)?;
    steps.done(&format!("{}, {} unpacked", mebibytes(initrd.packed), mebibytes(initrd.unpacked)));

    let hash = &image.root.root_hash;
    let signed = uki::make(&tools, work.path(), &packages.path, &packages.kernel, hash, &keys, steps.begin()).await;
    let signed = signed.map_err(BuildError::Uki)?;
    let uki_bytes = files::length(&signed.uki)?;
    check_size("boot image", uki_bytes, MAX_UKI)?;
    steps.done(&mebibytes(uki_bytes));

    let for_bios = bios::make(&tools, work.path(), steps.begin()).await.map_err(BuildError::Bios)?;
    steps.done(&format!("GRUB {} KiB", for_bios.core_bytes >> 10));

    steps.begin();
    let finished = archive::make(work.path(), &image.data, &image.hashes).await.map_err(BuildError::Archive)?;
    let archive = finished.archive;
    steps.done(&format!("{}, dictionary {}", mebibytes(archive.bytes), mebibytes(archive.header_bytes)));

    steps.begin();
    let uki_name = format!("images/{}/{image_version}/uki.efi", template.name);
    let manifest = ImageManifest {
        version: contracts::VERSION,
        template: template.name.clone(),
        image_version: image_version.clone(),
        architecture: "x86_64".into(),
        root: image.root.clone(),
        archive: archive.clone(),
        uki: uki_name.clone(),
        boot_loader: BOOT_LOADER.into(),
        registrar_ca: REGISTRAR_CA.into(),
        bios: Some(Bios {
            network_loader: BIOS_NETWORK_LOADER.into(),
            boot_sector: BIOS_BOOT_SECTOR.into(),
            core: BIOS_CORE.into(),
        }),
    };
    let channel = Channel { version: contracts::VERSION, image_version: image_version.clone() };
    let manifest_file = write_json(work.path(), "manifest.json", &manifest)?;
    let channel_file = write_json(work.path(), "channel.json", &channel)?;
    let publication = Publication {
        fixed: vec![(manifest_name.clone(), manifest_file), (uki_name, signed.uki)],
        replaceable: vec![
            (BOOT_LOADER.into(), signed.boot_loader),
            (BIOS_NETWORK_LOADER.into(), for_bios.network_loader),
            (BIOS_BOOT_SECTOR.into(), for_bios.boot_sector),
            (BIOS_CORE.into(), for_bios.core),
            (REGISTRAR_CA.into(), request.registrar_ca.clone()),
            (Channel::target_name(&template.name, &request.channel), channel_file),
        ],
        plain: vec![(archive.path.clone(), finished.path)],
    };
    let versions = repository.publish(&publication, request.expiry).await.map_err(BuildError::Repository)?;
    steps.done(&format!("version {} of the targets", versions.targets));

    Ok(Summary {
        manifest: manifest_name,
        template: template.name,
        image_version,
        root_hash: image.root.root_hash,
        uki_bytes,
        initrd_bytes: initrd.packed,
        initrd_unpacked_bytes: initrd.unpacked,
        root_bytes: image.root.data_bytes,
        hash_bytes: image.root.hash_bytes,
        archive_bytes: archive.bytes,
        archive_header_bytes: archive.header_bytes,
        seconds: steps.seconds(),
    })
}

pub(crate) fn check_host() -> Result<(), BuildError> {
    use std::os::unix::fs::MetadataExt;
    let own = Path::new("/proc/self");
    if std::fs::metadata(own).map_err(files::at("look at", own))?.uid() != 0 {
        return Err(BuildError::NotRoot);
    }
    for program in ["mmdebstrap", "dpkg-deb", "apt-get", "setpriv", "unshare"] {
        let found =
            ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|f| Path::new(f).join(program).exists());
        if !found {
            return Err(BuildError::NoProgram(program));
        }
    }
    Ok(())
}

fn image_version(request: &Request) -> Result<String, BuildError> {
    let version = request.image_version.clone().unwrap_or_else(|| default_version(request.built_at));
    check_name("image version", &version)?;
    Ok(version)
}

/// Sorts as the boot loader sorts versions (UAPI Version Format Specification), and says when.
fn default_version(at: OffsetDateTime) -> String {
    let (hour, minute, second) = at.to_hms();
    format!("{}.{}.{}.{hour:02}{minute:02}{second:02}", at.year(), u8::from(at.month()), at.day())
}

fn check_name(what: &'static str, value: &str) -> Result<(), BuildError> {
    let fine = (1..=64).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b".-~".contains(&b))
        && value.as_bytes()[0].is_ascii_alphanumeric();
    if fine { Ok(()) } else { Err(BuildError::Name { what, value: value.to_owned() }) }
}

fn check_certificate(path: &Path) -> Result<(), BuildError> {
    let text = files::read(path)?;
    if text.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") {
        Ok(())
    } else {
        Err(BuildError::NoCertificate(path.to_owned()))
    }
}

fn check_size(what: &'static str, bytes: u64, limit: u64) -> Result<(), BuildError> {
    if bytes <= limit { Ok(()) } else { Err(BuildError::TooBig { what, bytes, limit }) }
}

fn source_of(cached: bool) -> &'static str {
    if cached { "from the cache" } else { "made anew" }
}

fn machine_config(template: &MachineTemplate, image_version: &str) -> MachineConfig {
    MachineConfig {
        version: contracts::VERSION,
        template: template.name.clone(),
        image_version: image_version.to_owned(),
        data_disks: template.data_disks.clone(),
        persist: template.persist.iter().cloned().collect(),
        join: template.join.clone(),
    }
}

fn input_key(
    template: &MachineTemplate,
    image_version: &str,
    packages: &str,
    agent: &Path,
) -> Result<String, BuildError> {
    let inputs = InputHash::default().with("template", format!("{template:?}")).with("version", image_version);
    Ok(inputs.with("packages", packages).with("agent", files::sha256(agent)?).finish())
}

fn write_json(work: &Path, name: &str, document: &impl serde::Serialize) -> Result<PathBuf, BuildError> {
    let path = work.join(name);
    files::write(&path, &serde_json::to_vec_pretty(document).map_err(BuildError::Json)?, 0o644)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn the_default_version_is_the_time() {
        assert_eq!(default_version(datetime!(2026-11-01 07:05:09 UTC)), "2026.11.1.070509");
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for bad in ["", "..", "a/b", "-x", "a b", "stable\n"] {
            assert!(check_name("channel", bad).is_err(), "{bad:?}");
        }
        check_name("channel", "stable-2").unwrap();
    }
}
