//! Machines of [`super::odd_machines`] whose store needs more than DHCP on an untagged port: it is written on the medium that they
//! start from.

use super::{media, until};
use crate::{
    capture::pcap,
    journey::Plan,
    report::Report,
    world::{
        World, addresses as at,
        machine::{CABLES, Card, Drive, Hardware, Machine},
        network,
        tagged::{TaggedPort, frame::Counts},
    },
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::{event::StepStatus, network::BOND, step::Step};
use serde_json::json;
use std::time::{Duration, Instant};

/// The card of the machine at the tagged port.
pub const VLAN_MAC: &str = "52:54:00:77:02:0d";
/// The two cards of the machine with a bond.
pub const BOND_MACS: [&str; 2] = ["52:54:00:77:02:0e", "52:54:00:77:02:0f"];
const TAG: u16 = 20;
/// An address that the store's DHCP server does not lend.
const FIXED_ADDRESS: &str = "10.77.0.90";
/// How long firmware may take to ask for an address.
const ASKS_WITHIN: Duration = Duration::from_secs(180);
/// How long a machine may be out of reach when a cable is pulled, in emulation.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// The network that is written on a medium.
///
/// # Errors
/// When there is none of that name.
pub fn network_of(name: &str) -> Result<serde_json::Value> {
    match name {
        "static-address" => {
            Ok(json!({"addresses": [format!("{FIXED_ADDRESS}/24")], "gateways": [at::ROUTER], "dns": [at::ROUTER]}))
        }
        "vlan" => Ok(json!({"ports": [VLAN_MAC], "vlan": TAG})),
        "bond" => Ok(json!({"ports": BOND_MACS, "bond": "active-backup"})),
        other => bail!("there is no network {other}"),
    }
}

/// Started from a CD that names the machine's address: nobody lends it one, neither in the installer nor in the installed system.
pub(super) async fn static_address(
    plan: &Plan,
    world: &mut World,
    mut hardware: Hardware,
    report: &Report,
) -> Result<String> {
    media::put_in(&mut hardware, Drive::Cd, &plan.export("iso-thin+static-address")?);
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let found = until::step(world, &mut machine, &hardware.mac, Step::Network, StepStatus::Done, report).await?;
    ensure!(found.message.contains(FIXED_ADDRESS), "the installer has another address: {}", found.message);
    until::step(world, &mut machine, &hardware.mac, Step::Ready, StepStatus::Done, report).await?;
    answers(FIXED_ADDRESS, world)?;
    machine.pull_the_plug().await?;
    let lent = lent(plan, &hardware.mac)?;
    ensure!(lent.is_none(), "the DHCP server lent it {lent:?}");
    Ok("with a fixed address from a medium it installs, starts and arrives".into())
}

/// The switch takes only tagged frames from the machine, and gives it no others. That it does is seen first: firmware knows of no
/// tags, so it asks in vain.
pub(super) async fn vlan(plan: &Plan, world: &mut World, mut hardware: Hardware, report: &Report) -> Result<String> {
    let port = TaggedPort::open(&plan.run, "vlan", TAG)?;
    hardware.odd.tagged = Some(port.cables());
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let begin = Instant::now();
    while port.counts().asked + port.counts().passed == 0 {
        world.check()?;
        machine.check()?;
        ensure!(begin.elapsed() < ASKS_WITHIN, "firmware asked for no address: {:?}", port.counts());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    machine.pull_the_plug().await?;
    let untagged = port.counts();
    report.line(format!("port: firmware without tags: {untagged:?}"));
    ensure!(untagged.passed == 0, "frames of firmware passed: {untagged:?}");
    let heard = heard(world, &hardware.mac)?;
    ensure!(heard == 0, "the store heard {heard} frames without a tag");

    media::put_in(&mut hardware, Drive::Cd, &plan.export("iso-thin+vlan")?);
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 2)?;
    until::step(world, &mut machine, &hardware.mac, Step::Ready, StepStatus::Done, report).await?;
    let address = lent(plan, &hardware.mac)?.context("the DHCP server lent it no address")?;
    answers(&address, world)?;
    machine.pull_the_plug().await?;
    let counts = port.counts();
    report.line(format!("port: from blank to Ready: {counts:?}"));
    only_tagged(&counts)?;
    Ok(format!(
        "on a port with tagged frames only it installs, starts and arrives at {address}; {} frames with the tag passed, {} without did not",
        counts.passed, counts.untagged
    ))
}

fn only_tagged(counts: &Counts) -> Result<()> {
    ensure!(counts.passed > 0 && counts.to_machine > 0, "nothing went through the port: {counts:?}");
    ensure!(counts.other == 0, "it used another tag: {counts:?}");
    ensure!(counts.outside.is_empty(), "it has addresses outside of its VLAN: {:?}", counts.outside);
    Ok(())
}

/// Two cards as one, with the address of the first: in the installer, and in the installed system, whichever cable is out.
pub(super) async fn bond(plan: &Plan, world: &mut World, mut hardware: Hardware, report: &Report) -> Result<String> {
    media::put_in(&mut hardware, Drive::Cd, &plan.export("iso-thin+bond")?);
    hardware.odd.second_card = Some(Card { mac: BOND_MACS[1].into(), tap: network::PLAIN_TAP.into() });
    let mut machine = Machine::switch_on(&world.root, &hardware, &plan.run, 1)?;
    let found = until::step(world, &mut machine, &hardware.mac, Step::Network, StepStatus::Done, report).await?;
    ensure!(found.message.starts_with(BOND), "the installer has no bond: {}", found.message);
    until::step(world, &mut machine, &hardware.mac, Step::Ready, StepStatus::Done, report).await?;
    let address = lent(plan, BOND_MACS[0])?.context("the DHCP server lent it no address")?;
    for cable in CABLES {
        machine.cable_of(cable, false).await?;
        let begin = Instant::now();
        while let Err(error) = answers(&address, world) {
            machine.check()?;
            ensure!(begin.elapsed() < BACK_WITHIN, "with the cable {cable} out: {error:#}");
        }
        report
            .line(format!("bond: without the cable {cable} it answered after {:.1} s", begin.elapsed().as_secs_f64()));
        machine.cable_of(cable, true).await?;
    }
    machine.pull_the_plug().await?;
    let second = lent(plan, BOND_MACS[1])?;
    ensure!(second.is_none(), "its second card has an address of its own: {second:?}");
    Ok(format!("with two cards as one it installs, starts and arrives at {address}, and answers without either cable"))
}

/// The address that the store's DHCP server has lent to a card. dnsmasq(8): a line for each, with its end, MAC address and address.
fn lent(plan: &Plan, mac: &str) -> Result<Option<String>> {
    let leases =
        std::fs::read_to_string(plan.run.join("dnsmasq.leases")).context("reading the DHCP server's leases")?;
    let mut lines = leases.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(lines.find(|words| words.get(1) == Some(&mac)).and_then(|words| words.get(2).map(|ip| (*ip).to_owned())))
}

/// How many frames of a card's were on the store's LAN: of those that the capture keeps, UDP and ARP.
fn heard(world: &World, mac: &str) -> Result<usize> {
    let mac = pcap::mac(mac).context("a MAC address")?;
    let capture = std::fs::read(&world.store.capture_file).context("reading the packet capture")?;
    let frames = pcap::frames(&capture).context("reading the packet capture")?;
    Ok(frames.into_iter().filter(|frame| frame.get(6..12) == Some(&mac[..])).count())
}

/// The address answers on the store's LAN.
fn answers(address: &str, world: &World) -> Result<()> {
    let mut command = world.root.command("busybox");
    crate::process::output(command.args(["ping", "-c", "3", "-w", "10", address]))
        .with_context(|| format!("asking {address} for an echo"))?;
    Ok(())
}
