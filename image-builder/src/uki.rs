//! The unified kernel image: kernel, initrd, command line and os-release in one signed PE file.

use crate::{
    command::CommandError,
    files::{self, FileError},
    keys::Keys,
    report::Reporter,
    tools::{KEYS, TREE, Tools, WORK},
};
use std::path::{Path, PathBuf};

/// Why there is no UKI.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The command line, which is signed and the same everywhere: it never says whether to install.
#[must_use]
pub fn command_line(root_hash: &str) -> String {
    format!("roothash={root_hash} console=tty0 console=ttyS0,115200 panic=30 quiet")
}

/// The signed programs that firmware starts.
#[derive(Debug)]
pub struct Signed {
    /// The UKI.
    pub uki: PathBuf,
    /// systemd-boot.
    pub boot_loader: PathBuf,
}

/// Joins and signs the UKI, and signs the boot loader. `initrd.zst` lies in the work folder already.
///
/// # Errors
/// See [`UkiError`].
pub async fn make(
    tools: &Tools,
    work: &Path,
    root: &Path,
    kernel: &str,
    root_hash: &str,
    keys: &Keys,
    reporter: &mut dyn Reporter,
) -> Result<Signed, UkiError> {
    files::write(&work.join("cmdline"), command_line(root_hash).as_bytes(), 0o644)?;
    let sandbox = tools.sandbox(work).bind(root, TREE).bind(&keys.secure_boot(), KEYS);
    let arguments = [
        "build".to_owned(),
        format!("--linux={TREE}/boot/vmlinuz-{kernel}"),
        format!("--initrd={WORK}/initrd.zst"),
        format!("--cmdline=@{WORK}/cmdline"),
        format!("--os-release=@{TREE}/usr/lib/os-release"),
        format!("--uname={kernel}"),
        format!("--output={WORK}/uki.unsigned.efi"),
    ];
    sandbox.run(reporter, "ukify", &arguments).await?;
    let loader = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
    for (input, output) in [(format!("{WORK}/uki.unsigned.efi").as_str(), "uki.efi"), (loader, "systemd-bootx64.efi")] {
        let arguments = [
            format!("--key={KEYS}/db.key"),
            format!("--cert={KEYS}/db.crt"),
            format!("--output={WORK}/{output}"),
            input.to_owned(),
        ];
        sandbox.run(reporter, "sbsign", &arguments).await?;
    }
    Ok(Signed { uki: work.join("uki.efi"), boot_loader: work.join("systemd-bootx64.efi") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_the_documented_one() {
        insta::assert_snapshot!(command_line(&"ab".repeat(32)));
    }
}
