use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
}

fn said(step: Step, status: StepStatus, attempt: u128) -> StepEvent {
    StepEvent { attempt: Some(Uuid::from_u128(attempt)), ..event(step, status, "said") }
}

fn steps(board: &Board) -> Vec<(Step, StepStatus)> {
    board.machines(|_| false)[0].steps.iter().map(|l| (l.step, l.status)).collect()
}

#[test]
fn one_journey_is_one_attempt_over_the_restart() {
    let mut board = Board::default();
    assert!(board.firmware_asked(at(0), MAC, "PXE").is_some());
    assert!(board.firmware_answered(at(0), MAC, "offer").is_some());
    assert!(board.firmware_asked(at(4), MAC, "PXE").is_none(), "a repeat");
    assert!(board.firmware_answered(at(5), MAC, "ack").is_none());
    let progress = board.boot_sent(at(6), MAC, 100, 0.1).unwrap();
    assert_eq!(progress.status, StepStatus::Progress);
    assert!(board.boot_sent(at(6), MAC, 100, 0.2).is_none(), "at most every second");
    assert_eq!(board.boot_sent(at(7), MAC, 800, 1.0).unwrap().status, StepStatus::Done);
    for step in [Step::Network, Step::Assign, Step::Install, Step::Verify, Step::Restart] {
        board.agent_said(at(10), MAC, &said(step, StepStatus::Started, 1));
        board.agent_said(at(20), MAC, &said(step, StepStatus::Done, 1));
    }
    assert!(board.firmware_asked(at(30), MAC, "PXE").is_none(), "the restart is part of the journey");
    board.agent_said(at(50), MAC, &said(Step::Network, StepStatus::Started, 2));
    board.agent_said(at(51), MAC, &said(Step::Enroll, StepStatus::Started, 2));
    let seen = steps(&board);
    assert_eq!(seen.len(), 8);
    assert_eq!(seen[2], (Step::Network, StepStatus::Done));
    assert_eq!(seen[7], (Step::Enroll, StepStatus::Started));
    let status = &board.machines(|_| true)[0];
    assert_eq!((status.boot_bytes, status.install_bytes, status.installed), (1000, 0, true));
    assert_eq!(status.steps[4].started, at(10));
    assert_eq!(status.steps[4].updated, at(20));
}

#[test]
fn the_next_power_on_begins_a_new_list() {
    let mut board = Board::default();
    board.agent_said(at(0), MAC, &said(Step::Ready, StepStatus::Done, 1));
    assert!(board.firmware_asked(at(100), MAC, "PXE").is_some());
    assert_eq!(steps(&board), [(Step::PowerOn, StepStatus::Done)]);
    board.agent_said(at(120), MAC, &said(Step::Ready, StepStatus::Done, 2));
    assert_eq!(steps(&board).len(), 2);
    board.agent_said(at(200), MAC, &said(Step::Enroll, StepStatus::Started, 3));
    assert_eq!(steps(&board), [(Step::Enroll, StepStatus::Started)], "started from the disk, unheard by us");
}

#[test]
fn a_failure_is_shown_after_later_steps_have_begun_and_until_the_step_is_done_again() {
    let mut board = Board::default();
    for step in [Step::Restart, Step::Enroll, Step::Ready] {
        board.agent_said(at(0), MAC, &said(step, StepStatus::Done, 1));
    }
    board.agent_said(at(10), MAC, &said(Step::Restart, StepStatus::Started, 1));
    assert_eq!(steps(&board)[0], (Step::Restart, StepStatus::Done));
    board.agent_said(at(10), MAC, &said(Step::Restart, StepStatus::Failed, 1));
    assert_eq!(steps(&board)[0], (Step::Restart, StepStatus::Failed));
    board.agent_said(at(20), MAC, &said(Step::Restart, StepStatus::Started, 1));
    board.agent_said(at(20), MAC, &said(Step::Restart, StepStatus::Done, 1));
    assert_eq!(steps(&board)[0], (Step::Restart, StepStatus::Done));
}

#[test]
fn firmware_that_comes_back_much_later_was_switched_off() {
    let mut board = Board::default();
    board.firmware_asked(at(0), MAC, "PXE").unwrap();
    assert!(board.firmware_asked(at(100), MAC, "HTTP Boot").is_none());
    assert!(board.firmware_asked(at(400), MAC, "PXE").is_some());
}

#[test]
fn a_machine_may_wait_after_what_it_did_last() {
    let mut board = Board::default();
    for step in [Step::Network, Step::Assign, Step::Partition] {
        board.agent_said(at(0), MAC, &said(step, StepStatus::Done, 1));
    }
    board.agent_said(at(1), MAC, &said(Step::Partition, StepStatus::Waiting, 1));
    board.agent_said(at(1), MAC, &said(Step::Network, StepStatus::Waiting, 1));
    let waits = (Step::Partition, StepStatus::Waiting);
    assert_eq!(steps(&board), [(Step::Network, StepStatus::Done), (Step::Assign, StepStatus::Done), waits]);
    board.agent_said(at(2), MAC, &said(Step::Ready, StepStatus::Done, 1));
    board.agent_said(at(3), MAC, &said(Step::Ready, StepStatus::Waiting, 1));
    assert_eq!(steps(&board)[3], (Step::Ready, StepStatus::Done), "what is installed stays so");
}

#[test]
fn a_step_that_failed_may_start_again() {
    let mut board = Board::default();
    board.agent_said(at(0), MAC, &said(Step::Install, StepStatus::Failed, 1));
    board.agent_said(at(5), MAC, &said(Step::Install, StepStatus::Started, 1));
    assert_eq!(steps(&board), [(Step::Install, StepStatus::Started)]);
}

#[test]
fn the_number_of_machines_is_bounded() {
    let mut board = Board::default();
    // One that works with an agent, heard of before all others.
    board.agent_said(at(0), MAC, &said(Step::Install, StepStatus::Started, 1));
    for n in 0..(MOST as u32 + 10) {
        let [_, a, b, c] = n.to_be_bytes();
        board.firmware_asked(at(n.into()), Mac([2, 7, 7, a, b, c]), "PXE");
    }
    assert_eq!(board.machines(|_| false).len(), MOST);
    assert!(board.machines(|_| false).iter().any(|machine| machine.mac == MAC.to_string()), "strangers went first");
}

#[test]
fn a_board_that_was_saved_goes_on_where_it_was() {
    let mut board = Board::default();
    board.firmware_asked(at(0), MAC, "PXE");
    board.boot_sent(at(1), MAC, 100, 0.5);
    board.agent_said(at(20), MAC, &said(Step::Install, StepStatus::Progress, 1));
    let mut again = Board::default();
    assert!(again.restore(MAC, board.saved(MAC).unwrap().as_bytes()));
    assert_eq!(again.machines(|_| false), board.machines(|_| false));
    for board in [&mut board, &mut again] {
        board.agent_said(at(30), MAC, &said(Step::Install, StepStatus::Done, 1));
        assert!(board.firmware_asked(at(40), MAC, "PXE").is_some());
    }
    assert_eq!(again.machines(|_| false), board.machines(|_| false));
    for bad in ["", "{}", "[1]", "{\"lines\": 3}"] {
        assert!(!Board::default().restore(MAC, bad.as_bytes()), "{bad}");
    }
}
