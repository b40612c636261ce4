//! `cargo xtask dist`: the programs as they are handed out, static and stripped.

use crate::{checkout, output};
use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use qemu_tests::{
    journey::table::mebibytes,
    materials::programs::{TARGET, static_build},
    process,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Arguments of `dist`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The parts to build; without any, all of them.
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
}

/// A program that is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    ImageBuilder,
    Netboot,
    Registrar,
    FirstbootAgent,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::ImageBuilder => "image-builder",
            Self::Netboot => "netboot",
            Self::Registrar => "registrar",
            Self::FirstbootAgent => "firstboot-agent",
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let parts = if arguments.parts.is_empty() { Part::value_variants() } else { &arguments.parts };
    let folder = checkout().join("dist");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for part in parts {
        let built = build(*part)?;
        check_static(&built)?;
        let place = folder.join(part.name());
        publish(&built, &place)?;
        let bytes = fs::metadata(&place).with_context(|| format!("looking at {}", place.display()))?.len();
        output::results().line(format!("{:<16} {:>10}  dist/{0}", part.name(), mebibytes(bytes)));
    }
    Ok(())
}

/// Builds one part by itself: cargo would join the features that several parts ask of a library.
fn build(part: Part) -> Result<PathBuf> {
    output::progress()
        .line(format!("{}: cargo build --profile dist (minutes: the whole program is optimized)", part.name()));
    let status =
        static_build(checkout(), "dist").args(["--package", part.name()]).status().context("starting cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(target_folder()?.join(TARGET).join("dist").join(part.name()))
}

/// Where cargo builds here, whatever names it: a variable, a setting or nothing.
fn target_folder() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(checkout()).args(["metadata", "--no-deps", "--locked", "--format-version", "1"]);
    let metadata: serde_json::Value =
        serde_json::from_str(&process::output(&mut command)?).context("cargo metadata")?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?.into())
}

/// Refuses a program that would look for a dynamic linker, or still has its symbols.
fn check_static(program: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    for kind in segments(&bytes).context("not a 64-bit ELF program")? {
        // PT_INTERP names the dynamic linker.
        if kind == 3 {
            bail!("{} is not static: it asks for a dynamic linker", program.display());
        }
    }
    ensure!(!has_symbols(&bytes).context("not a 64-bit ELF program")?, "{} is not stripped", program.display());
    Ok(())
}

/// Types of the program headers (System V ABI, ELF-64).
fn segments(bytes: &[u8]) -> Option<Vec<u32>> {
    let (offset, size, count) = (number(bytes, 32, 8)?, number(bytes, 54, 2)?, number(bytes, 56, 2)?);
    (0..count).map(|index| number(bytes, offset + index * size, 4).and_then(|kind| kind.try_into().ok())).collect()
}

/// True when there is a section SHT_SYMTAB.
fn has_symbols(bytes: &[u8]) -> Option<bool> {
    let (offset, size, count) = (number(bytes, 40, 8)?, number(bytes, 58, 2)?, number(bytes, 60, 2)?);
    let mut kinds = (0..count).map(|index| number(bytes, offset + index * size + 4, 4));
    kinds.try_fold(false, |found, kind| Some(found | (kind? == 2)))
}

fn number(bytes: &[u8], at: u64, length: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let field = bytes.get(at..at.checked_add(length)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Copies beside the place and renames, so that a full disk leaves the old program or none.
fn publish(from: &Path, to: &Path) -> Result<()> {
    let beside = to.with_extension("new");
    let copied = fs::copy(from, &beside).and_then(|_| fs::rename(&beside, to));
    if copied.is_err() {
        // It may not have come into being at all.
        let _ = fs::remove_file(&beside);
    }
    copied.with_context(|| format!("writing {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_dynamic_linker_or_symbols_is_refused() {
        // This test itself is linked dynamically and has its symbols.
        let own = std::env::current_exe().unwrap();
        assert!(check_static(&own).unwrap_err().to_string().contains("not static"));
        assert_eq!(has_symbols(&fs::read(&own).unwrap()), Some(true));
        assert_eq!(segments(b"short"), None);
    }
}
