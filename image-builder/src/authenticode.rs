//! Signing a PE image for Secure Boot, with a key in a file or in a PKCS#11 module.
//!
//! "Windows Authenticode Portable Executable Signature Format" (Microsoft, 2008) says what is hashed and signed; the PE
//! format's specification, "The Attribute Certificate Table", where the signature lies. The same image, key and certificate
//! give the same bytes: no time is part of the signature.

use crate::der::{NULL, RSA, SEQUENCE, SET, SHA256 as SHA256_ID, VERSION_1, der};
use sha2::{Digest, Sha256};
use x509_parser::parse_x509_certificate;

/// SPC_INDIRECT_DATA_OBJID, 1.3.6.1.4.1.311.2.1.4.
const INDIRECT_DATA: &[u8] = &[0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
/// SPC_PE_IMAGE_DATAOBJ, 1.3.6.1.4.1.311.2.1.15.
const IMAGE_DATA: &[u8] = &[0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0f];
/// PKCS#9 contentType and messageDigest, PKCS#7 signedData.
const CONTENT_TYPE: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// WIN_CERT_TYPE_PKCS_SIGNED_DATA in a WIN_CERTIFICATE of revision 2.0.
const CERTIFICATE_TYPE: u16 = 0x0002;
const CERTIFICATE_REVISION: u16 = 0x0200;

/// Why an image was not signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticodeError {
    /// Not an image that firmware would start.
    #[error("it is not a PE image that can be signed: {0}")]
    Image(&'static str),
    /// The certificate.
    #[error("the Secure Boot certificate cannot be read")]
    Certificate,
    /// The key.
    #[error("the Secure Boot key does not sign")]
    Key(#[source] crate::keys::sources::KeyError),
}

/// Where the parts of a PE32+ image are that a signature is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    /// The checksum, four bytes that are not hashed.
    checksum: usize,
    /// The entry of the certificate table, eight bytes that are not hashed.
    entry: usize,
}

/// Signs an image. `sign` makes the RSA PKCS#1 v1.5 signature with SHA-256 over the bytes that it is given.
///
/// # Errors
/// See [`AuthenticodeError`].
pub fn sign(
    image: &[u8],
    certificate: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, crate::keys::sources::KeyError>,
) -> Result<Vec<u8>, AuthenticodeError> {
    let layout = layout_of(image)?;
    let mut signed = image.to_vec();
    // The table is aligned, and what lies in front of it is hashed.
    signed.resize(image.len().next_multiple_of(8), 0);
    let digest = digest_of(&signed, layout);
    let mut table = signed_data(&digest, certificate, sign)?;
    let length = table.len() + 8;
    table.resize(length.next_multiple_of(8) - 8, 0);
    let (place, length) = (signed.len() as u32, table.len() as u32 + 8);
    signed.extend(length.to_le_bytes());
    signed.extend(CERTIFICATE_REVISION.to_le_bytes());
    signed.extend(CERTIFICATE_TYPE.to_le_bytes());
    signed.extend(table);
    signed[layout.entry..layout.entry + 4].copy_from_slice(&place.to_le_bytes());
    signed[layout.entry + 4..layout.entry + 8].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum_of(&signed, layout.checksum);
    signed[layout.checksum..layout.checksum + 4].copy_from_slice(&checksum.to_le_bytes());
    Ok(signed)
}

fn u16_at(image: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(image.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(image: &[u8], at: usize) -> Option<usize> {
    let bytes = image.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

/// Headers, then sections one behind the other to the end: then hashing the file is hashing its parts in order.
fn layout_of(image: &[u8]) -> Result<Layout, AuthenticodeError> {
    let wrong = AuthenticodeError::Image;
    if image.len() > u32::MAX as usize / 2 {
        return Err(wrong("it is too large"));
    }
    let header = u32_at(image, 0x3c).filter(|_| image.starts_with(b"MZ")).ok_or(wrong("it has no header"))?;
    if image.get(header..).is_none_or(|rest| !rest.starts_with(b"PE\0\0")) {
        return Err(wrong("it has no header"));
    }
    let optional = header + 24;
    if u16_at(image, optional) != Some(0x20b) {
        return Err(wrong("it is not of 64 bits"));
    }
    let entry = optional + 112 + 4 * 8;
    let size = usize::from(u16_at(image, header + 20).unwrap_or_default());
    if u32_at(image, optional + 108).is_none_or(|count| count < 5) || size < 112 + 5 * 8 {
        return Err(wrong("it has no place for a signature"));
    }
    if u32_at(image, entry) != Some(0) || u32_at(image, entry + 4) != Some(0) {
        return Err(wrong("it is signed already"));
    }
    let count = usize::from(u16_at(image, header + 6).unwrap_or_default());
    let mut sections = Vec::new();
    for number in 0..count {
        let at = optional + size + number * 40;
        let (bytes, place) = (u32_at(image, at + 16), u32_at(image, at + 20));
        let section = bytes.zip(place).ok_or(wrong("its table of sections is cut off"))?;
        sections.extend((section.0 > 0).then_some((section.1, section.0)));
    }
    sections.sort_unstable();
    let mut end = u32_at(image, optional + 60).ok_or(wrong("it has no header"))?;
    if end < optional + size + count * 40 {
        return Err(wrong("its headers are longer than they say"));
    }
    for (place, bytes) in sections {
        if place != end {
            return Err(wrong("there are gaps between its sections"));
        }
        end = place + bytes;
    }
    if end > image.len() {
        return Err(wrong("it is cut off"));
    }
    Ok(Layout { checksum: optional + 64, entry })
}

/// SHA-256 of everything but the checksum and the entry of the certificate table.
fn digest_of(image: &[u8], layout: Layout) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(&image[..layout.checksum]);
    hasher.update(&image[layout.checksum + 4..layout.entry]);
    hasher.update(&image[layout.entry + 8..]);
    hasher.finalize().into()
}

/// The sum that the PE format has in its header; firmware does not look at it, other tools do.
fn checksum_of(image: &[u8], own: usize) -> u32 {
    let mut sum = 0u64;
    for (index, pair) in image.chunks(2).enumerate() {
        if !(own..own + 4).contains(&(index * 2)) {
            sum += u64::from(pair[0]) | u64::from(pair.get(1).copied().unwrap_or(0)) << 8;
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum + image.len() as u64) as u32
}

/// PKCS#7 SignedData about an SpcIndirectDataContent with the image's digest.
fn signed_data(
    digest: &[u8],
    certificate: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, crate::keys::sources::KeyError>,
) -> Result<Vec<u8>, AuthenticodeError> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| AuthenticodeError::Certificate)?;
    let sha256 = der(SEQUENCE, &[SHA256_ID, NULL]);
    let obsolete: Vec<u8> = "<<<Obsolete>>>".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let file = der(0xa0, &[&der(0xa2, &[&der(0x80, &[&obsolete])])]);
    let data = der(SEQUENCE, &[IMAGE_DATA, &der(SEQUENCE, &[&[0x03, 0x01, 0x00], &file])]);
    let message = der(SEQUENCE, &[&sha256, &der(0x04, &[digest])]);
    let content = [data, message].concat();
    // Of the content's own bytes, without tag and length (PKCS#7, 9.3).
    let content_digest = der(0x04, &[&Sha256::digest(&content)]);
    // In the order that DER demands of a set: the shorter one is the smaller one here.
    let attributes = [
        der(SEQUENCE, &[CONTENT_TYPE, &der(SET, &[INDIRECT_DATA])]),
        der(SEQUENCE, &[MESSAGE_DIGEST, &der(SET, &[&content_digest])]),
    ]
    .concat();
    let signature = sign(&der(SET, &[&attributes])).map_err(AuthenticodeError::Key)?;
    let issuer = der(SEQUENCE, &[parsed.issuer().as_raw(), &der(0x02, &[parsed.raw_serial()])]);
    let (rsa, attributes) = (der(SEQUENCE, &[RSA, NULL]), der(0xa0, &[&attributes]));
    let info = der(SEQUENCE, &[VERSION_1, &issuer, &sha256, &attributes, &rsa, &der(0x04, &[&signature])]);
    let content = der(SEQUENCE, &[INDIRECT_DATA, &der(0xa0, &[&der(SEQUENCE, &[&content])])]);
    let (algorithms, certificates, infos) = (der(SET, &[&sha256]), der(0xa0, &[certificate]), der(SET, &[&info]));
    let signed = der(SEQUENCE, &[VERSION_1, &algorithms, &content, &certificates, &infos]);
    Ok(der(SEQUENCE, &[SIGNED_DATA, &der(0xa0, &[&signed])]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The smallest image that has all that is looked at: headers of 512 bytes, and two sections.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 512 + 1024 + 512];
        image[..2].copy_from_slice(b"MZ");
        image[0x3c] = 0x40;
        image[0x40..0x44].copy_from_slice(b"PE\0\0");
        image[0x46] = 2;
        image[0x54] = 240;
        let optional = 0x58;
        image[optional..optional + 2].copy_from_slice(&[0x0b, 0x02]);
        image[optional + 60..optional + 64].copy_from_slice(&512u32.to_le_bytes());
        image[optional + 108] = 16;
        for (number, (bytes, place)) in [(1024u32, 512u32), (512, 1536)].into_iter().enumerate() {
            let at = optional + 240 + number * 40;
            image[at + 16..at + 20].copy_from_slice(&bytes.to_le_bytes());
            image[at + 20..at + 24].copy_from_slice(&place.to_le_bytes());
        }
        image
    }

    #[test]
    fn the_signature_lies_behind_the_image_and_nothing_else_changes() {
        let certificate = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let mut to_sign = Vec::new();
        let signed = sign(&image(), certificate.cert.der(), |bytes| {
            to_sign = bytes.to_vec();
            Ok(vec![7; 256])
        })
        .unwrap();
        let layout = layout_of(&image()).unwrap();
        assert_eq!(digest_of(&signed[..2048], layout), digest_of(&image(), layout));
        assert_eq!((u32_at(&signed, layout.entry), signed.len() % 8), (Some(2048), 0));
        assert_eq!(u32_at(&signed, layout.entry + 4), Some(signed.len() - 2048));
        assert_eq!(&signed[2052..2056], &[0, 2, 2, 0]);
        assert_eq!(to_sign[0], SET);
        assert!(signed.windows(32).any(|part| part == digest_of(&image(), layout)));
        assert!(matches!(layout_of(&signed), Err(AuthenticodeError::Image("it is signed already"))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(at in 0usize..512, value: u8, length in 0usize..2100) {
            let mut bytes = image();
            bytes[at] = value;
            bytes.truncate(length);
            if let Ok(layout) = layout_of(&bytes) {
                let _ = digest_of(&bytes, layout);
            }
        }

        #[test]
        fn any_noise_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = layout_of(&bytes);
        }
    }
}
