//! `netboot check`: everything that would stop the service, or make it useless, said at once.

use crate::{
    boot_files::{Source, name_of},
    config::{Config, ConfigError},
    interface,
    mistakes::{self, Mistake},
    reload,
    service::{InputError, Prepared},
};
use anyhow::{Context, Result};
use contracts::{assignment::ImageRef, manifest::Channel};
use std::path::Path;

/// What was found good, as pairs of a word and what it is.
pub(super) type Found = Vec<(&'static str, String)>;

/// A mistake in the configuration file, as an error of its own.
#[derive(Debug, thiserror::Error)]
#[error("{}{}{}: {}", .file, place(.mistake.line), place(.mistake.column), .mistake.message)]
pub(super) struct InFile {
    file: String,
    pub(super) mistake: Mistake,
}

fn place(number: Option<usize>) -> String {
    number.map(|number| format!(":{number}")).unwrap_or_default()
}

/// Checks. What was found good is in `found` also when something else is wrong.
pub(super) async fn check(path: &Path, found: &mut Found) -> Vec<anyhow::Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return vec![ConfigError::Read(path.to_owned(), error).into()],
    };
    let file = path.display().to_string();
    let in_file = |mistake| InFile { file: file.clone(), mistake }.into();
    let mistakes: Vec<anyhow::Error> = mistakes::all(&text, path).into_iter().map(in_file).collect();
    if !mistakes.is_empty() {
        return mistakes;
    }
    let config = match Config::parse(&text, path) {
        Ok(config) => config,
        Err(error) => return vec![error.into()],
    };
    let mut wrong = Vec::new();
    let address = match interface::address(&config.interface, config.address) {
        Ok(address) => {
            found.push(("interface", format!("{} ({address})", config.interface)));
            Some(address)
        }
        Err(error) => {
            wrong.push(error.into());
            None
        }
    };
    match Prepared::credential(&config) {
        Ok(credential) => {
            found.insert(0, ("store", credential.store.clone()));
            found.push(("registrars", credential.registrars.join(", ")));
        }
        Err(error) => wrong.push(error),
    }
    let pin = if crate::pin::Pin::new(&config.state).is_set() { "set" } else { "not set (`netboot pin set`)" };
    found.push(("pin", pin.into()));
    if config.trust.is_file() {
        let base_url = address.map_or_else(String::new, |address| format!("http://{address}"));
        if let Err(error) = check_images(&config, &base_url, found).await {
            wrong.push(error);
        }
    } else {
        wrong.push(InputError::NoTrust(config.trust.clone()).into());
    }
    if wrong.is_empty() {
        found.push(("SIGHUP", format!("changes {}; other settings need a restart", reload::LIVE.join(", "))));
    }
    wrong
}

async fn check_images(config: &Config, base_url: &str, found: &mut Found) -> Result<()> {
    // A datastore of its own: checking must not change what the service remembers. It vanishes when dropped.
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (repository, trust) = (config.repository.clone(), config.trust.clone());
    let source =
        Source { repository, trust, datastore: scratch.path().to_owned(), stale: config.cache.stale, cache: None };
    if !config.cache.upstreams.is_empty() {
        return check_cache(config, &source, found).await;
    }
    check_repository(&source, base_url, found).await
}

/// Verifies what the upstreams have, and what the cache has: either is enough to go on.
async fn check_cache(config: &Config, source: &Source, found: &mut Found) -> Result<()> {
    let mut good = false;
    for (url, answer) in crate::cache::check::upstreams(config, &source.datastore).await? {
        good |= answer.is_ok();
        found.push(("upstream", format!("{url} ({})", answer.unwrap_or_else(|problem| problem))));
    }
    if source.fingerprint().is_some() {
        source.open().await?;
        good = true;
        found.push(("cache", format!("{} (verified)", source.repository.display())));
    } else {
        found.push(("cache", format!("{} (empty)", source.repository.display())));
    }
    if good { Ok(()) } else { Err(crate::cache::CacheError::NoUpstream.into()) }
}

/// Verifies the repository, and the boot file of every channel in it.
async fn check_repository(source: &Source, base_url: &str, found: &mut Found) -> Result<()> {
    let repository = source.open().await?;
    found.push(("repository", format!("{} (verified)", source.repository.display())));
    let mut images: Vec<ImageRef> = Vec::new();
    for (name, _) in repository.all_targets() {
        let mut parts = name.raw().strip_prefix("channels/").into_iter().flat_map(|rest| rest.split('/'));
        if let (Some(template), Some(file), None) = (parts.next(), parts.next(), parts.next())
            && let Some(channel) = file.strip_suffix(".json")
        {
            images.push(ImageRef { template: template.into(), channel: channel.into(), version: None });
        }
    }
    for image in &images {
        let set = source.load(std::slice::from_ref(image), base_url).await?;
        let name = name_of(&image.template);
        let channel = Channel::target_name(&image.template, &image.channel);
        match (set.files.get(&name), set.problem) {
            (Some(file), None) => {
                let text = format!("{name} {} ({channel}), {} bytes", file.version, file.content.length());
                found.push(("boot file", text));
            }
            (_, problem) => {
                let problem = format!("{channel}: {}", problem.unwrap_or_else(|| "no boot file".into()));
                return Err(InputError::Image(problem).into());
            }
        }
    }
    Ok(())
}
