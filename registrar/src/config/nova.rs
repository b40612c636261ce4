//! The part `nova:` of the configuration.

use crate::yaml::Complaint;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};

/// The template that ships with the project and joins Nova.
const NOVA_TEMPLATES: [&str; 1] = ["hypervisor"];

/// How the registrar reaches a region of OpenStack, and what it tells hypervisors about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NovaConfig {
    /// Keystone, version 3: `https://…/v3`. Hypervisors are told the same.
    pub keystone: String,
    /// CA certificates (PEM) of the services; none when they speak plain HTTP.
    pub ca: Option<PathBuf>,
    /// The region's name in the catalog.
    pub region: String,
    /// The registrar's own user at Keystone; see `deploy/nova.md` for its rights.
    pub user: String,
    /// The domain of that user, in which it makes the hypervisors' users.
    pub user_domain: String,
    /// A file with its password.
    pub password_file: PathBuf,
    /// The project of OpenStack's services.
    pub project: String,
    /// That project's domain.
    pub project_domain: String,
    /// The group of that user domain that has the hypervisors' rights.
    pub group: String,
    /// The message bus as hypervisors reach it: `ADDRESS:PORT`.
    pub bus: String,
    /// The bus speaks TLS, with a certificate of the same CA.
    pub bus_tls: bool,
    /// The bus' virtual host.
    pub bus_vhost: String,
    /// RabbitMQ's management plugin: `https://…`.
    pub bus_management: String,
    /// The registrar's own user there.
    pub bus_user: String,
    /// A file with that user's password.
    pub bus_password_file: PathBuf,
    /// The command that maps new hosts to their cell.
    pub discover: Vec<String>,
    /// The templates whose machines join it.
    pub templates: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Shape {
    keystone: Spanned<String>,
    ca: Option<PathBuf>,
    region: String,
    user: Option<String>,
    user_domain: Option<String>,
    password_file: PathBuf,
    project: Option<String>,
    project_domain: Option<String>,
    group: Option<String>,
    bus: Bus,
    discover: Option<Spanned<Vec<String>>>,
    templates: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Bus {
    address: Spanned<String>,
    tls: Option<Spanned<bool>>,
    vhost: Option<String>,
    management: Spanned<String>,
    user: Option<String>,
    password_file: PathBuf,
}

impl Shape {
    pub(super) fn validate(self, base: &Path) -> Result<NovaConfig, Complaint> {
        let (keystone, ca) = (url(&self.keystone)?, self.ca.map(|ca| base.join(ca)));
        let management = url(&self.bus.management)?;
        for (place, text) in [(&self.keystone, &keystone), (&self.bus.management, &management)] {
            if text.starts_with("https://") && ca.is_none() {
                return Err(Complaint::about(
                    place,
                    "an https:// service needs `ca:`, the file with its CA certificates",
                ));
            }
        }
        let bus = &self.bus.address;
        if !bus.value.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            return Err(Complaint::about(bus, "address needs ADDRESS:PORT, for example 10.98.0.2:5672"));
        }
        if let Some(tls) = self.bus.tls.as_ref().filter(|tls| tls.value && ca.is_none()) {
            return Err(Complaint::about(tls, "a bus with TLS needs `ca:`, the file with its CA certificates"));
        }
        if let Some(empty) = self.discover.as_ref().filter(|words| words.value.is_empty()) {
            return Err(Complaint::about(
                empty,
                "discover needs a command, for example [nova-manage, cell_v2, discover_hosts]",
            ));
        }
        let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.into());
        let discover = ["nova-manage", "cell_v2", "discover_hosts", "--by-service"].map(str::to_owned).to_vec();
        Ok(NovaConfig {
            keystone,
            ca,
            region: self.region,
            user: or(self.user, "registrar"),
            user_domain: or(self.user_domain, "hypervisors"),
            password_file: base.join(self.password_file),
            project: or(self.project, "service"),
            project_domain: or(self.project_domain, "Default"),
            group: or(self.group, "nova-compute"),
            bus: self.bus.address.value,
            bus_tls: self.bus.tls.is_some_and(|tls| tls.value),
            bus_vhost: or(self.bus.vhost, "/"),
            bus_management: management,
            bus_user: or(self.bus.user, "registrar"),
            bus_password_file: base.join(self.bus.password_file),
            discover: self.discover.map_or(discover, |words| words.value),
            templates: self.templates.unwrap_or_else(|| NOVA_TEMPLATES.map(str::to_owned).to_vec()),
        })
    }
}

fn url(at: &Spanned<String>) -> Result<String, Complaint> {
    let text = at.value.trim_end_matches('/');
    if text.starts_with("https://") || text.starts_with("http://") {
        return Ok(text.to_owned());
    }
    Err(Complaint::about(at, "a URL that starts with https:// or http:// is needed here"))
}
