//! `netboot survey`: who serves the LAN.

use crate::{
    config::Config,
    interface,
    lan::survey::{Report, Task, run},
};
use anyhow::Result;
use clap::Args;
use std::{
    fmt::Write,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

/// Arguments of `survey`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The interface to listen on; that of the configuration file when absent.
    #[arg(long, value_name = "NAME", required_unless_present = "config")]
    interface: Option<String>,
    /// The service's configuration file, for its interface and its address.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The netboot that should be heard; that of the configuration file when absent. Port 80 unless named.
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = place)]
    netboot: Option<SocketAddrV4>,
    /// How long to listen.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Send DISCOVERs as a test client. No offer is taken up, so no address is used.
    #[arg(long)]
    probe: bool,
}

fn place(text: &str) -> Result<SocketAddrV4, std::net::AddrParseError> {
    text.parse().or_else(|_| text.parse().map(|address: Ipv4Addr| SocketAddrV4::new(address, 80)))
}

/// The LAN cannot be listened to.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {0}")]
pub(super) struct SurveyError(String, #[source] std::io::Error);

/// Listens for the time that was asked for.
pub(super) fn survey(arguments: &Arguments) -> Result<Report> {
    let config = arguments.config.as_deref().map(Config::load).transpose()?;
    let own =
        config.as_ref().map(|c| interface::address(&c.interface, c.address).map(|a| (a, c.http_port))).transpose()?;
    let configured = config.as_ref().map(|config| config.interface.clone());
    let name = arguments.interface.clone().or_else(|| configured.clone()).unwrap_or_default();
    let expected = arguments.netboot.map(|place| (*place.ip(), place.port())).or(own);
    let here = |address| interface::prefix(&name, address).is_some();
    let on_its_own_interface = configured.as_ref() == Some(&name) || expected.is_some_and(|(address, _)| here(address));
    let (time, probe) = (Duration::from_secs(arguments.seconds), arguments.probe);
    let task = Task { interface: name.clone(), time, probe, expected, on_its_own_interface };
    if !interface::exists(&name)? {
        // The same words as `serve` has for it.
        interface::address(&name, None)?;
    }
    Ok(run(&task).map_err(|error| SurveyError(name, error))?)
}

/// The table for people.
pub(super) fn table(report: &Report) -> String {
    let mut out = String::new();
    let Report { interface, seconds, probed, servers, findings } = report;
    // Writing into a String cannot fail.
    let how = if *probed { "asked and listened" } else { "listened" };
    let _ = writeln!(out, "{how} on {interface} for {seconds} s");
    if servers.is_empty() {
        let _ = writeln!(out, "no server was heard");
    } else {
        let _ = writeln!(
            out,
            "{:<15}  {:<17}  {:<5}  {:<5}  {:<8}  netboot",
            "server", "card", "lends", "boots", "answered"
        );
    }
    let word = |yes| if yes { "yes" } else { "no" };
    for server in servers {
        let card = server.card.as_deref().unwrap_or("-");
        let answered = if *probed { word(server.answered) } else { "-" };
        let _ = writeln!(
            out,
            "{:<15}  {card:<17}  {:<5}  {:<5}  {answered:<8}  {}",
            server.address.to_string(),
            word(server.lends_addresses),
            word(server.boots),
            server.netboot.as_deref().unwrap_or("-")
        );
    }
    for finding in findings {
        let _ = writeln!(out, "\n{}: {}\n  {}", finding.code, finding.message, finding.hint);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_a_table() {
        let report = serde_json::from_value(serde_json::json!({
            "interface": "eth1", "seconds": 4, "probed": true,
            "servers": [
                {"address": "10.77.0.1", "card": "52:54:00:00:00:01", "lends_addresses": true, "boots": false,
                 "answered": true, "netboot": null},
                {"address": "10.77.0.2", "card": "52:54:00:00:00:02", "lends_addresses": false, "boots": false,
                 "answered": true, "netboot": "http://10.77.0.2"}
            ],
            "findings": [{"code": "other-boot-server", "message": "another boot server answers here: 10.77.0.9", "hint": "switch it off"}]
        }));
        insta::assert_snapshot!(table(&report.unwrap()));
    }
}
