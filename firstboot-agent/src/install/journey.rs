//! The journey's steps in the installer, in order. Each ends in what the next one needs.

use super::{
    archive, esp,
    freshness::{Expired, Stale, moment},
    medium::{self, Origin},
    network::Lan,
    permission::Permission,
    repository::Repository,
    retire,
    source::Source,
    stage::{self, Further},
    state::{self, Found},
    way::{self, Way},
};
use crate::{
    boot, console,
    disk::{layout::Role, plan::Identity, table::Target},
    efi,
    encryption::{
        luks,
        plan::{self as encryption, Existing, Plan},
    },
    facts,
    failure::{Coded, Failure},
    image,
    logs::{Teller, kept},
    net::lldp,
    report::Reporter,
    verity,
};
use anyhow::Context;
use contracts::{
    VERSION,
    assignment::{Action, Assignment, BootMode, ImageRef, MachineReport},
    disks::DiskPolicy,
    facts::{DiskContent, MachineFacts, Owner, Tpm},
    fleet::WipePermit,
    install::InstallRecord,
    manifest::{ImageManifest, TrustFloor},
    network::NetworkConfig,
    state::StatePolicy,
    step::Step,
};
use std::{
    convert::Infallible,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};
use time::OffsetDateTime;
use uuid::Uuid;

/// How long the last outcomes may take to reach netboot before the restart; netboot counts the install permit as
/// used when it has them.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// One try. It ends with a restart, or with a failure that has been reported.
///
/// # Errors
/// The step's failure.
pub async fn attempt(
    teller: &Teller,
    reporter: &Reporter,
    floor: &TrustFloor,
    origin: &Origin,
    permission: &mut Permission,
) -> Result<Infallible, Failure> {
    let attempt = reporter.attempt();
    // What the try before has opened would make its disk one that is in use.
    if let Err(error) = luks::close() {
        console::line(&format!("the encrypted state of the try before stays open: {error:#}"));
    }
    let way = reporter.step(Step::Network, "looking for the store's boot service", way::find(floor, origin)).await?;
    if let Way::Store(lan) = &way {
        reporter.connect(lan.netboot.clone(), &lan.mac);
    }

    let (order, assignment, facts) = reporter.step(Step::Assign, "asking what to do", assign(attempt, &way)).await?;
    let me = Identity::new(assignment.store.clone(), &facts);
    let image = match order {
        Next::Install(image) => image,
        Next::Disk => return restart_into_disk(reporter, teller, &facts, &me, &way).await,
        Next::Aside => return Err(aside(reporter, floor, &way, &assignment, &facts, &me).await),
    };
    let owner = way.owner(&assignment);
    let (source, mut sources) = (way.source(), way.sources(&assignment));
    // A stick that was forgotten in the machine may have what a broken line does not bring.
    let medium = if matches!(way, Way::Store(_)) { medium::find(origin, false).await } else { None };
    sources.extend(medium.iter().filter(|found| found.medium.offline).map(medium::Found::source));

    // Before the plan: the manifest says which disks may be used. What is wrong with it belongs to the fetching.
    let (repository, manifest) = match describe(&source, floor, &image).await {
        Ok(described) => described,
        Err(failure) => {
            return reporter.step(Step::Install, "fetching the system", async { Err(failure) }).await;
        }
    };
    let chosen = reporter.step(Step::Plan, "choosing the disk", async {
        // Before anything is written: a machine that cannot keep its data as its template says is none for it.
        encryption::decide(manifest.state, facts.tpm.as_ref(), Existing::Nothing).map_err(refused)?;
        let permits = permission.look(&assignment, &facts, &repository).await?;
        choose_disk(&facts, &manifest.disks, &me, permission, &permits).await
    });
    let (mut target, content, permit) = chosen.await?;
    let wanted = Wanted { policy: manifest.state, tpm: facts.tpm.as_ref(), me: &me };
    let divided = partition(&mut target, &content, &wanted, permit.as_ref(), teller);
    let state_node = reporter.step(Step::Partition, "dividing the disk", divided).await?;
    if permit.is_some() {
        permission.used();
    }
    let installed = async {
        reporter.step(Step::Install, "fetching the system", install(reporter, &sources, &manifest, &target)).await?;
        let places = (&mut target, state_node.as_path());
        let verified = verify(reporter, &repository, &manifest, places, (attempt, owner), way.network());
        reporter.step(Step::Verify, "checking what is on the disk", verified).await
    };
    if let Err(failure) = installed.await {
        if !teller.tell().await
            && let Ok(node) = target.node(Role::State).and_then(|node| state::opened(&node))
        {
            kept::keep_on(&node, teller);
        }
        return Err(failure);
    }

    if let Some(bytes) = image::peak_memory() {
        console::line(&format!("at most {} MiB of memory were used", bytes >> 20));
    }
    reporter.started(Step::Restart, "starting from the disk");
    let told = matches!(way, Way::Store(_)) && reporter.flush(FLUSH_LIMIT).await;
    let node = || target.node(Role::State).and_then(|node| state::opened(&node));
    if !told && let Err(error) = node().and_then(|node| state::keep_events(&node, &reporter.unsent())) {
        console::line(&format!("what happened so far cannot be kept for the store: {error:#}"));
    }
    if !(told && teller.tell().await)
        && let Ok(node) = node()
    {
        kept::keep_on(&node, teller);
    }
    drop(target);
    boot::restart()
}

/// What netboot orders, and what the steps after it need to know.
type Orders = (Next, Assignment, MachineFacts);

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// This is installed.
    Install(ImageRef),
    /// The machine starts from its disk.
    Disk,
    /// There is nothing to install: the region has ordered something else.
    Aside,
}

async fn assign(attempt: Uuid, way: &Way) -> Result<(Orders, String), Failure> {
    let mut facts = facts::gather(true);
    let assignment = match way {
        Way::Store(lan) => {
            lldp::add(&mut facts.nics, &lan.neighbours);
            ask(attempt, lan, &facts).await.code("no-assignment")?
        }
        Way::Medium(found) => way::order_of(&found.medium, &facts),
    };
    let words = assignment.reason.clone();
    Ok(((order(&assignment)?, assignment, facts), words))
}

async fn ask(attempt: Uuid, lan: &Lan, facts: &MachineFacts) -> anyhow::Result<Assignment> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let report = MachineReport {
        version: VERSION,
        attempt,
        boot_mode: BootMode::Installer,
        mac: lan.mac.clone(),
        boot_id,
        facts: facts.clone(),
    };
    lan.netboot.assign(&report).await
}

fn order(assignment: &Assignment) -> Result<Next, Failure> {
    match assignment.action {
        Action::Install => {
            let image = assignment.image.clone().context("the order to install names no image");
            Ok(Next::Install(image.code("bad-assignment")?))
        }
        Action::Boot => Ok(Next::Disk),
        Action::Wait if assignment.stage || !assignment.fleet.is_empty() => Ok(Next::Aside),
        Action::Wait => Err(Failure::wait("wait", assignment.reason.clone())),
        // The inventory may name this machine any moment: it keeps asking, but somebody has to act.
        Action::Refuse => Err(Failure::new("not-admitted", assignment.reason.clone())),
    }
}

/// A machine that has nothing to install is wiped for the shelf, or looked at, or both.
async fn aside(
    reporter: &Reporter,
    floor: &TrustFloor,
    way: &Way,
    assignment: &Assignment,
    facts: &MachineFacts,
    me: &Identity,
) -> Failure {
    if !assignment.fleet.is_empty() {
        let followed = retire::follow(reporter, &way.source(), floor, assignment, facts, me).await;
        if !assignment.stage || !followed.waits {
            return followed;
        }
    }
    let (Some(image), Way::Store(lan)) = (&assignment.image, way) else {
        return Failure::wait("wait", assignment.reason.clone());
    };
    let looked = reporter.step(Step::Plan, "looking at this machine for the shelf", async {
        let (_, manifest) = describe(&way.source(), floor, image).await?;
        let further = Further { boot_order: efi::boot_order(), endorsement_key: facts::endorsement::read() };
        // Again: what was on its disks may just have been wiped.
        let facts = facts::gather(true);
        let record = stage::judge(&facts, &further, &manifest, &lan.mac, OffsetDateTime::now_utc());
        let words = if record.passes { "it passes" } else { "something has to be changed" };
        Ok((record, words.to_owned()))
    });
    match looked.await {
        Ok(record) => stage::tell(reporter, &lan.netboot, record).await,
        Err(failure) => failure,
    }
}

/// The disk, and what is on it.
async fn choose_disk(
    facts: &MachineFacts,
    rules: &DiskPolicy,
    me: &Identity,
    permission: &Permission,
    permits: &[WipePermit],
) -> Result<((Target, DiskContent, Option<WipePermit>), String), Failure> {
    let (plan, permit) = permission.choose(facts, rules, me, permits)?;
    let disk = &facts.disks[plan.disk];
    let node = Path::new("/dev").join(&disk.kernel_name);
    let target = Target::device(&node, disk.bytes, disk.sector_bytes).code("disk-busy")?;
    Ok(((target, disk.content.clone(), permit), plan.why))
}

/// What the state is to be, and whose.
#[derive(Debug)]
struct Wanted<'a> {
    policy: StatePolicy,
    tpm: Option<&'a Tpm>,
    me: &'a Identity,
}

fn refused(refusal: encryption::Refusal) -> Failure {
    Failure::new(refusal.code(), refusal.to_string())
}

/// Returns the node on which the state can be mounted.
async fn partition(
    target: &mut Target,
    content: &DiskContent,
    wanted: &Wanted<'_>,
    permit: Option<&WipePermit>,
    teller: &Teller,
) -> Result<(PathBuf, String), Failure> {
    // Only a half install may hold state; on a blank disk it would be what is left of somebody who has gone.
    let half = permit.is_none() && matches!(content, DiskContent::HalfInstall { .. });
    let in_its_place = target.is_in_its_place(Role::State);
    if half && !in_its_place && target.node(Role::State).is_ok_and(|node| state::look(&node).found != Found::Nothing) {
        let words = "state on the disk lies where this version would not look for it; nothing was written. Install the \
                     version that was there before";
        return Err(Failure::new("layout-changed", words));
    }
    luks::close().code("partition")?;
    if permit.is_some() {
        target.forget_what_was_there().code("partition")?;
    }
    // The table first: after a power cut in the middle of it the kernel may not know the partitions, and it says the same
    // about where the state is.
    target.write_in_progress().code("partition")?;
    let node = target.node(Role::State).code("partition")?;
    let look = (half && in_its_place).then(|| state::look(&node));
    if let Some(look) = &look {
        is_mine(&look.found, wanted.me)?;
        teller.inherit(kept::take_from(&look.node));
    }
    let found = look.filter(|look| look.found != Found::Nothing);
    let existing = match &found {
        None => Existing::Nothing,
        Some(look) if look.encrypted => Existing::Opened,
        Some(_) => Existing::Clear,
    };
    let plan = encryption::decide(wanted.policy, wanted.tpm, existing).map_err(refused)?;
    let esp = target.node(Role::Esp).code("partition")?;
    esp::make(&esp).code("partition")?;
    let made = state::make_as(plan, &node);
    let node = match (made.code("partition")?, &found) {
        (_, Some(look)) => look.node.clone(),
        (node, None) => node,
    };
    let kept = match (plan, existing) {
        (Plan::Keep, Existing::Opened) => "; this machine's encrypted state on it is as it was",
        (Plan::Keep, _) => "; this machine's state on it is as it was",
        (Plan::MakeEncrypted, _) => "; its state is encrypted, and this machine's TPM opens it",
        (Plan::MakeClear, _) => "",
    };
    let used = permit.map_or_else(String::new, |permit| format!("; permit {} of {} is used up", permit.id, permit.by));
    Ok((node, format!("the disk is divided; nothing on it can start yet{kept}{used}")))
}

/// Whether the state on a half install is this machine's. What was ever used is not made anew.
fn is_mine(found: &Found, me: &Identity) -> Result<(), Failure> {
    match found {
        Found::Nothing => Ok(()),
        Found::Of(owner) if me.is(owner) => Ok(()),
        Found::Locked(owner, why) if owner.as_ref().is_none_or(|owner| me.is(owner)) => {
            Err(Failure::new(encryption::LOCKED, luks::locked(why)))
        }
        Found::Of(owner) | Found::Locked(Some(owner), _) => {
            let words = format!("the disk holds state of another machine ({} of store {})", owner.machine, owner.store);
            Err(Failure::new("foreign-data", format!("{words}; it was not touched. Use an empty disk")))
        }
        Found::Unreadable | Found::Locked(None, _) => {
            let words = "the disk holds a machine's state that cannot be read; it was not touched. Use an empty disk, and \
                         keep this one for support";
            Err(Failure::new("state-unreadable", words))
        }
    }
}

/// What the image is: its signed manifest.
async fn describe(
    source: &Source,
    floor: &TrustFloor,
    image: &ImageRef,
) -> Result<(Repository, ImageManifest), Failure> {
    let root = std::fs::read(boot::TUF_ROOT).context("reading the boot image's root of trust").code("repository")?;
    let repository = Repository::load(source, &root, floor).await;
    let expired = repository.as_ref().is_err_and(|error| error.is::<Expired>());
    let repository = repository.code(if expired { Expired::CODE } else { "repository" })?;
    if let Some(Stale { since, until }) = repository.stale() {
        let (since, until) = (moment(since), moment(until));
        console::line(&format!("the repository's signed dates ended {since}; they are believed until {until}"));
    }
    let manifest = repository.manifest(image).await.code("manifest")?;
    if !efi::present() && manifest.bios.is_none() {
        let words = format!(
            "{} {} has no boot files for BIOS machines; build it anew, or switch this machine to UEFI",
            manifest.template, manifest.image_version
        );
        return Err(Failure::new("no-bios-image", words));
    }
    Ok((repository, manifest))
}

async fn install(
    reporter: &Reporter,
    sources: &[Source],
    manifest: &ImageManifest,
    target: &Target,
) -> Result<((), String), Failure> {
    let (data, tree) = (target.node(Role::RootA).code("install")?, target.node(Role::VerityA).code("install")?);
    let installed = archive::install(reporter, sources, manifest, &data, &tree).await.code("install")?;
    Ok(((), format!("{} {} is on the disk ({installed})", manifest.template, manifest.image_version)))
}

async fn verify(
    reporter: &Reporter,
    repository: &Repository,
    manifest: &ImageManifest,
    (target, state_node): (&mut Target, &Path),
    (attempt, owner): (Uuid, Option<Owner>),
    network: Option<&NetworkConfig>,
) -> Result<((), String), Failure> {
    let (data, tree) = (target.node(Role::RootA).code("verify")?, target.node(Role::VerityA).code("verify")?);
    let (root, progress) = (manifest.root.clone(), reporter.clone());
    let checked = tokio::task::spawn_blocking(move || {
        let show = |done: u64| {
            let fraction = done as f64 / root.data_bytes as f64;
            progress.progress(
                Step::Verify,
                fraction,
                None,
                &format!("{} of {} MiB checked", done >> 20, root.data_bytes >> 20),
            );
        };
        verity::verify(&File::open(data)?, &File::open(tree)?, root.data_bytes, &root.root_hash, &show)
    });
    checked.await.code("verify")?.code("verify")?;

    // From here on the disk becomes bootable. The order matters: what is started first, then the mark that it is complete, then
    // what starts it. A disk that says complete can start, whenever the power goes; one that starts sooner is an installer.
    let ca = repository.target(&manifest.registrar_ca).await.code("registrar-ca")?;
    let record = InstallRecord::new(manifest, Some(attempt), repository.versions(), owner);
    state::fill(state_node, &ca, &record).code("state")?;
    let partition = target.node(Role::State).code("state")?;
    if let Some(owner) = record.owner.as_ref().filter(|_| luks::is_luks(&partition)) {
        luks::say_owner(&partition, owner).code("state")?;
    }
    if let Some(network) = network {
        state::keep_network(state_node, network).code("state")?;
    }
    // The kernel takes no new table while somebody uses a partition.
    luks::close().code("state")?;
    let uki = repository.target(&manifest.uki).await.code("boot-files")?;
    let esp = target.node(Role::Esp).code("boot-files")?;
    match &manifest.bios {
        Some(files) if !efi::present() => {
            let boot_sector = repository.target(&files.boot_sector).await.code("boot-files")?;
            let core = repository.target(&files.core).await.code("boot-files")?;
            esp::fill_for_bios(&esp, &uki).code("boot-files")?;
            target.write_bios_core(&core).code("boot-files")?;
            target.complete_slot_a(&manifest.root.root_hash).code("partition")?;
            target.write_boot_sector(&boot_sector).code("boot-entry")?;
        }
        _ => {
            let loader = repository.target(&manifest.boot_loader).await.code("boot-files")?;
            esp::fill(&esp, &manifest.image_version, &uki, &loader).code("boot-files")?;
            target.complete_slot_a(&manifest.root.root_hash).code("partition")?;
            esp::boot_next(target).code("boot-entry")?;
        }
    }
    Ok(((), "the disk holds exactly what was signed, and the machine can start from it".into()))
}

/// The machine is installed, but its firmware came to the network or a medium first.
async fn restart_into_disk(
    reporter: &Reporter,
    teller: &Teller,
    facts: &MachineFacts,
    me: &Identity,
    way: &Way,
) -> Result<Infallible, Failure> {
    if matches!(way, Way::Medium(_)) && !efi::present() {
        // Nothing can be set on a BIOS, and nobody has to hear of it but who stands before the machine.
        let words = "this machine is installed. Take the medium out, and switch it off and on again";
        return reporter.step(Step::Restart, words, async { Err(Failure::wait("take-medium-out", words)) }).await;
    }
    reporter.started(Step::Restart, "this machine is installed; starting from its disk");
    let restarted = async {
        esp::boot_installed(facts, me).code("boot-entry")?;
        Ok(((), "the firmware starts from the disk next".to_owned()))
    };
    reporter.step(Step::Restart, "starting from the disk", restarted).await?;
    if matches!(way, Way::Store(_)) {
        reporter.flush(FLUSH_LIMIT).await;
        teller.tell().await;
    }
    boot::restart()
}
