//! Whether an installed machine is still what its template says, and how it is: `firstboot-agent check` and `status`. The root cannot
//! change, so what is looked at is what could: whether it is that root, what lies over `/etc`, what persists, and how long
//! certificates hold.

pub mod look;
pub mod show;

use serde::Serialize;
use std::collections::BTreeMap;
use time::{Duration, OffsetDateTime};

/// A certificate that holds for less time than this should have been renewed.
pub const SHORT: Duration = Duration::days(14);

/// What is on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// The root's file system.
    pub root: Mount,
    /// The device mapper's kind of the root's device, `VERITY`.
    pub root_target: Option<String>,
    /// What lies over the image's `/etc`, by path: its content, `None` where something of the image's is taken away.
    pub over_etc: BTreeMap<String, Option<Vec<u8>>>,
    /// What the node configuration puts there, by path.
    pub wanted: BTreeMap<String, Vec<u8>>,
    /// Folders that the template wants bound from the state partition, and whether they are.
    pub persist: BTreeMap<String, bool>,
    /// Certificates of the join by path, with the end of their time; `None` where one cannot be read.
    pub certificates: BTreeMap<String, Option<OffsetDateTime>>,
    /// The state partition.
    pub state: State,
}

/// Whether the state is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// It is in a LUKS2 volume.
    pub encrypted: bool,
    /// The template allows nothing else.
    pub demanded: bool,
    /// The registrar does not have the recovery key yet.
    pub recovery_key_here: bool,
}

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// The file system's kind.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Nothing can be written.
    pub read_only: bool,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word.
    pub code: &'static str,
    /// What it is.
    pub message: String,
    /// What to do.
    pub help: &'static str,
}

/// Files over `/etc` that every machine has: the agent's own, and what systemd makes because `/etc` is older than `/usr`
/// (`ConditionNeedsUpdate=`, ldconfig.service, systemd-update-done.service).
const OUR_OWN: [&str; 5] = ["/etc/machine-id", "/etc/hostname", "/etc/.pwd.lock", "/etc/.updated", "/etc/ld.so.cache"];

/// All that is not as it should be; nothing is good.
#[must_use]
pub fn findings(look: &Look, now: OffsetDateTime) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |code, message: String, help| found.push(Finding { code, message, help });
    let Mount { kind, source, read_only } = &look.root;
    if kind != "erofs" || !read_only || look.root_target.as_deref() != Some("VERITY") {
        let target = look.root_target.as_deref().unwrap_or("none");
        add(
            "root-not-verified",
            format!("the root is {kind} from {source} (device mapper target {target}), not a verified read-only image"),
            "this machine was not started by its boot image; start it from its disk, or install it anew",
        );
    }
    for (path, content) in &look.over_etc {
        match (content, look.wanted.get(path)) {
            (Some(content), Some(wanted)) if content == wanted => {}
            (Some(_), None) if OUR_OWN.contains(&path.as_str()) => {}
            (Some(_), Some(_)) => add(
                "file-changed",
                format!("{path} is not what the node configuration says"),
                "restart the machine: /etc is composed anew at every start. A lasting change belongs in the template",
            ),
            (Some(_), None) => add(
                "file-added",
                format!("{path} is neither the image's nor the node configuration's"),
                "it is gone after a restart. A file that should stay belongs in the template",
            ),
            (None, _) => add(
                "file-removed",
                format!("{path} of the image was taken away"),
                "it is back after a restart. A file that should not be there belongs out of the template",
            ),
        }
    }
    for path in look.wanted.keys().filter(|path| !look.over_etc.contains_key(*path)) {
        add("file-missing", format!("{path} of the node configuration is not there"), "restart the machine");
    }
    for path in look.persist.iter().filter(|(_, bound)| !**bound).map(|(path, _)| path) {
        add(
            "not-persistent",
            format!("{path} is not on the state partition: what is written there is lost at the next start"),
            "restart the machine; if this comes back, look at its console for why",
        );
    }
    if look.state.demanded && !look.state.encrypted {
        add(
            "state-in-the-clear",
            "the state partition is not encrypted, and the template wants it to be".into(),
            "install this machine anew on an empty disk: what is in the clear is not encrypted afterwards",
        );
    }
    if look.state.recovery_key_here {
        add(
            "recovery-key-here",
            "the registrar has not taken the recovery key of the state yet: without its TPM nobody could read this disk".into(),
            "it is handed over by itself once the region answers; see the console for why it did not",
        );
    }
    for (path, end) in &look.certificates {
        match end {
            None => {
                add("certificate-unreadable", format!("{path} holds no certificate"), "restart shelfboot-agent.service")
            }
            Some(end) if *end <= now => add(
                "certificate-expired",
                format!("{path} expired {}", end.date()),
                "restart shelfboot-agent.service: it asks the region for another one",
            ),
            Some(end) if *end - now < SHORT => add(
                "certificate-expires",
                format!("{path} expires {}", end.date()),
                "see why it was not renewed: the line to the region, and the service that uses it",
            ),
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-22 00:00 UTC);

    fn good() -> Look {
        let file = |path: &str, content: &str| (path.to_owned(), content.as_bytes().to_vec());
        let wanted = BTreeMap::from([file("/etc/till.conf", "port 9100")]);
        let mut over_etc: BTreeMap<_, _> =
            wanted.iter().map(|(path, content)| (path.clone(), Some(content.clone()))).collect();
        over_etc.insert("/etc/machine-id".into(), Some(b"ab\n".to_vec()));
        Look {
            root: Mount { kind: "erofs".into(), source: "/dev/mapper/root".into(), read_only: true },
            root_target: Some("VERITY".into()),
            over_etc,
            wanted,
            persist: BTreeMap::from([("/var".into(), true)]),
            certificates: BTreeMap::from([("/etc/kubernetes/node.crt".into(), Some(NOW + Duration::days(90)))]),
            state: State { encrypted: true, demanded: true, recovery_key_here: false },
        }
    }

    fn codes(look: &Look) -> Vec<&'static str> {
        findings(look, NOW).iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_machine_as_its_template_says_has_no_findings() {
        assert_eq!(findings(&good(), NOW), []);
    }

    #[test]
    fn every_difference_is_named() {
        let with = |change: &dyn Fn(&mut Look)| {
            let mut look = good();
            change(&mut look);
            codes(&look)
        };
        assert_eq!(with(&|l| l.root.read_only = false), ["root-not-verified"]);
        assert_eq!(with(&|l| l.root_target = None), ["root-not-verified"]);
        assert_eq!(
            with(&|l| {
                l.over_etc.insert("/etc/till.conf".into(), Some(b"x".to_vec()));
            }),
            ["file-changed"]
        );
        assert_eq!(
            with(&|l| {
                l.over_etc.insert("/etc/new".into(), Some(vec![]));
            }),
            ["file-added"]
        );
        assert_eq!(
            with(&|l| {
                l.over_etc.insert("/etc/passwd".into(), None);
            }),
            ["file-removed"]
        );
        assert_eq!(
            with(&|l| {
                l.over_etc.remove("/etc/till.conf");
            }),
            ["file-missing"]
        );
        assert_eq!(
            with(&|l| {
                l.persist.insert("/var".into(), false);
            }),
            ["not-persistent"]
        );
        assert_eq!(with(&|l| l.state.encrypted = false), ["state-in-the-clear"]);
        assert_eq!(with(&|l| l.state.recovery_key_here = true), ["recovery-key-here"]);
        let certificate = |end: Option<OffsetDateTime>| {
            with(&|l| {
                l.certificates.insert("/c".into(), end);
            })
        };
        assert_eq!(certificate(None), ["certificate-unreadable"]);
        assert_eq!(certificate(Some(NOW)), ["certificate-expired"]);
        assert_eq!(certificate(Some(NOW + Duration::days(13))), ["certificate-expires"]);
    }
}
