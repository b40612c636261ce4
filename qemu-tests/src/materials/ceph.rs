//! The programs of a region's Ceph cluster: monitor, manager, and the commands of an administrator.

use super::tree::Tree;

/// See [`Tree`].
pub const CEPH: Tree = Tree {
    name: "ceph",
    about: "a Debian 13 root with Ceph's monitor and manager (about a minute)",
    packages: &["ceph-base", "ceph-common", "ceph-mgr", "ceph-mon", "iproute2"],
};
