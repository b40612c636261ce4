//! The image in other shapes: what `image-builder export` makes of the repository.

use super::{image::Image, programs::Programs};
use crate::{
    cache::Cache,
    cases::odd_networks,
    host::mirror::Mirrors,
    report::Report,
    sandbox::{self, Apart},
};
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where each is, by format.
pub type Exports = BTreeMap<String, PathBuf>;

/// What image-builder says about an output, as far as the tests look at it.
#[derive(Debug, Deserialize)]
struct Summary {
    digest: Option<String>,
}

/// Makes these formats in the run folder. ISO images are made twice: the same image makes the same bytes.
///
/// # Errors
/// When image-builder fails, or makes something else the second time.
pub fn make(
    cache: &Cache,
    programs: &Programs,
    image: &Image,
    formats: &[&str],
    mirrors: &Mirrors,
    run: &Path,
    report: &Report,
) -> Result<Exports> {
    let folder = run.join("exports");
    let mut made = Exports::new();
    for format in formats {
        report.line(format!("export: {format}"));
        let out = folder.join(file_name(format));
        let one = |out: &Path| export(cache, programs, image, format, mirrors, out);
        let first = one(&out)?;
        if format.starts_with("iso-") {
            let again = one(&folder.join("again"))?;
            ensure!(first.digest.is_some() && first.digest == again.digest, "{format} is another one the second time");
            std::fs::remove_file(folder.join("again")).context("removing the second one")?;
            report.line(format!("check: {format} is the same again, byte for byte: yes"));
        }
        made.insert((*format).to_owned(), out);
    }
    Ok(made)
}

fn file_name(format: &str) -> String {
    match format {
        "oci" => "oci".to_owned(),
        iso if iso.starts_with("iso-") => format!("{iso}.iso"),
        disk => format!("disk.{disk}"),
    }
}

fn export(
    cache: &Cache,
    programs: &Programs,
    image: &Image,
    format: &str,
    mirrors: &Mirrors,
    out: &Path,
) -> Result<Summary> {
    let mut command = if sandbox::am_root() {
        sandbox::tied(programs.image_builder.as_os_str())
    } else {
        sandbox::command(Apart::Build, programs.image_builder.as_os_str())
    };
    command.arg("export").arg(format!("{}@{}", image.template, image.manifest.image_version));
    // Behind a plus sign stands which network is written on the medium.
    let (format, network) = format.split_once('+').map_or((format, None), |(format, name)| (format, Some(name)));
    command.args(["--json", "--format", format, "--debian-mirror", &mirrors.debian]);
    if let Some(name) = network {
        let path = out.with_extension("network.json");
        let network = odd_networks::network_of(name)?;
        std::fs::create_dir_all(out.parent().unwrap_or(out)).context("making a folder for exports")?;
        std::fs::write(&path, format!("{network:#}\n")).with_context(|| format!("writing {}", path.display()))?;
        command.arg("--network").arg(path);
    }
    if let Some(security) = &mirrors.security {
        command.args(["--debian-security-mirror", security]);
    }
    for (flag, path) in [
        ("--repository", image.repository.as_path()),
        ("--root", &image.trust),
        ("--out", out),
        ("--cache", cache.root()),
    ] {
        command.arg(flag).arg(path);
    }
    command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::inherit());
    let output = command.output().context("starting image-builder")?;
    ensure!(output.status.success(), "image-builder export ended with {}", output.status);
    serde_json::from_slice(crate::process::last_line(&output.stdout)).context("reading image-builder's summary")
}
