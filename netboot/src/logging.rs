//! The log: lines on standard error, for people or for collectors.

use serde::Deserialize;
use std::{
    io::IsTerminal,
    sync::{OnceLock, PoisonError, RwLock},
};
use tracing_subscriber::EnvFilter;

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

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

type Set = Box<dyn Fn(EnvFilter) + Send + Sync>;

static SET: OnceLock<Set> = OnceLock::new();
static NOW: RwLock<Level> = RwLock::new(Level::Info);

/// Starts the log. `RUST_LOG` says what is written, and wins over [`set_level`].
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(Level::Info.as_str()));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(format == Format::Text && std::io::stderr().is_terminal())
        .with_target(false)
        // Otherwise a closed standard error would end the service by a panic.
        .log_internal_errors(false);
    match format {
        Format::Text => {
            let log = log.with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            let _ = SET.set(Box::new(move |filter| drop(handle.reload(filter))));
        }
        Format::Json => {
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            let _ = SET.set(Box::new(move |filter| drop(handle.reload(filter))));
        }
    }
}

/// Changes what is written, unless `RUST_LOG` says it.
pub fn set_level(level: Level) {
    let mut now = NOW.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(set) = SET.get()
        && *now != level
        && std::env::var_os("RUST_LOG").is_none()
    {
        *now = level;
        set(EnvFilter::new(level.as_str()));
    }
}
