//! The join driver for Kubernetes: the machine makes the kubelet's key and a request for its client certificate;
//! the registrar has it signed. No token, nothing to steal.

use super::{
    Machine,
    enroll::{Enrolled, request_join},
    region::Region,
};
use crate::{
    durable,
    failure::{Coded, Failure},
    report::Reporter,
};
use anyhow::{Context, Result, bail};
use contracts::{
    enrollment::{Csr, EnrollmentState, JoinMaterial},
    machine::JoinConfig,
    step::Step,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use uuid::Uuid;

/// How often readiness is asked for, and for how long before the service starts over.
const READY_EVERY: Duration = Duration::from_secs(2);
const READY_TRIES: u32 = 300;

/// Where this template wants things.
#[derive(Debug)]
struct Places<'a> {
    kubeconfig: &'a Path,
    key: PathBuf,
    certificate: PathBuf,
    ca: &'a Path,
    unit: &'a str,
    health_url: &'a str,
}

impl<'a> Places<'a> {
    fn of(config: &'a JoinConfig) -> Self {
        let JoinConfig::Kubernetes { kubeconfig, pki_dir, ca_file, unit, health_url } = config;
        let pki = Path::new(pki_dir);
        Self {
            kubeconfig: Path::new(kubeconfig),
            key: pki.join("kubelet-client.key"),
            certificate: pki.join("kubelet-client.crt"),
            ca: Path::new(ca_file),
            unit,
            health_url,
        }
    }
}

/// Gets the kubelet its certificate and starts it. Returns the enrollment whose readiness counts.
///
/// # Errors
/// `join` when a file or the unit does not work, otherwise as [`request_join`].
pub async fn join(machine: &Machine, region: &Region, enrolled: Enrolled) -> Result<(Uuid, String), Failure> {
    let places = Places::of(&machine.config.join);
    let name = enrolled.admission.name.clone();
    let (id, words) = if places.kubeconfig.exists() && places.certificate.exists() {
        (enrolled.id, format!("{name} already has its certificate"))
    } else {
        let key = kubelet_key(&places.key).code("join")?;
        let csr = Csr { purpose: "kubelet-client".into(), pem: request_pem(&name, &key).code("join")? };
        let (id, admission) = request_join(machine, region, &enrolled, vec![csr]).await?;
        let material = admission.join.context("no join material").code("join")?;
        write_material(&places, &material).code("join")?;
        (id, format!("{name} has its certificate"))
    };
    systemctl(&["start", places.unit]).code("join")?;
    Ok((id, format!("{words}, {} is started", places.unit)))
}

/// Waits until the kubelet is healthy and the cluster reports this boot of this machine ready.
///
/// # Errors
/// `not-ready` with the last reason, after ten minutes.
pub async fn ready(
    machine: &Machine,
    region: &Region,
    id: &Uuid,
    reporter: &Reporter,
) -> Result<((), String), Failure> {
    let places = Places::of(&machine.config.join);
    let mut last = String::from("nothing was heard yet");
    for _ in 0..READY_TRIES {
        let reason = match check(&places, region, *id).await {
            Ok(None) => return Ok(((), "the cluster reports this machine ready".into())),
            Ok(Some(reason)) => reason,
            Err(error) => format!("{error:#}"),
        };
        if reason != last {
            reporter.waiting(Step::Ready, "not-ready", reason.clone());
            last = reason;
        }
        tokio::time::sleep(READY_EVERY).await;
    }
    Err(Failure::new("not-ready", last))
}

/// `None` when ready, otherwise why not.
async fn check(places: &Places<'_>, region: &Region, id: Uuid) -> Result<Option<String>> {
    if let Err(error) = healthy(places.health_url).await {
        return Ok(Some(format!("the kubelet is not healthy yet: {error:#}")));
    }
    match region.enrollment(id).await?.state {
        EnrollmentState::Admitted(admission) if admission.ready => Ok(None),
        EnrollmentState::Admitted(admission) => Ok(Some(
            admission.ready_reason.unwrap_or_else(|| "the cluster does not report this machine ready yet".into()),
        )),
        EnrollmentState::Pending { reason, .. } | EnrollmentState::Refused { reason, .. } => Ok(Some(reason)),
    }
}

async fn healthy(url: &str) -> Result<()> {
    let tls =
        rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(Duration::from_secs(5)).build()?;
    client.get(url).send().await?.error_for_status()?;
    Ok(())
}

/// The kubelet's key; made once, so that a join that was cut off goes on with it.
fn kubelet_key(path: &Path) -> Result<KeyPair> {
    if let Ok(pem) = fs::read_to_string(path) {
        return KeyPair::from_pem(&pem).with_context(|| format!("reading {}", path.display()));
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the kubelet's key")?;
    durable::write(path, key.serialize_pem().as_bytes(), 0o600)?;
    Ok(key)
}

/// Subject as the signer `kubernetes.io/kube-apiserver-client-kubelet` wants it.
fn request_pem(name: &str, key: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{name}"));
    Ok(params.serialize_request(key).context("making the certificate request")?.pem()?)
}

fn write_material(places: &Places<'_>, material: &JoinMaterial) -> Result<()> {
    let JoinMaterial::Kubernetes { certificate, ca, endpoint } = material;
    durable::write(&places.certificate, certificate.as_bytes(), 0o600)?;
    durable::write(places.ca, ca.as_bytes(), 0o644)?;
    // Last: the unit starts by itself once this file is there.
    durable::write(places.kubeconfig, kubeconfig(places, endpoint)?.as_bytes(), 0o600)
}

/// Names files instead of holding them, so that a renewed certificate needs no new kubeconfig. JSON is YAML.
fn kubeconfig(places: &Places<'_>, endpoint: &str) -> Result<String> {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "region", "cluster": {"server": endpoint, "certificate-authority": places.ca}}],
        "users": [{"name": "node", "user": {"client-certificate": places.certificate, "client-key": places.key}}],
        "contexts": [{"name": "node@region", "context": {"cluster": "region", "user": "node"}}],
        "current-context": "node@region",
    });
    Ok(serde_json::to_string_pretty(&config)?)
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let output = Command::new("systemctl").args(arguments).output().context("starting systemctl")?;
    if !output.status.success() {
        bail!("systemctl {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_names_files_and_holds_no_secret() {
        let config = JoinConfig::Kubernetes {
            kubeconfig: "/etc/kubernetes/kubelet.conf".into(),
            pki_dir: "/var/lib/kubelet/pki".into(),
            ca_file: "/etc/kubernetes/pki/ca.crt".into(),
            unit: "kubelet.service".into(),
            health_url: "http://127.0.0.1:10248/healthz".into(),
        };
        let text = kubeconfig(&Places::of(&config), "https://10.98.0.2:6443").unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["users"][0]["user"]["client-key"], "/var/lib/kubelet/pki/kubelet-client.key");
        assert!(!text.contains("PRIVATE KEY"));
    }
}
