//! Calls to the registrars. Where they are comes from the credential, and so does the name in their certificate: a forged
//! answer of DNS leads to nobody who can show it.

use crate::names::{
    Names,
    endpoint::{Endpoint, NoEndpoint},
};
use contracts::store::StoreCredential;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A PEM part is unreadable.
    #[error("the credential's {0} is not PEM")]
    Pem(&'static str, #[source] rustls_pki_types::pem::Error),
    /// It has no certificate.
    #[error("the credential's {0} holds no certificate")]
    Empty(&'static str),
    /// TLS does not take it.
    #[error("the credential cannot be used for TLS")]
    Tls(#[source] rustls::Error),
    /// An endpoint is not `HOST:PORT`.
    #[error("a registrar cannot be used")]
    Endpoint(#[source] NoEndpoint),
    /// It lists no registrar.
    #[error("the credential lists no registrar")]
    NoRegistrar,
    /// The HTTP client cannot be made.
    #[error("cannot make the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer.
    #[error("the registrar {address} does not answer")]
    Unreachable {
        /// Which.
        address: Endpoint,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that is an error.
    #[error("the registrar {address} says {status}: {text}")]
    Refused {
        /// Which.
        address: Endpoint,
        /// The HTTP status.
        status: StatusCode,
        /// What it says, shortened.
        text: String,
    },
}

struct Registrar {
    address: Endpoint,
    base: String,
    client: Client,
}

/// The region's registrars.
pub struct Region {
    endpoints: Vec<Registrar>,
    /// The one that answered last.
    good: AtomicUsize,
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.endpoints.iter().map(|e| e.address.to_string())).finish()
    }
}

/// The endpoints that a credential lists.
///
/// # Errors
/// [`CredentialError::Endpoint`] or [`CredentialError::NoRegistrar`].
pub fn endpoints(credential: &StoreCredential) -> Result<Vec<Endpoint>, CredentialError> {
    let parse = |text: &String| text.parse().map_err(CredentialError::Endpoint);
    let all = credential.registrars.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() { Err(CredentialError::NoRegistrar) } else { Ok(all) }
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| CredentialError::Pem(what, e))?;
    if all.is_empty() { Err(CredentialError::Empty(what)) } else { Ok(all) }
}

fn tls(credential: &StoreCredential) -> Result<ClientConfig, CredentialError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&credential.registrar_ca, "registrar CA")? {
        roots.add(certificate).map_err(CredentialError::Tls)?;
    }
    let key = PrivatePkcs8KeyDer::from_pem_slice(credential.key.as_bytes())
        .map_err(|e| CredentialError::Pem("key", e))?
        .into();
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(CredentialError::Tls)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&credential.certificate, "certificate")?, key)
        .map_err(CredentialError::Tls)
}

/// Whatever name the URL has, this is where it leads: the certificate's name is not the host's.
struct At {
    address: Endpoint,
    names: Arc<Names>,
}

impl reqwest::dns::Resolve for At {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (address, names) = (self.address.clone(), Arc::clone(&self.names));
        Box::pin(async move { Ok(Box::new(address.addresses(&names).await?.into_iter()) as reqwest::dns::Addrs) })
    }
}

impl Region {
    /// Prepares the calls.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn new(credential: &StoreCredential, names: &Arc<Names>) -> Result<Self, CredentialError> {
        let tls = tls(credential)?;
        let name = &credential.server_name;
        let prepare = |address: Endpoint| {
            let client = Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(At { address: address.clone(), names: Arc::clone(names) })
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .https_only(true)
                .build()
                .map_err(CredentialError::Client)?;
            Ok(Registrar { base: format!("https://{name}:{}", address.port), address, client })
        };
        let endpoints = endpoints(credential)?.into_iter().map(prepare).collect::<Result<_, _>>()?;
        Ok(Self { endpoints, good: AtomicUsize::new(0) })
    }

    /// Makes a call: at the registrar that answered last, then at the others in order. An answer that is an error
    /// counts as an answer unless it is a 5xx.
    ///
    /// # Errors
    /// [`CallError`] of the last one tried.
    pub async fn call(&self, make: impl Fn(&Client, &str) -> RequestBuilder) -> Result<Response, CallError> {
        let first = self.good.load(Ordering::Relaxed);
        let mut failed = None;
        for index in (0..self.endpoints.len()).map(|n| (first + n) % self.endpoints.len()) {
            let endpoint = &self.endpoints[index];
            match Self::call_one(endpoint, make(&endpoint.client, &endpoint.base)).await {
                Ok(response) => {
                    self.good.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(refused @ CallError::Refused { status, .. }) if !status.is_server_error() => return Err(refused),
                Err(error) => failed = Some(error),
            }
        }
        // There is at least one endpoint, so at least one failure.
        Err(failed.unwrap_or_else(|| unreachable!("a region has an endpoint")))
    }

    async fn call_one(endpoint: &Registrar, request: RequestBuilder) -> Result<Response, CallError> {
        let address = endpoint.address.clone();
        let response =
            request.send().await.map_err(|source| CallError::Unreachable { address: address.clone(), source })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        Err(CallError::Refused { address, status, text: text.escape_debug().take(300).collect() })
    }
}
