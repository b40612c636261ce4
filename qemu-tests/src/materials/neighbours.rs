//! Two more trees: other people's DHCP programs, and machines of another architecture.

use super::tree::Tree;

/// Kea, a relay, and the DHCP clients of other devices. dnsmasq and busybox are in the lab tree.
pub const NEIGHBOURS: Tree = Tree {
    name: "neighbours",
    about: "a Debian 13 root with other people's DHCP servers, relays and clients (about a minute)",
    packages: &["iproute2", "isc-dhcp-client", "isc-dhcp-relay", "kea-dhcp4-server", "systemd", "util-linux"],
};

/// See [`Tree`].
pub const ARM64: Tree = Tree {
    name: "arm64",
    about: "a Debian 13 root with QEMU and firmware for arm64 (about a minute)",
    packages: &["iproute2", "qemu-efi-aarch64", "qemu-system-arm"],
};
