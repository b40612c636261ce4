//! `netboot check`: what the upstreams have, without keeping any of it.

use super::{
    CacheError,
    fetch::{Fetcher, Limiter},
    metadata::{self, Freshness, moment},
};
use crate::names::Names;
use crate::{boot_files::chain, config::Config};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use time::OffsetDateTime;
use url::Url;

/// An upstream that has not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks every upstream, and gives what it has, or what is wrong with it, in words. `datastore` is a folder that may be
/// thrown away.
///
/// # Errors
/// When nothing can be asked from here.
pub async fn upstreams(config: &Config, datastore: &Path) -> Result<Vec<(Url, Result<String, String>)>, anyhow::Error> {
    let limiter = Arc::new(Limiter::new(config.cache.bandwidth.clone()));
    let names = Arc::new(Names::new(config.dns.clone(), crate::names::SYSTEM));
    let fetcher = Fetcher::new(&config.cache.upstreams, limiter, &names).map_err(CacheError::Client)?;
    let unreadable = |error| crate::boot_files::BootError::Read(config.trust.clone(), error);
    let root = std::fs::read(&config.trust).map_err(unreadable)?;
    let mut answers = Vec::new();
    for (index, url) in config.cache.upstreams.iter().enumerate() {
        let scratch = datastore.join(index.to_string());
        let known = BTreeMap::new();
        let asked = tokio::time::timeout(PATIENCE, metadata::fetch(&fetcher, url, &root, &scratch, &known)).await;
        let answer = match asked {
            Err(_) => Err("no answer within a minute".to_owned()),
            Ok(Err(error)) => Err(chain(&error)),
            Ok(Ok(verified)) => match verified.expiry.freshness(OffsetDateTime::now_utc(), config.cache.stale) {
                Freshness::TooOld { since } => Err(format!("its dates ended on {}", moment(since))),
                _ => Ok(format!("version {}, verified", verified.version)),
            },
        };
        answers.push((url.clone(), answer));
    }
    Ok(answers)
}
