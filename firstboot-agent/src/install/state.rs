//! The state partition: what survives a reinstall of the root.

use super::esp;
use crate::{
    boot::start_mark,
    durable,
    encryption::{luks, plan::Plan},
    slots,
};
use anyhow::{Context, Result};
use contracts::{event::Event, facts::Owner, install::InstallRecord, network::NetworkConfig};
use nix::mount::{MsFlags, mount, umount};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Makes an empty ext4 file system.
///
/// # Errors
/// With what mkfs.ext4 said.
pub fn make(node: &Path) -> Result<()> {
    esp::forget(node)?;
    // Inode tables are left to the kernel to fill in later: on a large disk that takes minutes otherwise.
    esp::run(
        "mkfs.ext4",
        &["-q", "-F", "-L", "shelfboot-state", "-E", "lazy_itable_init=1,nodiscard", &node.to_string_lossy()],
    )
}

/// Makes the state as planned; where it is kept, nothing happens. Returns the node to mount.
///
/// # Errors
/// With what the tools said.
pub fn make_as(plan: Plan, node: &Path) -> Result<PathBuf> {
    match plan {
        Plan::Keep => {}
        Plan::MakeClear => {
            luks::close()?;
            make(node)?;
        }
        Plan::MakeEncrypted => return luks::make(node, make),
    }
    Ok(node.to_owned())
}

/// Where the state of a partition can be mounted: an encrypted volume is opened for that.
///
/// # Errors
/// When the TPM does not open it.
pub fn opened(partition: &Path) -> Result<PathBuf> {
    if luks::is_luks(partition) { luks::open(partition) } else { Ok(partition.to_owned()) }
}

/// Writes what the installed system needs to begin.
///
/// # Errors
/// With the file that could not be written.
pub fn fill(node: &Path, registrar_ca: &[u8], record: &InstallRecord) -> Result<()> {
    let mounted = Mounted::new(node, "ext4")?;
    let ours = mounted.path().join("shelfboot");
    durable::write(&ours.join("registrar-ca.pem"), registrar_ca, 0o644)?;
    // A root that was just checked need not be checked again because of what happened to the one before.
    start_mark::end(&ours)?;
    // One version is on the disk now, and what was known of others is wrong.
    slots::keep::forget(&ours)?;
    durable::write(&ours.join(InstallRecord::FILE), &serde_json::to_vec_pretty(record)?, 0o644)?;
    mounted.unmount()
}

/// The network that a medium named, in the agent's folder.
pub const NETWORK: &str = "network.json";

/// Keeps what the medium said of the network, so that the installed system finds its store the same way.
///
/// # Errors
/// With the file that could not be written.
pub fn keep_network(node: &Path, network: &NetworkConfig) -> Result<()> {
    let mounted = Mounted::new(node, "ext4")?;
    let path = mounted.path().join("shelfboot").join(NETWORK);
    durable::write(&path, &serde_json::to_vec_pretty(network)?, 0o644)?;
    mounted.unmount()
}

/// The outcomes that netboot has not got yet: the installed system sends them when it can.
pub const UNSENT_EVENTS: &str = "unsent-events.json";

/// Keeps them beside the install record.
///
/// # Errors
/// With the file that could not be written.
pub fn keep_events(node: &Path, events: &[Event]) -> Result<()> {
    let mounted = Mounted::new(node, "ext4")?;
    let path = mounted.path().join("shelfboot").join(UNSENT_EVENTS);
    durable::write(&path, &serde_json::to_vec(events)?, 0o644)?;
    mounted.unmount()
}

/// Whose install the state partition belongs to. Nothing is written, not even what its journal still holds: the disk
/// may be somebody else's.
#[must_use]
pub fn owner(node: &Path) -> Option<Owner> {
    if luks::is_luks(node) {
        return luks::header(node).ok().filter(|header| header.finished)?.owner;
    }
    let mounted = Mounted::untouched(node, "ext4").ok()?;
    let record = fs::read(mounted.path().join("shelfboot").join(InstallRecord::FILE)).ok()?;
    serde_json::from_slice::<InstallRecord>(&record).ok()?.owner
}

/// What a half install's state partition holds, once its journal is replayed. The disk is the one to be installed, so that may
/// be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing that was ever used.
    Nothing,
    /// State of this owner.
    Of(Owner),
    /// Something was there, and cannot be read or says of nobody.
    Unreadable,
    /// An encrypted volume that this machine's TPM does not open, and why; the header names this owner.
    Locked(Option<Owner>, String),
}

/// What [`look`] saw.
#[derive(Debug)]
pub struct Look {
    /// What is there.
    pub found: Found,
    /// Where it can be mounted: an encrypted volume is open now.
    pub node: PathBuf,
    /// It is encrypted.
    pub encrypted: bool,
}

/// Looks before the partition is made anew: an interrupted reinstall may have left a journal, and what a look without it
/// took for nothing may be a machine's identity and data.
#[must_use]
pub fn look(node: &Path) -> Look {
    if !luks::is_luks(node) {
        return Look { found: look_at(node), node: node.to_owned(), encrypted: false };
    }
    let (found, node) = match luks::header(node) {
        Err(_) => (Found::Unreadable, node.to_owned()),
        Ok(header) if !header.finished => (Found::Nothing, node.to_owned()),
        Ok(header) => match luks::open(node) {
            Ok(opened) => (look_at(&opened), opened),
            Err(error) => (Found::Locked(header.owner, format!("{error:#}")), node.to_owned()),
        },
    };
    Look { found, node, encrypted: true }
}

fn look_at(node: &Path) -> Found {
    match Mounted::new(node, "ext4") {
        Ok(mounted) => {
            let ours = mounted.path().join("shelfboot");
            let record = fs::read(ours.join(InstallRecord::FILE)).ok();
            let record = record.and_then(|bytes| serde_json::from_slice::<InstallRecord>(&bytes).ok());
            match record.and_then(|record| record.owner) {
                Some(owner) => Found::Of(owner),
                None if ours.join("machine.key").exists() || mounted.path().join("persist").exists() => {
                    Found::Unreadable
                }
                None => Found::Nothing,
            }
        }
        Err(_) if is_labelled(node) => Found::Unreadable,
        Err(_) => Found::Nothing,
    }
}

/// libblkid finds our file system, although it cannot be mounted.
fn is_labelled(node: &Path) -> bool {
    let mut command = std::process::Command::new("blkid");
    command.args(["--probe", "--match-tag", "LABEL", "--output", "value"]).arg(node);
    let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"shelfboot-state")
}

/// A file system mounted for a moment.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `node` in a folder of its own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(node: &Path, kind: &str) -> Result<Self> {
        Self::mount(node, kind, MsFlags::empty(), None)
    }

    /// Mounts `node` so that nothing on it changes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn read_only(node: &Path, kind: &str) -> Result<Self> {
        Self::mount(node, kind, MsFlags::MS_RDONLY, None)
    }

    /// Mounts an ext file system without writing to its device: read-only alone would still replay the journal
    /// (ext4(5), "noload").
    fn untouched(node: &Path, kind: &str) -> Result<Self> {
        Self::mount(node, kind, MsFlags::MS_RDONLY, Some("noload"))
    }

    fn mount(node: &Path, kind: &str, more: MsFlags, options: Option<&str>) -> Result<Self> {
        let name = node.file_name().unwrap_or_default();
        let at = Path::new("/run/shelfboot/mnt").join(name);
        fs::create_dir_all(&at)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | more;
        mount(Some(node), &at, Some(kind), flags, options).with_context(|| format!("mounting {}", node.display()))?;
        Ok(Self(at))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes it away; everything is on the disk then.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unmount(self) -> Result<()> {
        let at = self.0.clone();
        std::mem::forget(self);
        umount(&at).with_context(|| format!("unmounting {}", at.display()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount(&self.0);
    }
}
