//! A machine of an architecture that images are not built for: its firmware asks, netboot says why it is silent, and the machine
//! goes on as if there were no boot server.

use crate::{
    capture::{dhcp, pcap},
    journey::Plan,
    lan::{
        Lan, Presence, Relay, Roots, Server, Site,
        wires::{self, Cabling, Wires},
    },
    report::Report,
    world::{machine::Machine, registrar::Selector, store},
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::discovery;
use std::{fs, path::Path, process::Command, time::Duration};

const MAC: &str = "52:54:00:77:01:0a";
/// Client architectures (IANA, "Processor Architecture Types"): UEFI for 64-bit ARM by TFTP and by HTTP.
const ARCHITECTURES: [u16; 2] = [0x0b, 0x13];
/// netboot's reason.
const REASON: &str = "its image is for x86_64, and this machine is aarch64";
/// edk2 asks by PXE over IPv4 and IPv6 before it tries HTTP Boot, each with waits of its own.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Runs the case.
///
/// # Errors
/// When netboot answered the firmware, or did not say why it did not.
pub async fn run(plan: &Plan, report: &Report, result: &Report) -> Result<()> {
    let roots = Roots::mount(plan)?;
    let tree = plan.arm64.as_ref().context("the plan has no tree for arm64")?;
    let qemu = roots.lab.another(tree, &plan.run.join("arm64"))?;
    let site = Site { name: "lan", server: Server::Dnsmasq(&[]), relay: Relay::None, netboot: Presence::Own(None) };
    let wires = Wires { cabling: Cabling::OneSegment, taps: 1, devices: Vec::new() };
    let inventory = [("arm", Selector::Mac(MAC))];
    let mut lan = Lan::lay(plan, &roots, site, &plan.run.join(site.name), &inventory, wires).await?;
    let file = lan.folder.join("lan.pcap");
    let mut capture = store::capture_of(&roots.lab, wires::NEAR, "1500", "udp", &file, &lan.logs).await?;

    let variables = lan.folder.join("variables");
    fs::copy(tree.join("usr/share/AAVMF/AAVMF_VARS.fd"), &variables).context("the firmware's variables")?;
    let log = lan.folder.join("machine-serial.log");
    let command = qemu_command(qemu.command("qemu-system-aarch64"), &variables);
    let mut machine = Machine::start(command, lan.folder.join("machine.qmp"), &log)?;
    // Both ways of asking are in the log once the firmware has come to HTTP Boot.
    let lines = loop {
        lan.check()?;
        machine.check()?;
        let said = lan.netboot.as_ref().context("this LAN has no netboot")?.log();
        let lines: Vec<String> = said.lines().filter(|line| line.contains(MAC)).map(str::to_owned).collect();
        let asked = asked(&fs::read(&file).context("reading the capture")?)?;
        if ARCHITECTURES.iter().all(|code| asked.contains(code)) {
            break lines;
        }
        if machine.started.elapsed() > PATIENCE {
            let tail = machine.serial.tail(8);
            bail!("the firmware asked as {asked:?} only, in {} s; it said:\n{tail}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let seconds = machine.started.elapsed().as_secs_f64();
    let screen: Vec<String> = [">>Start PXE over IPv4", ">>Start HTTP Boot over IPv4"]
        .iter()
        .filter_map(|words| machine.serial.first(words))
        .map(|(at, line)| format!("{:7.1} s  screen: {line}", at.as_secs_f64()))
        .collect();
    machine.pull_the_plug().await?;
    capture.stop();
    lan.take_up(&roots)?;

    screen.iter().chain(&lines).for_each(|line| result.line(line));
    ensure!(lines.iter().any(|line| line.contains(REASON)), "netboot's log does not say {REASON:?}");
    no_answer(&fs::read(&file).context("reading the capture")?, site.addresses().1)?;
    report.line(format!(
        "check: arm64 firmware asked by PXE and by HTTP and got no answer, with the reason ({seconds:.0} s): yes"
    ));
    Ok(())
}

fn qemu_command(mut command: Command, variables: &Path) -> Command {
    command
        .args(["-machine", "virt", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "cortex-a57", "-smp", "2"])
        .args(["-m", "1024", "-display", "none", "-serial", "stdio", "-monitor", "none", "-device", "virtio-rng-pci"])
        .args(["-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.fd"])
        .args(["-drive", &format!("if=pflash,format=raw,unit=1,file={}", variables.display())])
        .args(["-netdev", &format!("tap,id=lan,ifname={},script=no,downscript=no", wires::tap(0))])
        .args(["-device", &format!("virtio-net-pci,netdev=lan,mac={MAC},romfile=")]);
    command
}

/// The architectures as which the machine has asked (option 93).
fn asked(capture: &[u8]) -> Result<Vec<u16>> {
    let mac = pcap::mac(MAC).context("the MAC address")?;
    let packets = pcap::datagrams(capture).context("reading the capture")?;
    let questions = packets.iter().filter_map(|p| dhcp::read(&p.payload)).filter(|m| m.client == mac && !m.is_reply);
    Ok(questions
        .filter_map(|m| m.options.get(&93).and_then(|v| v.get(..2)).map(|v| u16::from_be_bytes([v[0], v[1]])))
        .collect())
}

fn no_answer(capture: &[u8], netboot: &str) -> Result<()> {
    let mac = pcap::mac(MAC).context("the MAC address")?;
    let packets = pcap::datagrams(capture).context("reading the capture")?;
    let answers = packets.iter().filter(|p| p.from.0.to_string() == netboot).filter_map(|p| dhcp::read(&p.payload));
    let ours = answers.filter(|m| m.client == mac && m.text(dhcp::VENDOR_CLASS) != discovery::VENDOR_CLASS).count();
    ensure!(ours == 0, "netboot answered the firmware {ours} times");
    Ok(())
}
