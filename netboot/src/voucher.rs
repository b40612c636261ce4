//! Vouchers: the store's signature over which machine key it saw behind which MAC address.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use contracts::voucher::{Voucher, VoucherStatement};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

/// Why no voucher can be signed.
#[derive(Debug, thiserror::Error)]
pub enum VoucherError {
    /// The credential's key is no PEM.
    #[error("the credential's key is not a PKCS #8 key in PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The credential's key is of another kind.
    #[error("the credential's key is not a P-256 key: {0}")]
    Key(String),
    /// Signing failed.
    #[error("cannot sign the voucher")]
    Sign,
    /// The asker's fingerprint is not one.
    #[error("the fingerprint must be 64 hex digits")]
    Fingerprint,
    /// The statement cannot be written.
    #[error("cannot write the statement")]
    Statement(#[source] serde_json::Error),
}

/// The store's key.
#[derive(Debug)]
pub struct Signer(EcdsaKeyPair);

impl Signer {
    /// Takes the key of the store's credential.
    ///
    /// # Errors
    /// [`VoucherError::Pem`] or [`VoucherError::Key`].
    pub fn new(key_pem: &str) -> Result<Self, VoucherError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes()).map_err(VoucherError::Pem)?;
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der())
            .map(Self)
            .map_err(|e| VoucherError::Key(e.to_string()))
    }

    /// Signs a statement.
    ///
    /// # Errors
    /// [`VoucherError::Fingerprint`] when the statement's fingerprint is malformed.
    pub fn vouch(&self, statement: &VoucherStatement) -> Result<Voucher, VoucherError> {
        let fingerprint = &statement.fingerprint;
        if fingerprint.len() != 64 || !fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(VoucherError::Fingerprint);
        }
        let statement = serde_json::to_string(statement).map_err(VoucherError::Statement)?;
        let message = Voucher::signed_bytes(&statement);
        let signature = self.0.sign(&SystemRandom::new(), &message).map_err(|_| VoucherError::Sign)?;
        Ok(Voucher { statement, signature: STANDARD.encode(signature) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    use time::OffsetDateTime;

    #[test]
    fn a_voucher_verifies_with_the_stores_public_key() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let signer = Signer::new(&pair.serialize_pem()).unwrap();
        let statement = VoucherStatement {
            version: 1,
            store: "store-17".into(),
            fingerprint: "ab".repeat(32),
            mac: "52:54:00:aa:bb:01".into(),
            entry: None,
            relay: None,
            time: OffsetDateTime::UNIX_EPOCH,
        };
        let voucher = signer.vouch(&statement).unwrap();
        let signature = STANDARD.decode(&voucher.signature).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key_raw());
        public.verify(&Voucher::signed_bytes(&voucher.statement), &signature).unwrap();
        assert!(public.verify(voucher.statement.as_bytes(), &signature).is_err(), "the separator is signed too");
        let bad = VoucherStatement { fingerprint: "zz".repeat(32), ..statement };
        assert!(matches!(signer.vouch(&bad), Err(VoucherError::Fingerprint)));
    }

    #[test]
    fn another_kind_of_key_is_refused() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(matches!(Signer::new(&pair.serialize_pem()), Err(VoucherError::Key(_))));
        assert!(matches!(Signer::new("no key"), Err(VoucherError::Pem(_))));
    }
}
