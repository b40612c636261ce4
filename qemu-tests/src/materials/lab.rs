//! The lab tree: a Debian 13 root with QEMU, firmware and every program of the test world. The host needs none
//! of them, and Debian 12 and 13 hosts test with the same versions.

use crate::{
    cache::{Cache, Entry, Key},
    host::mirror::Mirrors,
    process,
    report::Report,
    sandbox::{self, Apart},
};
use anyhow::{Context as _, Result};

/// busybox: a DHCP client and a static shell for small guests. apt-utils, gpg, dpkg: the signed repository of
/// Kubernetes packages. ovmf is edk2 2025.02: it has the virtio network driver, PXE and HTTP Boot, and wants a
/// random number generator (virtio-rng) for both.
/// cryptsetup-bin, e2fsprogs, fdisk, lvm2, ntfs-3g: other people's disks. ipxe: a network card's ROM that loads another
/// program. python3-virt-firmware: firmware variables with Secure Boot keys in them.
const PACKAGES: [&str; 24] = [
    "apt-utils",
    "busybox-static",
    "cpio",
    "cryptsetup-bin",
    "curl",
    "dnsmasq-base",
    "e2fsprogs",
    "etcd-server",
    "fdisk",
    "gpg",
    "gpg-agent",
    "ipxe",
    "ipxe-qemu",
    "iproute2",
    "kmod",
    "lvm2",
    "nftables",
    "ntfs-3g",
    "ovmf",
    "procps",
    "python3-virt-firmware",
    "qemu-system-x86",
    "seabios",
    "tcpdump",
];

const SUITE: &str = "trixie";

/// Raised when the recipe below changes in a way that the package list does not show.
const RECIPE: &str = "1";

/// Makes the lab tree, or finds it in the cache.
///
/// # Errors
/// When mmdebstrap fails.
pub fn make(cache: &Cache, mirrors: &Mirrors, report: &Report) -> Result<Entry> {
    let mut inputs = vec![RECIPE, SUITE, &mirrors.debian];
    inputs.extend(PACKAGES);
    let entry = cache.make("trees/lab", &Key::of(&inputs), |folder| {
        report.line("lab tree: a Debian 13 root with QEMU, firmware and network programs (about a minute)");
        let root = folder.join("root");
        let mut command = sandbox::command(Apart::Build, "mmdebstrap".as_ref());
        command
            // Root of a user namespace may not mount the sysfs of a network namespace that it does not own, and no
            // package here needs it.
            .args(["--variant=minbase", "--mode=root", "--quiet", "--skip=chroot/mount/sys"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            .args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""])
            .args(["doc", "man", "locale", "info"].map(|part| format!("--dpkgopt=path-exclude=/usr/share/{part}/*")))
            .arg(SUITE)
            .arg(&root)
            .arg(format!("deb {} {SUITE} main", mirrors.debian));
        process::run(&mut command, "lab tree: ", report).context("making the lab tree")
    })?;
    if entry.reused {
        report.line("lab tree: from the cache");
    }
    Ok(Entry { path: entry.path.join("root"), ..entry })
}
