//! A disk of this machine is made blank.

use super::{NOT_BOOTABLE, Target};
use crate::disk::layout::{IN_PROGRESS, Role};
use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};
use std::os::unix::fs::FileExt as _;
use uuid::Uuid;

/// The first bytes of each partition, where file systems, encryption and verity say that they are there.
const HEAD: u64 = 1 << 20;
/// How much is given back to the disk in one call: large enough to be quick, small enough to tell how far it is.
const PIECE: u64 = 4 << 30;

impl Target {
    /// Makes the disk blank. True when the disk has taken back all of its content and gives zeros for it; a disk that cannot
    /// do that loses the beginnings of everything, and both of its ends. `tell` hears which part of it is done, from 0.0 to 1.0.
    ///
    /// The table goes last, and says "half install" from the beginning on: whenever the power goes, the next start finds what is left.
    ///
    /// # Errors
    /// When the table cannot be read, or writing fails.
    pub fn retire(&mut self, tell: &dyn Fn(f64)) -> Result<bool> {
        let sector = u64::from(self.sector_bytes);
        let mut table = self.read()?;
        for (root, tree) in [(Role::RootA, Role::VerityA), (Role::RootB, Role::VerityB)] {
            table[root.number()].unique_partition_guid = *Uuid::new_v4().as_bytes();
            table[root.number()].partition_name = format!("{}{IN_PROGRESS}", root.name()).as_str().into();
            table[tree.number()].unique_partition_guid = *Uuid::new_v4().as_bytes();
        }
        self.write_boot_code(&NOT_BOOTABLE)?;
        self.write(&mut table)?;

        // The state first: without its beginning it is nobody's, and what is left is a half install like any other.
        let zeros = vec![0; HEAD as usize];
        for role in [Role::State].into_iter().chain(Role::ALL) {
            let entry = &table[role.number()];
            if entry.starting_lba == 0 {
                continue;
            }
            let length = ((entry.ending_lba + 1 - entry.starting_lba) * sector).min(HEAD) as usize;
            self.file.write_all_at(&zeros[..length], entry.starting_lba * sector).context("wiping a partition")?;
            self.file.sync_all().context("wiping a partition")?;
        }
        let taken_back = self.give_back(tell)?;
        self.forget_what_was_there()?;
        if self.is_device {
            // It finds no partitions any more.
            gptman::linux::reread_partition_table(&mut self.file).context("telling the kernel about the blank disk")?;
        }
        Ok(taken_back)
    }

    /// Everything between both ends. Punching a hole into a block device gives zeros afterwards, or is refused where the disk cannot
    /// promise that (Linux, block/fops.c, `blkdev_fallocate`).
    fn give_back(&mut self, tell: &dyn Fn(f64)) -> Result<bool> {
        let end = self.bytes.saturating_sub(HEAD) / HEAD * HEAD;
        let mut at = HEAD;
        while at < end {
            let length = PIECE.min(end - at);
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            match fallocate(&self.file, flags, at as i64, length as i64) {
                Ok(()) => {}
                Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) => return Ok(false),
                Err(error) => return Err(error).context("giving the content back to the disk"),
            }
            at += length;
            tell(at as f64 / end as f64);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::probe;
    use contracts::facts::DiskContent;
    use std::{fs::File, os::unix::fs::MetadataExt as _};

    #[test]
    fn nothing_is_left_of_an_install() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(64_000_000_000).unwrap();
        let mut target = Target::regular_file(&path).unwrap();
        target.write_in_progress().unwrap();
        target.complete_slot_a(&"0123456789abcdef".repeat(4)).unwrap();
        let mut places = vec![0, 100 << 20, 63_000_000_000];
        for role in Role::ALL {
            places.push(target.partition(role).unwrap().0 * 512 + 1080);
        }
        for place in &places[1..] {
            target.file.write_all_at(b"somebody's secret", *place).unwrap();
        }
        assert!(matches!(probe::content(&path), DiskContent::Installed { .. }));
        assert!(target.retire(&|_| ()).unwrap());
        assert_eq!(probe::content(&path), DiskContent::Blank);
        for place in places {
            let mut found = [1; 4096];
            target.file.read_exact_at(&mut found, place / 4096 * 4096).unwrap();
            assert_eq!(found, [0; 4096], "at {place}");
        }
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 64 << 20, "the content was given back");
    }
}
