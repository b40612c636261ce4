//! Boot files for BIOS machines: iPXE as network boot program, a script for it, and kernel and initrd, which are parts
//! of the verified UKI. Nothing that is handed out here comes from anywhere else.

use super::{
    BootFile, Verified,
    ipxe::{self, FAILED, HEAD},
};
use bytes::Bytes;
use contracts::uki::{self, PeError};
use sha2::{Digest as _, Sha256};

/// The name of the network boot program. It is the same for every template.
pub const NETWORK_LOADER: &str = "undionly.kpxe";

/// Why a UKI is of no use to BIOS machines.
#[derive(Debug, thiserror::Error)]
pub enum NotForBios {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    /// It is no UKI.
    #[error(transparent)]
    Pe(#[from] PeError),
    /// iPXE would take a part of the command line for an instruction.
    #[error("its command line has characters that a boot script cannot hold: {0}")]
    CommandLine(String),
}

/// The name of a template's script.
#[must_use]
pub fn script_name(template: &str) -> String {
    format!("{template}.ipxe")
}

/// All boot files of one image for BIOS machines, by name.
pub(super) fn files(
    template: &str,
    version: &str,
    image: &Verified,
    loader: Bytes,
    base_url: &str,
) -> Result<Vec<(String, BootFile)>, NotForBios> {
    let (content, length) = (&image.content, image.content.length());
    let head = content.slice(0..HEAD).to_bytes().map_err(NotForBios::Read)?;
    let place = |name| uki::place(&head, length, name);
    let command_line = ipxe::command_line(image)?;
    let [kernel, disk] = [content.slice(place(".linux")?), content.slice(place(".initrd")?)];
    let (linux, initrd) = (format!("{template}.linux"), format!("{template}.initrd"));
    let script = script(&format!("{base_url}/boot"), &linux, &initrd, &command_line);
    let kernel_share = kernel.length() as f64 / (kernel.length() + disk.length()).max(1) as f64;
    let small = |bytes: Bytes| {
        let digest = hex::encode(Sha256::digest(&bytes));
        BootFile::new(bytes.into(), &digest, version, (0.0, 0.0))
    };
    let part = |content, name, share| BootFile::new(content, &format!("{}-{name}", image.digest), version, share);
    Ok(vec![
        (NETWORK_LOADER.to_owned(), small(loader)),
        (script_name(template), small(script.into())),
        (linux, part(kernel, "linux", (0.0, kernel_share))),
        (initrd, part(disk, "initrd", (kernel_share, 1.0))),
    ])
}

/// Whole URLs: beside another DHCP server, iPXE takes that server's address for "the server".
fn script(base: &str, linux: &str, initrd: &str, command_line: &str) -> String {
    format!(
        "#!ipxe\n\
         kernel --name linux {base}/{linux} {command_line} || goto failed\n\
         initrd --name initrd {base}/{initrd} || goto failed\n\
         boot || goto failed\n\
         {FAILED}"
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A PE file with these sections and nothing else.
    pub(in crate::boot_files) fn pe(sections: &[(&str, &[u8])]) -> Bytes {
        let mut file = vec![0; 0x40];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x40;
        file.extend(b"PE\0\0\0\0");
        file.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
        file.resize(0x40 + 24, 0);
        let mut at = file.len() + 40 * sections.len();
        for (name, content) in sections {
            let mut entry = [0_u8; 40];
            entry[..name.len()].copy_from_slice(name.as_bytes());
            let bytes = u32::try_from(content.len()).unwrap().to_le_bytes();
            entry[8..12].copy_from_slice(&bytes);
            entry[16..20].copy_from_slice(&bytes);
            entry[20..24].copy_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
            file.extend(entry);
            at += content.len();
        }
        sections.iter().for_each(|(_, content)| file.extend(*content));
        file.into()
    }

    fn made(image: &Bytes) -> Result<Vec<(String, BootFile)>, NotForBios> {
        let image = Verified { content: image.clone().into(), digest: "ab".into() };
        files("till", "7", &image, Bytes::from_static(b"ipxe"), "http://10.77.0.2")
    }

    #[test]
    fn kernel_and_initrd_are_the_signed_ones_and_the_script_names_them() {
        let image = pe(&[(".linux", b"kernel"), (".initrd", b"in"), (".cmdline", b"roothash=ab quiet\0")]);
        let files: std::collections::BTreeMap<_, _> = made(&image).unwrap().into_iter().collect();
        let bytes = |name: &str| files[name].content.to_bytes().unwrap();
        assert_eq!(&bytes("till.linux")[..], b"kernel");
        assert_eq!(&bytes("till.initrd")[..], b"in");
        assert_eq!(&bytes("undionly.kpxe")[..], b"ipxe");
        let script = String::from_utf8(bytes("till.ipxe").to_vec()).unwrap();
        assert!(script.starts_with("#!ipxe\n"));
        assert!(script.contains("http://10.77.0.2/boot/till.linux roothash=ab quiet ||"), "{script}");
        assert!(script.contains("http://10.77.0.2/boot/till.initrd ||"), "{script}");
        // The store page says "handed out whole" at the initrd's end and not before.
        assert_eq!(files["till.ipxe"].progress(1.0), 0.0);
        assert_eq!(files["till.linux"].progress(1.0), files["till.initrd"].progress(0.0));
        assert_eq!(files["till.initrd"].progress(1.0), 1.0);
    }

    #[test]
    fn a_command_line_that_is_more_than_text_is_refused() {
        for bad in ["${net0/mac}", "a || shell", "a\nshell"] {
            let image = pe(&[(".linux", b"k"), (".initrd", b"i"), (".cmdline", bad.as_bytes())]);
            assert!(made(&image).is_err(), "{bad:?}");
        }
        let no_line = made(&pe(&[(".linux", b"k")])).unwrap_err();
        assert!(matches!(no_line, NotForBios::Pe(PeError::NoSection(".cmdline"))));
    }

    proptest! {
        #[test]
        fn a_damaged_image_is_survived(at in 0_usize..400, byte: u8) {
            let mut bytes = pe(&[(".linux", b"kernel"), (".initrd", b"in"), (".cmdline", b"quiet")]).to_vec();
            let place = at % bytes.len();
            bytes[place] = byte;
            if let Ok(files) = made(&bytes.into()) {
                prop_assert_eq!(files.len(), 4);
            }
        }
    }
}
