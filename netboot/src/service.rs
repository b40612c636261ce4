//! Puts the parts together: checks what was configured, opens every socket, starts the tasks, waits for the end.

use crate::{
    board::Board,
    boot_files::{BootFiles, Source},
    boot_watch,
    cache::{self, Cache},
    config::{Config, Live},
    confine::{self, Confinement, Plan, folders::Folders},
    dhcp_server, http,
    interface::{self, Neighbours},
    lan::{desk::Lan, dhcp, ears, patience::Patience},
    manager,
    names::{self, Names, endpoint::Endpoint},
    outbox::{Outbox, Writer},
    proto::dhcp::{decide::Port, lease::settings::BadSettings},
    region::{self, client::Region},
    shared::Shared,
    sockets,
    store::Store,
    tftp_server,
    voucher::Signer,
    windows,
};
use anyhow::{Context, Result};
use contracts::store::StoreCredential;
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Instant,
};
use time::OffsetDateTime;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A file that the configuration names is not what it must be.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The store's credential.
    #[error("the credential {} cannot be used", .0.display())]
    Credential(PathBuf, #[source] anyhow::Error),
    /// The pool of mode `dhcp`.
    #[error("{}: dhcp: {}", .0.display(), .1)]
    Pool(PathBuf, BadSettings),
    /// The root of trust is not there.
    #[error("there is no TUF root at {} (`trust`)", .0.display())]
    NoTrust(PathBuf),
    /// An image of the repository.
    #[error("{0}")]
    Image(String),
}

/// What stands in the files that the configuration names.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration.
    pub config: Config,
    /// Its file, to be read again.
    pub path: PathBuf,
    /// The address on the store LAN.
    pub address: Ipv4Addr,
    /// The credential.
    pub credential: StoreCredential,
    signer: Signer,
    region: Region,
    registrars: Vec<Endpoint>,
    names: Arc<Names>,
}

impl Prepared {
    /// Reads and checks everything that does not change: no socket is opened, nothing is written.
    ///
    /// # Errors
    /// What is missing or malformed, with its file.
    pub fn read(path: &Path) -> Result<Self> {
        let config = Config::load(path)?;
        let address = interface::address(&config.interface, config.address)?;
        dhcp::settings(&config, address).map_err(|e| InputError::Pool(path.to_owned(), e))?;
        let unusable = |error: anyhow::Error| InputError::Credential(config.credential.clone(), error);
        let credential = read_credential(&config.credential).map_err(unusable)?;
        let signer = Signer::new(&credential.key).map_err(|e| unusable(e.into()))?;
        let names = Arc::new(Names::new(config.dns.clone(), names::SYSTEM));
        let region = Region::new(&credential, &names).map_err(|e| unusable(e.into()))?;
        let registrars = region::client::endpoints(&credential).map_err(|e| unusable(e.into()))?;
        if !config.trust.is_file() {
            return Err(InputError::NoTrust(config.trust).into());
        }
        Ok(Self { config, path: path.to_owned(), address, credential, signer, region, registrars, names })
    }

    /// Reads the credential, and tries everything that it is used for.
    ///
    /// # Errors
    /// [`InputError::Credential`].
    pub fn credential(config: &Config) -> Result<StoreCredential> {
        let unusable = |error: anyhow::Error| InputError::Credential(config.credential.clone(), error);
        let credential = read_credential(&config.credential).map_err(unusable)?;
        Signer::new(&credential.key).map_err(|e| unusable(e.into()))?;
        Region::new(&credential, &Arc::default()).map_err(|e| unusable(e.into()))?;
        Ok(credential)
    }

    /// The repository and what it is verified from.
    #[must_use]
    pub fn source(&self) -> Source {
        Source {
            repository: self.config.repository.clone(),
            trust: self.config.trust.clone(),
            datastore: self.config.state.join("tuf"),
            stale: self.config.cache.stale,
            cache: None,
        }
    }

    /// Opens everything that needs rights: every socket, and the state. No task runs yet.
    ///
    /// # Errors
    /// When a socket or the state cannot be opened.
    pub fn open(self) -> Result<Opened> {
        let (name, address) = (&self.config.interface, self.address);
        // Every socket first: a half-started service would answer some and not others.
        let any = Ipv4Addr::UNSPECIFIED;
        let dhcp = dhcp::open(&self.config, address)?;
        let proxy_port = self.config.proxy_port;
        let proxy = ears::Opened::Udp(sockets::udp("PXE boot server", name, any, proxy_port, false)?, proxy_port);
        let tftp = sockets::udp("TFTP", name, address, self.config.tftp_port, false)?;
        let web = sockets::tcp("HTTP", address, self.config.http_port)?;
        let relay = sockets::tcp("relay to the region", address, self.config.relay_port)?;
        let store = Store::open(&self.config.state)?;
        let config = &self.config;
        let cache = match config.cache.upstreams.as_slice() {
            [] => None,
            _ => Some(Arc::new(Cache::open(&config.repository, &config.cache, &self.names)?)),
        };
        let board = Arc::new(Mutex::new(Board::default()));
        let (outbox, writer) = Outbox::open(&self.config.state, Arc::clone(&board), OffsetDateTime::now_utc())?;
        let mtu = interface::mtu(name);
        Ok(Opened {
            prepared: self,
            dhcp,
            proxy,
            tftp,
            web,
            relay,
            store,
            board,
            outbox,
            writer,
            cache,
            mtu,
            confinement: None,
        })
    }

    /// Opens everything and starts the tasks, with the rights that this process has.
    ///
    /// # Errors
    /// When a socket or the state cannot be opened.
    pub fn start(self, stop: CancellationToken) -> Result<Running> {
        self.open()?.start(stop)
    }
}

/// Everything that needs rights to open, opened. What comes after can do without them.
#[derive(Debug)]
pub struct Opened {
    /// What was read before.
    pub prepared: Prepared,
    dhcp: dhcp::Opened,
    proxy: ears::Opened,
    tftp: std::net::UdpSocket,
    web: std::net::TcpListener,
    relay: std::net::TcpListener,
    store: Store,
    cache: Option<Arc<Cache>>,
    board: Arc<Mutex<Board>>,
    outbox: Outbox,
    writer: Writer,
    mtu: u16,
    confinement: Option<Confinement>,
}

impl Opened {
    /// Gives up the rights that were needed up to here. No other thread may run yet.
    ///
    /// # Errors
    /// [`crate::confine::ConfineError`].
    pub fn confine(mut self) -> Result<Self> {
        let config = &self.prepared.config;
        let mut own = vec![config.state.clone()];
        if self.cache.is_some() {
            own.push(config.repository.clone());
        }
        let folders = Folders { read: vec![], write: own.clone() }
            .with_folder(&config.repository)
            .with_file(&config.trust)
            .with_file(&self.prepared.path)
            .with_file(Path::new(names::SYSTEM))
            .with_own_needs();
        let (user, sandbox) = (config.user.clone(), config.sandbox);
        self.confinement = Some(confine::apply(&Plan { user, sandbox, folders, own })?);
        Ok(self)
    }

    /// Runs the service until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When the runtime does not take the sockets.
    pub async fn serve(self) -> Result<()> {
        let stop = CancellationToken::new();
        let path = self.prepared.path.clone();
        crate::logging::set_level(self.prepared.config.log_level);
        let running = self.start(stop.clone())?;
        let of = || Arc::clone(&running.shared);
        running.tasks.spawn(crate::reload::run(of(), path, stop.clone()));
        running.tasks.spawn(manager::watchdog(of(), stop.clone()));
        manager::ready();
        tracing::info!("ready: {} on {}", running.shared.base_url, running.shared.config.now().interface);
        wait_for_signal().await?;
        tracing::info!("stopping");
        manager::stopping();
        stop.cancel();
        running.tasks.close();
        running.tasks.wait().await;
        Ok(())
    }

    /// Starts the tasks, inside a runtime.
    ///
    /// # Errors
    /// When the runtime does not take the sockets.
    pub fn start(self, stop: CancellationToken) -> Result<Running> {
        let source = Source { cache: self.cache.clone(), ..self.prepared.source() };
        let Self { prepared, dhcp, proxy, tftp, web, relay, store, board, outbox, writer, cache, mtu, confinement } =
            self;
        let Prepared { config, path: _, address, credential, signer, region, registrars, names } = prepared;
        let name = config.interface.clone();
        let take = "the runtime does not take a socket";
        let udp = |socket| UdpSocket::from_std(socket).context(take);
        let tcp = |socket| TcpListener::from_std(socket).context(take);
        let proxy = ears::Ear::new(proxy).context(take)?;
        let (tftp, web, relay) = (udp(tftp)?, tcp(web)?, tcp(relay)?);
        let port = web.local_addr().context("the HTTP socket has no address")?.port();
        let base_url = if port == 80 { format!("http://{address}") } else { format!("http://{address}:{port}") };
        let shared = Arc::new(Shared {
            logs: crate::logs::Logs::open(&config.state),
            step_times: crate::step_times::StepTimesFile::open(&config.state),
            page: crate::page::state::PageState::new(stop.clone(), &config.state),
            neighbours: Neighbours::of(&name),
            address,
            base_url,
            credential,
            signer,
            store,
            config: Live::new(config),
            boot: BootFiles::default(),
            cache,
            board,
            outbox,
            assignments_bell: tokio::sync::Notify::new(),
            region_reachable: AtomicBool::new(false),
            guids: Mutex::default(),
            architectures: Mutex::default(),
            lan: Lan::new(Instant::now()),
            names: Arc::clone(&names),
            metrics: crate::metrics::Metrics::of(confinement.as_ref()),
            quiet: crate::quiet_log::QuietLog::default(),
        });
        let (tasks, region) = (TaskTracker::new(), Arc::new(region));
        let of = || Arc::clone(&shared);
        tasks.spawn_blocking(|| writer.run());
        tasks.spawn({
            let (shared, stop) = (of(), stop.clone());
            async move {
                stop.cancelled().await;
                // What is under way may end: agents keep what is not taken.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                shared.outbox.close();
            }
        });
        dhcp.start(&shared, &tasks, &stop)?;
        tasks.spawn(dhcp_server::run(of(), proxy, Port::Proxy, Patience::none(), stop.clone()));
        tasks.spawn(tftp_server::run(of(), tftp, mtu, stop.clone()));
        tasks.spawn(http::serve::run(of(), web, http::router(of()), stop.clone()));
        tasks.spawn(boot_watch::run(of(), source, stop.clone()));
        tasks.spawn(cache::mirror::run(of(), stop.clone()));
        tasks.spawn(windows::run(of(), stop.clone()));
        tasks.spawn(region::assignments::run(of(), Arc::clone(&region), stop.clone()));
        tasks.spawn(region::forward::run(of(), region, stop.clone()));
        tasks.spawn(region::relay::run(relay, registrars, names, stop.clone()));
        Ok(Running { shared, tasks, stop })
    }
}

/// The running service. It stops when this is dropped: the thread that writes events would keep a runtime from ending.
#[derive(Debug)]
pub struct Running {
    /// Its state.
    pub shared: Arc<Shared>,
    /// Its tasks.
    pub tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        // The task that does this otherwise may be gone already.
        self.shared.outbox.close();
    }
}

fn read_credential(path: &Path) -> Result<StoreCredential> {
    let bytes = std::fs::read(path)?;
    contracts::read(&bytes).context("it is not a store credential")
}

pub(crate) async fn wait_for_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
