//! What the machine is doing, as far as somebody has to know who hears and sees no more than beeps and a light. Pure.

use crate::screen::{advice, story::Story};
use contracts::{
    event::{StepEvent, StepStatus},
    step::Step,
};
use std::time::Instant;

/// It.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It works; nothing to do.
    Working,
    /// It waits for the region, or tries again by itself; nothing to do.
    Waiting,
    /// Somebody in the store has to do something. The store page says what.
    Trouble,
    /// It is about to restart.
    Restarting,
    /// It is a member of its cluster, or ready for the shelf.
    Finished,
}

impl Doing {
    /// Each.
    pub const ALL: [Self; 5] = [Self::Working, Self::Waiting, Self::Trouble, Self::Restarting, Self::Finished];
}

/// Codes with which a machine waits that can be switched off and put away.
const FOR_THE_SHELF: [&str; 2] = ["retired", "staged"];
/// Codes of updates: the machine goes on with the version that it has.
const NO_MATTER: [&str; 2] = ["update", "update-lost"];

/// Follows what is reported.
#[derive(Debug)]
pub struct Follower {
    story: Story,
    /// How often in a row a step has ended with the code of the trouble.
    times: u32,
    /// Starts of this machine that ended badly, one after the other.
    starts: u32,
}

impl Follower {
    /// Follows from here on; so many starts before this one ended badly.
    #[must_use]
    pub fn new(starts: u32) -> Self {
        Self { story: Story::new(env!("CARGO_PKG_VERSION"), String::new()), times: 0, starts }
    }

    /// Takes up what happened to a step, and says what that comes to.
    pub fn hear(&mut self, at: Instant, event: &StepEvent) -> Doing {
        let before = self.story.trouble.as_ref().map(|trouble| trouble.code.clone());
        self.story.hear(at, event);
        self.times = match (&self.story.trouble, before) {
            (None, _) => 0,
            (Some(trouble), Some(before)) if trouble.code == before => {
                let again = matches!(event.status, StepStatus::Waiting | StepStatus::Failed);
                self.times.saturating_add(u32::from(again && event.code.as_ref() == Some(&before)))
            }
            (Some(_), _) => self.starts.saturating_add(1),
        };
        self.doing()
    }

    fn doing(&self) -> Doing {
        let (story, now) = (&self.story, self.story.now.as_ref());
        let trouble = story.trouble.as_ref().filter(|trouble| !NO_MATTER.contains(&trouble.code.as_str()));
        match trouble {
            Some(trouble) if FOR_THE_SHELF.contains(&trouble.code.as_str()) => Doing::Finished,
            Some(trouble) if advice::somebody_must_act(&trouble.code, trouble.waits, self.times) => Doing::Trouble,
            // What it waited for may have come: a download that goes on.
            Some(_) if now.is_some_and(|now| now.fraction.is_some()) => Doing::Working,
            Some(_) => Doing::Waiting,
            None if now.is_some_and(|now| now.step == Step::Restart) => Doing::Restarting,
            None if story.done == Some(Step::Ready) => Doing::Finished,
            None => Doing::Working,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::story::tests::event;
    use StepStatus::{Done, Failed, Progress, Started, Waiting};

    /// What is said, and what it comes to, one after the other.
    fn follow(steps: &[(Step, StepStatus, Option<&str>, Doing)]) {
        let mut follower = Follower::new(0);
        for (number, (step, status, code, expected)) in steps.iter().enumerate() {
            let mut event = event(*step, *status, "words", *code);
            event.progress = (*status == Progress).then_some(0.5);
            assert_eq!(follower.hear(Instant::now(), &event), *expected, "number {number}: {step} {status:?}");
        }
    }

    #[test]
    fn an_install_works_restarts_and_arrives() {
        follow(&[
            (Step::Network, Started, None, Doing::Working),
            (Step::Network, Done, None, Doing::Working),
            (Step::Install, Progress, None, Doing::Working),
            (Step::Verify, Done, None, Doing::Working),
            (Step::Restart, Started, None, Doing::Restarting),
        ]);
        follow(&[
            (Step::Restart, Done, None, Doing::Working),
            (Step::Enroll, Waiting, Some("pending"), Doing::Waiting),
            (Step::Enroll, Started, None, Doing::Waiting),
            (Step::Enroll, Done, None, Doing::Working),
            (Step::Ready, Waiting, Some("not-ready"), Doing::Working),
            (Step::Ready, Done, None, Doing::Finished),
        ]);
    }

    #[test]
    fn a_refused_disk_needs_somebody_through_every_try_until_it_is_gone() {
        follow(&[
            (Step::Plan, Failed, Some("foreign-data"), Doing::Trouble),
            (Step::Network, Started, None, Doing::Trouble),
            (Step::Network, Done, None, Doing::Trouble),
            (Step::Plan, Failed, Some("foreign-data"), Doing::Trouble),
            (Step::Plan, Done, None, Doing::Working),
        ]);
    }

    #[test]
    fn a_claim_code_has_to_be_read_out_by_somebody() {
        follow(&[(Step::Enroll, Waiting, Some("claim"), Doing::Trouble), (Step::Enroll, Done, None, Doing::Working)]);
    }

    #[test]
    fn what_passes_by_itself_needs_somebody_when_it_does_not() {
        follow(&[
            (Step::Install, Waiting, Some("connection"), Doing::Waiting),
            (Step::Install, Progress, None, Doing::Working),
            (Step::Install, Failed, Some("install"), Doing::Waiting),
            (Step::Network, Started, None, Doing::Waiting),
            (Step::Install, Failed, Some("install"), Doing::Waiting),
            (Step::Install, Failed, Some("install"), Doing::Trouble),
        ]);
    }

    #[test]
    fn what_ended_badly_before_the_restart_counts() {
        let mut damaged = event(Step::Verify, Failed, "block 7", Some("root-damaged"));
        damaged.progress = None;
        for (starts, expected) in
            [(0, Doing::Waiting), (1, Doing::Waiting), (2, Doing::Trouble), (u32::MAX, Doing::Trouble)]
        {
            assert_eq!(Follower::new(starts).hear(Instant::now(), &damaged), expected, "after {starts}");
        }
    }

    #[test]
    fn an_update_that_failed_is_no_trouble_in_the_store() {
        follow(&[
            (Step::Ready, Done, None, Doing::Finished),
            (Step::Install, Started, None, Doing::Finished),
            (Step::Install, Failed, Some("update"), Doing::Finished),
            (Step::Verify, Done, None, Doing::Working),
            (Step::Restart, Started, None, Doing::Restarting),
        ]);
    }

    #[test]
    fn a_machine_that_was_wiped_is_ready_for_the_shelf() {
        follow(&[
            (Step::Partition, Started, None, Doing::Working),
            (Step::Partition, Done, None, Doing::Working),
            (Step::Partition, Waiting, Some("retired"), Doing::Finished),
            (Step::Network, Started, None, Doing::Finished),
        ]);
    }
}
