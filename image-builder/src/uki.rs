//! The unified kernel image: kernel, initrd, command line and os-release in one signed PE file.

use crate::{
    command::CommandError,
    files::{self, FileError},
    keys::{Keys, boot::BootKeyError},
    report::Reporter,
    roots::Root,
    tools::{TREE, Tools, WORK},
};
use std::path::{Path, PathBuf};

/// Why there is no UKI.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The key.
    #[error(transparent)]
    Sign(#[from] BootKeyError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The command line, which is signed and the same everywhere: it never says whether to install. The template's arguments come
/// last, so that they win where the kernel takes the last one.
#[must_use]
pub fn command_line(root_hash: &str, arguments: &[String]) -> String {
    let own = format!("roothash={root_hash} console=tty0 console=ttyS0,115200 panic=30 quiet");
    arguments.iter().fold(own, |line, argument| line + " " + argument)
}

/// What systemd-boot reads of a UKI. All have the same sort key and no version, so that the file's name alone decides which comes
/// first (systemd-boot(7), "Sorting"): the agent names the files so that a version on trial does, older or newer.
const OS_RELEASE: &str = "ID=shelfboot\nNAME=Shelfboot\nPRETTY_NAME=Shelfboot\n";

/// The signed programs that firmware starts.
#[derive(Debug)]
pub struct Signed {
    /// The UKI.
    pub uki: PathBuf,
    /// systemd-boot.
    pub boot_loader: PathBuf,
}

/// What a UKI is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The root, for its kernel.
    pub root: &'a Root,
    /// The packed archives that the initrd consists of, in order.
    pub initrds: &'a [PathBuf],
    /// The root hash, for the command line.
    pub root_hash: &'a str,
    /// The template's arguments, for the same.
    pub arguments: &'a [String],
}

/// Joins and signs the UKI, and signs the boot loader.
///
/// # Errors
/// See [`UkiError`].
pub async fn make(
    tools: &Tools,
    work: &Path,
    parts: &Parts<'_>,
    keys: &Keys,
    reporter: &mut dyn Reporter,
) -> Result<Signed, UkiError> {
    let kernel = &parts.root.kernel;
    files::write(&work.join("cmdline"), command_line(parts.root_hash, parts.arguments).as_bytes(), 0o644)?;
    files::write(&work.join("os-release"), OS_RELEASE.as_bytes(), 0o644)?;
    let sandbox = tools.sandbox(work).bind(&parts.root.packages, TREE);
    let mut arguments = vec![
        "build".to_owned(),
        format!("--linux={TREE}/boot/vmlinuz-{kernel}"),
        format!("--cmdline=@{WORK}/cmdline"),
        format!("--os-release=@{WORK}/os-release"),
        format!("--uname={kernel}"),
        format!("--output={WORK}/uki.unsigned.efi"),
    ];
    for (number, initrd) in parts.initrds.iter().enumerate() {
        let name = format!("initrd-{number}.zst");
        files::link_or_copy(initrd, &work.join(&name))?;
        arguments.push(format!("--initrd={WORK}/{name}"));
    }
    sandbox.run(reporter, "ukify", &arguments).await?;
    let signed = Signed { uki: work.join("uki.efi"), boot_loader: work.join("systemd-bootx64.efi") };
    let key = keys.boot_key()?;
    key.sign(&work.join("uki.unsigned.efi"), &signed.uki)?;
    key.sign(&tools.path().join("usr/lib/systemd/boot/efi/systemd-bootx64.efi"), &signed.boot_loader)?;
    Ok(signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_the_documented_one() {
        insta::assert_snapshot!(command_line(&"ab".repeat(32), &[]));
    }

    #[test]
    fn arguments_of_templates_come_last_and_fit_on_bios_machines() {
        let line =
            command_line(&"ab".repeat(32), &["console=ttyS1".into(), "x".repeat(profiles::MOST_KERNEL_BYTES - 15)]);
        assert!(line.contains(" quiet console=ttyS1 xxx"));
        assert!(contracts::bios::environment(&line).is_some());
    }
}
