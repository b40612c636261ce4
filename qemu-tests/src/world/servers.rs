//! Other people's DHCP programs, as they stand in stores: servers, and relays before them.

use super::{addresses as at, root::Root, service::Service};
use crate::process;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// An ordinary DHCP server as any router has one: dnsmasq. It knows nothing of PXE, unless `more` says so.
///
/// # Errors
/// When it cannot be started.
pub fn dnsmasq(
    root: &Root,
    namespace: &str,
    gateway: &str,
    more: &[&str],
    folder: &Path,
    logs: &Path,
) -> Result<Service> {
    let mut command = root.command_in(namespace, "dnsmasq");
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root", "--port=0"])
        .args(["--interface=eth0", "--bind-interfaces", "--dhcp-authoritative", "--log-dhcp", "--log-facility=-"])
        .arg(format!("--dhcp-range={},{},255.255.255.0,1h", at::LEASES.0, at::LEASES.1))
        .arg(format!("--dhcp-option=option:router,{gateway}"))
        .arg(format!("--dhcp-leasefile={}", folder.join("dnsmasq.leases").display()))
        .args(more);
    Service::start("dnsmasq", &mut command, logs)
}

/// Waits until somebody serves TFTP in a namespace. dnsmasq listens on the addresses that it finds when it starts.
///
/// # Errors
/// When nobody does in ten seconds.
pub async fn wait_for_tftp(root: &Root, namespace: &str) -> Result<()> {
    let begin = Instant::now();
    // Port 69 in hex, of the local address (proc_net_udp).
    while !process::output(root.command_in(namespace, "cat").arg("/proc/net/udp"))?.contains(":0045 ") {
        ensure!(begin.elapsed() < Duration::from_secs(10), "nobody serves TFTP in {namespace}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// ISC Kea for the same network. It tells PXE machines that a boot server is on its own host, as docs/pxe.md says, or knows nothing
/// of PXE. `root` is that of the neighbours.
///
/// # Errors
/// When it cannot be started.
pub fn kea(
    root: &Root,
    namespace: &str,
    gateway: &str,
    boot_server_here: bool,
    folder: &Path,
    logs: &Path,
) -> Result<Service> {
    let mut config = json!({"Dhcp4": {
        // Kea gives up on a cable that was put in a moment ago, unless it is told to try again.
        "interfaces-config": {
            "interfaces": ["eth0"],
            "service-sockets-max-retries": 50,
            "service-sockets-retry-wait-time": 100,
            "service-sockets-require-all": true,
        },
        "lease-database": {"type": "memfile", "persist": false},
        "valid-lifetime": 3600,
        "subnet4": [{
            "id": 1,
            "subnet": at::STORE_NETWORK,
            "pools": [{"pool": format!("{} - {}", at::LEASES.0, at::LEASES.1)}],
            "option-data": [{"name": "routers", "data": gateway}],
        }],
        "loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output-options": [{"output": "stdout"}]}],
    }});
    if boot_server_here {
        config["Dhcp4"]["client-classes"] = json!([{
            "name": "pxe",
            "test": "substring(option[60].hex,0,9) == 'PXEClient'",
            "option-data": [{"name": "vendor-class-identifier", "data": "PXEClient", "always-send": true}],
        }]);
    }
    let file = folder.join("kea.json");
    std::fs::write(&file, format!("{config:#}\n")).with_context(|| format!("writing {}", file.display()))?;
    let mut command = root.command_in(namespace, "kea-dhcp4");
    command.arg("-c").arg(&file).env("KEA_PIDFILE_DIR", "/tmp").env("KEA_LOCKFILE_DIR", "none");
    Service::start("kea", &mut command, logs)
}

/// ISC's relay between the segment of the machines (`eth0`) and that of the servers (`eth1`). `root` is that of the
/// neighbours.
///
/// # Errors
/// When it cannot be started.
pub fn isc_relay(root: &Root, namespace: &str, servers: &[&str], logs: &Path) -> Result<Service> {
    let mut command = root.command_in(namespace, "dhcrelay");
    command.args(["-4", "-d", "--no-pid", "-id", "eth0", "-iu", "eth1"]).args(servers);
    Service::start("relay", &mut command, logs)
}

/// dnsmasq as a relay: what many routers have.
///
/// # Errors
/// When it cannot be started.
pub fn dnsmasq_relay(root: &Root, namespace: &str, own: &str, servers: &[&str], logs: &Path) -> Result<Service> {
    let mut command = root.command_in(namespace, "dnsmasq");
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root", "--port=0"])
        .args(["--log-dhcp", "--log-facility=-"])
        .args(servers.iter().map(|server| format!("--dhcp-relay={own},{server}")));
    Service::start("relay", &mut command, logs)
}
