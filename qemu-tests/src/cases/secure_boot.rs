//! Firmware that enforces Secure Boot with the retailer's own keys. Even who can publish boot images cannot make it start
//! one that the Secure Boot key did not sign; the store's page says what staff and support see then.

use super::{blank_machine, until};
use crate::{
    journey::Plan,
    report::Report,
    world::{World, addresses as at, firmware::NetworkBoot, foreign, machine::Machine, republish, secure_boot},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    time::{Duration, Instant},
};

/// What edk2 prints when an image is not signed by a key in `db`.
const REFUSED: &str = "Access Denied";

/// Boot images that the firmware must refuse, published with the real keys; at the end the true one is back.
///
/// # Errors
/// When the firmware starts one, or people are not told.
pub async fn refusals(plan: &Plan, world: &mut World, report: &Report) -> Result<()> {
    let hardware = blank_machine(plan, world, NetworkBoot::SecurePxe, report).await?;
    let blank = foreign::checksum(&hardware.disk)?;
    let signed = fs::read(&plan.image.uki).context("reading the boot image")?;

    let images = [("unsigned", secure_boot::unsigned(&signed)?), ("tampered", secure_boot::tampered(&signed)?)];
    for (boot, (name, image)) in (1..).zip(images) {
        publish(plan, &image).await?;
        let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, boot)?;
        let line = until::serial(&mut machine, REFUSED).await?;
        report.line(format!("check: the firmware refuses the {name} boot image: yes ({line})"));
        if name == "tampered" {
            // The firmware goes on trying, and netboot waits some minutes for an agent before it says anything.
            report.line("waiting until the store's page says what that looks like (some minutes)");
            let page = until::page_says(&mut machine, ">boot-refused<").await?;
            ensure!(page.contains(REFUSED) && page.contains("Secure Boot"), "the page does not explain: {page}");
            report.line("check: the store's page says what that looks like: yes");
        }
        ensure!(machine.serial.first("shelfboot:").is_none(), "the {name} boot image was started");
        machine.pull_the_plug().await?;
        ensure!(foreign::checksum(&hardware.disk)? == blank, "the {name} boot image wrote to the disk");
        world.check()?;
    }
    for path in [&hardware.disk, &hardware.firmware] {
        fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
    }
    publish(plan, &signed).await
}

/// Publishes a boot image, and waits until netboot hands it out.
async fn publish(plan: &Plan, image: &[u8]) -> Result<()> {
    republish::target(&plan.image.repository, &plan.image.keys, &plan.image.manifest.uki, image).await?;
    let url = format!("http://{}/boot/{}.efi", at::NETBOOT, plan.image.template);
    let begin = Instant::now();
    loop {
        let answer = reqwest::get(&url).await.context("asking for the boot image")?;
        if answer.bytes().await.context("reading the boot image")? == image {
            return Ok(());
        }
        ensure!(begin.elapsed() < Duration::from_secs(60), "netboot does not hand out what was published a minute ago");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
