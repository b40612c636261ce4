//! The journey as seen from the host: what has to be made first, then one process that runs inside the world.

use super::Plan;
use crate::{
    cache::Cache,
    cases::{self, Case, Story},
    hint::{coded, hinted},
    host::mirror,
    materials::{
        container, export, image,
        install_peers::INSTALL_PEERS,
        lab::LAB,
        neighbours::{ARM64, NEIGHBOURS},
        programs, region,
        site::{self, Variant},
    },
    report::Report,
    sandbox::{self, Apart, ThisProgram},
    whole_file,
};
use anyhow::{Context as _, Result, bail};
use contracts::exit::Code;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

/// How many run folders are kept.
const KEEP_RUNS: usize = 5;

/// What the caller wants.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The case.
    pub case: Case,
    /// The machine template.
    pub template: String,
    /// Keep the run folder of a good run too.
    pub keep: bool,
    /// Where the report is to go.
    pub json: Option<PathBuf>,
    /// Of a case with many runs, only those whose name holds this.
    pub only: Option<String>,
    /// For cases that leave something to chance.
    pub seed: u64,
    /// How often something is measured.
    pub samples: u8,
}

/// Makes what is missing and runs the case. `inside` is the argument with which this program, started again,
/// calls [`run_inside`].
///
/// # Errors
/// When something cannot be made, or the case fails; the run folder is kept then.
pub fn run(checkout: &Path, wish: &Wish, inside: &str, report: &Report) -> Result<()> {
    if let Some(json) = &wish.json {
        whole_file::check(json)?;
    }
    let cache = Cache::from_environment()?;
    let plan = prepare(&cache, checkout, wish, report)?;
    let file = plan.run.join("plan.json");
    fs::write(&file, serde_json::to_string_pretty(&plan).context("writing the plan")?)
        .with_context(|| format!("writing {}", file.display()))?;

    let program = ThisProgram::open().context("finding this program")?;
    let status = sandbox::command(Apart::World, program.path().as_os_str())
        .arg(inside)
        .arg(&file)
        .stdin(Stdio::null())
        .status()
        .context("starting the world")?;
    if let Some(json) = &wish.json {
        let made = plan.run.join("report.json");
        if made.exists() {
            let text = fs::read_to_string(&made).with_context(|| format!("reading {}", made.display()))?;
            whole_file::write(json, &text)?;
        }
    }
    if !status.success() {
        bail!(hinted(
            format!("the case {} failed ({status})", wish.case.name),
            how_to_look(&plan.run, wish.case.story)
        ));
    }
    if wish.keep {
        report.line(format!("kept: {}", how_to_look(&plan.run, wish.case.story)));
    } else {
        fs::remove_dir_all(&plan.run).with_context(|| format!("removing {}", plan.run.display()))?;
    }
    Ok(())
}

/// Builds the image of a template as the cases do, or takes it from the cache.
///
/// # Errors
/// When something cannot be made.
pub fn image(checkout: &Path, cache: &Cache, template: &str, report: &Report) -> Result<image::Image> {
    let mirrors = mirrors()?;
    let lab = LAB.make(cache, &mirrors, report)?;
    let region = region::prepare(cache, checkout, template, &mirrors, &lab.path, report)?;
    let programs = programs::make(cache, checkout, report)?;
    image::make(cache, &site::Site::shipped(checkout, template), &[], &programs, &region.parameters, &mirrors, report)
}

fn mirrors() -> Result<mirror::Mirrors> {
    mirror::mirrors().map_err(|error| {
        let hint = format!("set {} to the base URL of a Debian mirror", mirror::MIRROR_VARIABLE);
        coded(Code::Host, error.to_string(), hint)
    })
}

fn prepare(cache: &Cache, checkout: &Path, wish: &Wish, report: &Report) -> Result<Plan> {
    let mirrors = mirrors()?;
    let lab = LAB.make(cache, &mirrors, report)?;
    let mut region = region::prepare(cache, checkout, &wish.template, &mirrors, &lab.path, report)?;
    let programs = programs::make(cache, checkout, report)?;
    let neighbours = wish.case.story.has_neighbours().then(|| NEIGHBOURS.make(cache, &mirrors, report)).transpose()?;
    let arm64 = (wish.case.story == Story::Arm64).then(|| ARM64.make(cache, &mirrors, report)).transpose()?;
    let measured = wish.case.story == Story::InstallBench;
    let peers = measured.then(|| INSTALL_PEERS.make(cache, &mirrors, report)).transpose()?;
    let mut site = site::Site::shipped(checkout, &wish.template);
    let mut containers = None;
    if matches!(wish.case.story, Story::PreloadedImages | Story::TemplateParts) {
        let made = container::make(cache, &lab.path)?;
        let folder = cache.folder("sites")?.join(wish.case.name);
        site = site::of_a_store(&folder, &programs.image_builder, &wish.template, &made, &mut region.parameters)?;
        containers = Some(made);
    }
    let mut further = Vec::new();
    if !wish.case.story.versions().is_empty() {
        let sites = cache.folder("sites")?.join(wish.case.name);
        let make = |variant: Variant| {
            let folder = sites.join(variant.name());
            site::versions(&folder, &programs.image_builder, &wish.template, variant)
        };
        site = make(wish.case.story.first_version())?;
        for variant in wish.case.story.versions() {
            further.push(image::Further { site: make(*variant)?, name: variant.name() });
        }
    }
    let image = image::make(cache, &site, &further, &programs, &region.parameters, &mirrors, report)?;
    let run = cache.run_folder(wish.case.name, KEEP_RUNS)?;
    let exports = export::make(cache, &programs, &image, wish.case.story.exports(), &mirrors, &run, report)?;
    Ok(Plan {
        case: wish.case.name.to_owned(),
        run,
        cache: cache.root().to_owned(),
        lab: lab.path,
        region: region.materials,
        shape: region.shape,
        image_builder: programs.image_builder,
        netboot: programs.netboot,
        registrar: programs.registrar,
        image,
        exports,
        person: region.person,
        containers,
        neighbours: neighbours.map(|entry| entry.path),
        arm64: arm64.map(|entry| entry.path),
        only: wish.only.clone(),
        seed: wish.seed,
        samples: wish.samples,
        peers: peers.map(|entry| entry.path),
    })
}

/// What runs inside the world. Ends with the whole world when this process ends.
///
/// # Errors
/// When the case fails.
pub async fn run_inside(plan: &Path, report: &Report, result: &Report) -> Result<()> {
    let text = fs::read(plan).with_context(|| format!("reading {}", plan.display()))?;
    let plan: Plan = serde_json::from_slice(&text).context("reading the plan")?;
    cases::run(&plan, report, result).await
}

fn how_to_look(run: &Path, story: Story) -> String {
    if story.has_neighbours() {
        return format!(
            "everything about this run is in {}, a folder for each LAN:\n  *-serial-1.log   a machine's serial line, with \
             seconds since power-on\n  logs/            netboot, registrar, DHCP servers, relays\n  *.pcap           what was \
             on the wire (tcpdump -nvr)\nand report.json, the results",
            run.display()
        );
    }
    format!(
        "everything about this run is in {}:\n  machine-serial-1.log, machine-serial-2.log   the machine's serial line, \
         with seconds since power-on\n  logs/                                        netboot, registrar, DHCP server, \
         the region's cluster\n  lan.pcap                                     DHCP and TFTP on the store's LAN (tcpdump -nvr)\n  \
         report.json                                  the times",
        run.display()
    )
}
