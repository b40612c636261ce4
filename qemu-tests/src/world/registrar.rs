//! The region's registrar, as an operator sets it up: its own commands, its own files.

use super::{addresses as at, network::REGION, region::Region, root::Root, service::Service};
use crate::process;
use anyhow::{Context as _, Result};
use contracts::staging::StageRecord;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Makes a registrar's state: CA, server certificate, database.
///
/// # Errors
/// When `registrar init` fails.
pub fn init(program: &Path, state: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["init", "--server-name", at::REGISTRAR_NAME, "--address", at::REGION, "--state"]).arg(state);
    process::output(&mut command).context("making the registrar's state")?;
    Ok(())
}

/// What a registrar is given.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its files; `state` in it was made by [`init`].
    pub folder: &'a Path,
    /// The cluster that machines join; without one they get as far as that.
    pub region: Option<&'a Region>,
    /// The store's machines.
    pub machines: &'a [(&'a str, Selector<'a>)],
    /// Their template.
    pub template: &'a str,
    /// A person has to admit the machine.
    pub person: bool,
    /// Where it listens.
    pub port: u16,
}

/// Which machine an entry of the inventory is about.
#[derive(Debug, Clone, Copy)]
pub enum Selector<'a> {
    /// Whatever is taken from the shelf.
    Any,
    /// The one with this MAC address.
    Mac(&'a str),
}

/// One store with one machine: whatever is taken from the shelf.
pub const ANY: [(&str, Selector<'_>); 1] = [(at::NODE, Selector::Any)];

/// A running registrar.
#[derive(Debug)]
pub struct Registrar {
    /// The store's credential, for netboot.
    pub store_credential: PathBuf,
    program: PathBuf,
    state: PathBuf,
    config: PathBuf,
    service: Service,
}

impl Registrar {
    /// Adds the store, writes configuration and inventory, starts it and waits until it listens.
    ///
    /// # Errors
    /// When a command fails or it does not listen in half a minute.
    pub async fn start(root: &Root, setup: Setup<'_>, name: &str, logs: &Path) -> Result<Self> {
        let Setup { program, folder, region, machines, template, person, port } = setup;
        let state = folder.join("state");
        let store_credential = folder.join("store.json");
        let endpoint = format!("{}:{port}", at::REGION);
        let mut add = root.command(program);
        add.args(["store", "add", at::STORE, "--endpoint", &endpoint, "--state"]).arg(&state);
        process::output(add.arg("--out").arg(&store_credential)).context("adding the store at the registrar")?;

        let inventory = write(&folder.join("inventory.yaml"), &inventory(machines, template, person))?;
        let mut config = json!({
            "apiVersion": "shelfboot.dev/v1",
            "kind": "Registrar",
            "listen": format!("0.0.0.0:{port}"),
            "state": state,
            "inventory": inventory,
        });
        if let Some(region) = region {
            let (cluster, fields) = region.configuration();
            config[cluster] = fields;
            // Those that ship are taken for granted, a site's own one is not.
            config[cluster]["templates"] = json!([template]);
        }
        let config = write(&folder.join("registrar.yaml"), &format!("{config:#}\n"))?;
        let mut command = region.map_or(root, |region| region.root(root)).command_in(REGION, program);
        let mut service = Service::start(name, command.arg("serve").arg("--config").arg(&config), logs)?;
        wait_until_listening(&mut service, endpoint.parse().context("an address")?).await?;
        Ok(Self { store_credential, program: program.to_owned(), state, config, service })
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// See [`Service::check`].
    pub fn check(&mut self) -> Result<()> {
        self.service.check()
    }

    /// What `registrar machine list` prints.
    ///
    /// # Errors
    /// When the command fails.
    pub fn machine_list(&self, root: &Root) -> Result<String> {
        let mut command = root.command(&self.program);
        process::output(command.args(["machine", "list", "--state"]).arg(&self.state))
    }

    /// What `registrar machine revoke` prints. It talks to the cluster, so it runs where the server does.
    ///
    /// # Errors
    /// When it fails.
    pub fn revoke(&self, root: &Root, name: &str) -> Result<String> {
        let mut command = root.command_in(REGION, &self.program);
        process::output(command.args(["machine", "revoke", name, "--config"]).arg(&self.config))
    }

    /// What `registrar machine reopen` prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn reopen(&self, root: &Root, name: &str) -> Result<String> {
        let mut command = root.command(&self.program);
        process::output(command.args(["machine", "reopen", name, "--state"]).arg(&self.state))
    }

    /// What `registrar machine approve` prints.
    ///
    /// # Errors
    /// When it refuses.
    pub fn approve(&self, root: &Root, code: &str) -> Result<String> {
        let mut command = root.command(&self.program);
        process::output(command.args(["machine", "approve", "--code", code, "--state"]).arg(&self.state))
    }

    /// Orders a machine to the shelf, and gives what `registrar retire` prints. It talks to the cluster, so it runs where the server does.
    ///
    /// # Errors
    /// When it fails.
    pub fn retire(&self, root: &Root, name: &str) -> Result<String> {
        let mut command = root.command_in(REGION, &self.program);
        command.args(["retire", name, "--by", "a person at the region", "--config"]);
        process::output(command.arg(&self.config))
    }

    /// What `registrar retired --json` prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn retired(&self, root: &Root) -> Result<Value> {
        let mut command = root.command(&self.program);
        let text = process::output(command.args(["retired", "--json", "--state"]).arg(&self.state))?;
        serde_json::from_str(&text).context("reading registrar retired")
    }

    /// Lets machines that no entry names be looked at.
    ///
    /// # Errors
    /// When it fails.
    pub fn open_staging(&self, root: &Root, store: &str, template: &str) -> Result<String> {
        let mut command = root.command(&self.program);
        command.args(["stage", "open", "--store", store, "--template", template, "--by", "a person at the region"]);
        process::output(command.arg("--state").arg(&self.state))
    }

    /// What the region has on record of a machine that was looked at.
    ///
    /// # Errors
    /// When the command fails.
    pub fn staged(&self, root: &Root, mac: &str) -> Result<Option<StageRecord>> {
        let mut command = root.command(&self.program);
        let text = process::output(command.args(["staged", mac, "--json", "--state"]).arg(&self.state))?;
        let all: Value = serde_json::from_str(&text).context("reading registrar staged")?;
        let one = all.as_array().and_then(|all| all.first()).map(|one| one["record"].clone());
        one.map(|one| serde_json::from_value(one).context("reading registrar staged")).transpose()
    }

    /// Permits a machine to install over a disk, as a person does with what is read out.
    ///
    /// # Errors
    /// When it refuses.
    pub fn permit_wipe(&self, root: &Root, store: &str, mac: &str, disk: &str, number: &str) -> Result<String> {
        let mut command = root.command(&self.program);
        command.args(["permit", "wipe", "--store", store, "--mac", mac, "--disk", disk, "--number", number]);
        process::output(command.args(["--by", "a person at the region", "--state"]).arg(&self.state))
    }

    /// What the registrar shows of a machine's recovery keys: JSON.
    ///
    /// # Errors
    /// When there is none.
    pub fn recovery_keys(&self, root: &Root, machine: &str) -> Result<serde_json::Value> {
        let mut command = root.command(&self.program);
        command.args(["recovery-key", machine, "--json", "--by", "a person at the region", "--state"]).arg(&self.state);
        serde_json::from_str(&process::output(&mut command)?).context("reading what the registrar shows")
    }
}

async fn wait_until_listening(service: &mut Service, address: SocketAddr) -> Result<()> {
    let begin = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        service.check()?;
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(30), "the registrar did not listen in 30 s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// What the region says about all of its stores, for templates that have a place for it.
pub const PLACE: &str = "by the harbour";
/// What it says about this one.
pub const NUMBER: &str = "0042";

fn inventory(machines: &[(&str, Selector<'_>)], template: &str, person: bool) -> String {
    let entries = machines.iter().map(|(name, selector)| {
        let mut entry = json!({"name": name, "template": template, "channel": "stable"});
        match selector {
            Selector::Any => entry["any"] = json!(true),
            Selector::Mac(mac) => entry["mac"] = json!(mac),
        }
        entry
    });
    let entries: Vec<_> = entries.collect();
    let document = json!({
        "apiVersion": "shelfboot.dev/v1",
        "kind": "Inventory",
        "templates": [{"name": template, "admission": if person { "person" } else { "store" }}],
        "parameters": {"store.number": "0000", "store.place": PLACE},
        "stores": [{
            "name": at::STORE,
            "parameters": {"store.number": NUMBER},
            "machines": entries,
        }],
    });
    format!("{document:#}\n")
}

pub(super) fn write(path: &Path, text: &str) -> Result<PathBuf> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.to_owned())
}
