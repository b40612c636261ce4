//! What watches a start from outside of it: the machine's watchdog, a deadline that systemd keeps, and what they leave behind for
//! the next start.

use super::model::Evidence;
use crate::console;
use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use std::{fs, path::Path, time::Duration};

/// systemd tells the hardware that it lives; without that the machine restarts after this long.
const WATCHDOG_SECONDS: u64 = 60;
/// The same for a restart that does not come to its end.
const RESTART_SECONDS: u64 = 300;
/// systemd gives a start up this much later than the agent would, if the agent does not take over.
const LATER: Duration = Duration::from_secs(60);
/// `WDIOF_CARDRESET` (linux/watchdog.h).
const CARD_RESET: u64 = 0x20;
const PSTORE: &str = "/sys/fs/pstore";
/// Dumps that are looked at; the firmware has room for few.
const MOST_DUMPS: usize = 64;
/// The timer that the agent stops when it takes over.
pub const TIMER: &str = "shelfboot-deadline.timer";

/// What watchdog and firmware say about the last start. Last words of a kernel are removed: there is little room for them.
#[must_use]
pub fn evidence() -> Evidence {
    Evidence { watchdog: watchdog_fired(Path::new("/sys/class/watchdog")), panic: last_words() }
}

fn watchdog_fired(folder: &Path) -> bool {
    let Ok(devices) = fs::read_dir(folder) else { return false };
    devices.flatten().any(|device| {
        let text = fs::read_to_string(device.path().join("bootstatus")).unwrap_or_default();
        let text = text.trim();
        let number = text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok());
        number.is_some_and(|status| status & CARD_RESET != 0)
    })
}

/// True when a kernel stopped and its log was kept (Documentation/admin-guide/pstore.rst); its last line is shown.
fn last_words() -> bool {
    let at = Path::new(PSTORE);
    if !at.is_dir() {
        return false;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Mounted already, perhaps; then listing works all the same.
    let _ = mount(Some("pstore"), at, Some("pstore"), flags, None::<&str>);
    let Ok(dumps) = fs::read_dir(at) else { return false };
    let mut panicked = false;
    for dump in dumps.flatten().take(MOST_DUMPS) {
        let text = fs::read(dump.path()).unwrap_or_default();
        if let Some(line) = panic_line(&String::from_utf8_lossy(&text)) {
            console::line(&format!("the kernel before left its last words: {line}"));
            panicked = true;
        }
        let _ = fs::remove_file(dump.path());
    }
    panicked
}

fn panic_line(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.contains("Kernel panic - not syncing"))?;
    Some(line.find("Kernel panic").map_or(line, |at| &line[at..]))
}

/// Tells systemd, before it starts, to keep the hardware's watchdog quiet; on trial also to give up when nobody takes over. All of
/// it lies in `/run` (`run`): it is for this start.
///
/// # Errors
/// When a file cannot be written.
pub fn write_units(run: &Path, trial: Option<Duration>) -> Result<()> {
    let write = |path: &str, text: &str| {
        let path = run.join("systemd").join(path);
        fs::create_dir_all(path.parent().unwrap_or(run))?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    // Without a watchdog systemd only says so.
    let manager = format!("[Manager]\nRuntimeWatchdogSec={WATCHDOG_SECONDS}\nRebootWatchdogSec={RESTART_SECONDS}\n");
    write("system.conf.d/10-shelfboot-watchdog.conf", &manager)?;
    let Some(deadline) = trial else { return Ok(()) };
    let seconds = (deadline + LATER).as_secs();
    // No default dependencies: it has to run where nothing else does.
    write(
        &format!("system/{TIMER}"),
        &format!(
            "[Unit]\nDescription=Gives up on a version on trial that does not come up\nDefaultDependencies=no\n\
             [Timer]\nOnBootSec={seconds}\nAccuracySec=1\n"
        ),
    )?;
    write(
        "system/shelfboot-deadline.service",
        "[Unit]\nDescription=Gives up on a version on trial that does not come up\nDefaultDependencies=no\n\
         SuccessAction=reboot-force\nFailureAction=reboot-force\n\
         [Service]\nType=oneshot\nTimeoutStartSec=30\nExecStart=/usr/lib/shelfboot/firstboot-agent give-up\n",
    )?;
    let wants = run.join("systemd/system/sysinit.target.wants");
    fs::create_dir_all(&wants)?;
    let link = wants.join(TIMER);
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(format!("../{TIMER}"), &link).context("linking the deadline's timer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_watchdog_that_fired_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!watchdog_fired(folder.path()));
        let device = folder.path().join("watchdog0");
        fs::create_dir(&device).unwrap();
        for (text, fired) in [("0\n", false), ("32\n", true), ("0x20\n", true), ("1\n", false), ("x", false)] {
            fs::write(device.join("bootstatus"), text).unwrap();
            assert_eq!(watchdog_fired(folder.path()), fired, "{text:?}");
        }
    }

    #[test]
    fn the_line_of_a_panic_is_found() {
        let text = "Panic#1 Part1\n<6>[   1.0] x\n<0>[   9.1] Kernel panic - not syncing: sysrq triggered crash\n<4>";
        assert_eq!(panic_line(text), Some("Kernel panic - not syncing: sysrq triggered crash"));
        assert_eq!(panic_line("Oops#1 Part1\n"), None);
    }

    #[test]
    fn the_good_version_has_no_deadline() {
        let folder = tempfile::tempdir().unwrap();
        write_units(folder.path(), None).unwrap();
        let timer = folder.path().join("systemd/system").join(TIMER);
        assert!(folder.path().join("systemd/system.conf.d/10-shelfboot-watchdog.conf").exists() && !timer.exists());
        write_units(folder.path(), Some(Duration::from_secs(600))).unwrap();
        assert!(fs::read_to_string(&timer).unwrap().contains("OnBootSec=660\n"));
        let link = folder.path().join("systemd/system/sysinit.target.wants").join(TIMER);
        assert_eq!(fs::canonicalize(link).unwrap(), fs::canonicalize(timer).unwrap());
    }
}
