//! The region's OpenStack: message bus, databases, Keystone, Placement and Nova as real processes, started from a tree in
//! which everything is prepared.

use super::Member;
use crate::{
    journey::table,
    process,
    world::{addresses as at, network::REGION, root::Root, service::Service},
};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::OnceCell;

/// What the tree's first process says when everything answers.
const READY: &str = "region: ready in";
const NOVA_VERSION: &str = "compute 2.96";

/// A running region.
#[derive(Debug)]
pub struct Nova {
    /// Where its programs are, and run.
    pub root: Root,
    settings: BTreeMap<String, String>,
    folder: PathBuf,
    http: reqwest::Client,
    administrator: OnceCell<String>,
    services: Service,
}

impl Nova {
    /// Starts it and waits until every service answers.
    ///
    /// # Errors
    /// When a service ends, or not all of them answer in three minutes.
    pub async fn start(world: &Root, tree: &Path, folder: &Path, logs: &Path) -> Result<Self> {
        let root = world.another(tree, &folder.join("root"))?;
        let file = tree.join("region/settings");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        let settings = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // The services' own logs belong to those of the run.
        let script = "rm -rf /var/log/region && mkdir -p \"$1\" && ln -s \"$1\" /var/log/region";
        process::output(root.command("sh").args(["-ec", script, "sh"]).arg(logs.join("services")))?;
        let mut command = root.command_in(REGION, "bash");
        command.arg("/region/run.sh").env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        let services = Service::start("openstack", &mut command, logs)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(40)).build().context("making a client")?;
        let mut nova =
            Self { root, settings, folder: folder.to_owned(), http, administrator: OnceCell::new(), services };
        let begin = Instant::now();
        while !fs::read_to_string(logs.join("openstack.log")).unwrap_or_default().contains(READY) {
            nova.check()?;
            ensure!(begin.elapsed() < Duration::from_secs(180), "OpenStack was not ready after three minutes");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        for (file, setting) in
            [("keystone-password", "REGISTRAR_PASSWORD"), ("bus-password", "REGISTRAR_RABBIT_PASSWORD")]
        {
            fs::write(nova.folder.join(file), nova.setting(setting)?).context("writing the registrar's password")?;
        }
        Ok(nova)
    }

    /// Fails when one of its services has ended.
    ///
    /// # Errors
    /// See [`Service::check`].
    pub fn check(&mut self) -> Result<()> {
        self.services.check()
    }

    fn setting(&self, name: &str) -> Result<&str> {
        self.settings.get(name).map(String::as_str).with_context(|| format!("the tree has no setting {name}"))
    }

    /// What the registrar is told.
    #[must_use]
    pub fn configuration(&self) -> Value {
        let region = self.settings.get("REGION_NAME");
        json!({
            "keystone": format!("http://{}:5000/v3", at::REGION),
            "region": region,
            "passwordFile": self.folder.join("keystone-password"),
            "bus": {
                "address": format!("{}:5672", at::REGION),
                "management": format!("http://{}:15672", at::REGION),
                    "passwordFile": self.folder.join("bus-password"),
            },
        })
    }

    /// A token for a user in a project.
    ///
    /// # Errors
    /// When Keystone refuses.
    pub async fn token(&self, user: &str, domain: &str, password: &str, project: &str) -> Result<String> {
        let user = json!({"name": user, "domain": {"name": domain}, "password": password});
        let scope = json!({"project": {"name": project, "domain": {"name": "Default"}}});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let question = json!({"auth": {"identity": identity, "scope": scope}});
        let url = format!("http://{}:5000/v3/auth/tokens", at::REGION);
        let answer = self.http.post(url).json(&question).send().await.context("asking Keystone")?;
        let token = answer.headers().get("x-subject-token").and_then(|token| token.to_str().ok()).map(str::to_owned);
        match token {
            Some(token) if answer.status().is_success() => Ok(token),
            _ => bail!("Keystone says {}: {}", answer.status(), answer.text().await.unwrap_or_default()),
        }
    }

    /// A token lasts an hour, longer than any case.
    async fn administrator(&self) -> Result<&str> {
        let make = || async { self.token("admin", "Default", self.setting("ADMIN_PASSWORD")?, "admin").await };
        Ok(self.administrator.get_or_try_init(make).await?)
    }

    /// Asks a service with an administrator's rights: `compute`, `placement`.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn ask(&self, method: &str, service: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let token = self.administrator().await?;
        let port = match service {
            "compute" => "8774/v2.1",
            "placement" => "8778",
            "image" => "9292/v2",
            other => bail!("there is no service {other}"),
        };
        let url = format!("http://{}:{port}{path}", at::REGION);
        let method = method.parse().with_context(|| format!("the method {method}"))?;
        let mut request = self.http.request(method, &url).header("x-auth-token", token);
        request = request.header("openstack-api-version", NOVA_VERSION);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("asking {url}"))?;
        let status = answer.status();
        let bytes = answer.bytes().await.with_context(|| format!("reading the answer of {url}"))?;
        ensure!(status.is_success(), "{url}: {status} {}", String::from_utf8_lossy(&bytes));
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Uploads an image to Glance; gives its id. Kernels and initrds have containers of their own kind.
    ///
    /// # Errors
    /// When Glance refuses.
    pub async fn image(&self, name: &str, kind: &str, properties: &Value, bytes: Vec<u8>) -> Result<String> {
        let container = if kind == "raw" { "bare" } else { kind };
        let mut image = json!({"name": name, "disk_format": kind, "container_format": container});
        if let (Some(image), Some(more)) = (image.as_object_mut(), properties.as_object()) {
            image.extend(more.clone());
        }
        let made = self.ask("POST", "image", "/images", Some(&image)).await?;
        let id = made["id"].as_str().context("an image without an id")?.to_owned();
        let token = self.administrator().await?;
        let url = format!("http://{}:9292/v2/images/{id}/file", at::REGION);
        let upload =
            self.http.put(url).header("x-auth-token", token).header("content-type", "application/octet-stream");
        let answer = upload.body(bytes).send().await.context("uploading an image")?;
        ensure!(answer.status().is_success(), "Glance says {} to the image {name}", answer.status());
        Ok(id)
    }

    /// Nova's service on this host, as it shows it.
    ///
    /// # Errors
    /// When Nova cannot be asked.
    pub async fn service(&self, host: &str) -> Result<Option<Value>> {
        let path = format!("/os-services?binary=nova-compute&host={host}");
        let all = self.ask("GET", "compute", &path, None).await?;
        Ok(all["services"].as_array().and_then(|all| all.first()).cloned())
    }

    /// Nova shows no boot id. It asks nova-compute on the host how long the host has been up: only the boot that runs can
    /// answer, and the minute in which it began tells boots apart.
    pub(super) async fn member(&self, name: &str) -> Result<Option<Member>> {
        let Some(service) = self.service(name).await? else { return Ok(None) };
        let no =
            |reason: &str| Member { ready: false, reason: reason.into(), boot_id: String::new(), words: String::new() };
        if service["state"] != "up" {
            return Ok(Some(no("Nova says that its service is down")));
        }
        let all = self.ask("GET", "compute", "/os-hypervisors", None).await?;
        let all = all["hypervisors"].as_array().cloned().unwrap_or_default();
        let Some(hypervisor) = all.iter().find(|hypervisor| hypervisor["hypervisor_hostname"] == name) else {
            return Ok(Some(no("Nova has not mapped it to a cell yet")));
        };
        let id = hypervisor["id"].as_str().context("a hypervisor without an id")?;
        let shown = self.ask("GET", "compute", &format!("/os-hypervisors/{id}"), None).await;
        let uptime = shown.ok().and_then(|shown| Some(shown.pointer("/hypervisor/uptime")?.as_str()?.to_owned()));
        let Some(uptime) = uptime else { return Ok(Some(no("its nova-compute does not answer Nova"))) };
        let Some(minutes) = minutes_up(&uptime) else { bail!("Nova shows an uptime of {uptime:?}") };
        let inventory = self.inventory(id).await?;
        let ready = inventory.pointer("/VCPU/total").and_then(Value::as_u64).is_some_and(|cpus| cpus > 0);
        let begun = OffsetDateTime::now_utc() - time::Duration::minutes(minutes);
        let boot_id = format!("began {:02}:{:02} UTC, as the host's uptime says", begun.hour(), begun.minute());
        let words = words(&service, &inventory);
        Ok(Some(Member { ready, reason: "Placement has no inventory of it yet".into(), boot_id, words }))
    }

    /// The inventories of a resource provider; empty while there is none.
    async fn inventory(&self, provider: &str) -> Result<Value> {
        let path = format!("/resource_providers/{provider}/inventories");
        let answer = self.ask("GET", "placement", &path, None).await;
        Ok(answer.map_or_else(|_| json!({}), |answer| answer["inventories"].clone()))
    }
}

/// `17:32:01 up 2 min, …`, `up  1:05, …`, `up 3 days,  2:10, …` (uptime(1)).
fn minutes_up(text: &str) -> Option<i64> {
    let rest = text.split(" up ").nth(1)?;
    let mut minutes = 0;
    for part in rest.split(',').map(str::trim) {
        if let Some(days) = part.strip_suffix(" days").or_else(|| part.strip_suffix(" day")) {
            minutes += days.parse::<i64>().ok()? * 24 * 60;
        } else if let Some(alone) = part.strip_suffix(" min") {
            return Some(minutes + alone.parse::<i64>().ok()?);
        } else if let Some((hours, rest)) = part.split_once(':').filter(|(hours, _)| hours.len() <= 2) {
            return Some(minutes + hours.parse::<i64>().ok()? * 60 + rest.parse::<i64>().ok()?);
        } else {
            break;
        }
    }
    Some(minutes)
}

/// The compute service and the resource provider's inventory, as OpenStack's own commands show them.
fn words(service: &Value, inventory: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let field = |name: &'static str, key: &str| (name, text(&service[key]));
    let mut out = table::row(&[
        field("Binary", "binary"),
        field("Host", "host"),
        field("Zone", "zone"),
        field("Status", "status"),
        field("State", "state"),
        field("Updated At", "updated_at"),
    ]);
    for (class, values) in inventory.as_object().into_iter().flatten() {
        let value = |name: &'static str, key: &str| (name, text(&values[key]));
        let mut row = vec![("resource_class", class.clone())];
        row.extend([
            value("total", "total"),
            value("reserved", "reserved"),
            value("allocation_ratio", "allocation_ratio"),
        ]);
        row.push(value("max_unit", "max_unit"));
        out.push('\n');
        out += &table::row(&row);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_are_read_as_uptime_prints_them() {
        let up = |text: &str| minutes_up(&format!(" 17:32:01 up {text},  0 users,  load average: 0.10, 0.03, 0.01"));
        assert_eq!(up("2 min"), Some(2));
        assert_eq!(up(" 1:05"), Some(65));
        assert_eq!(up("3 days,  2:10"), Some(3 * 1440 + 130));
        assert_eq!(up("1 day, 4 min"), Some(1444));
        assert_eq!(minutes_up("nonsense"), None);
    }
}
