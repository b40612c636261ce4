//! Devices that are not ours get exactly what they got without us: each does the same twice, on LANs that are laid alike, without
//! netboot and with it, and what came in over its cable is compared.

use crate::{
    capture::{pcap, received::Received},
    journey::Plan,
    lan::{
        Lan, Presence, Relay, Roots, Server, Site,
        devices::{self, CLIENTS, Device, FOREIGN_BOOT, Kind, MACHINES},
        wires::{Cabling, NETBOOT_MAC, Wires},
    },
    report::Report,
    world::{
        machine::Accelerator,
        plain::SmallGuest,
        registrar::{self},
    },
};
use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use std::{fmt::Write as _, net::Ipv4Addr, time::Instant};

/// Where netboot is when it is there.
const PLACES: [(&str, Relay, Presence); 3] = [
    ("beside", Relay::None, Presence::Own(None)),
    ("relay", Relay::Isc, Presence::Own(None)),
    ("same-host", Relay::None, Presence::Shared(None)),
];

/// One device in one place, both runs.
#[derive(Debug, Serialize)]
struct Comparison {
    place: &'static str,
    device: &'static str,
    /// What it received, in words, with how often in each run.
    received: Vec<(String, usize, usize)>,
    /// ARP questions of the host on which netboot runs, in each run: the kernel's, not netboot's.
    arp_of_netboots_host: (usize, usize),
    /// How the runs differ; empty when they do not.
    differences: Vec<String>,
    /// What netboot said about the device.
    netboots_words: Vec<String>,
}

/// Runs the case: with ordinary DHCP clients, or with machines that boot from the network.
///
/// # Errors
/// When a device received something else with netboot than without.
pub async fn run(plan: &Plan, machines: bool, report: &Report, result: &Report) -> Result<()> {
    let begin = Instant::now();
    let roots = Roots::mount(plan)?;
    let mut accelerator = Accelerator::Tcg;
    if machines {
        devices::foreign_boot_files(&roots.lab)?;
        let small = SmallGuest::make(&roots.lab, &plan.image.uki, &plan.run.join("plain"))?;
        accelerator = small.choose_accelerator(&roots.lab, &plan.cache, report).await?;
    }
    let all: &[Device] = if machines { &MACHINES } else { &CLIENTS };
    let mut comparisons = Vec::new();
    for place in PLACES {
        let wanted =
            |d: &&Device| plan.only.as_ref().is_none_or(|only| format!("{}/{}", place.0, d.name).contains(only));
        for group in by_server(all.iter().filter(wanted)) {
            comparisons.extend(compare(plan, &roots, place, &group, accelerator, report).await?);
        }
    }
    ensure!(!comparisons.is_empty(), "no device and place is called that");
    let text = serde_json::to_string_pretty(&comparisons).context("writing the report")?;
    std::fs::write(plan.run.join("report.json"), text + "\n").context("writing the report")?;
    result.line(table(&comparisons, begin.elapsed().as_secs_f64()));
    let differ = comparisons.iter().filter(|c| !c.differences.is_empty()).count();
    if differ > 0 {
        bail!("{differ} of {} comparisons differ", comparisons.len());
    }
    Ok(())
}

/// A device that finds nothing to boot needs another DHCP server than one that does.
fn by_server<'a>(devices: impl Iterator<Item = &'a Device>) -> Vec<Vec<Device>> {
    let (boot, plain): (Vec<Device>, Vec<Device>) =
        devices.copied().partition(|device| matches!(device.kind, Kind::ForeignBoot(_)));
    [boot, plain].into_iter().filter(|group| !group.is_empty()).collect()
}

async fn compare(
    plan: &Plan,
    roots: &Roots,
    (place, relay, presence): (&'static str, Relay, Presence),
    devices: &[Device],
    accelerator: Accelerator,
    report: &Report,
) -> Result<Vec<Comparison>> {
    let foreign = devices.iter().any(|device| matches!(device.kind, Kind::ForeignBoot(_)));
    let server = Server::Dnsmasq(if foreign { &FOREIGN_BOOT } else { &["--no-ping"] });
    let mut runs = Vec::new();
    let mut log = String::new();
    for netboot in [Presence::Absent, presence] {
        let absent = netboot == Presence::Absent;
        let site = Site { name: place, server, relay, netboot };
        let with = if absent { "without" } else { "with" };
        let folder = plan.run.join(format!("{place}-{}-{with}", if foreign { "boot" } else { "plain" }));
        let cabling = if relay == Relay::None { Cabling::OneSegment } else { Cabling::TwoSegments };
        let named = devices.iter().filter(|d| !matches!(d.kind, Kind::ForeignBoot(_) | Kind::NothingToBoot));
        let wires = Wires { cabling, taps: 1, devices: named.map(|d| (d.name, d.mac)).collect() };
        let inventory = [("some-other-machine", registrar::Selector::Mac("52:54:00:77:01:01"))];
        let mut lan = Lan::lay(plan, roots, site, &folder, &inventory, wires).await?;
        let mut seen = Vec::new();
        for device in devices {
            let capture = devices::observe(plan, roots, &mut lan, *device, accelerator)
                .await
                .with_context(|| format!("{place}: {} {with} netboot", device.name))?;
            let mac = pcap::mac(device.mac).context("a MAC address")?;
            seen.push(Received::of(mac, &capture).context("reading the capture")?);
        }
        log = lan.netboot.as_ref().map(crate::world::netboot::Netboot::log).unwrap_or_default();
        runs.push(seen);
        lan.take_up(roots)?;
    }
    let [without, with] = &runs[..] else { bail!("two runs were made") };
    let site = Site { name: place, server, relay, netboot: presence };
    let mut comparisons = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let comparison = comparison(&site, device, &without[index], &with[index], &log)?;
        report.line(line(&comparison));
        comparisons.push(comparison);
    }
    Ok(comparisons)
}

fn comparison(site: &Site, device: &Device, without: &Received, with: &Received, log: &str) -> Result<Comparison> {
    let mac = pcap::mac(NETBOOT_MAC).context("netboot's MAC address")?;
    let address: Ipv4Addr = site.addresses().1.parse().context("netboot's address")?;
    let mut differences = without.differences(with);
    // On the DHCP server's own host only the comparison can tell who sent a packet.
    if !matches!(site.netboot, Presence::Shared(_)) {
        differences.extend(with.from_server(mac, address).map(|packet| format!("{} is netboot's", packet.what)));
    }
    if without.packets.is_empty() {
        differences.push("it received nothing in the first run, so nothing was shown".into());
    }
    let words: Vec<String> = log.lines().filter(|line| line.contains(device.mac)).map(str::to_owned).collect();
    if words.is_empty() {
        differences.push("netboot's log does not mention it, so netboot did not hear it".into());
    }
    let times = |what: &str| with.packets.iter().find(|p| p.what == what).map_or(0, |p| p.times);
    let received = without.packets.iter().map(|p| (p.what.clone(), p.times, times(&p.what))).collect();
    let arp = |received: &Received| received.arp.get(&mac).copied().unwrap_or(0);
    Ok(Comparison {
        place: site.name,
        device: device.name,
        received,
        arp_of_netboots_host: (arp(without), arp(with)),
        differences,
        netboots_words: words,
    })
}

fn line(comparison: &Comparison) -> String {
    let Comparison { place, device, received, arp_of_netboots_host: (before, after), differences, netboots_words } =
        comparison;
    let count = |which: fn(&(String, usize, usize)) -> usize| received.iter().map(which).sum::<usize>();
    let verdict =
        if differences.is_empty() { "the same".to_owned() } else { format!("DIFFERS: {}", differences.join("; ")) };
    format!(
        "{place:<10} {device:<13} {:>7} {:>7} {:>8} {before:>4}/{after:<4} {:>5}  {verdict}",
        received.len(),
        count(|r| r.1),
        count(|r| r.2),
        netboots_words.len(),
    )
}

fn table(comparisons: &[Comparison], seconds: f64) -> String {
    let mut out = format!(
        "{:<10} {:<13} {:>7} {:>7} {:>8} {:>9} {:>5}  {}\n",
        "netboot", "device", "packets", "without", "with", "ARP", "log", "what the device received"
    );
    for comparison in comparisons {
        let _ = writeln!(out, "{}", line(comparison));
        // A boot file's blocks would fill the page.
        for (what, before, after) in comparison.received.iter().filter(|(what, ..)| !what.contains("TFTP data")) {
            let _ = writeln!(out, "{:>24} {before:>15} {after:>8} {:>15}  {what}", "", "");
        }
        for words in comparison.netboots_words.iter().take(3) {
            let _ = writeln!(out, "{:>24} netboot: {}", "", words.trim());
        }
    }
    let same = comparisons.iter().filter(|c| c.differences.is_empty()).count();
    let _ = write!(
        out,
        "{same} of {} the same; different packets, how often they came without and with netboot, ARP questions of netboot's \
         host, lines about the device in netboot's log. {seconds:.0} s in all.",
        comparisons.len()
    );
    out
}
