//! The TPM's register 15. The key of the state is given out only while it is zero, so it is given out until the boot image has
//! extended it, and not again before the next start: whatever runs in the installed system, or came with a state partition that
//! somebody put in the place of ours, cannot ask for it.

use anyhow::{Context as _, Result, ensure};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
};

/// The register: "system identity" in the list of the UAPI group (Linux TPM PCR Registry), of which firmware and boot loaders
/// write nothing.
pub const REGISTER: u32 = 15;
/// Through the kernel's resource manager.
const DEVICE: &str = "/dev/tpmrm0";
/// TPM_ALG_SHA256.
const SHA256: u16 = 0x000b;

/// Extends the register, so that the TPM gives the key of the state out no more. Nothing is done where there is no TPM 2.0.
///
/// # Errors
/// When the TPM refuses.
pub fn close_the_door() -> Result<()> {
    if !Path::new(DEVICE).exists() {
        return Ok(());
    }
    let mut device = File::options().read(true).write(true).open(DEVICE).context("opening the TPM")?;
    device.write_all(&extend(REGISTER, &[0xff; 32])).context("asking the TPM")?;
    let mut answer = [0; 256];
    let length = device.read(&mut answer).context("reading the TPM's answer")?;
    let code = code_of(&answer[..length]).context("the TPM's answer is too short")?;
    ensure!(code == 0, "the TPM refuses to extend register {REGISTER} (response code {code:#x})");
    Ok(())
}

/// TPM2_PCR_Extend with an empty password (TPM 2.0 Library, part 3, section 22.2; part 1, 19.4).
fn extend(register: u32, digest: &[u8; 32]) -> Vec<u8> {
    const SESSIONS: u16 = 0x8002;
    const PCR_EXTEND: u32 = 0x0182;
    const PASSWORD: u32 = 0x4000_0009;
    let mut body = Vec::new();
    body.extend(register.to_be_bytes());
    body.extend(9u32.to_be_bytes());
    body.extend(PASSWORD.to_be_bytes());
    // No nonce, no attributes, an empty password.
    body.extend([0; 5]);
    body.extend(1u32.to_be_bytes());
    body.extend(SHA256.to_be_bytes());
    body.extend(digest);
    let mut command = Vec::new();
    command.extend(SESSIONS.to_be_bytes());
    command.extend((body.len() as u32 + 10).to_be_bytes());
    command.extend(PCR_EXTEND.to_be_bytes());
    command.extend(body);
    command
}

/// The response code in the header of an answer: tag (2), length (4), code (4).
fn code_of(answer: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(answer.get(6..10)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_as_long_as_it_says() {
        let command = extend(15, &[0xff; 32]);
        assert_eq!(command.len(), 65);
        assert_eq!(command[..14], [0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, 15]);
        assert_eq!(command[14..27], [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        assert_eq!(command[27..33], [0, 0, 0, 1, 0, 0x0b]);
    }

    #[test]
    fn an_answer_may_be_cut() {
        assert_eq!(code_of(&[0x80, 0x02, 0, 0, 0, 19, 0, 0, 1, 0x1d, 0]), Some(0x11d));
        assert_eq!(code_of(&[0x80, 0x02, 0, 0]), None);
    }
}
