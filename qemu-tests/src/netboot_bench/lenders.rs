//! The same servers as DHCP servers with a pool, each with its leases in a file on the same disk.

use super::{
    inside::Bench,
    network::{ADDRESS, SERVER},
    servers::netboot_config,
};
use crate::world::service::Service;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::{fs, net::Ipv4Addr, path::PathBuf};

/// First and last address that are lent.
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 60, 16, 0), Ipv4Addr::new(10, 60, 31, 255));
/// How long a lease runs, for everybody: longer than a measurement.
const LEASE_MINUTES: u32 = 60;

/// A DHCP server under measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lender {
    /// Ours, in mode `dhcp`. A lease is on the disk (`fdatasync`) before its ACK leaves.
    Netboot,
    /// Debian's. It writes its lease file anew for each change, and syncs it, before the ACK.
    Dnsmasq,
    /// Debian's. It appends a line to its lease file (memfile, `persist: true`), before the ACK, and leaves it to the kernel.
    Kea,
}

impl Lender {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netboot => "netboot",
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "Kea",
        }
    }

    /// Starts it with no leases. Nobody asks before an address is lent, as far as that can be chosen; each writes its log as it does by
    /// itself.
    ///
    /// # Errors
    /// When a file cannot be written or the program not be started.
    pub fn start(self, bench: &Bench<'_>) -> Result<Service> {
        let folder = bench.plan.run.join("leases");
        // What an earlier run lent is not lent any more.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let (root, logs) = (&bench.root, &bench.logs);
        match self {
            Self::Netboot => {
                let mut config = netboot_config(bench);
                config["state"] = json!(folder.join("state"));
                config["mode"] = json!("dhcp");
                config["dhcp"] =
                    json!({"first": POOL.0, "last": POOL.1, "leaseMinutes": LEASE_MINUTES, "probe": false});
                let file = write(folder.join("netboot.yaml"), &config)?;
                let mut command = root.command_in(SERVER, &bench.plan.netboot);
                Service::start("netboot", command.arg("serve").arg("--config").arg(file), logs)
            }
            Self::Dnsmasq => {
                let mut command = root.command_in(SERVER, "dnsmasq");
                command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"]);
                command.args(["--interface=eth0", "--bind-interfaces", "--log-facility=-", "--no-ping"]);
                command.args(["--dhcp-authoritative", "--dhcp-lease-max=5000"]);
                command.arg(format!("--dhcp-range={},{},255.255.0.0,{LEASE_MINUTES}m", POOL.0, POOL.1));
                command.arg(format!("--dhcp-leasefile={}", folder.join("dnsmasq.leases").display()));
                Service::start("dnsmasq", &mut command, logs)
            }
            Self::Kea => {
                let config = json!({"Dhcp4": {
                    "interfaces-config": {"interfaces": [format!("eth0/{ADDRESS}")]},
                    "lease-database": {"type": "memfile", "persist": true, "name": folder.join("kea-leases4.csv")},
                    "valid-lifetime": LEASE_MINUTES * 60,
                    "subnet4": [{
                        "id": 1, "subnet": "10.60.0.0/16", "pools": [{"pool": format!("{} - {}", POOL.0, POOL.1)}],
                    }],
                    "loggers": [{
                        "name": "kea-dhcp4", "severity": "INFO", "output-options": [{"output": "stdout"}],
                    }],
                }});
                let file = write(folder.join("kea.json"), &config)?;
                let mut command = root.command_in(SERVER, "kea-dhcp4");
                command.arg("-c").arg(file).env("KEA_PIDFILE_DIR", "/tmp").env("KEA_LOCKFILE_DIR", "none");
                // It takes lease files in this folder only.
                Service::start("kea", command.env("KEA_DHCP_DATA_DIR", &folder), logs)
            }
        }
    }
}

fn write(file: PathBuf, config: &Value) -> Result<PathBuf> {
    fs::write(&file, format!("{config:#}\n")).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}
