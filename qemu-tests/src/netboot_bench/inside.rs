//! What runs in the world: makes wires and files, measures part by part.

use super::{Figure, Part, Plan, dhcp, http, interop, network, repository, servers::Registrar, storm, tftp};
use crate::{report::Report, world::root::Root};
use anyhow::{Context as _, Result};

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The template whose boot image is downloaded: 60 MB, as the promise says.
pub const LARGE: &str = "k8s-worker";
/// Bytes of that image.
pub const LARGE_BYTES: u64 = 60_000_000;
/// The template that the storm's machines get: a smaller one, so that the storm passes in a minute.
pub const SMALL: &str = "hypervisor";
/// Bytes of that image.
pub const SMALL_BYTES: u64 = 20_000_000;

/// The template whose boot image is fetched over a bad line.
pub const TINY: &str = "storage-node";
/// Bytes of that image: no multiple of any block size.
const TINY_BYTES: u64 = 200_003;

/// Everything that the parts need.
#[derive(Debug)]
pub struct Bench<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Where programs run.
    pub root: Root,
    /// A folder with the two files, for servers that know no templates.
    pub files: PathBuf,
    /// The same files as a signed repository.
    pub repository: PathBuf,
    /// The region.
    pub registrar: Registrar,
    /// Logs of all programs.
    pub logs: PathBuf,
    /// Who hears how far it is.
    pub report: &'a Report,
}

/// Runs inside the world; writes `figures.json` into the run's folder.
///
/// # Errors
/// When a program fails.
pub async fn run(plan: &Path, report: &Report) -> Result<()> {
    let text = fs::read(plan).with_context(|| format!("reading {}", plan.display()))?;
    let plan: Plan = serde_json::from_slice(&text).context("reading the plan")?;
    let folder = |name: &str| -> Result<PathBuf> {
        let path = plan.run.join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    };
    let (logs, files, repository) = (folder("logs")?, folder("files")?, folder("repository")?);
    let root = Root::mount(&plan.tree, &folder("world")?, &[&plan.cache, &plan.run])?;
    network::make(&root)?;
    let images = [(LARGE, LARGE_BYTES), (SMALL, SMALL_BYTES), (TINY, TINY_BYTES)];
    for (template, bytes) in images {
        fill(&files.join(format!("{template}.efi")), bytes)?;
    }
    let paths = images.map(|(template, _)| files.join(format!("{template}.efi")));
    repository::make(&repository, &plan.keys, &[(LARGE, &paths[0]), (SMALL, &paths[1]), (TINY, &paths[2])]).await?;
    let registrar = Registrar::start(&plan, &root, &logs).await?;
    let bench = Bench { plan: &plan, root, files, repository, registrar, logs, report };
    let mut figures: Vec<Figure> = Vec::new();
    for part in &plan.parts {
        figures.extend(match part {
            Part::Tftp => tftp::measure(&bench).await.context("measuring TFTP")?,
            Part::Dhcp => dhcp::measure(&bench).await.context("measuring DHCP")?,
            Part::Http => http::measure(&bench).await.context("measuring HTTP")?,
            Part::Memory => storm::memory(&bench).await.context("measuring memory")?,
            Part::Storm => storm::measure(&bench).await.context("measuring the boot storm")?,
            Part::Interop => {
                let passed = interop::run(&bench).await.context("other people's TFTP clients")?;
                fs::write(plan.run.join("passed"), passed.to_string()).context("writing the result")?;
                Vec::new()
            }
        });
    }
    let file = plan.run.join("figures.json");
    let text = serde_json::to_string_pretty(&figures).context("writing the figures")?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

/// A file of random bytes: nothing on the way can make it shorter.
fn fill(path: &Path, bytes: u64) -> Result<()> {
    let mut from = fs::File::open("/dev/urandom").context("opening /dev/urandom")?.take(bytes);
    let mut to = fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    io::copy(&mut from, &mut to).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}
