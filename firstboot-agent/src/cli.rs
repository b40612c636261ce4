//! The command line: which of the agent's lives this process is.

use crate::{boot, facts, service};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Installs a machine and keeps it a member of its cluster.
///
/// As PID 1 in the boot image it takes no arguments: it installs the machine, or starts the installed system.
#[derive(Debug, Parser)]
#[command(name = "firstboot-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enroll this machine and join it to its cluster (what shelfboot-agent.service runs).
    Service,
    /// Print what this machine is, as JSON.
    Facts,
}

/// Runs the agent and says how it ended: 0 well, 1 with an error on standard error, 2 for a bad command line.
pub fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot::run();
    }
    let result = match Arguments::parse().command {
        Command::Service => service::run(),
        Command::Facts => facts::print(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one renderer of errors of this program")]
            {
                eprintln!("firstboot-agent: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
