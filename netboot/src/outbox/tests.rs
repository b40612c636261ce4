use super::{queue::Weight, *};
use contracts::{
    event::{Event, StepStatus},
    step::Step,
};
use uuid::Uuid;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn offer(id: u128, status: StepStatus) -> Offer {
    let data = StepEvent {
        step: Step::Install,
        status,
        attempt: None,
        message: format!("number {id}"),
        progress: None,
        eta_seconds: None,
        code: None,
    };
    let event = Event::new(Uuid::from_u128(id), "agent", MAC.to_string(), NOW, data.clone());
    Offer { said: Some((NOW, data)), ..Offer::new(&event, Some(MAC), Weight::of(status)).unwrap() }
}

fn ids(batch: &[Waiting]) -> Vec<u128> {
    let id = |(_, text): &Waiting| serde_json::from_str::<Event<serde_json::Value>>(text).unwrap().id.as_u128();
    batch.iter().map(id).collect()
}

/// A queue that runs, and what a SIGKILL leaves of it: the file as it is.
struct Running {
    outbox: Outbox,
    board: Arc<Mutex<Board>>,
    thread: std::thread::JoinHandle<()>,
}

impl Running {
    fn open(folder: &Path) -> Self {
        let board = Arc::new(Mutex::new(Board::default()));
        let (outbox, writer) = Outbox::open(folder, Arc::clone(&board), NOW).unwrap();
        Self { outbox, board, thread: std::thread::spawn(|| writer.run()) }
    }

    fn end(self) {
        self.outbox.close();
        self.thread.join().unwrap();
    }

    fn shown(&self) -> Vec<(Step, String)> {
        let machines = crate::shared::lock(&self.board).machines(|_| false);
        machines.iter().flat_map(|m| &m.steps).map(|l| (l.step, l.message.clone())).collect()
    }
}

#[tokio::test]
async fn what_was_taken_is_there_after_a_restart_with_the_page_and_is_not_taken_twice() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(folder.path());
    running.outbox.put(vec![offer(1, StepStatus::Started), offer(2, StepStatus::Progress)]).await.unwrap();
    running.outbox.put(vec![offer(2, StepStatus::Progress), offer(3, StepStatus::Done)]).await.unwrap();
    running.end();

    let running = Running::open(folder.path());
    assert_eq!((running.outbox.waiting(), running.outbox.problem()), (3, None));
    assert_eq!(running.shown(), [(Step::Install, "number 3".to_owned())]);
    let batch = running.outbox.batch(2, usize::MAX).await;
    assert_eq!(ids(&batch), [1, 2]);
    running.outbox.delivered(batch.into_iter().map(|(place, _)| place).collect()).await;
    running.end();

    let running = Running::open(folder.path());
    running.outbox.put(vec![offer(1, StepStatus::Started), offer(4, StepStatus::Failed)]).await.unwrap();
    assert_eq!(ids(&running.outbox.batch(9, usize::MAX).await), [3, 4], "the first was delivered before");
    running.end();
}

#[tokio::test]
async fn an_outcome_that_the_region_refuses_is_kept_and_tried_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(folder.path());
    running.outbox.put(vec![offer(1, StepStatus::Started), offer(2, StepStatus::Failed)]).await.unwrap();
    for (place, _) in running.outbox.batch(9, usize::MAX).await {
        running.outbox.refused(place).await;
    }
    assert_eq!((running.outbox.waiting(), running.outbox.refused_kept()), (0, 1));
    running.end();
    let running = Running::open(folder.path());
    assert_eq!(ids(&running.outbox.batch(9, usize::MAX).await), [2]);
    assert_eq!(running.outbox.refused_kept(), 0);
    running.end();
}

#[tokio::test]
async fn a_damaged_file_costs_the_events_that_were_hit_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(folder.path());
    for id in 1..=3 {
        running.outbox.put(vec![offer(id, StepStatus::Done)]).await.unwrap();
    }
    running.end();
    let path = folder.path().join("events.journal");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|w| w == b"number 2").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let running = Running::open(folder.path());
    assert_eq!(ids(&running.outbox.batch(9, usize::MAX).await), [1, 3]);
    let problem = running.outbox.problem().unwrap();
    let copy = problem.rsplit(' ').next().unwrap();
    assert_eq!(std::fs::read(copy).unwrap(), bytes, "{problem}");
    running.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_come_together_share_commits_and_keep_each_callers_order() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::open(folder.path());
    let outbox = &running.outbox;
    let caller = |n: u128| async move {
        for id in 0..10 {
            outbox.put(vec![offer(n * 100 + id, StepStatus::Done)]).await.unwrap();
        }
    };
    futures_util::future::join_all((0..50).map(caller)).await;
    let all = ids(&outbox.batch(1000, usize::MAX).await);
    assert_eq!(all.len(), 500);
    for n in 0..50 {
        let own: Vec<_> = all.iter().filter(|id| *id / 100 == n).collect();
        assert!(own.is_sorted());
    }
    running.end();
}
