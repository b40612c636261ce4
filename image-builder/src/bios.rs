//! What BIOS machines start with: iPXE as network boot program, and GRUB for the disk, both Debian's.
//!
//! `grub-install` would patch sector numbers into the boot code on each machine. Here the core image always begins
//! at the same sector, so image-builder sets the numbers and the agent only writes bytes (GRUB 2.12,
//! `util/setup.c` and `boot/i386/pc/diskboot.S`).

use crate::{
    command::CommandError,
    files::{self, FileError},
    report::Reporter,
    tools::{Tools, WORK},
};
use contracts::bios::{
    COMMAND_LINE_VARIABLE, CORE_LBA, CORE_SECTORS, ENVIRONMENT_PATH, GOOD_VARIABLE, INITRD_PATH, LINUX_PATH,
    LOADER_WORD, MOST_TRIES, SLOTS_PATH, TRIAL_VARIABLE, TRIES_VARIABLE, VERSION_FOLDERS,
};
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;
const GRUB: &str = "usr/lib/grub/i386-pc";
const NETWORK_LOADER: &str = "usr/lib/ipxe/undionly.kpxe";

/// boot.img: where the LBA of the core image stands (`GRUB_BOOT_MACHINE_KERNEL_SECTOR`).
const KERNEL_SECTOR_AT: usize = 0x5c;
/// boot.img: the jump that some firmware needs to be taken out (`GRUB_BOOT_MACHINE_DRIVE_CHECK`).
const DRIVE_CHECK_AT: usize = 0x66;
/// core.img: the first entry of the block list, at the end of the first sector: LBA (8), sectors (2), segment (2).
const BLOCK_LIST_AT: usize = SECTOR - 12;
/// Where boot code loads the second sector to (`GRUB_BOOT_MACHINE_KERNEL_SEG` and one sector).
const LOAD_SEGMENT: u16 = 0x820;

/// `load_env` with `probe`, `linux` and `initrd` is what GRUB does; the rest are the drivers for it. `serial` gives a
/// machine without a screen a voice.
const MODULES: [&str; 17] = [
    "biosdisk", "boot", "echo", "fat", "linux", "loadenv", "memdisk", "minicmd", "normal", "part_gpt", "probe",
    "reboot", "serial", "sleep", "tar", "terminal", "test",
];

/// Why there is nothing for BIOS machines.
#[derive(Debug, thiserror::Error)]
pub enum BiosError {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// GRUB's files have another shape than the one that is known.
    #[error("{file} of the tools tree is not as expected: {problem}")]
    Shape {
        /// Which file.
        file: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// The files for BIOS machines.
#[derive(Debug)]
pub struct Made {
    /// `undionly.kpxe`.
    pub network_loader: PathBuf,
    /// The first sector.
    pub boot_sector: PathBuf,
    /// The core image.
    pub core: PathBuf,
    /// Bytes of the core image.
    pub core_bytes: u64,
}

/// Makes them in the work folder.
///
/// # Errors
/// See [`BiosError`].
pub async fn make(tools: &Tools, work: &Path, reporter: &mut dyn Reporter) -> Result<Made, BiosError> {
    let folder = work.join("bios");
    files::create_folder(&folder)?;
    // Without a device name the prefix is on the disk that the BIOS started: a machine may have several disks, and GRUB's numbers
    // are not ours to guess.
    let image = Core { format: "i386-pc", prefix: "(,gpt1)/shelfboot", modules: &MODULES, script: &script() };
    let unplaced = image.make(tools, work, "bios", reporter).await?;

    let made = Made {
        network_loader: folder.join("undionly.kpxe"),
        boot_sector: folder.join("boot.img"),
        core: folder.join("core.img"),
        core_bytes: 0,
    };
    files::write(&made.network_loader, &files::read(&tools.path().join(NETWORK_LOADER))?, 0o644)?;
    let boot = place_boot_sector(files::read(&tools.path().join(GRUB).join("boot.img"))?)?;
    files::write(&made.boot_sector, &boot, 0o644)?;
    let core = place_core(files::read(&unplaced)?)?;
    files::write(&made.core, &core, 0o644)?;
    Ok(Made { core_bytes: core.len() as u64, ..made })
}

/// A core image of GRUB with its script inside.
#[derive(Debug)]
pub(crate) struct Core<'a> {
    /// GRUB's name of the way in which it is started.
    pub(crate) format: &'a str,
    /// Where it looks for its files.
    pub(crate) prefix: &'a str,
    /// Its modules.
    pub(crate) modules: &'a [&'a str],
    /// What it does.
    pub(crate) script: &'a str,
}

impl Core<'_> {
    /// Makes `core.unplaced.img` in a folder of the work folder.
    pub(crate) async fn make(
        &self,
        tools: &Tools,
        work: &Path,
        name: &str,
        reporter: &mut dyn Reporter,
    ) -> Result<PathBuf, BiosError> {
        let folder = work.join(name);
        files::write(&folder.join("grub.cfg"), self.script.as_bytes(), 0o644)?;
        // The core image's own script is read by a parser that has no words of its own: it only starts the real one.
        files::write(&folder.join("early.cfg"), b"normal (memdisk)/grub.cfg\n", 0o644)?;
        let inside = format!("{WORK}/{name}");
        let sandbox = tools.sandbox(work);
        let archive = ["--create", "--format=ustar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0"];
        let archive = archive.into_iter().map(str::to_owned).chain([
            "--numeric-owner".to_owned(),
            format!("--file={inside}/memdisk.tar"),
            format!("--directory={inside}"),
            "grub.cfg".to_owned(),
        ]);
        sandbox.run(reporter, "tar", &archive.collect::<Vec<_>>()).await?;
        // The prefix comes after the memdisk, which sets one too.
        let arguments = [format!("--format={}", self.format), format!("--memdisk={inside}/memdisk.tar")];
        let arguments = arguments.into_iter().chain([
            format!("--prefix={}", self.prefix),
            format!("--config={inside}/early.cfg"),
            format!("--output={inside}/core.unplaced.img"),
        ]);
        let arguments: Vec<String> = arguments.chain(self.modules.iter().map(|m| (*m).to_owned())).collect();
        sandbox.run(reporter, "grub-mkimage", &arguments).await?;
        Ok(folder.join("core.unplaced.img"))
    }
}

/// What GRUB does: the version on trial as long as it has tries, which are counted down first, otherwise the one that counts. A
/// count that cannot be written is no start. When anything is missing it gives the machine back to the BIOS, which goes on with the
/// next entry of its boot order: the network, where the agent puts the disk right. On trial it tries again, with one try less.
fn script() -> String {
    let [first, _] = VERSION_FOLDERS;
    let count: String = (1..=MOST_TRIES)
        .map(|left| format!("if [ \"${TRIES_VARIABLE}\" = {left} ]; then set left={}; fi\n", left - 1))
        .collect();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let (linux, initrd, environment) = (name(LINUX_PATH), name(INITRD_PATH), name(ENVIRONMENT_PATH));
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_output console serial\n\
         set folder={first}\n\
         set left=\n\
         if [ -f ($root)/{SLOTS_PATH} ]; then\n\
         if load_env --file ($root)/{SLOTS_PATH} {GOOD_VARIABLE} {TRIAL_VARIABLE} {TRIES_VARIABLE}; then\n\
         if [ -n \"${GOOD_VARIABLE}\" ]; then set folder=${GOOD_VARIABLE}; fi\n\
         if [ -n \"${TRIAL_VARIABLE}\" ]; then\n\
         {count}\
         fi\nfi\nfi\n\
         if [ -n \"$left\" ]; then\n\
         set {TRIES_VARIABLE}=$left\n\
         if save_env --file ($root)/{SLOTS_PATH} {TRIES_VARIABLE}; then set folder=${TRIAL_VARIABLE}; else set left=; fi\n\
         fi\n\
         if load_env --file ($root)/$folder/{environment} {COMMAND_LINE_VARIABLE}; then\n\
         if probe --set=partition --part-uuid $root; then\n\
         if linux ($root)/$folder/{linux} ${COMMAND_LINE_VARIABLE} {LOADER_WORD}$partition; then\n\
         if initrd ($root)/$folder/{initrd}; then\n\
         boot\n\
         fi\nfi\nfi\nfi\n\
         if [ -n \"$left\" ]; then\n\
         echo 'Shelfboot: the new version cannot be started; trying again'\n\
         sleep 5\n\
         reboot\n\
         fi\n\
         echo 'Shelfboot: this disk cannot be started; going on with the next boot device'\n\
         sleep 5\n\
         exit\n"
    )
}

fn place_boot_sector(mut sector: Vec<u8>) -> Result<Vec<u8>, BiosError> {
    let wrong = |problem: String| BiosError::Shape { file: "boot.img", problem };
    if sector.len() != SECTOR {
        return Err(wrong(format!("it has {} bytes", sector.len())));
    }
    // 1 is what GRUB ships, and what tells that the field is where it is looked for.
    if sector[KERNEL_SECTOR_AT..KERNEL_SECTOR_AT + 8] != 1_u64.to_le_bytes() {
        return Err(wrong("there is no sector number at 0x5c".into()));
    }
    sector[KERNEL_SECTOR_AT..KERNEL_SECTOR_AT + 8].copy_from_slice(&CORE_LBA.to_le_bytes());
    // Two no-operations, as grub-bios-setup does for hard disks: some firmware passes a wrong drive number.
    sector[DRIVE_CHECK_AT..DRIVE_CHECK_AT + 2].copy_from_slice(&[0x90, 0x90]);
    Ok(sector)
}

fn place_core(mut core: Vec<u8>) -> Result<Vec<u8>, BiosError> {
    let wrong = |problem: String| BiosError::Shape { file: "core.img", problem };
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    let sectors = core.len() / SECTOR;
    if sectors < 2 || sectors as u64 > CORE_SECTORS {
        return Err(wrong(format!("it has {sectors} sectors, its place has {CORE_SECTORS}")));
    }
    let rest = u16::try_from(sectors - 1).map_err(|_| wrong(format!("it has {sectors} sectors")))?;
    let list = &mut core[BLOCK_LIST_AT..SECTOR];
    if list[8..10] != rest.to_le_bytes() || list[10..12] != LOAD_SEGMENT.to_le_bytes() {
        return Err(wrong(format!("its block list is {list:02x?}")));
    }
    list[..8].copy_from_slice(&(CORE_LBA + 1).to_le_bytes());
    Ok(core)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_the_documented_one() {
        insta::assert_snapshot!(script());
    }

    #[test]
    fn the_boot_sector_names_the_core_image() {
        let mut sector = vec![0_u8; 512];
        sector[0x5c] = 1;
        sector[0x66..0x68].copy_from_slice(&[0xeb, 0x05]);
        let placed = place_boot_sector(sector.clone()).unwrap();
        assert_eq!(placed[0x5c..0x64], [40, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(placed[0x66..0x68], [0x90, 0x90]);
        sector[0x5c] = 7;
        assert!(place_boot_sector(sector).is_err());
        assert!(place_boot_sector(vec![0; 511]).is_err());
    }

    #[test]
    fn the_core_image_goes_on_behind_its_first_sector_and_fits_its_place() {
        let core = |bytes: usize, listed: u16| {
            let mut core = vec![0_u8; bytes];
            core[508..510].copy_from_slice(&listed.to_le_bytes());
            core[510..512].copy_from_slice(&[0x20, 0x08]);
            core
        };
        let placed = place_core(core(512 * 3 - 100, 2)).unwrap();
        assert_eq!(placed.len(), 512 * 3, "whole sectors");
        assert_eq!(placed[500..512], [41, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 0x08]);
        assert!(place_core(core(512 * 3, 9)).is_err(), "another block list than expected");
        assert!(place_core(core(512 * 2009, 2008)).is_err(), "too large for the partition");
    }
}
