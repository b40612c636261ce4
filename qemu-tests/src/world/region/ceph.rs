//! The region's Ceph: one monitor and one manager as real processes, in a root of their own.

use super::Member;
use crate::{
    process,
    world::{addresses as at, network::REGION, root::Root, service::Service},
};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// The registrar's entity.
const REGISTRAR: &str = "client.registrar";

/// A running cluster.
#[derive(Debug)]
pub struct Ceph {
    /// Where its programs are, and run.
    pub root: Root,
    folder: PathBuf,
    fsid: String,
    /// How many OSDs a machine is to bring before it counts as a member.
    disks: u32,
    services: Vec<Service>,
}

impl Ceph {
    /// Makes a cluster, starts it and gives the registrar a key with these rights.
    ///
    /// # Errors
    /// When a program fails, or the cluster does not answer in a minute.
    pub async fn start(world: &Root, tree: &Path, folder: &Path, logs: &Path, caps: &str, disks: u32) -> Result<Self> {
        let root = world.another(tree, &folder.join("root"))?;
        let fsid = uuid::Uuid::new_v4().to_string();
        let conf = configuration(&fsid, folder);
        fs::write(folder.join("ceph.conf"), conf).context("writing ceph.conf")?;
        let mut ceph = Self { root, folder: folder.to_owned(), fsid, disks, services: Vec::new() };
        let mut command = ceph.root.command("sh");
        command.args(["-ec", MAKE, "sh"]).arg(folder).args([&ceph.fsid, &monitors()]);
        process::output(&mut command).context("making a Ceph cluster")?;
        ceph.service("ceph-mon", &["-f", "-i", "region"], logs)?;
        ceph.service("ceph-mgr", &["-f", "-i", "region"], logs)?;
        ceph.wait_until_ready().await?;
        ceph.admit_registrar(caps)?;
        Ok(ceph)
    }

    /// Fails when one of the programs has ended.
    ///
    /// # Errors
    /// See [`Service::check`].
    pub fn check(&mut self) -> Result<()> {
        self.services.iter_mut().try_for_each(Service::check)
    }

    /// What the registrar is told.
    #[must_use]
    pub fn configuration(&self) -> Value {
        let (conf, keyring) = (self.folder.join("ceph.conf"), self.folder.join("registrar.keyring"));
        json!({"conf": conf, "keyring": keyring, "name": REGISTRAR, "fsid": self.fsid, "monitors": monitors()})
    }

    fn service(&mut self, program: &str, arguments: &[&str], logs: &Path) -> Result<()> {
        let mut command = self.root.command_in(REGION, program);
        command.arg("--conf").arg(self.folder.join("ceph.conf")).args(arguments);
        self.services.push(Service::start(program, &mut command, logs)?);
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            self.check()?;
            // The manager is last.
            if self.ask(&["mgr", "stat"]).is_ok_and(|stat| stat["available"] == true) {
                return Ok(());
            }
            ensure!(begin.elapsed() < Duration::from_secs(60), "the Ceph cluster was not ready after a minute");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn admit_registrar(&self, caps: &str) -> Result<()> {
        let caps: Vec<&str> = caps.lines().filter(|line| !line.starts_with('#')).collect();
        let keyring = self.folder.join("registrar.keyring");
        let mut command = self.administrator(REGION);
        command.args(["auth", "get-or-create", REGISTRAR, "mon", &caps.join(" "), "-o"]).arg(keyring);
        process::output(&mut command).context("making the registrar's key")?;
        Ok(())
    }

    /// `ceph` with all rights, from the region's namespace.
    #[must_use]
    pub fn administrator(&self, namespace: &str) -> Command {
        let mut command = self.root.command_in(namespace, "ceph");
        self.as_administrator(&mut command);
        command.args(["--connect-timeout", "10"]);
        command
    }

    /// A client on the store's LAN: OSDs have addresses there, and the region has no way to them.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.root.command(program);
        self.as_administrator(&mut command);
        command
    }

    /// `ceph` with somebody's key.
    #[must_use]
    pub fn with_key(&self, name: &str, keyring: &Path) -> Command {
        let mut command = self.root.command_in(REGION, "ceph");
        command.arg("--conf").arg(self.folder.join("ceph.conf")).arg("--keyring").arg(keyring);
        command.args(["--name", name, "--connect-timeout", "10"]);
        command
    }

    fn as_administrator(&self, command: &mut Command) {
        command.arg("--conf").arg(self.folder.join("ceph.conf"));
        command.arg("--keyring").arg(self.folder.join("keyring")).args(["--name", "client.admin"]);
    }

    /// What a command of the administrator prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn words(&self, words: &[&str]) -> Result<String> {
        process::output(self.administrator(REGION).args(words))
    }

    /// The same as JSON.
    ///
    /// # Errors
    /// When it fails.
    pub fn ask(&self, words: &[&str]) -> Result<Value> {
        let text = process::output(self.administrator(REGION).args(["--format", "json"]).args(words))?;
        serde_json::from_str(&text).with_context(|| format!("reading what ceph {} printed", words.join(" ")))
    }

    pub(super) async fn member(&self, name: &str) -> Result<Option<Member>> {
        let member = judge(name, &self.ask(&["osd", "metadata"])?, &self.ask(&["osd", "dump"])?, self.disks);
        let Some(member) = member else { return Ok(None) };
        if !member.ready {
            return Ok(Some(member));
        }
        let words = format!("{}\n{}", self.words(&["osd", "tree"])?, self.words(&["status"])?);
        Ok(Some(Member { words, ..member }))
    }
}

/// What OSDs said of themselves when they started, and the monitors' map of them.
fn judge(name: &str, metadata: &Value, map: &Value, wanted: u32) -> Option<Member> {
    let all = metadata.as_array().cloned().unwrap_or_default();
    let own: Vec<&Value> = all.iter().filter(|osd| osd["hostname"] == name).collect();
    let boot_id = own.first()?["container_name"].as_str().unwrap_or_default().to_owned();
    let up = |id: &Value| {
        let osds = map["osds"].as_array().cloned().unwrap_or_default();
        osds.iter().any(|osd| osd["osd"] == *id && osd["up"] == 1 && osd["in"] == 1)
    };
    let ready = own.iter().filter(|osd| osd["container_name"] == boot_id && up(&osd["id"])).count();
    let reason = format!("{ready} of {wanted} OSDs of {name} are up in one boot");
    Some(Member { ready: ready == own.len() && ready >= wanted as usize, reason, boot_id, words: String::new() })
}

fn monitors() -> String {
    format!("[v2:{}:3300]", at::REGION)
}

fn configuration(fsid: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[global]
fsid = {fsid}
mon_host = {monitors}
mon_initial_members = region
auth_allow_insecure_global_id_reclaim = false
run_dir = /run/ceph
log_to_stderr = true
log_file =
mon_cluster_log_file =
# One machine is the whole cluster here: copies go to its disks.
osd_crush_chooseleaf_type = 0
osd_pool_default_pg_autoscale_mode = off
osd_pool_default_pg_num = 8

# Not `restful`, which is on by default and wants what Debian 13's Python does not let it load (see MAKE).
mgr_initial_modules = iostat

[mon]
mon_data = {folder}/mon
# The host's disk is nobody's business.
mon_data_avail_warn = 1
mon_data_avail_crit = 1
mon_allow_pool_delete = true

[mgr]
mgr_data = {folder}/mgr
",
        monitors = monitors()
    )
}

/// Debian 13's python3-bcrypt cannot be loaded into the interpreters that the manager makes for its modules (PyO3 issue 576),
/// and only the dashboard's passwords want it; modules that fail would turn the cluster's health red.
/// Then Ceph's "Manual deployment" for one monitor. Arguments: folder, fsid, monitors.
const MAKE: &str = r#"
sed -i '/^import bcrypt$/d' /usr/share/ceph/mgr/mgr_util.py
cd "$1"
mkdir -p mon mgr /run/ceph
ceph-authtool --create-keyring keyring --gen-key --name mon. --cap mon 'allow *'
ceph-authtool keyring --gen-key --name client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
ceph-authtool keyring --gen-key --name mgr.region --cap mon 'allow profile mgr' --cap osd 'allow *'
monmaptool --create --fsid "$2" --addv region "$3" monmap
ceph-mon --conf ceph.conf --mkfs -i region --monmap monmap --keyring keyring
cp keyring mgr/keyring
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_counts_when_all_its_osds_are_up_in_one_boot() {
        let osd = |id: u32, host: &str, boot: &str| json!({"id": id, "hostname": host, "container_name": boot});
        let state = |id: u32, up: u32| json!({"osd": id, "up": up, "in": 1});
        let metadata = json!([osd(0, "n1", "b"), osd(1, "n1", "b"), osd(2, "n2", "a")]);
        let map = json!({"osds": [state(0, 1), state(1, 1), state(2, 0)]});
        assert!(judge("n1", &metadata, &map, 2).unwrap().ready);
        assert!(!judge("n1", &metadata, &map, 3).unwrap().ready, "one is still to come");
        assert!(!judge("n2", &metadata, &map, 1).unwrap().ready, "it is down");
        assert_eq!(judge("n3", &metadata, &map, 1), None);
        let mixed = json!([osd(0, "n1", "b"), osd(1, "n1", "a")]);
        assert!(!judge("n1", &mixed, &map, 1).unwrap().ready, "one is from another boot");
    }
}
