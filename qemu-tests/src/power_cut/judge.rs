//! What an installer and a firmware would make of a disk: the agent's own look at it, the EFI system partition read like firmware
//! reads it, and what of that must never be.

use super::cut::Cut;
use anyhow::{Context as _, Result};
use contracts::{
    facts::DiskContent,
    layout::{self, Role},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Read as _, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
};

/// What `firstboot-agent image look` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Looked {
    /// What is on the disk.
    pub content: DiskContent,
    /// Why it would not be installed.
    pub refusal: Option<String>,
    /// The same in words.
    pub words: String,
    /// What the cut-off install left.
    pub left: Left,
    /// Slot A against the root hash.
    pub verified: Option<bool>,
}

/// What a cut-off install left, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Left {
    /// What the journal claims.
    pub claimed: u64,
    /// What of it is true.
    pub found: u64,
    /// What has to be fetched still.
    pub to_fetch: u64,
}

/// The EFI system partition as firmware sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Esp {
    /// A boot loader is where firmware looks for one.
    pub starts: bool,
    /// Boot loader and boot image are there to their last byte.
    pub whole: bool,
}

/// The state partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No file system of ours.
    Nothing,
    /// One that opens.
    Opens,
    /// Ours by its label, and it does not open: an installer would not dare to touch it.
    Broken,
}

/// Which part of the install a moment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Table and file systems are made.
    Partition,
    /// The image comes.
    Install,
    /// The disk is made one that starts.
    Verify,
}

/// One power cut, looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// When, and what survived.
    pub cut: Cut,
    /// In which part of the install.
    pub phase: Phase,
    /// What an installer finds.
    pub looked: Looked,
    /// What UEFI finds.
    pub esp: Esp,
    /// A BIOS would run code of this disk.
    pub mbr_starts: bool,
    /// What the installer would find on the state partition.
    pub state: State,
    /// Bytes of the image that had been written and are to be fetched again.
    pub again: u64,
    /// The most that `again` may be.
    pub most_again: u64,
    /// What must not be.
    pub problems: Vec<String>,
}

/// Where a partition lies on the disk, in bytes.
#[must_use]
pub fn partition(disk_bytes: u64, role: Role) -> Range<u64> {
    let partitions = layout::place(disk_bytes, 512).unwrap_or_default();
    let found = partitions.iter().find(|partition| partition.role == role);
    found.map_or(0..0, |found| found.first * 512..(found.last + 1) * 512)
}

/// What must never be, of what was seen.
#[must_use]
pub fn problems(seen: &Seen) -> Vec<String> {
    let (looked, mut found) = (&seen.looked, Vec::new());
    let is_installed = matches!(looked.content, DiskContent::Installed { .. });
    let is_ours = is_installed || matches!(looked.content, DiskContent::HalfInstall { .. });
    match (&looked.refusal, is_installed) {
        (Some(code), false) => found.push(format!("the next try is refused ({code}): {}", looked.words)),
        (_, true) if !seen.esp.whole => found.push("the table says complete, and nothing could start it".into()),
        _ => {}
    }
    if (is_installed || seen.esp.starts) && looked.verified != Some(true) {
        found.push("something starts from a root that is not whole".into());
    }
    if seen.mbr_starts {
        found.push("a BIOS would run code of it".into());
    }
    if is_ours && seen.state == State::Broken {
        found.push("the state partition is ours and does not open: the next try would not touch it".into());
    }
    if !is_installed && seen.again > seen.most_again {
        found.push(format!(
            "{} bytes are fetched again where {} were written since the last journalled flush",
            seen.again, seen.most_again
        ));
    }
    found
}

/// Looks for boot loader and boot image. Whatever is wrong with the file system, nothing starts from it then.
#[must_use]
pub fn esp(disk: &Path, range: &Range<u64>, boot_image_sha256: &str) -> Esp {
    let Ok(file) = File::open(disk) else { return Esp::default() };
    // FAT32 libraries are written for whole file systems; on a torn one ours may stop by a panic, and then nothing starts either.
    let range = range.clone();
    let digest = boot_image_sha256.to_owned();
    std::thread::spawn(move || look_for_loader(file, &range, &digest))
        .join()
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
}

fn look_for_loader(file: File, range: &Range<u64>, digest: &str) -> Result<Esp> {
    let view = View { file, begin: range.start, length: range.end - range.start, at: 0 };
    let system = fatfs::FileSystem::new(view, fatfs::FsOptions::new()).context("no FAT")?;
    let root = system.root_dir();
    let read = |path: &str| -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        root.open_file(path).ok()?.take(1 << 30).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let loaders = [layout::LOADER_PATH, layout::FALLBACK_LOADER_PATH].map(read);
    let starts = loaders.iter().flatten().any(|bytes| bytes.starts_with(b"MZ"));
    let mut image = false;
    if let Ok(folder) = root.open_dir("EFI/Linux") {
        for entry in folder.iter().flatten().filter(fatfs::DirEntry::is_file) {
            let bytes = read(&format!("EFI/Linux/{}", entry.file_name())).unwrap_or_default();
            image |= hex::encode(Sha256::digest(&bytes)) == digest;
        }
    }
    let loaders_agree = loaders[0].is_some() && loaders[0] == loaders[1];
    Ok(Esp { starts, whole: starts && image && loaders_agree })
}

/// A partition inside a disk. It cannot be written to.
struct View {
    file: File,
    begin: u64,
    length: u64,
    at: u64,
}

impl io::Read for View {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..length], self.begin + self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl io::Write for View {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for View {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Whether a BIOS would run the first sector's code: it has the mark of one, and does not say at once that there is nothing here
/// (INT 18h).
///
/// # Errors
/// When the disk cannot be read.
pub fn mbr_starts(disk: &Path) -> Result<bool> {
    let mut sector = [0; 512];
    File::open(disk)?.read_exact_at(&mut sector, 0).context("reading the first sector")?;
    let code = sector[..440].iter().any(|byte| *byte != 0);
    Ok(sector[510..] == [0x55, 0xaa] && code && sector[..2] != [0xcd, 0x18])
}

/// Whether an ext4 file system with our label begins here (kernel documentation, filesystems/ext4/super.rst).
///
/// # Errors
/// When the disk cannot be read.
pub fn has_our_label(disk: &Path, state: &Range<u64>) -> Result<bool> {
    let mut superblock = [0; 1024];
    File::open(disk)?.read_exact_at(&mut superblock, state.start + 1024).context("reading the state's superblock")?;
    Ok(superblock[56..58] == [0x53, 0xef] && superblock[120..136].starts_with(b"shelfboot-state"))
}

#[cfg(test)]
mod tests {
    use super::{super::cut::Unflushed, *};

    fn seen() -> Seen {
        let left = Left { claimed: 5, found: 5, to_fetch: 9 };
        let content = DiskContent::HalfInstall { owner: None };
        Seen {
            cut: Cut { at: 1, unflushed: Unflushed::Lost, seed: 0 },
            phase: Phase::Install,
            looked: Looked { content, refusal: None, words: String::new(), left, verified: None },
            esp: Esp::default(),
            mbr_starts: false,
            state: State::Opens,
            again: 3,
            most_again: 3,
            problems: vec![],
        }
    }

    #[test]
    fn each_promise_is_held_against_what_was_seen() {
        assert!(problems(&seen()).is_empty());
        let broken = |change: fn(&mut Seen), words: &str| {
            let mut seen = seen();
            change(&mut seen);
            let found = problems(&seen).join("; ");
            assert!(found.contains(words), "{found}");
        };
        let whole = Esp { starts: true, whole: true };
        broken(|seen| seen.looked.refusal = Some("foreign-data".into()), "refused (foreign-data)");
        broken(|seen| seen.esp.starts = true, "not whole");
        broken(|seen| seen.mbr_starts = true, "BIOS");
        broken(|seen| seen.state = State::Broken, "does not open");
        broken(|seen| seen.again = 4, "4 bytes are fetched again where 3");
        let installed = DiskContent::Installed { root_hashes: vec![], owner: None };
        let mut good = Seen { esp: whole, ..seen() };
        good.looked = Looked {
            content: installed,
            verified: Some(true),
            refusal: Some("already-installed".into()),
            ..good.looked
        };
        assert!(problems(&good).is_empty());
        good.esp.whole = false;
        assert!(problems(&good)[0].contains("nothing could start it"));
    }

    #[test]
    fn a_fat_with_a_loader_starts_and_torn_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        assert_eq!(esp(&path, &(0..64 << 20), ""), Esp::default());
        fatfs::format_volume(&mut file, fatfs::FormatVolumeOptions::new()).unwrap();
        let image = b"MZ boot image".to_vec();
        {
            let system = fatfs::FileSystem::new(&mut file, fatfs::FsOptions::new()).unwrap();
            let root = system.root_dir();
            for part in ["EFI", "EFI/BOOT", "EFI/systemd", "EFI/Linux"] {
                root.create_dir(part).unwrap();
            }
            for path in [layout::LOADER_PATH, layout::FALLBACK_LOADER_PATH, "EFI/Linux/shelfboot-1.efi"] {
                io::Write::write_all(&mut root.create_file(path).unwrap(), &image).unwrap();
            }
        }
        let digest = hex::encode(Sha256::digest(&image));
        assert_eq!(esp(&path, &(0..64 << 20), &digest), Esp { starts: true, whole: true });
        assert_eq!(esp(&path, &(0..64 << 20), "other"), Esp { starts: true, whole: false });
        file.write_all_at(&[0; 512], 0).unwrap();
        assert_eq!(esp(&path, &(0..64 << 20), &digest), Esp::default());
    }
}
