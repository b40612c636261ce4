//! A build, from template to repository, as a list of steps.

use crate::{
    apply::{self, ApplyError},
    archive::{self, ArchiveError, Earlier, Packer},
    bios::BiosError,
    boot,
    cache::Cache,
    command::CommandError,
    files::{self, FileError, InputHash},
    initrd::{self, InitrdError},
    keys::{Keys, KeysError},
    locking::{self, LockingError},
    namespace,
    packages::{
        bootstrap::BootstrapError,
        lock::{Layer, Lock, Package},
        store::{self, FetchError, Sources},
    },
    preload::{self, PreloadError},
    provenance::{self, ProvenanceError},
    report::{Reporter, Steps, Summary, mebibytes},
    repository::{Expiry, Publication, Repository, RepositoryError},
    root_image::{self, RootImageError, Seeds},
    roots::{self, RootError},
    sbom::{self, Format, SbomError},
    sources::{self, Mirrors, NoMirror},
    tools::Tools,
    trees,
    uki::UkiError,
};
use contracts::{
    enrollment::NodeFile,
    machine::MachineConfig,
    manifest::{Bios, Channel, ImageManifest, Staleness, TrustFloor},
};
use profiles::{MachineTemplate, ProfileError};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// The steps by name and title, in order.
pub const STEPS: &[(&str, &str)] = &[
    ("lock", "Packages: versions and digests"),
    ("fetch", "Packages: files"),
    ("tools", "Tools tree: image tools from Debian"),
    ("packages", "Root: Debian packages"),
    ("template", "Root: files, units and agent of the template"),
    ("root", "Root: EROFS image"),
    ("boot", "Hash tree, initrd, boot images; root in chunks"),
    ("sbom", "List of packages, files and their origins"),
    ("publish", "Repository: sign and publish"),
];

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
    /// The lock file, when it does not lie beside the template.
    pub lock: Option<PathBuf>,
    /// Refuse to build without a lock file.
    pub locked: bool,
    /// Resolve packages again.
    pub refresh: bool,
    /// For how long the metadata is believed.
    pub expiry: Expiry,
    /// How far its installer believes metadata that has expired.
    pub staleness: Staleness,
    /// The time that everything made carries (SOURCE_DATE_EPOCH); by default the lock file's, or now.
    pub source_date: Option<OffsetDateTime>,
    /// Now, in whole seconds.
    pub now: OffsetDateTime,
    /// Publish an SPDX list beside the CycloneDX one.
    pub spdx: bool,
    /// A URI for who builds.
    pub builder: String,
    /// A URI for this one build.
    pub invocation: Option<String>,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Mounts and owners of files need root, of a user namespace at least.
    #[error("image-builder is not root, and cannot become root of a user namespace")]
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
    /// A container image that the template names.
    #[error(transparent)]
    Images(PreloadError),
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
    /// The lock.
    #[error(transparent)]
    Locking(#[from] LockingError),
    /// A package file.
    #[error("cannot fetch the packages")]
    Fetch(#[source] FetchError),
    /// The cache.
    #[error("the cache cannot be used")]
    Cache(#[source] FileError),
    /// The tools tree.
    #[error("cannot make the tools tree")]
    Tools(#[source] BootstrapError),
    /// The root's packages.
    #[error("cannot install the packages")]
    Packages(#[source] RootError),
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
    /// The list of packages and files.
    #[error("cannot list what the image is made of")]
    Sbom(#[source] SbomError),
    /// The provenance.
    #[error("cannot state where the image comes from")]
    Provenance(#[source] ProvenanceError),
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
    let explanation = profiles::explain(&request.template, request.settings.as_deref());
    let explanation = explanation.map_err(|error| BuildError::Template(Box::new(error)))?;
    check_name("channel", &request.channel)?;
    if let Some(version) = &request.image_version {
        check_name("image version", version)?;
    }
    initrd::check_agent(&request.agent).map_err(BuildError::Agent)?;
    check_certificate(&request.registrar_ca)?;
    let lock_file = locking::file(&request.template, request.lock.as_deref(), request.locked)?;
    if let Some(path) = &lock_file {
        locking::read(path, &template)?;
    }
    preload::check(&template).map_err(BuildError::Images)?;
    let keys = Keys::open(&request.keys).map_err(BuildError::Keys)?;
    // After what needs no rights: a wrong file is found by whoever may read it.
    check_host()?;
    let mirrors = mirrors(request.debian_mirror.as_deref(), request.debian_security_mirror.as_deref())?;
    let cache = Cache::open(&request.cache).map_err(BuildError::Cache)?;
    let work = cache.temporary()?;
    let mut steps = Steps::new(reporter, STEPS);

    let reporter = steps.begin();
    let obtained =
        locking::obtain(&cache, &template, lock_file.as_deref(), &mirrors, request.refresh, request.now, reporter)
            .await?;
    let lock = obtained.lock;
    let locked_at = obtained.file.is_some().then_some(lock.resolved_at);
    let built_at = request.source_date.or(locked_at).unwrap_or(request.now);
    let image_version = request.image_version.clone().unwrap_or_else(|| default_version(built_at));
    let manifest_name = ImageManifest::target_name(&template.name, &image_version);
    // Looked at now, so that a taken version is found before any work; kept from others only when its turn comes.
    open_for(request, &keys, &template.name, &image_version).await?;
    steps.done(&match (&obtained.file, obtained.cached) {
        (Some(path), _) => format!("pinned by {}", path.display()),
        (None, true) => format!("resolved on {}, from the cache", lock.resolved_at.date()),
        (None, false) => "resolved now".to_owned(),
    });

    let needed: Vec<&Package> = needed_packages(&cache, &lock, &template);
    let fetched = store::fetch(&cache, &Sources::new(&mirrors, &template.repositories), &needed, steps.begin()).await;
    let (count, bytes) = fetched.map_err(BuildError::Fetch)?;
    steps.done(&if count == 0 { source_of(true).to_owned() } else { format!("{count}, {}", mebibytes(bytes)) });

    let (tools, cached) = Tools::prepare(&cache, &lock.tools, steps.begin()).await.map_err(BuildError::Tools)?;
    steps.done(source_of(cached));

    let root = roots::prepare(&cache, &template, &lock.image, steps.begin()).await.map_err(BuildError::Packages)?;
    steps.done(&format!("kernel {}, {}", root.kernel, source_of(root.cached)));

    let machine = machine_config(&template, &image_version);
    let tree = work.path().join("root");
    let reporter = steps.begin();
    trees::copy(&root.path, &tree, "--link", reporter).await.map_err(BuildError::Copy)?;
    let preloaded =
        apply::apply(&tree, &template, &machine, &request.agent, reporter).await.map_err(BuildError::Apply)?;
    steps.done(&format!("{} files, {} units{preloaded}", template.files.len(), template.units.len()));

    let seeds = Seeds::of(&input_key(&template, &image_version, &root.key, &request.agent)?, &template.name);
    let epoch = built_at.unix_timestamp();
    let bytes = root_image::make_data(&tools, work.path(), &tree, &seeds, epoch, steps.begin()).await;
    let bytes = bytes.map_err(BuildError::RootImage)?;
    check_size("root", bytes, MAX_ROOT)?;
    steps.done(&mebibytes(bytes));

    // The root's data goes into chunks while its hash tree and what starts it are made.
    let reporter = steps.begin();
    let repository = open_for(request, &keys, &template.name, &image_version).await?;
    let (roles, staleness) = (repository.next_versions(), request.staleness);
    let floor = TrustFloor { version: contracts::VERSION, built_at, roles, staleness };
    let sources = boot::Sources {
        tools: &tools,
        root: &root,
        keys: &keys,
        agent: &request.agent,
        floor: &floor,
        arguments: &template.kernel_arguments,
    };
    let kept = archive::kept(&cache);
    let packer = Packer::new(work.path(), Earlier::open_folder(&kept).await?, tokio::runtime::Handle::current());
    let packer = packer.map_err(BuildError::Archive)?;
    let data = work.path().join(root_image::DATA);
    let packing = tokio::task::spawn_blocking(move || with_file(packer, &data));
    let pins = sbom::Pins::of_lock(&lock);
    let known = sbom::Known::of(&cache, &root, request.spdx).await.map_err(BuildError::Sbom)?;
    let list = |root_hash: &str, initrds: &[PathBuf]| {
        let trees = sbom::Trees {
            root: &tree,
            packages: &root.packages,
            tools: tools.path(),
            initrd: initrds,
            agent: &request.agent,
            pins: &pins,
            template: &template,
            explanation: &explanation,
            image_version: &image_version,
            kernel: &root.kernel,
            root_hash,
            created: built_at,
            sha1: request.spdx,
            known: &known,
        };
        sbom::collect(&trees).map_err(BuildError::Sbom)
    };
    let making = boot::make(&cache, &sources, work.path(), &seeds, list, reporter);
    let (packer, made) = tokio::join!(packing, making);
    let (packer, (boot, inventory)) = (joined(packer)?, made?);
    let hashes = boot.image.hashes.clone();
    let finishing = tokio::task::spawn_blocking(move || with_file(packer, &hashes)?.finish());
    let finished = joined(finishing.await)?;
    // The archive is most of what is published: it is copied to the repository's disk while the lists are written.
    let (from, place) = (finished.path.clone(), repository.place(&finished.archive.path));
    let name = template.name.clone();
    let staging = tokio::task::spawn_blocking(move || {
        archive::keep(&from, &kept, &name)?;
        files::stage(&from, &place)
    });
    let (archive, image, signed, for_bios) = (finished.archive, boot.image, boot.signed, boot.bios);
    steps.done(&format!(
        "root hash {}, boot image {}, {} of {} chunks are new, {}",
        &image.root.root_hash[..12],
        mebibytes(boot.uki_bytes),
        finished.chunks - finished.reused,
        finished.chunks,
        mebibytes(archive.bytes)
    ));

    steps.begin();
    let formats: &[Format] = if request.spdx { &[Format::Cyclonedx, Format::Spdx] } else { &[Format::Cyclonedx] };
    let lists = sbom::write(work.path(), &inventory, formats).map_err(BuildError::Sbom)?;
    steps.done(&format!("{} packages, {} files", inventory.packages.len(), inventory.root.len()));

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
        disks: template.disks.clone(),
        state: template.state,
    };
    let channel = Channel { version: contracts::VERSION, image_version: image_version.clone() };
    let manifest_file = write_json(work.path(), "manifest.json", &manifest)?;
    let channel_file = write_json(work.path(), "channel.json", &channel)?;
    let mut publication = Publication {
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
    publication.fixed.extend(lists);
    let built = provenance::Build {
        template: &request.template,
        settings: request.settings.as_deref(),
        explanation: &explanation,
        inventory: &inventory,
        agent: &request.agent,
        registrar_ca: &request.registrar_ca,
        channel: &request.channel,
        builder: &request.builder,
        invocation: request.invocation.as_deref(),
        times: (request.now, OffsetDateTime::now_utc()),
    };
    let signed = provenance::make(work.path(), &publication, &built, &keys.targets()).await;
    publication.fixed.push(signed.map_err(BuildError::Provenance)?);
    let staged = staging.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    staged?.appear()?;
    publication.plain.clear();
    let versions = repository.publish(&publication, request.expiry).await.map_err(BuildError::Repository)?;
    steps.done(&format!("version {} of the targets", versions.targets));

    Ok(Summary {
        manifest: manifest_name,
        template: template.name,
        image_version,
        root_hash: image.root.root_hash,
        uki_bytes: boot.uki_bytes,
        initrd_bytes: boot.initrd.packed,
        initrd_unpacked_bytes: boot.initrd.unpacked,
        root_bytes: image.root.data_bytes,
        hash_bytes: image.root.hash_bytes,
        archive_bytes: archive.bytes,
        archive_header_bytes: archive.header_bytes,
        tools: tools.path().to_owned(),
        seconds: steps.seconds(),
    })
}

/// The mirrors that were named, or the host's.
///
/// # Errors
/// [`NoMirror`].
pub(crate) fn mirrors(archive: Option<&str>, security: Option<&str>) -> Result<Mirrors, NoMirror> {
    sources::choose(archive, security, &sources::read_host(Path::new("/etc/apt")))
}

/// What a build or a lock needs of this host.
pub(crate) fn check_host() -> Result<(), BuildError> {
    if !namespace::am_root() {
        return Err(BuildError::NotRoot);
    }
    for program in ["apt-get", "apt-cache", "setpriv", "unshare"] {
        let found =
            ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|f| Path::new(f).join(program).exists());
        if !found {
            return Err(BuildError::NoProgram(program));
        }
    }
    Ok(())
}

/// Opens the repository, for an image that it does not have yet.
async fn open_for(
    request: &Request,
    keys: &Keys,
    template: &str,
    image_version: &str,
) -> Result<Repository, BuildError> {
    let repository = Repository::open(&request.repository, keys.clone()).await.map_err(BuildError::Repository)?;
    if repository.has(&ImageManifest::target_name(template, image_version)) {
        let (template, image_version) = (template.to_owned(), image_version.to_owned());
        return Err(BuildError::VersionExists { template, image_version });
    }
    Ok(repository)
}

/// What is not in the cache as a finished tree: a mirror that has lost an old version stops no build that needs none.
fn needed_packages<'a>(cache: &Cache, lock: &'a Lock, template: &MachineTemplate) -> Vec<&'a Package> {
    let mut layers: Vec<&Layer> = Vec::new();
    if !Tools::is_cached(cache, &lock.tools) {
        layers.extend(&lock.tools);
    }
    if !roots::is_cached(cache, template, &lock.image) {
        layers.extend(&lock.image);
    }
    let mut packages: BTreeMap<&str, &Package> = BTreeMap::new();
    packages
        .extend(layers.into_iter().flat_map(|layer| &layer.packages).map(|package| (package.sha256.as_str(), package)));
    packages.into_values().collect()
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

fn with_file(mut packer: Packer, file: &Path) -> Result<Packer, ArchiveError> {
    packer.add(file)?;
    Ok(packer)
}

/// What a thread of its own came to; its panic is ours.
fn joined<T>(result: Result<Result<T, ArchiveError>, tokio::task::JoinError>) -> Result<T, BuildError> {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())).map_err(BuildError::Archive)
}

pub(crate) fn check_size(what: &'static str, bytes: u64, limit: u64) -> Result<(), BuildError> {
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
        state: template.state,
        state_formats: template.state_formats.clone(),
        late_files: late_files(template),
        late_parameters: template.late_parameters.clone(),
        join: template.join.clone(),
    }
}

fn late_files(template: &MachineTemplate) -> Vec<NodeFile> {
    let file = |(path, file): (&String, &profiles::File)| NodeFile {
        path: path.clone(),
        mode: format!("{:04o}", file.mode),
        content: file.content.clone(),
    };
    template.late_files.iter().map(file).collect()
}

fn input_key(
    template: &MachineTemplate,
    image_version: &str,
    packages: &str,
    agent: &Path,
) -> Result<String, BuildError> {
    let mut content = template.clone();
    // Where packages and container images lie differs from host to host; what they are says the root, and their digests.
    content.repositories.clear();
    content.container_images.values_mut().for_each(|image| image.source.clear());
    let inputs = InputHash::default().with("template", format!("{content:?}")).with("version", image_version);
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
