//! Devices that are not ours: ordinary DHCP clients in namespaces of their own, and machines that boot from somebody else.
//! Each does what it does, while its cable is listened to.

use super::{Lan, Roots, power_on, power_on::Firmware, wires};
use crate::{
    journey::Plan,
    process,
    world::{
        firmware::NetworkBoot,
        machine::{Accelerator, Machine},
        network::feed,
        root::Root,
        service::Service,
        store,
    },
};
use anyhow::{Context as _, Result, ensure};
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// A late answer must still be heard: iPXE waits this long for a proxy.
const LISTEN_ON: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What somebody else's boot program says, see [`foreign_boot_files`].
const FOREIGN_WORDS: &str = "started by somebody else";
/// Where they lie in the lab root.
const FOREIGN_FOLDER: &str = "/srv/foreign";

/// dnsmasq as a boot server for BIOS and UEFI, with those files.
pub const FOREIGN_BOOT: [&str; 6] = [
    "--no-ping",
    "--enable-tftp",
    "--tftp-root=/srv/foreign",
    "--dhcp-match=set:efi,option:client-arch,7",
    "--dhcp-boot=tag:efi,snponly.efi",
    "--dhcp-boot=tag:!efi,foreign.ipxe",
];

/// One device.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    /// Its name, also of its namespace.
    pub name: &'static str,
    /// Its MAC address. No inventory lists it.
    pub mac: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ISC's client, as on many older systems.
    Dhclient,
    /// busybox's, as in printers, phones and tills.
    Udhcpc,
    /// systemd-networkd.
    Networkd,
    /// A machine whose firmware boots from somebody else's boot server.
    ForeignBoot(NetworkBoot),
    /// A BIOS machine that asks the network in vain and goes on.
    NothingToBoot,
}

/// The devices that are no machines.
pub const CLIENTS: [Device; 3] = [
    Device { name: "dhclient", mac: "52:54:00:77:02:01", kind: Kind::Dhclient },
    Device { name: "udhcpc", mac: "52:54:00:77:02:02", kind: Kind::Udhcpc },
    Device { name: "networkd", mac: "52:54:00:77:02:03", kind: Kind::Networkd },
];

/// The machines that are not ours.
pub const MACHINES: [Device; 3] = [
    Device { name: "bios-foreign", mac: "52:54:00:77:02:11", kind: Kind::ForeignBoot(NetworkBoot::Bios) },
    Device { name: "uefi-foreign", mac: "52:54:00:77:02:12", kind: Kind::ForeignBoot(NetworkBoot::Pxe) },
    Device { name: "bios-in-vain", mac: "52:54:00:77:02:13", kind: Kind::NothingToBoot },
];

/// Puts somebody else's boot files into the lab root: iPXE for UEFI, and scripts that say `FOREIGN_WORDS` for ever.
///
/// # Errors
/// When they cannot be written.
pub fn foreign_boot_files(root: &Root) -> Result<()> {
    let script = format!("#!ipxe\n:again\necho {FOREIGN_WORDS}\nsleep 2\ngoto again\n");
    let copy = format!(
        "mkdir -p {FOREIGN_FOLDER} && cd {FOREIGN_FOLDER} && cp /usr/lib/ipxe/snponly.efi . \
         && cat > foreign.ipxe && cp foreign.ipxe autoexec.ipxe"
    );
    feed(root.command("sh").args(["-ec", &copy]), &script).context("somebody else's boot files")
}

/// Lets a device do what it does on this LAN; gives the capture of its cable.
///
/// # Errors
/// When it does not get what it should.
pub async fn observe(
    plan: &Plan,
    roots: &Roots,
    lan: &mut Lan,
    device: Device,
    accelerator: Accelerator,
) -> Result<Vec<u8>> {
    let port = match device.kind {
        Kind::ForeignBoot(_) | Kind::NothingToBoot => wires::tap(0),
        _ => wires::port(device.name),
    };
    let file = lan.folder.join(format!("{}.pcap", device.name));
    let mut capture = store::capture_of(&roots.lab, &port, "65535", "", &file, &lan.logs).await?;
    match device.kind {
        Kind::Dhclient => dhclient(roots, device).await?,
        Kind::Udhcpc => udhcpc(roots, device).await?,
        Kind::Networkd => networkd(roots, lan, device).await?,
        Kind::ForeignBoot(boot) => machine(plan, roots, lan, device, boot, FOREIGN_WORDS, accelerator).await?,
        Kind::NothingToBoot => {
            machine(plan, roots, lan, device, NetworkBoot::Bios, "No bootable device", accelerator).await?;
        }
    }
    lan.check()?;
    capture.stop();
    std::fs::read(&file).with_context(|| format!("reading {}", file.display()))
}

async fn dhclient(roots: &Roots, device: Device) -> Result<()> {
    const ASK: &str = ": >/run/dhclient.leases\nexec timeout 30 dhclient -4 -1 -v -sf /bin/true -pf /run/dhclient.pid \
        -lf /run/dhclient.leases eth0\n";
    let mut command = roots.neighbours.command_in(device.name, "sh");
    process::output(command.args(["-ec", ASK])).context("dhclient got no address")?;
    tokio::time::sleep(LISTEN_ON).await;
    // It went into the background with its lease, and would renew it one day. This gives nothing back.
    process::output(roots.neighbours.command("sh").args(["-ec", "kill -KILL $(cat /run/dhclient.pid)"]))
        .context("ending dhclient")?;
    Ok(())
}

async fn udhcpc(roots: &Roots, device: Device) -> Result<()> {
    let mut command = roots.lab.command_in(device.name, "busybox");
    command.args(["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "3", "-s", "/bin/true"]);
    process::output(&mut command).context("udhcpc got no address")?;
    tokio::time::sleep(LISTEN_ON).await;
    Ok(())
}

/// Without udev, which is a machine's: networkd takes a read-only /sys as the sign that there is none.
async fn networkd(roots: &Roots, lan: &Lan, device: Device) -> Result<()> {
    const SCRIPT: &str = "mount -o remount,bind,ro /sys\nrm -rf /run/systemd/netif\nmkdir -p /run/systemd/network\n\
        echo 0123456789abcdef0123456789abcdef >/etc/machine-id\n\
        printf '[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\nIPv6AcceptRA=no\\n' \
        >/run/systemd/network/10-lan.network\nexec /usr/lib/systemd/systemd-networkd\n";
    let mut command = roots.neighbours.command_in(device.name, "unshare");
    command.args(["--mount", "sh", "-ec", SCRIPT]);
    let mut service = Service::start(device.name, &mut command, &lan.logs)?;
    let begin = Instant::now();
    loop {
        service.check()?;
        let mut addresses: Command = roots.lab.command("ip");
        let shown = process::output(addresses.args(["-n", device.name, "-4", "-o", "address", "show", "dev", "eth0"]))?;
        if shown.contains("inet ") {
            break;
        }
        ensure!(begin.elapsed() < Duration::from_secs(30), "systemd-networkd got no address in 30 s");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tokio::time::sleep(LISTEN_ON).await;
    // SIGKILL: it gives nothing back.
    service.stop();
    Ok(())
}

async fn machine(
    plan: &Plan,
    roots: &Roots,
    lan: &mut Lan,
    device: Device,
    boot: NetworkBoot,
    words: &str,
    accelerator: Accelerator,
) -> Result<()> {
    let firmware = Firmware { name: device.name, boot, mac: device.mac };
    let hardware = power_on::hardware(plan, lan, firmware, 0, accelerator)?;
    let mut machine = Machine::switch_on(&roots.lab, &hardware, &lan.folder, 1)?;
    while machine.serial.first(words).is_none() {
        lan.check()?;
        machine.check()?;
        if machine.started.elapsed() > power_on::PATIENCE {
            let tail = machine.serial.tail(10);
            anyhow::bail!("{} did not say {words:?} in {} s:\n{tail}", device.name, power_on::PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tokio::time::sleep(LISTEN_ON).await;
    machine.pull_the_plug().await
}
