//! A disk with the installed system, for virtual machines and for writing onto a disk as it is: the partitions and files that
//! the agent writes at the end of an install, except for the state. That is made by the machine that first starts from it, on
//! all that its disk has left.

use super::{
    Format, Place, derived_guid,
    fat::{self, FatError},
    staged::{Staged, StagedError},
    unpack::{self, Output, UnpackError, write_sparse},
};
use crate::{
    command::CommandError,
    files::{self, FileError, InputHash, at},
    report::Reporter,
    tools::WORK,
};
use contracts::{
    bios::{self, BOOT_CODE_BYTES, CORE_LBA},
    install::{FIRST_START_CA, FIRST_START_RECORD, InstallRecord},
    layout::{
        DISK_IMAGE_BYTES, FALLBACK_LOADER_PATH, IN_PROGRESS, LOADER_PATH, LOADER_SETTINGS, LOADER_SETTINGS_PATH,
        Partition, Role, boot_image_path, place as divide,
    },
    manifest::ImageManifest,
    uki::{self, PeError},
};
use gptman::{GPT, GPTPartitionEntry};
use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

const SECTOR: u64 = 512;
const RAW: &str = "disk.raw";
const ESP: &str = "esp.img";

/// Why there is no disk image.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The EFI system partition.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something of the image is missing.
    #[error(transparent)]
    Staged(#[from] StagedError),
    /// The archive.
    #[error("the archive cannot be believed")]
    Archive(#[from] UnpackError),
    /// The boot image is no UKI.
    #[error("the boot image cannot be taken apart")]
    Uki(#[source] PeError),
    /// GRUB cannot hold the command line.
    #[error("GRUB cannot hold the boot image's command line")]
    CommandLine,
    /// Something is larger than its partition.
    #[error("the {0} does not fit its partition")]
    TooBig(&'static str),
    /// The manifest's root hash has another shape.
    #[error("the manifest's root hash is not 64 hex digits")]
    RootHash,
    /// The table could not be written.
    #[error("cannot write the partition table")]
    Table(#[source] gptman::Error),
    /// qemu-img wrote something else than expected.
    #[error("the VMDK has no content id where one is looked for")]
    ContentId,
    /// A document could not be written as JSON.
    #[error("cannot write a document as JSON")]
    Json(#[source] serde_json::Error),
}

/// Makes the disk image in the work folder.
///
/// # Errors
/// See [`DiskError`].
pub async fn make(
    place: &Place<'_>,
    staged: &Staged,
    format: Format,
    reporter: &mut dyn Reporter,
) -> Result<PathBuf, DiskError> {
    let manifest = &staged.manifest;
    let (data, tree) = (place.work.join("root.data"), place.work.join("root.tree"));
    unpack::unpack(&staged.archive(), manifest, Output { data: &data, tree: &tree }).await?;
    // The chunks are those that were signed; this says that a machine can open them by the boot image's root hash.
    let arguments = ["verify", &format!("{WORK}/root.data"), &format!("{WORK}/root.tree"), &manifest.root.root_hash];
    place.sandbox().run(reporter, "veritysetup", &arguments).await?;

    let partitions = divide(DISK_IMAGE_BYTES, 512).unwrap_or_default();
    let esp_bytes = partitions.iter().find(|p| p.role == Role::Esp).map_or(0, bytes_of);
    fat::make(place, ESP, esp_bytes, fat::Kind::Fat32, reporter).await?;
    fill_esp(place, staged, reporter).await?;

    let path = place.work.join(RAW);
    let mut disk =
        OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(at("write", &path))?;
    disk.set_len(DISK_IMAGE_BYTES).map_err(at("write", &path))?;
    write_table(&mut disk, &partitions, manifest)?;
    if let Some(files) = &manifest.bios {
        let (code, core) = (staged.target(&files.boot_sector)?, staged.target(&files.core)?);
        let code = code.get(..BOOT_CODE_BYTES).ok_or(DiskError::TooBig("boot sector"))?;
        if core.len() as u64 > bios::CORE_SECTORS * SECTOR {
            return Err(DiskError::TooBig("core image of GRUB"));
        }
        disk.write_all_at(&core, CORE_LBA * SECTOR).map_err(at("write", &path))?;
        disk.write_all_at(code, 0).map_err(at("write", &path))?;
    }
    let esp = place.work.join(ESP);
    for (role, what, from) in
        [(Role::Esp, "boot files", &esp), (Role::RootA, "root", &data), (Role::VerityA, "hash tree", &tree)]
    {
        let partition = partitions.iter().find(|p| p.role == role).ok_or(DiskError::TooBig(what))?;
        if files::length(from)? > bytes_of(partition) {
            return Err(DiskError::TooBig(what));
        }
        copy_sparse(from, &disk, partition.first * SECTOR, &path)?;
        files::remove(from)?;
    }
    drop(disk);
    convert(place, format, manifest, reporter).await
}

const fn bytes_of(partition: &Partition) -> u64 {
    (partition.last + 1 - partition.first) * SECTOR
}

/// What the agent puts on the EFI system partition, for UEFI and for BIOS, and what the first start needs.
async fn fill_esp(place: &Place<'_>, staged: &Staged, reporter: &mut dyn Reporter) -> Result<(), DiskError> {
    let manifest = &staged.manifest;
    let boot_image = staged.target(&manifest.uki)?;
    let loader = staged.target(&manifest.boot_loader)?;
    let ca = staged.target(&manifest.registrar_ca)?;
    let record = InstallRecord::new(manifest, None, staged.versions, None);
    let record = serde_json::to_vec_pretty(&record).map_err(DiskError::Json)?;
    let boot_path = boot_image_path(&manifest.image_version);
    let mut content: Vec<(&str, &[u8])> = vec![
        (LOADER_SETTINGS_PATH, LOADER_SETTINGS),
        (&boot_path, &boot_image),
        (LOADER_PATH, &loader),
        (FALLBACK_LOADER_PATH, &loader),
        (FIRST_START_RECORD, &record),
        (FIRST_START_CA, &ca),
    ];
    let parts = uki::parts(&boot_image).map_err(DiskError::Uki)?;
    let environment = bios::environment(parts.command_line).ok_or(DiskError::CommandLine)?;
    if manifest.bios.is_some() {
        content.push((bios::LINUX_PATH, parts.linux));
        content.push((bios::INITRD_PATH, parts.initrd));
        content.push((bios::ENVIRONMENT_PATH, &environment));
    }
    Ok(fat::put(place, ESP, &content, reporter).await?)
}

/// The table: slot A complete, slot B empty, the state still to be made.
fn write_table(disk: &mut File, partitions: &[Partition], manifest: &ImageManifest) -> Result<(), DiskError> {
    let (root, verity) = manifest.root.partition_guids().ok_or(DiskError::RootHash)?;
    let guid = |role: Role| match role {
        Role::RootA => root,
        Role::VerityA => verity,
        other => derived_guid(&manifest.root.root_hash, other.name()),
    };
    let disk_guid = derived_guid(&manifest.root.root_hash, "disk");
    let mut table = GPT::new_from(disk, SECTOR, disk_guid.to_bytes_le()).map_err(DiskError::Table)?;
    for Partition { role, first, last } in partitions {
        let unfinished = matches!(role, Role::RootB | Role::State);
        let mark = if unfinished { String::from(IN_PROGRESS) } else { String::new() };
        table[role.number()] = GPTPartitionEntry {
            partition_type_guid: role.type_guid().to_bytes_le(),
            unique_partition_guid: guid(*role).to_bytes_le(),
            starting_lba: *first,
            ending_lba: *last,
            attribute_bits: 0,
            partition_name: format!("{}{mark}", role.name()).as_str().into(),
        };
    }
    GPT::write_protective_mbr_into(disk, SECTOR).map_err(DiskError::Table)?;
    table.write_into(disk).map_err(DiskError::Table)?;
    Ok(())
}

fn copy_sparse(from: &Path, to: &File, at_byte: u64, to_path: &Path) -> Result<(), FileError> {
    let mut file = File::open(from).map_err(at("read", from))?;
    let (mut buffer, mut place) = (vec![0; 1 << 20], at_byte);
    loop {
        let length = file.read(&mut buffer).map_err(at("read", from))?;
        if length == 0 {
            return Ok(());
        }
        write_sparse(to, &buffer[..length], place).map_err(at("write", to_path))?;
        place += length as u64;
    }
}

async fn convert(
    place: &Place<'_>,
    format: Format,
    manifest: &ImageManifest,
    reporter: &mut dyn Reporter,
) -> Result<PathBuf, DiskError> {
    let (name, options): (_, &[&str]) = match format {
        Format::Qcow2 => ("disk.qcow2", &["-O", "qcow2"]),
        Format::Vmdk => ("disk.vmdk", &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
        _ => return Ok(place.work.join(RAW)),
    };
    let (raw, to) = (format!("{WORK}/{RAW}"), format!("{WORK}/{name}"));
    let arguments = ["convert", "-f", "raw"].iter().chain(options).copied().chain([raw.as_str(), to.as_str()]);
    place.sandbox().run(reporter, "qemu-img", &arguments.collect::<Vec<_>>()).await?;
    let path = place.work.join(name);
    if format == Format::Vmdk {
        fix_content_id(&path, &manifest.root.root_hash)?;
    }
    Ok(path)
}

/// The descriptor is near the file's beginning (VMware Virtual Disk Format 1.1, "The Descriptor File").
const DESCRIPTOR_WITHIN: u64 = 64 << 10;

/// qemu-img takes the content id by chance; ours follows from the image.
fn fix_content_id(path: &Path, root_hash: &str) -> Result<(), DiskError> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(at("write", path))?;
    let mut start = Vec::new();
    (&file).take(DESCRIPTOR_WITHIN).read_to_end(&mut start).map_err(at("read", path))?;
    let (from, digits) = content_id(&start).ok_or(DiskError::ContentId)?;
    let id = InputHash::default().with("vmdk", root_hash).finish();
    file.write_all_at(&id.as_bytes()[..digits], from).map_err(at("write", path))?;
    Ok(())
}

/// Where the digits of `CID=` stand, and how many there are.
fn content_id(start: &[u8]) -> Option<(u64, usize)> {
    let key = b"\nCID=";
    let from = start.windows(key.len()).position(|part| part == key)? + key.len();
    let digits = start[from..].iter().take(9).take_while(|byte| byte.is_ascii_hexdigit()).count();
    ((1..=8).contains(&digits) && start.get(from + digits) == Some(&b'\n')).then_some((from as u64, digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::manifest::{Archive, Root};

    const ROOT_HASH: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";

    fn manifest() -> ImageManifest {
        ImageManifest {
            version: 1,
            template: "till".into(),
            image_version: "1".into(),
            architecture: "x86_64".into(),
            root: Root { data_bytes: 4096, hash_bytes: 4096, root_hash: ROOT_HASH.into() },
            archive: Archive { path: "archives/a".into(), header_bytes: 1, header_sha256: "0".repeat(64), bytes: 1 },
            uki: "u".into(),
            boot_loader: "b".into(),
            registrar_ca: "r".into(),
            bios: None,
            disks: contracts::disks::DiskPolicy::default(),
            state: Default::default(),
        }
    }

    #[test]
    fn the_table_has_a_complete_slot_and_a_state_to_be_made_and_is_always_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let partitions = divide(DISK_IMAGE_BYTES, 512).unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name);
            let mut disk = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
            disk.set_len(DISK_IMAGE_BYTES).unwrap();
            write_table(&mut disk, &partitions, &manifest()).unwrap();
            let mut start = vec![0; 1 << 20];
            disk.read_exact_at(&mut start, 0).unwrap();
            (GPT::find_from(&mut disk).unwrap(), start)
        };
        let ((table, start), (_, again)) = (make("one"), make("two"));
        assert!(start == again);
        let name = |role: Role| table[role.number()].partition_name.as_str().to_owned();
        assert_eq!(name(Role::RootA), "shelfboot-root-a");
        assert_eq!((name(Role::RootB), name(Role::State)), ("shelfboot-root-b!".into(), "shelfboot-state!".into()));
        let (root, _) = contracts::manifest::guids_of(ROOT_HASH).unwrap();
        assert_eq!(table[Role::RootA.number()].unique_partition_guid, root.to_bytes_le());
    }

    #[test]
    fn the_content_id_is_found_where_it_stands_alone() {
        assert_eq!(content_id(b"# Disk DescriptorFile\nversion=1\nCID=1a2b3c4d\nparentCID=ffffffff\n"), Some((36, 8)));
        assert_eq!(content_id(b"\nCID=7\n"), Some((5, 1)));
        for bad in [&b"parentCID=ffffffff\n"[..], b"\nCID=\n", b"\nCID=123456789\n", b"\nCID=12"] {
            assert_eq!(content_id(bad), None);
        }
    }

    #[test]
    fn zeros_stay_holes_and_the_rest_comes_across() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let mut content = vec![0; 3 << 20];
        content[(2 << 20) + 5] = 7;
        std::fs::write(&from, &content).unwrap();
        let disk = File::create_new(&to).unwrap();
        disk.set_len(4 << 20).unwrap();
        copy_sparse(&from, &disk, 1 << 20, &to).unwrap();
        let copied = std::fs::read(&to).unwrap();
        assert!(copied[1 << 20..] == content && copied[..1 << 20].iter().all(|byte| *byte == 0));
        assert!(disk.metadata().unwrap().blocks() * 512 < 1 << 20, "it is not sparse");
    }
}
