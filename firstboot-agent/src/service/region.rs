//! The registrar, through netboot's blind relay: TLS 1.3 from here to there, both sides proven. A relay can neither
//! read nor forge what passes.

use super::identity::Identity;
use crate::{boot::installed::STATE, net::client};
use anyhow::{Context, Result, ensure};
use contracts::{
    assignment::{Assignment, RegistrarEndpoint},
    enrollment::{Enrollment, EnrollmentRequest},
    state::RecoveryKey,
};
use reqwest::Client;
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use uuid::Uuid;

/// The region has answered the last call: what is wrong with this machine is then not the line.
static ANSWERS: AtomicBool = AtomicBool::new(false);

/// True when the region has answered the last call of this process.
#[must_use]
pub fn answers() -> bool {
    ANSWERS.load(Ordering::Relaxed)
}

/// A way to the registrar.
#[derive(Debug, Clone)]
pub struct Region(Vec<(String, Client)>);

impl Region {
    /// Makes a client for each endpoint of the assignment. Nothing is sent yet.
    ///
    /// # Errors
    /// When there is no endpoint, or the CA certificates that the install left cannot be read.
    pub fn connect(assignment: &Assignment, identity: &Identity) -> Result<Self> {
        let path = Path::new(STATE).join("registrar-ca.pem");
        let ca = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Self::with_ca(&assignment.registrars, &ca, identity)
    }

    /// The same with CA certificates from elsewhere (PEM).
    ///
    /// # Errors
    /// See [`Region::connect`].
    pub fn with_ca(endpoints: &[RegistrarEndpoint], ca: &[u8], identity: &Identity) -> Result<Self> {
        ensure!(!endpoints.is_empty(), "the store named no way to the region");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            roots.add(certificate.context("reading the registrar's CA")?).context("using the registrar's CA")?;
        }
        let (chain, key) = identity.tls();
        let tls = ClientConfig::builder_with_protocol_versions(&[&TLS13])
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .context("using the machine's key")?;
        endpoints.iter().map(|endpoint| one(endpoint, tls.clone())).collect::<Result<_>>().map(Self)
    }

    /// Asks to be admitted.
    ///
    /// # Errors
    /// When no endpoint answers, or the answer makes no sense.
    pub async fn enroll(&self, request: &EnrollmentRequest) -> Result<Enrollment> {
        let body = serde_json::to_vec(request)?;
        self.call(|client, base| {
            client.post(format!("{base}/v1/enrollments")).header("Content-Type", "application/json").body(body.clone())
        })
        .await
    }

    /// How an enrollment stands.
    ///
    /// # Errors
    /// When no endpoint answers, or the answer makes no sense.
    pub async fn enrollment(&self, id: Uuid) -> Result<Enrollment> {
        self.call(|client, base| client.get(format!("{base}/v1/enrollments/{id}"))).await
    }

    /// Hands over the key that opens this machine's state; afterwards it is on the registrar's disk.
    ///
    /// # Errors
    /// When no endpoint takes it.
    pub async fn keep_recovery_key(&self, key: &RecoveryKey) -> Result<()> {
        let body = serde_json::to_vec(key)?;
        let call = self.bytes(|client, base| {
            client
                .post(format!("{base}/v1/recovery-keys"))
                .header("Content-Type", "application/json")
                .body(body.clone())
        });
        call.await.map(|_| ())
    }

    async fn call(&self, request: impl Fn(&Client, &str) -> reqwest::RequestBuilder) -> Result<Enrollment> {
        Ok(contracts::read(&self.bytes(request).await?)?)
    }

    /// Tries the endpoints in order.
    async fn bytes(&self, request: impl Fn(&Client, &str) -> reqwest::RequestBuilder) -> Result<Vec<u8>> {
        let mut last = None;
        for (base, client) in &self.0 {
            match request(client, base).send().await {
                Ok(answer) => {
                    ANSWERS.store(true, Ordering::Relaxed);
                    return Ok(client::body(answer).await?.to_vec());
                }
                Err(error) => last = Some(anyhow::Error::from(error).context(format!("calling the registrar {base}"))),
            }
        }
        ANSWERS.store(false, Ordering::Relaxed);
        Err(last.unwrap_or_else(|| anyhow::anyhow!("there is no registrar to call")))
    }
}

fn one(endpoint: &RegistrarEndpoint, tls: ClientConfig) -> Result<(String, Client)> {
    let address: SocketAddr =
        endpoint.relay.parse().with_context(|| format!("the relay address {}", endpoint.relay))?;
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // The name in the certificate is the region's; the packets go to the relay on the LAN.
        .resolve(&endpoint.server_name, address)
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(90))
        .build()
        .context("making the client")?;
    Ok((format!("https://{}:{}", endpoint.server_name, address.port()), client))
}
