//! The region's Kubernetes: etcd, kube-apiserver and kube-controller-manager as real processes.

use crate::world::{
    addresses as at,
    api::Api,
    certificates::{self, Certificates, Identity},
    network::REGION,
    root::Root,
    service::Service,
};
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Namespace and name of the registrar's service account in its manifest.
const ACCOUNT: (&str, &str) = ("shelfboot", "registrar");

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    /// The administrator's client.
    pub api: Api,
    /// The API server as nodes and the registrar reach it.
    pub endpoint: String,
    folder: PathBuf,
    certificates: Certificates,
    services: Vec<Service>,
}

impl ControlPlane {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When a program cannot be started, ends, or is not ready in two minutes.
    pub async fn start(root: &Root, programs: &Path, folder: &Path, logs: &Path) -> Result<Self> {
        let certificates = certificates::make(&folder.join("pki"))?;
        let endpoint = format!("https://{}:{}", at::REGION, at::API_PORT);
        let api = Api::new(endpoint.clone(), &certificates.ca.certificate, &certificates.admin)?;
        let mut plane = Self { api, endpoint, folder: folder.to_owned(), certificates, services: Vec::new() };
        plane.etcd(root, logs)?;
        plane.api_server(root, programs, logs)?;
        plane.wait_until_ready().await?;
        plane.controller_manager(root, programs, logs)?;
        Ok(plane)
    }

    /// Fails when one of the programs has ended.
    ///
    /// # Errors
    /// See [`Service::check`].
    pub fn check(&mut self) -> Result<()> {
        self.services.iter_mut().try_for_each(Service::check)
    }

    fn etcd(&mut self, root: &Root, logs: &Path) -> Result<()> {
        let mut command = root.command_in(REGION, "etcd");
        command
            .arg("--data-dir")
            .arg(self.folder.join("etcd"))
            .args(["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"])
            .args(["--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380"])
            .args(["--initial-cluster=default=http://127.0.0.1:2380", "--log-level=warn"])
            // The data dies with the run: no need to wait for a disk.
            .arg("--unsafe-no-fsync");
        self.services.push(Service::start("etcd", &mut command, logs)?);
        Ok(())
    }

    fn api_server(&mut self, root: &Root, programs: &Path, logs: &Path) -> Result<()> {
        let c = &self.certificates;
        let mut command = root.command_in(REGION, programs.join("kube-apiserver"));
        command
            .arg("--etcd-servers=http://127.0.0.1:2379")
            .args([format!("--advertise-address={}", at::REGION), format!("--bind-address={}", at::REGION)])
            .arg(format!("--secure-port={}", at::API_PORT))
            .args(["--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC"])
            .args(["--enable-admission-plugins=NodeRestriction", "--allow-privileged=true"])
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(flag("service-account-key-file", &c.service_accounts_public))
            .arg(flag("service-account-signing-key-file", &c.service_accounts))
            .arg(flag("client-ca-file", &c.ca.certificate))
            .arg(flag("tls-cert-file", &c.server.certificate))
            .arg(flag("tls-private-key-file", &c.server.key))
            .arg(flag("cert-dir", &self.folder.join("kube-apiserver")));
        self.services.push(Service::start("kube-apiserver", &mut command, logs)?);
        Ok(())
    }

    fn controller_manager(&mut self, root: &Root, programs: &Path, logs: &Path) -> Result<()> {
        let c = &self.certificates;
        let kubeconfig = self.folder.join("controller-manager.kubeconfig");
        let user = user_with_certificate(&c.controller_manager)?;
        write_kubeconfig(&kubeconfig, &self.endpoint, &c.ca.certificate, &user)?;
        let mut command = root.command_in(REGION, programs.join("kube-controller-manager"));
        command
            .args(["--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true"])
            .arg(flag("kubeconfig", &kubeconfig))
            .arg(flag("root-ca-file", &c.ca.certificate))
            .arg(flag("service-account-private-key-file", &c.service_accounts))
            // This is what turns an approved request into a certificate.
            .arg(flag("cluster-signing-cert-file", &c.ca.certificate))
            .arg(flag("cluster-signing-key-file", &c.ca.key))
            .arg(flag("cert-dir", &self.folder.join("kube-controller-manager")));
        self.services.push(Service::start("kube-controller-manager", &mut command, logs)?);
        Ok(())
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        while !self.api.is_ready().await {
            self.check()?;
            ensure!(begin.elapsed() < Duration::from_secs(120), "the API server was not ready after two minutes");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }

    /// Gives the registrar its rights, by its own manifest, and writes a kubeconfig with a token for them.
    ///
    /// # Errors
    /// When the API server refuses something.
    pub async fn admit_registrar(&self, manifest: &str) -> Result<PathBuf> {
        self.api.create_all(manifest).await.context("applying the registrar's manifest")?;
        let (namespace, name) = ACCOUNT;
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86_400},
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.api.post(&path, &request).await.context("asking for the registrar's token")?;
        let token = answer.pointer("/status/token").and_then(Value::as_str).context("no token in the answer")?;
        let kubeconfig = self.folder.join("registrar.kubeconfig");
        let ca = &self.certificates.ca.certificate;
        write_kubeconfig(&kubeconfig, &self.endpoint, ca, &json!({"token": token}))?;
        Ok(kubeconfig)
    }
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn base64_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn user_with_certificate(identity: &Identity) -> Result<Value> {
    Ok(json!({
        "client-certificate-data": base64_of(&identity.certificate)?,
        "client-key-data": base64_of(&identity.key)?,
    }))
}

/// JSON is YAML: a kubeconfig needs no other writer.
fn write_kubeconfig(path: &Path, endpoint: &str, ca: &Path, user: &Value) -> Result<()> {
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "region",
        "clusters": [{"name": "region", "cluster": {"server": endpoint, "certificate-authority-data": base64_of(ca)?}}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "region", "context": {"cluster": "region", "user": "user"}}],
    });
    let text = serde_json::to_string_pretty(&document).context("writing a kubeconfig")?;
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
