//! Keeps the boot files up to date: loads them anew when the repository or the assignments change.

use crate::{
    boot_files::{BootError, BootSet, Source, chain},
    cache::metadata::Freshness,
    shared::Shared,
};
use contracts::assignment::ImageRef;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What did not load may load later without any change, for example once the clock is right.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// What was loaded last, or tried.
struct Tried {
    fingerprint: Option<[u8; 32]>,
    images: Vec<ImageRef>,
    at: Instant,
    good: bool,
    /// Whether the dates of what was loaded allowed it then: they may not any more, without any change of a file.
    dates: Option<Dates>,
}

/// How signed dates stand; see [`Freshness`].
type Dates = std::mem::Discriminant<Freshness>;

fn dates(shared: &Shared, source: &Source) -> Option<Dates> {
    let expiry = shared.boot.current().expiry?;
    Some(std::mem::discriminant(&expiry.freshness(OffsetDateTime::now_utc(), source.stale)))
}

/// Runs until told to stop.
pub async fn run(shared: Arc<Shared>, source: Source, stop: CancellationToken) {
    let (mut last, mut known): (Option<Tried>, _) = (None, Vec::new());
    loop {
        let (fingerprint, all) = (source.fingerprint(), images(&shared));
        let (images, withheld) = offered(&shared, &mut known, all);
        let due = last.as_ref().is_none_or(|tried| {
            // What the cache had damaged is fetched again within seconds.
            let patience = if shared.cache.is_some() { LOOK_EVERY * 2 } else { RETRY_EVERY };
            let again = !tried.good && tried.at.elapsed() > patience;
            let ended = tried.dates != dates(&shared, &source);
            tried.fingerprint != fingerprint || tried.images != images || again || ended
        });
        // A cache that is still empty is no error; why nothing is offered is said below.
        let empty = shared.cache.is_some() && fingerprint.is_none();
        if due && !empty {
            let good = tokio::select! {
                // Without a disk, boot images come over the line.
                () = stop.cancelled() => return,
                good = load(&shared, &source, &images) => good,
            };
            last = Some(Tried { fingerprint, images, at: Instant::now(), good, dates: dates(&shared, &source) });
        }
        if let Some(why) = withheld {
            shared.boot.withhold(why);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.assignments_bell.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// The images that the assignments name.
pub(crate) fn images(shared: &Shared) -> Vec<ImageRef> {
    let all = |r: &crate::roster::Roster| -> Vec<ImageRef> {
        r.assignments.iter().flat_map(|a| &a.machines).map(|m| m.image.clone()).collect()
    };
    let mut images = shared.store.with(all);
    let mut seen = std::collections::HashSet::new();
    images.retain(|image| seen.insert(image.clone()));
    images
}

/// Those that may be offered: an image that the cache does not have whole is not, so that no machine begins what it cannot
/// finish. And why the first of the others is not.
fn offered(shared: &Shared, known: &mut Vec<ImageRef>, images: Vec<ImageRef>) -> (Vec<ImageRef>, Option<String>) {
    let Some(cache) = &shared.cache else { return (images, None) };
    if *known != images {
        known.clone_from(&images);
        cache.assignments_changed();
    }
    let mut withheld = None;
    let may = |image: &ImageRef| match cache.offer(image) {
        Ok(()) => true,
        Err(why) => {
            withheld.get_or_insert(format!("{}: {why}", image.template));
            false
        }
    };
    (images.into_iter().filter(may).collect(), withheld)
}

/// Loads, and says whether everything is there. What does not verify never replaces what did.
async fn load(shared: &Shared, source: &Source, images: &[ImageRef]) -> bool {
    let problem = match source.load(images, &shared.base_url).await {
        Ok(set) => {
            for (name, file) in &set.files {
                let version = &file.version;
                let bytes = file.content.length();
                tracing::info!(
                    file = name.as_str(),
                    version = version.as_str(),
                    bytes,
                    "boot file {name}: version {version}, {bytes} bytes, verified"
                );
            }
            let good = set.problem.is_none();
            shared.boot.replace(set);
            return good;
        }
        Err(error @ BootError::Expired { expiry, .. }) => {
            // Machines would refuse it: better that they are told why, and before they have fetched anything.
            let problem = chain(&error);
            tracing::error!(code = "no-boot-image", "no boot file is offered: {problem}");
            shared.boot.replace(BootSet { problem: Some(problem), expiry: Some(expiry), ..BootSet::default() });
            return false;
        }
        Err(error) => chain(&error),
    };
    tracing::error!("the boot files stay as they are: {problem}");
    shared.boot.withhold(problem);
    false
}
