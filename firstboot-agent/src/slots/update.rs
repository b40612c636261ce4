//! A new version onto the disk: root and hash tree into the slot that does not run, checked; boot files beside those that count,
//! on trial. The order makes every power cut harmless: until the last step nothing leads to the new version.

use super::{
    boot_image,
    bootfiles::BootFiles,
    choice,
    fetch::{self, Moved, Stream},
    here::Here,
    keep,
    model::{Slots, Version},
};
use crate::{
    boot::installed::{STATE, TRUST},
    disk::{layout::Role, table::Target},
    durable, efi,
    install::{repository::Repository, source::Source, state::Mounted},
    net::client::Netboot,
    verity,
};
use anyhow::{Context, Result, bail, ensure};
use contracts::{
    assignment::ImageRef,
    install::InstallRecord,
    machine::{MACHINE_CONFIG_PATH, MachineConfig},
    manifest::{Channel, ImageManifest, RoleVersions, TrustFloor},
    rollout::Rollout,
    step::Step,
};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

const LOCK: &str = "/run/shelfboot/update.lock";

/// What was done, for machines: `firstboot-agent update --json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Updated {
    /// The version that runs.
    pub from: String,
    /// The version that is to be tried.
    pub to: String,
    /// Where the bytes of root and hash tree came from.
    pub root: Moved,
    /// Bytes of the boot image.
    pub boot_image_bytes: u64,
    /// Bytes of it that came from the store.
    pub boot_image_fetched: u64,
    /// Why there is no way back once the new version's services have started.
    pub unsafe_step: Option<String>,
}

impl Updated {
    /// In a sentence.
    #[must_use]
    pub fn words(&self) -> String {
        let moved = self.root.fetched + self.boot_image_fetched;
        let whole = self.root.archive + self.boot_image_bytes;
        let percent = moved as f64 * 100.0 / whole.max(1) as f64;
        format!(
            "{} is on the disk beside {}: {} of {} KiB were fetched ({percent:.1} %)",
            self.to,
            self.from,
            moved >> 10,
            whole >> 10
        )
    }
}

/// The repository as an installed system believes it, and what it says of this machine's channel.
#[derive(Debug)]
pub struct Offer {
    source: Source,
    repository: Repository,
    image: ImageRef,
    /// The version that the channel names.
    pub channel: String,
    /// The rollout on it.
    pub rollout: Option<Rollout>,
}

impl Offer {
    /// Asks the store.
    ///
    /// # Errors
    /// When the repository cannot be believed, or does not have the channel.
    pub async fn ask(netboot: &Netboot, image: &ImageRef) -> Result<Self> {
        let source = Source::Store(netboot.clone());
        let read =
            |name: &str| fs::read(Path::new(TRUST).join(name)).with_context(|| format!("reading {TRUST}/{name}"));
        let root = read("root.json")?;
        let mut floor: TrustFloor = contracts::read(&read("trust.json")?)?;
        if let Some(record) = install_record() {
            floor.roles = newest(floor.roles, record.roles);
        }
        let repository = Repository::load(&source, &root, &floor).await?;
        let channel = match &image.version {
            Some(version) => version.clone(),
            None => {
                let name = Channel::target_name(&image.template, &image.channel);
                contracts::read::<Channel>(&repository.target(&name).await?)?.image_version
            }
        };
        let name = Rollout::target_name(&image.template, &image.channel);
        let rollout = match repository.described(&name)? {
            Some(_) if image.version.is_none() => Some(contracts::read::<Rollout>(&repository.target(&name).await?)?),
            _ => None,
        };
        Ok(Self { source, repository, image: image.clone(), channel, rollout })
    }
}

fn newest(one: RoleVersions, two: RoleVersions) -> RoleVersions {
    RoleVersions {
        targets: one.targets.max(two.targets),
        snapshot: one.snapshot.max(two.snapshot),
        timestamp: one.timestamp.max(two.timestamp),
    }
}

/// The record of the install, or of the update that counts.
#[must_use]
pub fn install_record() -> Option<InstallRecord> {
    serde_json::from_slice(&fs::read(Path::new(STATE).join(InstallRecord::FILE)).ok()?).ok()
}

/// Tells how far it is.
pub type Tell<'a> = &'a (dyn Fn(Step, f64, &str) + Sync);

/// Puts a version on trial. Nothing is restarted.
///
/// # Errors
/// With what did not work; the version that runs is not touched, and a next try goes on where this one ended.
pub async fn put_on_trial(config: &MachineConfig, offer: &Offer, version: &str, tell: Tell<'_>) -> Result<Updated> {
    let lock = File::create(LOCK).with_context(|| format!("making {LOCK}"))?;
    let Ok(_lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
        bail!("another update is under way");
    };
    let here = Here::find()?;
    let wanted = ImageRef { version: Some(version.to_owned()), ..offer.image.clone() };
    ensure!(wanted.template == config.template, "this machine is a {}, not a {}", config.template, wanted.template);
    let manifest = offer.repository.manifest(&wanted).await?;
    manifest.check(&config.template, version).map_err(anyhow::Error::msg).context("the image's manifest")?;
    ensure!(manifest.root.root_hash != here.root_hash, "version {version} runs already");
    ensure!(efi::present() || manifest.bios.is_some(), "version {version} has no boot files for BIOS machines");

    let folder = Path::new(STATE);
    let running = Version { image_version: config.image_version.clone(), root_hash: here.root_hash.clone() };
    let slots = keep::read(folder)?.unwrap_or_else(|| Slots::new(running.clone()));
    ensure!(slots.good == running, "the version that runs is on trial itself, and not good yet");
    // From here on nothing leads to what was in the other slot.
    let slots = Slots { trial: None, ..slots };
    with_boot_files(&here, |files| files.settle(&here.root_hash))?;
    keep::write(folder, &slots)?;
    let (bytes, sector_bytes) = here.size()?;
    let mut target = Target::of_running_system(&here.disk, bytes, sector_bytes)?;
    target.begin_slot(here.slot.other(), &here.root_hash)?;

    let root = fill(&here, offer, &manifest, tell).await?;
    let new = tokio::task::block_in_place(|| look_at(&here, &manifest, tell))?;
    ensure!(new.template == config.template && new.image_version == version, "the root is of another image");
    let changed = choice::changed(&config.state_formats, &new.state_formats);
    changed.iter().try_for_each(|(before, _)| snapshot(&before.path, &before.snapshot))?;
    let unsafe_step = choice::unsafe_step(&config.state_formats, &new.state_formats);

    let here_parts = with_boot_files(&here, |files| files.parts(&here.root_hash))?;
    let uki = offer.repository.described(&manifest.uki)?.context("the repository has no boot image")?;
    let boot_image_bytes = uki.bytes;
    let (boot_image, boot_image_fetched) =
        boot_image::fetch_boot_image(&offer.source, &uki, &here_parts).await.context("the new version's boot image")?;
    target.complete_slot(here.slot.other(), &manifest.root.root_hash, &here.root_hash)?;
    let to = Version { image_version: version.to_owned(), root_hash: manifest.root.root_hash.clone() };
    let slots = slots.on_trial(to, unsafe_step.clone());
    keep::write(folder, &slots)?;
    with_boot_files(&here, |files| files.arm(&here.root_hash, version, &boot_image))?;
    keep::write(folder, &slots.armed())?;
    believe_nothing_older(offer.repository.versions())?;
    Ok(Updated {
        from: config.image_version.clone(),
        to: version.to_owned(),
        root,
        boot_image_bytes,
        boot_image_fetched,
        unsafe_step,
    })
}

/// What was believed once is the least that is believed later.
fn believe_nothing_older(roles: RoleVersions) -> Result<()> {
    let Some(record) = install_record() else { return Ok(()) };
    let record = InstallRecord { roles: newest(record.roles, roles), ..record };
    durable::write(&Path::new(STATE).join(InstallRecord::FILE), &serde_json::to_vec_pretty(&record)?, 0o644)
}

async fn fill(here: &Here, offer: &Offer, manifest: &ImageManifest, tell: Tell<'_>) -> Result<Moved> {
    let (data, tree) = here.slot.roles();
    let running = Stream::running(&here.node(data), &here.node(tree))?;
    let (data, tree) = here.slot.other().roles();
    let slot = Stream::to_write(&here.node(data), &here.node(tree), manifest)?;
    let progress = |fraction: f64, words: &str| tell(Step::Install, fraction, words);
    fetch::fill(&offer.source, manifest, &running, &slot, &progress).await
}

/// Checks what is in the other slot against the root hash, and reads what the image says to its agent.
fn look_at(here: &Here, manifest: &ImageManifest, tell: Tell<'_>) -> Result<MachineConfig> {
    let (data, tree) = here.slot.other().roles();
    let node = here.node(data);
    let open = |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
    let whole = manifest.root.data_bytes;
    let show = |done: u64| {
        tell(
            Step::Verify,
            done as f64 / whole.max(1) as f64,
            &format!("{} of {} MiB checked", done >> 20, whole >> 20),
        );
    };
    verity::verify(&open(&node)?, &open(&here.node(tree))?, whole, &manifest.root.root_hash, &show)?;
    let mounted = Mounted::read_only(&node, "erofs")?;
    let path = mounted.path().join(MACHINE_CONFIG_PATH.trim_start_matches('/'));
    let config = contracts::read(&fs::read(path).context("reading the new version's machine configuration")?)?;
    mounted.unmount()?;
    Ok(config)
}

/// Runs the template's program that keeps a copy of state whose format is about to change.
fn snapshot(path: &str, words: &[String]) -> Result<()> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("keeping a copy of {path}: starting {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "keeping a copy of {path}: {program} ended with {}: {}",
        output.status,
        said.trim()
    );
    Ok(())
}

/// Something with the boot files of this machine.
///
/// # Errors
/// When the EFI system partition cannot be mounted, and the work's own.
pub fn with_boot_files<T>(here: &Here, work: impl FnOnce(&BootFiles) -> Result<T>) -> Result<T> {
    let mounted = Mounted::new(&here.node(Role::Esp), "vfat")?;
    let done = work(&BootFiles::new(mounted.path(), efi::present()));
    mounted.unmount()?;
    done
}
