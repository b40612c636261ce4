//! HTTP to Keystone, Nova, Placement and RabbitMQ's management plugin.

use crate::broker::BrokerError;
use crate::config::NovaConfig;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

const PATIENCE: Duration = Duration::from_secs(30);
/// Much shorter than any token lives.
const TOKEN_FRESH: Duration = Duration::from_secs(300);
/// Nova's API with an uptime in a hypervisor's details, and hosts by UUID (2.88 and later).
const COMPUTE_VERSION: &str = "compute 2.96";
/// Answers are lists of services and users; more than this is nothing of the kind.
const MAX_ANSWER: usize = 8 << 20;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The CA certificates.
    #[error("{} holds no certificates", .0.display())]
    Ca(PathBuf),
    /// The HTTP client.
    #[error("cannot make a client for the region")]
    Client(#[source] reqwest::Error),
}

/// Where, and as whom.
pub(super) struct Setup {
    config: NovaConfig,
    password: String,
    bus_password: String,
    ca: String,
    roots: rustls::RootCertStore,
}

impl Setup {
    pub(super) fn of(config: &NovaConfig) -> Result<Self, Unusable> {
        let mut roots = rustls::RootCertStore::empty();
        let mut ca = String::new();
        if let Some(path) = &config.ca {
            use rustls_pki_types::{CertificateDer, pem::PemObject};
            let pem = read(path)?;
            let all = CertificateDer::pem_slice_iter(pem.as_bytes());
            all.flatten().for_each(|certificate| roots.add(certificate).unwrap_or_default());
            if roots.is_empty() {
                return Err(Unusable::Ca(path.clone()));
            }
            ca = pem;
        }
        Ok(Self {
            password: read(&config.password_file)?.trim().to_owned(),
            bus_password: read(&config.bus_password_file)?.trim().to_owned(),
            config: config.clone(),
            ca,
            roots,
        })
    }
}

fn read(path: &PathBuf) -> Result<String, Unusable> {
    std::fs::read_to_string(path).map_err(|source| Unusable::File { path: path.clone(), source })
}

/// All services of one region.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    config: NovaConfig,
    password: String,
    bus_password: String,
    ca: String,
    tokens: Tokens,
}

/// When, the token, and what Keystone said about it; by scope.
type Tokens = Arc<Mutex<HashMap<String, (Instant, String, Value)>>>;

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("keystone", &self.config.keystone).finish_non_exhaustive()
    }
}

/// One service with a token for it.
#[derive(Clone)]
pub(super) struct Session {
    http: reqwest::Client,
    base: String,
    token: String,
    /// The token's domain, for Keystone.
    domain: Option<String>,
    tokens: Tokens,
}

impl Client {
    pub(super) fn new(setup: &Setup) -> Result<Self, Unusable> {
        let tls = rustls::ClientConfig::builder().with_root_certificates(setup.roots.clone()).with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(PATIENCE)
            .build()
            .map_err(Unusable::Client)?;
        let (password, bus_password) = (setup.password.clone(), setup.bus_password.clone());
        Ok(Self {
            http,
            config: setup.config.clone(),
            password,
            bus_password,
            ca: setup.ca.clone(),
            tokens: Tokens::default(),
        })
    }

    /// The CA certificates of the services, PEM; empty when they speak plain HTTP.
    pub(super) fn ca(&self) -> &str {
        &self.ca
    }

    /// Keystone, with rights in the domain of the hypervisors' users.
    pub(super) async fn identity(&self) -> Result<Session, BrokerError> {
        let scope = json!({"domain": {"name": self.config.user_domain}});
        let (token, answer) = self.log_in(&scope).await?;
        let domain = answer.pointer("/token/domain/id").and_then(Value::as_str).map(str::to_owned);
        Ok(Session {
            http: self.http.clone(),
            base: self.config.keystone.clone(),
            token,
            domain,
            tokens: self.tokens.clone(),
        })
    }

    /// Nova.
    pub(super) async fn compute(&self) -> Result<Session, BrokerError> {
        self.service("compute").await
    }

    /// Placement.
    pub(super) async fn placement(&self) -> Result<Session, BrokerError> {
        self.service("placement").await
    }

    async fn service(&self, kind: &str) -> Result<Session, BrokerError> {
        let NovaConfig { project, project_domain, region, .. } = &self.config;
        let scope = json!({"project": {"name": project, "domain": {"name": project_domain}}});
        let (token, answer) = self.log_in(&scope).await?;
        let base = endpoint(&answer, kind, region)
            .ok_or_else(|| BrokerError::Unavailable(format!("the catalog has no service {kind} in region {region}")))?;
        Ok(Session { http: self.http.clone(), base, token, domain: None, tokens: self.tokens.clone() })
    }

    /// A token is good for minutes: after a power cut every machine of a region asks every other second.
    async fn log_in(&self, scope: &Value) -> Result<(String, Value), BrokerError> {
        let mut tokens = self.tokens.lock().await;
        let key = scope.to_string();
        if let Some((_, token, answer)) = tokens.get(&key).filter(|(at, ..)| at.elapsed() < TOKEN_FRESH) {
            return Ok((token.clone(), answer.clone()));
        }
        let (token, answer) = self.new_token(scope).await?;
        tokens.insert(key, (Instant::now(), token.clone(), answer.clone()));
        Ok((token, answer))
    }

    async fn new_token(&self, scope: &Value) -> Result<(String, Value), BrokerError> {
        let NovaConfig { keystone, user, user_domain, .. } = &self.config;
        let user = json!({"name": user, "domain": {"name": user_domain}, "password": self.password});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let question = json!({"auth": {"identity": identity, "scope": scope}});
        let url = format!("{keystone}/auth/tokens");
        let answer = self.http.post(&url).json(&question).send().await.map_err(|error| unavailable(&url, &error))?;
        let token = answer.headers().get("x-subject-token").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (status, body) = take(&url, answer).await?;
        match token {
            Some(token) if status.is_success() => Ok((token, body)),
            _ => Err(refused(&url, status, &body)),
        }
    }

    /// Makes a user of the message bus, or gives the one that is there another password, with these permissions. What an
    /// earlier machine of that name has open is closed: it would answer in place of the new one.
    pub(super) async fn bus_user(&self, user: &str, password: &str, rights: &Value) -> Result<(), BrokerError> {
        self.remove_bus_user(user).await?;
        let vhost = escaped(&self.config.bus_vhost);
        self.bus("PUT", &format!("users/{user}"), Some(&json!({"password": password, "tags": ""}))).await?;
        self.bus("PUT", &format!("permissions/{vhost}/{user}"), Some(&rights["permissions"])).await?;
        self.bus("PUT", &format!("topic-permissions/{vhost}/{user}"), Some(&rights["topics"])).await?;
        Ok(())
    }

    /// Removes a user of the message bus and closes what it has open; gives how many connections.
    pub(super) async fn remove_bus_user(&self, user: &str) -> Result<usize, BrokerError> {
        let open = self.bus("GET", &format!("connections/username/{user}"), None).await?;
        // RabbitMQ closes the connections of a user that is removed; what is still there a moment later is closed here.
        self.bus("DELETE", &format!("users/{user}"), None).await?;
        let names: Vec<&str> = open.as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
        for name in &names {
            self.bus("DELETE", &format!("connections/{}", escaped(name)), None).await?;
        }
        Ok(names.len())
    }

    /// What is gone already counts as removed.
    async fn bus(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, BrokerError> {
        let url = format!("{}/api/{path}", self.config.bus_management);
        let mut request = self.http.request(verb(method), &url);
        request = request.basic_auth(&self.config.bus_user, Some(&self.bus_password));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| unavailable(&url, &error))?;
        match take(&url, answer).await? {
            (status, body) if status.is_success() => Ok(body),
            (StatusCode::NOT_FOUND, body) if method != "PUT" => Ok(body),
            (status, body) => Err(refused(&url, status, &body)),
        }
    }
}

impl Session {
    /// The domain of the token.
    pub(super) fn domain(&self) -> Result<&str, BrokerError> {
        let missing = || BrokerError::Unavailable("Keystone's token has no domain".into());
        self.domain.as_deref().ok_or_else(missing)
    }

    pub(super) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, BrokerError> {
        match self.send(method, path, body).await? {
            (status, body) if status.is_success() => Ok(body),
            (status, body) => Err(refused(&format!("{}{path}", self.base), status, &body)),
        }
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), BrokerError> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(verb(method), &url);
        request = request.header("x-auth-token", &self.token).header("openstack-api-version", COMPUTE_VERSION);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| unavailable(&url, &error))?;
        let (status, body) = take(&url, answer).await?;
        if status == StatusCode::UNAUTHORIZED {
            // It has ended early; the next try gets another.
            self.tokens.lock().await.clear();
        }
        Ok((status, body))
    }

    /// A user or group of the token's domain by its name.
    pub(super) async fn find(&self, kind: &str, name: &str) -> Result<Option<Value>, BrokerError> {
        let domain = self.domain()?;
        let answer = self.call("GET", &format!("/{kind}?name={name}&domain_id={domain}"), None).await?;
        Ok(answer[kind].as_array().and_then(|all| all.first()).cloned())
    }

    /// The same; it has to be there.
    pub(super) async fn one(&self, kind: &str, name: &str) -> Result<Value, BrokerError> {
        let missing = || BrokerError::Unavailable(format!("Keystone has no {name} among the {kind} of the domain"));
        self.find(kind, name).await?.ok_or_else(missing)
    }

    pub(super) async fn services(&self, host: &str) -> Result<Value, BrokerError> {
        self.call("GET", &format!("/os-services?binary=nova-compute&host={host}"), None).await
    }

    /// Hypervisors whose name holds this one, without what Nova would have to ask their hosts for.
    pub(super) async fn hypervisors(&self, name: &str) -> Result<Value, BrokerError> {
        let path = format!("/os-hypervisors?hypervisor_hostname_pattern={name}");
        match self.send("GET", &path, None).await? {
            (StatusCode::NOT_FOUND, _) => Ok(json!({"hypervisors": []})),
            (status, body) if status.is_success() => Ok(body),
            (status, body) => Err(refused(&format!("{}{path}", self.base), status, &body)),
        }
    }

    /// A resource provider's inventories by class; empty while there is none.
    pub(super) async fn inventory(&self, name: &str) -> Result<Value, BrokerError> {
        let found = self.call("GET", &format!("/resource_providers?name={name}"), None).await?;
        let Some(id) = found.pointer("/resource_providers/0/uuid").and_then(Value::as_str) else {
            return Ok(json!({}));
        };
        let answer = self.call("GET", &format!("/resource_providers/{id}/inventories"), None).await?;
        Ok(answer["inventories"].clone())
    }
}

/// The address of a service in a token's catalog.
fn endpoint(answer: &Value, kind: &str, region: &str) -> Option<String> {
    let catalog = answer.pointer("/token/catalog")?.as_array()?;
    let service = catalog.iter().find(|service| service["type"] == kind)?;
    let endpoints = service["endpoints"].as_array()?;
    let of = |interface: &str| {
        endpoints.iter().find(|e| e["interface"] == interface && (e["region_id"] == region || e["region"] == region))
    };
    Some(of("internal").or_else(|| of("public"))?["url"].as_str()?.trim_end_matches('/').to_owned())
}

/// A text in an answer.
pub(super) fn at(value: &Value, pointer: &str) -> Result<String, BrokerError> {
    let text = value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| BrokerError::Unavailable(format!("an answer has no text at {pointer}")))
}

async fn take(url: &str, mut answer: reqwest::Response) -> Result<(StatusCode, Value), BrokerError> {
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unavailable(url, &error))? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(BrokerError::Unavailable(format!("{url}: the answer is too long")));
        }
        bytes.extend_from_slice(&chunk);
    }
    // Errors of a proxy in between are pages for people.
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    Ok((status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) }))
}

/// Percent-encoded whole (RFC 3986, section 2.1): for one segment of a path.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn verb(method: &str) -> Method {
    Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET)
}

fn unavailable(url: &str, error: &reqwest::Error) -> BrokerError {
    // The URL stands before it.
    let why = std::error::Error::source(error).map_or_else(|| error.to_string(), crate::chain);
    BrokerError::Unavailable(format!("{url}: {why}"))
}

fn refused(url: &str, status: StatusCode, body: &Value) -> BrokerError {
    let said = ["/error/message", "/reason", "/errors/0/detail", "/message"];
    let said = said.iter().find_map(|pointer| body.pointer(pointer)?.as_str()).unwrap_or_default();
    BrokerError::Unavailable(format!("{url}: {status} {}", said.lines().next().unwrap_or_default()).trim_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_of_the_region_and_internal_where_there_is_one() {
        let one =
            |interface: &str, region: &str, url: &str| json!({"interface": interface, "region_id": region, "url": url});
        let endpoints =
            [one("public", "north", "http://p/"), one("internal", "north", "http://i/"), one("internal", "south", "x")];
        let answer = json!({"token": {"catalog": [{"type": "compute", "endpoints": endpoints}]}});
        assert_eq!(endpoint(&answer, "compute", "north").as_deref(), Some("http://i"));
        assert_eq!(endpoint(&answer, "compute", "west"), None);
        assert_eq!(endpoint(&answer, "placement", "north"), None);
    }

    #[test]
    fn refusals_have_the_services_own_words() {
        let error =
            refused("http://k/users", StatusCode::FORBIDDEN, &json!({"error": {"message": "not yours\nat all"}}));
        assert_eq!(
            error.to_string(),
            "the cluster does not answer as it should: http://k/users: 403 Forbidden not yours"
        );
    }
}
