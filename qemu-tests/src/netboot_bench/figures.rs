//! Clients, started in their namespace.

use super::{
    inside::Bench,
    network::{CLIENTS, FIRST},
};
use crate::process;
use anyhow::{Context as _, Result};
use netboot_load::report::Report;
use std::net::Ipv4Addr;

/// Runs the load program against a server and reads its result.
///
/// # Errors
/// When it fails.
pub fn load(bench: &Bench<'_>, server: Ipv4Addr, kind: &str, clients: u32, more: &[&str]) -> Result<Report> {
    let mut command = bench.root.command_in(CLIENTS, &bench.plan.load);
    command.arg(kind).args(["--server", &server.to_string(), "--first", &FIRST.to_string()]);
    command.args(["--clients", &clients.to_string()]).args(more);
    let text = process::output(&mut command)?;
    serde_json::from_str(&text).context("reading the load program's result")
}
