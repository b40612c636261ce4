//! `cargo xtask demo`.

use crate::{checkout, e2e, output, setup};
use anyhow::{Context as _, Result};
use clap::Args;
use contracts::exit::Code;
use qemu_tests::{cases, hint::coded, journey::outside, whole_file};
use std::path::PathBuf;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Boot over UEFI HTTP Boot instead of PXE.
    #[arg(long, conflicts_with = "firmware")]
    http_boot: bool,
    /// The machine's firmware.
    #[arg(long, value_enum, default_value_t = Firmware::Uefi)]
    firmware: Firmware,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep logs, disk and packet capture, and say where they are. A failed run keeps them always.
    #[arg(long)]
    keep: bool,
    /// The machine template to install: k8s-worker, storage-node, hypervisor.
    #[arg(long, value_name = "NAME", default_value = "k8s-worker")]
    template: String,
    /// Install what the host lacks without asking.
    #[arg(long)]
    yes: bool,
}

/// Which firmware the machine has.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Firmware {
    /// edk2.
    Uefi,
    /// SeaBIOS, with iPXE in the network card's ROM.
    Bios,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(file) = &arguments.json {
        whole_file::check(file)?;
    }
    // A wrong name is found before anything is installed.
    check_template(&arguments.template)?;
    setup::ensure(arguments.yes)?;
    let name = match arguments.firmware {
        Firmware::Bios => "bios",
        Firmware::Uefi if arguments.http_boot => "http-boot",
        Firmware::Uefi => "journey",
    };
    let case = cases::find(name).ok_or_else(|| anyhow::anyhow!("there is no case {name}"))?;
    let wish = outside::Wish {
        case,
        template: arguments.template.clone(),
        keep: arguments.keep,
        json: arguments.json.clone(),
        seed: 0,
        samples: 0,
        only: None,
    };
    outside::run(checkout(), &wish, e2e::INSIDE, &output::progress())
}

fn check_template(name: &str) -> Result<()> {
    let folder = checkout().join("profiles/templates");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
    let stems = entries.flatten().filter_map(|entry| entry.path().file_stem()?.to_str().map(str::to_owned));
    let mut known: Vec<String> = stems.collect();
    known.sort();
    if known.iter().any(|template| template == name) {
        return Ok(());
    }
    Err(coded(Code::Usage, format!("there is no template {name}"), format!("the templates are {}", known.join(", "))))
}
