//! The command line: which of the agent's lives this process is.

use crate::{
    boot,
    disk::{plan::Identity, show},
    facts, image, service,
};
use clap::{Args, Parser, Subcommand};
use contracts::disks::DiskPolicy;
use std::{path::PathBuf, process::ExitCode, time::Duration};

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
    ///
    /// Disks, network cards, memory, firmware and its keys, TPM and clock. It only reads. Disks are opened, so it wants root;
    /// what it may not read counts as data that nobody knows.
    Facts {
        /// How long to listen for what switches say of themselves (LLDP); they speak every 30 seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 3)]
        listen: u16,
    },
    /// Print which disk would get the system and why, without touching anything.
    ///
    /// Ends with 0 when a disk would be chosen and with 1 when none would be.
    Plan(PlanArguments),
    /// Write an image onto two partitions as the installer does, or verify what is there; prints JSON.
    #[command(subcommand)]
    Image(image::Command),
}

#[derive(Debug, Args)]
struct PlanArguments {
    /// What `facts` printed on the machine in question; `-` is standard input. This machine, when it is left out.
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// The manifest.json of the template's image, or the template's `disks` as JSON. Without it, no wishes.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// The store: an install of another store counts as somebody else's.
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the agent and says how it ended: 0 well, 1 with an error on standard error, 2 for a bad command line.
pub fn main() -> ExitCode {
    if std::process::id() == 1 {
        boot::run();
    }
    let result = match Arguments::parse().command {
        Command::Service => service::run(),
        Command::Facts { listen } => facts::print(Duration::from_secs(listen.into())),
        Command::Plan(arguments) => plan(&arguments),
        Command::Image(command) => image::run(&command).map(|outcome| print(&outcome)),
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

#[expect(clippy::print_stdout, reason = "the command's product")]
fn print(outcome: &str) {
    println!("{outcome}");
}

#[expect(clippy::print_stdout, reason = "the command's product")]
fn plan(arguments: &PlanArguments) -> anyhow::Result<()> {
    let facts = match &arguments.facts {
        Some(path) => show::read_facts(path)?,
        None => facts::gather(true),
    };
    let rules = arguments.template.as_deref().map_or_else(|| Ok(DiskPolicy::default()), show::read_rules)?;
    let me = Identity::new(arguments.store.clone(), &facts);
    let (text, judged) = show::show(&facts, &rules, &me, arguments.json)?;
    println!("{text}");
    // The words stand on standard output.
    judged.outcome.map(|_| ()).map_err(|refusal| anyhow::anyhow!("no disk would be chosen: {}", refusal.code()))
}
