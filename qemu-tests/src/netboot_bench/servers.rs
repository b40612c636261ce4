//! The servers, each started alone in the server's namespace, and what they cost.

use super::{
    inside::{Bench, LARGE, SMALL, TINY},
    network::{ADDRESS, CLIENTS, CLIENTS_AT_MOST, OTHERS, REGION, SERVER},
};
use crate::{
    process,
    world::{addresses as at, root::Root, service::Service},
};
use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A server under measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Ours.
    Netboot,
    /// Debian's.
    Dnsmasq,
    /// Debian's.
    Tftpd,
    /// Debian's nginx-light.
    Nginx,
}

impl Server {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netboot => "netboot",
            Self::Dnsmasq => "dnsmasq",
            Self::Tftpd => "tftpd-hpa",
            Self::Nginx => "nginx",
        }
    }

    /// Where it is. The TFTP servers run side by side; nginx has netboot's address when netboot does not run.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        match self {
            Self::Netboot | Self::Nginx => ADDRESS,
            Self::Dnsmasq => OTHERS[0],
            Self::Tftpd => OTHERS[1],
        }
    }
}

/// A running server. Ends when dropped.
#[derive(Debug)]
pub struct Running {
    service: Service,
}

impl Running {
    /// Starts one and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(bench: &Bench<'_>, server: Server) -> Result<Self> {
        let (root, logs) = (&bench.root, &bench.logs);
        let (files, address) = (bench.files.display(), server.address());
        let service = match server {
            Server::Dnsmasq => {
                let mut command = root.command_in(SERVER, "dnsmasq");
                command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--enable-tftp"]);
                command.args(["--user=root", "--bind-interfaces", "--log-facility=-"]);
                command.arg(format!("--listen-address={address}"));
                // Its default of 50 transfers would make most clients wait.
                command.args(["--tftp-max=1000".to_owned(), format!("--tftp-root={files}")]);
                Service::start("dnsmasq", &mut command, logs)?
            }
            Server::Tftpd => {
                let mut command = root.command_in(SERVER, "in.tftpd");
                command.args(["--foreground", "--user", "root", "--address", &format!("{address}:69"), "--secure"]);
                Service::start("tftpd-hpa", command.arg(files.to_string()), logs)?
            }
            Server::Nginx => {
                let config = bench.plan.run.join("nginx.conf");
                fs::write(&config, nginx(&bench.plan.run, &bench.files)).context("writing nginx's configuration")?;
                let mut command = root.command_in(SERVER, "nginx");
                Service::start("nginx", command.arg("-c").arg(&config), logs)?
            }
            Server::Netboot => {
                let config = bench.plan.run.join("netboot.yaml");
                fs::write(&config, format!("{:#}\n", netboot_config(bench)))
                    .context("writing netboot's configuration")?;
                let mut command = root.command_in(SERVER, &bench.plan.netboot);
                Service::start("netboot", command.arg("serve").arg("--config").arg(&config), logs)?
            }
        };
        let mut running = Self { service };
        let begin = Instant::now();
        while !serves(bench, server)? {
            running.service.check()?;
            ensure!(begin.elapsed() < Duration::from_secs(30), "{} does not serve after 30 s", server.name());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(running)
    }

    /// Its process and all below it.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        crate::builds::measure::family(self.service.id())
    }

    /// Seconds of processor that it has used, in user and kernel mode, by all threads that run.
    #[must_use]
    pub fn processor_seconds(&self) -> f64 {
        let nanoseconds: u64 = self.processes().into_iter().map(nanoseconds).sum();
        Duration::from_nanos(nanoseconds).as_secs_f64()
    }

    /// Resident memory in MiB.
    #[must_use]
    pub fn resident_mib(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let mib = |kib: u64| kib as f64 / 1024.0;
        mib(self.processes().into_iter().map(resident_kib).sum())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx's and tftpd's own children would go on serving.
        for id in self.processes() {
            let Ok(id) = i32::try_from(id) else { continue };
            // It may have ended already, and that is all right.
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        self.service.stop();
    }
}

/// The first field of each thread's schedstat (proc.rst of the kernel): time on a processor. The ticks of proc_pid_stat(5) are
/// too coarse for a short download.
fn nanoseconds(id: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let of = |text: String| text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
    threads.filter_map(|thread| of(fs::read_to_string(thread.path().join("schedstat")).ok()?)).sum()
}

fn resident_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Asks for the last byte of each file, as any client could.
fn serves(bench: &Bench<'_>, server: Server) -> Result<bool> {
    for template in [LARGE, SMALL, TINY] {
        let url = match server {
            Server::Dnsmasq | Server::Tftpd => {
                // curl fetches the whole file by TFTP, so it asks for one that is not there: an answer is an answer.
                let mut ask = bench.root.command_in(CLIENTS, "curl");
                ask.args([
                    "--silent",
                    "--max-time",
                    "2",
                    "--output",
                    "/dev/null",
                    &format!("tftp://{}/none", server.address()),
                ]);
                // 68: "file not found on server".
                return Ok(ask.status().context("starting curl")?.code() == Some(68));
            }
            Server::Nginx | Server::Netboot => format!("http://{ADDRESS}/boot/{template}.efi"),
        };
        let mut ask = bench.root.command_in(CLIENTS, "curl");
        ask.args(["--silent", "--fail", "--head", "--max-time", "2", "--output", "/dev/null", &url]);
        if !ask.status().context("starting curl")?.success() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn nginx(run: &Path, files: &Path) -> String {
    let (run, files) = (run.display(), files.display());
    format!(
        "daemon off;\nuser root;\nworker_processes auto;\npid {run}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n access_log off;\n sendfile on;\n tcp_nopush on;\n types {{ application/efi efi; }}\n\
         client_body_temp_path {run}/nginx-body;\n proxy_temp_path {run}/nginx-proxy;\n\
         fastcgi_temp_path {run}/nginx-fastcgi;\n uwsgi_temp_path {run}/nginx-uwsgi;\n scgi_temp_path {run}/nginx-scgi;\n\
         server {{ listen {ADDRESS}:80; location /boot/ {{ alias {files}/; }} }}\n}}\n"
    )
}

/// netboot's configuration: a YAML file may be written as JSON.
pub(super) fn netboot_config(bench: &Bench<'_>) -> serde_json::Value {
    json!({
        "apiVersion": "shelfboot.dev/v1", "kind": "Netboot", "interface": "eth0", "address": ADDRESS,
        "repository": bench.repository, "trust": bench.plan.keys.join("tuf/1.root.json"),
        "state": bench.plan.run.join("netboot-state"), "credential": bench.registrar.credential,
    })
}

/// The region: it tells netboot which machines are the store's.
#[derive(Debug)]
pub struct Registrar {
    /// The store's credential.
    pub credential: PathBuf,
    _service: Service,
}

impl Registrar {
    /// Starts it; the inventory has one machine for each client, all with the small image, and one more for each other image.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn start(plan: &super::Plan, root: &Root, logs: &Path) -> Result<Self> {
        let folder = plan.run.join("registrar");
        process::output(std::process::Command::new("cp").arg("-a").arg(&plan.registrar_state).arg(&folder))?;
        let credential = plan.run.join("store.json");
        let mut add = root.command(&plan.registrar);
        let endpoint = format!("{}:{}", at::REGION, at::REGISTRAR_PORT);
        add.args(["store", "add", at::STORE, "--endpoint", &endpoint, "--state"]).arg(&folder);
        process::output(add.arg("--out").arg(&credential)).context("adding the store")?;
        let machine = |number: u32, template: &str| {
            let mac = netboot_load_mac(number);
            json!({"name": format!("m{number}"), "template": template, "channel": "stable", "mac": mac})
        };
        let mut machines: Vec<_> = (0..CLIENTS_AT_MOST).map(|number| machine(number, SMALL)).collect();
        machines.extend([machine(CLIENTS_AT_MOST, LARGE), machine(CLIENTS_AT_MOST + 1, TINY)]);
        let inventory = json!({
            "apiVersion": "shelfboot.dev/v1", "kind": "Inventory",
            "stores": [{"name": at::STORE, "machines": machines}],
        });
        let paths = BTreeMap::from([
            ("inventory", plan.run.join("inventory.yaml")),
            ("config", plan.run.join("registrar.yaml")),
        ]);
        fs::write(&paths["inventory"], format!("{inventory:#}\n")).context("writing the inventory")?;
        let config = json!({
            "apiVersion": "shelfboot.dev/v1", "kind": "Registrar", "listen": format!("0.0.0.0:{}", at::REGISTRAR_PORT),
            "state": folder, "inventory": paths["inventory"],
        });
        fs::write(&paths["config"], format!("{config:#}\n")).context("writing the registrar's configuration")?;
        let mut command = root.command_in(REGION, &plan.registrar);
        let service = Service::start("registrar", command.arg("serve").arg("--config").arg(&paths["config"]), logs)?;
        Ok(Self { credential, _service: service })
    }
}

/// The MAC address of a machine of the load program.
fn netboot_load_mac(number: u32) -> String {
    netboot_load::dhcp::mac(number).map(|byte| format!("{byte:02x}")).join(":")
}
