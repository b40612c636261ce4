//! The firmware's keys: signature lists in the variables `PK`, `KEK` and `db` (UEFI specification 2.10, section 32.4.1).

use contracts::facts::FirmwareCertificate;
use sha2::{Digest as _, Sha256};
use uuid::{Uuid, uuid};

/// `EFI_CERT_X509_GUID`.
const X509: Uuid = uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
/// GUID, and the lengths of the list, of its header and of each signature.
const HEADER: usize = 28;
/// The most certificates of one variable that are named.
const MOST: usize = 32;

/// The certificates in a variable's value, in its order. A list that makes no sense ends the reading.
#[must_use]
pub fn certificates(list: &str, value: &[u8]) -> Vec<FirmwareCertificate> {
    let mut found = Vec::new();
    let mut rest = value;
    while let Some((kind, signatures, after)) = next_list(rest) {
        if kind == X509 {
            found.extend(signatures.take(MOST - found.len()).map(|der| FirmwareCertificate {
                list: list.into(),
                subject: subject(der),
                sha256: hex::encode(Sha256::digest(der)),
            }));
        }
        rest = after;
    }
    found
}

type List<'a> = (Uuid, Box<dyn Iterator<Item = &'a [u8]> + 'a>, &'a [u8]);

/// The first list: its type, its signatures without their owners, and what comes after it.
fn next_list(bytes: &[u8]) -> Option<List<'_>> {
    let number = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let kind = Uuid::from_slice_le(bytes.get(..16)?).ok()?;
    let (length, header, each) = (number(16)?, number(20)?, number(24)?);
    // Each signature begins with the GUID of its owner.
    if length < HEADER || each <= 16 {
        return None;
    }
    let (whole, after) = bytes.split_at_checked(length)?;
    let signatures = whole.get(HEADER.checked_add(header)?..)?;
    Some((kind, Box::new(signatures.chunks_exact(each).map(|signature| &signature[16..])), after))
}

/// The subject's common name, else all of the subject.
fn subject(der: &[u8]) -> String {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
        return "a certificate that cannot be read".into();
    };
    let subject = certificate.subject();
    let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    super::tidy(&name.map_or_else(|| subject.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(kind: Uuid, signatures: &[&[u8]]) -> Vec<u8> {
        let each = 16 + signatures[0].len();
        let mut bytes = kind.to_bytes_le().to_vec();
        for number in [HEADER + each * signatures.len(), 0, each] {
            bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        for signature in signatures {
            bytes.extend([7; 16]);
            bytes.extend(*signature);
        }
        bytes
    }

    fn certificate(name: &str) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn certificates_are_named_and_hashes_passed_over() {
        let der = certificate("Till Corporation UEFI CA 2026");
        // EFI_CERT_SHA256_GUID: hashes of single programs.
        let hashes = list(uuid!("c1c41626-504c-4092-aca9-41f936934328"), &[&[1; 32], &[2; 32]]);
        let value = [hashes, list(X509, &[&der]), list(X509, &[b"no certificate"])].concat();
        let found = certificates("db", &value);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].subject, "Till Corporation UEFI CA 2026");
        assert_eq!(found[0].sha256, hex::encode(Sha256::digest(&der)));
        assert_eq!(found[1].subject, "a certificate that cannot be read");
        assert_eq!(certificates("db", &value[..value.len() - 1]).len(), 1, "a list that is cut off is passed over");
        assert_eq!(certificates("db", &list(X509, &[&[0; 20][..]; 500])).len(), MOST);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400), length in 0_u32..500, header in any::<u32>(), each in 0_u32..60) {
            let _ = certificates("db", &bytes);
            let mut shaped = X509.to_bytes_le().to_vec();
            for number in [length, header % 40, each] {
                shaped.extend(number.to_le_bytes());
            }
            shaped.extend(&bytes);
            prop_assert!(certificates("db", &shaped).len() <= MOST);
        }
    }
}
