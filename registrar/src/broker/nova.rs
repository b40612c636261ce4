//! Nova by HTTP: each hypervisor gets a user of its own at the message bus and one at Keystone, good for what one
//! nova-compute does and no more; its cell is discovered when it shows itself.
//!
//! Needs the rights in `deploy/nova.md` and no others. Shown with OpenStack 2025.1 and RabbitMQ 4.

mod client;

use super::{BrokerError, JoinBroker, JoinRequest, Objection, Readiness, command};
use crate::config::NovaConfig;
use client::{Client, Setup, at, escaped};
use contracts::enrollment::{Csr, JoinMaterial};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use uuid::Uuid;

pub use client::Unusable;

/// Cell discovery starts a Python program that reads a database.
const DISCOVERY: Duration = Duration::from_secs(30);
const BETWEEN_DISCOVERIES: Duration = Duration::from_secs(5);
const REVOKED: &str = "revoked by the registrar";

/// The broker for one region of OpenStack.
#[derive(Debug, Clone)]
pub struct NovaBroker {
    config: NovaConfig,
    client: Client,
    discovered: Arc<Mutex<Option<Instant>>>,
}

impl NovaBroker {
    /// Reads the passwords; does not connect yet.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn new(config: &NovaConfig) -> Result<Self, Unusable> {
        let client = Client::new(&Setup::of(config)?)?;
        Ok(Self { config: config.clone(), client, discovered: Arc::default() })
    }

    async fn material(&self, name: &str) -> Result<JoinMaterial, BrokerError> {
        let (user, password) = (user_name(name), secret()?);
        self.client.bus_user(&user, &password, &permissions(name)).await?;
        let id = self.keystone_user(&user, &password).await?;
        let keystone = self.client.identity().await?;
        let group = keystone.one("groups", &self.config.group).await?;
        keystone.call("PUT", &format!("/groups/{}/users/{id}", at(&group, "/id")?), None).await?;
        self.set_service(name, true).await?;
        let compute_id = self.compute_id(name).await?;
        let NovaConfig { keystone, region, project, project_domain, user_domain, bus, bus_vhost, .. } = &self.config;
        // oslo.messaging takes what stands behind the first slash for the virtual host.
        let vhost = if bus_vhost == "/" { String::new() } else { escaped(bus_vhost) };
        let values = [
            ("transport", format!("rabbit://{user}:{password}@{bus}/{vhost}")),
            ("keystone", keystone.clone()),
            ("region", region.clone()),
            ("user", user),
            ("password", password),
            ("userDomain", user_domain.clone()),
            ("project", project.clone()),
            ("computeId", compute_id),
            ("ca", self.client.ca().to_owned()),
            ("busTls", self.config.bus_tls.to_string()),
            ("projectDomain", project_domain.clone()),
        ];
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(JoinMaterial { values, ..JoinMaterial::default() })
    }

    /// Nova knows a hypervisor by a UUID on its disk, and refuses another one under the same name: a spare that takes the
    /// place of a dead machine goes on with its UUID.
    async fn compute_id(&self, name: &str) -> Result<String, BrokerError> {
        let hypervisors = self.client.compute().await?.hypervisors(name).await?;
        match hypervisor_of(&hypervisors, name) {
            Some(hypervisor) => at(&hypervisor, "/id"),
            None => Ok(Uuid::new_v4().to_string()),
        }
    }

    /// Makes the user, or gives the one that is there another password. Gives its id.
    async fn keystone_user(&self, user: &str, password: &str) -> Result<String, BrokerError> {
        let keystone = self.client.identity().await?;
        if let Some(found) = keystone.find("users", user).await? {
            let id = at(&found, "/id")?;
            let change = json!({"user": {"password": password, "enabled": true}});
            keystone.call("PATCH", &format!("/users/{id}"), Some(&change)).await?;
            return Ok(id);
        }
        let wanted = json!({"user": {"name": user, "password": password, "domain_id": keystone.domain()?}});
        let made = keystone.call("POST", "/users", Some(&wanted)).await?;
        at(&made, "/user/id")
    }

    /// Lets Nova place servers on the host, or keeps it from that. Harmless while Nova does not know the host.
    async fn set_service(&self, name: &str, enabled: bool) -> Result<bool, BrokerError> {
        let nova = self.client.compute().await?;
        let Some(service) = service_of(&nova.services(name).await?, name) else { return Ok(false) };
        let change = match (enabled, at(&service, "/status")?.as_str()) {
            (true, "disabled") if service["disabled_reason"] == REVOKED => json!({"status": "enabled"}),
            (false, _) => json!({"status": "disabled", "disabled_reason": REVOKED}),
            // Whoever else has disabled it has had a reason.
            _ => return Ok(true),
        };
        nova.call("PUT", &format!("/os-services/{}", at(&service, "/id")?), Some(&change)).await?;
        Ok(true)
    }

    async fn ready(&self, name: &str) -> Result<Readiness, BrokerError> {
        let nova = self.client.compute().await?;
        let service = service_of(&nova.services(name).await?, name);
        if let Some(reason) = why_not_up(name, service.as_ref()) {
            return Ok(Readiness::NotYet(reason));
        }
        let hypervisors = nova.hypervisors(name).await?;
        let Some(hypervisor) = hypervisor_of(&hypervisors, name) else {
            self.discover_at_times().await?;
            return Ok(Readiness::NotYet(format!("Nova has just been told to map {name} to its cell")));
        };
        // nova-compute itself is asked over the message bus: only this boot's can answer.
        let id = at(&hypervisor, "/id")?;
        let shown = nova.call("GET", &format!("/os-hypervisors/{id}"), None).await.unwrap_or_else(|error| {
            tracing::debug!(machine = name, %error, "no uptime");
            Value::Null
        });
        if shown.pointer("/hypervisor/uptime").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Ok(Readiness::NotYet(format!("nova-compute on {name} does not answer Nova yet")));
        }
        let inventory = self.client.placement().await?.inventory(name).await?;
        Ok(match inventory.get("VCPU").and_then(|cpus| cpus["total"].as_u64()) {
            Some(1..) => Readiness::Ready,
            _ => Readiness::NotYet(format!("Placement has no inventory of {name} yet")),
        })
    }

    /// One for all hosts that are new, and not all the time.
    async fn discover_at_times(&self) -> Result<(), BrokerError> {
        let mut last = self.discovered.lock().await;
        if last.is_some_and(|at| at.elapsed() < BETWEEN_DISCOVERIES) {
            return Ok(());
        }
        let done = self.discover().await;
        *last = Some(Instant::now());
        done
    }

    /// Nova has no HTTP call for this; repeating it is harmless.
    async fn discover(&self) -> Result<(), BrokerError> {
        let mut words = self.config.discover.iter();
        let mut command = tokio::process::Command::new(words.next().map_or("nova-manage", String::as_str));
        command.args(words);
        command::run(command, &self.config.discover.join(" "), DISCOVERY).await.map(|_| ())
    }

    async fn revoke_all(&self, name: &str) -> Result<Vec<String>, BrokerError> {
        let user = user_name(name);
        let mut done = Vec::new();
        // The bus first: it is what nova-compute is told everything by.
        let open = self.client.remove_bus_user(&user).await?;
        done.push(format!("the message bus knows no user {user} any more; its {open} connections are closed"));
        let keystone = self.client.identity().await?;
        if let Some(found) = keystone.find("users", &user).await? {
            keystone.call("DELETE", &format!("/users/{}", at(&found, "/id")?), None).await?;
        }
        done.push(format!("Keystone knows no user {user} any more, and takes none of its tokens"));
        if self.set_service(name, false).await? {
            done.push(format!("nova-compute on {name} is disabled: no server is placed there"));
        }
        Ok(done)
    }
}

impl JoinBroker for NovaBroker {
    fn check(&self, _name: &str, csrs: &[Csr]) -> Result<Vec<Csr>, Objection> {
        super::no_certificates(csrs)
    }

    fn join<'a>(&'a self, request: &'a JoinRequest) -> BoxFuture<'a, Result<JoinMaterial, BrokerError>> {
        Box::pin(self.material(&request.name))
    }

    fn readiness<'a>(&'a self, name: &'a str, _boot_id: &'a str) -> BoxFuture<'a, Result<Readiness, BrokerError>> {
        Box::pin(self.ready(name))
    }

    fn revoke<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, BrokerError>> {
        Box::pin(self.revoke_all(name))
    }
}

fn user_name(name: &str) -> String {
    format!("nova-{name}")
}

/// 128 bits, as hex: safe in URLs and configuration files.
fn secret() -> Result<String, BrokerError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| BrokerError::Unavailable("no random numbers here".into()))?;
    Ok(hex::encode(bytes))
}

/// What nova-compute on one host does at the message bus (oslo.messaging with `use_queue_manager`, which makes the names of
/// queues known beforehand): its own queues, words to itself and to the conductor, and replies, which go over the default
/// exchange.
fn permissions(host: &str) -> Value {
    let host = host.replace('.', "\\.");
    let own = format!("compute\\.{host}|compute_fanout_{host}:nova-compute:[0-9]+|reply_{host}:nova-compute:[0-9]+");
    json!({
        "permissions": {
            "configure": format!("^(nova|compute|compute_fanout|{own})$"),
            "write": format!("^(nova|amq\\.default|compute|{own})$"),
            "read": format!("^(nova|compute|compute_fanout|{own})$"),
        },
        "topics": {
            "exchange": "nova",
            "write": format!("^(conductor|compute\\.{host})$"),
            "read": format!("^(compute|compute\\.{host})$"),
        },
    })
}

fn service_of(services: &Value, name: &str) -> Option<Value> {
    let all = services.pointer("/services")?.as_array()?;
    all.iter().find(|service| service["host"] == name && service["binary"] == "nova-compute").cloned()
}

fn hypervisor_of(hypervisors: &Value, name: &str) -> Option<Value> {
    let all = hypervisors.pointer("/hypervisors")?.as_array()?;
    all.iter().find(|hypervisor| hypervisor["hypervisor_hostname"] == name).cloned()
}

fn why_not_up(name: &str, service: Option<&Value>) -> Option<String> {
    let Some(service) = service else { return Some(format!("Nova has not heard of nova-compute on {name} yet")) };
    if service["state"] != "up" {
        return Some(format!("Nova says that nova-compute on {name} is down"));
    }
    if service["status"] == "disabled" {
        let why = service["disabled_reason"].as_str().unwrap_or("it does not say why");
        return Some(format!("nova-compute on {name} is disabled: {why}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_own_queues_and_no_others() {
        let all = permissions("store-1.n1");
        let read = all["permissions"]["read"].as_str().unwrap();
        assert!(read.contains(r"compute\.store-1\.n1|"), "{read}");
        assert_eq!(all["topics"]["read"], r"^(compute|compute\.store-1\.n1)$");
    }

    #[test]
    fn up_means_up_and_enabled() {
        let service = |state: &str, status: &str| {
            json!({"services": [{"host": "n1", "binary": "nova-compute", "state": state, "status": status, "id": "i",
                                 "disabled_reason": "broken fan"}]})
        };
        let why = |services: &Value| why_not_up("n1", service_of(services, "n1").as_ref());
        assert_eq!(why(&service("up", "enabled")), None);
        assert!(why(&service("down", "enabled")).unwrap().contains("is down"));
        assert!(why(&service("up", "disabled")).unwrap().contains("broken fan"));
        assert!(why(&json!({"services": []})).unwrap().contains("not heard"));
    }

    #[test]
    fn a_hypervisor_has_the_name_of_its_machine() {
        let hypervisor = |id: &str, name: &str| json!({"id": id, "hypervisor_hostname": name});
        let all = json!({"hypervisors": [hypervisor("a", "n2"), hypervisor("b", "n1")]});
        assert_eq!(hypervisor_of(&all, "n1").unwrap()["id"], "b");
        assert_eq!(hypervisor_of(&all, "n3"), None);
    }
}
