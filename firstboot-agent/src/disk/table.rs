//! The one place that writes a partition table. [`Target`] can be made for a block device that the plan chose, or
//! in tests for a regular file, and for nothing else.

use crate::disk::layout::{IN_PROGRESS, Partition, Role, divide, place};
use anyhow::{Context, Result, bail};
use contracts::{bios, manifest};
use gptman::{GPT, GPTPartitionEntry};
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, FileTypeExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use uuid::Uuid;

mod retire;
mod slots;

/// Boot code of a disk that cannot be started yet: "no boot device here" (INT 18h), then stop. A BIOS takes a
/// protective MBR for a bootable one, and would run zeros; told so, it goes on to the network.
pub const NOT_BOOTABLE: [u8; 5] = [0xcd, 0x18, 0xf4, 0xeb, 0xfd];

/// A disk that may be written to.
#[derive(Debug)]
pub struct Target {
    file: File,
    path: PathBuf,
    bytes: u64,
    sector_bytes: u32,
    is_device: bool,
}

impl Target {
    /// The disk that the plan chose.
    ///
    /// # Errors
    /// When it is not a block device, or somebody else uses it.
    pub fn device(path: &Path, bytes: u64, sector_bytes: u32) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let open = |flags| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(flags | nix::libc::O_CLOEXEC);
            options.open(path).with_context(|| format!("opening {} for writing", path.display()))
        };
        // O_EXCL on a block device fails while it, or a partition of it, is mounted or held by device mapper. Held
        // on to, it would keep mkfs and mount from the partitions in the same way: so it only asks.
        drop(open(nix::libc::O_EXCL)?);
        let file = open(0)?;
        if !file.metadata()?.file_type().is_block_device() {
            bail!("{} is not a block device", path.display());
        }
        Ok(Self { file, path: path.into(), bytes, sector_bytes, is_device: true })
    }

    /// A regular file instead of a disk, for tests.
    ///
    /// # Errors
    /// When it is not a regular file.
    #[cfg(test)]
    fn regular_file(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            bail!("{} is not a regular file", path.display());
        }
        Ok(Self { file, path: path.into(), bytes: metadata.len(), sector_bytes: 512, is_device: false })
    }

    /// Overwrites both ends, where partition tables, file systems, RAID and volume managers say that they are there: what is
    /// installed next must not be taken for them by the next look.
    ///
    /// # Errors
    /// When writing fails.
    pub fn forget_what_was_there(&mut self) -> Result<()> {
        const END: u64 = 16 << 20;
        let zeros = vec![0; 1 << 20];
        for start in [0, self.bytes.saturating_sub(END)] {
            for at in (start..start + END.min(self.bytes - start)).step_by(zeros.len()) {
                let length = (self.bytes - at).min(zeros.len() as u64) as usize;
                self.file.write_all_at(&zeros[..length], at).context("overwriting what was on the disk")?;
            }
        }
        self.file.sync_all().context("overwriting what was on the disk")
    }

    /// Writes our table, with both root slots marked as in progress.
    ///
    /// # Errors
    /// When the disk is too small, or writing fails.
    pub fn write_in_progress(&mut self) -> Result<()> {
        let partitions = divide(self.bytes, self.sector_bytes).context("the disk is too small")?;
        let mut table = GPT::new_from(&mut self.file, u64::from(self.sector_bytes), *Uuid::new_v4().as_bytes())
            .context("making the partition table")?;
        for Partition { role, first, last } in partitions {
            let mark =
                if matches!(role, Role::RootA | Role::RootB) { String::from(IN_PROGRESS) } else { String::new() };
            table[role.number()] = GPTPartitionEntry {
                partition_type_guid: role.type_guid().to_bytes_le(),
                unique_partition_guid: *Uuid::new_v4().as_bytes(),
                starting_lba: first,
                ending_lba: last,
                attribute_bits: 0,
                partition_name: format!("{}{mark}", role.name()).as_str().into(),
            };
        }
        GPT::write_protective_mbr_into(&mut self.file, u64::from(self.sector_bytes))
            .context("writing the protective MBR")?;
        self.write_boot_code(&NOT_BOOTABLE)?;
        self.write(&mut table)
    }

    /// Marks slot A complete: its GUIDs become those of the root hash, and the mark goes.
    ///
    /// # Errors
    /// When the table cannot be read back or written.
    pub fn complete_slot_a(&mut self, root_hash: &str) -> Result<()> {
        let (root, verity) = manifest::guids_of(root_hash).context("the root hash is not 64 hex digits")?;
        let mut table = self.read()?;
        table[Role::RootA.number()].unique_partition_guid = root.to_bytes_le();
        table[Role::RootA.number()].partition_name = Role::RootA.name().into();
        table[Role::VerityA.number()].unique_partition_guid = verity.to_bytes_le();
        self.write(&mut table)
    }

    /// Makes the disk, onto which a disk image was written, one of its own: the state reaches to its end, and the GUIDs that tell
    /// disks apart are new. The mark on the state stays; what is in the slots is not touched.
    ///
    /// # Errors
    /// When the disk is smaller than the image, or the table cannot be read back or written.
    pub fn take_whole_disk(&mut self) -> Result<()> {
        let partitions = place(self.bytes, self.sector_bytes).context("the disk is smaller than its image")?;
        let state =
            partitions.iter().find(|partition| partition.role == Role::State).context("no place for the state")?;
        let mut table = self.read()?;
        let found = &mut table[Role::State.number()];
        if found.starting_lba != state.first || !found.partition_name.as_str().ends_with(IN_PROGRESS) {
            bail!("the state on this disk is not one that is still to be made");
        }
        found.ending_lba = state.last;
        for role in [Role::Esp, Role::RootB, Role::VerityB, Role::State, Role::BiosBoot] {
            table[role.number()].unique_partition_guid = *Uuid::new_v4().as_bytes();
        }
        table.header.disk_guid = *Uuid::new_v4().as_bytes();
        let sector = u64::from(self.sector_bytes);
        table.header.update_from(&mut self.file, sector).context("measuring the disk")?;
        self.write(&mut table)?;
        // The length in it is that of the image; the boot code before it stays.
        GPT::write_protective_mbr_into(&mut self.file, sector).context("writing the protective MBR")
    }

    /// Takes the mark off the state: it is made.
    ///
    /// # Errors
    /// When the table cannot be read back or written.
    pub fn complete_state(&mut self) -> Result<()> {
        let mut table = self.read()?;
        table[Role::State.number()].partition_name = Role::State.name().into();
        self.write(&mut table)
    }

    /// Writes GRUB's core image, which nothing starts before [`Self::write_boot_sector`].
    ///
    /// # Errors
    /// When the core image does not fit its partition, or writing fails.
    pub fn write_bios_core(&mut self, core: &[u8]) -> Result<()> {
        let (first, sectors, _) = self.partition(Role::BiosBoot)?;
        let room = sectors * u64::from(self.sector_bytes);
        if first != bios::CORE_LBA || core.len() as u64 > room {
            bail!("GRUB's core image ({} bytes) does not fit the {room} bytes at sector {first}", core.len());
        }
        self.file.write_all_at(core, first * u64::from(self.sector_bytes)).context("writing GRUB's core image")?;
        self.file.sync_all().context("syncing GRUB's core image")
    }

    /// Makes the disk one that a BIOS starts: the boot code, when everything else is on the disk.
    ///
    /// # Errors
    /// When it is too short, or writing fails.
    pub fn write_boot_sector(&mut self, boot_sector: &[u8]) -> Result<()> {
        self.write_boot_code(boot_sector.get(..bios::BOOT_CODE_BYTES).context("the boot sector is too short")?)
    }

    /// Writes the first bytes of the disk, up to the disk's signature and the protective partition table.
    fn write_boot_code(&mut self, code: &[u8]) -> Result<()> {
        let mut whole = [0; bios::BOOT_CODE_BYTES];
        whole[..code.len()].copy_from_slice(code);
        self.file.write_all_at(&whole, 0).context("writing the boot code")?;
        self.file.sync_all().context("syncing the boot code")
    }

    /// Whether a partition lies where [`Self::write_in_progress`] would put it. False when there is no table of ours.
    pub fn is_in_its_place(&mut self, role: Role) -> bool {
        let wanted = divide(self.bytes, self.sector_bytes).unwrap_or_default();
        let found = self.read().ok().map(|table| (table[role.number()].starting_lba, table[role.number()].ending_lba));
        wanted.iter().any(|partition| partition.role == role && Some((partition.first, partition.last)) == found)
    }

    /// First sector, number of sectors and GUID of a partition.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn partition(&mut self, role: Role) -> Result<(u64, u64, Uuid)> {
        let table = self.read()?;
        let entry = &table[role.number()];
        let sectors = entry.ending_lba + 1 - entry.starting_lba;
        Ok((entry.starting_lba, sectors, Uuid::from_bytes_le(entry.unique_partition_guid)))
    }

    /// The partition's device node. The kernel makes it; we wait for that.
    ///
    /// # Errors
    /// When it does not appear within ten seconds.
    pub fn node(&self, role: Role) -> Result<PathBuf> {
        let node = partition_node(&self.path, role.number());
        let end = Instant::now() + Duration::from_secs(10);
        while !node.exists() {
            if Instant::now() > end {
                bail!("the kernel made no device {}", node.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(node)
    }

    fn read(&mut self) -> Result<GPT> {
        GPT::read_from(&mut self.file, u64::from(self.sector_bytes)).context("reading the partition table")
    }

    /// Writes the copy at the disk's end, and when that is on the disk for good the table at its beginning: whenever the power goes, one
    /// of them is whole, and it says what was before or what is to be.
    fn write(&mut self, table: &mut GPT) -> Result<()> {
        let entries: Vec<GPTPartitionEntry> = table.iter().map(|(_, entry)| entry.clone()).collect();
        let sector = u64::from(self.sector_bytes);
        let mut copy = table.header.clone();
        (copy.primary_lba, copy.backup_lba) = (table.header.backup_lba, table.header.primary_lba);
        copy.partition_entry_lba = table.header.last_usable_lba + 1;
        for header in [&mut copy, &mut table.header] {
            header.write_into(&mut self.file, sector, &entries).context("writing the partition table")?;
            self.file.sync_all().context("syncing the partition table")?;
        }
        if self.is_device {
            gptman::linux::reread_partition_table(&mut self.file)
                .context("telling the kernel about the new partitions")?;
        }
        Ok(())
    }
}

/// False for tables with fewer entries than ours has: those would be looked for in vain, and not gently.
#[must_use]
pub fn has_room_for_ours(table: &GPT) -> bool {
    table.iter().count() >= Role::ALL.len()
}

/// `/dev/vda` and 2 make `/dev/vda2`; `/dev/nvme0n1` and 2 make `/dev/nvme0n1p2`.
#[must_use]
pub fn partition_node(disk: &Path, number: u32) -> PathBuf {
    let name = disk.to_string_lossy();
    let between = if name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    PathBuf::from(format!("{name}{between}{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::probe;
    use contracts::facts::DiskContent;

    fn sparse_disk(folder: &Path) -> PathBuf {
        let path = folder.join("disk");
        File::create(&path).unwrap().set_len(64_000_000_000).unwrap();
        path
    }

    #[test]
    fn an_install_is_half_until_its_slot_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = sparse_disk(folder.path());
        let mut target = Target::regular_file(&path).unwrap();
        target.write_in_progress().unwrap();
        assert_eq!(probe::content(&path), DiskContent::HalfInstall { owner: None });
        assert!(target.is_in_its_place(Role::State));
        let hash = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";
        target.complete_slot_a(hash).unwrap();
        assert_eq!(probe::content(&path), DiskContent::Installed { root_hashes: vec![hash.into()], owner: None });
        let (first, sectors, _) = target.partition(Role::Esp).unwrap();
        assert_eq!((first, sectors), (2048, 2_097_152));
    }

    #[test]
    fn a_first_table_that_was_cut_off_is_begun_anew_and_nothing_else_passes_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = sparse_disk(folder.path());
        let mut target = Target::regular_file(&path).unwrap();
        target.write_in_progress().unwrap();
        let (state, ..) = target.partition(Role::State).unwrap();
        let zeros = [0; 33 * 512];
        for at in [512, target.bytes - 33 * 512] {
            target.file.write_all_at(&zeros, at).unwrap();
        }
        assert_eq!(probe::content(&path), DiskContent::HalfInstall { owner: None });
        // A header without its entries.
        target.file.write_all_at(b"EFI PART", 512).unwrap();
        assert_eq!(probe::content(&path), DiskContent::HalfInstall { owner: None });
        // State that was ever there is not lost because both tables are.
        target.file.write_all_at(&[0x53, 0xef], state * 512 + 1080).unwrap();
        assert!(matches!(probe::content(&path), DiskContent::Foreign { .. }));
        target.file.write_all_at(&[0, 0], state * 512 + 1080).unwrap();
        // Somebody else's boot code.
        target.file.write_all_at(&[0xfa], 100).unwrap();
        assert!(matches!(probe::content(&path), DiskContent::Foreign { .. }));
    }

    /// Sectors of the table at the beginning and of the one at the end, as they are now.
    fn tables(path: &Path) -> [Vec<[u8; 512]>; 2] {
        let file = File::open(path).unwrap();
        let last = file.metadata().unwrap().len() / 512 - 1;
        let read = |sectors: std::ops::Range<u64>| {
            let one = |number: u64| {
                let mut bytes = [0; 512];
                file.read_exact_at(&mut bytes, number * 512).unwrap();
                bytes
            };
            sectors.map(one).collect()
        };
        [read(1..34), read(last - 32..last + 1)]
    }

    /// Puts for each sector of one of the tables the old or the new one, by the bits of `choice`.
    fn tear(path: &Path, which: usize, [old, new]: [&[[u8; 512]]; 2], choice: u64) {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let last = file.metadata().unwrap().len() / 512 - 1;
        let begin = [1, last - 32][which];
        for number in 0..33 {
            let content = if choice >> number & 1 == 1 { &new[number] } else { &old[number] };
            file.write_all_at(content, (begin + number as u64) * 512).unwrap();
        }
    }

    #[test]
    fn a_power_cut_while_a_table_is_written_leaves_a_disk_that_the_next_try_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = sparse_disk(folder.path());
        let blank = tables(&path);
        let mut target = Target::regular_file(&path).unwrap();
        target.write_in_progress().unwrap();
        let first = tables(&path);
        target.complete_slot_a(&"ab".repeat(32)).unwrap();
        let second = tables(&path);
        // All, none, only the header, all but the header, and some of them.
        let mut choices = vec![0, u64::MAX, 1, !1, 1 << 32, !(1 << 32), 2, 6, 0xf0f0, !2];
        choices.extend((1..20u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        for (before, after, installed) in [(&blank, &first, false), (&first, &second, true)] {
            for choice in &choices {
                // The copy comes first.
                tear(&path, 0, [&before[0], &after[0]], 0);
                tear(&path, 1, [&before[1], &after[1]], *choice);
                let found = probe::content(&path);
                assert!(matches!(found, DiskContent::HalfInstall { .. }), "{installed} copy {choice:x}: {found:?}");
                // When it is there for good, the table.
                tear(&path, 1, [&before[1], &after[1]], u64::MAX);
                tear(&path, 0, [&before[0], &after[0]], *choice);
                let found = probe::content(&path);
                let fits = match found {
                    DiskContent::HalfInstall { .. } => true,
                    DiskContent::Installed { .. } => installed,
                    _ => false,
                };
                assert!(fits, "{installed} table {choice:x}: {found:?}");
            }
        }
    }

    #[test]
    fn boot_code_keeps_the_table_and_comes_with_the_core_image_where_it_looks_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = sparse_disk(folder.path());
        let mut target = Target::regular_file(&path).unwrap();
        target.write_in_progress().unwrap();
        let sector = |number: u64| {
            let mut bytes = [0; 512];
            File::open(&path).unwrap().read_exact_at(&mut bytes, number * 512).unwrap();
            bytes
        };
        let before = sector(0);
        assert_eq!(before[..2], [0xcd, 0x18], "a half install sends the BIOS on to the network");
        assert_eq!(before[510..], [0x55, 0xaa]);
        assert_eq!(before[450], 0xee, "a protective partition");

        let core: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        target.write_bios_core(&core).unwrap();
        assert_eq!(sector(0), before, "nothing starts yet");
        target.write_boot_sector(&[7; 512]).unwrap();
        let after = sector(0);
        assert_eq!((&after[..440], &after[440..]), (&[7; 440][..], &before[440..]));
        assert_eq!(sector(40)[..], core[..512]);
        assert_eq!(probe::content(&path), DiskContent::HalfInstall { owner: None });
        assert!(target.write_bios_core(&vec![0; 1 << 20]).is_err(), "it would reach into the next partition");
    }

    #[test]
    fn an_image_on_a_larger_disk_takes_all_of_it_and_keeps_its_slot() {
        use contracts::layout::DISK_IMAGE_BYTES;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(DISK_IMAGE_BYTES).unwrap();
        // As image-builder leaves it.
        let mut target = Target::regular_file(&path).unwrap();
        let mut table = GPT::new_from(&mut target.file, 512, [7; 16]).unwrap();
        for Partition { role, first, last } in place(DISK_IMAGE_BYTES, 512).unwrap() {
            let mark = if matches!(role, Role::RootB | Role::State) { "!" } else { "" };
            table[role.number()] = GPTPartitionEntry {
                partition_type_guid: role.type_guid().to_bytes_le(),
                unique_partition_guid: [u8::try_from(role.number()).unwrap(); 16],
                starting_lba: first,
                ending_lba: last,
                attribute_bits: 0,
                partition_name: format!("{}{mark}", role.name()).as_str().into(),
            };
        }
        target.write(&mut table).unwrap();
        assert!(matches!(probe::content(&path), DiskContent::Installed { .. }));

        File::options().write(true).open(&path).unwrap().set_len(64_000_000_000).unwrap();
        let mut target = Target::regular_file(&path).unwrap();
        for _ in 0..2 {
            // Again, as after a power cut.
            target.take_whole_disk().unwrap();
        }
        assert!(target.is_in_its_place(Role::State), "the state reaches to the end, as after an install");
        assert_eq!(target.partition(Role::RootA).unwrap().2, Uuid::from_bytes_le([2; 16]));
        assert_ne!(target.partition(Role::Esp).unwrap().2, Uuid::from_bytes_le([1; 16]));
        // The backup at the new end is whole.
        let mut broken = File::options().read(true).write(true).open(&path).unwrap();
        broken.write_all_at(&[0; 512], 512).unwrap();
        assert_eq!(GPT::read_from(&mut broken, 512).unwrap()[6].partition_name.as_str(), "shelfboot-state!");
        target.complete_state().unwrap();
        assert_eq!(target.read().unwrap()[6].partition_name.as_str(), "shelfboot-state");
        assert!(target.take_whole_disk().is_err(), "a state that was made is never made anew");
    }

    #[test]
    fn nodes_of_disks_that_end_in_a_digit_have_a_p() {
        assert_eq!(partition_node(Path::new("/dev/vda"), 2), Path::new("/dev/vda2"));
        assert_eq!(partition_node(Path::new("/dev/nvme0n1"), 2), Path::new("/dev/nvme0n1p2"));
    }
}
