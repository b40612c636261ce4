//! The installed system could not be started: the store and the region hear of it, then the machine restarts. What is
//! wrong may pass (a loose cable), so it tries again for ever, with waits that grow: nobody is there to press a key.

use super::restart_after;
use crate::{failure::Failure, install::network, logs::Teller, report::Reporter, signal};
use contracts::{logs::LogPart, manifest::TrustFloor, step::Step};
use std::{convert::Infallible, time::Duration};
use uuid::Uuid;

/// How long the words may take to reach netboot.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// A machine that restarts for ever beeps in the first of these starts only.
const STARTS_WITH_BEEPS: u32 = 5;

/// Where it went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The root on the disk is not what was installed.
    Root,
    /// The wrong version was started.
    Version,
    /// The state is not what it should be; the code says how.
    State(&'static str),
    /// Anything else on the way to systemd.
    Start,
}

/// Why the installed system was not started.
#[derive(Debug)]
pub struct Trouble {
    pub(super) place: Place,
    pub(super) error: anyhow::Error,
    /// Starts before this one that did not come to their end.
    pub(super) unfinished: u32,
}

impl Trouble {
    fn step(&self) -> Step {
        match self.place {
            Place::Root => Step::Verify,
            Place::Version | Place::State(_) | Place::Start => Step::Restart,
        }
    }

    fn what(&self) -> &'static str {
        match self.place {
            Place::Root => "checking what is on the disk",
            Place::Version | Place::State(_) | Place::Start => "starting the installed system",
        }
    }

    fn failure(&self) -> Failure {
        match self.place {
            Place::Root => Failure::new(
                "root-damaged",
                format!(
                    "the system on the disk is damaged: {:#}. The disk may be failing: put in an empty one, and let IT \
                     re-open this machine's entry",
                    self.error
                ),
            ),
            Place::State(code) => Failure::new(code, format!("{:#}", self.error)),
            Place::Version => Failure::new("wrong-version", format!("{:#}", self.error)),
            Place::Start => {
                Failure::new("start-failed", format!("the installed system could not be started: {:#}", self.error))
            }
        }
    }

    /// A disk that stays damaged must not fill the region with events.
    fn wait(&self) -> Duration {
        let wait = match self.place {
            // Starts are counted in the state. What is wrong with it is hardly over in a minute.
            Place::State(_) => LONGEST_WAIT,
            _ => FIRST_WAIT.saturating_mul(1 << self.unfinished.min(10)).min(LONGEST_WAIT),
        };
        wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }
}

/// Tells netboot, where it can be found, and restarts.
pub(super) fn tell_and_restart(trouble: &Trouble, floor: &TrustFloor) -> ! {
    // Where starts cannot be counted nothing would end the noise.
    signal::begin_after(trouble.unfinished, (1..=STARTS_WITH_BEEPS).contains(&trouble.unfinished));
    let reporter = Reporter::new(Uuid::new_v4());
    if let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        runtime.block_on(tell(trouble, floor, &reporter));
    }
    restart_after(trouble.wait())
}

async fn tell(trouble: &Trouble, floor: &TrustFloor, reporter: &Reporter) {
    let found = reporter
        .step(Step::Network, "looking for the store's boot service", network::find(floor, network::Given::default()))
        .await;
    if let Ok(lan) = found {
        reporter.connect(lan.netboot, &lan.mac);
    }
    // Without the store it is still said on the console.
    let said = async { Err::<(Infallible, String), _>(trouble.failure()) };
    let _ = reporter.step(trouble.step(), trouble.what(), said).await;
    reporter.flush(FLUSH_LIMIT).await;
    Teller::new(reporter, LogPart::Installer).tell().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(unfinished: u32) -> Trouble {
        Trouble { place: Place::Root, error: anyhow::anyhow!("block 7 does not match"), unfinished }
    }

    #[test]
    fn it_says_which_block_and_what_to_do() {
        let failure = trouble(1).failure();
        assert_eq!((trouble(1).step(), failure.code), (Step::Verify, "root-damaged"));
        assert!(failure.to_string().contains("block 7") && failure.to_string().contains("re-open"), "{failure}");
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        for (unfinished, most) in [(0, 10), (1, 20), (5, 320), (6, 600), (u32::MAX, 600)] {
            let (wait, most) = (trouble(unfinished).wait(), Duration::from_secs(most));
            assert!(wait <= most && wait >= most / 2, "{wait:?} after {unfinished}");
        }
    }
}
