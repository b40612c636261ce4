//! Whatever an upstream may send and a cache's folder may hold: headers of archives, documents, and configuration of the cache.
#![no_main]

use contracts::{
    archive,
    manifest::{Channel, ImageManifest},
    rollout::Rollout,
};
use libfuzzer_sys::fuzz_target;
use netboot::cache::{delta, want};
use std::{collections::BTreeMap, time::Duration};
use time::OffsetDateTime;
use tough::schema::{Root, Signed, Snapshot, Targets, Timestamp};

fuzz_target!(|bytes: &[u8]| {
    if let Some(first) = bytes.first_chunk() {
        let _ = archive::header_length(first);
    }
    if let Ok(dictionary) = archive::read_header(bytes) {
        // Every chunk has its turn, whatever is known.
        let mut at = 0;
        while at < dictionary.chunks.len() {
            at = match delta::next(&dictionary.chunks, at, |chunk| chunk.hash[0] & 1 == 0) {
                delta::Step::Copy(index) => index + 1,
                delta::Step::Fetch(until) => {
                    assert!(until > at && until <= dictionary.chunks.len());
                    until
                }
            };
        }
    }
    // What an upstream's metadata has to pass before anything of it is believed.
    if let Ok(root) = serde_json::from_slice::<Signed<Root>>(bytes) {
        let _ = root.signed.verify_role(&root);
    }
    let _ = (
        serde_json::from_slice::<Signed<Timestamp>>(bytes).is_ok(),
        serde_json::from_slice::<Signed<Snapshot>>(bytes).is_ok(),
        serde_json::from_slice::<Signed<Targets>>(bytes).is_ok(),
        contracts::read::<Channel>(bytes).is_ok(),
    );
    if let Ok(manifest) = contracts::read::<ImageManifest>(bytes) {
        let mut targets: BTreeMap<String, _> =
            manifest.targets().into_iter().map(|name| (name.to_owned(), (1, [7; 32]))).collect();
        targets.insert(ImageManifest::target_name(&manifest.template, &manifest.image_version), (1, [8; 32]));
        if manifest.check(&manifest.template, &manifest.image_version).is_ok() {
            let objects = want::objects(&manifest, &targets).unwrap();
            assert!(contracts::repository::is_safe(&objects[0].path));
        }
    }
    if let Ok(rollout) = contracts::read::<Rollout>(bytes)
        && let Some(reach) = want::reaches_at(&rollout, "store")
    {
        let day = Duration::from_secs(86400);
        let _ = want::fetch_at(reach, OffsetDateTime::UNIX_EPOCH, 0.5, day, day);
    }
});
