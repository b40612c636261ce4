//! `/repo/` and `/boot/` over a real connection, in the dialect of firmware.

use crate::common::{World, assignments, tuf, uki, until};
use std::io::{Read, Write};

/// One request over a bare socket: clients tidy up paths, firmware does not.
fn raw(port: u16, request: &str) -> (String, Vec<u8>) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let at = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    (String::from_utf8(all[..at].to_vec()).unwrap().to_ascii_lowercase(), all[at + 4..].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repository_is_served_with_ranges_and_strong_tags() {
    let world = World::new();
    let content: Vec<u8> = (0..200_000_u32).map(|n| (n % 241) as u8).collect();
    std::fs::write(world.repository.folder.join("archives/a.bita"), &content).unwrap();
    let netboot = world.start().await;
    let url = netboot.url("/repo/archives/a.bita");

    let whole = netboot.client.get(&url).send().await.unwrap();
    let etag = whole.headers()["etag"].clone();
    assert!(!etag.to_str().unwrap().starts_with("W/"));
    assert_eq!(whole.headers().get_all("content-length").iter().count(), 1);
    assert_eq!(whole.bytes().await.unwrap(), content);

    let part = netboot.client.get(&url).header("range", "bytes=100000-100009").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 100000-100009/200000");
    assert_eq!(part.bytes().await.unwrap(), content[100_000..100_010]);

    let resume = netboot.client.get(&url).header("range", "bytes=199990-").header("if-match", etag).send();
    assert_eq!(resume.await.unwrap().bytes().await.unwrap(), content[199_990..]);
    std::fs::write(world.repository.folder.join("archives/new"), b"other").unwrap();
    let folder = world.repository.folder.join("archives");
    std::fs::rename(folder.join("new"), folder.join("a.bita")).unwrap();
    let stale = netboot.client.get(&url).header("range", "bytes=1-").header("if-match", "\"old\"").send();
    assert_eq!(stale.await.unwrap().status(), 412);
    let beyond = netboot.client.get(&url).header("range", "bytes=99-").send().await.unwrap();
    assert_eq!((beyond.status().as_u16(), beyond.headers()["content-range"].to_str().unwrap()), (416, "bytes */5"));

    let head = netboot.client.head(&url).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "5"));
    assert_eq!(netboot.client.post(&url).send().await.unwrap().status(), 405);
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sloppy_paths_work_and_nothing_outside_is_reached() {
    let world = World::new();
    let folder = world.repository.folder.clone();
    std::fs::write(folder.join("archives/a b"), b"inside").unwrap();
    std::fs::write(world.folder.path().join("secret"), b"outside").unwrap();
    std::os::unix::fs::symlink("../../secret", folder.join("archives/relative")).unwrap();
    std::os::unix::fs::symlink(world.folder.path().join("secret"), folder.join("archives/absolute")).unwrap();
    std::os::unix::fs::symlink("a b", folder.join("archives/inner")).unwrap();
    let netboot = world.start().await;
    let port = world.http;
    let check = tokio::task::spawn_blocking(move || {
        for path in
            ["//repo//archives/a%20b", "/repo/./archives///a%20b", "/%72epo/archives/a%20b", "/repo/archives/inner"]
        {
            let (head, body) = raw(port, &format!("GET {path}"));
            assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
            assert!(!head.contains("transfer-encoding") && head.contains("content-length: 6"), "{head}");
            assert_eq!(body, b"inside");
        }
        for path in [
            "/repo/../secret",
            "/repo/%2e%2e/secret",
            "/repo/archives/..%2f..%2fsecret",
            "/repo/archives/relative",
            "/repo/archives/absolute",
            "/repo/archives",
            "/repo/",
            "/repo",
            "/boot/../../secret",
            "/secret",
        ] {
            let (head, body) = raw(port, &format!("GET {path}"));
            assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
            assert!(!body.windows(7).any(|w| w == b"outside"));
        }
        let (head, body) = raw(port, "HEAD //repo//archives/a%20b");
        assert!(head.contains("content-length: 6") && body.is_empty());
    });
    check.await.unwrap();
    netboot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_boot_file_is_verified_served_and_exchanged() {
    let world = World::new();
    world.know(assignments(1, 1));
    let netboot = world.start().await;
    netboot.loaded().await;
    let url = netboot.url("/boot/k8s-worker.efi");
    let head = netboot.client.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-type"], "application/efi");
    assert_eq!(head.headers()["content-length"], uki().len().to_string().as_str());
    let got = netboot.client.get(&url).send().await.unwrap();
    let first_tag = got.headers()["etag"].clone();
    assert_eq!(got.bytes().await.unwrap(), uki());

    world.repository.publish(2, b"the next UKI");
    until(|| netboot.running.shared.boot.get("k8s-worker.efi").unwrap().version == "2").await;
    let got = netboot.client.get(&url).header("range", "bytes=4-").header("if-range", first_tag).send().await.unwrap();
    assert_eq!((got.status().as_u16(), got.bytes().await.unwrap().as_ref()), (200, &b"the next UKI"[..]));

    // A repository of somebody else's keys never takes the place of what was verified.
    let forger = tuf::Repository::new(world.repository.folder.clone());
    forger.publish(3, b"forged");
    until(|| netboot.running.shared.boot.current().problem.is_some()).await;
    assert_eq!(netboot.client.get(&url).send().await.unwrap().bytes().await.unwrap(), &b"the next UKI"[..]);
    let page = netboot.client.get(netboot.url("/")).send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("The system images of this store have a problem.") && !page.contains("Nothing is wrong"),
        "{page}"
    );
    netboot.stop().await;
}
