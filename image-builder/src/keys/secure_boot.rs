//! Keys for Secure Boot, in every form in which firmware takes them.
//!
//! | file | what it is |
//! |---|---|
//! | `PK.key`, `KEK.key`, `db.key` | private keys, PKCS#8 as PEM |
//! | `NAME.crt` | certificate as PEM: `sbsign`, `virt-fw-vars` |
//! | `NAME.cer` | certificate as DER: setup menus of firmware |
//! | `NAME.esl` | EFI_SIGNATURE_LIST: setup mode, `efi-updatevar -e` |
//! | `NAME.auth` | signed update of the variable: `efi-updatevar -f`, sd-boot's `loader/keys/`, firmware menus |
//!
//! The platform key signs itself and the key exchange key, and that signs `db`. UEFI Specification 2.10: 8.2.2
//! (EFI_VARIABLE_AUTHENTICATION_2), 32.2.4 (WIN_CERTIFICATE_UEFI_GUID), 32.4.1 (EFI_SIGNATURE_LIST), 32.6.

use super::KeysError;
use crate::{
    der::{NULL, RSA, SEQUENCE, SET, SHA256, VERSION_1, der},
    files,
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use std::path::Path;
use time::OffsetDateTime;
use uuid::{Uuid, uuid};
use x509_parser::parse_x509_certificate;

/// Why there are no keys for Secure Boot.
#[derive(Debug, thiserror::Error)]
pub enum SecureBootError {
    /// The certificate.
    #[error("cannot make the Secure Boot certificate {0}")]
    Certificate(&'static str, #[source] rcgen::Error),
    /// The signature.
    #[error("cannot sign the Secure Boot variable {0}")]
    Sign(&'static str),
}

/// EFI_GLOBAL_VARIABLE: whose `PK` and `KEK` are.
const GLOBAL: Uuid = uuid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
/// EFI_IMAGE_SECURITY_DATABASE_GUID: whose `db` is.
const DATABASE: Uuid = uuid!("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
/// EFI_CERT_X509_GUID.
const X509: Uuid = uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
/// EFI_CERT_TYPE_PKCS7_GUID.
const PKCS7: Uuid = uuid!("4aafd29d-68df-49ee-8aa9-347d375665a7");
/// Non-volatile, seen by boot services and at run time, written with a time-based signature.
const ATTRIBUTES: u32 = 0x27;
/// WIN_CERT_TYPE_EFI_GUID, in a WIN_CERTIFICATE of this revision.
const CERTIFICATE_TYPE: u16 = 0x0ef1;
const CERTIFICATE_REVISION: u16 = 0x0200;

/// A variable of Secure Boot, and whose key signs it.
struct Variable {
    name: &'static str,
    vendor: Uuid,
    subject: &'static str,
    signer: usize,
}

const VARIABLES: [Variable; 3] = [
    Variable { name: "PK", vendor: GLOBAL, subject: "Shelfboot platform key", signer: 0 },
    Variable { name: "KEK", vendor: GLOBAL, subject: "Shelfboot key exchange key", signer: 0 },
    Variable { name: "db", vendor: DATABASE, subject: "Shelfboot Secure Boot key", signer: 1 },
];

/// A key with its certificate.
struct Pair {
    key: KeyPair,
    pem: String,
    der: Vec<u8>,
}

/// Makes all files in a folder that is there.
///
/// # Errors
/// See [`KeysError`].
pub(super) fn write_all(folder: &Path, now: OffsetDateTime) -> Result<(), KeysError> {
    // Whose keys these are: firmware keeps it and asks nothing of it.
    let owner = Uuid::new_v4();
    let pairs: Vec<Pair> = VARIABLES.iter().map(|variable| pair(variable, now)).collect::<Result<_, _>>()?;
    for (variable, pair) in VARIABLES.iter().zip(&pairs) {
        let place = |ending: &str| folder.join(format!("{}.{ending}", variable.name));
        let list = signature_list(owner, &pair.der);
        let signer = &pairs[variable.signer];
        let update = signed_update(variable, signer, &list, now).ok_or(SecureBootError::Sign(variable.name))?;
        files::write_secret(&place("key"), pair.key.serialize_pem().as_bytes())?;
        files::publish_bytes(pair.pem.as_bytes(), &place("crt"))?;
        files::publish_bytes(&pair.der, &place("cer"))?;
        files::publish_bytes(&list, &place("esl"))?;
        files::publish_bytes(&update, &place("auth"))?;
    }
    Ok(())
}

/// RSA 2048: the one kind of key that every UEFI firmware verifies.
fn pair(variable: &Variable, now: OffsetDateTime) -> Result<Pair, SecureBootError> {
    let failed = |error| SecureBootError::Certificate(variable.name, error);
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).map_err(failed)?;
    let mut parameters = CertificateParams::new(Vec::new()).map_err(failed)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, variable.subject);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    // Firmware does not look at the dates, people do.
    parameters.not_before = now - time::Duration::days(1);
    parameters.not_after = now + time::Duration::days(10 * 365);
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    Ok(Pair { pem: certificate.pem(), der: certificate.der().to_vec(), key })
}

/// An EFI_SIGNATURE_LIST with one certificate.
fn signature_list(owner: Uuid, certificate: &[u8]) -> Vec<u8> {
    let signature = 16 + certificate.len() as u32;
    let mut list = X509.to_bytes_le().to_vec();
    // The list's size, no header, and the size of each signature: owner and certificate.
    for number in [28 + signature, 0, signature] {
        list.extend(number.to_le_bytes());
    }
    list.extend(owner.to_bytes_le());
    list.extend(certificate);
    list
}

/// EFI_VARIABLE_AUTHENTICATION_2 and the list that it is about.
fn signed_update(variable: &Variable, signer: &Pair, list: &[u8], now: OffsetDateTime) -> Option<Vec<u8>> {
    let time = efi_time(now);
    // What is signed: name without its end, vendor, attributes, time, content (8.2.2, step by step).
    let mut content: Vec<u8> = variable.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    content.extend(variable.vendor.to_bytes_le());
    content.extend(ATTRIBUTES.to_le_bytes());
    content.extend(time);
    content.extend(list);
    let signature = pkcs7(signer, &content)?;
    let mut update = time.to_vec();
    update.extend((24 + signature.len() as u32).to_le_bytes());
    update.extend(CERTIFICATE_REVISION.to_le_bytes());
    update.extend(CERTIFICATE_TYPE.to_le_bytes());
    update.extend(PKCS7.to_bytes_le());
    update.extend(signature);
    update.extend(list);
    Some(update)
}

/// EFI_TIME in UTC; nanoseconds, zone and daylight saving have to be zero here.
fn efi_time(now: OffsetDateTime) -> [u8; 16] {
    let mut time = [0; 16];
    time[..2].copy_from_slice(&u16::try_from(now.year()).unwrap_or(2000).to_le_bytes());
    time[2..7].copy_from_slice(&[u8::from(now.month()), now.day(), now.hour(), now.minute(), now.second()]);
    time
}

/// SignedData of RFC 2315 without content, without attributes, and, as 8.2.2 wants it, not wrapped in a ContentInfo.
fn pkcs7(signer: &Pair, content: &[u8]) -> Option<Vec<u8>> {
    // 1.2.840.113549.1.7.1.
    const DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
    let key = RsaKeyPair::from_pkcs8(&signer.key.serialize_der()).ok()?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), content, &mut signature).ok()?;
    let (_, certificate) = parse_x509_certificate(&signer.der).ok()?;
    let sha256 = der(SEQUENCE, &[SHA256, NULL]);
    let issuer = der(SEQUENCE, &[certificate.issuer().as_raw(), &der(0x02, &[certificate.raw_serial()])]);
    let rsa = der(SEQUENCE, &[RSA, NULL]);
    let info = der(SEQUENCE, &[VERSION_1, &issuer, &sha256, &rsa, &der(0x04, &[&signature])]);
    let (algorithms, infos) = (der(SET, &[&sha256]), der(SET, &[&info]));
    let certificates = der(0xa0, &[&signer.der]);
    Some(der(SEQUENCE, &[VERSION_1, &algorithms, &der(SEQUENCE, &[DATA]), &certificates, &infos]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use std::fs;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:20:30 UTC);

    #[test]
    fn a_list_holds_one_certificate() {
        let list = signature_list(X509, b"certificate");
        assert_eq!(list.len(), 28 + 16 + 11);
        assert_eq!(list[..4], [0xa1, 0x59, 0xc0, 0xa5], "the first part of a GUID is little-endian");
        assert_eq!((list[16], list[20], list[24]), (55, 0, 27));
        assert!(list.ends_with(b"certificate"));
    }

    /// Takes an update apart as firmware does, and checks the chain: PK and KEK by PK, db by KEK.
    #[test]
    fn updates_are_signed_as_firmware_wants_them() {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), NOW).unwrap();
        let read = |name: &str, ending: &str| fs::read(folder.path().join(format!("{name}.{ending}"))).unwrap();
        for (name, signer, vendor) in [("PK", "PK", GLOBAL), ("KEK", "PK", GLOBAL), ("db", "KEK", DATABASE)] {
            let (update, list) = (read(name, "auth"), read(name, "esl"));
            assert_eq!(update[..7], [0xea, 0x07, 11, 21, 10, 20, 30]);
            let length = u32::from_le_bytes(update[16..20].try_into().unwrap()) as usize;
            assert_eq!((&update[20..24], update.len()), (&[0, 2, 0xf1, 0x0e][..], 16 + length + list.len()));
            assert!(update.ends_with(&list) && list.ends_with(&read(name, "cer")));
            let mut content: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            content.extend(vendor.to_bytes_le());
            content.extend([0x27, 0, 0, 0]);
            content.extend(&update[..16]);
            content.extend(&list);
            let certificate = read(signer, "cer");
            let (_, parsed) = parse_x509_certificate(&certificate).unwrap();
            let signed = &update[40..16 + length];
            assert!(signed.windows(certificate.len()).any(|part| part == certificate), "{name} by {signer}");
            let public =
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &parsed.public_key().subject_public_key.data);
            public.verify(&content, &signed[signed.len() - 256..]).unwrap();
        }
    }
}
