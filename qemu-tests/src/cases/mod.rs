//! The end-to-end cases, by name.

pub mod admission;
pub mod arm64;
pub mod boot_paths;
pub mod bystanders;
pub mod checks;
pub mod claim;
pub mod disk_image;
pub mod foreign_disk;
pub mod hypervisor;
pub mod install_bench;
pub mod media;
pub mod member;
pub mod odd_machines;
pub mod odd_networks;
pub mod pods;
pub mod power_cut;
pub mod preloaded_images;
pub mod retire;
pub mod screen;
pub mod secure_boot;
pub mod slots;
pub mod state_encryption;
pub mod storage_node;
pub mod tamper;
pub mod template_parts;
pub mod uki_modes;
pub mod until;
pub mod update;
pub mod wipe_permit;

use crate::{
    builds::Build,
    journey::{Plan, inside, table},
    materials::site::Variant,
    process,
    report::Report,
    world::{self, World, firmware::NetworkBoot, machine::Hardware, plain::SmallGuest, registrar},
};
use anyhow::{Context as _, Result, bail};
use std::process::Command;

/// One end-to-end case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// It belongs to every run of `cargo xtask test`, not only to `--all`.
    pub core: bool,
    /// The template whose machine it is about.
    pub template: &'static str,
    /// What happens in it.
    pub story: Story,
}

const WORKER: &str = "k8s-worker";

/// What happens in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// The journey of a blank machine whose firmware boots like this.
    Journey(NetworkBoot),
    /// Requests that the registrar must refuse; no machine.
    Admission,
    /// A person admits the machine.
    Claim,
    /// What stands on the machine's screen.
    Screen,
    /// Permission to install over somebody's data.
    WipePermit,
    /// A machine is wiped for the shelf, and looked at.
    Retire,
    /// Machines that are not as they should be.
    OddMachines,
    /// Disks that hold somebody's data.
    ForeignDisk,
    /// What netboot serves is changed, and what is on the disk.
    Tamper,
    /// One boot image, started in every way there is.
    UkiModes,
    /// Firmware that starts only what is signed.
    SecureBoot,
    /// A Ceph OSD machine and its data.
    StorageNode,
    /// Pods whose images came with the machine's own.
    PreloadedImages,
    /// A template with everything that templates can have.
    TemplateParts,
    /// A hypervisor of Nova and a server on it.
    Hypervisor,
    /// A CD and a stick that start a machine, which installs from its store.
    IsoThin,
    /// A stick and a CD that install without any network.
    IsoOffline,
    /// Disks that were written as images, and the artifact for registries.
    DiskImage,
    /// image-builder alone, without a world.
    Build(Build),
    /// Firmware and DHCP servers, each with each.
    BootPaths,
    /// Devices that are not ours: DHCP clients, or machines.
    Bystanders {
        /// Machines.
        machines: bool,
    },
    /// A machine for which there is no boot image.
    Arm64,
    /// Versions that are healthy and that are not, with cables and plugs pulled.
    Update,
    /// A version that never comes up, with this firmware.
    HangingSlot(NetworkBoot),
    /// State that is encrypted, and TPMs that are the machine's, another one's, or not there.
    StateEncryption,
    /// The power fails at any moment of an install.
    PowerCut,
    /// The install engine is measured.
    InstallBench,
}

impl Story {
    /// True when it needs other people's DHCP programs: it happens on small LANs, without a cluster.
    #[must_use]
    pub const fn has_neighbours(self) -> bool {
        matches!(self, Self::BootPaths | Self::Bystanders { .. } | Self::Arm64)
    }

    /// Further versions of its image.
    #[must_use]
    pub const fn versions(self) -> &'static [Variant] {
        match self {
            Self::Update => &[Variant::Next, Variant::Broken],
            Self::HangingSlot(_) => &[Variant::Hanging],
            Self::StateEncryption => &[Variant::SealedWherePossible],
            _ => &[],
        }
    }

    /// The version that is installed first, where there are further ones.
    #[must_use]
    pub fn first_version(self) -> Variant {
        if self == Self::StateEncryption { Variant::Sealed } else { Variant::First }
    }

    /// The formats that `image-builder export` has to make for it.
    #[must_use]
    pub const fn exports(self) -> &'static [&'static str] {
        match self {
            Self::OddMachines => &["iso-thin+static-address", "iso-thin+vlan", "iso-thin+bond"],
            Self::IsoThin => &["iso-thin"],
            Self::IsoOffline => &["iso-offline"],
            Self::DiskImage => &["qcow2", "raw", "vmdk", "oci"],
            _ => &[],
        }
    }
}

/// All cases.
pub const ALL: [Case; 32] = [
    Case {
        name: "journey",
        about: "a blank machine becomes a Ready Kubernetes worker over UEFI PXE, beside a foreign DHCP server",
        core: true,
        template: WORKER,
        story: Story::Journey(NetworkBoot::Pxe),
    },
    Case {
        name: "http-boot",
        about: "the same over UEFI HTTP Boot, with PXE switched off in the firmware",
        core: false,
        template: WORKER,
        story: Story::Journey(NetworkBoot::Http),
    },
    Case {
        name: "bios",
        about: "the same on SeaBIOS: iPXE in the network card's ROM, GRUB on the disk",
        core: false,
        template: WORKER,
        story: Story::Journey(NetworkBoot::Bios),
    },
    Case {
        name: "undionly",
        about: "the same on SeaBIOS with undionly.kpxe, chain-loaded from netboot by TFTP",
        core: false,
        template: WORKER,
        story: Story::Journey(NetworkBoot::BiosUndionly),
    },
    Case {
        name: "boot-paths",
        about: "BIOS, undionly, UEFI PXE, UEFI HTTP Boot, each beside dnsmasq, Kea, behind relays: to the agent's word",
        core: false,
        template: WORKER,
        story: Story::BootPaths,
    },
    Case {
        name: "bystanders",
        about: "dhclient, udhcpc and networkd receive the same with netboot as without: beside, behind a relay, on one host",
        core: true,
        template: WORKER,
        story: Story::Bystanders { machines: false },
    },
    Case {
        name: "foreign-boot",
        about: "machines that are not ours end where they ended without netboot: at another boot server, or at nothing",
        core: false,
        template: WORKER,
        story: Story::Bystanders { machines: true },
    },
    Case {
        name: "arm64",
        about: "an arm64 machine asks by PXE and HTTP Boot; netboot is silent, and its log says why",
        core: false,
        template: WORKER,
        story: Story::Arm64,
    },
    Case {
        name: "uki-modes",
        about: "one boot image over an empty disk, a half install, a whole one, another machine's, and both slots",
        core: false,
        template: WORKER,
        story: Story::UkiModes,
    },
    Case {
        name: "secure-boot",
        about: "enforced Secure Boot: a tampered and an unsigned boot image are refused, the signed one arrives",
        core: false,
        template: WORKER,
        story: Story::SecureBoot,
    },
    Case {
        name: "admission",
        about: "another node's name, a second key and a forged registrar are refused, through the store's relay",
        core: true,
        template: WORKER,
        story: Story::Admission,
    },
    Case {
        name: "claim",
        about: "a machine that a person has to admit waits with its claim code on console and page, until it is told",
        core: false,
        template: WORKER,
        story: Story::Claim,
    },
    Case {
        name: "screen",
        about: "pictures of the screen: a refused disk, an install, a wait for the region; a camera reads the codes",
        core: false,
        template: WORKER,
        story: Story::Screen,
    },
    Case {
        name: "wipe-permit",
        about: "a disk with somebody's data is installed over with the region's signed permit, for one disk and number only",
        core: false,
        template: WORKER,
        story: Story::WipePermit,
    },
    Case {
        name: "retire",
        about: "a member is retired: it wipes its own disk and no other, is looked at for the shelf, and installs when admitted anew",
        core: false,
        template: WORKER,
        story: Story::Retire,
    },
    Case {
        name: "foreign-disk",
        about: "disks with NTFS, ext4, LUKS, LVM, RAID, ZFS, Windows or another store's system are named and untouched",
        core: true,
        template: WORKER,
        story: Story::ForeignDisk,
    },
    Case {
        name: "odd-machines",
        about: "twin disks, 4Kn, no link, clocks of 1970 and 2038, no WAN, failing disks, odd firmware, fixed address, VLAN, bond",
        core: false,
        template: WORKER,
        story: Story::OddMachines,
    },
    Case {
        name: "tamper",
        about: "flipped bytes in a chunk and in the timestamp stop the install, one on the installed root the machine",
        core: true,
        template: WORKER,
        story: Story::Tamper,
    },
    Case {
        name: "storage-node",
        about: "three Ceph OSDs keep an object over a power cut and a reinstall, beside a foreign disk; then revoked",
        core: false,
        template: "storage-node",
        story: Story::StorageNode,
    },
    Case {
        name: "preloaded-images",
        about: "a pod runs on a joined worker with no registry in reach, over a power cut while images were unpacked",
        core: false,
        template: WORKER,
        story: Story::PreloadedImages,
    },
    Case {
        name: "template-parts",
        about: "a template's kernel arguments, user, egress list and store's values are in force on a joined worker",
        core: false,
        template: WORKER,
        story: Story::TemplateParts,
    },
    Case {
        name: "hypervisor",
        about: "Nova counts on the machine and starts a server on it; once revoked, its credentials are useless",
        core: false,
        template: "hypervisor",
        story: Story::Hypervisor,
    },
    Case {
        name: "power-cut",
        about: "disks as a power cut at any moment of an install may leave them are judged; twelve are started and go on",
        core: false,
        template: WORKER,
        story: Story::PowerCut,
    },
    Case {
        name: "ci",
        about: "the documented pipeline without root: two at once, one that runs again, three that are killed, a stale lock",
        core: false,
        template: WORKER,
        story: Story::Build(Build::Ci),
    },
    Case {
        name: "reproducible",
        about: "one lock, built as another user, at another place: the same bytes; a planted difference is named",
        core: false,
        template: WORKER,
        story: Story::Build(Build::Reproducible),
    },
    Case {
        name: "iso-thin",
        about: "a thin ISO as CD on UEFI and as stick on BIOS: the machine installs from its store and arrives",
        core: false,
        template: WORKER,
        story: Story::IsoThin,
    },
    Case {
        name: "iso-offline",
        about: "an offline ISO as stick on UEFI and as CD on BIOS: installed without a cable; with one, it arrives",
        core: false,
        template: WORKER,
        story: Story::IsoOffline,
    },
    Case {
        name: "disk-image",
        about: "a qcow2 on a larger disk arrives, raw starts on BIOS, VMDK on UEFI; skopeo reads the OCI artifact",
        core: false,
        template: WORKER,
        story: Story::DiskImage,
    },
    Case {
        name: "update",
        about: "a version with one package more moves few bytes and wins over pulled plugs and cables; a broken one loses",
        core: false,
        template: WORKER,
        story: Story::Update,
    },
    Case {
        name: "hanging-slot",
        about: "a version that never comes up on UEFI: after three starts the machine is back by itself, and says why",
        core: false,
        template: WORKER,
        story: Story::HangingSlot(NetworkBoot::Http),
    },
    Case {
        name: "hanging-slot-bios",
        about: "the same on SeaBIOS, where GRUB counts",
        core: false,
        template: WORKER,
        story: Story::HangingSlot(NetworkBoot::Bios),
    },
    Case {
        name: "state-encryption",
        about: "state under LUKS2: its TPM opens it, another one does not, the registrar's recovery key does; no TPM at all",
        core: false,
        template: WORKER,
        story: Story::StateEncryption,
    },
];

/// What `bench install` runs; no case of its own.
pub const INSTALL_BENCH: Case = Case {
    name: "install-bench",
    about: "the install engine beside curl, zstd and dd",
    core: false,
    template: WORKER,
    story: Story::InstallBench,
};

/// Finds a case.
#[must_use]
pub fn find(name: &str) -> Option<Case> {
    ALL.into_iter().chain([INSTALL_BENCH]).find(|case| case.name == name)
}

/// Runs a case inside the world.
///
/// # Errors
/// When the case fails.
pub async fn run(plan: &Plan, report: &Report, result: &Report) -> Result<()> {
    let case = find(&plan.case).with_context(|| format!("there is no case {}", plan.case))?;
    match case.story {
        Story::BootPaths => return boot_paths::run(plan, report, result).await,
        Story::Bystanders { machines } => return bystanders::run(plan, machines, report, result).await,
        Story::Arm64 => return arm64::run(plan, report, result).await,
        _ => {}
    }
    let mut plan = plan.clone();
    let changes = matches!(case.story, Story::Tamper | Story::SecureBoot | Story::Update | Story::HangingSlot(_));
    if changes || case.story == Story::StateEncryption || case.story == Story::InstallBench {
        own_repository(&mut plan)?;
    }
    plan.person |= matches!(case.story, Story::Claim | Story::Screen);
    let plan = &plan;
    let machines: &[_] = match case.story {
        Story::OddMachines => &odd_machines::MACHINES,
        Story::StateEncryption => &state_encryption::MACHINES,
        _ => &registrar::ANY,
    };
    let mut world = world::build(plan, machines, report).await?;
    match case.story {
        Story::Journey(boot) => journey(plan, boot, &mut world, report, result).await,
        Story::Admission => admission::run(plan, &mut world, report).await,
        Story::Claim => claim::run(plan, &mut world, report).await,
        Story::Retire => retire::run(plan, &mut world, report).await,
        Story::WipePermit => wipe_permit::run(plan, &mut world, report).await,
        Story::Screen => screen::run(plan, &mut world, report).await,
        Story::OddMachines => odd_machines::run(plan, &mut world, report).await,
        Story::ForeignDisk => foreign_disk::run(plan, &mut world, report).await,
        Story::Tamper => tamper::run(plan, &mut world, report).await,
        Story::UkiModes => uki_modes::run(plan, &mut world, report).await,
        Story::PreloadedImages => preloaded_images::run(plan, &mut world, report, result).await,
        Story::InstallBench => install_bench::run(plan, &mut world, report).await,
        Story::PowerCut => power_cut::run(plan, &mut world, report, result).await,
        Story::TemplateParts => template_parts::run(plan, &mut world, report, result).await,
        Story::Hypervisor => hypervisor::run(plan, &mut world, report, result).await,
        Story::Update => update::run(plan, &mut world, report, result).await,
        Story::StateEncryption => state_encryption::run(plan, &mut world, report).await,
        Story::HangingSlot(boot) => slots::run(plan, boot, &mut world, report).await,
        Story::StorageNode => storage_node::run(plan, &mut world, report, result).await,
        Story::Build(_) | Story::BootPaths | Story::Bystanders { .. } | Story::Arm64 => {
            bail!("{} needs no world", case.name)
        }
        Story::IsoThin => media::thin(plan, &mut world, report).await,
        Story::IsoOffline => media::offline(plan, &mut world, report).await,
        Story::DiskImage => disk_image::run(plan, &mut world, report).await,
        Story::SecureBoot => {
            secure_boot::refusals(plan, &mut world, report).await?;
            journey(plan, NetworkBoot::SecurePxe, &mut world, report, result).await
        }
    }
}

/// The machine of most cases, see [`Hardware::blank`].
async fn blank_machine(plan: &Plan, world: &World, boot: NetworkBoot, report: &Report) -> Result<Hardware> {
    let small = SmallGuest::make(&world.root, &plan.image.uki, &plan.run.join("plain"))?;
    let accelerator = small.choose_accelerator(&world.root, &plan.cache, report).await?;
    Hardware::blank(&world.root, plan, boot, accelerator)
}

/// A copy of the repository that may be changed.
fn own_repository(plan: &mut Plan) -> Result<()> {
    let copy = plan.run.join("repository");
    process::output(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&plan.image.repository).arg(&copy))?;
    plan.image.repository = copy;
    Ok(())
}

/// The journey, then every check of it. The report is written even when a check fails.
async fn journey(plan: &Plan, boot: NetworkBoot, world: &mut World, report: &Report, result: &Report) -> Result<()> {
    let outcome = inside::run(plan, boot, world, report).await?;
    let text = serde_json::to_string_pretty(&outcome.record).context("writing the report")?;
    std::fs::write(plan.run.join("report.json"), text + "\n").context("writing the report")?;
    result.line(table::journey(&outcome.record));
    result.line(outcome.member.words.trim_end());

    let capture = std::fs::read(&world.store.capture_file).context("reading the packet capture")?;
    let mut failed = 0;
    for check in checks::all(boot, &outcome, &capture) {
        match check.result {
            Ok(()) => report.line(format!("check: {}: yes", check.what)),
            Err(error) => {
                failed += 1;
                report.line(format!("check: {}: NO: {error:#}", check.what));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} checks of the journey failed");
    }
    Ok(())
}
