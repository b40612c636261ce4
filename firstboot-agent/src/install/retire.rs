//! A machine goes to the shelf: what it has installed itself is wiped, by an order of the region that names its key. Somebody else's
//! data is never touched, nor is anything of which that is not certain.

use super::{
    repository::Repository,
    source::Source,
    state::{self, Found, Mounted},
};
use crate::{
    boot, console,
    disk::{
        layout::Role,
        plan::{Identity, describe},
        table::{Target, partition_node},
    },
    encryption::luks,
    failure::{Coded, Failure},
    fleet,
    report::Reporter,
    service::identity,
};
use anyhow::Context as _;
use contracts::{
    assignment::Assignment,
    facts::{Disk, DiskContent, MachineFacts},
    fleet::{Asked, CA_TARGET, Order, RetireOrder},
    manifest::TrustFloor,
    step::Step,
};
use std::path::Path;
use time::OffsetDateTime;

/// More orders than a region ever has for one machine.
const MOST_ORDERS: usize = 64;
/// Nothing of this machine is left on its disks.
pub const RETIRED: &str = "retired";

/// The key that the state on a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// Its fingerprint.
    Is(String),
    /// No state was ever used there.
    NoState,
    /// There is state, and no key in it that can be read.
    Unknown,
}

/// What is to become of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It holds what this machine has installed.
    Wipe,
    /// It is none of this machine's installs.
    NotOurs,
    /// It may be, and that is not certain.
    Doubtful(&'static str),
}

/// What becomes of a disk. `key` looks into the state on it, and is asked only where that may be this machine's.
pub fn fate(disk: &Disk, order: &RetireOrder, me: &Identity, key: impl FnOnce() -> Key) -> Fate {
    let (is_half, owner) = match &disk.content {
        DiskContent::Installed { owner, .. } => (false, owner),
        DiskContent::HalfInstall { owner } => (true, owner),
        DiskContent::Blank | DiskContent::Foreign { .. } => return Fate::NotOurs,
    };
    if disk.removable || owner.as_ref().is_some_and(|owner| me.store.is_none() || !me.is(owner)) {
        return Fate::NotOurs;
    }
    if disk.read_only {
        return Fate::Doubtful("it is write-protected");
    }
    match (key(), owner) {
        (Key::Is(key), Some(_)) if key == order.key => Fate::Wipe,
        // As any install may begin over it.
        (Key::NoState, None) if is_half => Fate::Wipe,
        (Key::Is(_), _) => {
            Fate::Doubtful("its state is of a newer install than the one that is to go, or of an older one")
        }
        (Key::NoState | Key::Unknown, _) => Fate::Doubtful("the key in its state cannot be read"),
    }
}

/// The order that counts for this machine now, if one does.
fn order_of(assignment: &Assignment, facts: &MachineFacts, ca: &[u8], now: OffsetDateTime) -> Option<RetireOrder> {
    let macs: Vec<String> = facts.nics.iter().map(|nic| nic.mac.clone()).collect();
    let asked = Asked { store: assignment.store.as_deref(), macs: &macs, number: "", now };
    assignment.fleet.iter().take(MOST_ORDERS).find_map(|envelope| match fleet::open(envelope, ca, now) {
        Ok(Order::Retire(order)) => match order.check(&asked) {
            Ok(()) => Some(order),
            Err(error) => {
                console::line(&error.to_string());
                None
            }
        },
        // Permits count while something is to be installed.
        Ok(Order::Wipe(_)) => None,
        Err(error) => {
            console::line(&format!("an order is not followed: {error}"));
            None
        }
    })
}

/// Follows the orders of a machine that has nothing to install. It never ends well: the machine is ready for the shelf, and asks on, in
/// case that it is admitted anew; or it waits; or something is wrong.
pub async fn follow(
    reporter: &Reporter,
    source: &Source,
    floor: &TrustFloor,
    assignment: &Assignment,
    facts: &MachineFacts,
    me: &Identity,
) -> Failure {
    let order = match believed(source, floor, assignment, facts).await {
        Ok(Some(order)) => order,
        Ok(None) => {
            let failure = Failure::wait("wait", assignment.reason.clone());
            reporter.waiting(Step::Assign, failure.code, failure.to_string());
            return failure;
        }
        Err(failure) => {
            reporter.failed(Step::Assign, failure.code, failure.to_string());
            return failure;
        }
    };
    let wiped = reporter.step(Step::Partition, "wiping this machine for the shelf", async {
        let wiped = wipe(reporter, facts, &order, me).await?;
        let words = match wiped.as_slice() {
            [] => "none of its disks holds anything of this machine".to_owned(),
            some => some.join("; "),
        };
        Ok((words.clone(), format!("{words}; order {} of {}", order.id, order.by)))
    });
    match wiped.await {
        Ok(words) => {
            let words = format!("{} is ready for the shelf: switch it off ({words})", order.name);
            reporter.waiting(Step::Partition, RETIRED, words.clone());
            Failure::wait(RETIRED, words)
        }
        Err(failure) => failure,
    }
}

async fn believed(
    source: &Source,
    floor: &TrustFloor,
    assignment: &Assignment,
    facts: &MachineFacts,
) -> Result<Option<RetireOrder>, Failure> {
    let root = std::fs::read(boot::TUF_ROOT).context("reading the boot image's root of trust").code("repository")?;
    let repository = Repository::load(source, &root, floor).await.code("repository")?;
    let ca = repository.target(CA_TARGET).await.code("repository")?;
    Ok(order_of(assignment, facts, &ca, OffsetDateTime::now_utc()))
}

/// Wipes what is to be wiped, and says what that was. A disk that may have to go and must not stops everything before the first write.
async fn wipe(
    reporter: &Reporter,
    facts: &MachineFacts,
    order: &RetireOrder,
    me: &Identity,
) -> Result<Vec<String>, Failure> {
    let fates: Vec<(&Disk, Fate)> =
        facts.disks.iter().map(|disk| (disk, fate(disk, order, me, || key_on(disk)))).collect();
    for (disk, fate) in &fates {
        if let Fate::Doubtful(why) = fate {
            let words = format!("{} is not wiped, and nothing else is: {why}", describe(disk));
            return Err(Failure::new("not-retired", words));
        }
    }
    let mut wiped = Vec::new();
    for (disk, _) in fates.iter().filter(|(_, fate)| *fate == Fate::Wipe) {
        let (name, kernel_name) = (describe(disk), disk.kernel_name.clone());
        let (bytes, sector_bytes, progress, shown) = (disk.bytes, disk.sector_bytes, reporter.clone(), name.clone());
        let task = tokio::task::spawn_blocking(move || {
            let mut target = Target::device(&Path::new("/dev").join(kernel_name), bytes, sector_bytes)?;
            target.retire(&|done| progress.progress(Step::Partition, done, None, &format!("wiping {shown}")))
        });
        let taken_back = task.await.code("partition")?.code("partition")?;
        let how = if taken_back {
            "wiped, all of it"
        } else {
            "blank; this disk cannot take back its content, so destroy it if it must not be read by anybody"
        };
        wiped.push(format!("{name} is {how}"));
    }
    Ok(wiped)
}

/// The key in the state on a disk. An encrypted volume is opened for that, and closed: the disk must not be in use when it is wiped.
fn key_on(disk: &Disk) -> Key {
    let node = partition_node(&Path::new("/dev").join(&disk.kernel_name), Role::State.number());
    let key = if matches!(disk.content, DiskContent::HalfInstall { owner: None }) {
        if state::look(&node).found == Found::Nothing { Key::NoState } else { Key::Unknown }
    } else {
        read_key(&node).map_or(Key::Unknown, Key::Is)
    };
    if let Err(error) = luks::close() {
        console::line(&format!("the encrypted state stays open: {error:#}"));
    }
    key
}

fn read_key(partition: &Path) -> Option<String> {
    let mounted = Mounted::read_only(&state::opened(partition).ok()?, "ext4").ok()?;
    identity::fingerprint_in(&mounted.path().join("shelfboot")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::facts::Owner;
    use proptest::prelude::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);
    const MAC: &str = "02:00:00:00:00:01";

    fn order() -> RetireOrder {
        RetireOrder {
            version: contracts::VERSION,
            id: uuid::Uuid::from_u128(7),
            name: "w1".into(),
            store: "s1".into(),
            mac: MAC.into(),
            key: "ab".repeat(32),
            by: "Kim".into(),
            issued: NOW,
            expires: NOW,
        }
    }

    fn me() -> Identity {
        Identity { store: Some("s1".into()), macs: vec![MAC.into()] }
    }

    fn owner(store: &str, machine: &str) -> Option<Owner> {
        Some(Owner { store: store.into(), machine: machine.into() })
    }

    fn of(content: DiskContent, key: Key) -> Fate {
        fate(&Disk { content, ..Disk::default() }, &order(), &me(), || key)
    }

    fn installed(owner: Option<Owner>) -> DiskContent {
        DiskContent::Installed { root_hashes: vec!["aa".into()], owner }
    }

    #[test]
    fn only_what_this_machine_installed_under_this_key_is_wiped() {
        let key = || Key::Is("ab".repeat(32));
        assert_eq!(of(installed(owner("s1", MAC)), key()), Fate::Wipe);
        assert_eq!(of(DiskContent::HalfInstall { owner: owner("s1", MAC) }, key()), Fate::Wipe);
        assert_eq!(
            of(DiskContent::HalfInstall { owner: None }, Key::NoState),
            Fate::Wipe,
            "cut off while it was wiped"
        );
        for other in [
            installed(owner("s2", MAC)),
            installed(owner("s1", "02:00:00:00:00:02")),
            DiskContent::HalfInstall { owner: owner("s1", "02:00:00:00:00:02") },
            DiskContent::Foreign { what: "NTFS".into() },
            DiskContent::Blank,
        ] {
            assert_eq!(of(other.clone(), key()), Fate::NotOurs, "{other:?}");
        }
        // Installed again after it was retired and admitted anew: an old order does not count twice.
        let newer = Key::Is("cd".repeat(32));
        for doubtful in [
            (installed(owner("s1", MAC)), newer.clone()),
            (installed(owner("s1", MAC)), Key::Unknown),
            (installed(owner("s1", MAC)), Key::NoState),
            (installed(None), Key::NoState),
            (installed(None), key()),
            (DiskContent::HalfInstall { owner: None }, Key::Unknown),
            (DiskContent::HalfInstall { owner: None }, newer),
        ] {
            assert!(matches!(of(doubtful.0.clone(), doubtful.1.clone()), Fate::Doubtful(_)), "{doubtful:?}");
        }
    }

    #[test]
    fn media_and_write_protected_disks_are_left_alone() {
        let disk = Disk { content: installed(owner("s1", MAC)), ..Disk::default() };
        let key = || Key::Is("ab".repeat(32));
        let removable = Disk { removable: true, ..disk.clone() };
        assert_eq!(fate(&removable, &order(), &me(), key), Fate::NotOurs);
        let protected = Disk { read_only: true, ..disk.clone() };
        assert!(matches!(fate(&protected, &order(), &me(), key), Fate::Doubtful(_)));
        let nowhere = Identity { store: None, ..me() };
        assert_eq!(fate(&disk, &order(), &nowhere, key), Fate::NotOurs, "who does not know its store wipes nothing");
    }

    proptest! {
        #[test]
        fn foreign_data_is_never_wiped(what in ".{0,40}", removable: bool, read_only: bool, key in "[0-9a-f]{64}") {
            let disk = Disk { content: DiskContent::Foreign { what }, removable, read_only, ..Disk::default() };
            prop_assert_eq!(fate(&disk, &order(), &me(), || Key::Is(key)), Fate::NotOurs);
        }
    }
}
