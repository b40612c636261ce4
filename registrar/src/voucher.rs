//! Whether a store really said what a voucher says. Pure.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use contracts::voucher::{Voucher, VoucherStatement};
use std::collections::BTreeMap;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

/// How old a voucher may be: a store whose WAN is down vouches now and is heard later.
pub const MAX_AGE: Duration = Duration::hours(24);
/// How far a store's clock may be ahead.
pub const MAX_AHEAD: Duration = Duration::minutes(10);
/// More than these would only cost time.
pub const MAX_VOUCHERS: usize = 8;
/// A statement is a few hundred bytes.
const MAX_STATEMENT: usize = 4096;

/// Store name -> its public key, SubjectPublicKeyInfo in DER.
pub type StoreKeys = BTreeMap<String, Vec<u8>>;

/// Why a voucher does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// Not a statement.
    #[error("the voucher cannot be read")]
    Unreadable,
    /// No such store.
    #[error("store {0} is not known here")]
    UnknownStore(String),
    /// Not what this store signed.
    #[error("the voucher is not signed by store {0}")]
    Signature(String),
    /// About another key.
    #[error("the voucher of store {0} is for another machine's key")]
    Fingerprint(String),
    /// Too old.
    #[error("the voucher of store {0} is older than 24 hours")]
    Stale(String),
    /// From the future.
    #[error("the voucher of store {0} is from the future; check that store's clock")]
    Future(String),
    /// Not a MAC address.
    #[error("the voucher of store {0} names no MAC address")]
    Mac(String),
}

impl VoucherError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable => "voucher-unreadable",
            Self::UnknownStore(_) => "voucher-unknown-store",
            Self::Signature(_) => "voucher-signature",
            Self::Fingerprint(_) => "voucher-fingerprint",
            Self::Stale(_) => "voucher-stale",
            Self::Future(_) => "voucher-future",
            Self::Mac(_) => "voucher-mac",
        }
    }
}

/// The stores that these vouchers claim to come from. Nothing is checked yet.
#[must_use]
pub fn claimed_stores(vouchers: &[Voucher]) -> Vec<String> {
    vouchers.iter().take(MAX_VOUCHERS).filter_map(|voucher| statement(voucher).ok()).map(|s| s.store).collect()
}

/// Checks one voucher for the key with this fingerprint.
///
/// # Errors
/// [`VoucherError`]; the signature is checked before anything that the statement says is believed.
pub fn check(
    voucher: &Voucher,
    fingerprint: &str,
    keys: &StoreKeys,
    now: OffsetDateTime,
) -> Result<VoucherStatement, VoucherError> {
    let statement = statement(voucher)?;
    let store = || statement.store.clone();
    let key = keys.get(&statement.store).ok_or_else(|| VoucherError::UnknownStore(store()))?;
    if !signed_by(key, voucher) {
        return Err(VoucherError::Signature(store()));
    }
    // The fingerprint is public, but a comparison that takes the same time for every value costs nothing.
    let same =
        aws_lc_rs::constant_time::verify_slices_are_equal(statement.fingerprint.as_bytes(), fingerprint.as_bytes());
    if same.is_err() {
        return Err(VoucherError::Fingerprint(store()));
    }
    if statement.time < now - MAX_AGE {
        return Err(VoucherError::Stale(store()));
    }
    if statement.time > now + MAX_AHEAD {
        return Err(VoucherError::Future(store()));
    }
    let mac = crate::inventory::normal_mac(&statement.mac).ok_or_else(|| VoucherError::Mac(store()))?;
    Ok(VoucherStatement { mac, ..statement })
}

fn statement(voucher: &Voucher) -> Result<VoucherStatement, VoucherError> {
    if voucher.statement.len() > MAX_STATEMENT {
        return Err(VoucherError::Unreadable);
    }
    contracts::read(voucher.statement.as_bytes()).map_err(|_| VoucherError::Unreadable)
}

fn signed_by(spki_der: &[u8], voucher: &Voucher) -> bool {
    let Ok((_, spki)) = SubjectPublicKeyInfo::from_der(spki_der) else { return false };
    let Ok(signature) = base64::engine::general_purpose::STANDARD.decode(&voucher.signature) else { return false };
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki.subject_public_key.data);
    key.verify(&Voucher::signed_bytes(&voucher.statement), &signature).is_ok()
}
