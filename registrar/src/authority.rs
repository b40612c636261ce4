//! The registrar's own certificate authority: a root, the server's certificate, one client certificate per store.
//!
//! Machines get no certificate from it: their self-signed key is the identity, and the pin is the trust.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use std::net::IpAddr;
use time::{Duration, OffsetDateTime};

/// Stores and images carry these certificates for as long as the hardware lives.
const VALIDITY: Duration = Duration::days(20 * 365);
/// A peer's clock may be behind by this much on the day of issue.
const BACKDATED: Duration = Duration::days(2);

/// A key and its certificate.
#[derive(Debug)]
pub struct Issued {
    /// PKCS #8, PEM.
    pub key: String,
    /// PEM.
    pub certificate: String,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate library refused.
    #[error("cannot make the certificate for {subject}")]
    Issue {
        /// For whom.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The CA's files are damaged.
    #[error("the CA's certificate and key in the state folder cannot be used")]
    Ca(#[source] rcgen::Error),
}

/// Makes a new CA.
///
/// # Errors
/// [`AuthorityError::Issue`].
pub fn new_ca(server_name: &str, now: OffsetDateTime) -> Result<Issued, AuthorityError> {
    let mut params = params(&format!("Shelfboot registrar CA of {server_name}"), now);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let make = || {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?;
        Ok(issued(&key, &certificate))
    };
    make().map_err(|source| AuthorityError::Issue { subject: "the CA".into(), source })
}

/// Makes the server's certificate.
///
/// # Errors
/// [`AuthorityError`].
pub fn new_server(
    ca: &Issued,
    server_name: &str,
    addresses: &[IpAddr],
    now: OffsetDateTime,
) -> Result<Issued, AuthorityError> {
    let names = std::iter::once(server_name.to_owned()).chain(addresses.iter().map(ToString::to_string));
    let alternative = CertificateParams::new(names.collect::<Vec<_>>())
        .map_err(|source| AuthorityError::Issue { subject: server_name.into(), source })?;
    let mut params = params(server_name, now);
    params.subject_alt_names = alternative.subject_alt_names;
    sign(ca, params, ExtendedKeyUsagePurpose::ServerAuth, server_name)
}

/// Makes a store's client certificate: the common name is the store's name.
///
/// # Errors
/// [`AuthorityError`].
pub fn new_store(ca: &Issued, store: &str, now: OffsetDateTime) -> Result<Issued, AuthorityError> {
    sign(ca, params(store, now), ExtendedKeyUsagePurpose::ClientAuth, store)
}

/// Makes the certificate of the key that signs orders for machines. It passes for no end of a connection.
///
/// # Errors
/// [`AuthorityError`].
pub fn new_fleet(ca: &Issued, now: OffsetDateTime) -> Result<Issued, AuthorityError> {
    let name = contracts::fleet::COMMON_NAME;
    sign(ca, params(name, now), ExtendedKeyUsagePurpose::CodeSigning, name)
}

fn params(common_name: &str, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now - BACKDATED;
    params.not_after = now + VALIDITY;
    params
}

fn sign(
    ca: &Issued,
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    subject: &str,
) -> Result<Issued, AuthorityError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // RFC 5280 section 4.2.1.12: a server's certificate must not pass for a store's, nor the other way round.
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let ca_key = KeyPair::from_pem(&ca.key).map_err(AuthorityError::Ca)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key).map_err(AuthorityError::Ca)?;
    let make = || {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(issued(&key, &certificate))
    };
    make().map_err(|source| AuthorityError::Issue { subject: subject.into(), source })
}

fn issued(key: &KeyPair, certificate: &rcgen::Certificate) -> Issued {
    Issued { key: key.serialize_pem(), certificate: certificate.pem(), public_key: key.subject_public_key_info() }
}
