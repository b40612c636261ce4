//! Many clients in one process that ask a server for boot files the way firmware does, and count what they get. The
//! same clients for every server.
//!
//! What it is for: `cargo xtask bench netboot`. What it never does: judge, or talk to anything but the address that it
//! is given. Start reading at [`tftp`]; [`client`] is one TFTP client without a socket.

#![forbid(unsafe_code)]
#![deny(clippy::print_stderr, clippy::exit)]

pub mod client;
pub mod dhcp;
pub mod http;
pub mod report;
pub mod storm;
pub mod tftp;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use std::{io::Write as _, net::Ipv4Addr};

/// Clients that boot from the network, for measuring servers. The result is one line of JSON on standard output.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch a file by TFTP, over and over, for some seconds.
    Tftp(tftp::Arguments),
    /// Fetch a file by HTTP, once with each client.
    Http(http::Arguments),
    /// Switch machines on in the same second: DHCP, PXE boot server, size of the file, the file.
    Storm(storm::Arguments),
}

/// Which clients, and whom they ask.
#[derive(Debug, Clone, Args)]
pub struct Who {
    /// The server's address.
    #[arg(long)]
    pub server: Ipv4Addr,
    /// How many clients.
    #[arg(long)]
    pub clients: u32,
    /// The first client's address; the others follow. They must be addresses of this host.
    #[arg(long)]
    pub first: Ipv4Addr,
}

impl Who {
    /// The address of a client, counted from 0.
    #[must_use]
    pub fn address(&self, client: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits().wrapping_add(client))
    }
}

/// Runs the program.
///
/// # Errors
/// When a socket cannot be had, or a server refuses.
pub fn main() -> Result<()> {
    let report = match Arguments::parse().command {
        Command::Tftp(arguments) => tftp::run(&arguments)?,
        Command::Http(arguments) => http::run(&arguments)?,
        Command::Storm(arguments) => storm::run(&arguments)?,
    };
    let text = serde_json::to_string(&report).context("writing the result")?;
    writeln!(std::io::stdout(), "{text}").context("writing the result")
}
