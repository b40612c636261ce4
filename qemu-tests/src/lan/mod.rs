//! A smaller world: the LAN of one store at a time, laid in minutes' fractions and taken up again, with other people's DHCP
//! servers, relays and netboot in whatever order a case wants them. The registrar is real, the cluster behind it is
//! left out: machines here get as far as the agent's first word.
//! Start reading at [`Lan::lay`].

pub mod devices;
pub mod power_on;
pub mod wires;

use self::wires::Wires;
use crate::{
    journey::Plan,
    process,
    world::{
        addresses as at, copy_folder, make_folder,
        netboot::{Netboot, NetbootSetup, Place},
        network::{NETBOOT, ROUTER},
        registrar::{self, Registrar, Selector},
        root::Root,
        servers,
        service::Service,
    },
};
use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Who hands out addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Nobody but netboot.
    None,
    /// dnsmasq, with more arguments.
    Dnsmasq(&'static [&'static str]),
    /// ISC Kea; it sends PXE machines to port 4011, or knows nothing of PXE.
    Kea { boot_server_here: bool },
}

/// What stands between machines and servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// Nothing: they share a segment.
    None,
    /// A router with ISC's `dhcrelay`.
    Isc,
    /// A router with dnsmasq as relay.
    Dnsmasq,
}

/// Where netboot is, and how it works there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is not there.
    Absent,
    /// On a box of its own, in a mode (`None`: as it comes).
    Own(Option<&'static str>),
    /// On the host of the DHCP server, in a mode.
    Shared(Option<&'static str>),
}

/// netboot's own address on a host that has one already; that of its box is in use even when netboot is not there.
const SECOND_ADDRESS: &str = "10.77.0.3";

/// One store's LAN, as a case describes it.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// Its name in file names and tables.
    pub name: &'static str,
    /// Who hands out addresses.
    pub server: Server,
    /// What stands before it.
    pub relay: Relay,
    /// netboot.
    pub netboot: Presence,
}

impl Site {
    /// The addresses of the DHCP server's host and of netboot.
    #[must_use]
    pub fn addresses(&self) -> (&'static str, &'static str) {
        let (router, netboot) = match self.relay {
            Relay::None => (at::ROUTER, at::NETBOOT),
            Relay::Isc | Relay::Dnsmasq => (wires::FAR_ROUTER, wires::FAR_NETBOOT),
        };
        match self.netboot {
            Presence::Shared(_) if self.needs_second_address() => (router, SECOND_ADDRESS),
            Presence::Shared(_) => (router, router),
            Presence::Own(_) | Presence::Absent => (router, netboot),
        }
    }

    /// netboot shares its host with a program that serves TFTP there. Firmware knows one port of that only, so there
    /// netboot has an address of its own on the same interface.
    fn needs_second_address(&self) -> bool {
        let serves_files = matches!(self.server, Server::Dnsmasq(more) if more.contains(&"--enable-tftp"));
        serves_files && matches!(self.netboot, Presence::Shared(_))
    }
}

/// The roots that the LAN's programs come from.
#[derive(Debug)]
pub struct Roots {
    /// QEMU, dnsmasq, busybox, tcpdump.
    pub lab: Root,
    /// Kea, the relay, other DHCP clients.
    pub neighbours: Root,
}

impl Roots {
    /// Mounts them.
    ///
    /// # Errors
    /// When a mount fails.
    pub fn mount(plan: &Plan) -> Result<Self> {
        let lab = Root::mount(&plan.lab, &plan.run.join("world"), &[&plan.cache, &plan.run])?;
        // A first namespace: from then on both roots see the same ones.
        wires::first_namespace(&lab)?;
        let tree = plan.neighbours.as_ref().context("the plan has no tree of neighbours")?;
        let neighbours = lab.another(tree, &plan.run.join("neighbours"))?;
        Ok(Self { lab, neighbours })
    }
}

/// A LAN in operation. Its programs end when it is dropped; the wires stay until [`Lan::take_up`].
#[derive(Debug)]
pub struct Lan {
    /// Its description.
    pub site: Site,
    /// Everything about this run of it.
    pub folder: PathBuf,
    /// Logs of its programs.
    pub logs: PathBuf,
    /// netboot, where it is present.
    pub netboot: Option<Netboot>,
    registrar: Option<Registrar>,
    programs: Vec<Service>,
    wires: Wires,
}

impl Lan {
    /// Lays the wires and starts everything on them. netboot knows `machines` (name, MAC address) and no others.
    ///
    /// # Errors
    /// When something does not come up.
    pub async fn lay(
        plan: &Plan,
        roots: &Roots,
        site: Site,
        folder: &Path,
        machines: &[(&str, Selector<'_>)],
        wires: Wires,
    ) -> Result<Self> {
        let (folder, logs) = (make_folder(folder)?, make_folder(&folder.join("logs"))?);
        wires.lay(&roots.lab)?;
        let mut lan = Self { site, folder, logs, netboot: None, registrar: None, programs: Vec::new(), wires };
        lan.start_servers(roots)?;
        if site.netboot != Presence::Absent {
            lan.start_netboot(plan, roots, machines).await?;
        }
        Ok(lan)
    }

    fn start_servers(&mut self, roots: &Roots) -> Result<()> {
        let Self { site, folder, logs, .. } = self;
        match site.server {
            Server::None => {}
            Server::Dnsmasq(more) => {
                self.programs.push(servers::dnsmasq(&roots.lab, ROUTER, at::ROUTER, more, folder, logs)?);
            }
            Server::Kea { boot_server_here } => {
                let server = servers::kea(&roots.neighbours, ROUTER, at::ROUTER, boot_server_here, folder, logs)?;
                self.programs.push(server);
            }
        }
        let (server, netboot) = site.addresses();
        // A relay asks whom it was told of, whether he is there or not.
        match site.relay {
            Relay::None => {}
            Relay::Isc => {
                self.programs.push(servers::isc_relay(&roots.neighbours, wires::RELAY, &[server, netboot], logs)?);
            }
            Relay::Dnsmasq => {
                let to = [server, netboot];
                self.programs.push(servers::dnsmasq_relay(&roots.lab, wires::RELAY, at::ROUTER, &to, logs)?);
            }
        }
        Ok(())
    }

    async fn start_netboot(&mut self, plan: &Plan, roots: &Roots, machines: &[(&str, Selector<'_>)]) -> Result<()> {
        let folder = make_folder(&self.folder.join("registrar"))?;
        copy_folder(&plan.image.registrar_state, &folder.join("state"))?;
        let setup = registrar::Setup {
            program: &plan.registrar,
            folder: &folder,
            region: None,
            machines,
            template: &plan.image.template,
            person: false,
            port: at::REGISTRAR_PORT,
        };
        let registrar = Registrar::start(&roots.lab, setup, "registrar", &self.logs).await?;
        let setup = NetbootSetup {
            program: &plan.netboot,
            repository: &plan.image.repository,
            trust: &plan.image.trust,
            credential: &registrar.store_credential,
        };
        let (namespace, mode) = match self.site.netboot {
            Presence::Shared(mode) => (ROUTER, mode),
            Presence::Own(mode) => (NETBOOT, mode),
            Presence::Absent => return Ok(()),
        };
        let address = self.site.addresses().1;
        let mut settings = mode.map(settings).unwrap_or_default();
        if self.site.needs_second_address() {
            servers::wait_for_tftp(&roots.lab, namespace).await?;
            let mut add = roots.lab.command("ip");
            let own = format!("{address}/24");
            process::output(add.args(["-n", namespace, "address", "add", &own, "dev", "eth0"]))
                .context("giving netboot an address of its own")?;
            settings.insert("address".into(), json!(address));
        }
        let place = Place { namespace: namespace.into(), address: address.into(), settings };
        self.netboot = Some(Netboot::start(&roots.lab, setup, &place, &self.folder, &self.logs).await?);
        self.registrar = Some(registrar);
        Ok(())
    }

    /// Fails when one of its programs has ended.
    ///
    /// # Errors
    /// Says which, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.programs.iter_mut().try_for_each(Service::check)?;
        self.registrar.as_mut().map_or(Ok(()), Registrar::check)?;
        self.netboot.as_mut().map_or(Ok(()), Netboot::check)
    }

    /// One more program that ends with it.
    pub fn keep(&mut self, program: Service) {
        self.programs.push(program);
    }

    /// Ends its programs and takes the wires up. Machines on them must be off.
    ///
    /// # Errors
    /// When a wire cannot be removed.
    pub fn take_up(self, roots: &Roots) -> Result<()> {
        let Self { netboot, registrar, programs, wires, .. } = self;
        drop((netboot, registrar, programs));
        wires.take_up(&roots.lab)
    }
}

/// netboot's configuration for a mode. As the only DHCP server it lends what other stores' servers lend.
fn settings(mode: &str) -> Map<String, Value> {
    let mut settings = Map::new();
    settings.insert("mode".into(), json!(mode));
    if mode == "dhcp" {
        let (first, last) = at::LEASES;
        settings.insert("dhcp".into(), json!({"first": first, "last": last, "router": at::ROUTER}));
    }
    settings
}
