//! netboot in a namespace of the world, started as its unit starts it.

use super::{addresses as at, network, registrar::write, root::Root, service::Service};
use anyhow::{Context as _, Result, ensure};
use contracts::{
    logs::LogBundle,
    status::{MachineStatus, StoreStatus},
};
use serde_json::{Map, Value, json};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

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

/// Where it runs, and how it is to work there. Its interface is always `eth0`.
#[derive(Debug, Clone)]
pub struct Place {
    /// The network namespace.
    pub namespace: String,
    /// Its address there.
    pub address: String,
    /// More of its configuration, over what every store has.
    pub settings: Map<String, Value>,
}

impl Place {
    /// On a box of its own beside the store's router.
    #[must_use]
    pub fn beside() -> Self {
        Self { namespace: network::NETBOOT.into(), address: at::NETBOOT.into(), settings: Map::new() }
    }
}

/// A running netboot, and how to start it again.
#[derive(Debug)]
pub struct Netboot {
    program: PathBuf,
    config: PathBuf,
    state: PathBuf,
    logs: PathBuf,
    place: Place,
    http: reqwest::Client,
    service: Service,
}

impl Netboot {
    /// Starts it. When this returns it has answered over HTTP, and knows its assignments.
    ///
    /// # Errors
    /// When it ends, or does not answer in a minute.
    pub async fn start(
        root: &Root,
        setup: NetbootSetup<'_>,
        place: &Place,
        folder: &Path,
        logs: &Path,
    ) -> Result<Self> {
        let state = folder.join("netboot");
        std::fs::create_dir_all(&state).with_context(|| format!("making {}", state.display()))?;
        let mut config = json!({
            "apiVersion": "shelfboot.dev/v1",
            "kind": "Netboot",
            "interface": "eth0",
            "repository": setup.repository,
            "trust": setup.trust,
            "state": state,
            "credential": setup.credential,
            "relayPort": at::REGISTRAR_PORT,
        });
        if let Some(fields) = config.as_object_mut() {
            fields.extend(place.settings.clone());
        }
        let config = write(&folder.join("netboot.yaml"), &format!("{config:#}\n"))?;
        let service = serve(root, setup.program, &config, place, logs)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().context("making a client")?;
        let (program, logs, place) = (setup.program.to_owned(), logs.to_owned(), place.clone());
        let mut netboot = Self { program, config, state, logs, place, http, service };
        netboot.wait_until_answering().await?;
        Ok(netboot)
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
        self.service.stop();
        std::fs::remove_dir_all(&self.state).context("removing netboot's state")?;
        std::fs::create_dir_all(&self.state).context("making netboot's state")?;
        self.service = serve(root, &self.program, &self.config, &self.place, &self.logs)?;
        self.wait_until_answering().await
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// See [`Service::check`].
    pub fn check(&mut self) -> Result<()> {
        self.service.check()
    }

    /// What its status page says.
    ///
    /// # Errors
    /// When it does not answer, or with something else.
    pub async fn status(&self) -> Result<StoreStatus> {
        let address = &self.place.address;
        let answer = self.http.get(format!("http://{address}/v1/status")).send().await.context("asking netboot")?;
        let bytes = answer.error_for_status().context("netboot's status")?.bytes().await.context("reading")?;
        contracts::read(&bytes).context("netboot's status")
    }

    /// What it says about one machine.
    ///
    /// # Errors
    /// See [`Netboot::status`].
    pub async fn machine(&self, mac: &str) -> Result<Option<MachineStatus>> {
        Ok(self.status().await?.machines.into_iter().find(|m| m.mac == mac))
    }

    /// What a machine sent of its last attempt, as `netboot logs` prints it; `None` while nothing is kept of it.
    ///
    /// # Errors
    /// When the program prints something else than a bundle.
    pub fn log_of(&self, root: &Root, mac: &str) -> Result<Option<LogBundle>> {
        let mut command = root.command(&self.program);
        command.args(["logs", mac, "--json", "--config"]).arg(&self.config);
        let output = command.output().context("starting netboot logs")?;
        let error = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && error.contains("no log is kept") {
            return Ok(None);
        }
        ensure!(output.status.success(), "netboot logs ended with {}: {}", output.status, error.trim());
        contracts::read(&output.stdout).map(Some).context("netboot logs")
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.logs.join("netboot.log")).unwrap_or_default()).into_owned()
    }
}

fn serve(root: &Root, program: &Path, config: &Path, place: &Place, logs: &Path) -> Result<Service> {
    let mut command = root.command_in(&place.namespace, program);
    Service::start("netboot", command.arg("serve").arg("--config").arg(config), logs)
}
