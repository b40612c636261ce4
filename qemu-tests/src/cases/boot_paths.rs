//! The matrix of firmware and DHCP servers: every machine from power-on to the agent's first word.

use crate::{
    journey::Plan,
    lan::{
        Lan, Presence, Relay, Roots, Server, Site,
        power_on::{self, Arrival, Firmware},
        wires::{Cabling, Wires},
    },
    report::Report,
    world::{firmware::NetworkBoot, machine::Accelerator, plain::SmallGuest, registrar::Selector},
};
use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use std::{collections::BTreeSet, fmt::Write as _, net::Ipv4Addr, time::Instant};

/// How many machines are on at the same time: more share the host's processors, and firmware has deadlines.
const AT_ONCE: usize = 2;

/// The columns.
const MACHINES: [Firmware; 4] = [
    Firmware { name: "bios-rom", boot: NetworkBoot::Bios, mac: "52:54:00:77:01:01" },
    Firmware { name: "bios-undionly", boot: NetworkBoot::BiosUndionly, mac: "52:54:00:77:01:02" },
    Firmware { name: "uefi-pxe", boot: NetworkBoot::Pxe, mac: "52:54:00:77:01:03" },
    Firmware { name: "uefi-http", boot: NetworkBoot::Http, mac: "52:54:00:77:01:04" },
];

/// What dnsmasq sends PXE machines that are to ask port 4011 on its host; see docs/pxe.md.
const BOOT_SERVER_HERE: [&str; 2] =
    ["--dhcp-vendorclass=set:pxe,PXEClient", "--dhcp-option-force=tag:pxe,60,PXEClient"];
const KEA: Server = Server::Kea { boot_server_here: false };
const DNSMASQ: Server = Server::Dnsmasq(&[]);

/// The rows.
const SITES: [Site; 9] = [
    Site { name: "dnsmasq", server: DNSMASQ, relay: Relay::None, netboot: Presence::Own(None) },
    Site { name: "kea", server: KEA, relay: Relay::None, netboot: Presence::Own(None) },
    Site { name: "relay-isc", server: KEA, relay: Relay::Isc, netboot: Presence::Own(None) },
    Site { name: "relay-dnsmasq", server: DNSMASQ, relay: Relay::Dnsmasq, netboot: Presence::Own(None) },
    Site { name: "dhcp", server: Server::None, relay: Relay::None, netboot: Presence::Own(Some("dhcp")) },
    Site { name: "same-host", server: DNSMASQ, relay: Relay::None, netboot: Presence::Shared(Some("proxy")) },
    Site { name: "same-host-kea", server: KEA, relay: Relay::None, netboot: Presence::Shared(Some("proxy")) },
    Site {
        name: "4011-only",
        server: Server::Dnsmasq(&BOOT_SERVER_HERE),
        relay: Relay::None,
        netboot: Presence::Shared(Some(ONLY_4011)),
    },
    Site {
        name: "4011-only-kea",
        server: Server::Kea { boot_server_here: true },
        relay: Relay::None,
        netboot: Presence::Shared(Some(ONLY_4011)),
    },
];

/// The mode that does not serve UEFI HTTP Boot.
const ONLY_4011: &str = "4011-only";

/// One cell of the matrix.
#[derive(Debug, Serialize)]
struct Cell {
    site: &'static str,
    machine: &'static str,
    #[serde(flatten)]
    arrival: Arrival,
}

/// The whole matrix, as a document.
#[derive(Debug, Serialize)]
struct Matrix {
    seconds: f64,
    cells: Vec<Cell>,
}

/// Runs the case.
///
/// # Errors
/// When a machine did not arrive, or not as it should have; after all of them had their turn.
pub async fn run(plan: &Plan, report: &Report, result: &Report) -> Result<()> {
    let begin = Instant::now();
    let roots = Roots::mount(plan)?;
    let small = SmallGuest::make(&roots.lab, &plan.image.uki, &plan.run.join("plain"))?;
    let accelerator = small.choose_accelerator(&roots.lab, &plan.cache, report).await?;
    let mut cells = Vec::new();
    for site in SITES {
        let machines: Vec<Firmware> = MACHINES.into_iter().filter(|machine| wanted(plan, &site, machine)).collect();
        if !machines.is_empty() {
            cells.extend(row(plan, &roots, site, &machines, accelerator, report).await?);
        }
    }
    ensure!(!cells.is_empty(), "nothing in the matrix is called that");
    let matrix = Matrix { seconds: begin.elapsed().as_secs_f64(), cells };
    let text = serde_json::to_string_pretty(&matrix).context("writing the report")?;
    std::fs::write(plan.run.join("report.json"), text + "\n").context("writing the report")?;
    result.line(table(&matrix));
    let failed = matrix.cells.iter().filter(|cell| cell.arrival.problem.is_some()).count();
    if failed > 0 {
        bail!("{failed} of {} machines did not arrive as they should", matrix.cells.len());
    }
    Ok(())
}

/// `--only` is compared with `SITE/MACHINE`.
fn wanted(plan: &Plan, site: &Site, machine: &Firmware) -> bool {
    // HTTP Boot firmware never asks that port.
    if site.netboot == Presence::Shared(Some(ONLY_4011)) && machine.boot == NetworkBoot::Http {
        return false;
    }
    let name = format!("{}/{}", site.name, machine.name);
    plan.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
}

/// All machines of one site, some at a time, each group on wires of its own.
async fn row(
    plan: &Plan,
    roots: &Roots,
    site: Site,
    machines: &[Firmware],
    accelerator: Accelerator,
    report: &Report,
) -> Result<Vec<Cell>> {
    let inventory: Vec<_> = MACHINES.iter().map(|machine| (machine.name, Selector::Mac(machine.mac))).collect();
    let cabling = if site.relay == Relay::None { Cabling::OneSegment } else { Cabling::TwoSegments };
    let wires = Wires { cabling, taps: AT_ONCE, devices: Vec::new() };
    let folder = plan.run.join(site.name);
    let mut lan = Lan::lay(plan, roots, site, &folder, &inventory, wires)
        .await
        .with_context(|| format!("the LAN of {}", site.name))?;
    let mut cells = Vec::new();
    for group in machines.chunks(AT_ONCE) {
        let arrivals = power_on::all(plan, roots, &mut lan, group, accelerator).await?;
        for (firmware, mut arrival) in group.iter().zip(arrivals) {
            if arrival.problem.is_none()
                && let Err(error) = as_expected(&site, firmware, &arrival)
            {
                arrival.problem = Some(format!("{error:#}"));
            }
            let cell = Cell { site: site.name, machine: firmware.name, arrival };
            report.line(line(&cell));
            cells.push(cell);
        }
    }
    lan.take_up(roots)?;
    Ok(cells)
}

/// The address comes from whom it should, the boot file from netboot alone.
fn as_expected(site: &Site, firmware: &Firmware, arrival: &Arrival) -> Result<()> {
    let (server, netboot) = site.addresses();
    let lender = if site.server == Server::None { netboot } else { server };
    let only = |address: &str| -> Result<BTreeSet<Ipv4Addr>> { Ok([address.parse().context("an address")?].into()) };
    let wire = &arrival.wire;
    ensure!(wire.address_from == only(lender)?, "its addresses came from {:?}", wire.address_from);
    ensure!(wire.file_from == only(netboot)?, "its boot files were named by {:?}", wire.file_from);
    let by_tftp = matches!(firmware.boot, NetworkBoot::BiosUndionly | NetworkBoot::Pxe);
    ensure!(by_tftp != wire.tftp.is_empty(), "by TFTP it asked for {:?}", wire.tftp);
    Ok(())
}

fn line(cell: &Cell) -> String {
    let Cell { site, machine, arrival } = cell;
    let seconds = |s: Option<f64>| s.map_or("-".to_owned(), |s| format!("{s:.1}"));
    let mut out = format!(
        "{site:<14} {machine:<14} {:>6} {:>9} {:>6}  ",
        seconds(arrival.asked_s),
        seconds(arrival.answered_s),
        seconds(arrival.agent_s),
    );
    let list = |set: &BTreeSet<Ipv4Addr>| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let wire = &arrival.wire;
    let _ = write!(out, "{:<11} {:<11} ", list(&wire.address_from), list(&wire.file_from));
    let mut how: Vec<String> = wire.files.iter().cloned().collect();
    if wire.proxy_port {
        how.push("asked on 4011".into());
    }
    if !wire.tftp.is_empty() {
        how.push(format!("TFTP: {}", wire.tftp.iter().cloned().collect::<Vec<_>>().join(" ")));
    }
    out += &how.join(", ");
    if let Some(problem) = &arrival.problem {
        let _ = write!(out, "  PROBLEM: {problem}");
    }
    out
}

fn table(matrix: &Matrix) -> String {
    let mut out = format!(
        "{:<14} {:<14} {:>6} {:>9} {:>6}  {:<11} {:<11} {}\n",
        "site", "machine", "asked", "answered", "agent", "address by", "file by", "how"
    );
    for cell in &matrix.cells {
        let _ = writeln!(out, "{}", line(cell));
    }
    let arrived = matrix.cells.iter().filter(|cell| cell.arrival.problem.is_none()).count();
    let _ = write!(
        out,
        "{arrived} of {} arrived. Seconds after power-on; {AT_ONCE} machines were on at a time; {:.0} s in all.",
        matrix.cells.len(),
        matrix.seconds
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(address_from: &str, file_from: &str, tftp: &[&str]) -> Arrival {
        let wire = power_on::Wire {
            address_from: [address_from.parse().unwrap()].into(),
            file_from: [file_from.parse().unwrap()].into(),
            tftp: tftp.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        Arrival { wire, ..Default::default() }
    }

    #[test]
    fn a_boot_file_from_somebody_else_is_no_arrival() {
        let (site, pxe, http) = (&SITES[0], &MACHINES[2], &MACHINES[3]);
        assert!(as_expected(site, pxe, &arrival("10.77.0.1", "10.77.0.2", &["k.efi"])).is_ok());
        assert!(as_expected(site, pxe, &arrival("10.77.0.1", "10.77.0.1", &["k.efi"])).is_err());
        assert!(as_expected(site, pxe, &arrival("10.77.0.2", "10.77.0.2", &["k.efi"])).is_err());
        assert!(as_expected(site, http, &arrival("10.77.0.1", "10.77.0.2", &["k.efi"])).is_err(), "not by HTTP");
        assert!(as_expected(site, http, &arrival("10.77.0.1", "10.77.0.2", &[])).is_ok());
    }
}
