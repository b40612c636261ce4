use super::*;
use crate::roster::{Progress, Standing};
use contracts::{assignment::ImageRef, store::StoreMachine};
use proptest::prelude::*;
use uuid::Uuid;

fn at(minutes: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(9000) + Duration::minutes(minutes)
}

fn asker(minutes: i64) -> Asker<'static> {
    Asker { now: at(minutes), architecture: Some("x86_64") }
}

fn mac(n: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, n])
}

fn window(name: &str, opening: Opening) -> AdmissionWindow {
    AdmissionWindow { name: name.into(), opening, architectures: vec![], mac_prefixes: vec![] }
}

/// A store with a machine of its own (number 1) and these windows, each with so many places.
fn roster(windows: Vec<AdmissionWindow>, places: u32) -> Roster {
    let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
    let entry = |name: String, selector| StoreMachine { name, selector, image: image.clone(), epoch: 1 };
    let mut machines = vec![entry("w1".into(), MachineSelector::Mac(mac(1).to_string()))];
    for window in &windows {
        let place = |n| entry(window.place(n), MachineSelector::Window(window.name.clone()));
        machines.extend((1..=places).map(place));
    }
    let document = StoreAssignments {
        version: 1,
        store: "s".into(),
        generation: 1,
        machines,
        windows,
        orders: vec![],
        retired: vec![],
        staging: None,
    };
    Roster { assignments: Some(document), ..Roster::default() }
}

fn take(roster: &mut Roster, machine: u8, minutes: i64) -> Option<String> {
    let line = roster.bind(mac(machine), Progress::None, asker(minutes))?;
    roster.ledger.insert(mac(machine), line.clone());
    Some(line.entry)
}

fn open(roster: &mut Roster, minutes: Option<u32>, machines: Option<u32>, now: i64) -> Result<(), WindowError> {
    let local = roster.change_window(None, WindowAction::Open { minutes, machines }, at(now))?;
    roster.windows.insert(local.of.name.clone(), local);
    Ok(())
}

#[test]
fn a_window_lets_machines_in_until_its_time_or_its_places_are_over() {
    let mut roster = roster(vec![window("refit", Opening::Until(at(60)))], 2);
    assert_eq!(roster.standing(mac(7)), Standing::NotListed, "a window is not asked where nobody asks");
    assert_eq!(take(&mut roster, 7, 0).as_deref(), Some("refit-1"));
    assert_eq!(take(&mut roster, 1, 0).as_deref(), Some("w1"), "the inventory's own machines leave the places alone");
    assert_eq!(take(&mut roster, 8, 59).as_deref(), Some("refit-2"));
    assert_eq!(take(&mut roster, 9, 59), None, "full");
    assert!(roster.windows(at(59))[0].open_until.is_none());
    // Whoever has a place keeps it.
    assert!(matches!(roster.asks(mac(7), asker(1000)), Standing::Listed { installed: false, .. }));
    let line = roster.installing(mac(7), Uuid::nil(), asker(1000)).unwrap();
    roster.ledger.insert(mac(7), line);
    let line = roster.installed(mac(7), Some(Uuid::nil()), at(1000)).unwrap();
    roster.ledger.insert(mac(7), line);
    assert!(matches!(roster.asks(mac(7), asker(1001)), Standing::Listed { installed: true, .. }));
}

#[test]
fn the_store_opens_only_what_the_region_leaves_to_it_and_not_for_longer() {
    let by_store = window("spare", Opening::ByStore { longest_minutes: 30 });
    let mut roster = roster(vec![by_store, window("refit", Opening::Until(at(0)))], 3);
    assert_eq!(take(&mut roster, 7, 1), None, "nobody has opened it");
    assert_eq!(open(&mut roster, Some(31), None, 0), Err(WindowError::Minutes(30)));
    assert_eq!(open(&mut roster, Some(0), None, 0), Err(WindowError::Minutes(30)));
    let region = roster.change_window(Some("refit"), WindowAction::Open { minutes: None, machines: None }, at(0));
    assert_eq!(region.unwrap_err().code(), "not-the-stores-window");
    let unknown = roster.change_window(Some("x"), WindowAction::Close, at(0));
    assert_eq!(unknown.unwrap_err().code(), "no-window");
    open(&mut roster, None, Some(1), 0).unwrap();
    assert_eq!(roster.windows(at(0))[0].places_left, 1);
    assert_eq!(take(&mut roster, 7, 1).as_deref(), Some("spare-1"));
    assert_eq!(take(&mut roster, 8, 2), None, "it was opened for one");
    open(&mut roster, Some(10), None, 3).unwrap();
    assert_eq!(take(&mut roster, 8, 2), None, "the clock was set back");
    assert_eq!(take(&mut roster, 8, 12).as_deref(), Some("spare-2"));
    assert_eq!(take(&mut roster, 9, 13), None, "ten minutes");
    open(&mut roster, None, None, 20).unwrap();
    let local = roster.change_window(None, WindowAction::Close, at(21)).unwrap();
    roster.windows.insert(local.of.name.clone(), local);
    assert_eq!(take(&mut roster, 9, 22), None, "closed by hand");
}

#[test]
fn what_the_store_did_counts_until_the_region_changes_the_window() {
    let mut roster = roster(vec![window("refit", Opening::Until(at(60)))], 3);
    let local = roster.change_window(None, WindowAction::Close, at(0)).unwrap();
    roster.windows.insert(local.of.name.clone(), local);
    assert_eq!(take(&mut roster, 7, 1), None);
    let mut document = roster.assignments.clone().unwrap();
    assert!(roster.stale_windows(&document).is_empty());
    document.windows[0].opening = Opening::Until(at(90));
    assert_eq!(roster.stale_windows(&document), ["refit"]);
    roster.assignments = Some(document);
    assert_eq!(take(&mut roster, 7, 1).as_deref(), Some("refit-1"));
}

#[test]
fn a_window_is_for_its_processors_and_cards() {
    let narrow = AdmissionWindow {
        architectures: vec!["aarch64".into()],
        mac_prefixes: vec!["52-54-00".into()],
        ..window("arm", Opening::Until(at(60)))
    };
    assert!(fits(&narrow, mac(7), Some("aarch64")));
    assert!(!fits(&narrow, mac(7), Some("x86_64")) && !fits(&narrow, mac(7), None));
    assert!(!fits(&narrow, Mac([2, 0, 0, 0, 0, 7]), Some("aarch64")));
    let empty = AdmissionWindow { mac_prefixes: vec![String::new()], ..narrow };
    assert!(!fits(&empty, mac(7), Some("aarch64")), "an empty beginning is no permission for everybody");
}

/// What may happen to a store, in any order.
#[derive(Debug, Clone)]
enum Act {
    PowerOn(u8),
    Report(u8, u8),
    Verified(u8, u8),
    Order(u8),
    OpenWindow(u32),
    CloseWindow,
    Later(i64),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_u8..5).prop_map(Act::PowerOn),
        4 => (0_u8..5, 0_u8..3).prop_map(|(m, a)| Act::Report(m, a)),
        4 => (0_u8..5, 0_u8..3).prop_map(|(m, a)| Act::Verified(m, a)),
        1 => (0_u8..4).prop_map(Act::Order),
        1 => (1_u32..30).prop_map(Act::OpenWindow),
        1 => Just(Act::CloseWindow),
        4 => (0_i64..40).prop_map(Act::Later),
        2 => Just(Act::Restart),
    ]
}

/// Everything that is kept, through JSON, as the ledger file has it.
fn restart(roster: &Roster) -> Roster {
    let through = |line| serde_json::from_slice(&serde_json::to_vec(line).unwrap()).unwrap();
    let windows = roster.windows.iter();
    Roster {
        assignments: roster.assignments.clone(),
        ledger: roster.ledger.iter().map(|(mac, line)| (*mac, through(line))).collect(),
        windows: windows
            .map(|(name, local)| (name.clone(), serde_json::from_slice(&serde_json::to_vec(local).unwrap()).unwrap()))
            .collect(),
    }
}

/// Whether the machine's firmware is answered now, at a new power-on.
fn answered(roster: &Roster, machine: u8, now: i64) -> bool {
    match roster.asks(mac(machine), asker(now)) {
        Standing::Listed { installed, .. } => {
            !installed && roster.tries(mac(machine)).is_none_or(|tries| tries.may_go_on(None, at(now)))
        }
        _ => false,
    }
}

proptest! {
    /// In any order of power-ons, reports, outcomes (late ones too), orders, windows and restarts of netboot: an installed machine is
    /// not answered without a new order; an unfinished one is answered within the longest pause; nobody outside the inventory is
    /// answered who has no place, and places are taken only while the window is open.
    #[test]
    fn permits_and_windows_hold(acts in prop::collection::vec(act(), 1..80)) {
        let mut roster = roster(vec![window("spare", Opening::ByStore { longest_minutes: 30 })], 2);
        let (mut now, mut open_until, mut told) = (0, None, std::collections::BTreeMap::new());
        let mut installed = std::collections::BTreeSet::new();
        for act in acts {
            let before: Vec<_> = roster.ledger.keys().copied().collect();
            match act {
                Act::PowerOn(m) => {
                    if answered(&roster, m, now)
                        && let Some(line) = roster.begin_try(mac(m), at(now), asker(now))
                    {
                        roster.ledger.insert(mac(m), line);
                    }
                }
                Act::Report(m, attempt) => {
                    let attempt = Uuid::from_u128(attempt.into());
                    if let Standing::Listed { installed: false, .. } = roster.asks(mac(m), asker(now)) {
                        told.insert(m, attempt);
                        if let Some(line) = roster.installing(mac(m), attempt, asker(now)) {
                            roster.ledger.insert(mac(m), line);
                        }
                    }
                }
                Act::Verified(m, attempt) => {
                    let attempt = Uuid::from_u128(attempt.into());
                    // A machine that was never told to install has nothing to verify.
                    let Some(expected) = told.get(&m) else { continue };
                    let line = roster.installed(mac(m), Some(attempt), at(now));
                    prop_assert!(line.is_none() || attempt == *expected, "an outcome of the past used up a permit");
                    if let Some(line) = line {
                        roster.ledger.insert(mac(m), line);
                        if matches!(roster.standing(mac(m)), Standing::Listed { installed: true, .. }) {
                            installed.insert(m);
                        }
                    }
                }
                Act::Order(n) => {
                    let machines = &mut roster.assignments.as_mut().unwrap().machines;
                    let at = usize::from(n) % machines.len();
                    machines[at].epoch += 1;
                    let name = machines[at].name.clone();
                    let of_it = |m: &u8| roster.ledger.get(&mac(*m)).is_some_and(|line| line.entry == name);
                    installed.retain(|m| !of_it(m));
                }
                Act::OpenWindow(minutes) => {
                    if open(&mut roster, Some(minutes), None, now).is_ok() {
                        open_until = Some(now + i64::from(minutes));
                    }
                }
                Act::CloseWindow => {
                    if let Ok(local) = roster.change_window(Some("spare"), WindowAction::Close, at(now)) {
                        roster.windows.insert(local.of.name.clone(), local);
                        open_until = None;
                    }
                }
                Act::Later(minutes) => now += minutes,
                Act::Restart => roster = restart(&roster),
            }
            let open = open_until.is_some_and(|until| now < until);
            for m in 0..5 {
                let known = before.contains(&mac(m));
                let standing = roster.standing(mac(m));
                if installed.contains(&m) {
                    prop_assert!(!answered(&roster, m, now), "installed, and answered");
                } else if matches!(standing, Standing::Listed { .. }) {
                    let pause = crate::permit::LONGEST.whole_minutes();
                    prop_assert!((0..=pause).any(|wait| answered(&roster, m, now + wait)), "shut out");
                } else {
                    prop_assert!(open || !answered(&roster, m, now), "nobody knows it");
                }
                if m != 1 && !known && roster.ledger.contains_key(&mac(m)) {
                    prop_assert!(open, "a place was taken while the window was closed");
                }
            }
            prop_assert!(roster.places_taken("spare") <= 2);
        }
    }
}
