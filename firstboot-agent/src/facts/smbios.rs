//! SMBIOS tables (DMTF DSP0134 3.7), as the kernel hands them out in `/sys/firmware/dmi/tables`. Anything may stand in
//! them: lengths are checked, and what does not fit is left out.

use contracts::facts::{MemoryModule, Smbios};

/// The most that is read of the table, in bytes; real ones have some ten kilobytes.
pub const LIMIT: usize = 1 << 20;
/// The most structures and memory modules that are looked at.
const MOST_STRUCTURES: usize = 4096;
const MOST_MODULES: usize = 128;

/// What makers leave in fields that they did not fill in. Many machines share them, so they name none.
const PLACEHOLDERS: [&str; 12] = [
    "default string",
    "to be filled by o.e.m.",
    "not specified",
    "not applicable",
    "none",
    "n/a",
    "unknown",
    "system serial number",
    "base board serial number",
    "chassis serial number",
    "no asset tag",
    "0123456789",
];

/// What the tables say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Machine, board, case and firmware.
    pub smbios: Smbios,
    /// Memory modules that are there; empty slots are left out.
    pub memory: Vec<MemoryModule>,
}

/// Reads the structure table. `entry_point` says the version of the specification; without it, a new one is taken.
#[must_use]
pub fn read(entry_point: &[u8], table: &[u8]) -> Tables {
    let mut tables = Tables::default();
    let mut seen = [false; 4];
    for structure in Structures(&table[..table.len().min(LIMIT)]).take(MOST_STRUCTURES) {
        // Machines with several boards or cases name the main one first.
        if let Some(seen) = seen.get_mut(usize::from(structure.kind))
            && std::mem::replace(seen, true)
        {
            continue;
        }
        match structure.kind {
            0 => {
                tables.smbios.firmware_version =
                    join([structure.text(0x04), structure.text(0x05), structure.text(0x08)]);
            }
            1 => {
                tables.smbios.manufacturer = structure.text(0x04);
                tables.smbios.product = structure.text(0x05);
                tables.smbios.serial = structure.text(0x07);
                tables.smbios.uuid = structure.uuid(version(entry_point)).unwrap_or_default();
                tables.smbios.sku = structure.text(0x19);
            }
            2 => {
                tables.smbios.board = join([structure.text(0x04), structure.text(0x05), String::new()]);
                tables.smbios.board_serial = structure.text(0x07);
            }
            3 => {
                tables.smbios.chassis = structure.byte(0x05).map_or("", |kind| chassis(kind & 0x7f)).into();
                tables.smbios.asset_tag = structure.text(0x08);
            }
            17 if tables.memory.len() < MOST_MODULES => tables.memory.extend(structure.module()),
            _ => {}
        }
    }
    tables
}

/// Major and minor version, from the entry point of 64 or of 32 bits (sections 5.2.1 and 5.2.2).
fn version(entry_point: &[u8]) -> (u8, u8) {
    let at = match entry_point {
        [b'_', b'S', b'M', b'3', b'_', ..] => 7,
        [b'_', b'S', b'M', b'_', ..] => 6,
        _ => return (3, 0),
    };
    match entry_point.get(at..at + 2) {
        Some(&[major, minor]) => (major, minor),
        _ => (3, 0),
    }
}

/// One structure: the formatted part with its header, and the strings behind it.
struct Structure<'a> {
    kind: u8,
    formatted: &'a [u8],
    strings: &'a [u8],
}

impl Structure<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.formatted.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        self.formatted.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]))
    }

    fn double(&self, at: usize) -> Option<u32> {
        self.formatted.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// The string whose number stands at `at`; numbers count from 1. Placeholders of makers who filled in nothing are empty.
    fn text(&self, at: usize) -> String {
        let number = usize::from(self.byte(at).unwrap_or(0));
        let Some(index) = number.checked_sub(1) else { return String::new() };
        let found = self.strings.split(|byte| *byte == 0).nth(index).unwrap_or_default();
        let text = super::tidy(&String::from_utf8_lossy(found));
        if PLACEHOLDERS.contains(&text.to_lowercase().as_str()) { String::new() } else { text }
    }

    /// Before version 2.6 all of it was in the order of its digits (section 7.2.1).
    fn uuid(&self, version: (u8, u8)) -> Option<String> {
        let bytes: [u8; 16] = self.formatted.get(0x08..0x18)?.try_into().ok()?;
        if bytes == [0; 16] || bytes == [0xff; 16] {
            return None;
        }
        let uuid = if version < (2, 6) { uuid::Uuid::from_bytes(bytes) } else { uuid::Uuid::from_bytes_le(bytes) };
        Some(uuid.to_string())
    }

    /// A memory device (section 7.18); `None` for an empty slot.
    fn module(&self) -> Option<MemoryModule> {
        let bytes = match self.word(0x0c)? {
            0 => return None,
            0x7fff => u64::from(self.double(0x1c)? & 0x7fff_ffff) << 20,
            0xffff => 0,
            small if small & 0x8000 != 0 => u64::from(small & 0x7fff) << 10,
            size => u64::from(size) << 20,
        };
        let speed = self.word(0x20).filter(|speed| !matches!(speed, 0 | 0xffff)).or_else(|| self.word(0x15));
        Some(MemoryModule {
            slot: self.text(0x10),
            bytes,
            speed: speed.filter(|speed| *speed != 0xffff).map_or(0, u32::from),
            part: join([self.text(0x17), self.text(0x1a), String::new()]),
            serial: self.text(0x18),
        })
    }
}

/// Walks the structures; ends at the end-of-table structure (type 127) and where lengths make no sense.
struct Structures<'a>(&'a [u8]);

impl<'a> Iterator for Structures<'a> {
    type Item = Structure<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, length) = (*self.0.first()?, usize::from(*self.0.get(1)?));
        if kind == 127 || length < 4 {
            return None;
        }
        let formatted = self.0.get(..length)?;
        let rest = &self.0[length..];
        // Two zeros end the strings, also when there are none.
        let end = rest.windows(2).position(|pair| pair == [0, 0])?;
        self.0 = &rest[end + 2..];
        Some(Structure { kind, formatted, strings: &rest[..end] })
    }
}

fn join(parts: [String; 3]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Table 17 of the specification, for what stands in shops and racks.
const fn chassis(kind: u8) -> &'static str {
    match kind {
        0x03 => "desktop",
        0x04 => "low-profile desktop",
        0x06 => "mini tower",
        0x07 => "tower",
        0x08..=0x0a | 0x0e => "notebook",
        0x0d => "all in one",
        0x10 => "lunch box",
        0x11 => "main server chassis",
        0x17 => "rack mount chassis",
        0x1c => "blade",
        0x1d => "blade enclosure",
        0x21 => "IoT gateway",
        0x22 => "embedded PC",
        0x23 => "mini PC",
        0x24 => "stick PC",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn structure(kind: u8, formatted: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, u8::try_from(formatted.len() + 4).unwrap(), 0, 0];
        bytes.extend(formatted);
        for text in strings {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    /// A system with strings 1 to 3, its UUID and no more.
    fn system(uuid: [u8; 16]) -> Vec<u8> {
        structure(1, &[&[1, 2, 0, 3][..], &uuid].concat(), &["Intel", "NUC\u{1b}[2J", "Default string"])
    }

    #[test]
    fn a_machine_says_who_it_is() {
        let uuid: [u8; 16] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        let found = read(b"_SM3_\0\0\x03\x02", &system(uuid)).smbios;
        assert_eq!((found.manufacturer.as_str(), found.product.as_str()), ("Intel", "NUC[2J"));
        assert_eq!(found.serial, "", "a placeholder is no serial number");
        assert_eq!(found.uuid, "03020100-0504-0706-0809-0a0b0c0d0e0f");
        let old = read(b"_SM_\0\0\x02\x05", &system(uuid)).smbios;
        assert_eq!(old.uuid, "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(read(b"", &system([0xff; 16])).smbios.uuid, "");
        let twice = [system(uuid), structure(1, &[1], &["Second"])].concat();
        assert_eq!(read(b"", &twice).smbios.manufacturer, "Intel");
    }

    /// The tables of a QEMU machine that was started with `-smbios type=0,vendor=SeaBIOS-like,…`, read in it from
    /// `/sys/firmware/dmi/tables`.
    #[test]
    fn a_machine_of_qemu_says_what_it_was_told() {
        let entry_point = include_bytes!("../../tests/samples/smbios/qemu.entry-point");
        let found = read(entry_point, include_bytes!("../../tests/samples/smbios/qemu.table"));
        let expected = Smbios {
            manufacturer: "Shop".into(),
            product: "Box".into(),
            serial: "SN0042".into(),
            uuid: "00112233-4455-6677-8899-aabbccddeeff".into(),
            sku: "SKU1".into(),
            board: "BoardCo B1".into(),
            board_serial: "BSN".into(),
            chassis: String::new(),
            asset_tag: "0042".into(),
            firmware_version: "SeaBIOS-like 1.2.3 08/30/2022".into(),
        };
        assert_eq!(found.smbios, expected);
        let module = MemoryModule {
            slot: "DIMM 0".into(),
            bytes: 512 << 20,
            speed: 3200,
            part: "MemCo PN1".into(),
            serial: "MSN".into(),
        };
        assert_eq!(found.memory, [module]);
    }

    #[test]
    fn memory_is_counted_in_three_ways() {
        let module = |size: u16, extended: u32| {
            let mut formatted = vec![0; 0x22 - 4];
            formatted[0x0c - 4..0x0e - 4].copy_from_slice(&size.to_le_bytes());
            formatted[0x1c - 4..0x20 - 4].copy_from_slice(&extended.to_le_bytes());
            formatted[0x10 - 4] = 1;
            formatted[0x15 - 4] = 100;
            structure(17, &formatted, &["DIMM 0"])
        };
        let sizes = |table: &[u8]| read(b"", table).memory.iter().map(|module| module.bytes).collect::<Vec<_>>();
        assert_eq!(sizes(&module(16384, 0)), [16 << 30]);
        assert_eq!(sizes(&module(0x7fff, 65536)), [64 << 30]);
        assert_eq!(sizes(&module(0x8000 | 512, 0)), [512 << 10]);
        assert!(sizes(&module(0, 0)).is_empty());
        let found = read(b"", &module(1, 0)).memory;
        assert_eq!((found[0].slot.as_str(), found[0].speed), ("DIMM 0", 100));
        assert_eq!(sizes(&module(1, 0).repeat(500)).len(), MOST_MODULES);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(entry in proptest::collection::vec(any::<u8>(), 0..40), table in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let _ = read(&entry, &table);
        }

        #[test]
        fn any_damage_is_survived(at in 0_usize..200, byte in any::<u8>(), cut in 0_usize..200) {
            let mut table = [system([1; 16]), structure(3, &[1, 0x17, 0, 0, 2], &["Case", "0042"]), system([2; 16])].concat();
            let length = table.len();
            table[at % length] = byte;
            let _ = read(b"_SM3_", &table[..cut.min(length)]);
        }
    }
}
