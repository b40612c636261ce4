//! netboot's calls. Plain HTTP on the LAN is not a trust boundary: what matters is signed.

use anyhow::{Context, Result, bail};
use contracts::{
    assignment::{Assignment, MachineReport, TimeReply},
    event::Event,
    logs::LogBundle,
    voucher::{Voucher, VoucherRequest},
};
use reqwest::{Client, Response};
use serde::Serialize;
use std::time::Duration;

/// The most that an answer of netboot's may weigh.
const ANSWER_LIMIT: usize = 1 << 20;

/// netboot, at its base URL.
#[derive(Debug, Clone)]
pub struct Netboot {
    base: String,
    http: Client,
}

impl Netboot {
    /// netboot at `base`, for example `http://10.77.0.2`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(base: &str) -> Result<Self> {
        // The boot image has no certificate store, and this client never speaks TLS.
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_secs(15))
            .build()
            .context("making the HTTP client")?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), http })
    }

    /// The base URL without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The HTTP client, for downloads.
    #[must_use]
    pub const fn http(&self) -> &Client {
        &self.http
    }

    /// The store's clock.
    ///
    /// # Errors
    /// When netboot cannot be reached or its answer makes no sense.
    pub async fn time(&self) -> Result<TimeReply> {
        let answer = self.http.get(self.url("/v1/time")).send().await.context("asking netboot for the time")?;
        Ok(serde_json::from_slice(&body(answer).await?)?)
    }

    /// Reports this machine and gets its assignment.
    ///
    /// # Errors
    /// When netboot cannot be reached or its answer makes no sense.
    pub async fn assign(&self, report: &MachineReport) -> Result<Assignment> {
        Ok(contracts::read(&self.post("/v1/machines", report).await?)?)
    }

    /// Asks the store to vouch for this machine's key.
    ///
    /// # Errors
    /// When netboot cannot be reached or does not vouch.
    pub async fn voucher(&self, fingerprint: &str) -> Result<Voucher> {
        let request = VoucherRequest { fingerprint: fingerprint.to_owned() };
        Ok(serde_json::from_slice(&self.post("/v1/vouchers", &request).await?)?)
    }

    /// Hands over events.
    ///
    /// # Errors
    /// When netboot did not take them: they must be sent again.
    pub async fn send_events<D: Serialize>(&self, events: &[Event<D>]) -> Result<()> {
        self.post("/v1/events", events).await.map(|_| ())
    }

    /// Hands over what was logged of an attempt.
    ///
    /// # Errors
    /// When netboot did not take it.
    pub async fn send_log(&self, bundle: &LogBundle) -> Result<()> {
        self.post("/v1/logs", bundle).await.map(|_| ())
    }

    async fn post<T: Serialize + ?Sized>(&self, path: &str, content: &T) -> Result<Vec<u8>> {
        let answer = self.http.post(self.url(path)).json(content).timeout(Duration::from_secs(30)).send().await;
        body(answer.with_context(|| format!("calling {path} of netboot at {}", self.base))?).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// A successful answer's body, bounded.
///
/// # Errors
/// When the status is not a success (with what the server said), or the body is too long or cut off.
pub async fn body(mut answer: Response) -> Result<Vec<u8>> {
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.context("reading the answer")? {
        if bytes.len() + part.len() > ANSWER_LIMIT {
            bail!("the answer is longer than {ANSWER_LIMIT} bytes");
        }
        bytes.extend_from_slice(&part);
    }
    if !status.is_success() {
        let said = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let message =
            said.as_ref().and_then(|v| v.get("message")).and_then(|m| m.as_str()).unwrap_or("no reason given");
        bail!("HTTP {status}: {message}");
    }
    Ok(bytes)
}
