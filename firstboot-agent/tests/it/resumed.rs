//! An install that was cut off, and installs with more than one source.

use crate::shop::{Disk, Lie, Shop};
use firstboot_agent::install::archive::journal;
use std::{fs, os::unix::fs::FileExt as _};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_claims_and_the_disk_holds_is_not_fetched_again() {
    let shop = Shop::large().await;
    let disk = Disk::new(&shop);
    let first = disk.install(&shop, &[(None, "")]).await.unwrap();
    assert_eq!((first.bytes, first.found), (shop.source().len() as u64, 0));
    assert!(first.fetched > 0);
    assert!(disk.content(&shop) == shop.source());
    let again = disk.install(&shop, &[(None, "")]).await.unwrap();
    assert_eq!((again.found, again.fetched), (again.bytes, 0));

    // The journal is only a hint: what is not true is fetched, and that alone.
    let file = fs::File::options().write(true).open(&disk.data).unwrap();
    file.write_all_at(&[1, 2, 3], 5_000_000).unwrap();
    let third = disk.install(&shop, &[(None, "")]).await.unwrap();
    assert!(disk.content(&shop) == shop.source());
    let missing = third.bytes - third.found;
    assert!((1..3 << 20).contains(&missing) && third.fetched <= missing, "{third:?}");

    // A journal of another image says nothing about this one, nor does a torn one.
    let tree = fs::read(&disk.tree).unwrap();
    let at = tree.len() - usize::try_from(journal::AREA).unwrap();
    let mut record = journal::newest(&tree[at..]).unwrap();
    record.identity[0] ^= 1;
    record.sequence += 1;
    let file = fs::File::options().write(true).open(&disk.tree).unwrap();
    file.write_all_at(&record.encode().unwrap(), at as u64 + journal::place(record.sequence)).unwrap();
    let fourth = disk.install(&shop, &[(None, "")]).await.unwrap();
    assert_eq!((fourth.found, fourth.fetched), (0, first.fetched));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_for_good_leaves_what_came_to_the_next_try() {
    let shop = Shop::large().await;
    let disk = Disk::new(&shop);
    let length = shop.manifest.archive.bytes;
    let error = disk.install(&shop, &[(Some(Lie::Flip(-1)), ".bita")]).await.unwrap_err();
    assert!(format!("{error:#}").contains("signed digest") || format!("{error:#}").contains("unpack"), "{error:#}");
    let second = disk.install(&shop, &[(None, "")]).await.unwrap();
    assert!(second.found > 0 && second.fetched < length / 2, "{second:?} of {length}");
    assert!(disk.content(&shop) == shop.source());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_source_is_asked_when_one_lies_or_has_nothing() {
    let shop = Shop::large().await;
    let disk = Disk::new(&shop);
    let liar = || (Some(Lie::Flip(-1000)), ".bita");
    let installed = disk.install(&shop, &[(Some(Lie::Replace(vec![])), ".bita"), liar(), (None, "")]).await.unwrap();
    assert!(disk.content(&shop) == shop.source());
    assert!(installed.fetched <= 2 * shop.manifest.archive.bytes, "{installed:?}");
    // All of them.
    let disk = Disk::new(&shop);
    let error = format!("{:#}", disk.install(&shop, &[liar(), liar()]).await.unwrap_err());
    assert!(error.contains("chunk ") && error.contains(&shop.manifest.archive.path), "{error}");
}
