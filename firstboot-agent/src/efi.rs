//! UEFI variables: how this boot image was started, and what the firmware starts next.
//! Encoding follows the UEFI specification 2.10, sections 3.1.3 (load options) and 10.3 (device paths).

use anyhow::{Context, Result, bail};
use std::{fs, path::Path};
use uuid::Uuid;

const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// `EFI_GLOBAL_VARIABLE`, the vendor of the specification's own variables.
pub const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`, the vendor of `db` and `dbx`.
pub const IMAGE_SECURITY: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
/// systemd's boot loader interface (UAPI Boot Loader Interface).
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS
const PERSISTENT: u32 = 7;
/// What our entry is called in the firmware's menu.
const DESCRIPTION: &str = "Shelfboot";

/// True when this machine was started by UEFI.
#[must_use]
pub fn present() -> bool {
    Path::new("/sys/firmware/efi").is_dir()
}

/// The GUID of the partition from which this UKI was started; `None` when it came from somewhere else.
#[must_use]
pub fn loader_partition() -> Option<Uuid> {
    let value = read("LoaderDevicePartUUID", LOADER)?;
    Uuid::parse_str(utf16(&value)?.trim()).ok()
}

/// The path of the program that the firmware started first, as a boot loader or this UKI says it.
#[must_use]
pub fn loader_path() -> Option<String> {
    utf16(&read("LoaderImageIdentifier", LOADER)?)
}

/// The variable `SecureBoot`; `None` where there is none.
#[must_use]
pub fn secure_boot() -> Option<bool> {
    read("SecureBoot", GLOBAL)?.first().map(|byte| *byte == 1)
}

/// The variable `SetupMode`: keys can be enrolled by anybody. `None` where there is none.
#[must_use]
pub fn setup_mode() -> Option<bool> {
    read("SetupMode", GLOBAL)?.first().map(|byte| *byte == 1)
}

/// Where a boot file lies.
#[derive(Debug, Clone, Copy)]
pub struct BootFile<'a> {
    /// The partition's number in its table, from 1.
    pub partition: u32,
    /// First sector of the partition.
    pub start: u64,
    /// Sectors in the partition.
    pub sectors: u64,
    /// The partition's GUID.
    pub guid: Uuid,
    /// Path with backslashes, from the root of its file system.
    pub path: &'a str,
}

/// Makes the firmware start `file` next, and first from then on. Returns the entry's number.
///
/// # Errors
/// When the firmware does not take a variable.
pub fn boot_from_disk(file: BootFile<'_>) -> Result<u16> {
    let number = put_first(file)?;
    write("BootNext", &number.to_le_bytes())?;
    Ok(number)
}

fn put_first(file: BootFile<'_>) -> Result<u16> {
    let order = read("BootOrder", GLOBAL).unwrap_or_default();
    let order: Vec<u16> = order.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    let number = our_entry(&entries()?).context("all 65536 boot entries are taken")?;
    write(&format!("Boot{number:04X}"), &load_option(DESCRIPTION, file))?;
    let mut new_order = vec![number];
    new_order.extend(order.into_iter().filter(|n| *n != number));
    write("BootOrder", &new_order.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())?;
    Ok(number)
}

/// Puts our entry right where the firmware has forgotten it, changed it, or tries something else first. Nothing is written where
/// nothing is wrong: the firmware's memory wears out. True when something was put right.
///
/// # Errors
/// When the firmware does not take a variable.
pub fn keep_first(file: BootFile<'_>) -> Result<bool> {
    let option = load_option(DESCRIPTION, file);
    let order = read("BootOrder", GLOBAL).unwrap_or_default();
    let first = order.get(..2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    let right = first.is_some_and(|number| read(&format!("Boot{number:04X}"), GLOBAL).as_ref() == Some(&option));
    if !right {
        put_first(file)?;
    }
    Ok(!right)
}

/// All boot entries: number and description.
fn entries() -> Result<Vec<(u16, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(VARIABLES).context("reading the firmware's variables")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(number) = name.strip_prefix("Boot").and_then(|rest| rest.strip_suffix(&format!("-{GLOBAL}"))) else {
            continue;
        };
        let (4, Ok(number)) = (number.len(), u16::from_str_radix(number, 16)) else { continue };
        let value = read(&format!("Boot{number:04X}"), GLOBAL).unwrap_or_default();
        // u32 attributes, u16 length of the device path, then the description.
        found.push((number, value.get(6..).and_then(utf16).unwrap_or_default()));
    }
    Ok(found)
}

/// One entry of the firmware's boot order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootOption {
    /// What the firmware's menu calls it.
    pub description: String,
    /// The firmware tries it.
    pub active: bool,
    /// It asks the network.
    pub network: bool,
}

/// What the firmware tries, in its order; `None` where it does not say.
#[must_use]
pub fn boot_order() -> Option<Vec<BootOption>> {
    let order = read("BootOrder", GLOBAL)?;
    let numbers = order.chunks_exact(2).take(MOST_OPTIONS).map(|b| u16::from_le_bytes([b[0], b[1]]));
    Some(numbers.filter_map(|number| boot_option(&read(&format!("Boot{number:04X}"), GLOBAL)?)).collect())
}

/// Firmware has a few dozen.
const MOST_OPTIONS: usize = 64;

/// Reads an `EFI_LOAD_OPTION`; `None` when it is none. It asks the network when a node of its device path is a MAC address (UEFI 2.10,
/// section 10.3.4.11: messaging device path, subtype 11).
#[must_use]
pub fn boot_option(value: &[u8]) -> Option<BootOption> {
    let attributes = value.get(..4)?;
    let path_bytes = usize::from(u16::from_le_bytes([*value.get(4)?, *value.get(5)?]));
    let rest = value.get(6..)?;
    let end = rest.chunks_exact(2).position(|unit| unit == [0, 0])? * 2;
    let description = utf16(&rest[..end])?.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut path = rest.get(end + 2..)?.get(..path_bytes)?;
    let mut network = false;
    while let [kind, subtype, low, high, ..] = *path {
        network |= (kind, subtype) == (3, 11);
        let length = usize::from(u16::from_le_bytes([low, high]));
        // The end of the path, or nonsense.
        if kind == 0x7f || length < 4 || length > path.len() {
            break;
        }
        path = &path[length..];
    }
    Some(BootOption { description, active: attributes[0] & 1 == 1, network })
}

/// The number of our entry, or the lowest free one: a reinstall replaces the entry instead of adding one.
fn our_entry(entries: &[(u16, String)]) -> Option<u16> {
    let ours = entries.iter().find(|(_, description)| description == DESCRIPTION).map(|(number, _)| *number);
    ours.or_else(|| (0..=u16::MAX).find(|n| entries.iter().all(|(number, _)| number != n)))
}

/// An `EFI_LOAD_OPTION` that starts a file on a GPT partition.
fn load_option(description: &str, file: BootFile<'_>) -> Vec<u8> {
    let mut path = Vec::new();
    // Media device path, hard drive: type 4, subtype 1, 42 bytes.
    path.extend([4, 1, 42, 0]);
    path.extend(file.partition.to_le_bytes());
    path.extend(file.start.to_le_bytes());
    path.extend(file.sectors.to_le_bytes());
    path.extend(file.guid.to_bytes_le());
    path.extend([2, 2]); // GPT, signature is a GUID
    // Media device path, file path: type 4, subtype 4.
    let name = ucs2(file.path);
    let length = u16::try_from(4 + name.len()).unwrap_or(u16::MAX);
    path.extend([4, 4]);
    path.extend(length.to_le_bytes());
    path.extend(name);
    path.extend([0x7f, 0xff, 4, 0]); // end

    let mut option = Vec::new();
    option.extend(1u32.to_le_bytes()); // LOAD_OPTION_ACTIVE
    option.extend(u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
    option.extend(ucs2(description));
    option.extend(path);
    option
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let units: Vec<u16> =
        bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).take_while(|unit| *unit != 0).collect();
    String::from_utf16(&units).ok()
}

/// A variable's value without the four bytes of attributes that efivarfs puts before it.
#[must_use]
pub fn read(name: &str, vendor: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(format!("{VARIABLES}/{name}-{vendor}")).ok()?;
    bytes.get(4..).map(<[u8]>::to_vec)
}

fn write(name: &str, value: &[u8]) -> Result<()> {
    let path = format!("{VARIABLES}/{name}-{GLOBAL}");
    let mut bytes = PERSISTENT.to_le_bytes().to_vec();
    bytes.extend(value);
    // efivarfs takes a variable in one write.
    fs::write(&path, bytes).with_context(|| format!("setting the firmware variable {name}"))?;
    if read(name, GLOBAL).as_deref() != Some(value) {
        bail!("the firmware did not keep the variable {name}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_option_has_the_layout_of_the_specification() {
        let guid = Uuid::parse_str("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        let option =
            load_option("AB", BootFile { partition: 1, start: 2048, sectors: 4096, guid, path: "\\EFI\\X.EFI" });
        assert_eq!(option[..4], [1, 0, 0, 0]);
        let path_bytes = usize::from(u16::from_le_bytes([option[4], option[5]]));
        assert_eq!(option[6..12], [b'A', 0, b'B', 0, 0, 0]);
        let path = &option[12..];
        assert_eq!(path.len(), path_bytes);
        assert_eq!(path[..8], [4, 1, 42, 0, 1, 0, 0, 0]);
        assert_eq!(path[24..28], [0x33, 0x22, 0x11, 0x00], "GUIDs are mixed-endian on disk and in device paths");
        assert_eq!(path[40..42], [2, 2]);
        assert_eq!(path[42..46], [4, 4, 4 + 22, 0]);
        assert_eq!(path[path.len() - 4..], [0x7f, 0xff, 4, 0]);
    }

    #[test]
    fn a_network_option_is_known_by_its_device_path() {
        let mut option = vec![1, 0, 0, 0, 45, 0];
        option.extend(ucs2("UEFI PXEv4"));
        option.extend([2, 1, 4, 0]);
        let mut mac = vec![3, 11, 37, 0];
        mac.resize(37, 0);
        option.extend(mac);
        option.extend([0x7f, 0xff, 4, 0]);
        let read = boot_option(&option).unwrap();
        assert_eq!(read, BootOption { description: "UEFI PXEv4".into(), active: true, network: true });
        option[0] = 0;
        assert!(!boot_option(&option).unwrap().active);
        let guid = Uuid::from_u128(1);
        let disk = load_option("AB", BootFile { partition: 1, start: 2048, sectors: 4096, guid, path: "\\X" });
        assert_eq!(boot_option(&disk).unwrap(), BootOption { description: "AB".into(), active: true, network: false });
        assert_eq!(boot_option(&option[..8]), None);
    }

    proptest::proptest! {
        #[test]
        fn any_boot_option_is_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Some(option) = boot_option(&bytes) {
                assert!(!option.description.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn our_entry_is_found_again_and_others_are_kept() {
        let entries = [(0, "UiApp".to_owned()), (1, "PXE".to_owned()), (7, DESCRIPTION.to_owned())];
        assert_eq!(our_entry(&entries), Some(7));
        assert_eq!(our_entry(&entries[..2]), Some(2));
    }
}
