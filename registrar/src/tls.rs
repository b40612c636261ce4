//! TLS 1.3 with a client certificate from everybody, and nothing else.

use crate::identity::{Identity, IdentityError, identify};
use crate::state::ServerFiles;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::sync::Arc;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file in the state folder is damaged.
    #[error("the {what} in the state folder cannot be read")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The CA cannot be used to check stores.
    #[error("the CA in the state folder cannot be used to check stores")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// rustls refused.
    #[error("the server's key and certificate cannot be used")]
    Server(#[source] rustls::Error),
}

/// The server side of TLS: what it shows, and whom it lets in.
#[derive(Debug, Clone)]
pub struct Tls {
    /// For the acceptor.
    pub config: Arc<ServerConfig>,
    verifier: Arc<PeerVerifier>,
}

impl Tls {
    /// Sets TLS up from the state folder's files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(files: &ServerFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates("CA certificate", &files.ca)? {
            roots.add(certificate).map_err(TlsError::Server)?;
        }
        let stores = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(TlsError::Verifier)?;
        let verifier = Arc::new(PeerVerifier { stores, provider: provider.clone() });
        let key = PrivateKeyDer::from_pem_slice(files.key.as_bytes())
            .map_err(|source| TlsError::Pem { what: "server key", source })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Server)?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(certificates("server certificate", &files.certificate)?, key)
            .map_err(TlsError::Server)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would skip the check of the client's key; a full handshake costs little here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), verifier })
    }

    /// Who completed this handshake.
    ///
    /// # Errors
    /// [`IdentityError`]; the handshake would have failed with the same.
    pub fn identity(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<Identity, IdentityError> {
        let (first, rest) = chain.and_then(<[_]>::split_first).ok_or(IdentityError::Unreadable)?;
        identify(first, rest, &self.verifier.stores, UnixTime::now())
    }
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what, source })
}

/// Lets in stores of our CA and any self-signed P-256 key; see [`crate::identity`].
#[derive(Debug)]
struct PeerVerifier {
    stores: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for PeerVerifier {
    /// No hints: a client that believed them would hold back its self-signed certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        identify(end_entity, intermediates, &self.stores, now)
            .map(|_| ClientCertVerified::assertion())
            .map_err(|_| CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if dss.scheme != SignatureScheme::ECDSA_NISTP256_SHA256 {
            return Err(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
