//! Host names of the region, resolved by our own code: a static program cannot rely on the C library's resolver, which
//! loads other libraries. Asks the servers of the configuration (`dns`), else those of /etc/resolv.conf. An answer is kept
//! as long as it says; when DNS is down, the last good one is used on.

pub mod endpoint;
pub mod message;

use crate::shared::lock;
use message::{Answer, Kind};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// How long a server has to answer, each time.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// Servers that are asked; resolv.conf(5) takes three.
const MOST_SERVERS: usize = 4;
/// Names that are remembered: those of the configuration, so never near this.
pub(crate) const MOST_NAMES: usize = 64;
/// However short-lived an answer says it is, and however long.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// An answer over UDP without extensions (RFC 1035, section 4.2.1), with room for servers that send more.
pub(crate) const LARGEST: usize = 4096;
/// Where the system's servers stand.
pub const SYSTEM: &str = "/etc/resolv.conf";

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It can be nobody's name.
    #[error("`{0}` is no host name")]
    NotAName(String),
    /// The servers say so.
    #[error("DNS knows no address of `{0}`")]
    Unknown(String),
    /// There is no server to ask.
    #[error("`{0}` cannot be resolved: there is no DNS server in `dns` or {SYSTEM}")]
    NoServer(String),
    /// None answers well.
    #[error("`{name}` cannot be resolved: {problem}")]
    Unanswered {
        /// The name.
        name: String,
        /// What the last server did.
        problem: String,
    },
}

#[derive(Debug, Clone)]
struct Known {
    addresses: Vec<IpAddr>,
    until: Instant,
}

/// The resolver.
#[derive(Debug)]
pub struct Names {
    configured: Mutex<Vec<SocketAddr>>,
    system: PathBuf,
    known: Mutex<HashMap<String, Known>>,
}

impl Default for Names {
    fn default() -> Self {
        Self::new(Vec::new(), SYSTEM)
    }
}

impl Names {
    /// With servers of its own, or, without any, those of a file like /etc/resolv.conf.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>, system: impl Into<PathBuf>) -> Self {
        Self { configured: Mutex::new(servers), system: system.into(), known: Mutex::default() }
    }

    /// Asks these servers from now on.
    pub fn set_servers(&self, servers: &[SocketAddr]) {
        *lock(&self.configured) = servers.to_vec();
    }

    /// The addresses of a host: at least one.
    ///
    /// # Errors
    /// [`NameError`], when nothing good was ever heard of it.
    pub async fn find(&self, host: &str) -> Result<Vec<IpAddr>, NameError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if !message::is_name(host) {
            return Err(NameError::NotAName(host.to_owned()));
        }
        let name = host.to_ascii_lowercase();
        let known = lock(&self.known).get(&name).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.until > Instant::now()) {
            return Ok(known.addresses.clone());
        }
        match (self.ask(&name).await, known) {
            (Ok((addresses, lives)), _) => {
                let until = Instant::now() + lives.clamp(SHORTEST, LONGEST);
                let mut all = lock(&self.known);
                if all.len() >= MOST_NAMES && !all.contains_key(&name) {
                    all.clear();
                }
                all.insert(name, Known { addresses: addresses.clone(), until });
                Ok(addresses)
            }
            // DNS is down, or somebody broke it: where the region was is where it most likely still is. TLS tells.
            (Err(error), Some(known)) => {
                tracing::warn!("{error}; the addresses of before are tried");
                let mut all = lock(&self.known);
                if let Some(entry) = all.get_mut(&name) {
                    entry.until = Instant::now() + SHORTEST;
                }
                Ok(known.addresses)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let configured = lock(&self.configured).clone();
        if !configured.is_empty() {
            return configured;
        }
        // A small file, which is in the kernel's cache.
        std::fs::read_to_string(&self.system).map(|text| nameservers(&text)).unwrap_or_default()
    }

    async fn ask(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), NameError> {
        let servers = self.servers();
        if servers.is_empty() {
            return Err(NameError::NoServer(name.to_owned()));
        }
        let mut problem = String::new();
        for server in std::iter::repeat_n(&servers, ROUNDS).flatten() {
            match both(*server, name).await {
                Ok(Some((addresses, seconds))) => return Ok((addresses, Duration::from_secs(seconds.into()))),
                Ok(None) => return Err(NameError::Unknown(name.to_owned())),
                Err(error) => problem = format!("the DNS server {server}: {error}"),
            }
        }
        Err(NameError::Unanswered { name: name.to_owned(), problem })
    }
}

/// IPv4 addresses, else IPv6 ones. None when the name has neither.
async fn both(server: SocketAddr, name: &str) -> io::Result<Option<(Vec<IpAddr>, u32)>> {
    for kind in [Kind::A, Kind::Aaaa] {
        match tokio::time::timeout(PATIENCE, exchange(server, name, kind)).await?? {
            Answer::Addresses(addresses, seconds) if !addresses.is_empty() => return Ok(Some((addresses, seconds))),
            Answer::Addresses(..) => {}
            Answer::NoName => return Ok(None),
            Answer::Failed(code) => return Err(io::Error::other(format!("it answers with error {code}"))),
            Answer::Truncated => return Err(io::Error::other("its answer is cut off over TCP too")),
        }
    }
    Ok(None)
}

/// One question and its answer. The port is the kernel's choice and the id is random, so that nobody who cannot listen can
/// answer in the server's place.
async fn exchange(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Answer> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = rand::random();
    let query = message::query(id, name, kind);
    socket.send(&query).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match message::read(&buffer[..length], id, name, kind) {
            None => {}
            Some(Answer::Truncated) => return over_tcp(server, &query, id, name, kind).await,
            Some(answer) => return Ok(answer),
        }
    }
}

/// RFC 1035, section 4.2.2: the length comes first.
async fn over_tcp(server: SocketAddr, query: &[u8], id: u16, name: &str, kind: Kind) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    message::read(&answer, id, name, kind).ok_or_else(|| io::Error::other("it answers something else"))
}

/// The lines `nameserver ADDRESS` of resolv.conf(5).
#[must_use]
pub fn nameservers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    };
    text.lines().filter_map(address).map(|address| (address, 53).into()).take(MOST_SERVERS).collect()
}

/// For HTTP clients.
#[derive(Debug, Clone)]
pub struct ForHttp(pub Arc<Names>);

impl reqwest::dns::Resolve for ForHttp {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let names = Arc::clone(&self.0);
        Box::pin(async move {
            let found = names.find(name.as_str()).await?;
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::from((address, 0)))) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
