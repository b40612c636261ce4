//! Machines that are switched on in the same second: each asks by DHCP, then the PXE boot server, then fetches its file
//! as EDK2 does. Their addresses are given, as if the store's DHCP server had been there before.

use crate::{Who, client::Dialect, dhcp, report::Report, tftp::Fleet};
use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

/// Arguments of `storm`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    who: Who,
    /// The interface's broadcast address.
    #[arg(long)]
    broadcast: Ipv4Addr,
    /// Nothing may take longer.
    #[arg(long, default_value_t = 600.0)]
    most_seconds: f64,
}

/// EDK2 repeats its DISCOVER after these, and gives up after the last.
const WAITS: [u64; 4] = [4, 8, 16, 32];

struct Machine {
    /// When it is switched on.
    at: Instant,
    sent: usize,
    due: Instant,
    /// Asks the boot server now, not everybody.
    offered: bool,
    over: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let who = &arguments.who;
    let begin = Instant::now();
    let listen = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)).context("opening port 68")?;
    listen.set_broadcast(true).context("preparing port 68")?;
    setsockopt(&listen, sockopt::RcvBuf, &(4 << 20)).context("preparing port 68")?;
    listen.set_read_timeout(Some(Duration::from_millis(1))).context("preparing port 68")?;
    let mut machines: BTreeMap<u32, Machine> = (0..who.clients)
        .map(|number| {
            // Spread over the second.
            let at = begin + Duration::from_secs(1) * number / who.clients;
            (number, Machine { at, sent: 0, due: at, offered: false, over: false })
        })
        .collect();
    let mut fleet: Option<Fleet> = None;
    let mut lost = Report::default();
    let mut buffer = [0; 2048];
    while machines.values().any(|m| !m.over) || fleet.as_ref().is_some_and(|fleet| !fleet.over()) {
        anyhow::ensure!(begin.elapsed().as_secs_f64() < arguments.most_seconds, "the storm did not end in time");
        let now = Instant::now();
        for (number, machine) in machines.iter_mut().filter(|(_, m)| !m.over && m.due <= now) {
            let Some(wait) = WAITS.get(machine.sent) else {
                machine.over = true;
                lost.failed += 1;
                lost.problem.get_or_insert_with(|| format!("machine {number} got no answer by DHCP"));
                continue;
            };
            lost.repeats += u64::from(machine.sent > 0);
            machine.sent += 1;
            machine.due = now + Duration::from_secs(*wait);
            ask(&listen, arguments, *number, machine.offered)?;
        }
        while let Ok(length) = listen.recv(&mut buffer) {
            let Some(answer) = dhcp::answer(&buffer[..length]) else { continue };
            let Some(machine) = machines.get_mut(&answer.number).filter(|m| !m.over && answer.pxe) else { continue };
            match (answer.kind, machine.offered) {
                (2, false) => {
                    machine.offered = true;
                    machine.sent = 1;
                    machine.due = Instant::now() + Duration::from_secs(WAITS[0]);
                    ask(&listen, arguments, answer.number, true)?;
                }
                (5, true) => {
                    machine.over = true;
                    if fleet.is_none() {
                        fleet = Some(Fleet::empty(who.clone(), &answer.file, Dialect::Edk2, true)?);
                    }
                    if let Some(fleet) = &mut fleet {
                        fleet.add(answer.number, machine.at)?;
                    }
                }
                _ => {}
            }
        }
        if let Some(fleet) = &mut fleet {
            fleet.turn(Instant::now() + Duration::from_millis(5))?;
        }
    }
    let mut report = fleet.map(Fleet::into_report).unwrap_or_default();
    report.seconds = begin.elapsed().as_secs_f64();
    report.add(lost);
    Ok(report)
}

fn ask(listen: &UdpSocket, arguments: &Arguments, number: u32, offered: bool) -> Result<()> {
    let who = &arguments.who;
    if offered {
        // From the machine's own address: the answer goes there.
        let packet = dhcp::boot_request(number, who.address(number), who.server);
        listen.send_to(&packet, SocketAddrV4::new(who.server, 4011)).context("asking the boot server")?;
    } else {
        listen.send_to(&dhcp::discover(number), SocketAddrV4::new(arguments.broadcast, 67)).context("asking")?;
    }
    Ok(())
}
