//! The few calls of the Kubernetes API that the test world itself makes, as plain JSON: it must not depend on
//! one version's types.

use super::certificates::Identity;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::{path::Path, time::Duration};

/// A client with the administrator's certificate.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
}

impl Api {
    /// A client for the API server at `base`.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn new(base: String, ca: &Path, identity: &Identity) -> Result<Self> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        let pem = [read(&identity.certificate)?, read(&identity.key)?].concat();
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&read(ca)?).context("reading the cluster's CA")?])
            .identity(reqwest::Identity::from_pem(&pem).context("reading the administrator's certificate")?)
            .timeout(Duration::from_secs(20))
            .build()
            .context("making an HTTP client")?;
        Ok(Self { http, base })
    }

    /// True when the API server says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.base)).send().await;
        answer.is_ok_and(|a| a.status().is_success())
    }

    /// Gets one object; `None` when there is none.
    ///
    /// # Errors
    /// When the API server cannot be asked or refuses.
    pub async fn get(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await;
        let answer = answer.with_context(|| format!("asking the API server for {path}"))?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read(answer, path).await.map(Some)
    }

    /// Creates one object.
    ///
    /// # Errors
    /// When the API server cannot be asked or refuses.
    pub async fn post(&self, path: &str, object: &Value) -> Result<Value> {
        let answer = self.http.post(format!("{}{path}", self.base)).json(object).send().await;
        read(answer.with_context(|| format!("posting to {path}"))?, path).await
    }

    /// Creates every object of a manifest (YAML, several documents).
    ///
    /// # Errors
    /// When it does not parse, or one object is refused.
    pub async fn create_all(&self, manifest: &str) -> Result<Vec<Value>> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(manifest).context("reading the manifest")?;
        for object in &objects {
            let path = collection_path(object).context("an object without apiVersion and kind")?;
            self.post(&path, object).await?;
        }
        Ok(objects)
    }
}

async fn read(answer: reqwest::Response, path: &str) -> Result<Value> {
    let status = answer.status();
    let text = answer.text().await.with_context(|| format!("reading the answer to {path}"))?;
    if !status.is_success() {
        bail!("the API server answered {path} with {status}: {text}");
    }
    serde_json::from_str(&text).with_context(|| format!("the answer to {path} is not JSON"))
}

/// Where an object is created. The plural of every kind used here is regular.
fn collection_path(object: &Value) -> Option<String> {
    let version = object.get("apiVersion")?.as_str()?;
    let plural = format!("{}s", object.get("kind")?.as_str()?.to_ascii_lowercase());
    let prefix = if version.contains('/') { "/apis" } else { "/api" };
    Some(match object.pointer("/metadata/namespace").and_then(Value::as_str) {
        Some(namespace) => format!("{prefix}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("{prefix}/{version}/{plural}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_go_to_their_collections() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"});
        assert_eq!(collection_path(&role).unwrap(), "/apis/rbac.authorization.k8s.io/v1/clusterroles");
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "n"}});
        assert_eq!(collection_path(&account).unwrap(), "/api/v1/namespaces/n/serviceaccounts");
        assert_eq!(collection_path(&json!({})), None);
    }
}
