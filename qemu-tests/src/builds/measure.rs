//! How long a program takes, and how much memory it and everything below it have at the most.

use crate::process;
use anyhow::{Context as _, Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How often memory is looked at. Looking costs the kernel something, too.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// From start to end.
    pub seconds: f64,
    /// The most memory at one time: proportional set sizes of all processes (proc_pid_smaps(5), Pss), in MiB. The page cache does
    /// not count.
    pub peak_mib: f64,
}

/// Runs a program to its end; what it says goes to a file.
///
/// # Errors
/// When it fails; the error holds the end of what it said.
pub fn run(command: &mut Command, log: &std::path::Path) -> Result<Cost> {
    let file = fs::File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let errors = file.try_clone().context("sharing the log")?;
    let begin = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
    let mut child = child.with_context(|| format!("starting {}", command.get_program().display()))?;
    let (id, done) = (child.id(), AtomicBool::new(false));
    let (status, seconds, peak) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(memory_kib(id));
                std::thread::sleep(INTERVAL);
            }
            peak
        });
        let status = child.wait();
        let seconds = begin.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (status, seconds, watching.join().unwrap_or(0))
    });
    let status = status.context("waiting for a program")?;
    if !status.success() {
        let text = fs::read(log).unwrap_or_default();
        let tail = process::tail(&String::from_utf8_lossy(&text));
        bail!("{} ended with {status}; its last lines:\n{tail}", command.get_program().display());
    }
    #[expect(clippy::cast_precision_loss, reason = "kibibytes of memory are far below 2^52")]
    Ok(Cost { seconds, peak_mib: peak as f64 / 1024.0 })
}

fn memory_kib(first: u32) -> u64 {
    let of = |id: &u32| {
        let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    below(first, &parents()).iter().map(of).sum()
}

/// A process and all below it.
#[must_use]
pub fn family(id: u32) -> Vec<u32> {
    below(id, &parents()).into_iter().collect()
}

/// Every process and its parent.
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| Some((id, parent(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?))).collect()
}

/// The fourth field of proc_pid_stat(5); the second, a name in parentheses, may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A process and all below it.
fn below(first: u32, parents: &BTreeMap<u32, u32>) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([first]);
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(id, parent)| found.contains(parent) && !found.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_children_counts() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        // 64 MiB in a child of the shell, for long enough to be seen.
        let script = "head -c 67108864 /dev/zero | tail | sleep 1; true";
        let cost = run(Command::new("sh").args(["-c", script]), &log).unwrap();
        assert!(cost.seconds >= 1.0 && cost.peak_mib > 60.0, "{cost:?}");
        let failed = run(Command::new("sh").args(["-c", "echo why; exit 3"]), &log).unwrap_err().to_string();
        assert!(failed.contains("why"), "{failed}");
    }

    #[test]
    fn a_name_may_hold_parentheses() {
        assert_eq!(parent("12 (a) b) S 34 12"), Some(34));
        assert_eq!(parent("nonsense"), None);
        assert_eq!(below(2, &BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1)])), BTreeSet::from([2, 3, 4]));
    }
}
