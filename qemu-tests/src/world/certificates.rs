//! The certificates of the region's control plane, as a cluster administrator would make them.

use super::addresses as at;
use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// A key and its certificate, PEM, in files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Everything that the control plane needs.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The cluster's CA.
    pub ca: Identity,
    /// The API server's.
    pub server: Identity,
    /// The administrator's: group system:masters.
    pub admin: Identity,
    /// The controller manager's.
    pub controller_manager: Identity,
    /// Signs the tokens of service accounts.
    pub service_accounts: PathBuf,
    /// Its public half: the API server does not take it from a PKCS #8 private key.
    pub service_accounts_public: PathBuf,
}

/// Makes them all.
///
/// # Errors
/// When a key cannot be made or a file cannot be written.
pub fn make(folder: &Path) -> Result<Certificates> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut ca_parameters = CertificateParams::default();
    ca_parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca_parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    ca_parameters.distinguished_name.push(DnType::CommonName, "kubernetes");
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca_parameters.self_signed(&ca_key)?;
    let ca = write(folder, "ca", &ca_certificate.pem(), &ca_key)?;
    let issuer = Issuer::new(ca_parameters, ca_key);

    let names = [at::REGION, "10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let server = issue(&issuer, folder, "apiserver", None, Usage::ServerAuth, &names)?;
    let admin = issue(&issuer, folder, "admin", Some("system:masters"), Usage::ClientAuth, &[])?;
    let controller_manager = issue(&issuer, folder, "system:kube-controller-manager", None, Usage::ClientAuth, &[])?;

    let service_accounts = folder.join("service-accounts.key");
    let service_accounts_public = folder.join("service-accounts.pub");
    let key = KeyPair::generate()?;
    private(&service_accounts, &key.serialize_pem())?;
    fs::write(&service_accounts_public, key.public_key_pem()).context("writing the service accounts' public key")?;
    Ok(Certificates { ca, server, admin, controller_manager, service_accounts, service_accounts_public })
}

fn issue(
    issuer: &Issuer<'_, KeyPair>,
    folder: &Path,
    common_name: &str,
    group: Option<&str>,
    usage: Usage,
    names: &[&str],
) -> Result<Identity> {
    let mut parameters = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(group) = group {
        parameters.distinguished_name.push(DnType::OrganizationName, group);
    }
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, issuer)?;
    write(folder, &common_name.replace(':', "-"), &certificate.pem(), &key)
}

fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<Identity> {
    let identity =
        Identity { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
    fs::write(&identity.certificate, certificate)
        .with_context(|| format!("writing {}", identity.certificate.display()))?;
    private(&identity.key, &key.serialize_pem())?;
    Ok(identity)
}

fn private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("making {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}
