//! The configuration file: what stands in it (`RawConfig`) and what comes out of it ([`Config`]).

use crate::{
    cache::config::{CacheConfig, RawBandwidth, RawCache, RawPrefetch, RawStale},
    confine::Sandbox,
    lan::pool_config::PoolConfig,
    logging::Level,
    page::config::PageConfig,
    slow::{self, RawSlow, Slow},
};
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

/// `apiVersion` of the file.
pub const API_VERSION: &str = "shelfboot.dev/v1";

/// Addresses of relays: a store has few networks.
const MOST_RELAYS: usize = 32;

/// The file as it is written. Unknown fields are mistakes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawConfig {
    api_version: String,
    kind: String,
    interface: String,
    #[serde(default)]
    mode: Mode,
    dhcp: Option<PoolConfig>,
    address: Option<Ipv4Addr>,
    #[serde(default = "http_port")]
    http_port: u16,
    #[serde(default = "relay_port")]
    relay_port: u16,
    repository: Option<PathBuf>,
    trust: PathBuf,
    state: PathBuf,
    credential: PathBuf,
    #[serde(default)]
    slow_down: Vec<RawSlow>,
    #[serde(default)]
    relays: Vec<Ipv4Addr>,
    #[serde(default)]
    dns: Vec<String>,
    #[serde(default)]
    log_level: Level,
    user: Option<String>,
    #[serde(default)]
    sandbox: Sandbox,
    #[serde(default)]
    ports: RawPorts,
    #[serde(default)]
    page: PageConfig,
    #[serde(default)]
    upstreams: Vec<String>,
    check_every: Option<String>,
    #[serde(default)]
    bandwidth: RawBandwidth,
    cache_size: Option<String>,
    stale_metadata: Option<RawStale>,
    #[serde(default)]
    prefetch: RawPrefetch,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPorts {
    dhcp: u16,
    tftp: u16,
    proxy: u16,
}

impl Default for RawPorts {
    fn default() -> Self {
        Self { dhcp: 67, tftp: 69, proxy: 4011 }
    }
}

/// How netboot takes part in the LAN's DHCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Mode {
    /// Beside the store's DHCP server, on this host or another: it answers the boot question and lends no address.
    #[default]
    #[serde(rename = "proxy")]
    Proxy,
    /// As the LAN's only DHCP server, with the pool of the section `dhcp`.
    #[serde(rename = "dhcp")]
    Dhcp,
    /// Only on port 4011, where the store's DHCP server sends PXE clients. See docs/pxe.md for what that costs.
    #[serde(rename = "4011-only")]
    Only4011,
}

const fn http_port() -> u16 {
    80
}

const fn relay_port() -> u16 {
    7443
}

/// A configuration that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The interface on the store LAN.
    pub interface: String,
    /// How netboot takes part in the LAN's DHCP.
    pub mode: Mode,
    /// What mode `dhcp` lends.
    pub dhcp: Option<PoolConfig>,
    /// The address on it; the interface's first IPv4 address when absent.
    pub address: Option<Ipv4Addr>,
    /// Port of the HTTP service.
    pub http_port: u16,
    /// Port of the relay to the region.
    pub relay_port: u16,
    /// The repository of images: a folder that something else syncs, or the cache of `cache.upstreams`.
    pub repository: PathBuf,
    /// Where the repository is mirrored from, and how.
    pub cache: CacheConfig,
    /// The TUF root from which the repository is verified.
    pub trust: PathBuf,
    /// Folder for what must outlive a restart.
    pub state: PathBuf,
    /// The store's credential.
    pub credential: PathBuf,
    /// The store page.
    pub page: PageConfig,
    /// Machines that get files over HTTP slowly.
    pub slow_down: Vec<Slow>,
    /// DHCP relays whose word about the machines behind them counts: the addresses that they write and send from.
    pub relays: Vec<Ipv4Addr>,
    /// DNS servers; without any, the system's.
    pub dns: Vec<SocketAddr>,
    /// What the log says at least.
    pub log_level: Level,
    /// Whom the service becomes once its ports are open; somebody without rights when absent.
    pub user: Option<String>,
    /// What is restricted beyond that.
    pub sandbox: Sandbox,
    /// DHCP's port. Only tests change it: firmware knows no other.
    pub dhcp_port: u16,
    /// TFTP's port. Only tests change it.
    pub tftp_port: u16,
    /// The PXE boot server port. Only tests change it.
    pub proxy_port: u16,
}

/// The configuration in force. A reload exchanges it as a whole; who holds the old one keeps it.
#[derive(Debug)]
pub struct Live(tokio::sync::watch::Sender<Arc<Config>>);

impl Live {
    /// Begins with this one.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self(tokio::sync::watch::Sender::new(Arc::new(config)))
    }

    /// The one in force now. Ask anew for each piece of work, so that a reload is felt.
    #[must_use]
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// For tasks that have to act when it changes.
    #[must_use]
    pub fn subscribe(&self) -> tokio::sync::watch::Receiver<Arc<Config>> {
        self.0.subscribe()
    }

    /// Puts another one in force.
    pub fn replace(&self, config: Config) {
        self.0.send_replace(Arc::new(config));
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is not YAML of the right shape; the source says where.
    #[error("{} is not a valid configuration: {message}", .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        message: String,
    },
    /// A field has a value that cannot work.
    #[error("{}: {field}: {problem}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which field.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads the file. Relative paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`], with line and column where the YAML is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))?;
        Self::parse(&text, path)
    }

    /// The same with the file's text at hand.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = serde_saphyr::from_str(text)
            .map_err(|e| ConfigError::Shape { path: path.to_owned(), message: e.to_string() })?;
        raw.validate(path).map_err(|wrong| {
            let (field, problem) = wrong.into_iter().next().unwrap_or_default();
            ConfigError::Value { path: path.to_owned(), field, problem }
        })
    }
}

/// A setting, and what is wrong with its value and would be right.
pub(crate) type Wrong = (&'static str, String);

impl RawConfig {
    /// Checks every value, and says of all that are wrong what is.
    pub(crate) fn validate(self, path: &Path) -> Result<Config, Vec<Wrong>> {
        let (raw, mut all) = (self, Vec::new());
        let mut check = |good: bool, field: &'static str, problem: String| {
            if !good {
                all.push((field, problem));
            }
        };
        let version = format!("is `{}`, this program reads `{API_VERSION}`", raw.api_version);
        check(raw.api_version == API_VERSION, "apiVersion", version);
        check(raw.kind == "Netboot", "kind", format!("is `{}`, must be `Netboot`", raw.kind));
        // IFNAMSIZ is 16 with the final NUL; the name goes into a path below /sys.
        let name = !raw.interface.is_empty() && raw.interface.len() <= 15 && !raw.interface.contains(['/', ' ']);
        check(name, "interface", "must be the name of a network interface, for example `eth0`".into());
        let one = raw.address.is_none_or(|a| !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast());
        check(one, "address", "must be one address that this machine has on the interface".into());
        let server = |text: &String| text.parse().or_else(|_| text.parse().map(|address: IpAddr| (address, 53).into()));
        let dns = raw.dns.iter().map(server).collect::<Result<Vec<SocketAddr>, _>>();
        let host = |a: &Ipv4Addr| !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast();
        let relays = raw.relays.len() <= MOST_RELAYS && raw.relays.iter().all(host);
        check(
            relays,
            "relays",
            format!("must be a list of at most {MOST_RELAYS} addresses, for example `[10.78.0.1]`"),
        );
        let slow_down = slow::validate(&raw.slow_down);
        check(slow_down.is_ok(), "slowDown", slow_down.as_ref().err().cloned().unwrap_or_default());
        let example = "must be a list of addresses, for example `[192.168.1.1, \"10.0.0.53:5353\"]`";
        check(dns.is_ok(), "dns", example.into());
        let cache = RawCache {
            upstreams: raw.upstreams,
            check_every: raw.check_every,
            bandwidth: raw.bandwidth,
            cache_size: raw.cache_size,
            stale_metadata: raw.stale_metadata,
            prefetch: raw.prefetch,
        };
        let cache = cache.validate();
        if let Err((field, problem)) = &cache {
            check(false, field, problem.clone());
        }
        let pool = (raw.mode == Mode::Dhcp) == raw.dhcp.is_some();
        check(pool, "dhcp", "the pool belongs to `mode: dhcp`, and `mode: dhcp` needs the pool".into());
        let mirrored = cache.as_ref().is_ok_and(|cache| !cache.upstreams.is_empty());
        let problem = "must be the folder of the image repository; only with `upstreams` can it be absent";
        check(raw.repository.is_some() || mirrored || cache.is_err(), "repository", problem.into());
        let (Ok(mut cache), Ok(dns), Ok(slow_down), true) = (cache, dns, slow_down, all.is_empty()) else {
            return Err(all);
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        // Without a disk for a cache, what is small lies with the state.
        cache.on_disk = raw.repository.is_some();
        let repository = match raw.repository {
            Some(repository) => folder.join(repository),
            None => folder.join(&raw.state).join("repository"),
        };
        Ok(Config {
            interface: raw.interface,
            mode: raw.mode,
            dhcp: raw.dhcp,
            address: raw.address,
            http_port: raw.http_port,
            relay_port: raw.relay_port,
            repository,
            cache,
            trust: folder.join(raw.trust),
            state: folder.join(raw.state),
            credential: folder.join(raw.credential),
            page: raw.page,
            slow_down,
            relays: raw.relays,
            dns,
            log_level: raw.log_level,
            user: raw.user,
            sandbox: raw.sandbox,
            dhcp_port: raw.ports.dhcp,
            tftp_port: raw.ports.tftp,
            proxy_port: raw.ports.proxy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
apiVersion: shelfboot.dev/v1
kind: Netboot
interface: br0
repository: repo
trust: /etc/shelfboot/root.json
state: /var/lib/shelfboot
credential: store.json
";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/shelfboot/netboot.yaml")).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_and_relative_paths() {
        let config = parse(GOOD).unwrap();
        assert_eq!((config.http_port, config.relay_port, config.dhcp_port), (80, 7443, 67));
        assert_eq!(config.repository, Path::new("/etc/shelfboot/repo"));
        assert_eq!(config.mode, Mode::Proxy);
        assert_eq!(parse(&format!("{GOOD}mode: 4011-only\n")).unwrap().mode, Mode::Only4011);
        let pool = "dhcp: {first: 10.77.0.100, last: 10.77.0.199, reservations: [{mac: '52:54:00:01:01:09', address: 10.77.0.20}]}";
        let lends = parse(&format!("{GOOD}mode: dhcp\n{pool}\n")).unwrap().dhcp.unwrap();
        assert_eq!((lends.lease_minutes, lends.boot_lease_seconds, lends.probe), (720, 300, true));
        let settings = lends.settings(Ipv4Addr::new(10, 77, 0, 2), 24).unwrap();
        assert_eq!(settings.pool().count(), 100);
        assert!(lends.settings(Ipv4Addr::new(10, 78, 0, 2), 24).unwrap_err().to_string().contains("10.77.0.100"));
        assert!(parse(&format!("{GOOD}mode: dhcp\n")).unwrap_err().contains("needs the pool"));
        assert!(parse(&format!("{GOOD}{pool}\n")).unwrap_err().contains("belongs to"));
        assert!(parse(&format!("{GOOD}mode: none\n")).unwrap_err().contains("4011-only"));
        assert_eq!(config.state, Path::new("/var/lib/shelfboot"));
        let tested = parse(&format!("{GOOD}address: 10.77.0.2\nports: {{dhcp: 1067}}\n")).unwrap();
        assert_eq!((tested.dhcp_port, tested.tftp_port), (1067, 69));
        assert_eq!(tested.address, Some(Ipv4Addr::new(10, 77, 0, 2)));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let unknown = parse(&format!("{GOOD}htpPort: 81\n")).unwrap_err();
        assert!(unknown.contains("htpPort") && unknown.contains("line 8"), "{unknown}");
        let old = parse(&GOOD.replace("dev/v1", "dev/v0")).unwrap_err();
        assert!(old.contains("apiVersion") && old.contains("shelfboot.dev/v1"), "{old}");
        assert!(parse(&format!("{GOOD}address: 0.0.0.0\n")).unwrap_err().contains("address"));
        assert!(parse(&GOOD.replace("br0", "../x")).unwrap_err().contains("interface"));
    }
}
