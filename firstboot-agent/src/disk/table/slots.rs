//! The slot that does not run, on the disk of the running system. The kernel keeps its partitions: where they lie does not change,
//! only what they are called.

use super::Target;
use crate::{
    disk::layout::{IN_PROGRESS, Role},
    slots::here::Slot,
};
use anyhow::{Context, Result, bail, ensure};
use contracts::manifest;
use std::{
    fs::OpenOptions,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};
use uuid::Uuid;

impl Target {
    /// The disk that the running system is on. Nothing but the other slot's names may be written: see [`Target::begin_slot`].
    ///
    /// # Errors
    /// When it is not a block device, or cannot be opened.
    pub fn of_running_system(path: &Path, bytes: u64, sector_bytes: u32) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(nix::libc::O_CLOEXEC).open(path);
        let file = file.with_context(|| format!("opening {} for writing", path.display()))?;
        if !file.metadata()?.file_type().is_block_device() {
            bail!("{} is not a block device", path.display());
        }
        // The table is not read again by the kernel: it could not, as long as a partition is in use.
        Ok(Self { file, path: path.into(), bytes, sector_bytes, is_device: false })
    }

    /// Marks a slot as one that is being written: nothing finds it by a root hash any more.
    ///
    /// # Errors
    /// When the slot is the running one, or the table cannot be read back or written.
    pub fn begin_slot(&mut self, slot: Slot, running: &str) -> Result<()> {
        let (data, tree) = self.not_running(slot, running)?;
        let mut table = self.read()?;
        table[data.number()].unique_partition_guid = *Uuid::new_v4().as_bytes();
        table[data.number()].partition_name = format!("{}{IN_PROGRESS}", data.name()).as_str().into();
        table[tree.number()].unique_partition_guid = *Uuid::new_v4().as_bytes();
        self.write(&mut table)
    }

    /// Marks a slot as complete: its GUIDs become those of the root hash.
    ///
    /// # Errors
    /// As [`Target::begin_slot`].
    pub fn complete_slot(&mut self, slot: Slot, root_hash: &str, running: &str) -> Result<()> {
        let (root, verity) = manifest::guids_of(root_hash).context("the root hash is not 64 hex digits")?;
        let (data, tree) = self.not_running(slot, running)?;
        let mut table = self.read()?;
        table[data.number()].unique_partition_guid = root.to_bytes_le();
        table[data.number()].partition_name = data.name().into();
        table[tree.number()].unique_partition_guid = verity.to_bytes_le();
        self.write(&mut table)
    }

    fn not_running(&mut self, slot: Slot, running: &str) -> Result<(Role, Role)> {
        let (data, tree) = slot.roles();
        let (root, _) = manifest::guids_of(running).context("the root hash is not 64 hex digits")?;
        let (_, _, found) = self.partition(data)?;
        ensure!(found != root, "slot {slot:?} is the one that runs");
        Ok((data, tree))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::probe;
    use contracts::facts::DiskContent;
    use std::fs::File;

    #[test]
    fn the_other_slot_is_written_and_the_running_one_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(64_000_000_000).unwrap();
        let mut target = Target::regular_file(&path).unwrap();
        target.write_in_progress().unwrap();
        let (old, new) = ("aa".repeat(16) + &"a1".repeat(16), "bb".repeat(16) + &"b1".repeat(16));
        target.complete_slot_a(&old).unwrap();
        target.begin_slot(Slot::A, &old).unwrap_err();
        target.complete_slot(Slot::A, &new, &old).unwrap_err();
        target.begin_slot(Slot::B, &old).unwrap();
        let hashes = |path: &Path| match probe::content(path) {
            DiskContent::Installed { root_hashes, .. } => root_hashes,
            other => panic!("{other:?}"),
        };
        assert_eq!(hashes(&path), std::slice::from_ref(&old));
        target.complete_slot(Slot::B, &new, &old).unwrap();
        assert_eq!(hashes(&path), [old, new.clone()]);
        target.begin_slot(Slot::A, &new).unwrap();
        assert_eq!(hashes(&path), [new]);
    }
}
