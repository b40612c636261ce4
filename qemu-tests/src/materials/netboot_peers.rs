//! Other servers for machines that boot from the network, and their clients: measured beside netboot, and talking to it.

use super::tree::Tree;

/// See [`Tree`]. ethtool and iproute2 make the wires; kea-admin has perfdhcp; netbase says which port TFTP has.
pub const NETBOOT_PEERS: Tree = Tree {
    name: "netboot-peers",
    about: "a Debian 13 root with dnsmasq, tftpd-hpa, nginx, Kea and clients (about a minute)",
    packages: &[
        "atftp",
        "curl",
        "dnsmasq-base",
        "ethtool",
        "iproute2",
        "kea-admin",
        "kea-dhcp4-server",
        "netbase",
        "nftables",
        "nginx-light",
        "tftp-hpa",
        "tftpd-hpa",
    ],
};
