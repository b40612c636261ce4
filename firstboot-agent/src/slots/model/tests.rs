//! The model against a boot loader that counts, and a world that pulls plugs.

use super::*;
use proptest::prelude::*;

const OLD: &str = "old";
const NEW: &str = "new";

fn version(name: &str) -> Version {
    Version { image_version: name.into(), root_hash: name.into() }
}

/// How one start of the trial ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The plug is pulled before the agent has a word.
    CutBeforeAgent,
    /// The plug is pulled later.
    Cut,
    /// A panic whose last words are kept, or a hardware watchdog that says that it was it.
    Panic,
    Watchdog,
    /// It stands still, and nothing tells.
    Hang,
    /// The deadline passed.
    Deadline,
    /// It is healthy.
    Healthy,
}

/// The disk: what the agent keeps, and what the boot loader goes by.
struct Machine {
    slots: Slots,
    /// The trial's entry; `None` when it is not there. No count: it is not counted any more.
    entry: Option<Option<Counter>>,
    old_entry: bool,
    evidence: Evidence,
    boots: u32,
    /// Starts of the version on trial.
    trials: u32,
}

impl Machine {
    fn updated() -> Self {
        let slots = Slots::new(version(OLD)).on_trial(version(NEW), None).armed();
        Self {
            slots,
            entry: Some(Some(Counter::FRESH)),
            old_entry: true,
            evidence: Evidence::default(),
            boots: 0,
            trials: 0,
        }
    }

    /// As systemd-boot and our GRUB script do: the trial first as long as it has tries.
    fn choose(&mut self) -> &'static str {
        match &mut self.entry {
            Some(None) => NEW,
            Some(Some(counter)) if counter.left > 0 => {
                counter.left -= 1;
                counter.done += 1;
                NEW
            }
            // One that is out of tries is better than none.
            Some(Some(_)) if !self.old_entry => NEW,
            _ => OLD,
        }
    }

    fn begin(&mut self, root_hash: &str) -> Began {
        let boot_id = self.boots.to_string();
        let counter = self.entry.flatten();
        let evidence = std::mem::take(&mut self.evidence);
        let (slots, began) = self.slots.begin(&Seen { root_hash, boot_id: &boot_id, counter, evidence });
        self.slots = slots;
        if let Began::Trial(counter) | Began::GoodBeforeTrial(counter) = began {
            self.entry = Some(Some(counter));
        }
        if self.slots.trial.is_none() && began == Began::FellBack {
            self.entry = None;
        }
        began
    }

    /// One start, up to its end. True when a version was settled on.
    fn start(&mut self, end: End) -> Option<&'static str> {
        self.boots += 1;
        let chosen = self.choose();
        if chosen == OLD {
            // The old version is healthy; the plug may be pulled there too, before or after it had a word.
            if end == End::CutBeforeAgent {
                return None;
            }
            return (self.begin(OLD) == Began::FellBack).then_some(OLD);
        }
        self.trials += 1;
        if end == End::CutBeforeAgent {
            return None;
        }
        let began = self.begin(NEW);
        assert!(matches!(began, Began::Trial(_) | Began::TrialForGood), "{began:?}");
        match end {
            End::CutBeforeAgent | End::Cut | End::Hang => None,
            End::Panic => {
                self.evidence.panic = true;
                None
            }
            End::Watchdog => {
                self.evidence.watchdog = true;
                None
            }
            End::Deadline => {
                self.slots = self.slots.give_up(Reason::new("unhealthy", "it was not healthy in time"));
                None
            }
            End::Healthy => {
                self.entry = Some(None);
                self.slots = self.slots.commit();
                self.old_entry = false;
                Some(NEW)
            }
        }
    }
}

fn bad_end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::CutBeforeAgent),
        Just(End::Cut),
        Just(End::Panic),
        Just(End::Watchdog),
        Just(End::Hang),
        Just(End::Deadline),
    ]
}

fn cut() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::CutBeforeAgent), Just(End::Cut)]
}

proptest! {
    /// Whatever goes wrong and in whatever order, the machine is back at its old version after a bounded number of starts.
    #[test]
    fn a_version_that_never_becomes_healthy_loses(ends in proptest::collection::vec(bad_end(), 0..64), last in bad_end()) {
        let mut machine = Machine::updated();
        // Of the old version's starts only those count that nobody cuts off before it has a word.
        let last = if last == End::CutBeforeAgent { End::Cut } else { last };
        let settled = ends.into_iter().chain(std::iter::repeat_n(last, 40)).find_map(|end| machine.start(end));
        prop_assert_eq!(settled, Some(OLD));
        prop_assert!(machine.trials <= TRIES + GIVEN_BACK_MOST, "{} starts", machine.trials);
        prop_assert_eq!(&machine.slots.good, &version(OLD));
        prop_assert_eq!(machine.slots.failed.map(|failed| failed.version), Some(version(NEW)));
    }

    /// Plugs alone never make a healthy version lose, up to the bound, wherever in its start they are pulled.
    #[test]
    fn a_healthy_version_wins_over_pulled_plugs(ends in proptest::collection::vec(cut(), 0..=GIVEN_BACK_MOST as usize)) {
        let mut machine = Machine::updated();
        for end in ends {
            prop_assert_eq!(machine.start(end), None);
        }
        // The next starts are left in peace; the old version may be started in between, and hands over.
        let settled = (0..3).find_map(|_| machine.start(End::Healthy));
        prop_assert_eq!(settled, Some(NEW));
        prop_assert_eq!(&machine.slots.good, &version(NEW));
        prop_assert!(machine.slots.failed.is_none());
    }

    /// Nothing that happens to the good version makes it lose: there is nothing that counts its starts.
    #[test]
    fn the_good_version_stays(watchdog: bool, panic: bool, starts in 1u32..20) {
        let mut slots = Slots::new(version(OLD));
        for _ in 0..starts {
            let seen = Seen { root_hash: OLD, boot_id: "b", counter: None, evidence: Evidence { watchdog, panic } };
            let (next, began) = slots.begin(&seen);
            prop_assert_eq!(began, Began::Good);
            slots = next;
        }
        prop_assert_eq!(slots, Slots::new(version(OLD)));
    }

    /// A version that is neither good nor on trial is called what it is, whatever else is known.
    #[test]
    fn a_stale_version_is_never_taken_for_another(on_trial: bool, left in 0u32..4, done in 0u32..9) {
        let slots = Slots::new(version(OLD));
        let slots = if on_trial { slots.on_trial(version(NEW), None) } else { slots };
        let counter = Some(Counter { left, done });
        let seen = Seen { root_hash: "older", boot_id: "b", counter, evidence: Evidence::default() };
        prop_assert_eq!(slots.begin(&seen).1, Began::Stale);
    }

    /// After an unsafe step the version before is stale, however often the new one fails.
    #[test]
    fn there_is_no_way_back_over_an_unsafe_step(ends in proptest::collection::vec(bad_end(), 1..20)) {
        let mut machine = Machine::updated();
        machine.boots += 1;
        prop_assert_eq!(machine.choose(), NEW);
        machine.begin(NEW);
        prop_assert_eq!(&machine.slots.services_start(), &machine.slots, "a safe step can be gone back");
        machine.slots.trial.as_mut().unwrap().unsafe_step = Some("etcd changes its format".into());
        machine.slots = machine.slots.services_start();
        prop_assert_eq!(machine.slots.counts(), &version(NEW));
        (machine.entry, machine.old_entry) = (Some(None), false);
        for end in ends {
            prop_assert_eq!(machine.start(end), None);
            prop_assert!(machine.slots.failed.is_none());
        }
        let seen = Seen { root_hash: OLD, boot_id: "b", counter: None, evidence: Evidence::default() };
        prop_assert_eq!(machine.slots.begin(&seen).1, Began::Stale);
        prop_assert_eq!(machine.start(End::Healthy), Some(NEW));
    }
}

#[test]
fn three_deadlines_are_enough() {
    let mut machine = Machine::updated();
    for _ in 0..TRIES {
        assert_eq!(machine.start(End::Deadline), None);
    }
    assert_eq!(machine.start(End::Deadline), Some(OLD), "the old version is started, and says so");
    let failed = machine.slots.failed.unwrap();
    assert_eq!((failed.version, failed.reason.code.as_str(), failed.told), (version(NEW), "unhealthy", false));
}

#[test]
fn a_hang_that_the_watchdog_ends_loses_after_three_starts_and_a_silent_one_after_nine() {
    for (end, most) in [(End::Watchdog, TRIES), (End::Panic, TRIES), (End::Hang, TRIES + GIVEN_BACK_MOST)] {
        let mut machine = Machine::updated();
        assert_eq!((0..40).find_map(|_| machine.start(end)), Some(OLD), "{end:?}");
        assert_eq!(machine.trials, most, "{end:?}");
    }
}

#[test]
fn a_boot_loader_that_does_not_count_is_noticed() {
    let mut slots = Slots::new(version(OLD)).on_trial(version(NEW), None);
    let seen = Seen { root_hash: OLD, boot_id: "b", counter: Some(Counter::FRESH), evidence: Evidence::default() };
    for _ in 0..PASSED_OVER_MOST {
        let (next, began) = slots.begin(&seen);
        assert_eq!(began, Began::GoodBeforeTrial(Counter::FRESH));
        slots = next;
    }
    let (slots, began) = slots.begin(&seen);
    assert_eq!(began, Began::FellBack);
    assert_eq!(slots.failed.unwrap().reason.code, "not-tried");
}

#[test]
fn a_power_cut_before_the_boot_files_costs_nothing() {
    let slots = Slots::new(version(OLD)).on_trial(version(NEW), None);
    let seen = Seen { root_hash: OLD, boot_id: "b", counter: None, evidence: Evidence::default() };
    assert_eq!(slots.begin(&seen), (Slots::new(version(OLD)), Began::Good));
    let (slots, began) = slots.armed().begin(&seen);
    assert_eq!((began, slots.failed.unwrap().reason.code.as_str()), (Began::FellBack, "boot-files-lost"));
}

#[test]
fn what_is_kept_is_read_again() {
    let slots = Slots::new(version(OLD)).on_trial(version(NEW), None).give_up(Reason::new("a", "b"));
    let text = serde_json::to_vec(&slots).unwrap();
    assert_eq!(serde_json::from_slice::<Slots>(&text).unwrap(), slots);
    let short: Slots = serde_json::from_str(r#"{"version":1,"good":{"image_version":"1","root_hash":"ab"}}"#).unwrap();
    assert!(short.trial.is_none() && short.failed.is_none());
}
