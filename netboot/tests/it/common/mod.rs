//! A running netboot on the loopback: a signed repository, a credential, durable assignments.

pub(crate) mod namespace;
pub(crate) mod tuf;

use contracts::{
    assignment::ImageRef,
    store::{MachineSelector, StoreAssignments, StoreCredential, StoreMachine},
};
use netboot::{
    service::{Prepared, Running},
    store::Store,
};
use std::{
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    time::Duration,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The machine that [`World::install`] and friends speak of.
pub(crate) const MAC: &str = "52:54:00:aa:bb:01";

/// The boot file's content: not a multiple of any block size.
pub(crate) fn uki() -> Vec<u8> {
    (0..300_123_u32).map(|n| (n % 253) as u8).collect()
}

/// Files for one store.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) repository: tuf::Repository,
    pub(crate) credential: StoreCredential,
    pub(crate) http: u16,
    pub(crate) tftp: u16,
    /// The line of the configuration about the repository's folder.
    pub(crate) serves: &'static str,
    /// More lines of the configuration.
    pub(crate) more: String,
}

fn free_tcp() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn free_udp() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One machine of the template `k8s-worker`.
pub(crate) fn assignments(generation: u64, epoch: u64) -> StoreAssignments {
    let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
    let machine = StoreMachine { name: "w1".into(), selector: MachineSelector::Mac(MAC.into()), image, epoch };
    StoreAssignments {
        version: 1,
        store: "store-17".into(),
        generation,
        machines: vec![machine],
        windows: vec![],
        orders: vec![],
        retired: vec![],
        staging: None,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = tuf::Repository::new(folder.path().join("repository"));
        repository.publish(1, &uki());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["store-17".into()]).unwrap().self_signed(&key).unwrap();
        let credential = StoreCredential {
            version: 1,
            store: "store-17".into(),
            key: key.serialize_pem(),
            certificate: certificate.pem(),
            registrar_ca: certificate.pem(),
            server_name: "registrar.region.test".into(),
            // Nobody listens there: the region is down.
            registrars: vec![format!("127.0.0.1:{}", free_tcp())],
        };
        Self {
            folder,
            repository,
            credential,
            http: free_tcp(),
            tftp: free_udp(),
            serves: "repository: repository",
            more: String::new(),
        }
    }

    /// A port of the configuration file that was written last.
    pub(crate) fn port(&self, name: &str) -> u16 {
        let text = std::fs::read_to_string(self.folder.path().join("netboot.yaml")).unwrap();
        let after = text.split_once(&format!("{name}: ")).unwrap().1;
        after[..after.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Puts assignments into the durable state, as an earlier run would have.
    pub(crate) fn know(&self, document: StoreAssignments) {
        Store::open(&self.state()).unwrap().set_assignments(document).unwrap();
    }

    pub(crate) fn write_config(&self) -> PathBuf {
        self.write_config_for(
            "lo",
            &format!("ports: {{dhcp: {}, tftp: {}, proxy: {}}}", free_udp(), self.tftp, free_udp()),
        )
    }

    /// The configuration for another interface, with further lines.
    pub(crate) fn write_config_for(&self, interface: &str, more: &str) -> PathBuf {
        let folder = self.folder.path();
        std::fs::write(folder.join("store.json"), serde_json::to_vec(&self.credential).unwrap()).unwrap();
        let text = format!(
            "apiVersion: shelfboot.dev/v1\nkind: Netboot\ninterface: {interface}\nhttpPort: {}\nrelayPort: {}\n\
             {}\ntrust: root.json\nstate: state\ncredential: store.json\n{more}\n{}",
            self.http,
            free_tcp(),
            self.serves,
            self.more,
        );
        std::fs::write(folder.join("root.json"), self.repository.root_json()).unwrap();
        let path = folder.join("netboot.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts netboot and waits until it answers.
    pub(crate) async fn start(&self) -> Netboot {
        let stop = CancellationToken::new();
        let config = self.write_config();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        // A thread of the one before may still be at its last work, with the lock on the folder.
        let running = loop {
            match Prepared::read(&config).unwrap().start(stop.clone()) {
                Ok(running) => break running,
                Err(error)
                    if format!("{error:#}").contains("another netboot uses") && std::time::Instant::now() < end =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error:#}"),
            }
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Netboot { running, stop, client, base: format!("http://127.0.0.1:{}", self.http) }
    }
}

/// The running service.
pub(crate) struct Netboot {
    pub(crate) running: Running,
    pub(crate) stop: CancellationToken,
    pub(crate) client: reqwest::Client,
    pub(crate) base: String,
}

impl Netboot {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Waits until the boot file is loaded.
    pub(crate) async fn loaded(&self) {
        until(|| self.running.shared.boot.get("k8s-worker.efi").is_some()).await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.tasks.close();
        self.running.tasks.wait().await;
    }
}

/// Waits for a state, with an end.
#[track_caller]
pub(crate) fn until(reached: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    until_at(reached, caller)
}

async fn until_at(mut reached: impl FnMut() -> bool, caller: &std::panic::Location<'_>) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !reached() {
        assert!(std::time::Instant::now() < end, "{caller}: the state was not reached in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
