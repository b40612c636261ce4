//! The store: the DHCP server that was there first, netboot beside it, a till, and a packet capture.

use super::{
    addresses as at,
    network::{self, BRIDGE},
    registrar::write,
    root::Root,
    service::Service,
};
use crate::process;
use anyhow::{Context as _, Result, ensure};
use contracts::status::{MachineStatus, StoreStatus};
use serde_json::json;
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
    http: reqwest::Client,
    /// The packet capture of the store's LAN.
    pub capture_file: PathBuf,
}

/// netboot, and how to start it again.
#[derive(Debug)]
struct Netboot {
    program: PathBuf,
    config: PathBuf,
    state: PathBuf,
    logs: PathBuf,
    service: Service,
}

/// What netboot is given.
#[derive(Debug, Clone, Copy)]
pub struct NetbootSetup<'a> {
    /// The program.
    pub program: &'a Path,
    /// The image repository.
    pub repository: &'a Path,
    /// The TUF root of trust.
    pub trust: &'a Path,
    /// The store's credential.
    pub credential: &'a Path,
}

impl Store {
    /// Starts it; netboot has answered over HTTP when this returns.
    ///
    /// # Errors
    /// When a program cannot be started, ends, or netboot does not answer in a minute.
    pub async fn start(root: &Root, netboot: NetbootSetup<'_>, folder: &Path, logs: &Path) -> Result<Self> {
        let capture_file = folder.join("lan.pcap");
        let capture = capture(root, &capture_file, logs).await?;
        let dhcp = dhcp_server(root, folder, logs)?;
        let netboot = start_netboot(root, netboot, folder, logs)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().context("making a client")?;
        let mut store = Self { dhcp, netboot, capture, http, capture_file };
        store.wait_until_answering().await?;
        Ok(store)
    }

    async fn wait_until_answering(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            self.check()?;
            match self.status().await {
                // Only a store that knows its assignments answers firmware.
                Ok(status) if status.region_reachable => return Ok(()),
                Ok(_) => ensure!(begin.elapsed() < Duration::from_secs(60), "netboot did not reach the region in 60 s"),
                Err(error) => ensure!(begin.elapsed() < Duration::from_secs(60), "netboot does not answer: {error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The router died and came back with nothing of what netboot knew.
    ///
    /// # Errors
    /// When netboot does not come up again.
    pub async fn lose_state(&mut self, root: &Root) -> Result<()> {
        let netboot = &mut self.netboot;
        netboot.service.stop();
        std::fs::remove_dir_all(&netboot.state).context("removing netboot's state")?;
        std::fs::create_dir_all(&netboot.state).context("making netboot's state")?;
        netboot.service = netboot_service(root, &netboot.program, &netboot.config, &netboot.logs)?;
        self.wait_until_answering().await
    }

    /// Fails when one of the programs has ended.
    ///
    /// # Errors
    /// See [`Service::check`].
    pub fn check(&mut self) -> Result<()> {
        [&mut self.dhcp, &mut self.netboot.service, &mut self.capture].into_iter().try_for_each(Service::check)
    }

    /// What netboot's status page says.
    ///
    /// # Errors
    /// When netboot does not answer, or with something else.
    pub async fn status(&self) -> Result<StoreStatus> {
        let answer =
            self.http.get(format!("http://{}/v1/status", at::NETBOOT)).send().await.context("asking netboot")?;
        let bytes = answer.error_for_status().context("netboot's status")?.bytes().await.context("reading")?;
        contracts::read(&bytes).context("netboot's status")
    }

    /// What netboot says about one machine.
    ///
    /// # Errors
    /// See [`Store::status`].
    pub async fn machine(&self, mac: &str) -> Result<Option<MachineStatus>> {
        Ok(self.status().await?.machines.into_iter().find(|m| m.mac == mac))
    }

    /// Ends the capture, so that its file is complete.
    pub fn stop_capture(&mut self) {
        self.capture.stop();
    }
}

async fn capture(root: &Root, file: &Path, logs: &Path) -> Result<Service> {
    let mut command = root.command("tcpdump");
    // Image content travels over TCP and would fill the disk; DHCP and TFTP do not. -U: every packet is written
    // at once. -Z root: the file belongs to us.
    command.args(["-i", BRIDGE, "-U", "-n", "-s", "700", "-Z", "root", "-w"]).arg(file).arg("udp or arp");
    let mut service = Service::start("tcpdump", &mut command, logs)?;
    let begin = Instant::now();
    while !file.exists() {
        service.check()?;
        ensure!(begin.elapsed() < Duration::from_secs(20), "tcpdump did not begin in 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(service)
}

/// An ordinary DHCP server as any router has one. It knows nothing of PXE.
fn dhcp_server(root: &Root, folder: &Path, logs: &Path) -> Result<Service> {
    let mut command = root.command_in(network::ROUTER, "dnsmasq");
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root", "--port=0"])
        .args(["--interface=eth0", "--bind-interfaces", "--dhcp-authoritative", "--log-dhcp", "--log-facility=-"])
        .arg(format!("--dhcp-range={},{},255.255.255.0,1h", at::LEASES.0, at::LEASES.1))
        .arg(format!("--dhcp-option=option:router,{}", at::ROUTER))
        .arg(format!("--dhcp-leasefile={}", folder.join("dnsmasq.leases").display()));
    Service::start("dnsmasq", &mut command, logs)
}

fn start_netboot(root: &Root, setup: NetbootSetup<'_>, folder: &Path, logs: &Path) -> Result<Netboot> {
    let state = folder.join("netboot");
    std::fs::create_dir_all(&state).with_context(|| format!("making {}", state.display()))?;
    let config = json!({
        "apiVersion": "shelfboot.dev/v1",
        "kind": "Netboot",
        "interface": "eth0",
        "repository": setup.repository,
        "trust": setup.trust,
        "state": state,
        "credential": setup.credential,
        "relayPort": at::REGISTRAR_PORT,
    });
    let config = write(&folder.join("netboot.yaml"), &format!("{config:#}\n"))?;
    let service = netboot_service(root, setup.program, &config, logs)?;
    Ok(Netboot { program: setup.program.to_owned(), config, state, logs: logs.to_owned(), service })
}

fn netboot_service(root: &Root, program: &Path, config: &Path, logs: &Path) -> Result<Service> {
    let mut command = root.command_in(network::NETBOOT, program);
    Service::start("netboot", command.arg("serve").arg("--config").arg(config), logs)
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
