//! The machine's key: P-256, made on the machine, never leaves it. Its certificate is self-signed; the registrar
//! knows the machine by the key's fingerprint.

use crate::durable;
use anyhow::{Context, Result};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use std::{fs, path::Path};

/// Key and self-signed certificate.
#[derive(Debug)]
pub struct Identity {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

impl Identity {
    /// SHA-256 of the SubjectPublicKeyInfo, 64 hex digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.key.subject_public_key_info()))
    }

    /// For the TLS client.
    #[must_use]
    pub fn tls(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.clone()], PrivatePkcs8KeyDer::from(self.key.serialize_der()).into())
    }
}

/// The key in `folder`, made there the first time with mode 0600.
///
/// # Errors
/// When the key cannot be read, made or kept. A broken key is never replaced: the registrar has pinned it.
pub fn load_or_make(folder: &Path) -> Result<Identity> {
    let path = folder.join("machine.key");
    let key = match fs::read_to_string(&path) {
        Ok(pem) => KeyPair::from_pem(&pem).with_context(|| format!("reading {}", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the machine's key")?;
            durable::write(&path, key.serialize_pem().as_bytes(), 0o600)?;
            key
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "shelfboot machine");
    let certificate = params.self_signed(&key).context("signing the machine's certificate")?.der().clone();
    Ok(Identity { key, certificate })
}

/// The fingerprint of the key in `folder`, as [`Identity::fingerprint`] has it.
///
/// # Errors
/// When there is no key, or it cannot be read.
pub fn fingerprint_in(folder: &Path) -> Result<String> {
    let path = folder.join("machine.key");
    let pem = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let key = KeyPair::from_pem(&pem).with_context(|| format!("reading {}", path.display()))?;
    Ok(hex::encode(Sha256::digest(key.subject_public_key_info())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_stays_and_only_root_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_make(folder.path()).unwrap().fingerprint();
        assert_eq!(load_or_make(folder.path()).unwrap().fingerprint(), first);
        assert_eq!(fingerprint_in(folder.path()).unwrap(), first);
        let mode = fs::metadata(folder.path().join("machine.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.path().join("machine.key"), "broken").unwrap();
        assert!(load_or_make(folder.path()).is_err());
    }
}
