//! A script for iPXE on UEFI machines: it starts the signed UKI with the command line that is in it.
//!
//! iPXE passes the name of what it starts as load options, and systemd-stub takes load options for the kernel's command line
//! where Secure Boot is off: without this script the UKI's own line would be lost, its console and `panic=` with it. With Secure Boot
//! the stub ignores what is passed.

use super::{BootFile, Verified, bios::NotForBios};
use bytes::Bytes;
use contracts::{bios::is_plain, uki};
use sha2::{Digest as _, Sha256};

/// The headers of a PE file are in here.
pub(super) const HEAD: u64 = 64 << 10;
/// A command line is shorter than this.
const LONGEST_COMMAND_LINE: u64 = 64 << 10;
/// What a machine does whose boot files cannot be had: nobody is there who could press a key.
pub(super) const FAILED: &str = ":failed\n\
                                 echo Shelfboot: the boot files could not be fetched or started; trying again\n\
                                 sleep 10\n\
                                 reboot\n";

/// The name of a template's script.
#[must_use]
pub fn script_name(template: &str) -> String {
    format!("{template}-efi.ipxe")
}

/// The script of one image.
pub(super) fn script(
    template: &str,
    version: &str,
    image: &Verified,
    base_url: &str,
) -> Result<(String, BootFile), NotForBios> {
    let (line, name) = (command_line(image)?, super::name_of(template));
    let text = format!("#!ipxe\nchain {base_url}/boot/{name} {line} || goto failed\n{FAILED}");
    let digest = hex::encode(Sha256::digest(&text));
    Ok((script_name(template), BootFile::new(Bytes::from(text).into(), &digest, version, (0.0, 0.0))))
}

/// The command line in a UKI, where a script can hold it.
pub(super) fn command_line(image: &Verified) -> Result<String, NotForBios> {
    let (content, length) = (&image.content, image.content.length());
    let head = content.slice(0..HEAD).to_bytes().map_err(NotForBios::Read)?;
    let place = uki::place(&head, length, ".cmdline")?;
    let text = content.slice(place.start..place.end.min(place.start + LONGEST_COMMAND_LINE));
    let text = text.to_bytes().map_err(NotForBios::Read)?;
    let line = uki::command_line(&text)?;
    if is_plain(line) { Ok(line.to_owned()) } else { Err(NotForBios::CommandLine(line.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_files::bios::tests::pe;

    fn made(sections: &[(&str, &[u8])]) -> Result<(String, BootFile), NotForBios> {
        let image = Verified { content: pe(sections).into(), digest: "ab".into() };
        script("till", "7", &image, "http://10.77.0.2")
    }

    #[test]
    fn the_script_starts_the_signed_image_with_its_own_command_line() {
        let (name, file) = made(&[(".linux", b"kernel"), (".cmdline", b"roothash=ab panic=30\0")]).unwrap();
        let text = String::from_utf8(file.content.to_bytes().unwrap().to_vec()).unwrap();
        assert_eq!(name, "till-efi.ipxe");
        assert!(
            text.starts_with("#!ipxe\nchain http://10.77.0.2/boot/till.efi roothash=ab panic=30 || goto failed\n"),
            "{text}"
        );
        assert!(text.ends_with("reboot\n"));
        assert_eq!(file.progress(1.0), 0.0, "the image is what counts");
    }

    #[test]
    fn a_command_line_that_is_more_than_text_makes_no_script() {
        for bad in ["${net0/mac}", "a || shell", "a\nshell"] {
            assert!(made(&[(".cmdline", bad.as_bytes())]).is_err(), "{bad:?}");
        }
        assert!(made(&[(".linux", b"k")]).is_err());
    }
}
