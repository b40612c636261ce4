//! One machine from power-on to the agent's first word, and what it did on the wire until then.

use super::{Lan, Roots, wires};
use crate::{
    capture::{
        dhcp::{self, Message},
        pcap::{self, Datagram},
    },
    journey::{DISK_GIB, Plan},
    world::{
        addresses as at,
        firmware::{self, NetworkBoot, Rom},
        machine::{self, Accelerator, Hardware, Machine, Odd},
        store,
    },
};
use anyhow::{Context as _, Result};
use contracts::{event::StepStatus, status::MachineStatus, step::Step};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long a machine may take, in software emulation on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(4 * 60);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// DHCP, PXE's own port, and TFTP's questions: never the content of files.
const FILTER: &str = "udp and (port 67 or port 68 or port 69 or port 4011)";

/// A machine of the matrix.
#[derive(Debug, Clone, Copy)]
pub struct Firmware {
    /// Its name in tables and files.
    pub name: &'static str,
    /// What it is.
    pub boot: NetworkBoot,
    /// Its MAC address.
    pub mac: &'static str,
}

/// What a machine came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Arrival {
    /// Seconds after power-on when netboot first heard its firmware.
    pub asked_s: Option<f64>,
    /// When netboot first answered.
    pub answered_s: Option<f64>,
    /// When the agent's first word reached netboot.
    pub agent_s: Option<f64>,
    /// Boot files, as netboot counted them.
    pub boot_bytes: u64,
    /// netboot's words about what it offered.
    pub offered: String,
    /// What went wrong, if it did not arrive.
    pub problem: Option<String>,
    /// What was on the wire.
    #[serde(flatten)]
    pub wire: Wire,
}

/// What a capture shows about one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Wire {
    /// The servers that gave it an address, by their own word.
    pub address_from: BTreeSet<Ipv4Addr>,
    /// The servers that named a boot file.
    pub file_from: BTreeSet<Ipv4Addr>,
    /// What they named.
    pub files: BTreeSet<String>,
    /// It asked on port 4011, and was answered there.
    pub proxy_port: bool,
    /// What it asked for by TFTP.
    pub tftp: BTreeSet<String>,
}

/// Switches machines on, one beside the other, and off again when each has arrived or failed.
///
/// # Errors
/// When the LAN itself breaks. A machine that does not arrive is no error here.
pub async fn all(
    plan: &Plan,
    roots: &Roots,
    lan: &mut Lan,
    machines: &[Firmware],
    accelerator: Accelerator,
) -> Result<Vec<Arrival>> {
    let names: Vec<&str> = machines.iter().map(|machine| machine.name).collect();
    let file = lan.folder.join(format!("{}.pcap", names.join("+")));
    let mut capture = store::capture_of(&roots.lab, wires::NEAR, "1500", FILTER, &file, &lan.logs).await?;
    let mut running = Vec::new();
    for (index, firmware) in machines.iter().enumerate() {
        let hardware = hardware(plan, lan, *firmware, index, accelerator)?;
        let machine = Machine::switch_on(&roots.lab, &hardware, &lan.folder, 1)?;
        running.push((firmware, Some(machine), Arrival::default()));
    }
    let begin = Instant::now();
    while running.iter().any(|(_, machine, _)| machine.is_some()) {
        lan.check()?;
        for (firmware, on, arrival) in &mut running {
            let Some(machine) = on else { continue };
            let netboot = lan.netboot.as_ref().context("this LAN has no netboot")?;
            let status = netboot.machine(firmware.mac).await?;
            let mut seen = status.map(|status| look(&status, machine)).unwrap_or_default();
            if let Err(error) = machine.check() {
                seen.problem = Some(format!("{error:#}"));
            } else if begin.elapsed() > PATIENCE {
                let tail = machine.serial.tail(8);
                seen.problem = Some(format!("no word of the agent in {} s:\n{tail}", PATIENCE.as_secs()));
            }
            if seen.agent_s.is_none() && seen.problem.is_none() {
                continue;
            }
            *arrival = seen;
            // It would go on to install, and take the processors from the others.
            if let Some(machine) = on.take() {
                machine.pull_the_plug().await?;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    capture.stop();
    let bytes = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let packets = pcap::datagrams(&bytes).context("reading the capture")?;
    let of = |mac: &str| pcap::mac(mac).map(|mac| wire(&packets, mac)).unwrap_or_default();
    Ok(running.into_iter().map(|(firmware, _, arrival)| Arrival { wire: of(firmware.mac), ..arrival }).collect())
}

/// A machine with a blank disk, on the tap of this number.
///
/// # Errors
/// When disk or firmware cannot be made.
pub fn hardware(
    plan: &Plan,
    lan: &Lan,
    firmware: Firmware,
    index: usize,
    accelerator: Accelerator,
) -> Result<Hardware> {
    let in_folder = |ending: &str| -> PathBuf { lan.folder.join(format!("{}{ending}", firmware.name)) };
    let disk = in_folder(".raw");
    machine::blank_disk(&disk, DISK_GIB)?;
    let variables = in_folder("-firmware");
    let rom = Rom { address: at::ROM_GUEST, gateway: at::ROUTER, netboot: lan.site.addresses().1 };
    firmware::plain(&plan.lab, firmware.boot, rom, &variables)?;
    Ok(Hardware {
        name: firmware.name.into(),
        mac: firmware.mac.into(),
        tap: wires::tap(index),
        memory_mib: plan.shape.memory_mib,
        disk,
        more_disks: Vec::new(),
        firmware: variables,
        network_boot: firmware.boot,
        medium: None,
        first: None,
        writes: None,
        throw_away: false,
        odd: Odd::default(),
        accelerator,
    })
}

/// What netboot says about a machine that was switched on a while ago.
fn look(status: &MachineStatus, machine: &Machine) -> Arrival {
    let line = |step: Step| status.steps.iter().find(|line| line.step == step && line.updated >= machine.started_at);
    let seconds = |at: time::OffsetDateTime| (at - machine.started_at).as_seconds_f64();
    let network = line(Step::Network);
    Arrival {
        asked_s: line(Step::PowerOn).map(|line| seconds(line.started)),
        answered_s: line(Step::Netboot).map(|line| seconds(line.started)),
        agent_s: network.filter(|line| line.status == StepStatus::Done).map(|line| seconds(line.updated)),
        boot_bytes: status.boot_bytes,
        offered: line(Step::PowerOn).map(|line| line.message.clone()).unwrap_or_default(),
        problem: network.filter(|line| line.status == StepStatus::Failed).map(|line| line.message.clone()),
        wire: Wire::default(),
    }
}

/// What a capture shows about one machine.
#[must_use]
pub fn wire(packets: &[Datagram], mac: [u8; 6]) -> Wire {
    let mut wire = Wire::default();
    for (packet, message) in packets.iter().filter_map(|p| Some((p, dhcp::read(&p.payload)?))) {
        if message.client != mac || !message.is_reply {
            continue;
        }
        let server = server_of(&message, packet);
        if message.kind() == Some(dhcp::ACK) && message.your_address != [0; 4] {
            wire.address_from.insert(server);
        }
        let file = Some(message.text(dhcp::BOOT_FILE)).filter(|t| !t.is_empty()).unwrap_or(message.file);
        if !file.is_empty() {
            wire.file_from.insert(server);
            wire.files.insert(file);
        }
        wire.proxy_port |= packet.from.1 == 4011;
    }
    let questions = packets.iter().filter(|p| p.from_mac == mac && p.to.1 == 69);
    wire.tftp = questions.filter_map(|p| tftp_name(&p.payload)).collect();
    wire
}

fn server_of(message: &Message, packet: &Datagram) -> Ipv4Addr {
    let named = message.options.get(&dhcp::SERVER).and_then(|v| <[u8; 4]>::try_from(v.as_slice()).ok());
    named.map_or(packet.from.0, Ipv4Addr::from)
}

/// The file of a read request (RFC 1350, figure 5-1).
fn tftp_name(payload: &[u8]) -> Option<String> {
    let name = payload.strip_prefix(&[0, 1])?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: (u8, u16), to_port: u16, payload: Vec<u8>) -> Datagram {
        let address = |last| Ipv4Addr::new(10, 77, 0, last);
        Datagram {
            from_mac: [2; 6],
            to_mac: [255; 6],
            from: (address(from.0), from.1),
            to: (Ipv4Addr::BROADCAST, to_port),
            payload,
        }
    }

    fn reply(kind: u8, your_address: u8, options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 236];
        message[0] = 2;
        message[19] = your_address;
        message[28..34].copy_from_slice(&[2; 6]);
        message.extend([99, 130, 83, 99, 53, 1, kind]);
        message.extend(options);
        message.push(255);
        message
    }

    #[test]
    fn what_a_machine_did_is_read_from_the_wire() {
        let packets = [
            packet((1, 67), 68, reply(dhcp::OFFER, 9, &[54, 4, 10, 77, 0, 1])),
            packet((1, 67), 68, reply(dhcp::ACK, 9, &[54, 4, 10, 77, 0, 1])),
            packet((2, 67), 68, reply(dhcp::OFFER, 0, &[54, 4, 10, 77, 0, 2, 67, 6, b'a', b'.', b'e', b'f', b'i', 0])),
            packet((2, 4011), 4011, reply(dhcp::ACK, 0, &[54, 4, 10, 77, 0, 2])),
            packet((9, 2070), 69, b"\0\x01a.efi\0octet\0".to_vec()),
        ];
        let seen = wire(&packets, [2; 6]);
        assert_eq!(seen.address_from, [Ipv4Addr::new(10, 77, 0, 1)].into());
        assert_eq!(seen.file_from, [Ipv4Addr::new(10, 77, 0, 2)].into());
        assert_eq!((seen.files, seen.tftp), (["a.efi".to_owned()].into(), ["a.efi".to_owned()].into()));
        assert!(seen.proxy_port);
        assert_eq!(wire(&packets, [3; 6]), Wire::default());
    }
}
