//! Where the running system lies: its disk, its slot, the other one.

use crate::{
    disk::{
        layout::Role,
        table::{has_room_for_ours, partition_node},
    },
    facts,
};
use anyhow::{Context, Result, bail, ensure};
use contracts::manifest;
use gptman::GPT;
use nix::sys::stat::{major, minor};
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its partitions: root, and hash tree.
    #[must_use]
    pub const fn roles(self) -> (Role, Role) {
        match self {
            Self::A => (Role::RootA, Role::VerityA),
            Self::B => (Role::RootB, Role::VerityB),
        }
    }
}

/// The running system.
#[derive(Debug, Clone)]
pub struct Here {
    /// Its disk.
    pub disk: PathBuf,
    /// Its slot.
    pub slot: Slot,
    /// Its root hash.
    pub root_hash: String,
}

impl Here {
    /// Finds it: the disk under the verified root, and on it the slot that has the root hash of the kernel's command line.
    ///
    /// # Errors
    /// When this is no installed system.
    pub fn find() -> Result<Self> {
        let command_line = fs::read_to_string("/proc/cmdline").context("reading the kernel's command line")?;
        let root_hash = crate::boot::root_hash(&command_line).context("the kernel's command line names no root")?;
        // By its number: who made the node of the mapped device, and under which name, does not matter.
        let root = fs::metadata("/").context("looking at the root")?.dev();
        let mapped = PathBuf::from(format!("/sys/dev/block/{}:{}/slaves", major(root), minor(root)));
        let mut disks = Vec::new();
        for slave in fs::read_dir(&mapped).context("looking for the disk below the root")? {
            // .../block/vda/vda2: the disk is the folder around the partition.
            let partition = fs::canonicalize(slave?.path())?;
            let disk = partition.parent().and_then(Path::file_name).context("a root without a disk")?;
            disks.push(disk.to_string_lossy().into_owned());
        }
        disks.sort();
        disks.dedup();
        let [disk] = disks.as_slice() else { bail!("the root lies on {disks:?}, not on one disk") };
        let disk = Path::new("/dev").join(disk);
        let mut file = File::open(&disk).with_context(|| format!("opening {}", disk.display()))?;
        let table = GPT::find_from(&mut file).context("reading the partition table")?;
        ensure!(has_room_for_ours(&table), "the disk below the root has no table of ours");
        let (root, _) = manifest::guids_of(&root_hash).context("the root hash is not 64 hex digits")?;
        let has = |slot: &Slot| Uuid::from_bytes_le(table[slot.roles().0.number()].unique_partition_guid) == root;
        let slot = [Slot::A, Slot::B].into_iter().find(has).context("no slot of the disk has the running root")?;
        Ok(Self { disk, slot, root_hash })
    }

    /// The device of a partition of this disk.
    #[must_use]
    pub fn node(&self, role: Role) -> PathBuf {
        partition_node(&self.disk, role.number())
    }

    /// Bytes of the disk, and of its sectors.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn size(&self) -> Result<(u64, u32)> {
        let name = self.disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
        facts::disk_size(&name).context("the disk has no size")
    }
}
