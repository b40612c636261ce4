//! The log: lines on standard error, for people or for collectors.

use serde::Deserialize;
use std::{
    io::IsTerminal,
    sync::{OnceLock, PoisonError, RwLock},
};
use tracing_subscriber::{
    Registry,
    filter::Targets,
    fmt,
    layer::SubscriberExt,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

/// How log lines are written, to standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

/// `logLevel`: what is written at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What broke.
    Error,
    /// And what may break.
    Warn,
    /// And every decision.
    #[default]
    Info,
    /// And what decisions were made from.
    Debug,
}

impl From<Level> for Targets {
    fn from(level: Level) -> Self {
        Self::new().with_default(match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
        })
    }
}

static FILTER: OnceLock<Handle<Targets, Registry>> = OnceLock::new();
static NOW: RwLock<Level> = RwLock::new(Level::Info);

/// Starts the log. `RUST_LOG` says what is written (`debug`, or `netboot::cache=debug,info`), and wins over [`set_level`].
pub fn start(format: Format) {
    let (filter, handle) = reload::Layer::new(from_environment().unwrap_or_else(|| Level::Info.into()));
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(format == Format::Text && std::io::stderr().is_terminal())
        .with_target(false)
        // Otherwise a closed standard error would end the service by a panic.
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        Format::Text => registry.with(lines).init(),
        Format::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    let _ = FILTER.set(handle);
}

fn from_environment() -> Option<Targets> {
    std::env::var("RUST_LOG").ok()?.parse().ok()
}

/// Changes what is written, unless `RUST_LOG` says it.
pub fn set_level(level: Level) {
    let mut now = NOW.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(filter) = FILTER.get()
        && *now != level
        && from_environment().is_none()
        && filter.reload(Targets::from(level)).is_ok()
    {
        *now = level;
    }
}
