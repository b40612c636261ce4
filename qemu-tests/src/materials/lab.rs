//! The lab tree: QEMU, firmware and every program of the store.

use super::tree::Tree;

/// See [`Tree`].
pub const LAB: Tree = Tree {
    name: "lab",
    about: "a Debian 13 root with QEMU, firmware and network programs (about a minute)",
    packages: PACKAGES,
};

/// busybox: a DHCP client and a static shell for small guests. apt-utils, gpg, dpkg: the signed repository of
/// Kubernetes packages. ovmf is edk2 2025.02: it has the virtio network driver, PXE and HTTP Boot, and wants a
/// random number generator (virtio-rng) for both.
/// cryptsetup-bin, e2fsprogs, fdisk, lvm2, ntfs-3g: other people's disks. ipxe: a network card's ROM that loads another
/// program. swtpm: a TPM for QEMU. qemu-utils, skopeo: what image-builder exports, read by others. python3-virt-firmware: firmware variables with Secure Boot keys in them.
const PACKAGES: &[&str] = &[
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
    "qemu-utils",
    "seabios",
    "skopeo",
    "swtpm",
    "tcpdump",
];
