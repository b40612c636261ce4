//! Ceph by its own command line: each machine gets a key of its own, good for registering OSDs. Ceph gives each of those a key
//! with the rights of an OSD, as it does everywhere.
//!
//! Needs the rights in `deploy/ceph-caps.txt` and no others. Shown with Ceph 18.

use super::{BrokerError, JoinBroker, JoinRequest, Objection, Readiness, command};
use crate::config::CephConfig;
use contracts::enrollment::{Csr, JoinMaterial};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{process::Command, sync::Mutex};

/// A machine's entity at the cluster; its OSDs get entities of their own (`osd.N`).
const ENTITY_PREFIX: &str = "client.shelfboot.";
/// What `osd new` needs, and the monitors' map (Ceph, MonCap.cc, "bootstrap-osd").
const MACHINE_CAPS: &str = "allow profile bootstrap-osd";
/// One command; the caller bounds the whole.
const PATIENCE: Duration = Duration::from_secs(20);

/// For how long an answer about all OSDs is good.
const FRESH: Duration = Duration::from_secs(2);

/// The broker for one cluster.
#[derive(Debug, Clone)]
pub struct CephBroker {
    config: CephConfig,
    seen: Arc<Mutex<Option<Seen>>>,
}

/// When, and what.
type Seen = (Instant, Arc<(Vec<Metadata>, Map)>);

/// What matters of one line of `ceph osd metadata`: what an OSD said of itself when it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Metadata {
    id: u32,
    #[serde(default)]
    hostname: String,
    /// The boot id: the machine's unit sets the variable CONTAINER_NAME, which an OSD reports.
    #[serde(default)]
    container_name: String,
}

/// What matters of `ceph osd dump`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Map {
    osds: Vec<OsdState>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct OsdState {
    osd: u32,
    up: u8,
    #[serde(rename = "in")]
    taken: u8,
}

#[derive(Deserialize)]
struct AuthEntry {
    entity: String,
    key: String,
}

impl CephBroker {
    /// Does not connect yet.
    #[must_use]
    pub fn new(config: &CephConfig) -> Self {
        Self { config: config.clone(), seen: Arc::default() }
    }

    /// Runs `ceph` with these words; gives what it printed.
    async fn ceph(&self, words: &[&str]) -> Result<Vec<u8>, BrokerError> {
        let CephConfig { program, conf, keyring, name, .. } = &self.config;
        let mut command = Command::new(program);
        command.arg("--conf").arg(conf).arg("--keyring").arg(keyring).args(["--name", name, "--format", "json"]);
        command.args(["--connect-timeout", "10"]).args(words);
        command::run(command, &format!("ceph {}", words.join(" ")), PATIENCE).await
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&self, words: &[&str]) -> Result<T, BrokerError> {
        let bytes = self.ceph(words).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            BrokerError::Unavailable(format!("ceph {} printed something else: {error}", words.join(" ")))
        })
    }

    /// What the cluster says of all OSDs, a few seconds old at most: after a power cut every machine asks at once.
    async fn osds(&self) -> Result<Arc<(Vec<Metadata>, Map)>, BrokerError> {
        let mut seen = self.seen.lock().await;
        if let Some((_, osds)) = seen.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(osds));
        }
        let osds = Arc::new((self.ask(&["osd", "metadata"]).await?, self.ask(&["osd", "dump"]).await?));
        *seen = Some((Instant::now(), Arc::clone(&osds)));
        Ok(osds)
    }

    async fn material(&self, name: &str) -> Result<JoinMaterial, BrokerError> {
        let entity = entity(name);
        // Whoever asks has none yet: a key that is there was another machine's, or of a try whose answer was lost.
        self.ceph(&["auth", "rm", &entity]).await?;
        let entries: Vec<AuthEntry> = self.ask(&["auth", "get-or-create", &entity, "mon", MACHINE_CAPS]).await?;
        let entry = entries.into_iter().find(|entry| entry.entity == entity);
        let key = entry.ok_or_else(|| BrokerError::NotIssued(format!("ceph gave no key for {entity}")))?.key;
        let values = [("fsid", self.config.fsid.clone()), ("monitors", self.config.monitors.clone()), ("key", key)];
        let values: BTreeMap<String, String> = values.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Ok(JoinMaterial { certificates: BTreeMap::new(), values })
    }

    async fn revoke_all(&self, name: &str) -> Result<Vec<String>, BrokerError> {
        let mut done = Vec::new();
        // First, so that no new OSD comes while the others go.
        self.ceph(&["auth", "rm", &entity(name)]).await?;
        done.push(format!("the key {} is removed", entity(name)));
        *self.seen.lock().await = None;
        let osds = self.osds().await?;
        for id in of_host(&osds.0, name).map(|osd| osd.id) {
            self.ceph(&["auth", "rm", &format!("osd.{id}")]).await?;
            // A session that is open stays open without its key; this ends it.
            self.ceph(&["osd", "stop", &format!("osd.{id}")]).await?;
            done.push(format!("the key of osd.{id} is removed and the OSD stopped"));
        }
        // An OSD says itself on which host it is, when it starts. Of one that never did nobody knows.
        let silent =
            osds.1.osds.iter().filter(|state| !osds.0.iter().any(|m| m.id == state.osd && !m.hostname.is_empty()));
        let silent: Vec<String> = silent.map(|state| format!("osd.{}", state.osd)).collect();
        if !silent.is_empty() {
            let all = silent.join(", ");
            done.push(format!(
                "{all} never started, so nobody knows whose they are: remove them if they are this machine's"
            ));
        }
        Ok(done)
    }
}

impl JoinBroker for CephBroker {
    fn check(&self, _name: &str, csrs: &[Csr]) -> Result<Vec<Csr>, Objection> {
        super::no_certificates(csrs)
    }

    fn join<'a>(&'a self, request: &'a JoinRequest) -> BoxFuture<'a, Result<JoinMaterial, BrokerError>> {
        Box::pin(self.material(&request.name))
    }

    fn readiness<'a>(&'a self, name: &'a str, boot_id: &'a str) -> BoxFuture<'a, Result<Readiness, BrokerError>> {
        Box::pin(async move {
            let osds = self.osds().await?;
            Ok(judge(name, &osds.0, &osds.1, boot_id))
        })
    }

    fn revoke<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, BrokerError>> {
        Box::pin(self.revoke_all(name))
    }
}

fn entity(name: &str) -> String {
    format!("{ENTITY_PREFIX}{name}")
}

fn of_host<'a>(all: &'a [Metadata], name: &'a str) -> impl Iterator<Item = &'a Metadata> {
    all.iter().filter(move |osd| osd.hostname == name)
}

/// Ready: every OSD of this machine that the cluster counts on has started in this boot, and the monitors' map has it up. One
/// that is down and out has been given up, with its disk.
fn judge(name: &str, metadata: &[Metadata], map: &Map, boot_id: &str) -> Readiness {
    let boot = boot_id.trim().replace('-', "").to_ascii_lowercase();
    let mut counted = 0;
    for osd in of_host(metadata, name) {
        let id = osd.id;
        let state = map.osds.iter().find(|state| state.osd == id);
        if state.is_none_or(|state| state.up == 0 && state.taken == 0) {
            continue;
        }
        // An OSD that is up may still be that of the boot before; what it said when it started ties it to this one.
        if osd.container_name != boot {
            return Readiness::NotYet(format!("the cluster still shows an earlier start of osd.{id}"));
        }
        if state.is_some_and(|state| state.up == 0) {
            return Readiness::NotYet(format!("osd.{id} is down"));
        }
        counted += 1;
    }
    if counted == 0 { Readiness::NotYet(format!("the cluster has no OSD of {name} yet")) } else { Readiness::Ready }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "0f6b8c1e-5a4d-4a6e-9a44-8f6f3b1d2c3e";

    fn osd(id: u32, host: &str, boot: &str) -> Metadata {
        Metadata { id, hostname: host.into(), container_name: boot.replace('-', "") }
    }

    fn map(states: &[(u32, u8, u8)]) -> Map {
        Map { osds: states.iter().map(|(osd, up, taken)| OsdState { osd: *osd, up: *up, taken: *taken }).collect() }
    }

    #[test]
    fn ready_when_every_osd_of_the_machine_started_in_this_boot_and_is_up_and_in() {
        let all = [osd(0, "n1", BOOT), osd(1, "n2", "other"), osd(2, "n1", BOOT)];
        assert_eq!(judge("n1", &all, &map(&[(0, 1, 1), (1, 0, 0), (2, 1, 1)]), BOOT), Readiness::Ready);
        let reason = |all: &[Metadata], map: &Map| match judge("n1", all, map, BOOT) {
            Readiness::NotYet(text) => text,
            Readiness::Ready => "ready".into(),
        };
        assert!(reason(&[], &map(&[])).contains("no OSD of n1"));
        assert!(reason(&all, &map(&[(0, 1, 1), (2, 0, 1)])).contains("osd.2 is down"));
        assert_eq!(judge("n1", &all, &map(&[(0, 1, 0), (2, 1, 1)]), BOOT), Readiness::Ready, "one is being emptied");
        assert_eq!(judge("n1", &all, &map(&[(0, 0, 0), (2, 1, 1)]), BOOT), Readiness::Ready, "one was given up");
        assert!(reason(&all, &map(&[(0, 0, 0), (2, 0, 0)])).contains("no OSD of n1"));
        assert!(reason(&[osd(0, "n1", "before")], &map(&[(0, 1, 1)])).contains("earlier start of osd.0"));
        assert_eq!(judge("n1", &all, &map(&[(0, 1, 1)]), BOOT), Readiness::Ready, "one was removed");
    }

    #[test]
    fn what_ceph_prints_is_read() {
        let text = r#"[{"id":0,"arch":"x86_64","container_name":"0f","hostname":"n1","osd_objectstore":"bluestore"},{"id":7}]"#;
        let metadata: Vec<Metadata> = serde_json::from_str(text).unwrap();
        assert_eq!(metadata, [osd(0, "n1", "0f"), osd(7, "", "")]);
        let map: Map = serde_json::from_str(r#"{"epoch":9,"osds":[{"osd":0,"up":1,"in":1,"weight":1}]}"#).unwrap();
        assert_eq!(map.osds[0].up, 1);
    }
}
