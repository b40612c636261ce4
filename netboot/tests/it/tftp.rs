//! TFTP over real sockets, as EDK2 uses it: first the size, then the file.

use crate::common::{World, assignments, uki, until};
use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

fn request(options: &str) -> Vec<u8> {
    request_for("k8s-worker.efi", options)
}

fn request_for(name: &str, options: &str) -> Vec<u8> {
    format!("\0\x01{name}\0octet\0{options}").into_bytes()
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(length);
    (buffer, from)
}

/// Fetches the file; `window` blocks per acknowledgement.
fn fetch(socket: &UdpSocket, server: SocketAddr, window: usize) -> Vec<u8> {
    fetch_file("k8s-worker.efi", socket, server, window)
}

fn fetch_file(name: &str, socket: &UdpSocket, server: SocketAddr, window: usize) -> Vec<u8> {
    let options = format!("blksize\x001468\0windowsize\0{window}\0");
    socket.send_to(&request_for(name, &options), server).unwrap();
    let (oack, transfer) = receive(socket);
    assert_eq!(oack, [b"\0\x06".to_vec(), options.into_bytes()].concat());
    let mut file = Vec::new();
    let (mut block, mut in_window) = (0_u16, 0);
    socket.send_to(&[0, 4, 0, 0], transfer).unwrap();
    loop {
        let (packet, from) = receive(socket);
        assert_eq!((from, packet[1]), (transfer, 3));
        if packet[2..4] != block.wrapping_add(1).to_be_bytes() {
            continue;
        }
        block = block.wrapping_add(1);
        in_window += 1;
        file.extend_from_slice(&packet[4..]);
        let last = packet.len() < 1472;
        if last || in_window == window {
            in_window = 0;
            socket.send_to(&[&[0, 4], &block.to_be_bytes()[..]].concat(), transfer).unwrap();
        }
        if last {
            return file;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn edk2_asks_for_the_size_then_fetches_the_file() {
    let world = World::new();
    world.know(assignments(1, 1));
    let netboot = world.start().await;
    netboot.loaded().await;
    let server = SocketAddr::from(([127, 0, 0, 1], world.tftp));
    let client = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(&request("tsize\x000\0blksize\x001468\0"), server).unwrap();
        let (oack, transfer) = receive(&socket);
        assert_ne!(transfer.port(), server.port(), "a transfer has its own port");
        assert_eq!(oack, format!("\0\x06blksize\x001468\0tsize\0{}\0", uki().len()).into_bytes());
        socket.send_to(b"\0\x05\0\x08User aborted the transfer\0", transfer).unwrap();
        // The same port at once, as some firmware does.
        assert_eq!(fetch(&socket, server, 4), uki());
        assert_eq!(fetch(&UdpSocket::bind("127.0.0.1:0").unwrap(), server, 1), uki());

        socket.send_to(b"\0\x01autoexec.ipxe\0octet\0", server).unwrap();
        assert_eq!(receive(&socket).0[..4], [0, 5, 0, 1]);
        socket.send_to(b"\0\x02k8s-worker.efi\0octet\0", server).unwrap();
        assert_eq!(receive(&socket).0[..4], [0, 5, 0, 2]);

        // A stranger at a transfer's port gets an error, and the transfer goes on.
        socket.send_to(&request("blksize\x001468\0"), server).unwrap();
        let (_, transfer) = receive(&socket);
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(&[0, 4, 0, 0], transfer).unwrap();
        assert_eq!(receive(&stranger).0[..4], [0, 5, 0, 5]);
        socket.send_to(&[0, 4, 0, 0], transfer).unwrap();
        assert_eq!(receive(&socket).0[..4], [0, 3, 0, 1]);
        // A repeated request starts the same transfer over.
        socket.send_to(&request("blksize\x001468\0"), server).unwrap();
        let (again, same) = receive(&socket);
        assert_eq!((again[1], same), (6, transfer));
    });
    client.await.unwrap();
    netboot.stop().await;
}

/// A PE file with the sections of a UKI.
fn small_uki() -> Vec<u8> {
    let sections: [(&[u8], &[u8]); 3] =
        [(b".linux", b"the kernel"), (b".initrd", b"the initrd"), (b".cmdline", b"roothash=ab quiet")];
    let mut file = vec![0; 0x40];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file.extend(b"PE\0\0\0\0\x03\0");
    file.resize(0x40 + 24, 0);
    let mut at = file.len() + 40 * sections.len();
    for (name, content) in sections {
        let mut entry = [0_u8; 40];
        entry[..name.len()].copy_from_slice(name);
        let bytes = u32::try_from(content.len()).unwrap().to_le_bytes();
        entry[8..12].copy_from_slice(&bytes);
        entry[16..20].copy_from_slice(&bytes);
        entry[20..24].copy_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
        file.extend(entry);
        at += content.len();
    }
    sections.iter().for_each(|(_, content)| file.extend(*content));
    file
}

/// A plain PXE ROM fetches iPXE by TFTP; iPXE fetches the rest over HTTP, and all of it is a part of the signed file.
#[tokio::test(flavor = "multi_thread")]
async fn a_bios_machine_gets_ipxe_then_the_parts_of_the_signed_image() {
    let world = World::new();
    let loader: Vec<u8> = (0..70_001_u32).map(|n| (n % 251) as u8).collect();
    world.repository.publish_with(2, &small_uki(), Some(&loader));
    world.know(assignments(1, 1));
    let netboot = world.start().await;
    until(|| netboot.running.shared.boot.get("k8s-worker.ipxe").is_some()).await;
    let server = SocketAddr::from(([127, 0, 0, 1], world.tftp));
    let fetched = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        fetch_file("undionly.kpxe", &socket, server, 1)
    });
    assert_eq!(fetched.await.unwrap(), loader);
    let get = async |path: &str| netboot.client.get(netboot.url(path)).send().await.unwrap().text().await.unwrap();
    let script = get("/boot/k8s-worker.ipxe").await;
    for (part, content) in [("linux", "the kernel"), ("initrd", "the initrd")] {
        assert!(script.contains(&netboot.url(&format!("/boot/k8s-worker.{part}"))), "{script}");
        assert_eq!(get(&format!("/boot/k8s-worker.{part}")).await, content);
    }
    assert!(script.contains(" roothash=ab quiet ||"), "{script}");
    netboot.stop().await;
}
