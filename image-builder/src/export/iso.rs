//! A hybrid ISO image: the same bytes start a machine as CD and as USB stick, through UEFI and through BIOS.
//!
//! UEFI finds an EFI system partition, by El Torito on a CD and by the GPT on a stick, whose `BOOTX64.EFI` is the signed boot image
//! itself. BIOS finds GRUB, by El Torito or by the first sector, which starts the boot image's own parts. xorriso's page
//! "mkisofs emulation" has the options; the layout is that of grub-mkrescue(1).

use super::{
    Place, derived_guid,
    fat::{self, FatError},
    staged::{Staged, StagedError},
};
use crate::{
    bios::{BiosError, Core},
    command::CommandError,
    files::{self, FileError, at},
    report::Reporter,
    tools::WORK,
};
use contracts::{
    VERSION,
    assignment::ImageRef,
    bios::{self, COMMAND_LINE_VARIABLE},
    medium::{self, Medium},
    network::NetworkConfig,
    uki::{self, PeError},
};
use std::path::PathBuf;
use uuid::Uuid;

/// GRUB for CDs, and behind the first sector for sticks.
const EL_TORITO: &str = "boot/grub/eltorito.img";
/// GRUB's first sector for sticks, in the tools tree.
const HYBRID_SECTOR: &str = "/usr/lib/grub/i386-pc/boot_hybrid.img";
const EFI_IMAGE: &str = "efi.img";
/// Room beside the boot image for the file system's own tables.
const EFI_SPARE: u64 = 2 << 20;
/// UEFI specification 2.10, section 5.3.3, table 5.7.
const EFI_SYSTEM_PARTITION: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

const MODULES: [&str; 16] = [
    "biosdisk",
    "boot",
    "echo",
    "iso9660",
    "linux",
    "loadenv",
    "memdisk",
    "minicmd",
    "normal",
    "search",
    "search_fs_file",
    "serial",
    "sleep",
    "tar",
    "terminal",
    "test",
];

/// Why there is no ISO image.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The EFI system partition.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// GRUB.
    #[error(transparent)]
    Bios(#[from] BiosError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something of the image is missing.
    #[error(transparent)]
    Staged(#[from] StagedError),
    /// The boot image is no UKI.
    #[error("the boot image cannot be taken apart")]
    Uki(#[source] PeError),
    /// GRUB cannot hold the command line.
    #[error("GRUB cannot hold the boot image's command line")]
    CommandLine,
    /// A document could not be written as JSON.
    #[error("cannot write a document as JSON")]
    Json(#[source] serde_json::Error),
}

/// What lies on the medium beside the boot image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Nothing: the store serves it.
    Nothing,
    /// The image's part of the repository.
    Image,
}

/// What a medium says beside the image, for LANs on which nothing is heard without.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// netboot's base URL.
    pub netboot: Option<String>,
    /// The machine's network.
    pub network: Option<NetworkConfig>,
}

/// Makes the ISO image in the work folder.
///
/// # Errors
/// See [`IsoError`].
pub async fn make(
    place: &Place<'_>,
    staged: &Staged,
    carries: Carries,
    words: Words,
    reporter: &mut dyn Reporter,
) -> Result<PathBuf, IsoError> {
    let tree = place.work.join("iso");
    let boot_image = staged.target(&staged.manifest.uki)?;
    let parts = uki::parts(&boot_image).map_err(IsoError::Uki)?;
    let environment = bios::environment(parts.command_line).ok_or(IsoError::CommandLine)?;
    let document = serde_json::to_vec_pretty(&describe(staged, carries, words)).map_err(IsoError::Json)?;
    for (path, content) in [
        (medium::LINUX_PATH, parts.linux),
        (medium::INITRD_PATH, parts.initrd),
        (medium::ENVIRONMENT_PATH, &environment),
        (medium::FILE, &document),
    ] {
        files::write(&tree.join(path), content, 0o644)?;
    }
    if carries == Carries::Image {
        let to = tree.join(medium::REPOSITORY);
        std::fs::rename(&staged.folder, &to).map_err(at("move into place", &to))?;
    }
    let core = Core { format: "i386-pc-eltorito", prefix: "/shelfboot", modules: &MODULES, script: &script() };
    let core = core.make(place.tools, place.work, "grub-iso", reporter).await?;
    files::write(&tree.join(EL_TORITO), &files::read(&core)?, 0o644)?;
    efi_partition(place, &boot_image, reporter).await?;
    let guid = derived_guid(&staged.manifest.root.root_hash, "medium");
    place.sandbox().run(reporter, "xorriso", &arguments(place.epoch, guid)).await?;
    Ok(place.work.join("out.iso"))
}

fn describe(staged: &Staged, carries: Carries, words: Words) -> Medium {
    let manifest = &staged.manifest;
    Medium {
        version: VERSION,
        image: ImageRef {
            template: manifest.template.clone(),
            // Not used: the version is fixed.
            channel: "stable".into(),
            version: Some(manifest.image_version.clone()),
        },
        root_hash: manifest.root.root_hash.clone(),
        offline: carries == Carries::Image,
        netboot: words.netboot,
        network: words.network,
    }
}

/// `efi.img`: a FAT file system with the boot image where firmware looks for it.
async fn efi_partition(place: &Place<'_>, boot_image: &[u8], reporter: &mut dyn Reporter) -> Result<(), FatError> {
    let bytes = (boot_image.len() as u64 + boot_image.len() as u64 / 64 + EFI_SPARE).next_multiple_of(1 << 20);
    fat::make(place, EFI_IMAGE, bytes, fat::Kind::Smallest, reporter).await?;
    let path = medium::EFI_PATH.trim_start_matches('\\').replace('\\', "/");
    fat::put(place, EFI_IMAGE, &[(&path, boot_image)], reporter).await
}

/// What GRUB does. It has started from the medium, so that is where it looks first; when anything is missing it gives the machine
/// back to the BIOS.
fn script() -> String {
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_output console serial\n\
         search --no-floppy --hint=$root --set=root --file /{environment}\n\
         if load_env --file ($root)/{environment} {COMMAND_LINE_VARIABLE}; then\n\
         if linux ($root)/{linux} ${COMMAND_LINE_VARIABLE} {word}; then\n\
         if initrd ($root)/{initrd}; then\n\
         boot\n\
         fi\nfi\nfi\n\
         echo 'Shelfboot: this medium cannot be started; going on with the next boot device'\n\
         sleep 5\n\
         exit\n",
        environment = medium::ENVIRONMENT_PATH,
        linux = medium::LINUX_PATH,
        initrd = medium::INITRD_PATH,
        word = medium::WORD,
    )
}

/// xorriso's arguments. The volume's times come from SOURCE_DATE_EPOCH, the partitions' GUIDs from that of the disk.
fn arguments(epoch: i64, disk: Uuid) -> Vec<String> {
    let times = ["--set_all_file_dates".to_owned(), format!("={epoch}")];
    let guid = ["--gpt_disk_guid".to_owned(), disk.to_string()];
    let efi_image = format!("{WORK}/{EFI_IMAGE}");
    let (output, tree) = (format!("{WORK}/out.iso"), format!("{WORK}/iso"));
    // Names as they are and root as owner (Rock Ridge), archives of more than 4 GiB (level 3).
    let system = ["-as", "mkisofs", "-quiet", "-r", "-iso-level", "3", "-volid", medium::LABEL, "-o", &output];
    let cd_bios = ["-b", EL_TORITO, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info"];
    // Some BIOSes start only sticks with an active partition in the MBR.
    let stick = ["--grub2-mbr", HYBRID_SECTOR, "--mbr-force-bootable", "-partition_offset", "16"];
    let efi = ["-append_partition", "2", EFI_SYSTEM_PARTITION, &efi_image, "-appended_part_as_gpt"];
    let cd_efi = ["-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot"];
    let all = system.iter().chain(&cd_bios).chain(&stick).chain(&efi).chain(&cd_efi);
    all.map(|argument| (*argument).to_owned()).chain(times).chain(guid).chain([tree]).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_script_is_the_documented_one() {
        insta::assert_snapshot!(super::script());
    }
}
