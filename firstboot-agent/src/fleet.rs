//! Orders that only the region can give: whoever carries them, netboot included, can neither make nor change one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use contracts::fleet::{Envelope, MOST_BYTES, Order, PAYLOAD_TYPE, Signature, signed_bytes};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject as _};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs::ECDSA_P256_SHA256};

/// id-kp-codeSigning (RFC 5280, section 4.2.1.12), the bytes of 1.3.6.1.5.5.7.3.3. Certificates of servers and stores do not have it.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// One is enough, and a stranger may send more.
const MOST_SIGNATURES: usize = 4;

/// Why an order is not believed.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Not an envelope, or not with an order in it.
    #[error("it is no order")]
    Shape,
    /// An order of a kind that this program does not know.
    #[error("it is an order of a kind that this boot image does not know")]
    Kind(#[source] serde_json::Error),
    /// Not one of its signatures is good.
    #[error("it is not signed by this region")]
    Signature,
}

/// The order in an envelope, believed when the CA's certificates (PEM) vouch for who signed it.
///
/// # Errors
/// See [`FleetError`].
pub fn open(envelope: &serde_json::Value, ca: &[u8], now: OffsetDateTime) -> Result<Order, FleetError> {
    let envelope: Envelope = serde_json::from_value(envelope.clone()).map_err(|_| FleetError::Shape)?;
    if envelope.payload_type != PAYLOAD_TYPE || envelope.payload.len() > MOST_BYTES {
        return Err(FleetError::Shape);
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| FleetError::Shape)?;
    let authorities: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(ca).filter_map(Result::ok).collect();
    let anchors: Vec<TrustAnchor<'_>> =
        authorities.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect();
    let bytes = signed_bytes(&payload);
    // Nothing of the payload is looked at before somebody is known to have signed it.
    let good = envelope.signatures.iter().take(MOST_SIGNATURES).any(|s| is_good(s, &bytes, &anchors, now).is_some());
    if !good {
        return Err(FleetError::Signature);
    }
    serde_json::from_slice(&payload).map_err(FleetError::Kind)
}

fn is_good(signature: &Signature, bytes: &[u8], anchors: &[TrustAnchor<'_>], now: OffsetDateTime) -> Option<()> {
    let sig = STANDARD.decode(&signature.sig).ok()?;
    let der = CertificateDer::from_pem_slice(signature.cert.as_bytes()).ok()?;
    let certificate = EndEntityCert::try_from(&der).ok()?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.unix_timestamp().try_into().ok()?));
    let usage = KeyUsage::required(CODE_SIGNING);
    certificate.verify_for_usage(&[ECDSA_P256_SHA256], anchors, &[], now, usage, None, None).ok()?;
    certificate.verify_signature(ECDSA_P256_SHA256, bytes, &sig).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::fleet::WipePermit;
    use proptest::prelude::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SigningKey as _,
    };
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn order() -> Order {
        Order::Wipe(WipePermit {
            version: contracts::VERSION,
            id: uuid::Uuid::from_u128(1),
            store: "s".into(),
            mac: "02:00:00:00:00:01".into(),
            disk: "D".into(),
            number: "K7QM-2F9X".into(),
            by: "support".into(),
            issued: NOW,
            expires: NOW,
        })
    }

    fn signed(authority: &CertifiedIssuer<'_, KeyPair>, usage: ExtendedKeyUsagePurpose) -> Envelope {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, authority).unwrap();
        let payload = serde_json::to_vec(&order()).unwrap();
        let sig = STANDARD.encode(key.sign(&signed_bytes(&payload)).unwrap());
        Envelope {
            payload_type: PAYLOAD_TYPE.into(),
            payload: STANDARD.encode(payload),
            signatures: vec![Signature { sig, cert: certificate.pem() }],
        }
    }

    fn read(envelope: &Envelope, ca: &str) -> Result<Order, FleetError> {
        open(&serde_json::to_value(envelope).unwrap(), ca.as_bytes(), NOW)
    }

    #[test]
    fn only_the_regions_fleet_key_gives_orders() {
        let ours = authority();
        let good = signed(&ours, ExtendedKeyUsagePurpose::CodeSigning);
        assert_eq!(read(&good, &ours.pem()).unwrap(), order());
        // The store's certificate comes from the same CA.
        let store = signed(&ours, ExtendedKeyUsagePurpose::ClientAuth);
        assert!(matches!(read(&store, &ours.pem()), Err(FleetError::Signature)));
        let stranger = authority();
        assert!(matches!(read(&good, &stranger.pem()), Err(FleetError::Signature)));
        assert!(matches!(read(&good, ""), Err(FleetError::Signature)));
        let changed = STANDARD.encode(serde_json::to_vec(&order()).unwrap().to_ascii_uppercase());
        assert!(matches!(read(&Envelope { payload: changed, ..good }, &ours.pem()), Err(FleetError::Signature)));
    }

    proptest! {
        #[test]
        fn any_document_is_survived(text in ".{0,200}", sig in ".{0,80}", cert in ".{0,80}") {
            let any = serde_json::json!({"payloadType": PAYLOAD_TYPE, "payload": text, "signatures": [{"sig": sig, "cert": cert}]});
            prop_assert!(open(&any, text.as_bytes(), NOW).is_err());
            prop_assert!(open(&serde_json::json!(text), b"", NOW).is_err());
        }
    }
}
