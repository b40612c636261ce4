//! What was handed out to whom: told by the threads that move bytes, noted on the board by one task.

use crate::{
    boot_files::BootFile,
    metrics::Way,
    proto::mac::Mac,
    shared::{Shared, lock},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// It is told this often: more would cost more than the sending.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// News that wait to be noted.
const NEWS: usize = 1024;

/// News.
#[derive(Debug)]
struct News {
    mac: Mac,
    bytes: u64,
    /// How much of the whole boot is through, see [`BootFile::progress`]; none for the repository.
    progress: Option<f64>,
}

/// Where threads tell what went out.
#[derive(Debug, Clone)]
pub struct Teller(mpsc::Sender<News>);

/// Gives a teller, and the work of noting what it tells: it ends when all of its copies are gone.
pub fn begin(shared: &Arc<Shared>) -> (Teller, impl Future<Output = ()> + Send + 'static) {
    let (sender, mut news) = mpsc::channel(NEWS);
    let shared = Arc::clone(shared);
    let note = async move {
        while let Some(News { mac, bytes, progress }) = news.recv().await {
            let now = OffsetDateTime::now_utc();
            let Some(progress) = progress else {
                lock(&shared.board).install_sent(now, mac, bytes);
                continue;
            };
            let event = lock(&shared.board).boot_sent(now, mac, bytes, progress);
            shared.emit(now, mac, event);
        }
    };
    (Teller(sender), note)
}

/// How much of one file went out to one client.
#[derive(Debug)]
pub struct Tally {
    way: Way,
    mac: Option<Mac>,
    /// The boot file, and how long it is; none for the repository.
    file: Option<(BootFile, u64)>,
    told: u64,
    at: Instant,
}

impl Tally {
    /// Begins to count. Bytes before `from` do not count: they went out another time.
    #[must_use]
    pub fn new(way: Way, mac: Option<Mac>, file: Option<BootFile>, from: u64) -> Self {
        let file = file.map(|file| (file.content.length(), file)).map(|(length, file)| (file, length));
        Self { way, mac, file, told: from, at: Instant::now() }
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.told = 0;
    }

    /// The client has the file up to `place`. At the end of a transfer nothing is held back.
    pub fn reached(&mut self, now: Instant, place: u64, ended: bool, shared: &Shared, teller: &Teller) {
        let bytes = place.saturating_sub(self.told);
        let due = ended || now.saturating_duration_since(self.at) >= TELL_EVERY;
        if bytes == 0 || !due {
            return;
        }
        let progress = self.file.as_ref().map(|(file, length)| {
            file.progress(if place >= *length { 1.0 } else { place as f64 / (*length).max(1) as f64 })
        });
        let whole = self.file.as_ref().is_some_and(|(_, length)| place >= *length);
        let taken = self.mac.is_none_or(|mac| {
            let news = News { mac, bytes, progress };
            // The end of a boot file is worth waiting for; how far it is comes again.
            if whole { teller.0.blocking_send(news).is_ok() } else { teller.0.try_send(news).is_ok() }
        });
        if taken || ended {
            shared.metrics.sent(self.way, bytes);
            self.told = place;
            self.at = now;
        }
    }
}
