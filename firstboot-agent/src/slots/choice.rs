//! Which version a machine is to have, by what the repository says, and whether its step can be gone back. Pure.

use contracts::{machine::StateFormat, rollout::Rollout};
use time::OffsetDateTime;

/// What is known when a machine asks itself whether there is something newer.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The version that runs and counts.
    pub running: &'a str,
    /// The version that lost here last.
    pub failed: Option<&'a str>,
    /// The version that the channel names.
    pub channel: &'a str,
    /// The rollout on the channel.
    pub rollout: Option<&'a Rollout>,
    /// The store.
    pub store: Option<&'a str>,
    /// A clock that the store has set.
    pub now: OffsetDateTime,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Stay.
    Stay(&'static str),
    /// Take this version.
    Take(&'a str),
}

/// The version that this machine is to have.
#[must_use]
pub fn choose<'a>(known: &Known<'a>) -> Choice<'a> {
    let rollout = known.rollout.filter(|rollout| rollout.check().is_ok());
    // Halting a rollout stops who has not begun. Who has its version keeps it: going back is another rollout.
    if rollout.is_some_and(|rollout| rollout.image_version == known.running) {
        return Choice::Stay("the rollout's version runs");
    }
    let reached = |rollout: &&Rollout| known.store.is_some_and(|store| rollout.reaches(store, known.now));
    let wanted = rollout.filter(reached).map_or(known.channel, |rollout| rollout.image_version.as_str());
    if wanted == known.running {
        return Choice::Stay("the version that is named runs");
    }
    if known.failed == Some(wanted) {
        return Choice::Stay("the version that is named did not work here");
    }
    Choice::Take(wanted)
}

/// Whether the machine may be restarted now into a version: the rollout's window counts for the rollout's version.
#[must_use]
pub fn may_restart(rollout: Option<&Rollout>, image_version: &str, now: OffsetDateTime) -> bool {
    rollout.is_none_or(|rollout| rollout.image_version != image_version || rollout.is_open(now))
}

/// Why the version before could not go on with the state that the new one leaves; `None` when it could.
#[must_use]
pub fn unsafe_step(before: &[StateFormat], after: &[StateFormat]) -> Option<String> {
    let changed = changed(before, after).into_iter().find(|(_, to)| !to.going_back_safe);
    changed.map(|(from, to)| format!("{} changes from {} to {}", to.path, from.format, to.format))
}

/// State whose format is another one afterwards: as it was, and as it will be.
#[must_use]
pub fn changed<'a>(before: &'a [StateFormat], after: &'a [StateFormat]) -> Vec<(&'a StateFormat, &'a StateFormat)> {
    let pair = |to: &'a StateFormat| before.iter().find(|from| from.path == to.path).map(|from| (from, to));
    after.iter().filter_map(pair).filter(|(from, to)| from.format != to.format).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::rollout::{Ring, Window};
    use time::macros::datetime;

    const START: OffsetDateTime = datetime!(2026-11-21 02:00 UTC);

    fn rollout() -> Rollout {
        Rollout {
            version: 1,
            template: "t".into(),
            channel: "stable".into(),
            image_version: "2".into(),
            start: START,
            rings: vec![
                Ring { after_hours: 0, percent: 0, stores: vec!["first".into()] },
                Ring { after_hours: 24, percent: 100, stores: vec![] },
            ],
            window: Some(Window { from_minute: 60, to_minute: 300 }),
            halted: false,
        }
    }

    #[test]
    fn a_rollout_reaches_a_store_when_its_ring_begins() {
        let rollout = rollout();
        let known = Known {
            running: "1",
            failed: None,
            channel: "1",
            rollout: Some(&rollout),
            store: Some("first"),
            now: START,
        };
        assert_eq!(choose(&known), Choice::Take("2"));
        let second = Known { store: Some("second"), ..known };
        assert!(matches!(choose(&second), Choice::Stay(_)));
        assert_eq!(choose(&Known { now: datetime!(2026-11-22 02:00 UTC), ..second }), Choice::Take("2"));
        assert!(matches!(choose(&Known { store: None, ..known }), Choice::Stay(_)), "a store that nobody knows waits");
        assert!(matches!(choose(&Known { failed: Some("2"), ..known }), Choice::Stay(_)));
        // Who has it keeps it, also when the rollout is halted and the channel names the version before.
        let halted = Rollout { halted: true, ..rollout.clone() };
        assert!(matches!(choose(&Known { running: "2", rollout: Some(&halted), ..known }), Choice::Stay(_)));
        assert!(matches!(choose(&Known { rollout: Some(&halted), ..known }), Choice::Stay(_)));
        let senseless = Rollout { rings: vec![], ..rollout.clone() };
        assert!(matches!(choose(&Known { rollout: Some(&senseless), ..known }), Choice::Stay(_)));
    }

    #[test]
    fn without_a_rollout_the_channel_counts() {
        let known = Known { running: "2", failed: Some("3"), channel: "1", rollout: None, store: None, now: START };
        assert_eq!(choose(&known), Choice::Take("1"), "IT may name an older one");
        assert!(matches!(choose(&Known { channel: "3", ..known }), Choice::Stay(_)));
        assert!(matches!(choose(&Known { channel: "2", ..known }), Choice::Stay(_)));
    }

    #[test]
    fn machines_are_restarted_in_the_rollouts_window() {
        let rollout = rollout();
        assert!(may_restart(Some(&rollout), "2", datetime!(2026-11-21 02:00 UTC)));
        assert!(!may_restart(Some(&rollout), "2", datetime!(2026-11-21 12:00 UTC)));
        assert!(may_restart(Some(&rollout), "3", datetime!(2026-11-21 12:00 UTC)));
        assert!(may_restart(None, "2", START));
    }

    #[test]
    fn the_template_says_which_steps_cannot_be_gone_back() {
        let format = |path: &str, format: &str, going_back_safe| StateFormat {
            path: path.into(),
            format: format.into(),
            going_back_safe,
            snapshot: vec![],
        };
        let before = [format("/var/lib/etcd", "etcd-3.5", true), format("/var/lib/x", "1", false)];
        assert_eq!(unsafe_step(&before, &before), None, "nothing changes");
        assert_eq!(unsafe_step(&before, &[format("/var/lib/etcd", "etcd-3.6", true)]), None);
        let words = unsafe_step(&before, &[format("/var/lib/etcd", "etcd-3.6", false)]).unwrap();
        assert_eq!(words, "/var/lib/etcd changes from etcd-3.5 to etcd-3.6");
        assert_eq!(unsafe_step(&before, &[format("/var/lib/new", "1", false)]), None, "there was none before");
    }
}
