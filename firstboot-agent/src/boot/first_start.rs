//! The first start from a disk that was written as an image: it has its slot, but no state, and it is as large as the image was.
//! The mark on the state partition says so, and goes last: a power cut on the way means that it is all done again.

use crate::{
    console,
    disk::{layout::Role, table::Target},
    efi,
    encryption::{
        luks,
        plan::{self, Existing},
    },
    facts,
    install::{
        esp,
        state::{self, Mounted},
    },
};
use anyhow::{Context, Result};
use contracts::install::{FIRST_START_CA, FIRST_START_RECORD, InstallRecord};
use std::{fs::File, io::Read, path::Path};

/// What lies on the ESP for this is smaller.
const FILE_LIMIT: u64 = 1 << 20;

/// Makes the disk this machine's own: the table reaches to the disk's end, the state is there and empty but for the record of the
/// install.
///
/// # Errors
/// With what did not work. Nothing is lost: there was no state.
pub(super) fn make_state(disk: &str) -> Result<()> {
    console::line("first start from a disk image: making the state on all that the disk has left");
    let (bytes, sector_bytes) = facts::disk_size(disk).context("the disk has no size")?;
    let mut target = Target::device(&Path::new("/dev").join(disk), bytes, sector_bytes)?;
    let (record, ca) = read_record(&target.node(Role::Esp)?)?;
    let plan = plan::decide(record.state, facts::gather(false).tpm.as_ref(), Existing::Nothing)?;
    target.take_whole_disk()?;
    let node = target.node(Role::State)?;
    let node = state::make_as(plan, &node)?;
    state::fill(&node, &ca, &record)?;
    // The kernel takes no new table while somebody uses a partition; the start opens it again.
    luks::close()?;
    target.complete_state()?;
    // Firmware starts this disk without an entry too, as it just did: by the fallback path.
    if efi::present()
        && let Err(error) = esp::boot_next(&mut target)
    {
        console::line(&format!("the firmware took no boot entry: {error:#}"));
    }
    Ok(())
}

fn read_record(esp: &Path) -> Result<(InstallRecord, Vec<u8>)> {
    let mounted = Mounted::read_only(esp, "vfat")?;
    let read = |name: &str| -> Result<Vec<u8>> {
        let path = mounted.path().join(name);
        let mut bytes = Vec::new();
        let file = File::open(&path).with_context(|| format!("opening {name} of the disk image"))?;
        file.take(FILE_LIMIT).read_to_end(&mut bytes).with_context(|| format!("reading {name} of the disk image"))?;
        Ok(bytes)
    };
    let record = serde_json::from_slice(&read(FIRST_START_RECORD)?).context("reading the disk image's record")?;
    let ca = read(FIRST_START_CA)?;
    mounted.unmount()?;
    Ok((record, ca))
}
