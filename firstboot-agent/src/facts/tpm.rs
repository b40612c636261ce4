//! The TPM: its version from sysfs, its maker from the TPM itself. One question, which changes nothing in it.

use super::System;
use contracts::facts::Tpm;
use std::{
    fs::File,
    io::{Read as _, Write as _},
};

/// TPM2_GetCapability for one property, TPM_PT_MANUFACTURER (TPM 2.0 Library, part 3, section 30.2; part 2, 6.13).
const ASK_MANUFACTURER: [u8; 22] =
    [0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 6, 0, 0, 0x01, 0x05, 0, 0, 0, 1];

/// The first TPM; `None` when there is none. `ask` also asks it who made it.
pub(super) fn read(system: &System, ask: bool) -> Option<Tpm> {
    let version = system.number("sys/class/tpm/tpm0/tpm_version_major").and_then(|n| u32::try_from(n).ok());
    let folder = system.path("sys/class/tpm/tpm0");
    if version.is_none() && !folder.exists() {
        return None;
    }
    let version = version.unwrap_or(1);
    let manufacturer = if version == 1 {
        system.text("sys/class/tpm/tpm0/device/caps").and_then(|caps| of_caps(&caps))
    } else if ask {
        // Through the kernel's resource manager, which others may use at the same time.
        let opened = File::options().read(true).write(true).open(system.path("dev/tpmrm0"));
        opened.ok().and_then(|mut device| {
            device.write_all(&ASK_MANUFACTURER).ok()?;
            let mut answer = [0; 256];
            let length = device.read(&mut answer).ok()?;
            of_answer(&answer[..length])
        })
    } else {
        None
    };
    Some(Tpm { version, manufacturer: manufacturer.unwrap_or_default() })
}

/// The maker in the answer to [`ASK_MANUFACTURER`].
fn of_answer(answer: &[u8]) -> Option<String> {
    // Header of 10 bytes, more data (1), capability, count, property, value: 4 bytes each.
    let number = |at: usize| answer.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let asked = number(6)? == 0 && number(11)? == 6 && number(15)? >= 1 && number(19)? == 0x105;
    asked.then(|| letters(number(23).unwrap_or_default()))
}

/// `Manufacturer: 0x53544d20` (Linux, drivers/char/tpm/tpm-sysfs.c).
fn of_caps(caps: &str) -> Option<String> {
    let value = caps.lines().find_map(|line| line.strip_prefix("Manufacturer:"))?.trim();
    u32::from_str_radix(value.trim_start_matches("0x"), 16).ok().map(letters)
}

fn letters(value: u32) -> String {
    super::tidy(&String::from_utf8_lossy(&value.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer is what swtpm 0.7 gives.
    #[test]
    fn the_maker_stands_in_the_answer() {
        let answer =
            [&[0x80, 0x01, 0, 0, 0, 27, 0, 0, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0x01, 0x05][..], b"IBM\0"]
                .concat();
        assert_eq!(of_answer(&answer).as_deref(), Some("IBM"));
        assert_eq!(of_answer(&answer[..20]), None);
        let refused = [&answer[..6], &[0, 0, 1, 1]].concat();
        assert_eq!(of_answer(&refused), None);
        assert_eq!(of_caps("Manufacturer: 0x53544d20\nTCG version: 1.2\n").as_deref(), Some("STM"));
    }
}
