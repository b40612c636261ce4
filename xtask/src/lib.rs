//! Everything that is done to the checkout: setting a host up, the demo, the tests.
//!
//! What it is for: one command per thing that a developer or CI wants done, the same on every Debian host. What
//! it never does: product logic. Start reading at [`Command`], then one module per command.

#![forbid(unsafe_code)]

mod bench;
mod demo;
mod dist;
mod e2e;
mod fuzz;
mod interrupt;
mod killed;
mod output;
mod page;
mod peer_tuf;
mod peers;
mod setup;
mod test;

use anyhow::Result;
use clap::Parser;
use std::path::{Path, PathBuf};

pub use output::explain;

/// Work on Shelfboot: set a host up, see it work, test it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 the work failed, 2 wrong command line, 3 wrong input file, 4 this machine \
                        lacks something, 130 interrupted."
)]
pub enum Command {
    /// Check what the host needs, and install what is missing.
    Setup(setup::Arguments),
    /// Watch a blank machine become a member of a Kubernetes cluster, on real parts in QEMU.
    Demo(demo::Arguments),
    /// Run every check: format, lints, tests, documentation, and the end-to-end journey.
    Test(test::Arguments),
    /// Run one end-to-end case, or list them.
    E2e(e2e::Arguments),
    /// Hold what an image says about itself against the validators of the formats, and let other people's TFTP clients
    /// fetch from netboot.
    Peers(peers::Arguments),
    /// Look at netboot's store page in a real Chromium, on a desk and on a phone.
    Page(page::Arguments),
    /// Run the fuzz targets, each for a while.
    Fuzz(fuzz::Arguments),
    /// Measure beside a peer, and hold the result against a bar.
    Bench(bench::Arguments),
    /// Build the programs as they are handed out into dist/, static and stripped.
    Dist(dist::Arguments),
    /// What `bench netboot` starts in the world that it made.
    #[command(hide = true, name = bench::INSIDE_NETBOOT)]
    InsideBench {
        /// The plan.
        plan: PathBuf,
    },
    /// What `demo` and `e2e` start in the world that they made.
    #[command(hide = true, name = e2e::INSIDE)]
    Inside {
        /// The plan.
        plan: PathBuf,
    },
}

/// Runs a command.
///
/// # Errors
/// When it fails; [`explain`] shows why and what to do next.
pub fn run(command: Command) -> Result<()> {
    // Inside the world the first process ends with the one that made it.
    if !matches!(command, Command::Inside { .. } | Command::InsideBench { .. }) {
        interrupt::end_on_signals()?;
    }
    match command {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::E2e(arguments) => e2e::run(&arguments),
        Command::Page(arguments) => page::run(&arguments),
        Command::Peers(arguments) => peers::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
        Command::Inside { plan } => e2e::inside(&plan),
        Command::InsideBench { plan } => bench::inside_netboot(&plan),
    }
}

/// The checkout that this program was built from.
fn checkout() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}
