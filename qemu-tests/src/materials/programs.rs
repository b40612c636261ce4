//! Our own programs, as a user gets them: release profile, static, so that they run in any root and any guest.

use crate::{cache::Cache, report::Report, sandbox};
use anyhow::{Context as _, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What everything of ours is built for: the host's own target, so that rustup need not install another one.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where our programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Builds images.
    pub image_builder: PathBuf,
    /// The store service.
    pub netboot: PathBuf,
    /// PID 1 of the initrd.
    pub agent: PathBuf,
    /// The region's side.
    pub registrar: PathBuf,
}

/// Builds the four programs from the checkout. Cargo itself finds out what has to be done again.
///
/// # Errors
/// When cargo fails; it has then shown why.
pub fn make(cache: &Cache, checkout: &Path, report: &Report) -> Result<Programs> {
    report.line("programs: cargo build --release (a few minutes the first time)");
    let target_folder = cache.folder("programs")?;
    let status = static_build(checkout, "release", TARGET)
        .args(["image-builder", "netboot", "firstboot-agent", "registrar"].map(|p| format!("--package={p}")))
        .env("CARGO_TARGET_DIR", &target_folder)
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    let folder = target_folder.join(TARGET).join("release");
    Ok(Programs {
        image_builder: folder.join("image-builder"),
        netboot: folder.join("netboot"),
        agent: folder.join("firstboot-agent"),
        registrar: folder.join("registrar"),
    })
}

/// `cargo build` with a profile, for programs that need nothing of the machine that they run on. The packages are for the
/// caller to name.
#[must_use]
pub fn static_build(checkout: &Path, profile: &str, target: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = sandbox::tied(&cargo);
    let mut flags = "-Ctarget-feature=+crt-static".to_owned();
    if profile == "dist" {
        // What is handed out unwinds no stack (`panic = "abort"`). The path is seen from the workspace, where cargo starts rustc.
        flags += " -Cforce-unwind-tables=no -Clink-arg=-Wl,-T,xtask/no-unwind.ld";
    }
    if profile == "dist" && target == TARGET {
        // Relocations as a bitmap: a third of a megabyte less. The C library reads it since glibc 2.36.
        // The linker is GNU's, see no-unwind.ld.
        flags += " -Clinker-features=-lld -Clink-arg=-Wl,-z,pack-relative-relocs";
    }
    command
        .current_dir(checkout)
        .args(["build", "--profile", profile, "--locked", "--target", target])
        .env("RUSTFLAGS", flags)
        // Set for us by `cargo run`; it would undo the setting above for build scripts that look at it.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        // Cargo's own progress goes to stderr, where it belongs.
        .stdout(Stdio::null());
    command
}
