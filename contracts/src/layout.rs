//! How a disk is divided: a pure function of its size. The agent divides disks by it, image-builder makes disk images by it.

use crate::bios;
use uuid::{Uuid, uuid};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The smallest disk that we use, in bytes (what is sold as 64 GB).
pub const SMALLEST_DISK: u64 = 64_000_000_000;

/// The least that the state partition may have, in bytes.
pub const SMALLEST_STATE: u64 = 16 * GIB;

/// Appended to the name of a root partition while its install is in progress, and to that of the state partition of a disk image
/// until the machine that starts from it has made its state.
pub const IN_PROGRESS: char = '!';

/// Bytes of a disk image: the slots, and the least state. The machine that starts from it takes the rest of its disk.
pub const DISK_IMAGE_BYTES: u64 = MIB + GIB + 2 * (8 * GIB + 256 * MIB) + SMALLEST_STATE + MIB;

/// The boot loader on the EFI system partition, where the firmware's entry points.
pub const LOADER_PATH: &str = "EFI/systemd/systemd-bootx64.efi";
/// The boot loader again, for firmware that forgets its entries. Never a boot image: that would not know that it is installed.
pub const FALLBACK_LOADER_PATH: &str = "EFI/BOOT/BOOTX64.EFI";
/// The boot loader's settings.
pub const LOADER_SETTINGS_PATH: &str = "loader/loader.conf";
/// What they say.
pub const LOADER_SETTINGS: &[u8] = b"timeout 0\neditor no\n";

/// Where a version's boot image lies on the EFI system partition.
#[must_use]
pub fn boot_image_path(image_version: &str) -> String {
    format!("EFI/Linux/shelfboot-{image_version}.efi")
}

/// What a partition is for; the numbers in the table are 1 to 7. The first six lie on the disk in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// EFI system partition.
    Esp,
    /// Root, slot A.
    RootA,
    /// Hash tree of slot A.
    VerityA,
    /// Root, slot B.
    RootB,
    /// Hash tree of slot B.
    VerityB,
    /// What survives a reinstall.
    State,
    /// GRUB's core image, for machines that start through BIOS. It has the highest number and lies in the first MiB,
    /// where nothing else is, so that the others are where they are on every machine.
    BiosBoot,
}

impl Role {
    /// All, in order.
    pub const ALL: [Self; 7] =
        [Self::Esp, Self::RootA, Self::VerityA, Self::RootB, Self::VerityB, Self::State, Self::BiosBoot];

    /// The partition's name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Esp => "shelfboot-esp",
            Self::RootA => "shelfboot-root-a",
            Self::VerityA => "shelfboot-verity-a",
            Self::RootB => "shelfboot-root-b",
            Self::VerityB => "shelfboot-verity-b",
            Self::State => "shelfboot-state",
            Self::BiosBoot => "shelfboot-bios",
        }
    }

    /// Number in the table, from 1.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32 + 1
    }

    /// Partition type (UAPI Discoverable Partitions Specification, x86-64).
    #[must_use]
    pub const fn type_guid(self) -> Uuid {
        match self {
            Self::Esp => uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
            Self::RootA | Self::RootB => uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            Self::VerityA | Self::VerityB => uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
            // Linux generic data: the specification's /var type would have to be derived from the machine id.
            Self::State => uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4"),
            // "BIOS boot partition": GRUB's own type.
            Self::BiosBoot => uuid!("21686148-6449-6e6f-744e-656564454649"),
        }
    }

    const fn bytes(self) -> Option<u64> {
        match self {
            Self::Esp => Some(GIB),
            Self::RootA | Self::RootB => Some(8 * GIB),
            Self::VerityA | Self::VerityB => Some(256 * MIB),
            Self::State | Self::BiosBoot => None,
        }
    }
}

/// One partition to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// What for.
    pub role: Role,
    /// First sector.
    pub first: u64,
    /// Last sector.
    pub last: u64,
}

/// Divides a disk for an install. Sizes in bytes; partitions begin at whole MiB.
///
/// Returns `None` when the disk is smaller than [`SMALLEST_DISK`] or its sectors are not 512 or 4096 bytes.
#[must_use]
pub fn divide(disk_bytes: u64, sector_bytes: u32) -> Option<Vec<Partition>> {
    if disk_bytes < SMALLEST_DISK { None } else { place(disk_bytes, sector_bytes) }
}

/// Where the partitions lie on a disk of any size that has room for them, as [`divide`] does for an install.
///
/// Returns `None` when the disk is smaller than [`DISK_IMAGE_BYTES`] or its sectors are not 512 or 4096 bytes.
#[must_use]
pub fn place(disk_bytes: u64, sector_bytes: u32) -> Option<Vec<Partition>> {
    if disk_bytes < DISK_IMAGE_BYTES || !matches!(sector_bytes, 512 | 4096) {
        return None;
    }
    let sector = u64::from(sector_bytes);
    // The backup table needs 33 sectors at most (512 bytes each); a whole MiB keeps the end aligned.
    let end = (disk_bytes / MIB - 1) * MIB;
    let mut at = MIB;
    let mut partitions = Vec::new();
    for role in Role::ALL.into_iter().filter(|role| *role != Role::BiosBoot) {
        let bytes = role.bytes().unwrap_or(end - at);
        partitions.push(Partition { role, first: at / sector, last: (at + bytes) / sector - 1 });
        at += bytes;
    }
    // The boot code counts in sectors of the disk, so this begins at a sector number and not at a size.
    partitions.push(Partition { role: Role::BiosBoot, first: bios::CORE_LBA, last: MIB / sector - 1 });
    Some(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn partitions_follow_each_other_aligned_within_the_disk(
            bytes in SMALLEST_DISK..(1u64 << 44), sector in prop_oneof![Just(512u32), Just(4096u32)]
        ) {
            let partitions = divide(bytes, sector).unwrap();
            prop_assert_eq!(partitions.len(), 7);
            let sector = u64::from(sector);
            let mut next = MIB / sector;
            for partition in &partitions[..6] {
                prop_assert_eq!(partition.first, next);
                prop_assert_eq!(partition.first * sector % MIB, 0);
                prop_assert!(partition.last > partition.first);
                next = partition.last + 1;
            }
            prop_assert!(next * sector + 33 * 512 <= bytes);
            let bios_boot = partitions[6];
            // Two sectors before the table, and 16 KiB of table at least (UEFI specification, section 5.3).
            prop_assert!(bios_boot.first >= 2 + 16384 / sector && bios_boot.last == partitions[0].first - 1);
            prop_assert!(sector != 512 || bios_boot.last + 1 - bios_boot.first == bios::CORE_SECTORS);
            let state = partitions[5];
            prop_assert!((state.last - state.first + 1) * sector >= SMALLEST_STATE);
        }
    }

    #[test]
    fn a_disk_image_has_the_least_state_and_the_slots_of_every_disk() {
        let (image, disk) = (place(DISK_IMAGE_BYTES, 512).unwrap(), divide(SMALLEST_DISK, 512).unwrap());
        assert_eq!(image[..5], disk[..5]);
        assert_eq!(image[6], disk[6]);
        assert_eq!(image[5].first, disk[5].first, "state only grows at its end");
        assert_eq!((image[5].last + 1 - image[5].first) * 512, SMALLEST_STATE);
        assert_eq!(place(DISK_IMAGE_BYTES - 1, 512), None);
        assert_eq!(divide(DISK_IMAGE_BYTES, 512), None);
    }

    #[test]
    fn small_disks_and_odd_sectors_are_not_divided() {
        assert_eq!(divide(SMALLEST_DISK - 1, 512), None);
        assert_eq!(divide(SMALLEST_DISK, 520), None);
    }
}
