//! Decides where each path of an image came from. Pure.

use super::inventory::{Content, Origin};
use profiles::{Explanation, MachineTemplate};
use std::{collections::BTreeMap, path::Path};

/// A path of the finished tree beside the same path of the package root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The same.
    Same,
    /// Something else.
    Changed,
    /// Nothing was there.
    New,
}

/// Where the template's own files come from: by path, and of units by their name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    paths: BTreeMap<String, Origin>,
    units: BTreeMap<String, Origin>,
}

impl Written {
    /// From the merged template and the explanation of the same documents.
    #[must_use]
    pub fn of(template: &MachineTemplate, explanation: &Explanation) -> Self {
        let mut out = Self::default();
        for part in &explanation.parts {
            let origin = |section: &'static str| Origin::Profile { profile: profile_name(&part.from.file), section };
            match part.section {
                "files" if template.files.contains_key(&part.name) => {
                    out.paths.insert(part.name.clone(), origin("files"));
                }
                "links" if template.links.contains_key(&part.name) => {
                    out.paths.insert(part.name.clone(), origin("links"));
                }
                "units" => {
                    out.units.insert(part.name.clone(), origin("units"));
                }
                _ => {}
            }
        }
        out
    }

    /// systemctl makes links in /etc/systemd that are called like the unit, or point at it.
    fn origin(&self, path: &str, content: &Content) -> Option<&Origin> {
        let unit = |path: &str| self.units.get(path.rsplit('/').next().unwrap_or(path));
        let of_unit = match content {
            Content::Link(target) if path.starts_with("/etc/systemd/") => unit(path).or_else(|| unit(target)),
            _ => None,
        };
        self.paths.get(path).or(of_unit)
    }
}

/// A profile's file as `configuration/base`, without the folders that differ from host to host.
#[must_use]
pub fn profile_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    match file.parent().and_then(Path::file_name) {
        Some(folder) => format!("{}/{stem}", folder.to_string_lossy()),
        None => stem.into_owned(),
    }
}

/// Where the agent lies in the root, and in the initrd.
pub const AGENT_PATHS: [&str; 2] = ["/usr/lib/shelfboot/firstboot-agent", "/init"];

/// Decides where a path of the root came from. `owner` is the package URL of the package whose list has the path.
#[must_use]
pub fn origin(path: &str, content: &Content, owner: Option<&str>, beside: Beside, written: &Written) -> Origin {
    if AGENT_PATHS.contains(&path) {
        return Origin::Agent;
    }
    if beside != Beside::Same
        && let Some(origin) = written.origin(path, content)
    {
        return origin.clone();
    }
    match (owner, beside) {
        (Some(owner), Beside::Same) => Origin::Package(owner.to_owned()),
        (owner, _) => Origin::Made { by: maker(path, content, beside), instead_of: owner.map(str::to_owned) },
    }
}

/// The program that makes the files that no package lists.
fn maker(path: &str, content: &Content, beside: Beside) -> &'static str {
    let installed = beside == Beside::Same;
    let link = matches!(content, Content::Link(_));
    let alternative = matches!(content, Content::Link(target) if target.starts_with("/etc/alternatives/"));
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match (folder, name) {
        _ if alternative || folder == "/etc/alternatives" => "update-alternatives",
        _ if folder.starts_with("/usr/lib/modules/") && name.starts_with("modules.") => "depmod",
        ("/etc", "passwd" | "group" | "shadow" | "gshadow" | "subuid" | "subgid") if !installed => "systemd-sysusers",
        ("/etc", "ld.so.cache") => "ldconfig",
        ("/etc/ssl/certs", _) => "update-ca-certificates",
        ("/usr/lib/udev" | "/etc/udev", "hwdb.bin") => "systemd-hwdb",
        ("/var/lib/systemd/catalog", "database") => "journalctl",
        ("/var/lib/pam", _) => "pam-auth-update",
        ("/etc/pam.d", _) if name.starts_with("common-") => "pam-auth-update",
        _ if folder.starts_with("/etc/systemd/") && link && !installed => "systemctl",
        _ if folder.starts_with("/etc/rc") && folder.ends_with(".d") => "update-rc.d",
        _ if folder.starts_with("/var/lib/dpkg") => "dpkg",
        _ if name.ends_with(".pyc") => "py3compile",
        _ if installed => "maintainer scripts",
        _ => "image-builder",
    }
}

/// Decides where a path of the initrd came from: a program of the tools tree, a driver of the kernel's package, which is packed
/// there, or the build.
#[must_use]
pub fn initrd_origin(
    path: &str,
    in_tools: impl Fn(&str) -> Option<String>,
    in_root: impl Fn(&str) -> Option<String>,
) -> Origin {
    if AGENT_PATHS.contains(&path) {
        return Origin::Agent;
    }
    let made = |by| Origin::Made { by, instead_of: None };
    if path.starts_with("/usr/lib/modules/") {
        let packed = || ["", ".xz", ".zst", ".gz"].iter().find_map(|packing| in_root(&format!("{path}{packing}")));
        return packed().map_or(made("depmod"), Origin::Package);
    }
    in_tools(path).map_or(made("image-builder"), Origin::Package)
}

#[cfg(test)]
mod tests {
    use super::super::inventory::Digests;
    use super::*;
    use profiles::explain::{Part, Place};

    fn link(target: &str) -> Content {
        Content::Link(target.into())
    }

    fn made(by: &'static str) -> Origin {
        Origin::Made { by, instead_of: None }
    }

    #[test]
    fn every_path_has_an_origin() {
        let file = Content::File(Digests::default());
        let part = |section: &'static str, name: &str| Part {
            section,
            name: name.into(),
            value: None,
            from: Place { file: "/x/configuration/base.yaml".into(), line: 3 },
            over: Vec::new(),
        };
        let written = Written {
            paths: [(
                "/etc/motd".to_owned(),
                Origin::Profile { profile: profile_name(&part("files", "").from.file), section: "files" },
            )]
            .into(),
            units: [(
                "ssh.service".to_owned(),
                Origin::Profile { profile: "configuration/base".into(), section: "units" },
            )]
            .into(),
        };
        let of = |path: &str, content: &Content, owner, beside| origin(path, content, owner, beside, &written);
        let base = |section| Origin::Profile { profile: "configuration/base".into(), section };
        assert_eq!(of("/usr/bin/a", &file, Some("p"), Beside::Same), Origin::Package("p".into()));
        assert_eq!(of("/etc/motd", &file, Some("p"), Beside::Changed), base("files"));
        let wants = "/etc/systemd/system/multi-user.target.wants/ssh.service";
        assert_eq!(of(wants, &link("/usr/lib/systemd/system/ssh.service"), None, Beside::New), base("units"));
        assert_eq!(of("/etc/systemd/system/sshd.service", &link("/x/ssh.service"), None, Beside::New), base("units"));
        assert_eq!(of("/etc/passwd", &file, None, Beside::Changed), made("systemd-sysusers"));
        assert_eq!(of("/etc/passwd", &file, None, Beside::Same), made("maintainer scripts"));
        assert_eq!(of("/usr/bin/awk", &link("/etc/alternatives/awk"), None, Beside::Same), made("update-alternatives"));
        let changed = Origin::Made { by: "image-builder", instead_of: Some("p".into()) };
        assert_eq!(of("/etc/conf", &file, Some("p"), Beside::Changed), changed);
        assert_eq!(of(AGENT_PATHS[0], &file, None, Beside::New), Origin::Agent);
    }

    #[test]
    fn the_initrd_has_drivers_of_the_kernel_and_programs_of_the_tools_tree() {
        let tools = |path: &str| (path == "/usr/sbin/blkid").then(|| "util-linux".to_owned());
        let root = |path: &str| (path == "/usr/lib/modules/6/a.ko.xz").then(|| "linux".to_owned());
        let of = |path: &str| initrd_origin(path, tools, root);
        assert_eq!(of("/usr/sbin/blkid"), Origin::Package("util-linux".into()));
        assert_eq!(of("/usr/lib/modules/6/a.ko"), Origin::Package("linux".into()));
        assert_eq!(of("/usr/lib/modules/6/modules.dep"), made("depmod"));
        assert_eq!(of("/etc/shelfboot/trust.json"), made("image-builder"));
        assert_eq!(of("/init"), Origin::Agent);
    }
}
