//! Kubernetes by certificate signing request: no token, nothing secret, one certificate for one node.
//!
//! Needs the rights in `deploy/rbac.yaml` and no others. API certificates.k8s.io/v1, Kubernetes 1.19 and later.

use super::{BrokerError, JoinBroker, JoinRequest, Objection, Readiness};
use crate::config::KubernetesConfig;
use crate::{chain, csr};
use base64::Engine;
use contracts::enrollment::{Csr, JoinMaterial};
use contracts::join::KUBERNETES;
use futures_util::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::PathBuf;
use std::time::Duration;

// Kubernetes 1.20 issues for this signer only when the usages are exactly these, although an EC key has no use for
// key encipherment; newer versions accept both.
const USAGES: [&str; 3] = ["digital signature", "key encipherment", "client auth"];
const CONFLICT: u16 = 409;
const FIRST_POLL: Duration = Duration::from_millis(150);
const SLOWEST_POLL: Duration = Duration::from_secs(3);

/// Why the cluster cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The kubeconfig cannot be read.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// Nodes need the CA, and it can come from nowhere else.
    #[error("the kubeconfig {} has no certificate-authority for its cluster", .0.display())]
    NoCa(PathBuf),
    /// The HTTP client cannot be made.
    #[error("cannot make a client for the cluster")]
    Client(#[source] kube::Error),
}

/// The broker for one cluster.
#[derive(Clone)]
pub struct KubernetesBroker {
    client: kube::Client,
    ca: String,
    endpoint: String,
    signer: String,
}

impl std::fmt::Debug for KubernetesBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesBroker").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl KubernetesBroker {
    /// Reads the kubeconfig; does not connect yet.
    ///
    /// # Errors
    /// [`Unusable`].
    pub async fn new(config: &KubernetesConfig) -> Result<Self, Unusable> {
        let path = &config.kubeconfig;
        let failed = |source| Unusable::Kubeconfig { path: path.clone(), source };
        let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
        let options = KubeConfigOptions::default();
        let mut client = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
        client.connect_timeout = Some(Duration::from_secs(5));
        client.read_timeout = Some(Duration::from_secs(20));
        client.write_timeout = Some(Duration::from_secs(20));
        // Otherwise the idle time of a pooled connection counts against the next answer.
        client.reset_reader_on_write = true;
        let roots = client.root_cert.as_deref().filter(|roots| !roots.is_empty());
        let ca = roots.ok_or_else(|| Unusable::NoCa(path.clone()))?.iter().map(|der| certificate_pem(der)).collect();
        Ok(Self {
            client: kube::Client::try_from(client).map_err(Unusable::Client)?,
            ca,
            endpoint: config.endpoint.clone(),
            signer: config.signer.clone(),
        })
    }

    fn requests(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.client.clone())
    }

    /// The request object: made now, or left by an earlier try.
    async fn submit(&self, request: &JoinRequest, csr: &Csr) -> Result<CertificateSigningRequest, BrokerError> {
        let wanted = self.object(request, csr);
        for _ in 0..3 {
            match self.requests().create(&PostParams::default(), &wanted).await {
                Ok(object) => return Ok(object),
                Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
                Err(error) => return Err(unavailable(&error)),
            }
            let name = object_name(request);
            match self.requests().get_opt(&name).await.map_err(|error| unavailable(&error))? {
                Some(object) if object.spec.request == wanted.spec.request && !has(&object, "Failed") => {
                    return Ok(object);
                }
                // The machine has made a new key since, or the signer failed for a reason that may be gone.
                Some(_) => self.delete(&name).await?,
                None => {}
            }
        }
        Err(BrokerError::Unavailable(format!("{} can be neither made nor read", object_name(request))))
    }

    fn object(&self, request: &JoinRequest, csr: &Csr) -> CertificateSigningRequest {
        CertificateSigningRequest {
            metadata: ObjectMeta { name: Some(object_name(request)), ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(csr.pem.clone().into_bytes()),
                signer_name: self.signer.clone(),
                usages: Some(USAGES.map(str::to_owned).to_vec()),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        }
    }

    async fn approve(&self, mut object: CertificateSigningRequest, name: &str) -> Result<(), BrokerError> {
        let object_name = object.metadata.name.clone().unwrap_or_default();
        for _ in 0..5 {
            if has(&object, "Approved") {
                return Ok(());
            }
            let condition = CertificateSigningRequestCondition {
                type_: "Approved".into(),
                status: "True".into(),
                reason: Some("ShelfbootAdmission".into()),
                message: Some(format!("the registrar admitted this machine as {name}")),
                ..CertificateSigningRequestCondition::default()
            };
            object.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
            // A PUT: the right to update approvals is enough, and the object's version protects it.
            let sent =
                self.requests().replace_subresource("approval", &object_name, &PostParams::default(), &object).await;
            match sent {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == CONFLICT => {
                    object = self.requests().get(&object_name).await.map_err(|error| unavailable(&error))?;
                }
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(BrokerError::Unavailable(format!("{object_name} changes too fast to be approved")))
    }

    /// Waits until the signer answered. The caller bounds the time.
    async fn certificate(&self, object_name: &str) -> Result<String, BrokerError> {
        let mut pause = FIRST_POLL;
        loop {
            let object = self.requests().get(object_name).await.map_err(|error| unavailable(&error))?;
            for bad in ["Denied", "Failed"] {
                if let Some(condition) = condition(&object, bad) {
                    let text = condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or(bad);
                    return Err(BrokerError::NotIssued(text.to_owned()));
                }
            }
            if let Some(ByteString(pem)) = object.status.and_then(|status| status.certificate) {
                return String::from_utf8(pem).map_err(|_| BrokerError::NotIssued("it is not PEM".into()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SLOWEST_POLL);
        }
    }

    async fn delete(&self, object_name: &str) -> Result<(), BrokerError> {
        match self.requests().delete(object_name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

impl JoinBroker for KubernetesBroker {
    fn check(&self, name: &str, csrs: &[Csr]) -> Result<Vec<Csr>, Objection> {
        check(name, csrs)
    }

    fn join<'a>(&'a self, request: &'a JoinRequest) -> BoxFuture<'a, Result<JoinMaterial, BrokerError>> {
        Box::pin(async move {
            let mut material = JoinMaterial::default();
            for csr in &request.csrs {
                let object_name = object_name(request);
                let object = self.submit(request, csr).await?;
                self.approve(object, &request.name).await?;
                material.certificates.insert(csr.purpose.clone(), self.certificate(&object_name).await?);
                // Kubernetes would remove it in an hour; a failure here costs nobody anything.
                if let Err(error) = self.delete(&object_name).await {
                    tracing::warn!(object = object_name, %error, "the certificate signing request was not deleted");
                }
            }
            material.values.insert("ca".into(), self.ca.clone());
            material.values.insert("endpoint".into(), self.endpoint.clone());
            Ok(material)
        })
    }

    fn readiness<'a>(&'a self, name: &'a str, boot_id: &'a str) -> BoxFuture<'a, Result<Readiness, BrokerError>> {
        Box::pin(async move {
            let nodes: Api<Node> = Api::all(self.client.clone());
            let node = nodes.get_opt(name).await.map_err(|error| unavailable(&error))?;
            Ok(judge(name, node.as_ref(), boot_id))
        })
    }

    /// Kubernetes knows no list of revoked certificates (Kubernetes documentation, "PKI certificates and requirements").
    fn revoke<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, BrokerError>> {
        let text = format!(
            "Kubernetes cannot take back a node's certificate before its end: drain and delete the node {name}, and keep \
             it from the API server until then (a deny in front of it, or a new CA)"
        );
        Box::pin(async move { Err(BrokerError::NotRevocable(text)) })
    }
}

/// Exactly one certificate, for this node's kubelet.
///
/// # Errors
/// [`Objection`].
pub fn check(name: &str, csrs: &[Csr]) -> Result<Vec<Csr>, Objection> {
    let [purpose] = KUBERNETES.certificates else { return Ok(Vec::new()) };
    let object = |code, reason| Err(Objection { code, reason });
    if let Some(other) = csrs.iter().find(|csr| csr.purpose != *purpose) {
        let reason = format!("no certificates are issued here for the purpose `{}`", other.purpose);
        return object("csr-purpose", reason);
    }
    let [csr] = csrs else {
        return object("csr-invalid", format!("{} requests for the purpose {purpose} instead of one", csrs.len()));
    };
    match csr::check_kubelet_client(&csr.pem, name) {
        Ok(pem) => Ok(vec![Csr { purpose: csr.purpose.clone(), pem }]),
        Err(error) => object(error.code(), error.to_string()),
    }
}

/// Whether this node object says that this boot is ready.
fn judge(name: &str, node: Option<&Node>, boot_id: &str) -> Readiness {
    let not_yet = |text: String| Readiness::NotYet(text);
    let Some(node) = node else {
        return not_yet(format!("the cluster has no node {name} yet"));
    };
    let status = node.status.as_ref();
    let seen = status.and_then(|status| status.node_info.as_ref()).map_or("", |info| info.boot_id.trim());
    if seen.is_empty() {
        return not_yet(format!("node {name} has not reported its boot yet"));
    }
    // The condition may still be that of the boot before; only the boot id ties it to this one.
    if !seen.eq_ignore_ascii_case(boot_id.trim()) {
        return not_yet(format!("the cluster still shows an earlier boot of {name}"));
    }
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.status == "True" => Readiness::Ready,
        Some(condition) => {
            let why = condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or("it does not say why");
            not_yet(format!("node {name} is not ready: {why}"))
        }
        None => not_yet(format!("node {name} has not reported whether it is ready")),
    }
}

fn condition<'a>(object: &'a CertificateSigningRequest, kind: &str) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = object.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind && condition.status != "False")
}

fn has(object: &CertificateSigningRequest, kind: &str) -> bool {
    condition(object, kind).is_some()
}

fn object_name(request: &JoinRequest) -> String {
    format!("shelfboot-{}", request.id)
}

fn unavailable(error: &kube::Error) -> BrokerError {
    BrokerError::Unavailable(chain(error))
}

fn certificate_pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "0f6b8c1e-5a4d-4a6e-9a44-8f6f3b1d2c3e";

    fn node(boot_id: &str, ready: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1"},
            "status": {
                "conditions": [{"type": "Ready", "status": ready, "message": "container runtime is down"}],
                "nodeInfo": {
                    "architecture": "amd64", "bootID": boot_id, "containerRuntimeVersion": "", "kernelVersion": "",
                    "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux",
                    "osImage": "", "systemUUID": ""
                }
            }
        }))
        .unwrap()
    }

    #[test]
    fn one_certificate_for_one_purpose() {
        let csr = |purpose: &str| Csr { purpose: purpose.into(), pem: "?".into() };
        let code = |csrs: &[Csr]| check("w1", csrs).unwrap_err().code;
        assert_eq!(code(&[csr("cluster-admin")]), "csr-purpose");
        assert_eq!(code(&[]), "csr-invalid");
        assert_eq!(code(&[csr("kubelet-client"), csr("kubelet-client")]), "csr-invalid");
        assert_eq!(code(&[csr("kubelet-client")]), "csr-invalid", "not PEM");
    }

    #[test]
    fn ready_counts_only_for_this_boot() {
        assert_eq!(judge("w1", Some(&node(BOOT, "True")), BOOT), Readiness::Ready);
        assert_eq!(judge("w1", Some(&node(BOOT, "True")), &format!("{BOOT}\n").to_uppercase()), Readiness::Ready);
        for (node, hint) in [
            (None, "no node w1"),
            (Some(node("11111111-5a4d-4a6e-9a44-8f6f3b1d2c3e", "True")), "earlier boot"),
            (Some(node(BOOT, "False")), "container runtime is down"),
            (Some(Node::default()), "not reported its boot"),
        ] {
            match judge("w1", node.as_ref(), BOOT) {
                Readiness::NotYet(text) => assert!(text.contains(hint), "{text}"),
                Readiness::Ready => panic!("ready without {hint}"),
            }
        }
    }
}
