//! Who is calling: a store, by a certificate of our CA, or a machine, by its own self-signed key.
//!
//! Both are P-256 and nothing else: one algorithm to check, the one that TPMs and the voucher format share.

use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

/// The caller, as TLS proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A store: its certificate chains to our CA.
    Store {
        /// The certificate's common name.
        name: String,
        /// SHA-256 of its public key, see [`fingerprint`].
        fingerprint: String,
    },
    /// A machine: nothing is known but that it holds this key.
    Machine {
        /// SHA-256 of its public key, see [`fingerprint`].
        fingerprint: String,
    },
}

/// Why a certificate says nothing about its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not X.509, or with trailing bytes.
    #[error("the client's certificate cannot be read")]
    Unreadable,
    /// Another algorithm.
    #[error("the client's key is not P-256")]
    NotP256,
    /// Neither of our CA nor signed by its own key.
    #[error("the client's certificate is neither from this registrar's CA nor signed by its own key")]
    Untrusted,
    /// From our CA, but without a name.
    #[error("the store's certificate has no single common name")]
    Unnamed,
}

/// SHA-256 of a SubjectPublicKeyInfo (DER), 64 hex digits in lower case.
#[must_use]
pub fn fingerprint(spki_der: &[u8]) -> String {
    hex::encode(Sha256::digest(spki_der))
}

/// True for a named-curve P-256 key (RFC 5480 section 2.1.1).
#[must_use]
pub fn is_p256(spki: &SubjectPublicKeyInfo<'_>) -> bool {
    let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve.is_some_and(|oid| oid == OID_EC_P256)
}

/// Tells who holds a certificate. `stores` checks the chain to our CA. Possession of the key is proved elsewhere, by
/// the handshake's signature.
///
/// # Errors
/// [`IdentityError`].
pub fn identify(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    stores: &Arc<dyn ClientCertVerifier>,
    now: UnixTime,
) -> Result<Identity, IdentityError> {
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
    if !rest.is_empty() {
        return Err(IdentityError::Unreadable);
    }
    if !is_p256(parsed.public_key()) {
        return Err(IdentityError::NotP256);
    }
    let fingerprint = fingerprint(parsed.public_key().raw);
    if stores.verify_client_cert(certificate, intermediates, now).is_ok() {
        let mut names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        return match (names.next(), names.next()) {
            (Some(name), None) => Ok(Identity::Store { name: name.into(), fingerprint }),
            _ => Err(IdentityError::Unnamed),
        };
    }
    // A machine's clock may be decades off when it makes its certificate, so the validity dates mean nothing here:
    // the pin, not the certificate, says how long a key is good.
    let own_signature = parsed.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256
        && parsed.verify_signature(Some(parsed.public_key())).is_ok();
    if own_signature { Ok(Identity::Machine { fingerprint }) } else { Err(IdentityError::Untrusted) }
}
