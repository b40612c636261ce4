//! What kind of client sent a packet: the vendor class tells the family, the architecture (option 93, a list) whether
//! there can be a boot file for it.

use super::packet::{Packet, code};
use crate::proto::mac::Mac;
use std::fmt;

/// Blocks of addresses that Raspberry Pi has (IEEE's register of OUIs). Their boot ROM claims to be a BIOS PC.
const RASPBERRY_PI: [[u8; 3]; 7] = [
    [0xb8, 0x27, 0xeb],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0x28, 0xcd, 0xc1],
    [0xd8, 0x3a, 0xdd],
    [0x2c, 0xcf, 0x67],
    [0x88, 0xa2, 0x9e],
];

/// Processors that boot images are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Arm64,
}

impl Arch {
    /// The name that image manifests use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What kind of client sent a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Shelfboot's own agent.
    Agent,
    /// UEFI firmware that loads by TFTP. U-Boot counts: it takes the file from the header.
    UefiPxe(Arch),
    /// UEFI firmware that loads by HTTP.
    UefiHttp(Arch),
    /// iPXE on a UEFI machine, in a ROM or loaded by one.
    UefiIpxe(Arch),
    /// The PXE ROM of a BIOS machine.
    BiosPxe,
    /// iPXE on a BIOS machine, in a ROM or loaded by one.
    BiosIpxe,
    /// The boot ROM of a Raspberry Pi.
    RaspberryPi,
    /// Boot firmware of a kind that is not served.
    Unserved(u16),
    /// No boot client: a till, a printer, a phone.
    Other,
}

impl Family {
    /// Classifies a packet.
    #[must_use]
    pub fn of(packet: &Packet) -> Self {
        let class = packet.class();
        if class == contracts::discovery::VENDOR_CLASS {
            return Self::Agent;
        }
        let (http, pxe) = (class.starts_with("HTTPClient"), class.starts_with("PXEClient"));
        if !http && !pxe {
            return Self::Other;
        }
        let listed = packet.architectures();
        let first = listed.first().copied();
        // PXE's own default is BIOS (RFC 4578, section 2.1: firmware without option 93 is older than UEFI).
        let bios = pxe && first.is_none_or(|code| code == 0);
        if first == Some(0x29) || bios && packet.mac().is_some_and(is_raspberry_pi) {
            return Self::RaspberryPi;
        }
        match (listed.iter().find_map(|code| served(*code, http)), http) {
            (Some(arch), true) => Self::UefiHttp(arch),
            (Some(arch), false) if is_ipxe(packet) => Self::UefiIpxe(arch),
            (Some(arch), false) => Self::UefiPxe(arch),
            (None, _) if bios && is_ipxe(packet) => Self::BiosIpxe,
            (None, _) if bios => Self::BiosPxe,
            (None, _) => Self::Unserved(first.unwrap_or(0)),
        }
    }

    /// What people call it; nothing for what is not answered.
    #[must_use]
    pub fn title(self) -> Option<&'static str> {
        Some(match self {
            Self::UefiPxe(_) => "UEFI PXE",
            Self::UefiHttp(_) => "UEFI HTTP Boot",
            Self::UefiIpxe(_) => "iPXE on UEFI",
            Self::BiosPxe => "BIOS PXE",
            Self::BiosIpxe => "iPXE on BIOS",
            Self::Agent | Self::RaspberryPi | Self::Unserved(_) | Self::Other => return None,
        })
    }
}

/// IANA's "Processor Architecture Types". Code 9 (EBC) is sent by x86-64 firmware too, because RFC 4578 had 7 and 9 the other
/// way round. 0x16 and 0x18 are U-Boot on 64-bit ARM, which starts EFI programs.
fn served(code: u16, http: bool) -> Option<Arch> {
    match (code, http) {
        (7 | 9, false) | (0x10, true) => Some(Arch::X86_64),
        (0x0b | 0x16, false) | (0x13 | 0x18, true) => Some(Arch::Arm64),
        _ => None,
    }
}

/// Why firmware of an architecture is not served, and what helps.
pub(super) fn unserved(architecture: u16) -> String {
    match architecture {
        0x14 => "it is BIOS firmware that boots over HTTP, which is not served: switch it to PXE".into(),
        0x06 | 0x0f => "it is 32-bit UEFI firmware, and there is only a 64-bit boot image".into(),
        0x0a | 0x12 | 0x15 | 0x17 => "it is a 32-bit ARM machine, which is not served".into(),
        0x19..=0x1e => "it is a RISC-V machine, which is not served".into(),
        0x25..=0x28 => "it is a LoongArch machine, which is not served".into(),
        other => format!("there is no boot image for its architecture ({other:#04x})"),
    }
}

fn is_raspberry_pi(mac: Mac) -> bool {
    RASPBERRY_PI.iter().any(|block| mac.0.starts_with(block))
}

/// iPXE sends its features in option 175. Builds without it still send the user class, as bare text where RFC 3004
/// wants a length before it.
pub(super) fn is_ipxe(packet: &Packet) -> bool {
    let class = packet.option(code::USER_CLASS).unwrap_or_default();
    packet.option(code::IPXE).is_some() || matches!(class, b"iPXE" | b"\x04iPXE")
}
