//! The end-to-end cases, by name.

pub mod admission;
pub mod checks;
pub mod foreign_disk;
pub mod tamper;
pub mod until;

use crate::{
    journey::{Plan, inside, table},
    report::Report,
    world::{self, World, firmware::NetworkBoot},
};
use anyhow::{Context as _, Result, bail};

/// One end-to-end case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// What happens in it.
    pub story: Story,
}

/// What happens in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// The journey of a blank machine whose firmware boots like this.
    Journey(NetworkBoot),
    /// Requests that the registrar must refuse; no machine.
    Admission,
    /// Disks that hold somebody's data.
    ForeignDisk,
    /// What netboot serves is changed.
    Tamper,
}

/// All cases.
pub const ALL: [Case; 6] = [
    Case {
        name: "journey",
        about: "a blank machine becomes a Ready Kubernetes worker over UEFI PXE, beside a foreign DHCP server",
        story: Story::Journey(NetworkBoot::Pxe),
    },
    Case {
        name: "http-boot",
        about: "the same over UEFI HTTP Boot, with PXE switched off in the firmware",
        story: Story::Journey(NetworkBoot::Http),
    },
    Case {
        name: "bios",
        about: "the same on SeaBIOS: iPXE in the network card's ROM, GRUB on the disk",
        story: Story::Journey(NetworkBoot::Bios),
    },
    Case {
        name: "admission",
        about: "another node's name, a second key and a forged registrar are refused, through the store's relay",
        story: Story::Admission,
    },
    Case {
        name: "foreign-disk",
        about: "disks with NTFS, ext4, LUKS, LVM, RAID, ZFS, Windows or another store's system are named and untouched",
        story: Story::ForeignDisk,
    },
    Case {
        name: "tamper",
        about: "flipped bytes in a chunk and in the timestamp stop the install, and nothing on the disk can start",
        story: Story::Tamper,
    },
];

/// Finds a case.
#[must_use]
pub fn find(name: &str) -> Option<Case> {
    ALL.into_iter().find(|case| case.name == name)
}

/// Runs a case inside the world.
///
/// # Errors
/// When the case fails.
pub async fn run(plan: &Plan, report: &Report, result: &Report) -> Result<()> {
    let case = find(&plan.case).with_context(|| format!("there is no case {}", plan.case))?;
    let mut plan = plan.clone();
    if case.story == Story::Tamper {
        tamper::own_repository(&mut plan)?;
    }
    let plan = &plan;
    let mut world = world::build(plan, report).await?;
    match case.story {
        Story::Journey(boot) => journey(plan, boot, &mut world, report, result).await,
        Story::Admission => admission::run(plan, &mut world, report).await,
        Story::ForeignDisk => foreign_disk::run(plan, &mut world, report).await,
        Story::Tamper => tamper::run(plan, &mut world, report).await,
    }
}

/// The journey, then every check of it. The report is written even when a check fails.
async fn journey(plan: &Plan, boot: NetworkBoot, world: &mut World, report: &Report, result: &Report) -> Result<()> {
    let outcome = inside::run(plan, boot, world, report).await?;
    let text = serde_json::to_string_pretty(&outcome.record).context("writing the report")?;
    std::fs::write(plan.run.join("report.json"), text + "\n").context("writing the report")?;
    result.line(table::journey(&outcome.record));
    result.line(outcome.node.line());

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
