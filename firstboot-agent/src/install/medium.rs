//! A CD or USB stick that this machine may have been started from. What it says is checked like anything else: it can name
//! netboot, or be the place of a repository.

use super::{source::Source, state::Mounted};
use crate::{boot::modules, console, efi, facts};
use contracts::medium::{self, Medium};
use std::{
    fs::File,
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

/// A stick needs a few seconds after its bus was found.
const PATIENCE: Duration = Duration::from_secs(20);
/// Its document is shorter than this.
const DOCUMENT_LIMIT: u64 = 64 << 10;

/// How this boot image was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The verity root hash on its command line.
    pub root_hash: Option<String>,
    /// It was started from a medium, as far as firmware or GRUB say.
    pub from_medium: bool,
}

impl Origin {
    /// Reads it from the kernel's command line, and on UEFI from the firmware's variables.
    #[must_use]
    pub fn new(root_hash: Option<String>, command_line: &str) -> Self {
        let from_medium = match efi::loader_path() {
            Some(path) => path.eq_ignore_ascii_case(medium::EFI_PATH),
            None => !efi::present() && command_line.split_whitespace().any(|word| word == medium::WORD),
        };
        Self { root_hash, from_medium }
    }
}

/// A medium in this machine. Mounted as long as this lives.
#[derive(Debug)]
pub struct Found {
    /// What it says.
    pub medium: Medium,
    mounted: Mounted,
}

impl Found {
    /// The repository on it.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::Folder(self.mounted.path().join(medium::REPOSITORY))
    }
}

/// Looks for the medium that belongs to this boot image. `patiently`: it must be there, and may only need a moment.
pub async fn find(origin: &Origin, patiently: bool) -> Option<Found> {
    let end = Instant::now() + if patiently { PATIENCE } else { Duration::ZERO };
    loop {
        let found = facts::removable_names().iter().find_map(|name| look(name, origin));
        if found.is_some() {
            return found;
        }
        if Instant::now() < end {
            // A bus shows its devices when they have answered, which for a stick is after the search for drivers.
            if let Err(error) = modules::load_for_new_devices() {
                console::line(&format!("no drivers for new devices: {error:#}"));
            }
        } else {
            if patiently {
                console::line("the medium that this machine was started from cannot be read");
            }
            return None;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn look(name: &str, origin: &Origin) -> Option<Found> {
    let node = Path::new("/dev").join(name);
    // An empty drive, or another file system: nothing of ours.
    is_labelled(&File::open(&node).ok()?).then_some(())?;
    let mounted = Mounted::read_only(&node, "iso9660").ok()?;
    let mut bytes = Vec::new();
    File::open(mounted.path().join(medium::FILE)).ok()?.take(DOCUMENT_LIMIT).read_to_end(&mut bytes).ok()?;
    match contracts::read::<Medium>(&bytes) {
        Ok(medium) if belongs(&medium, origin) => Some(Found { medium, mounted }),
        Ok(medium) => {
            console::line(&format!("the medium in {name} is of another version ({})", medium.image.template));
            None
        }
        Err(error) => {
            console::line(&format!("the medium in {name} cannot be used: {error}"));
            None
        }
    }
}

/// The primary volume descriptor is the first of its kind, in sector 16; its volume identifier has 32 bytes, padded with blanks
/// (ECMA-119, 8.4).
fn is_labelled(file: &File) -> bool {
    let mut descriptor = [0; 2048];
    let read = file.read_exact_at(&mut descriptor, 16 * 2048);
    read.is_ok() && descriptor[..6] == *b"\x01CD001" && descriptor[40..72].trim_ascii_end() == medium::LABEL.as_bytes()
}

/// Only the boot image of the same image: a forgotten stick does not change what a machine becomes.
fn belongs(medium: &Medium, origin: &Origin) -> bool {
    origin.root_hash.as_ref() == Some(&medium.root_hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::assignment::ImageRef;

    #[test]
    fn a_medium_is_known_by_its_label() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("medium");
        let mut bytes = vec![0; 17 * 2048];
        bytes[16 * 2048..][..6].copy_from_slice(b"\x01CD001");
        bytes[16 * 2048 + 40..][..32].copy_from_slice(b"SHELFBOOT                       ");
        let labelled = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            is_labelled(&File::open(&path).unwrap())
        };
        assert!(labelled(&bytes));
        assert!(!labelled(&bytes[..17 * 2048 - 1]), "cut off");
        bytes[16 * 2048 + 49] = b'2';
        assert!(!labelled(&bytes));
        assert!(!labelled(b""));
    }

    #[test]
    fn a_medium_serves_its_own_boot_image_only() {
        let medium = Medium {
            version: 1,
            image: ImageRef { template: "till".into(), channel: "stable".into(), version: Some("1".into()) },
            root_hash: "ab".repeat(32),
            offline: true,
            netboot: None,
            network: None,
        };
        let origin = |hash: Option<&str>| Origin { root_hash: hash.map(str::to_owned), from_medium: true };
        assert!(belongs(&medium, &origin(Some(&"ab".repeat(32)))));
        assert!(!belongs(&medium, &origin(Some(&"cd".repeat(32)))));
        assert!(!belongs(&medium, &origin(None)));
    }
}
