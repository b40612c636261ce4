use super::*;
use proptest::prelude::*;

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
}

fn machine(step: Step, status: StepStatus, progress: Option<f64>, updated: i64) -> MachineStatus {
    let line = StepLine {
        step,
        status,
        started: at(0),
        updated: at(updated),
        progress,
        eta_seconds: None,
        message: String::new(),
        code: None,
    };
    MachineStatus {
        mac: "02:00:00:00:00:01".into(),
        name: None,
        boot_bytes: 0,
        install_bytes: 0,
        installed: false,
        heard: None,
        firmware_starts: 0,
        images_unheard: 0,
        tries: 0,
        paused_until: None,
        remaining: None,
        steps: vec![line],
    }
}

/// Every step takes this long.
fn journey(seconds: i64) -> BTreeMap<Step, Duration> {
    Step::ALL.into_iter().map(|step| (step, Duration::seconds(seconds))).collect()
}

#[test]
fn without_earlier_journeys_only_the_measured_step_is_named() {
    let times = StepTimes::default();
    let copying = machine(Step::Install, StepStatus::Progress, Some(0.25), 60);
    let left = times.remaining(&copying, Some("w"), at(60)).unwrap();
    assert_eq!((left.step_seconds, left.journey_seconds, left.earlier), (Some(180), None, 0));
    assert_eq!(times.remaining(&copying, None, at(90)).unwrap().step_seconds, Some(150), "time has passed since");
    let begun = machine(Step::Install, StepStatus::Progress, Some(0.01), 60);
    assert_eq!(times.remaining(&begun, None, at(60)).unwrap().step_seconds, None, "too little to tell");
}

#[test]
fn earlier_journeys_give_the_fastest_and_the_slowest() {
    let mut times = StepTimes::default();
    times.learn("w", &journey(10));
    times.learn("w", &journey(20));
    let joining = machine(Step::Join, StepStatus::Started, None, 0);
    let left = times.remaining(&joining, Some("w"), at(5)).unwrap();
    assert_eq!((left.journey_seconds, left.earlier, left.late), (Some((15, 35)), 2, false));
    assert!(times.remaining(&joining, Some("w"), at(21)).unwrap().late);
    assert_eq!(times.remaining(&joining, Some("other"), at(5)).unwrap().journey_seconds, None);
    let copying = machine(Step::Install, StepStatus::Progress, Some(0.5), 100);
    let left = times.remaining(&copying, Some("w"), at(100)).unwrap();
    assert_eq!(left.journey_seconds, Some((100 + 5 * 10, 100 + 5 * 20)), "what is measured replaces what was");
}

#[test]
fn what_has_ended_or_is_stuck_has_no_end_to_name() {
    let times = StepTimes::default();
    for (step, status) in [
        (Step::Ready, StepStatus::Done),
        (Step::Plan, StepStatus::Failed),
        (Step::Enroll, StepStatus::Waiting),
        (Step::PowerOn, StepStatus::Done),
    ] {
        assert_eq!(times.remaining(&machine(step, status, None, 0), None, at(1)), None, "{step}");
    }
}

#[test]
fn a_step_that_was_never_seen_leaves_the_end_open() {
    let mut times = StepTimes::default();
    let mut held_up = journey(10);
    held_up.remove(&Step::Enroll);
    held_up.insert(Step::Join, Duration::hours(3));
    times.learn("w", &held_up);
    let copying = machine(Step::Install, StepStatus::Started, None, 0);
    assert_eq!(times.remaining(&copying, Some("w"), at(1)).unwrap().journey_seconds, None);
    times.learn("w", &journey(10));
    assert_eq!(times.remaining(&copying, Some("w"), at(1)).unwrap().earlier, 1, "of the step known least");
}

#[test]
fn the_file_is_found_again_and_damage_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let file = StepTimesFile::open(folder.path());
    (0..20).for_each(|n| file.learn("w", &journey(n)));
    let again = StepTimesFile::open(folder.path());
    let times = crate::shared::lock(&again.times).clone();
    assert_eq!(times.0["w"][&Step::Ready], (12..20).collect::<Vec<u32>>(), "the latest ones");
    std::fs::write(folder.path().join("step-times.json"), b"{").unwrap();
    assert_eq!(*crate::shared::lock(&StepTimesFile::open(folder.path()).times), StepTimes::default());
}

proptest! {
    #[test]
    fn any_times_and_progress_are_survived(
        started in -1000_i64..1000, updated in -1000_i64..100_000, now in -1000_i64..1_000_000,
        progress: Option<f64>, eta: Option<u64>, known in proptest::collection::vec(0_i64..10_000, 0..20),
    ) {
        let mut times = StepTimes::default();
        known.iter().for_each(|seconds| times.learn("w", &journey(*seconds)));
        let mut machine = machine(Step::Install, StepStatus::Progress, progress, updated);
        machine.steps[0].started = at(started);
        machine.steps[0].eta_seconds = eta.map(|eta| eta % 1_000_000);
        let left = times.remaining(&machine, Some("w"), at(now)).unwrap();
        prop_assert!(left.journey_seconds.is_none_or(|(low, high)| low <= high));
        prop_assert!(left.earlier as usize <= JOURNEYS);
    }
}
