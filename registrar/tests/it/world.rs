//! One region with a registrar, two stores, and as many machines as a test makes.

use contracts::enrollment::{Csr, Enrollment, EnrollmentRequest, EnrollmentState, JoinMaterial};
use contracts::facts::{Firmware, MachineFacts};
use contracts::store::StoreCredential;
use contracts::voucher::{Voucher, VoucherStatement};
use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};
use registrar::broker::{BrokerError, Brokers, JoinBroker, JoinRequest, Objection, Readiness};
use registrar::config::Config;
use registrar::server::Server;
use registrar::state::State;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const SERVER_NAME: &str = "registrar.test";
pub(crate) const MAC: &str = "52:54:00:00:00:01";
pub(crate) const INVENTORY: &str = "apiVersion: shelfboot.dev/v1
kind: Inventory
stores:
  - name: store-1
    machines:
      - {name: w1, template: k8s-worker, channel: stable, mac: '52:54:00:00:00:01'}
  - name: store-2
    machines:
      - {name: w2, template: k8s-worker, channel: stable, any: true}
";

/// The cluster, played: says what it is told to say, and records what it is asked.
#[derive(Debug, Default)]
pub(crate) struct PlayedCluster {
    pub(crate) down: Mutex<bool>,
    /// The boot id that the node shows, once it is ready.
    pub(crate) ready_boot: Mutex<Option<String>>,
    pub(crate) joins: Mutex<Vec<JoinRequest>>,
}

impl JoinBroker for PlayedCluster {
    /// As the real one: only the cluster behind it is played.
    fn check(&self, name: &str, csrs: &[Csr]) -> Result<Vec<Csr>, Objection> {
        registrar::broker::check_kubernetes(name, csrs)
    }

    fn join<'a>(&'a self, request: &'a JoinRequest) -> BoxFuture<'a, Result<JoinMaterial, BrokerError>> {
        Box::pin(async move {
            if *self.down.lock().unwrap() {
                return Err(BrokerError::Unavailable("connection refused".into()));
            }
            self.joins.lock().unwrap().push(request.clone());
            let certificate = format!("certificate {}", self.joins.lock().unwrap().len());
            let certificates = [("kubelet-client".into(), certificate)].into();
            Ok(JoinMaterial { certificates, values: [("ca".into(), "ca".into())].into() })
        })
    }

    fn readiness<'a>(&'a self, _: &'a str, boot_id: &'a str) -> BoxFuture<'a, Result<Readiness, BrokerError>> {
        let ready = self.ready_boot.lock().unwrap().as_deref() == Some(boot_id);
        let answer = if ready { Readiness::Ready } else { Readiness::NotYet("no node yet".into()) };
        Box::pin(async move { Ok(answer) })
    }

    fn revoke<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, BrokerError>> {
        Box::pin(async move { Ok(vec![format!("{name} is revoked")]) })
    }
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) state: State,
    pub(crate) cluster: Arc<PlayedCluster>,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_inventory(INVENTORY).await
    }

    pub(crate) async fn with_inventory(inventory: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let state = State::init(&path, SERVER_NAME, &[], OffsetDateTime::now_utc()).await.unwrap();
        std::fs::write(folder.path().join("inventory.yaml"), inventory).unwrap();
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            state: path,
            inventory: folder.path().join("inventory.yaml"),
            keep_events: time::Duration::days(90),
            kubernetes: None,
            ceph: None,
            nova: None,
        };
        let (cluster, stop) = (Arc::new(PlayedCluster::default()), CancellationToken::new());
        let mut brokers = Brokers::default();
        let broker: Arc<dyn JoinBroker> = cluster.clone();
        brokers.serve(&["k8s-worker".into()], broker);
        let server = Server::start_with(&config, brokers, stop.clone()).await.unwrap();
        let address = server.address().unwrap();
        tokio::spawn(server.run());
        Self { folder, state, cluster, address, stop }
    }

    pub(crate) fn inventory_file(&self) -> PathBuf {
        self.folder.path().join("inventory.yaml")
    }

    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("state/ca.pem")).unwrap()
    }

    /// Adds a store as IT does, and returns its credential.
    pub(crate) async fn store(&self, name: &str) -> Store {
        let out = self.folder.path().join(format!("{name}-{}.json", Uuid::new_v4()));
        let endpoints = vec![self.address.to_string()];
        self.state.add_store(name, endpoints, &out, true, OffsetDateTime::now_utc()).await.unwrap();
        Store { credential: contracts::read(&std::fs::read(out).unwrap()).unwrap() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{SERVER_NAME}:{}{path}", self.address.port())
    }

    /// A client that trusts this CA and shows this certificate.
    pub(crate) fn client_with(&self, ca: &str, certificate: Option<(&str, &str)>) -> reqwest::Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .resolve(SERVER_NAME, self.address)
            .no_proxy()
            .timeout(Duration::from_secs(40))
            .build()
            .unwrap()
    }

    pub(crate) fn store_client(&self, store: &Store) -> reqwest::Client {
        self.client_with(&self.ca(), Some((&store.credential.certificate, &store.credential.key)))
    }

    pub(crate) fn machine_client(&self, machine: &Machine) -> reqwest::Client {
        self.client_with(&self.ca(), Some((&machine.certificate, &machine.key.serialize_pem())))
    }

    pub(crate) async fn enroll(&self, machine: &Machine, request: &EnrollmentRequest) -> Enrollment {
        let sent = self.machine_client(machine).post(self.url("/v1/enrollments")).json(request).send().await.unwrap();
        assert_eq!(sent.status(), 200, "{}", sent.text().await.unwrap());
        contracts::read(&sent.bytes().await.unwrap()).unwrap()
    }

    pub(crate) async fn show(&self, machine: &Machine, id: Uuid) -> reqwest::Response {
        self.machine_client(machine).get(self.url(&format!("/v1/enrollments/{id}"))).send().await.unwrap()
    }

    pub(crate) async fn shown(&self, machine: &Machine, id: Uuid) -> Enrollment {
        let sent = self.show(machine, id).await;
        assert_eq!(sent.status(), 200);
        contracts::read(&sent.bytes().await.unwrap()).unwrap()
    }
}

pub(crate) struct Store {
    pub(crate) credential: StoreCredential,
}

impl Store {
    pub(crate) fn vouch(&self, machine: &Machine, mac: &str) -> Voucher {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
        use base64::Engine;
        let statement = serde_json::to_string(&VoucherStatement {
            version: 1,
            store: self.credential.store.clone(),
            fingerprint: machine.fingerprint(),
            mac: mac.into(),
            entry: None,
            relay: None,
            time: OffsetDateTime::now_utc(),
        })
        .unwrap();
        let pkcs8 = KeyPair::from_pem(&self.credential.key).unwrap().serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).unwrap();
        let random = aws_lc_rs::rand::SystemRandom::new();
        let signature = key.sign(&random, &Voucher::signed_bytes(&statement)).unwrap();
        Voucher { statement, signature: base64::engine::general_purpose::STANDARD.encode(signature) }
    }
}

pub(crate) struct Machine {
    pub(crate) key: KeyPair,
    pub(crate) certificate: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::with_key(KeyPair::generate().unwrap())
    }

    pub(crate) fn with_key(key: KeyPair) -> Self {
        let certificate = CertificateParams::default().self_signed(&key).unwrap().pem();
        Self { key, certificate }
    }

    pub(crate) fn fingerprint(&self) -> String {
        registrar::identity::fingerprint(&self.key.subject_public_key_info())
    }
}

pub(crate) fn request(voucher: Voucher) -> EnrollmentRequest {
    EnrollmentRequest {
        version: 1,
        attempt: Uuid::new_v4(),
        nonce: Uuid::new_v4().simple().to_string(),
        template: "k8s-worker".into(),
        image_version: "2026.11.1".into(),
        boot_id: Uuid::new_v4().to_string(),
        facts: MachineFacts {
            version: 1,
            firmware: Firmware::Uefi,
            cpus: 4,
            memory_bytes: 1 << 30,
            ..MachineFacts::default()
        },
        vouchers: vec![voucher],
        join: false,
        csrs: vec![],
    }
}

/// A kubelet's CSR for the node `name`, with a new key.
pub(crate) fn kubelet_csr(name: &str) -> Csr {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{name}"));
    let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    Csr { purpose: "kubelet-client".into(), pem }
}

pub(crate) fn refused_code(enrollment: &Enrollment) -> &str {
    match &enrollment.state {
        EnrollmentState::Refused { code, .. } => code,
        other => panic!("not refused: {other:?}"),
    }
}
