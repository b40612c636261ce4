//! What must be true of a journey: of its times, and of what was on the wire.

use crate::{
    capture::{
        dhcp::{self, Message},
        pcap::{self, Datagram},
    },
    journey::{inside::Outcome, record::Record},
    world::{addresses as at, firmware::NetworkBoot},
};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::step::Step;
use std::net::Ipv4Addr;

/// How much longer than a start of the installed system the whole journey may take.
pub const MOST_TIMES_INSTALLED_BOOT: f64 = 3.0;

const DHCP_SERVER_PORT: u16 = 67;
const PROXY_PORT: u16 = 4011;
const TFTP_PORT: u16 = 69;

/// One thing that must be true.
#[derive(Debug)]
pub struct Check {
    /// In words.
    pub what: &'static str,
    /// Whether it is.
    pub result: Result<()>,
}

/// All checks of one journey.
#[must_use]
pub fn all(boot: NetworkBoot, outcome: &Outcome, capture: &[u8]) -> Vec<Check> {
    let wire = Wire::read(capture);
    let on_the_wire = |look: &dyn Fn(&Wire) -> Result<()>| match &wire {
        Ok(wire) => look(wire),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    let mut checks = vec![
        Check { what: "every step came, in order", result: steps_in_order(&outcome.record) },
        Check { what: "each start has a boot id of its own", result: boot_ids_differ(&outcome.record) },
        Check { what: "the journey is at most 3 times a start from the disk", result: quick_enough(&outcome.record) },
        Check {
            what: "the till got its address from the store's server alone",
            result: on_the_wire(&|w| till_undisturbed(w, &outcome.till_mac)),
        },
    ];
    checks.extend(match boot {
        NetworkBoot::Pxe | NetworkBoot::SecurePxe => {
            [Check { what: "edk2 and netboot spoke PXE as expected", result: on_the_wire(&pxe_dialect) }]
        }
        NetworkBoot::Http => {
            [Check { what: "edk2 and netboot spoke HTTP Boot as expected", result: on_the_wire(&http_dialect) }]
        }
        NetworkBoot::Bios => {
            [Check { what: "iPXE on BIOS got its script from netboot, and once", result: on_the_wire(&rom_dialect) }]
        }
        NetworkBoot::BiosUndionly => {
            [Check { what: "undionly.kpxe was fetched, then got its script", result: on_the_wire(&undionly_dialect) }]
        }
    });
    checks
}

fn steps_in_order(record: &Record) -> Result<()> {
    let names: Vec<Step> = record.steps.iter().map(|s| s.name).collect();
    ensure!(names == Step::ALL, "the steps were {names:?}");
    for pair in record.steps.windows(2) {
        // The clocks of netboot and of the machine may differ a little.
        ensure!(
            pair[0].started_s <= pair[1].started_s + 1.0,
            "{} began at {:.1} s, after {} at {:.1} s",
            pair[0].name,
            pair[0].started_s,
            pair[1].name,
            pair[1].started_s
        );
    }
    Ok(())
}

fn boot_ids_differ(record: &Record) -> Result<()> {
    ensure!(record.node.ready, "the node is not ready");
    match record.node.boot_ids.as_slice() {
        [first, second] if first != second && !first.is_empty() => Ok(()),
        other => bail!("the boot ids were {other:?}"),
    }
}

fn quick_enough(record: &Record) -> Result<()> {
    let times = record.total_seconds / record.installed_boot_seconds;
    ensure!(times <= MOST_TIMES_INSTALLED_BOOT, "it took {times:.2} times as long");
    Ok(())
}

/// The capture, with what netboot sent set apart.
struct Wire {
    all: Vec<Datagram>,
    netboot: Ipv4Addr,
    machine: [u8; 6],
}

impl Wire {
    fn read(capture: &[u8]) -> Result<Self> {
        Ok(Self {
            all: pcap::datagrams(capture).context("reading the packet capture")?,
            netboot: at::NETBOOT.parse().context("netboot's address")?,
            machine: pcap::mac(at::MACHINE_MAC).context("the machine's MAC address")?,
        })
    }

    /// DHCP messages about a client, with their packets.
    fn dhcp(&self, client: [u8; 6]) -> impl Iterator<Item = (&Datagram, Message)> {
        self.all.iter().filter_map(move |d| Some((d, dhcp::read(&d.payload)?)).filter(|(_, m)| m.client == client))
    }

    fn discover(&self, class: &str) -> Result<Message> {
        self.dhcp(self.machine)
            .map(|(_, m)| m)
            .find(|m| m.kind() == Some(dhcp::DISCOVER) && m.text(dhcp::VENDOR_CLASS).starts_with(class))
            .with_context(|| format!("no DHCPDISCOVER of class {class}"))
    }

    fn offer(&self, xid: u32) -> Result<Message> {
        self.dhcp(self.machine)
            .find(|(d, m)| d.from == (self.netboot, DHCP_SERVER_PORT) && m.kind() == Some(dhcp::OFFER) && m.xid == xid)
            .map(|(_, m)| m)
            .context("no offer of netboot to it")
    }
}

/// edk2 takes an offer of class PXEClient without option 43 for a boot server discovery by unicast (BINL) and
/// asks on port 4011. Firmware before 2017 throws offers with option 43 away.
fn pxe_dialect(wire: &Wire) -> Result<()> {
    let offer = wire.offer(wire.discover("PXEClient:Arch:00007")?.xid)?;
    ensure!(!offer.options.contains_key(&dhcp::VENDOR_INFORMATION), "netboot's offer has option 43");
    ensure!(offer.text(dhcp::VENDOR_CLASS) == "PXEClient", "its class is {:?}", offer.text(dhcp::VENDOR_CLASS));
    ensure!(offer.your_address == [0; 4], "netboot gave an address: {:?}", offer.your_address);
    ensure!(offer.options.contains_key(&dhcp::SERVER), "netboot's offer has no server identifier");

    let asked = wire.all.iter().find(|d| d.to == (wire.netboot, PROXY_PORT));
    if let Some(question) = asked {
        let question = dhcp::read(&question.payload).context("the question on port 4011 is not DHCP")?;
        ensure!(question.kind() == Some(dhcp::REQUEST), "the question on port 4011 is no request");
        let answer = wire
            .all
            .iter()
            .filter(|d| d.from == (wire.netboot, PROXY_PORT))
            .filter_map(|d| dhcp::read(&d.payload))
            .find(|m| m.xid == question.xid)
            .context("no answer on port 4011")?;
        ensure!(answer.kind() == Some(dhcp::ACK), "the answer on port 4011 is no ACK");
        ensure!(!answer.file.is_empty(), "the answer on port 4011 names no boot file");
    } else {
        ensure!(!offer.file.is_empty(), "neither an offer with a boot file nor a question on port 4011");
    }
    // TFTP opcode 1 is a read request (RFC 1350).
    let asks_for_file = |d: &&Datagram| d.to == (wire.netboot, TFTP_PORT) && d.payload.starts_with(&[0, 1]);
    wire.all.iter().find(asks_for_file).context("no TFTP read request")?;
    Ok(())
}

fn http_dialect(wire: &Wire) -> Result<()> {
    let offer = wire.offer(wire.discover("HTTPClient:Arch:00016")?.xid)?;
    ensure!(offer.text(dhcp::VENDOR_CLASS) == "HTTPClient", "its class is {:?}", offer.text(dhcp::VENDOR_CLASS));
    let url = offer.text(dhcp::BOOT_FILE);
    ensure!(url.starts_with(&format!("http://{}", wire.netboot)), "option 67 is {url:?}");
    ensure!(!wire.all.iter().any(|d| d.to == (wire.netboot, TFTP_PORT)), "TFTP was used");
    Ok(())
}

/// Discovery control 8: "take the file in this packet". A file name that is no URL would make iPXE load iPXE for ever.
/// The second start, and the one after the install, come from the disk: netboot is not asked, or stays silent.
fn ipxe_dialect(wire: &Wire) -> Result<()> {
    let asked = wire.discover("PXEClient:Arch:00000")?;
    let offer = wire.offer(asked.xid)?;
    let control = offer.options.get(&dhcp::VENDOR_INFORMATION).context("netboot's offer has no option 43")?;
    ensure!(control.starts_with(&[6, 1, 8]), "option 43 is {control:02x?}");
    ensure!(offer.your_address == [0; 4], "netboot gave an address: {:?}", offer.your_address);
    let url = offer.text(dhcp::BOOT_FILE);
    ensure!(url.starts_with(&format!("http://{}/boot/", wire.netboot)), "option 67 is {url:?}");
    let offers = wire
        .dhcp(wire.machine)
        .filter(|(d, m)| {
            let ours = d.from == (wire.netboot, DHCP_SERVER_PORT) && m.kind() == Some(dhcp::OFFER);
            ours && m.xid != asked.xid && m.text(dhcp::VENDOR_CLASS) == "PXEClient"
        })
        .count();
    ensure!(offers == 0, "netboot offered to boot from the network {offers} times more");
    Ok(())
}

/// iPXE in a ROM needs no other program.
fn rom_dialect(wire: &Wire) -> Result<()> {
    ensure!(!wire.all.iter().any(|d| d.to == (wire.netboot, TFTP_PORT)), "TFTP was used");
    ipxe_dialect(wire)
}

/// The program comes by TFTP, asks for itself, and gets the script: the same talk as that of iPXE in a ROM.
fn undionly_dialect(wire: &Wire) -> Result<()> {
    let asks = |d: &&Datagram| d.to == (wire.netboot, TFTP_PORT) && d.payload.starts_with(b"\0\x01undionly.kpxe\0");
    wire.all.iter().find(asks).context("nobody asked for undionly.kpxe")?;
    ipxe_dialect(wire)
}

fn till_undisturbed(wire: &Wire, till: &str) -> Result<()> {
    let till = pcap::mac(till).context("the till's MAC address")?;
    let router: Ipv4Addr = at::ROUTER.parse().context("the router's address")?;
    let acknowledged = wire.dhcp(till).any(|(d, m)| d.from.0 == router && m.kind() == Some(dhcp::ACK));
    ensure!(acknowledged, "the store's DHCP server did not acknowledge it");
    let about_till = wire.dhcp(till).any(|(d, _)| d.from.0 == wire.netboot);
    let to_till = wire.all.iter().any(|d| d.to_mac == till && d.from.0 == wire.netboot);
    ensure!(!about_till && !to_till, "netboot sent it something");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::record::{Bytes, NodeRecord, StepTime};

    fn record() -> Record {
        let steps = Step::ALL.iter().zip(0..).map(|(name, at)| StepTime {
            name: *name,
            started_s: f64::from(at) * 5.0,
            seconds: 5.0,
        });
        Record {
            steps: steps.collect(),
            total_seconds: 90.0,
            installed_boot_seconds: 31.0,
            node: NodeRecord { name: "n".into(), ready: true, boot_ids: vec!["a".into(), "b".into()] },
            bytes: Bytes { boot: 1, install: 1 },
            guest_memory_mib: 1024,
            region_seconds: 4.0,
            plain_seconds: 1.0,
        }
    }

    #[test]
    fn a_good_journey_passes() {
        assert!(steps_in_order(&record()).is_ok());
        assert!(boot_ids_differ(&record()).is_ok());
        assert!(quick_enough(&record()).is_ok());
    }

    #[test]
    fn a_missing_step_a_repeated_boot_id_and_slowness_do_not() {
        let mut bad = record();
        bad.steps.remove(7);
        bad.node.boot_ids[1] = "a".into();
        bad.installed_boot_seconds = 29.0;
        assert!(steps_in_order(&bad).is_err());
        assert!(boot_ids_differ(&bad).is_err());
        assert!(quick_enough(&bad).is_err());
    }
}
