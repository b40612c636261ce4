//! What the initrd of an installed system does about slots: it looks at which version was started, keeps what that means, and
//! gives back the try that a pulled plug has cost. On a machine that was never updated it does nothing.

use super::{
    bootfiles::BootFiles,
    keep,
    model::{Began, Seen, Slots},
    settings::Settings,
    watch,
};
use crate::{console, efi, install::state::Mounted};
use anyhow::{Result, bail};
use std::{fs, path::Path};

/// A start of the installed system.
#[derive(Debug)]
pub struct Start {
    slots: Option<Slots>,
    trial: bool,
}

/// Looks at the start. `folder` is the agent's folder on the state partition, `esp` the device of the EFI system partition.
///
/// # Errors
/// For a version that is not to be started any more. The boot files are put right then, where that can be done, so that a restart
/// helps.
pub fn begin(folder: &Path, esp: &Path, root_hash: &str) -> Result<Start> {
    let evidence = watch::evidence();
    let slots = match keep::read(folder) {
        Ok(Some(slots)) => slots,
        Ok(None) => return Ok(Start { slots: None, trial: false }),
        Err(error) => {
            // What is damaged says nothing about this start, and the system may be able to repair it.
            console::line(&format!("what is known of the slots is lost: {error:#}"));
            return Ok(Start { slots: None, trial: false });
        }
    };
    let mounted = match &slots.trial {
        Some(_) => Some(Mounted::new(esp, "vfat")?),
        None => None,
    };
    let files = mounted.as_ref().map(|mounted| BootFiles::new(mounted.path(), efi::present()));
    let counter = match (&files, &slots.trial) {
        (Some(files), Some(trial)) => files.counter(&trial.to.root_hash)?,
        _ => None,
    };
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let (next, began) = slots.begin(&Seen { root_hash, boot_id: boot_id.trim(), counter, evidence });
    console::line(&said(&next, &began));
    // The count last: a power cut in between gives a try back that is given back again, within the bound.
    if next != slots {
        keep::write(folder, &next)?;
    }
    if let (Began::Trial(wanted) | Began::GoodBeforeTrial(wanted), Some(files), Some(trial)) =
        (&began, &files, &next.trial)
        && counter != Some(*wanted)
    {
        files.set_counter(&trial.to.root_hash, *wanted)?;
    }
    drop(files);
    if let Some(mounted) = mounted {
        mounted.unmount()?;
    }
    if began == Began::Stale {
        put_right(&next, esp)?;
    }
    let trial = matches!(began, Began::Trial(_)) || matches!(began, Began::TrialForGood);
    Ok(Start { slots: Some(next), trial })
}

/// The boot files are to lead to the version that counts.
fn put_right(slots: &Slots, esp: &Path) -> Result<()> {
    let counts = slots.counts();
    let mounted = Mounted::new(esp, "vfat")?;
    let settled = BootFiles::new(mounted.path(), efi::present()).settle(&counts.root_hash);
    mounted.unmount()?;
    let version = &counts.image_version;
    match settled {
        Ok(()) => bail!("the boot loader started an old version instead of {version}; that is put right"),
        Err(error) => bail!(
            "the boot loader started an old version, because {version} cannot be started ({error:#}); the old one is not run \
             on newer data. Let IT re-open this machine's entry, so that it is installed again"
        ),
    }
}

fn said(slots: &Slots, began: &Began) -> String {
    let trial = slots.trial.as_ref().map_or("?", |trial| trial.to.image_version.as_str());
    match began {
        Began::Good => format!("version {}", slots.good.image_version),
        Began::GoodBeforeTrial(counter) => {
            format!(
                "version {}; {trial} is to be tried, and has {} starts left",
                slots.good.image_version, counter.left
            )
        }
        Began::FellBack => match &slots.failed {
            Some(failed) => format!(
                "back at version {}: {} lost, because {}",
                slots.good.image_version, failed.version.image_version, failed.reason.words
            ),
            None => format!("back at version {}", slots.good.image_version),
        },
        Began::Trial(counter) => format!("version {trial} on trial; {} more starts are left", counter.left),
        Began::TrialForGood => format!("version {trial} on trial, without a way back"),
        Began::Stale => "an old version was started".to_owned(),
    }
}

impl Start {
    /// The last thing before systemd: watchdogs for this start, and where the step is unsafe the way back is taken away.
    ///
    /// # Errors
    /// When the way back cannot be taken away: then the services must not start.
    pub fn hand_over(&self, folder: &Path, esp: &Path) -> Result<()> {
        let Some(slots) = self.slots.as_ref().filter(|_| self.trial) else {
            return watch::write_units(Path::new("/run"), None);
        };
        let next = slots.services_start();
        let one_way = next.trial.as_ref().is_some_and(|trial| trial.one_way);
        if one_way {
            if &next != slots {
                keep::write(folder, &next)?;
            }
            // The boot files follow what is kept; a power cut in between is put right at the next start.
            let mounted = Mounted::new(esp, "vfat")?;
            BootFiles::new(mounted.path(), efi::present()).settle(&next.counts().root_hash)?;
            mounted.unmount()?;
        }
        watch::write_units(Path::new("/run"), (!one_way).then(|| Settings::here().deadline))
    }
}
