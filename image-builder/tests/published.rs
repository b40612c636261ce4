//! `sbom` and `diff` on a real repository of two small images: the program, as people run it.

#[path = "../../contracts/tests/program/mod.rs"]
mod program;

use contracts::manifest::{Channel, ImageManifest, Root};
use image_builder::{
    archive::{Earlier, Packer},
    keys,
    repository::{Expiry, Publication, Repository},
};
use program::Place;
use serde_json::{Value, json};
use std::{fs, path::Path};

const EXPIRY: Expiry = Expiry { targets_days: 365, timestamp_days: 30 };

/// A folder with `repository/`: `till@1` on the channel `stable`, then `till@2` on `next`.
fn place() -> Place {
    let place = Place::new(env!("CARGO_BIN_EXE_image-builder"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let keys = keys::init(&place.path("keys")).await.unwrap();
        for (version, channel, package) in [("1", "stable", "1.0"), ("2", "next", "1.1")] {
            publish(&place, &keys, version, channel, package).await;
        }
    });
    place
}

async fn publish(place: &Place, keys: &keys::Keys, version: &str, channel: &str, package: &str) {
    let folder = place.path(&format!("made-{version}"));
    fs::create_dir(&folder).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    // Two MiB that both images have, and a tail that differs.
    let mut root: Vec<u8> = (0..2u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    root.extend((0..100_000u32).map(|n| (n.wrapping_mul(40_503) >> 7) as u8 ^ version.as_bytes()[0]));
    let (work, data, runtime) = (folder.clone(), write("data", &root), tokio::runtime::Handle::current());
    let archive = tokio::task::spawn_blocking(move || {
        let mut packer = Packer::new(&work, Earlier::none(), runtime).unwrap();
        packer.add(&data).unwrap();
        packer.finish().unwrap()
    });
    let archive = archive.await.unwrap();
    let image = format!("images/till/{version}");
    let manifest = ImageManifest {
        version: contracts::VERSION,
        template: "till".into(),
        image_version: version.into(),
        architecture: "x86_64".into(),
        root: Root { data_bytes: root.len() as u64, hash_bytes: 0, root_hash: "0".repeat(64) },
        archive: archive.archive.clone(),
        uki: format!("{image}/uki.efi"),
        boot_loader: "boot".into(),
        registrar_ca: "ca".into(),
        bios: None,
        disks: contracts::disks::DiskPolicy::default(),
        state: Default::default(),
    };
    let json = |value: Value| value.to_string().into_bytes();
    let channel_file = Channel { version: contracts::VERSION, image_version: version.into() };
    let publication = Publication {
        fixed: vec![
            (format!("{image}/manifest.json"), write("manifest", &serde_json::to_vec(&manifest).unwrap())),
            (format!("{image}/uki.efi"), write("uki", version.as_bytes())),
            (format!("{image}/sbom.cdx.json"), write("sbom", &json(list(version, package)))),
        ],
        replaceable: vec![(
            Channel::target_name("till", channel),
            write("channel", &serde_json::to_vec(&channel_file).unwrap()),
        )],
        plain: vec![(archive.archive.path.clone(), archive.path)],
    };
    let repository = Repository::open(&place.path("repository"), keys.clone()).await.unwrap();
    repository.publish(&publication, EXPIRY).await.unwrap();
}

fn list(version: &str, package: &str) -> Value {
    let file = json!({"type": "file", "name": "/usr/bin/tool", "hashes": [{"alg": "SHA-256", "content": package}]});
    json!({
        "$schema": "s", "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": version, "version": 1,
        "metadata": {"timestamp": "", "tools": {"components": []}, "component": {"type": "operating-system", "name": "till"}},
        "components": [{
            "type": "library", "bom-ref": "p", "name": "tool", "version": package, "purl": "pkg:deb/debian/tool",
            "properties": [{"name": "shelfboot:in", "value": "root"}], "components": [file],
        }],
    })
}

fn json_of(said: &str) -> Value {
    let (start, end) = (said.find('{').unwrap(), said.rfind('}').unwrap());
    serde_json::from_str(&said[start..=end]).unwrap()
}

/// Changes the one file below `repository/` whose path ends so.
fn damage(place: &Place, end: &str) {
    fn find(folder: &Path, end: &str) -> Option<std::path::PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| match path.is_dir() {
            true => find(&path, end),
            false => path.to_string_lossy().ends_with(end).then_some(path),
        })
    }
    let path = find(&place.path("repository"), end).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[60] ^= 1;
    fs::write(path, bytes).unwrap();
}

const DIFF: [&str; 5] = ["diff", "till@stable", "till:next", "--repository", "repository"];

#[test]
fn two_images_are_compared_by_version_or_channel() {
    let place = place();
    let said = place.run(&[DIFF.as_slice(), &["--json"]].concat());
    assert!(said.contains("exit code: 0"), "{said}");
    let difference = json_of(&said);
    assert_eq!((&difference["from"], &difference["to"]), (&json!("till@1"), &json!("till@2")));
    assert_eq!(difference["packages"], json!([{"name": "tool", "place": "root", "from": "1.0", "to": "1.1"}]));
    assert_eq!(difference["files"][0]["path"], "/usr/bin/tool");
    // The tail and perhaps its neighbour, not the two MiB before it.
    let transfer = &difference["transfer"];
    let (chunks, all) = (transfer["chunks"].as_u64().unwrap(), transfer["chunks_of_all"].as_u64().unwrap());
    assert!(0 < chunks && chunks <= 6 && all > 3 * chunks, "{transfer}");
    assert_eq!(transfer["boot_image_bytes"], 1);

    let said = place.run(&DIFF);
    assert!(said.contains("~ tool 1.0 -> 1.1") && said.contains("an update transfers"), "{said}");
    let said = place.run(&["diff", "till@1", "till@stable", "--json", "--repository", "repository"]);
    assert_eq!(json_of(&said)["transfer"]["bytes"], 0);
}

#[test]
fn a_list_is_printed_as_it_was_published() {
    let place = place();
    let said = place.run(&["sbom", "till", "next", "--repository", "repository"]);
    assert_eq!(json_of(&said), list("2", "1.1"));
    let none = place.run(&["sbom", "till", "2", "--repository", "repository", "--format", "spdx"]);
    assert!(none.contains("exit code: 2") && none.contains("--spdx"), "{none}");
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let place = place();
    for (arguments, code, hint) in [
        (["diff", "till", "till@1", "--repository", "repository"], "2", "TEMPLATE@VERSION"),
        (["diff", "till@9", "till@1", "--repository", "repository"], "2", "it has till@1, till@2"),
        (["diff", "till@1", "till@2", "--repository", "nowhere"], "3", "a folder that exists"),
        (["sbom", "oven", "1", "--repository", "repository"], "2", "it has till@1, till@2"),
    ] {
        let said = place.run(&arguments);
        assert!(said.contains(&format!("exit code: {code}")) && said.contains(hint), "{said}");
    }
}

#[test]
fn damage_and_other_keys_are_found() {
    let place = place();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(keys::init(&place.path("other"))).unwrap();
    let other = place.run(&[DIFF.as_slice(), &["--root", "other/tuf/1.root.json"]].concat());
    assert!(other.contains("exit code: 3") && other.contains("cannot be read"), "{other}");
    let own = place.run(&[DIFF.as_slice(), &["--root", "keys/tuf/1.root.json"]].concat());
    assert!(own.contains("exit code: 0"), "{own}");

    damage(&place, ".bita");
    let said = place.run(&DIFF);
    assert!(said.contains("exit code: 3") && said.contains("not the one that was signed"), "{said}");
    damage(&place, "1/sbom.cdx.json");
    let said = place.run(&["sbom", "till", "1", "--repository", "repository"]);
    assert!(said.contains("exit code: 3") && !said.contains("CycloneDX"), "{said}");
}
