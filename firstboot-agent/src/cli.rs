//! The command line: which of the agent's lives this process is.

use crate::{
    boot::{self, installed::STATE},
    disk::{self, plan::Identity},
    facts, image, service,
    slots::{keep, model::Reason, trial},
    truth::show,
};
use clap::{Args, Parser, Subcommand};
use contracts::disks::DiskPolicy;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

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
    /// Fetch another version into the slot that does not run, and start it on trial.
    ///
    /// Only what neither slot has is fetched. The new version has three starts to become healthy; otherwise the machine goes back to
    /// the one that runs now, by itself. The service does the same when the store names another version; this is for people who do
    /// not want to wait. Cut off, it goes on where it was when it is called again.
    Update(UpdateArguments),
    /// Print what is known of the two slots: the version that counts, one on trial, the last that lost.
    Slots {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print how this installed machine is: name, template, the steps to its cluster.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check that this installed machine is what its template says.
    ///
    /// The root is verified and read-only; looked at are what lies over /etc, what persists, and how long certificates hold. Ends with
    /// 0 when all is well and with 1 when something is not.
    Check {
        /// Print JSON: {ok, findings: [{code, message, help}]}.
        #[arg(long)]
        json: bool,
    },
    /// Give up on the running version, if it is on trial, and say why. systemd calls this when the service never came.
    #[command(hide = true)]
    GiveUp,
    /// Print which disk would get the system and why, without touching anything.
    ///
    /// Ends with 0 when a disk would be chosen and with 1 when none would be.
    Plan(PlanArguments),
    /// Write an image onto two partitions as the installer does, or verify what is there; prints JSON.
    #[command(subcommand)]
    Image(image::Command),
}

#[derive(Debug, Args)]
struct UpdateArguments {
    /// This version, older or newer, whatever the store's channel and rollout say. Without it, the version that they name.
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// Do not restart: the new version is tried at the next start.
    #[arg(long)]
    no_restart: bool,
    /// Print JSON: what was fetched, copied and kept, in bytes.
    #[arg(long)]
    json: bool,
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
        Command::Update(arguments) => update(&arguments),
        Command::Slots { json } => slots(json),
        Command::GiveUp => {
            trial::keep_reason(&Reason::new("never-came-up", "its services did not come up before its time was over"))
        }
        Command::Plan(arguments) => plan(&arguments),
        Command::Image(command) => image::run(&command).map(|outcome| print(&outcome)),
        Command::Status { json } => show::status(json).map(|text| print(&text)),
        Command::Check { json } => check(json),
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

fn check(json: bool) -> anyhow::Result<()> {
    let (text, ok) = show::check(json)?;
    print(&text);
    anyhow::ensure!(ok, "this machine is not what its template says");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's product")]
fn update(arguments: &UpdateArguments) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut machine = service::Machine::here()?;
    let updated = runtime.block_on(service::updates::once(&mut machine, arguments.to.as_deref()))?;
    match (&updated, arguments.json) {
        (_, true) => println!("{}", serde_json::to_string(&updated)?),
        (Some(updated), false) => println!("{}", updated.words()),
        (None, false) => println!("there is nothing to update to"),
    }
    if updated.is_some() && !arguments.no_restart {
        service::updates::start_on_trial()?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's product")]
fn slots(json: bool) -> anyhow::Result<()> {
    let slots = keep::read(Path::new(STATE))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&slots)?);
        return Ok(());
    }
    let Some(slots) = slots else {
        println!("one version, never updated");
        return Ok(());
    };
    println!("counts    {}", slots.good.image_version);
    if let Some(trial) = &slots.trial {
        println!("on trial  {}", trial.to.image_version);
    }
    if let Some(failed) = &slots.failed {
        println!("lost      {}: {} ({})", failed.version.image_version, failed.reason.words, failed.reason.code);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's product")]
fn print(text: &str) {
    println!("{text}");
}

fn plan(arguments: &PlanArguments) -> anyhow::Result<()> {
    let facts = match &arguments.facts {
        Some(path) => disk::show::read_facts(path)?,
        None => facts::gather(true),
    };
    let rules = arguments.template.as_deref().map_or_else(|| Ok(DiskPolicy::default()), disk::show::read_rules)?;
    let me = Identity::new(arguments.store.clone(), &facts);
    let (text, judged) = disk::show::show(&facts, &rules, &me, arguments.json)?;
    print(&text);
    // The words stand on standard output.
    judged.outcome.map(|_| ()).map_err(|refusal| anyhow::anyhow!("no disk would be chosen: {}", refusal.code()))
}
