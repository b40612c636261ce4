use super::*;
use proptest::prelude::*;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn open(folder: &Path) -> (Journal, Recovery) {
    Journal::open(&folder.join("j"), NOW).unwrap()
}

fn put(key: &str, value: &[u8]) -> Change {
    Change::Put(1, key.into(), value.into())
}

fn all(journal: &Journal) -> BTreeMap<String, Vec<u8>> {
    journal.keys(1).map(|key| (key.to_owned(), journal.get(1, key).unwrap().unwrap())).collect()
}

#[test]
fn an_unfinished_commit_is_cut_off_and_a_damaged_one_is_kept_for_support() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let (mut journal, recovery) = open(folder.path());
    assert_eq!(recovery, Recovery::default());
    let begin = journal.file_bytes();
    for key in ["a", "b", "c"] {
        journal.commit(&[put(key, key.as_bytes())]).unwrap();
    }
    let length = (journal.file_bytes() - begin) / 3;
    drop(journal);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(begin + 3 * length - 2).unwrap();
    let (journal, recovery) = open(folder.path());
    assert_eq!((recovery.damaged, recovery.copy), (0, None));
    assert!((1..length).contains(&recovery.torn), "{}: zeroes at the end may have been there before", recovery.torn);
    assert_eq!(all(&journal).into_keys().collect::<Vec<_>>(), ["a", "b"]);
    drop(journal);

    let mut bytes = std::fs::read(&path).unwrap();
    bytes[usize::try_from(begin).unwrap() + 18] ^= 0x40;
    std::fs::write(&path, &bytes).unwrap();
    let (journal, recovery) = open(folder.path());
    assert_eq!(all(&journal).into_keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(std::fs::read(recovery.copy.unwrap()).unwrap(), bytes);
    drop(journal);
    assert_eq!(open(folder.path()).1, Recovery::default(), "it was written anew");
}

#[test]
fn copies_of_damaged_files_do_not_pile_up() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..5 {
        std::fs::write(folder.path().join("j"), "no journal at all").unwrap();
        let (_, recovery) = Journal::open(&folder.path().join("j"), NOW + time::Duration::seconds(n)).unwrap();
        assert_eq!((recovery.damaged, recovery.torn), (17, 0));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1 + COPIES);
}

#[test]
fn what_is_of_the_past_does_not_fill_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path());
    for n in 0..1000_u32 {
        journal.commit(&[put(&(n % 7).to_string(), &[b'x'; 1000])]).unwrap();
        assert!(journal.file_bytes() <= SMALL + 2048, "{}", journal.file_bytes());
    }
    let before = all(&journal);
    drop(journal);
    assert_eq!(all(&open(folder.path()).0), before);
    // Whose clients wait for it wants it less often.
    let mut journal = open(folder.path()).0.with_room(4 * SMALL, RESERVE);
    let sizes = (0..1000_u32).map(|n| {
        journal.commit(&[put(&(n % 7).to_string(), &[b'x'; 1000])]).unwrap();
        journal.file_bytes()
    });
    let largest = sizes.max().unwrap();
    assert!((3 * SMALL..=4 * SMALL + 2048).contains(&largest), "{largest}");
}

#[test]
fn a_full_disk_changes_nothing() {
    // A file that takes nothing more: the limit of this process on the size of files would end it by a signal, so a full
    // device stands in.
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(folder.path());
    journal.commit(&[put("a", b"1")]).unwrap();
    let good = journal.fill_disk();
    assert!(matches!(journal.commit(&[put("b", b"2")]), Err(JournalError::Write(..))));
    journal.file = good;
    assert_eq!(all(&journal).len(), 1);
    journal.commit(&[put("c", b"3")]).unwrap();
    drop(journal);
    assert_eq!(all(&open(folder.path()).0).into_keys().collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn most_commits_do_not_change_the_files_length() {
    let folder = tempfile::tempdir().unwrap();
    let (path, length) = (folder.path().join("j"), |path: &Path| path.metadata().unwrap().len());
    let (mut journal, _) = open(folder.path());
    let mut lengths = std::collections::BTreeSet::new();
    for n in 0..500_u32 {
        // Values that end with zeroes are no room.
        journal.commit(&[put(&n.to_string(), &[7, 0, 0, 0])]).unwrap();
        assert!(length(&path) >= journal.file_bytes());
        lengths.insert(length(&path));
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [RESERVE]);
    let before = (all(&journal), journal.file_bytes());
    drop(journal);
    let (mut journal, recovery) = open(folder.path());
    assert_eq!((all(&journal), journal.file_bytes(), recovery), (before.0, before.1, Recovery::default()));
    journal.commit(&[put("after", b"1")]).unwrap();
    assert_eq!(length(&path), RESERVE, "a restart wastes no room");
    let large = vec![b'x'; usize::try_from(3 * RESERVE).unwrap()];
    journal.commit(&[put("large", &large)]).unwrap();
    assert_eq!(length(&path), 4 * RESERVE);
    assert_eq!(journal.get(1, "large").unwrap(), Some(large));
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>),
    /// SIGKILL in the middle of the next commit: so much of its record reached the disk.
    Torn(Vec<(u8, Option<u8>)>, u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let changes = || prop::collection::vec((0_u8..6, prop::option::of(0_u8..200)), 1..5);
    prop_oneof![
        changes().prop_map(Step::Commit),
        (changes(), any::<u8>()).prop_map(|(changes, part)| Step::Torn(changes, part)),
        Just(Step::Restart),
    ]
}

fn to_changes(changes: &[(u8, Option<u8>)]) -> Vec<Change> {
    let change = |(key, value): &(u8, Option<u8>)| match value {
        Some(value) => put(&key.to_string(), &vec![*value; usize::from(*value)]),
        None => Change::Delete(1, key.to_string()),
    };
    changes.iter().map(change).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// After any sequence of commits, restarts and commits that were cut off, it holds what a map would.
    #[test]
    fn it_is_a_map_over_restarts(steps in prop::collection::vec(step(), 1..25)) {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path());
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Commit(changes) => {
                    journal.commit(&to_changes(&changes)).unwrap();
                    for (key, value) in changes {
                        match value {
                            Some(value) => model.insert(key.to_string(), vec![value; usize::from(value)]),
                            None => model.remove(&key.to_string()),
                        };
                    }
                }
                Step::Torn(changes, part) => {
                    let record = record(&to_changes(&changes)).unwrap();
                    let length = (record.len() - 1) * usize::from(part) / 256;
                    journal.file.write_all_at(&record[..length], journal.file_bytes()).unwrap();
                    journal = open(folder.path()).0;
                }
                Step::Restart => journal = open(folder.path()).0,
            }
            prop_assert_eq!(&all(&journal), &model);
        }
    }
}
