//! The key that signs boot images: `db.key` of the key set, `SHELFBOOT_DB_KEY`, or a PKCS#11 module.

use super::{
    Keys, KeysError,
    sources::{self, KeyError, Place},
    token::Uri,
};
use crate::{
    authenticode::{self, AuthenticodeError},
    files::{self, FileError},
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::path::Path;
use x509_parser::{parse_x509_certificate, pem::parse_x509_pem};

/// Why a boot image was not signed.
#[derive(Debug, thiserror::Error)]
pub enum BootKeyError {
    /// The key set.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The image.
    #[error("{} cannot be signed", .0.display())]
    Image(std::path::PathBuf, #[source] AuthenticodeError),
    /// The certificate.
    #[error("{} holds no certificate", .0.display())]
    Certificate(std::path::PathBuf),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A key with its certificate.
#[derive(Debug)]
pub struct BootKey {
    place: Place,
    certificate: Vec<u8>,
}

impl Keys {
    /// Where the key that signs boot images is.
    #[must_use]
    pub fn boot_place(&self) -> Option<Place> {
        let variable = |name: &str| std::env::var(name).ok();
        let file = self.secure_boot().join("db.key");
        let found = Place::find(&self.secure_boot(), "db", variable);
        if matches!(found, Some(Place::Variable(_))) {
            found
        } else {
            file.is_file().then_some(Place::File(file)).or(found)
        }
    }

    /// The key that signs boot images, with `db.crt`.
    ///
    /// # Errors
    /// See [`BootKeyError`].
    pub fn boot_key(&self) -> Result<BootKey, BootKeyError> {
        let missing = self.secure_boot().join("db.key");
        let place = self.boot_place().ok_or_else(|| KeysError::NoKeys { folder: self.secure_boot(), missing })?;
        let path = self.secure_boot().join("db.crt");
        let wrong = || BootKeyError::Certificate(path.clone());
        let text = files::read(&path)?;
        let (_, pem) = parse_x509_pem(&text).map_err(|_| wrong())?;
        Ok(BootKey { place, certificate: pem.contents })
    }
}

impl BootKey {
    /// Signs a PE image into a new file.
    ///
    /// # Errors
    /// See [`BootKeyError`].
    pub fn sign(&self, from: &Path, to: &Path) -> Result<(), BootKeyError> {
        let image = files::read(from)?;
        let signed = authenticode::sign(&image, &self.certificate, |bytes| self.signature(bytes));
        let signed = signed.map_err(|error| BootKeyError::Image(from.to_owned(), error))?;
        Ok(files::write(to, &signed, 0o644)?)
    }

    /// RSA PKCS#1 v1.5 with SHA-256, checked with the certificate: firmware would be the first to notice otherwise.
    fn signature(&self, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        let text = sources::content(&self.place)?;
        let signature = match std::str::from_utf8(&text).ok().filter(|text| Uri::is_meant(text)) {
            Some(text) => {
                let uri = Uri::parse(text).map_err(|message| KeyError::Uri(self.place.to_string(), message))?;
                uri.sign_rsa(bytes)?
            }
            None => rsa(&text, bytes).ok_or_else(|| KeyError::Format(self.place.to_string()))?,
        };
        let fits = parse_x509_certificate(&self.certificate).is_ok_and(|(_, certificate)| {
            let key = &certificate.public_key().subject_public_key.data;
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(bytes, &signature).is_ok()
        });
        if fits { Ok(signature) } else { Err(KeyError::Token("it is not the key of db.crt".into())) }
    }
}

fn rsa(pem: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let body: String =
        std::str::from_utf8(pem).ok()?.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(body).ok()?).ok()?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).ok()?;
    Some(signature)
}
