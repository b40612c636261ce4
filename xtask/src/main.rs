//! `cargo xtask`: see `cargo xtask --help`.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match xtask::run(xtask::Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => xtask::explain(&error),
    }
}
