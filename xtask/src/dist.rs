//! `cargo xtask dist`: the programs as they are handed out, static and stripped, for this processor or another.

use crate::{checkout, output};
use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use contracts::exit::Code;
use qemu_tests::{
    hint::coded,
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
    /// The processor to build for. Another than this machine's needs its cross compiler, and the Rust target:
    /// `rustup target add aarch64-unknown-linux-gnu`.
    #[arg(long, value_enum, default_value_t = Processor::X86_64)]
    target: Processor,
}

/// What a program runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Processor {
    /// 64-bit PCs.
    #[value(name = TARGET)]
    X86_64,
    /// 64-bit ARM, as in many routers.
    #[value(name = "aarch64-unknown-linux-gnu")]
    Aarch64,
}

impl Processor {
    fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => TARGET,
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// `e_machine` of its programs (System V ABI).
    fn machine(self) -> u64 {
        match self {
            Self::X86_64 => 62,
            Self::Aarch64 => 183,
        }
    }

    /// Where its programs are put, below `dist/`.
    fn place(self) -> &'static str {
        match self {
            Self::X86_64 => "",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The C compiler that makes them, when it is not the machine's own, and the Debian packages that bring it.
    fn cross_compiler(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::X86_64 => None,
            Self::Aarch64 => Some(("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")),
        }
    }
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
    /// Bytes that it may have at most. netboot has to fit into a router's flash.
    fn most(self) -> Option<u64> {
        (self == Self::Netboot).then_some(8 << 20)
    }

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
    let processor = arguments.target;
    let folder = checkout().join("dist").join(processor.place());
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    for part in parts {
        let built = build(*part, processor)?;
        check_static(&built, processor)?;
        let place = folder.join(part.name());
        publish(&built, &place)?;
        let bytes = fs::metadata(&place).with_context(|| format!("looking at {}", place.display()))?.len();
        let shown = place.strip_prefix(checkout()).unwrap_or(&place).display();
        output::results().line(format!("{:<16} {:>10}  {shown}", part.name(), mebibytes(bytes)));
        if let Some(most) = part.most() {
            ensure!(bytes <= most, "{shown} has {bytes} bytes, more than {most}: see what it has gained");
        }
    }
    Ok(())
}

/// Builds one part by itself: cargo would join the features that several parts ask of a library.
fn build(part: Part, processor: Processor) -> Result<PathBuf> {
    output::progress()
        .line(format!("{}: cargo build --profile dist (minutes: the whole program is optimized)", part.name()));
    let triple = processor.triple();
    let mut command = static_build(checkout(), "dist", triple);
    let underscored = triple.replace('-', "_");
    command.env(format!("CFLAGS_{underscored}"), "-fno-asynchronous-unwind-tables -fno-unwind-tables");
    if let Some((compiler, packages)) = processor.cross_compiler() {
        if Command::new(compiler).arg("--version").output().is_err() {
            let message = format!("there is no {compiler}, which builds for {triple}");
            return Err(coded(Code::Host, message, format!("apt-get install {packages}")));
        }
        command.env(format!("CC_{underscored}"), compiler);
        command.env(format!("CARGO_TARGET_{}_LINKER", underscored.to_uppercase()), compiler);
    }
    let status = command.args(["--package", part.name()]).status().context("starting cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(target_folder()?.join(triple).join("dist").join(part.name()))
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

/// Refuses a program for another processor, one that would look for a dynamic linker, or still has its symbols.
fn check_static(program: &Path, processor: Processor) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    let machine = number(&bytes, 18, 2).context("not a 64-bit ELF program")?;
    ensure!(machine == processor.machine(), "{} is for another processor ({machine})", program.display());
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
        let here = if cfg!(target_arch = "x86_64") { Processor::X86_64 } else { Processor::Aarch64 };
        let other = if here == Processor::X86_64 { Processor::Aarch64 } else { Processor::X86_64 };
        assert!(check_static(&own, other).unwrap_err().to_string().contains("another processor"));
        assert!(check_static(&own, here).unwrap_err().to_string().contains("not static"));
        assert_eq!(has_symbols(&fs::read(&own).unwrap()), Some(true));
        assert_eq!(segments(b"short"), None);
    }
}
