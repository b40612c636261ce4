//! What an install is measured beside: other people's programs that fetch, unpack, write and check.

use super::tree::Tree;

/// See [`Tree`].
pub const INSTALL_PEERS: Tree = Tree {
    name: "install-peers",
    about: "a Debian 13 root with curl, zstd and dd (about half a minute)",
    packages: &["coreutils", "curl", "zstd"],
};
