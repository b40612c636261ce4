//! The unified kernel image: kernel, initrd, command line and os-release in one signed PE file.

use crate::{
    command::CommandError,
    debian,
    files::{self, FileError},
    keys::Keys,
    report::Reporter,
    roots::Root,
    tools::{KEYS, TREE, Tools, WORK},
};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

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

/// The command line, which is signed and the same everywhere: it never says whether to install. The template's arguments come
/// last, so that they win where the kernel takes the last one.
#[must_use]
pub fn command_line(root_hash: &str, arguments: &[String]) -> String {
    let own = format!("roothash={root_hash} console=tty0 console=ttyS0,115200 panic=30 quiet");
    arguments.iter().fold(own, |line, argument| line + " " + argument)
}

/// Answers programs that ask for the time with FAKETIME (faketime(1)).
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A time that stands still, in faketime's form.
fn frozen_at(time: OffsetDateTime) -> String {
    let (date, (hour, minute, second)) = (time.to_offset(time::UtcOffset::UTC).date(), time.to_hms());
    format!("{date} {hour:02}:{minute:02}:{second:02}")
}

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
    /// The initrd's base; `own.zst` lies in the work folder.
    pub initrd: &'a Path,
    /// The root hash, for the command line.
    pub root_hash: &'a str,
    /// The template's arguments, for the same.
    pub arguments: &'a [String],
    /// The time that the signature carries.
    pub built_at: OffsetDateTime,
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
    files::link_or_copy(parts.initrd, &work.join("initrd.zst"))?;
    let sandbox = tools.sandbox(work).bind(&parts.root.packages, TREE).bind(&keys.secure_boot(), KEYS);
    let arguments = [
        "build".to_owned(),
        format!("--linux={TREE}/boot/vmlinuz-{kernel}"),
        format!("--initrd={WORK}/initrd.zst"),
        format!("--initrd={WORK}/own.zst"),
        format!("--cmdline=@{WORK}/cmdline"),
        format!("--os-release=@{TREE}/usr/lib/os-release"),
        format!("--uname={kernel}"),
        format!("--output={WORK}/uki.unsigned.efi"),
    ];
    sandbox.run(reporter, "ukify", &arguments).await?;
    let loader = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
    // The same loader is the same file in every image.
    let packaged = OffsetDateTime::from_unix_timestamp(debian::PACKAGE_EPOCH).unwrap_or(parts.built_at);
    let unsigned = format!("{WORK}/uki.unsigned.efi");
    for (input, output, at) in
        [(unsigned.as_str(), "uki.efi", parts.built_at), (loader, "systemd-bootx64.efi", packaged)]
    {
        let sandbox = sandbox.clone().variable("LD_PRELOAD", FAKETIME).variable("FAKETIME", frozen_at(at));
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
        insta::assert_snapshot!(command_line(&"ab".repeat(32), &[]));
    }

    #[test]
    fn arguments_of_templates_come_last_and_fit_on_bios_machines() {
        let line =
            command_line(&"ab".repeat(32), &["console=ttyS1".into(), "x".repeat(profiles::MOST_KERNEL_BYTES - 15)]);
        assert!(line.contains(" quiet console=ttyS1 xxx"));
        assert!(contracts::bios::environment(&line).is_some());
    }

    #[test]
    fn the_time_of_a_signature_stands_still() {
        assert_eq!(frozen_at(time::macros::datetime!(2026-11-01 07:05:09 UTC)), "2026-11-01 07:05:09");
    }
}
