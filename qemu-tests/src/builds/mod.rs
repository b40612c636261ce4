//! image-builder on this host, without a world around it: the same image twice, and how fast.

pub mod bench;
pub mod ci;
pub mod compare;
pub mod erofs;
pub mod measure;
pub mod reproducible;
pub mod somebody;

use crate::{
    cache::Cache,
    hint::coded,
    host::mirror::{self, Mirrors},
    materials::{
        image,
        lab::LAB,
        programs::{self, Programs},
        region,
    },
    report::Report,
};
use anyhow::{Context as _, Result, ensure};
use contracts::exit::Code;
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A case of image-builder alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// See [`ci`].
    Ci,
    /// See [`reproducible`].
    Reproducible,
}

impl Build {
    /// Runs the case.
    ///
    /// # Errors
    /// When it fails.
    pub async fn run(self, checkout: &Path, report: &Report) -> Result<()> {
        match self {
            Self::Ci => ci::run(checkout, report),
            Self::Reproducible => reproducible::run(checkout, report).await,
        }
    }
}

/// Everything that a build reads but the template.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The programs.
    pub programs: Programs,
    /// The key set.
    pub keys: PathBuf,
    /// The registrar's CA certificates.
    pub registrar_ca: PathBuf,
    /// Parameter values for this host.
    pub settings: PathBuf,
    /// Where Debian's packages come from.
    pub mirrors: Mirrors,
    /// What was made before.
    pub cache: Cache,
}

/// What image-builder says at the end of a build, as far as it is looked at here.
#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    /// TUF target name of the manifest.
    pub manifest: String,
    /// The tree with the image tools.
    pub tools: PathBuf,
}

impl Inputs {
    /// Makes what is missing for images of a template; settings go into `folder`.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn prepare(checkout: &Path, template: &str, folder: &Path, report: &Report) -> Result<Self> {
        let cache = Cache::from_environment()?;
        let mirrors = mirror::mirrors().map_err(|error| {
            let hint = format!("set {} to the base URL of a Debian mirror", mirror::MIRROR_VARIABLE);
            coded(Code::Host, error.to_string(), hint)
        })?;
        let lab = LAB.make(&cache, &mirrors, report)?;
        let region = region::prepare(&cache, checkout, template, &mirrors, &lab.path, report)?;
        let programs = programs::make(&cache, checkout, report)?;
        let identity = image::identity(&cache, &programs, report)?;
        let settings = folder.join("settings.yaml");
        fs::write(&settings, image::settings_text(&region.parameters))
            .with_context(|| format!("writing {}", settings.display()))?;
        let registrar_ca = identity.registrar_state.join("ca.pem");
        Ok(Self { programs, keys: identity.keys, registrar_ca, settings, mirrors, cache })
    }

    /// Arguments that name the mirrors.
    #[must_use]
    pub fn mirror_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--debian-mirror".to_owned(), self.mirrors.debian.clone()];
        if let Some(security) = &self.mirrors.security {
            arguments.extend(["--debian-security-mirror".to_owned(), security.clone()]);
        }
        arguments
    }

    /// Locks a template.
    ///
    /// # Errors
    /// When image-builder fails.
    pub fn lock(&self, template: &Path, lock: &Path) -> Result<()> {
        let mut command = Command::new(&self.programs.image_builder);
        command.arg("lock").arg(template).arg("--out").arg(lock).arg("--settings").arg(&self.settings);
        command.arg("--cache").arg(self.cache.root()).args(self.mirror_arguments());
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().context("starting image-builder")?;
        ensure!(status.success(), "image-builder lock ended with {status}");
        Ok(())
    }
}

/// Gives a cache the package files of another one, so that nothing is fetched twice.
///
/// # Errors
/// When they cannot be copied.
pub fn share_packages(from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.join("packages"), to.join("packages"));
    fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
    let Ok(entries) = fs::read_dir(&from) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("listing {}", from.display()))?.path();
        let place = to.join(path.file_name().unwrap_or_default());
        // Not linked: another user may have to own it, and another file system to hold it.
        fs::copy(&path, &place).with_context(|| format!("copying {}", path.display()))?;
    }
    Ok(())
}

/// Runs a build to its end and reads its summary.
///
/// # Errors
/// When it fails.
pub fn summary(command: &mut Command) -> Result<Summary> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .stdout(Stdio::piped())
        .output()
        .context("starting image-builder")?;
    ensure!(output.status.success(), "image-builder ended with {}", output.status);
    serde_json::from_slice(crate::process::last_line(&output.stdout)).context("reading image-builder's summary")
}
