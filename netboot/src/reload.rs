//! SIGHUP: reads the configuration again. Transfers go on, since nothing that they use is exchanged; a file that is
//! wrong changes nothing.

use crate::{
    cache::config::CacheConfig,
    config::{Config, ConfigError},
    logging, manager,
    shared::Shared,
};
use std::{path::PathBuf, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What comes of a new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// To be put in force: the new one, as far as that works without a restart.
    pub config: Config,
    /// Settings that change now.
    pub live: Vec<&'static str>,
    /// Settings that the new file changes, and that stay as they are until a restart.
    pub restart: Vec<&'static str>,
}

/// Takes over what can change while the service runs. Sockets, folders and rights stay: the right to open others is gone.
#[must_use]
pub fn merge(old: &Config, new: &Config) -> Merged {
    // Without `..`: who adds a setting has to say here which kind it is.
    let Config {
        interface,
        mode,
        dhcp,
        address,
        http_port,
        relay_port,
        repository,
        trust,
        state,
        credential,
        cache,
        slow_down,
        relays,
        dns,
        page,
        log_level,
        user,
        sandbox,
        dhcp_port,
        tftp_port,
        proxy_port,
    } = new;
    let ports = (old.dhcp_port, old.tftp_port, old.proxy_port) != (*dhcp_port, *tftp_port, *proxy_port);
    let (now, then) = (&old.cache, cache);
    // Whether there is a cache of its own at all is settled at the start.
    let exchanged = !now.upstreams.is_empty() && !then.upstreams.is_empty();
    let restart = [
        ("interface", old.interface != *interface),
        ("mode", old.mode != *mode),
        ("dhcp", old.dhcp != *dhcp),
        ("address", old.address != *address),
        ("httpPort", old.http_port != *http_port),
        ("relayPort", old.relay_port != *relay_port),
        ("repository", old.repository != *repository),
        ("trust", old.trust != *trust),
        ("upstreams", !exchanged && old.cache.upstreams != cache.upstreams),
        ("state", old.state != *state),
        ("credential", old.credential != *credential),
        ("user", old.user != *user),
        ("sandbox", old.sandbox != *sandbox),
        ("ports", ports),
    ];
    let live = [
        ("bandwidth", now.bandwidth != then.bandwidth),
        ("cacheSize", now.size != then.size),
        ("checkEvery", now.check_every != then.check_every),
        ("prefetch", (now.lead, now.spread) != (then.lead, then.spread)),
        ("staleMetadata", now.stale != then.stale),
        ("slowDown", old.slow_down != *slow_down),
        ("relays", old.relays != *relays),
        ("upstreams", exchanged && now.upstreams != then.upstreams),
        ("dns", old.dns != *dns),
        ("page", old.page != *page),
        ("logLevel", old.log_level != *log_level),
    ];
    let upstreams = if exchanged { &then.upstreams } else { &now.upstreams };
    let cache = CacheConfig { upstreams: upstreams.clone(), ..cache.clone() };
    let config = Config {
        cache,
        slow_down: slow_down.clone(),
        relays: relays.clone(),
        dns: dns.clone(),
        page: page.clone(),
        log_level: *log_level,
        ..old.clone()
    };
    let changed = |all: &[(&'static str, bool)]| all.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    Merged { config, live: changed(&live), restart: changed(&restart) }
}

/// Names of settings that `netboot check` may promise to be taken by SIGHUP.
pub const LIVE: [&str; 11] = [
    "bandwidth",
    "cacheSize",
    "checkEvery",
    "dns",
    "logLevel",
    "page",
    "prefetch",
    "relays",
    "slowDown",
    "staleMetadata",
    "upstreams",
];

/// Waits for SIGHUP until told to stop.
pub async fn run(shared: Arc<Shared>, path: PathBuf, stop: CancellationToken) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!("SIGHUP cannot be listened for, so changes need a restart: {error}");
            return;
        }
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            asked = hangup.recv() => if asked.is_none() { return },
        }
        manager::reloading();
        let from = path.clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&from)).await;
        match loaded {
            Ok(loaded) => take(&shared, loaded),
            Err(error) => tracing::error!("the configuration stays as it is: {error}"),
        }
        manager::ready();
    }
}

fn take(shared: &Shared, loaded: Result<Config, ConfigError>) {
    let new = match loaded {
        Ok(new) => new,
        Err(error) => {
            shared.metrics.reloaded(false);
            tracing::error!(
                code = "reload-refused",
                "the configuration stays as it is: {}",
                crate::boot_files::chain(&error)
            );
            return;
        }
    };
    let Merged { config, live, restart } = merge(&shared.config.now(), &new);
    logging::set_level(config.log_level);
    shared.names.set_servers(&config.dns);
    shared.config.replace(config.clone());
    if let Some(cache) = &shared.cache {
        cache.reconfigure(&config.cache);
    }
    shared.metrics.reloaded(true);
    let named = |names: &[&str]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    tracing::info!(
        code = "reloaded",
        changed = named(&live),
        "the configuration was read again; changed: {}",
        named(&live)
    );
    if !restart.is_empty() {
        tracing::warn!(
            code = "restart-needed",
            settings = named(&restart),
            "a restart is needed for {}: until then the old values stay in force",
            named(&restart)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::Level;
    use std::path::Path;

    fn config(more: &str) -> Config {
        let text = format!(
            "apiVersion: shelfboot.dev/v1\nkind: Netboot\ninterface: br0\nrepository: r\ntrust: t\nstate: s\n\
             credential: c\n{more}"
        );
        Config::parse(&text, Path::new("/etc/shelfboot/netboot.yaml")).unwrap()
    }

    #[test]
    fn what_can_change_changes_and_the_rest_is_named() {
        let old = config("");
        let merged = merge(&old, &config("logLevel: debug\nhttpPort: 81\nports: {tftp: 1069}\n"));
        assert_eq!((merged.live, merged.restart), (vec!["logLevel"], vec!["httpPort", "ports"]));
        assert_eq!(merged.config, Config { log_level: Level::Debug, ..old.clone() });
        let cached = merge(&old, &config("upstreams: ['http://a/']\n"));
        assert_eq!((cached.live, cached.restart), (vec![], vec!["upstreams"]), "from a folder to a cache");
        assert!(cached.config.cache.upstreams.is_empty());
        let same = merge(&old, &old);
        assert_eq!((same.live, same.restart, same.config), (vec![], vec![], old));
    }

    #[test]
    fn the_list_for_people_is_the_list_in_force() {
        let changed = merge(
            &config("upstreams: ['http://a/']\n"),
            &config(concat!(
                "upstreams: ['http://b/', 'http://a/']\nrelays: [10.78.0.1]\nslowDown: [{mac: 52:54:00, limit: 8Mbit/s}]\n",
                "logLevel: warn\npage: {language: de}\ndns: [10.0.0.1]\nbandwidth: {limit: 1Mbit/s}\ncacheSize: 1GiB\ncheckEvery: 9m\n",
                "prefetch: {lead: 1h}\nstaleMetadata: {maxAge: 1d}\n",
            )),
        );
        let mut live = changed.live;
        live.sort_unstable();
        assert_eq!(live, LIVE);
    }
}
