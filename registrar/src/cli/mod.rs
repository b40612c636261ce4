//! The command line: arguments in, one exit code out.

mod machines;
mod permits;
mod recovery;
mod report;
mod retire;
mod staging;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use registrar::inventory::is_label;
use registrar::server::Server;
use registrar::state::State;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The region's side of Shelfboot: admits machines, brokers their join, confirms that they are ready.
#[derive(Debug, Parser)]
#[command(name = "registrar", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 the work failed, 2 wrong command line, 3 wrong input file, 4 this machine \
                        lacks something, 130 interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a state folder: CA, server certificate, database
    Init {
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The name that agents and stores expect in the server's certificate
        #[arg(long, value_name = "NAME")]
        server_name: String,
        /// An IP address for the server's certificate; may be repeated
        #[arg(long, value_name = "IP")]
        address: Vec<IpAddr>,
    },
    /// Stores
    #[command(subcommand)]
    Store(StoreCommand),
    /// Answer stores and machines until SIGTERM
    Serve {
        /// The configuration file (YAML)
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Machines
    #[command(subcommand)]
    Machine(machines::MachineCommand),
    /// Permits to install over somebody's data
    #[command(subcommand)]
    Permit(permits::PermitCommand),
    /// Show the keys that open a machine's encrypted state, and write down who asked
    ///
    /// For a disk whose machine does not open it any more: `cryptsetup open` takes the key as it is printed.
    RecoveryKey(recovery::RecoveryArguments),
    /// Wipe a machine for the shelf: it is revoked, and wipes its own disks when it next starts from the network
    ///
    /// Only disks with what this very machine installed are wiped. It installs nothing until its entry is opened again. The order is
    /// signed, for this machine and its key; harmless to repeat.
    Retire(retire::RetireArguments),
    /// Show the machines that were ordered to the shelf, and which are ready for it
    Retired(retire::RetiredArguments),
    /// Look at spares before they go to the shelf
    #[command(subcommand)]
    Stage(staging::StageCommand),
    /// Show what was found of machines that were looked at
    Staged(staging::StagedArguments),
    /// Print shell completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Make a store's credential and register its key
    Add {
        /// The store's name, as in the inventory
        name: String,
        /// The state folder
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Where the store reaches a registrar; may be repeated, in order of preference
        #[arg(long, value_name = "ADDR:PORT", required = true)]
        endpoint: Vec<String>,
        /// The credential file to write (mode 0600)
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Replace the credential of a store that was added before; the old one stops working
        #[arg(long)]
        replace: bool,
    },
}

/// Runs the program.
pub(crate) async fn main() -> ExitCode {
    // The client library logs every failed call as an error; the registrar says what it means, once.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // Otherwise a closed standard error would end the service by a panic.
    log.log_internal_errors(false).init();
    // One provider, chosen here: with two in one process rustls would refuse to choose.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = Arguments::parse();
    report::exit_code(match arguments.command {
        Command::Serve { config } => serve(&config).await,
        command => until_interrupted(run(command)).await,
    })
}

/// Ctrl-C or SIGTERM before the work was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Drops the work when a signal comes first.
async fn until_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        biased;
        done = work => done,
        _ = terminate.recv() => Err(Interrupted.into()),
        _ = interrupt.recv() => Err(Interrupted.into()),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    let now = OffsetDateTime::now_utc();
    let mut text = Vec::new();
    let out = &mut text;
    match command {
        Command::Init { state, server_name, address } => {
            State::init(&state, &server_name, &address, now).await.context("nothing was made")?.db.close().await;
            writeln!(out, "{}", state.join("ca.pem").display())?;
        }
        Command::Store(StoreCommand::Add { name, state, endpoint, out: file, replace }) => {
            if let Some(bad) = endpoint.iter().find(|endpoint| !is_endpoint(endpoint)) {
                return Err(report::Usage(format!("--endpoint needs ADDRESS:PORT, not `{bad}`")).into());
            }
            let state = State::open(&state).await?;
            state.add_store(&name, endpoint, &file, replace, now).await.context("the store was not added")?;
            state.db.close().await;
            writeln!(out, "{}", file.display())?;
        }
        Command::Serve { config } => serve(&config).await?,
        Command::Machine(command) => machines::run(command, out).await?,
        Command::Permit(command) => permits::run(command, now, out).await?,
        Command::RecoveryKey(arguments) => recovery::run(arguments, now, out).await?,
        Command::Retire(arguments) => retire::retire(arguments, now, out).await?,
        Command::Retired(arguments) => retire::list(arguments, now, out).await?,
        Command::Stage(command) => staging::run(command, now, out).await?,
        Command::Staged(arguments) => staging::list(arguments, out).await?,
        // Into memory: the generator panics when it cannot write.
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "registrar", out);
        }
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&text).and_then(|()| stdout.flush()).map_err(|error| report::Output(error).into())
}

async fn serve(config: &std::path::Path) -> anyhow::Result<()> {
    let config = registrar::config::read(config).context("the configuration is not usable")?;
    let stop = CancellationToken::new();
    let start = async { Server::start(&config, stop.clone()).await.context("the registrar did not start") };
    let server = until_interrupted(start).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tracing::info!(address = %server.address()?, "ready");
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () };
        tracing::info!("stopping");
        stop.cancel();
    });
    server.run().await;
    Ok(())
}

/// `ADDRESS:PORT`, where the address is an IP address or a host name.
fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    port.parse::<u16>().is_ok_and(|port| port != 0) && (address || host.split('.').all(is_label))
}
