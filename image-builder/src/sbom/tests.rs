//! A small image from its trees to both lists.

use super::known::Known;
use super::*;
use crate::{
    initrd::{self, Entries},
    new,
};
use inventory::{Content, Origin, Pinned};
use std::collections::BTreeMap;
use time::macros::datetime;

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: GPL-2+ or Own

License: Own
 Own words.
";

struct Built {
    folder: tempfile::TempDir,
}

impl Built {
    /// Package root, tools tree, finished root, initrd, agent and template, each with a little in it.
    fn new() -> Self {
        let built = Self { folder: tempfile::tempdir().unwrap() };
        new::begin(&built.path("site"), "till", "k8s-worker").unwrap();
        let settings = "apiVersion: shelfboot.dev/v1\nkind: Settings\nparameters:\n  kubernetes.repository.uri: http://x\n  \
                        kubernetes.repository.signedBy: /k\n";
        let status = "\
Package: base\nStatus: install ok installed\nMaintainer: Some Body <some@example.org>\nArchitecture: amd64\nVersion: 1+b1\n\
Source: base-src (1)\nSection: admin\nHomepage: https://base.example/\nDepends: linux (>= 6)\n\n\
Package: linux\nStatus: install ok installed\nArchitecture: amd64\nVersion: 6.1-1\n";
        let tools = "Package: blkid-tools\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2\n\n\
Package: other-tools\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3\n";
        for (path, text) in [
            ("site/settings.yaml", settings),
            ("packages/usr/lib/os-release", "ID=debian\nNAME=Debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n"),
            ("packages/var/lib/dpkg/status", status),
            (
                "packages/var/lib/dpkg/info/base.list",
                "/.\n/bin\n/bin/base\n/etc/base.conf\n/usr/bin/b\n/etc/left-out\n",
            ),
            ("packages/var/lib/dpkg/info/linux:amd64.list", "/boot/vmlinuz-6.1\n/lib/modules/6.1/kernel/a.ko.xz\n"),
            ("packages/usr/share/doc/base/copyright", COPYRIGHT),
            ("tools/var/lib/dpkg/status", tools),
            ("tools/var/lib/dpkg/info/blkid-tools.list", "/sbin/blkid\n"),
            ("tools/var/lib/dpkg/info/other-tools.list", "/usr/bin/other\n"),
            ("agent", "agent"),
        ] {
            files::write(&built.path(path), text.as_bytes(), 0o644).unwrap();
        }
        for (path, before, after) in [
            ("usr/bin/base", Some("base"), Some("base")),
            ("etc/base.conf", Some("old"), Some("new")),
            ("etc/passwd", Some("root"), Some("root and more")),
            ("etc/left-out", Some("x"), None),
            ("etc/hosts", None, Some("hosts")),
            ("usr/lib/modules/6.1/kernel/a.ko.xz", Some("driver"), Some("driver")),
            ("usr/lib/modules/6.1/modules.dep", Some("x"), Some("xy")),
            ("usr/lib/shelfboot/firstboot-agent", None, Some("agent")),
        ] {
            for (tree, text) in [("packages", before), ("root", after)] {
                let Some(text) = text else { continue };
                files::write(&built.path(&format!("{tree}/{path}")), text.as_bytes(), 0o644).unwrap();
            }
        }
        for tree in ["packages", "root"] {
            std::os::unix::fs::symlink("base", built.path(&format!("{tree}/usr/bin/b"))).unwrap();
        }
        let file = |text: &str| initrd::Entry::File(0o755, text.as_bytes().to_vec());
        let entries = Entries::from([
            ("init".to_owned(), file("agent")),
            ("usr/sbin/blkid".to_owned(), file("blkid")),
            ("usr/lib/modules/6.1/kernel/a.ko".to_owned(), file("unpacked")),
        ]);
        let mut archive = Vec::new();
        initrd::write_archive(&entries, &mut archive).unwrap();
        std::fs::write(built.path("initrd.zst"), zstd::encode_all(&archive[..], 1).unwrap()).unwrap();
        built
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn inventory(&self) -> Result<Inventory, SbomError> {
        let (template, settings) = (self.path("site/templates/till.yaml"), self.path("site/settings.yaml"));
        let pin = Pinned {
            name: "base".into(),
            version: "1+b1".into(),
            architecture: "amd64".into(),
            sha256: Some("ab".repeat(32)),
            repository: Some("shop".into()),
        };
        collect(&Trees {
            root: &self.path("root"),
            packages: &self.path("packages"),
            tools: &self.path("tools"),
            initrd: &[self.path("initrd.zst")],
            agent: &self.path("agent"),
            pins: &Pins::new([pin]),
            template: &profiles::load(&template, Some(&settings)).unwrap(),
            explanation: &profiles::explain(&template, Some(&settings)).unwrap(),
            image_version: "7",
            kernel: "6.1",
            root_hash: "0123",
            created: datetime!(2026-11-01 10:00 +1),
            sha1: true,
            known: &Known::default(),
        })
    }
}

#[test]
fn every_file_has_an_origin_and_only_what_is_in_the_image_is_listed() {
    let inventory = Built::new().inventory().unwrap();
    let origins: BTreeMap<&str, String> =
        inventory.root.iter().map(|(path, entry)| (path.as_str(), format!("{:?}", entry.origin))).collect();
    insta::assert_json_snapshot!(origins);
    let boot: Vec<&str> =
        inventory.packages.values().filter(|p| p.in_boot).map(|p| p.installed.name.as_str()).collect();
    assert_eq!(boot, ["blkid-tools", "linux"]);
    assert!(inventory.packages.values().all(|package| package.installed.name != "other-tools"));
    let Content::File(agent) = &inventory.initrd["/init"].content else { panic!("not a file") };
    assert_eq!((agent, &inventory.initrd["/init"].origin), (&inventory.agent, &Origin::Agent));
}

#[test]
fn container_images_are_in_both_lists() {
    let mut inventory = Built::new().inventory().unwrap();
    let digest = format!("sha256:{}", "cd".repeat(32));
    inventory.containers.insert("registry.example/pause:3".into(), digest.clone());
    let read =
        |format: Format| -> serde_json::Value { serde_json::from_slice(&format.write(&inventory).unwrap()).unwrap() };
    let of = |list: &serde_json::Value, part: &str, version: &str| {
        let found = list[part].as_array().unwrap().iter().find(|entry| entry["name"] == "registry.example/pause:3");
        found.unwrap()[version].as_str().unwrap().to_owned()
    };
    assert_eq!(of(&read(Format::Cyclonedx), "components", "version"), digest);
    assert_eq!(of(&read(Format::Spdx), "packages", "versionInfo"), digest);
}

#[test]
fn the_same_image_makes_the_same_lists() {
    let (one, other) = (Built::new().inventory().unwrap(), Built::new().inventory().unwrap());
    for format in [Format::Cyclonedx, Format::Spdx] {
        let written = format.write(&one).unwrap();
        assert_eq!(written, format.write(&other).unwrap());
        let document: serde_json::Value = serde_json::from_slice(&written).unwrap();
        insta::assert_json_snapshot!(format!("{format:?}"), document);
    }
}

#[test]
fn what_is_written_is_read_again() {
    let inventory = Built::new().inventory().unwrap();
    let bytes = Format::Cyclonedx.write(&inventory).unwrap();
    let read: cyclonedx::Bom = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(read, cyclonedx::write(&inventory).unwrap());
}

#[test]
fn a_tree_that_dpkg_knows_nothing_of_is_refused() {
    let built = Built::new();
    std::fs::write(built.path("packages/var/lib/dpkg/status"), "").unwrap();
    assert!(matches!(built.inventory(), Err(SbomError::NoPackages(_))));
}
