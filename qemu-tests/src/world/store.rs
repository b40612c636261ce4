//! The store: the DHCP server that was there first, netboot beside it, a till, and a packet capture.

use super::{
    addresses as at,
    netboot::{Netboot, NetbootSetup, Place},
    network::{self, BRIDGE},
    root::Root,
    servers,
    service::Service,
};
use crate::process;
use anyhow::{Context as _, Result, ensure};
use contracts::{
    logs::LogBundle,
    status::{MachineStatus, StoreStatus},
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A running store.
#[derive(Debug)]
pub struct Store {
    dhcp: Service,
    netboot: Netboot,
    capture: Service,
    /// The packet capture of the store's LAN.
    pub capture_file: PathBuf,
}

impl Store {
    /// Starts it; netboot has answered over HTTP when this returns.
    ///
    /// # Errors
    /// When a program cannot be started, ends, or netboot does not answer in a minute.
    pub async fn start(root: &Root, netboot: NetbootSetup<'_>, folder: &Path, logs: &Path) -> Result<Self> {
        let capture_file = folder.join("lan.pcap");
        let capture = capture(root, &capture_file, logs).await?;
        let dhcp = servers::dnsmasq(root, network::ROUTER, at::ROUTER, &[], folder, logs)?;
        let netboot = Netboot::start(root, netboot, &Place::beside(), folder, logs).await?;
        Ok(Self { dhcp, netboot, capture, capture_file })
    }

    /// The router died and came back with nothing of what netboot knew.
    ///
    /// # Errors
    /// When netboot does not come up again.
    pub async fn lose_state(&mut self, root: &Root) -> Result<()> {
        self.netboot.lose_state(root).await
    }

    /// Fails when one of the programs has ended.
    ///
    /// # Errors
    /// See [`Service::check`].
    pub fn check(&mut self) -> Result<()> {
        self.netboot.check()?;
        [&mut self.dhcp, &mut self.capture].into_iter().try_for_each(Service::check)
    }

    /// What netboot's status page says.
    ///
    /// # Errors
    /// When netboot does not answer, or with something else.
    pub async fn status(&self) -> Result<StoreStatus> {
        self.netboot.status().await
    }

    /// What netboot says about one machine.
    ///
    /// # Errors
    /// See [`Store::status`].
    pub async fn machine(&self, mac: &str) -> Result<Option<MachineStatus>> {
        Ok(self.status().await?.machines.into_iter().find(|m| m.mac == mac))
    }

    /// What netboot has written to its log.
    #[must_use]
    pub fn netboot_log(&self) -> String {
        self.netboot.log()
    }

    /// What a machine sent of its last attempt.
    ///
    /// # Errors
    /// See [`Netboot::log_of`].
    pub fn log_of(&self, root: &Root, mac: &str) -> Result<Option<LogBundle>> {
        self.netboot.log_of(root, mac)
    }

    /// Ends the capture, so that its file is complete.
    pub fn stop_capture(&mut self) {
        self.capture.stop();
    }
}

async fn capture(root: &Root, file: &Path, logs: &Path) -> Result<Service> {
    // Image content travels over TCP and would fill the disk; DHCP and TFTP do not.
    capture_of(root, BRIDGE, "700", "udp or arp", file, logs).await
}

/// Writes what passes an interface of this namespace to `file`: as much of each packet as `bytes` says, of packets that
/// `filter` (pcap-filter(7)) lets pass. It is listening when this returns.
///
/// # Errors
/// When tcpdump does not begin.
pub async fn capture_of(
    root: &Root,
    interface: &str,
    bytes: &str,
    filter: &str,
    file: &Path,
    logs: &Path,
) -> Result<Service> {
    let mut command = root.command("tcpdump");
    // Every packet is handed over and written at once, because the program ends by SIGKILL. -Z root: the file belongs to us.
    command
        .args(["-i", interface, "--immediate-mode", "-U", "-n", "-s", bytes, "-Z", "root", "-w"])
        .arg(file)
        .arg(filter);
    let mut service = Service::start("tcpdump", &mut command, logs)?;
    let begin = Instant::now();
    while !file.exists() {
        service.check()?;
        ensure!(begin.elapsed() < Duration::from_secs(20), "tcpdump did not begin in 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(service)
}

/// Lets the till ask for an address, as it does every morning; returns what its DHCP client printed.
///
/// # Errors
/// When it gets none.
pub fn till_asks_for_an_address(root: &Root) -> Result<String> {
    let mut command = root.command_in(network::TILL, "busybox");
    command.args(["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "2", "-V", "till", "-s", "/bin/true"]);
    let output = command.output().context("starting the till's DHCP client")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "the till got no address: {text}");
    Ok(text)
}

/// The MAC address of the till.
///
/// # Errors
/// When the namespace or its interface is not there.
pub fn till_mac(root: &Root) -> Result<String> {
    let text = process::output(root.command_in(network::TILL, "cat").arg("/sys/class/net/eth0/address"))?;
    Ok(text.trim().to_owned())
}
