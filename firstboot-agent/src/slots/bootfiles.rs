//! The boot files of both versions on the EFI system partition, on UEFI (systemd-boot) and on BIOS (GRUB). What lies there is
//! recognized by the root hash on its command line, not by its name.
//!
//! Every change is one that a power cut may end in: files are written beside and renamed, a boot image that is there keeps its name
//! until its copy has the next one, and GRUB's block is changed in one sector.

use super::{
    boot_image::Parts,
    entries::Name,
    model::{Counter, TRIES},
};
use anyhow::{Context, Result, bail};
use contracts::{
    bios::{
        COMMAND_LINE_VARIABLE, ENVIRONMENT_PATH, GOOD_VARIABLE, INITRD_PATH, LINUX_PATH, SLOTS_PATH, TRIAL_VARIABLE,
        TRIES_VARIABLE, VERSION_FOLDERS,
    },
    grubenv::{self, Environment},
    uki,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// How much of a boot image holds its headers.
const HEAD: u64 = 64 << 10;
/// No kernel takes a longer command line.
const COMMAND_LINE_MOST: u64 = 4096;
/// What the agent writes into GRUB's block besides: starts that were counted before the tries were written last, and the tries then.
const BEFORE_VARIABLE: &str = "before";
const GIVEN_VARIABLE: &str = "given";

/// The partition's files.
#[derive(Debug)]
pub struct BootFiles {
    esp: PathBuf,
    uefi: bool,
}

impl BootFiles {
    /// The files below `esp`, where the partition is mounted.
    #[must_use]
    pub fn new(esp: &Path, uefi: bool) -> Self {
        Self { esp: esp.to_owned(), uefi }
    }

    /// How often the boot loader started the version, and may still; `None` when it is not there, or not counted.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn counter(&self, root_hash: &str) -> Result<Option<Counter>> {
        if self.uefi {
            return Ok(self.find(root_hash)?.and_then(|(name, _)| name.counter));
        }
        let slots = self.slots();
        let Some(folder) = self.folder_of(root_hash) else { return Ok(None) };
        if slots.get(TRIAL_VARIABLE).map(String::as_str) != Some(folder) {
            return Ok(None);
        }
        let number = |name: &str| slots.get(name).and_then(|value| value.parse::<u32>().ok());
        let (left, given) = (number(TRIES_VARIABLE).unwrap_or(0), number(GIVEN_VARIABLE).unwrap_or(TRIES));
        let before = number(BEFORE_VARIABLE).unwrap_or(0);
        Ok(Some(Counter { left, done: before.saturating_add(given.saturating_sub(left)) }))
    }

    /// Writes the boot loader's count for the version on trial.
    ///
    /// # Errors
    /// When the version is not there, or cannot be counted.
    pub fn set_counter(&self, root_hash: &str, counter: Counter) -> Result<()> {
        if !self.uefi {
            let folder = self.folder_of(root_hash).context("the version on trial has no boot files")?;
            let mut slots = self.slots();
            put_counter(&mut slots, folder, counter);
            return self.write_slots(&slots);
        }
        let (name, path) = self.find(root_hash)?.context("the version on trial has no boot image")?;
        self.copy_as(&path, &Name { counter: Some(counter), ..name })?;
        self.remove_others(root_hash, counter)
    }

    /// Puts a version's boot files beside those of the good one, to be started first as long as it has tries.
    ///
    /// # Errors
    /// When a file cannot be written, or the boot image is none.
    pub fn arm(&self, good: &str, image_version: &str, boot_image: &[u8]) -> Result<()> {
        if self.uefi {
            let names: Vec<Name> = self.entries()?.into_iter().map(|(name, _)| name).collect();
            let name = Name::before(&names, image_version, Some(Counter::FRESH));
            return self.write(&self.linux_folder().join(name.file()), boot_image);
        }
        let parts = uki::parts(boot_image).context("taking the boot image apart")?;
        let environment = contracts::bios::environment(parts.command_line)
            .context("GRUB cannot hold the boot image's command line")?;
        let good = self.folder_of(good).unwrap_or(VERSION_FOLDERS[0]);
        let folder = other(good);
        let place = |path: &str| self.esp.join(folder).join(file_name(path));
        self.write(&place(LINUX_PATH), parts.linux)?;
        self.write(&place(INITRD_PATH), parts.initrd)?;
        // Last, because it says whose files these are.
        self.write(&place(ENVIRONMENT_PATH), &environment)?;
        let mut slots = Environment::from([(GOOD_VARIABLE.to_owned(), good.to_owned())]);
        put_counter(&mut slots, folder, Counter::FRESH);
        self.write_slots(&slots)
    }

    /// Makes this version the only one: not counted any more, and nothing beside it. Does nothing where it is so.
    ///
    /// # Errors
    /// When the version has no boot files; then nothing is changed.
    pub fn settle(&self, good: &str) -> Result<()> {
        if self.uefi {
            let (name, path) = self.find(good)?.context("the version that counts has no boot image")?;
            let name = match name.counter {
                Some(_) => {
                    let plain = Name { counter: None, ..name };
                    self.copy_as(&path, &plain)?;
                    plain
                }
                None => name,
            };
            for (other, path) in self.entries()?.into_iter().filter(|(other, _)| other.file() != name.file()) {
                remove(&path).with_context(|| format!("removing {}", other.file()))?;
            }
            return sync(&self.linux_folder());
        }
        let folder = self.folder_of(good).context("the version that counts has no boot files")?;
        let slots = self.slots();
        let settled = Environment::from([(GOOD_VARIABLE.to_owned(), folder.to_owned())]);
        if slots != settled && (folder != VERSION_FOLDERS[0] || !slots.is_empty()) {
            self.write_slots(&settled)?;
        }
        self.clear(other(folder))
    }

    /// Kernel and initrd of a version, to compare with others. Empty where they cannot be read.
    ///
    /// # Errors
    /// When the files cannot be listed.
    pub fn parts(&self, root_hash: &str) -> Result<Parts> {
        if !self.uefi {
            let Some(folder) = self.folder_of(root_hash) else { return Ok(Parts::default()) };
            let read = |path: &str| fs::read(self.esp.join(folder).join(file_name(path))).unwrap_or_default();
            return Ok(Parts { linux: read(LINUX_PATH), initrd: read(INITRD_PATH) });
        }
        let Some((_, path)) = self.find(root_hash)? else { return Ok(Parts::default()) };
        let image = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let section = |name| uki::section(&image, name).map(<[u8]>::to_vec).unwrap_or_default();
        Ok(Parts { linux: section(".linux"), initrd: section(".initrd") })
    }

    /// Whether the version can be started: its boot files are there.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn has(&self, root_hash: &str) -> Result<bool> {
        Ok(if self.uefi { self.find(root_hash)?.is_some() } else { self.folder_of(root_hash).is_some() })
    }

    fn linux_folder(&self) -> PathBuf {
        self.esp.join("EFI/Linux")
    }

    /// Our boot images.
    fn entries(&self) -> Result<Vec<(Name, PathBuf)>> {
        let folder = self.linux_folder();
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(Name::read);
            found.extend(name.map(|name| (name, path)));
        }
        found.sort_by_key(|(name, _)| name.file());
        Ok(found)
    }

    fn find(&self, root_hash: &str) -> Result<Option<(Name, PathBuf)>> {
        let same = |path: &Path| command_line_of(path).is_ok_and(|line| says(&line, root_hash));
        Ok(self.entries()?.into_iter().find(|(_, path)| same(path)))
    }

    /// The folder of a version on BIOS.
    fn folder_of(&self, root_hash: &str) -> Option<&'static str> {
        VERSION_FOLDERS.into_iter().find(|folder| {
            let block = fs::read(self.esp.join(folder).join(file_name(ENVIRONMENT_PATH))).unwrap_or_default();
            let environment = grubenv::read(&block).unwrap_or_default();
            environment.get(COMMAND_LINE_VARIABLE).is_some_and(|line| says(line, root_hash))
        })
    }

    /// GRUB's block; empty where there is none yet.
    fn slots(&self) -> Environment {
        grubenv::read(&fs::read(self.esp.join(SLOTS_PATH)).unwrap_or_default()).unwrap_or_default()
    }

    fn write_slots(&self, slots: &Environment) -> Result<()> {
        let block = grubenv::write_in_one_sector(slots).context("GRUB cannot hold this")?;
        let path = self.esp.join(SLOTS_PATH);
        match OpenOptions::new().write(true).open(&path) {
            // In place: GRUB knows the file by its sectors, and one sector is written whole or not at all.
            Ok(file) if file.metadata()?.len() == grubenv::BYTES as u64 => {
                file.write_all_at(&block, 0).context("writing GRUB's block")?;
                file.sync_all().context("syncing GRUB's block")
            }
            _ => self.write(&path, &block),
        }
    }

    /// Removes a version's files: first the one that makes it a version.
    fn clear(&self, folder: &str) -> Result<()> {
        for path in [ENVIRONMENT_PATH, LINUX_PATH, INITRD_PATH] {
            remove(&self.esp.join(folder).join(file_name(path)))?;
        }
        let folder = self.esp.join(folder);
        if folder.is_dir() { sync(&folder) } else { Ok(()) }
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<()> {
        let folder = path.parent().context("the path has no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        // A name that no boot loader starts.
        let beside = folder.join("new.part");
        let mut file = File::create(&beside).with_context(|| format!("making {}", beside.display()))?;
        file.write_all(content).with_context(|| format!("writing {}", path.display()))?;
        file.sync_all().with_context(|| format!("syncing {}", path.display()))?;
        fs::rename(&beside, path).with_context(|| format!("naming {}", path.display()))?;
        sync(folder)
    }

    /// A copy under another name: when the power goes while a file on FAT is renamed, it may have no name at all afterwards; or two
    /// names may share its clusters, and the removal of one of them would free those of the other.
    fn copy_as(&self, path: &Path, name: &Name) -> Result<()> {
        let to = self.linux_folder().join(name.file());
        if path == to {
            return Ok(());
        }
        let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        self.write(&to, &content)
    }

    /// Removes what else there is of a version than the boot image with this count.
    fn remove_others(&self, root_hash: &str, counter: Counter) -> Result<()> {
        for (name, path) in self.entries()?.into_iter().filter(|(name, _)| name.counter != Some(counter)) {
            if command_line_of(&path).is_ok_and(|line| says(&line, root_hash)) {
                remove(&path).with_context(|| format!("removing {}", name.file()))?;
            }
        }
        sync(&self.linux_folder())
    }
}

fn put_counter(slots: &mut Environment, folder: &str, counter: Counter) {
    for (name, value) in [
        (TRIAL_VARIABLE, folder.to_owned()),
        (TRIES_VARIABLE, counter.left.to_string()),
        (GIVEN_VARIABLE, counter.left.to_string()),
        (BEFORE_VARIABLE, counter.done.to_string()),
    ] {
        slots.insert(name.to_owned(), value);
    }
}

fn other(folder: &str) -> &'static str {
    let [first, second] = VERSION_FOLDERS;
    if folder == first { second } else { first }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn says(command_line: &str, root_hash: &str) -> bool {
    command_line.split_whitespace().any(|word| word.strip_prefix("roothash=") == Some(root_hash))
}

/// The command line inside a boot image.
fn command_line_of(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    (&file).take(HEAD).read_to_end(&mut head).context("reading a boot image")?;
    let place = uki::place(&head, length, ".cmdline").context("reading a boot image")?;
    if place.end - place.start > COMMAND_LINE_MOST {
        bail!("the command line of {} is too long", path.display());
    }
    let mut section = vec![0; (place.end - place.start) as usize];
    file.read_exact_at(&mut section, place.start).context("reading a boot image")?;
    Ok(uki::command_line(&section)?.to_owned())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all().with_context(|| format!("syncing {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::layout;

    /// A PE file with the sections that count.
    pub(super) fn boot_image(root_hash: &str) -> Vec<u8> {
        let command_line = format!("roothash={root_hash} quiet");
        let contents: [(&str, &[u8]); 3] =
            [(".cmdline", command_line.as_bytes()), (".linux", b"kernel"), (".initrd", b"initrd")];
        let mut file = vec![0; 0x40];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x40;
        file.extend(b"PE\0\0\0\0\x03\0");
        file.resize(0x40 + 24, 0);
        let mut at = 0x200_u32;
        for (name, content) in contents {
            let mut entry = [0_u8; 40];
            entry[..name.len()].copy_from_slice(name.as_bytes());
            entry[8..12].copy_from_slice(&(content.len() as u32).to_le_bytes());
            entry[16..20].copy_from_slice(&0x100_u32.to_le_bytes());
            entry[20..24].copy_from_slice(&at.to_le_bytes());
            file.extend(entry);
            at += 0x100;
        }
        for (_, content) in contents {
            file.resize(file.len().next_multiple_of(0x100).max(0x200), 0);
            file.extend(content);
        }
        file.resize(file.len().next_multiple_of(0x100), 0);
        file
    }

    fn hash(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    /// A machine as an install leaves it, with the version `a`.
    fn installed(uefi: bool) -> (tempfile::TempDir, BootFiles) {
        let folder = tempfile::tempdir().unwrap();
        let esp = folder.path();
        if uefi {
            fs::create_dir_all(esp.join("EFI/Linux")).unwrap();
            fs::write(esp.join(layout::boot_image_path("2026.1")), boot_image(&hash('a'))).unwrap();
        } else {
            fs::create_dir_all(esp.join("shelfboot")).unwrap();
            let line = format!("roothash={} quiet", hash('a'));
            for (path, content) in [
                (LINUX_PATH, b"kernel".to_vec()),
                (INITRD_PATH, b"initrd".to_vec()),
                (ENVIRONMENT_PATH, contracts::bios::environment(&line).unwrap()),
            ] {
                fs::write(esp.join(path), content).unwrap();
            }
        }
        let files = BootFiles::new(esp, uefi);
        (folder, files)
    }

    /// What the boot loader does when it starts the version on trial.
    fn count_down(files: &BootFiles, root_hash: &str) {
        let counter = files.counter(root_hash).unwrap().unwrap();
        if files.uefi {
            files.set_counter(root_hash, Counter { left: counter.left - 1, done: counter.done + 1 }).unwrap();
        } else {
            let mut slots = files.slots();
            slots.insert(TRIES_VARIABLE.into(), (counter.left - 1).to_string());
            files.write_slots(&slots).unwrap();
        }
    }

    #[test]
    fn a_trial_is_counted_and_committed_on_both_kinds_of_firmware() {
        for uefi in [true, false] {
            let (folder, files) = installed(uefi);
            let (a, b, c) = (hash('a'), hash('b'), hash('c'));
            assert!(files.has(&a).unwrap() && files.counter(&a).unwrap().is_none());
            files.settle(&a).unwrap();
            files.arm(&a, "2025.1", &boot_image(&b)).unwrap();
            assert_eq!(files.counter(&b).unwrap(), Some(Counter::FRESH));
            count_down(&files, &b);
            count_down(&files, &b);
            assert_eq!(files.counter(&b).unwrap(), Some(Counter { left: 1, done: 2 }), "uefi: {uefi}");
            files.set_counter(&b, Counter { left: 2, done: 1 }).unwrap();
            count_down(&files, &b);
            assert_eq!(files.counter(&b).unwrap(), Some(Counter { left: 1, done: 2 }));
            assert!(files.has(&a).unwrap());
            files.settle(&b).unwrap();
            files.settle(&b).unwrap();
            assert!(!files.has(&a).unwrap() && files.has(&b).unwrap() && files.counter(&b).unwrap().is_none());
            // The next update goes to where the first version was; it loses, and nothing of it is left.
            files.arm(&b, "2025.1", &boot_image(&c)).unwrap();
            files.settle(&b).unwrap();
            assert!(files.has(&b).unwrap() && !files.has(&c).unwrap());
            if !uefi {
                let block = fs::read(folder.path().join(SLOTS_PATH)).unwrap();
                assert_eq!(block.len(), 1024);
                assert!(block.starts_with(b"# GRUB Environment Block\ngood=shelfboot/b\n#"));
            }
        }
    }

    /// The power went after the copy, and before the old name was removed.
    #[test]
    fn two_names_of_one_version_become_one() {
        let (folder, files) = installed(true);
        let b = hash('b');
        files.arm(&hash('a'), "2025.1", &boot_image(&b)).unwrap();
        let names = || files.entries().unwrap().into_iter().map(|(name, _)| name.file()).collect::<Vec<_>>();
        let of_b = folder.path().join("EFI/Linux").join(&names()[1]);
        fs::copy(&of_b, folder.path().join("EFI/Linux/shelfboot-2027-2025.1+2-1.efi")).unwrap();
        assert_eq!(names().len(), 3);
        files.set_counter(&b, Counter { left: 1, done: 2 }).unwrap();
        assert_eq!(names(), ["shelfboot-2026.1.efi", "shelfboot-2027-2025.1+1-2.efi"]);
        assert_eq!(files.counter(&b).unwrap(), Some(Counter { left: 1, done: 2 }));
    }

    #[test]
    fn the_trial_comes_first_in_the_boot_loaders_order() {
        let (folder, files) = installed(true);
        files.arm(&hash('a'), "2025.1", &boot_image(&hash('b'))).unwrap();
        let mut names: Vec<String> = fs::read_dir(folder.path().join("EFI/Linux"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["shelfboot-2026.1.efi", "shelfboot-2027-2025.1+3.efi"]);
    }

    #[test]
    fn nothing_is_removed_when_the_good_version_is_not_there() {
        for uefi in [true, false] {
            let (_folder, files) = installed(uefi);
            assert!(files.settle(&hash('f')).is_err());
            assert!(files.has(&hash('a')).unwrap());
        }
    }
}
