//! The installer: from a blank disk to one that the firmware starts. [`journey`] reads top to bottom.

pub mod archive;
pub mod esp;
pub mod freshness;
pub mod journey;
pub mod medium;
pub mod network;
pub mod permission;
pub mod repository;
pub mod retire;
pub mod source;
pub mod stage;
pub mod state;
pub mod way;

use self::{medium::Origin, permission::Permission};
use crate::{
    boot, console,
    logs::Teller,
    report::Reporter,
    retry::Backoff,
    screen::{self, story::Story},
    signal,
};
use contracts::{logs::LogPart, manifest::TrustFloor};
use std::{convert::Infallible, time::Duration};
use uuid::Uuid;

/// Runs the installer until it restarts the machine.
///
/// It tries again without an end: nobody is there who could start it, and whatever is wrong (cable, region, an
/// assignment that IT still has to write) may be put right at any time. The waits grow to two minutes.
///
/// # Errors
/// When not even the runtime can be made.
pub fn run(floor: &TrustFloor, origin: &Origin) -> anyhow::Result<Infallible> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let attempt = Uuid::new_v4();
    screen::begin(Story::new(env!("CARGO_PKG_VERSION"), attempt.to_string()));
    signal::begin();
    let reporter = Reporter::new(attempt);
    let teller = Teller::new(&reporter, LogPart::Installer);
    restart_when_stuck(reporter.clone(), teller.clone());
    let mut permission = Permission::default();
    let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(120));
    loop {
        match runtime.block_on(journey::attempt(&teller, &reporter, floor, origin, &mut permission)) {
            Ok(never) => match never {},
            Err(reported) => {
                // Who only waits for somebody has not come to an end.
                if !reported.waits {
                    runtime.block_on(teller.tell());
                }
                let wait = backoff.next_wait();
                screen::next_try(wait);
                console::line(&format!("trying again in {} s; there is nothing to press", wait.as_secs()));
                network::until_a_cable_is_put_in(wait);
            }
        }
    }
}

/// A thread of its own, because what is stuck may be a thread of the runtime. What is half installed is taken up again.
fn restart_when_stuck(reporter: Reporter, teller: Teller) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(5));
            if let Some(step) = reporter.stuck() {
                console::line(&format!("[{step}] does not come to an end (code too-long); restarting"));
                teller.tell_in_a_hurry();
                boot::restart();
            }
        }
    });
}
