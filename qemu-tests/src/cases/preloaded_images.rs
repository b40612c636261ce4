//! Container images that came with the machine's own: pods start although no registry answers, also after a power cut while they
//! were given to containerd, and later starts find them in place.

use super::{
    blank_machine,
    member::start,
    pods::{self, Task},
    until,
};
use crate::{
    journey::Plan,
    materials::{
        container::{Containers, WORD_FILE},
        site::reference,
    },
    report::Report,
    world::{World, api::Api, firmware::NetworkBoot, machine::Machine},
};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// What the unit says: two images have three names each.
const IMPORTING: &str = "of 6 names are missing";
const IMPORTED: &str = "imported, and on the disk";

/// Runs the case.
///
/// # Errors
/// When a pod does not start, or one starts that cannot.
pub async fn run(plan: &Plan, world: &mut World, report: &Report, result: &Report) -> Result<()> {
    let containers = plan.containers.as_ref().context("the image carries no container images")?;
    let hardware = blank_machine(plan, world, NetworkBoot::Http, report).await?;

    let mut cut = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let said = until::serial(&mut cut, IMPORTING).await?;
    report.line(format!("machine: {}", words(&said)));
    // Some way into it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(cut.serial.first(IMPORTED).is_none(), "the import was over before the plug could be pulled");
    report.line("machine: the plug is pulled while it imports");
    cut.pull_the_plug().await?;

    let mut first = start(plan, world, &hardware, 2, None, report).await?;
    result.line(first.member.words.trim_end());
    let said = until::serial(&mut first.machine, "an earlier import was cut off").await?;
    until::serial(&mut first.machine, IMPORTED).await?;
    report.line(format!("check: what the power cut left half is not believed: yes ({})", words(&said)));
    let api = &world.region.kubernetes()?.api;
    let (image, script) = (reference("stranger"), format!("/bin/busybox cat {WORD_FILE}"));
    pods::create(api, Task { name: "stranger", image: &image, script: &script, on_the_host: false }).await?;
    greets(api, "greeter", containers, report).await?;
    let why = pods::without_image(api, "stranger", "dial", "connection refused").await?;
    report.line(format!("check: a pod whose image is not there stays away, for no registry answers: yes ({why})"));
    first.machine.pull_the_plug().await?;

    let mut second = start(plan, world, &hardware, 3, Some(&first.member.boot_id), report).await?;
    let said = until::serial(&mut second.machine, "all 6 names are there").await?;
    report.line(format!("check: a later start imports nothing: yes ({})", words(&said)));
    greets(&world.region.kubernetes()?.api, "greeter-again", containers, report).await?;
    second.machine.pull_the_plug().await?;
    world.check()
}

/// A pod runs, and says the word that only its image knows.
async fn greets(api: &Api, name: &str, containers: &Containers, report: &Report) -> Result<()> {
    let (image, script) = (reference("greeter"), format!("/bin/busybox cat {WORD_FILE}"));
    let pod = pods::run(api, Task { name, image: &image, script: &script, on_the_host: false }).await?;
    ensure!(pod.said == containers.word, "the pod said {}, its image knows {}", pod.said, containers.word);
    ensure!(pod.image_id.ends_with(&containers.greeter), "it runs {}, not {}", pod.image_id, containers.greeter);
    report.line(format!(
        "check: the pod {name} is Running, and says what only its image knows: yes ({} after {:.0} s)",
        containers.word,
        pod.took.as_secs_f64()
    ));
    Ok(())
}

/// What the unit said, without time and name.
fn words(line: &str) -> &str {
    line.rsplit("]: ").next().unwrap_or(line).trim()
}
