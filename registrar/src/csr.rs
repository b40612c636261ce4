//! Whether a certificate signing request asks for what its sender may have, and for nothing else. Pure.

use crate::identity::is_p256;
use base64::Engine;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// A CSR of a P-256 key is below 1 KiB.
const MAX_PEM: usize = 8192;

/// Why a CSR is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not PKCS #10 in PEM, or not signed by its own key, or not P-256.
    #[error("the certificate signing request cannot be used: {0}")]
    Invalid(&'static str),
    /// For somebody else.
    #[error("the certificate signing request is not for O=system:nodes, CN=system:node:{0} alone")]
    Subject(String),
}

impl CsrError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "csr-invalid",
            Self::Subject(_) => "csr-subject",
        }
    }
}

/// Checks a kubelet's client CSR for the node `name`, and returns it as clean PEM: exactly the bytes that were
/// checked, without whatever stood around them.
///
/// The subject is what the API server takes for user and groups, so it must be exact; alternative names have no
/// place in a client certificate.
///
/// # Errors
/// [`CsrError`].
pub fn check_kubelet_client(pem: &str, name: &str) -> Result<String, CsrError> {
    if pem.len() > MAX_PEM {
        return Err(CsrError::Invalid("it is too long"));
    }
    let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| CsrError::Invalid("it is not PEM"))?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(CsrError::Invalid("the PEM block is not a CERTIFICATE REQUEST"));
    }
    let (rest, csr) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|_| CsrError::Invalid("it is not a PKCS #10 request"))?;
    if !rest.is_empty() {
        return Err(CsrError::Invalid("bytes follow the request"));
    }
    let info = &csr.certification_request_info;
    if !is_p256(&info.subject_pki) {
        return Err(CsrError::Invalid("its key is not P-256"));
    }
    csr.verify_signature().map_err(|_| CsrError::Invalid("it is not signed by its own key"))?;
    let expected =
        [("system:nodes", &OID_X509_ORGANIZATION_NAME), (&format!("system:node:{name}"), &OID_X509_COMMON_NAME)];
    if !is_exactly(&info.subject, &expected) {
        return Err(CsrError::Subject(name.into()));
    }
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else { continue };
        for extension in &requested.extensions {
            match extension.parsed_extension() {
                ParsedExtension::KeyUsage(_) | ParsedExtension::ExtendedKeyUsage(_) => {}
                ParsedExtension::SubjectAlternativeName(_) => return Err(CsrError::Subject(name.into())),
                _ => return Err(CsrError::Invalid("it asks for an extension that a client certificate does not need")),
            }
        }
    }
    Ok(to_pem(&block.contents))
}

fn is_exactly(subject: &X509Name<'_>, expected: &[(&str, &x509_parser::der_parser::oid::Oid<'_>)]) -> bool {
    let found: Vec<_> = subject.iter_attributes().collect();
    found.len() == expected.len()
        && expected.iter().all(|(text, oid)| found.iter().any(|a| a.attr_type() == *oid && a.as_str() == Ok(*text)))
}

fn to_pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE REQUEST-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn csr(organisation: &str, common_name: &str, names: &[&str], key: &KeyPair) -> String {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn the_nodes_own_csr_passes() {
        let pem = csr("system:nodes", "system:node:w1", &[], &KeyPair::generate().unwrap());
        let clean = check_kubelet_client(&pem, "w1").unwrap();
        assert_eq!(clean.replace("\r\n", "\n"), pem.replace("\r\n", "\n"));
    }

    #[test]
    fn every_other_subject_is_refused() {
        let key = KeyPair::generate().unwrap();
        for (organisation, name, names) in [
            ("system:nodes", "system:node:w2", &[][..]),
            ("system:masters", "system:node:w1", &[]),
            ("system:nodes", "admin", &[]),
            ("system:nodes", "system:node:w1", &["w1.example"]),
            ("system:nodes", "system:node:w1", &["10.0.0.1"]),
        ] {
            let error = check_kubelet_client(&csr(organisation, name, names, &key), "w1").unwrap_err();
            assert_eq!(error.code(), "csr-subject", "{organisation} {name} {names:?}");
        }
    }

    #[test]
    fn an_extra_organisation_is_refused() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, "system:node:w1");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "system:masters");
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        assert_eq!(check_kubelet_client(&pem, "w1").unwrap_err().code(), "csr-subject");
    }

    #[test]
    fn a_broken_signature_or_another_curve_is_refused() {
        let pem = csr("system:nodes", "system:node:w1", &[], &KeyPair::generate().unwrap());
        let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
        let mut der = block.contents;
        *der.last_mut().unwrap() ^= 1;
        assert_eq!(check_kubelet_client(&to_pem(&der), "w1").unwrap_err().code(), "csr-invalid");
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let pem = csr("system:nodes", "system:node:w1", &[], &other);
        assert_eq!(check_kubelet_client(&pem, "w1"), Err(CsrError::Invalid("its key is not P-256")));
        assert_eq!(check_kubelet_client("hello", "w1").unwrap_err().code(), "csr-invalid");
    }
}
