use super::*;
use proptest::prelude::*;

const SMALL: Limits = Limits { events: 8, bytes: 800, of_one_machine: 5, remembered: 6 };

fn mac(n: u8) -> Option<Mac> {
    Some(Mac([2, 0, 0, 0, 0, n]))
}

fn meta(id: u128, machine: u8, weight: Weight) -> Meta {
    Meta { id: Uuid::from_u128(id), machine: mac(machine), weight, bytes: 100 }
}

fn place(taken: Result<Taken, Full>) -> (u64, Vec<u64>) {
    match taken {
        Ok(Taken::At { place, dropped }) => (place, dropped.into_iter().map(|(place, _)| place).collect()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn progress_makes_room_before_the_others_and_outcomes_never_do() {
    let mut queue = Queue::new(SMALL);
    place(queue.offer(meta(0, 0, Weight::Outcome)));
    place(queue.offer(meta(1, 1, Weight::Other)));
    for id in 2..8 {
        place(queue.offer(meta(id, u8::try_from(id).unwrap(), Weight::Progress)));
    }
    assert_eq!(place(queue.offer(meta(8, 8, Weight::Outcome))).1, [2], "the oldest progress");
    for id in 9..14 {
        place(queue.offer(meta(id, u8::try_from(id).unwrap(), Weight::Outcome)));
    }
    assert_eq!(place(queue.offer(meta(14, 14, Weight::Outcome))).1, [1], "no progress is left");
    assert_eq!(queue.offer(meta(15, 15, Weight::Outcome)), Err(Full));
    assert_eq!(queue.len(), 8);
    assert_eq!(queue.batch(1, 1000), [0]);
}

#[test]
fn one_machine_that_raves_leaves_room_for_the_others() {
    let mut queue = Queue::new(SMALL);
    for id in 0..5 {
        place(queue.offer(meta(id, 1, Weight::Outcome)));
    }
    assert_eq!(queue.offer(meta(5, 1, Weight::Outcome)), Err(Full));
    place(queue.offer(meta(6, 2, Weight::Outcome)));
}

#[test]
fn a_batch_is_bounded_in_bytes_and_never_empty() {
    let mut queue = Queue::new(SMALL);
    for id in 0..4 {
        place(queue.offer(meta(id, 1, Weight::Other)));
    }
    assert_eq!(queue.batch(10, 250), [0, 1]);
    assert_eq!(queue.batch(10, 50), [0]);
    assert_eq!(queue.batch(3, 9999), [0, 1, 2]);
}

#[derive(Debug, Clone)]
enum Act {
    Offer { id: u128, machine: u8, weight: u8, bytes: usize, fails: bool },
    Deliver(usize),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let offer = (0_u128..60, 0_u8..4, 0_u8..3, 1_usize..300, prop::bool::weighted(0.1));
    prop_oneof![
        6 => offer.prop_map(|(id, machine, weight, bytes, fails)| Act::Offer { id, machine, weight, bytes, fails }),
        2 => (1_usize..5).prop_map(Act::Deliver),
        1 => Just(Act::Restart),
    ]
}

proptest! {
    /// Against a list that does the same by hand: bounds hold, outcomes stay until they are delivered, machines keep their order,
    /// and what was taken once is not taken again while it is remembered, over restarts too.
    #[test]
    fn it_does_what_a_list_would(acts in prop::collection::vec(act(), 1..120)) {
        let mut queue = Queue::new(SMALL);
        let mut waiting: Vec<(u64, Meta)> = Vec::new();
        let mut delivered: Vec<(u64, Uuid)> = Vec::new();
        for act in acts {
            match act {
                Act::Offer { id, machine, weight, bytes, fails } => {
                    let weight = [Weight::Progress, Weight::Other, Weight::Outcome][usize::from(weight)];
                    let meta = Meta { bytes, ..meta(id, machine, weight) };
                    let known = waiting.iter().any(|(_, m)| m.id == meta.id)
                        || delivered.iter().any(|(_, id)| *id == meta.id);
                    let before = waiting.clone();
                    match queue.offer(meta) {
                        Ok(Taken::Repeat) => prop_assert!(known),
                        Ok(Taken::At { place, dropped }) => {
                            prop_assert!(!known);
                            prop_assert!(dropped.iter().all(|gone| waiting.contains(gone)));
                            prop_assert!(dropped.iter().all(|(_, m)| m.weight != Weight::Outcome));
                            waiting.retain(|event| !dropped.contains(event));
                            prop_assert!(waiting.last().is_none_or(|(last, _)| *last < place));
                            waiting.push((place, meta));
                            if fails {
                                queue.undo(place, &dropped);
                                waiting = before;
                            }
                        }
                        Err(Full) => {
                            prop_assert!(!known);
                            let own = waiting.iter().filter(|(_, m)| m.machine == meta.machine);
                            let stuck = |m: &Meta| m.weight == Weight::Outcome;
                            let own_full = own.clone().count() >= SMALL.of_one_machine && own.clone().all(|(_, m)| stuck(m));
                            let kept: usize = waiting.iter().filter(|(_, m)| stuck(m)).map(|(_, m)| m.bytes).sum();
                            let outcomes = waiting.iter().filter(|(_, m)| stuck(m)).count();
                            prop_assert!(own_full || outcomes >= SMALL.events || kept + bytes > SMALL.bytes);
                        }
                    }
                }
                Act::Deliver(most) => {
                    let batch = queue.batch(most, usize::MAX);
                    let first: Vec<_> = waiting.iter().take(most).map(|(place, _)| *place).collect();
                    prop_assert_eq!(&batch, &first, "in order");
                    for place in batch {
                        delivered.push((place, waiting.remove(0).1.id));
                        let forgotten = queue.deliver(place);
                        prop_assert_eq!(forgotten.is_some(), delivered.len() > SMALL.remembered);
                        if let Some(forgotten) = forgotten {
                            prop_assert_eq!(delivered.remove(0).0, forgotten);
                        }
                    }
                }
                Act::Restart => {
                    queue = Queue::new(SMALL);
                    for (place, id) in &delivered {
                        prop_assert_eq!(queue.restore_delivered(*place, *id), None);
                    }
                    for (place, meta) in &waiting {
                        queue.restore(*place, *meta);
                    }
                }
            }
            prop_assert_eq!(queue.len(), waiting.len());
            prop_assert!(queue.len() <= SMALL.events);
            prop_assert!(waiting.iter().map(|(_, m)| m.bytes).sum::<usize>() <= SMALL.bytes);
        }
    }
}
