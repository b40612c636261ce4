//! The thread that makes what was written stay, and writes that down.

use super::{journal::Journal, plan, work::Work};
use anyhow::Result;
use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// How often somebody looks whether a flush is due.
const LOOK: Duration = Duration::from_millis(200);

/// The thread that flushes and writes the journal, beside the workers: they never wait for it.
#[derive(Debug)]
pub struct Flusher {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Flusher {
    /// Starts it.
    #[must_use]
    pub fn start(work: Arc<Work>, mut journal: Option<Journal>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            loop {
                let is_over = !matches!(stopped.recv_timeout(LOOK), Err(mpsc::RecvTimeoutError::Timeout));
                let due = plan::is_flush_due(work.progress().since, last.elapsed());
                if is_over || due {
                    flush(&work, journal.as_mut())?;
                    last = Instant::now();
                }
                if is_over {
                    return Ok(());
                }
            }
        });
        Self { stop, thread }
    }

    /// Flushes a last time. Blocks.
    ///
    /// # Errors
    /// When the disk failed, now or before.
    pub fn finish(self) -> Result<()> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow::anyhow!("the flushing thread died"))?
    }
}

/// What is written is put down only after the flush that followed it.
fn flush(work: &Work, journal: Option<&mut Journal>) -> Result<()> {
    let mut runs = {
        let mut progress = work.progress();
        progress.since = 0;
        progress.written.clone()
    };
    for (run, written) in runs.iter_mut().enumerate().filter(|(_, written)| **written) {
        *written = work.slot.is_whole(&work.plan.runs[run]);
    }
    work.slot.flush()?;
    journal.map_or(Ok(()), |journal| journal.write(&work.slot, &runs))
}
