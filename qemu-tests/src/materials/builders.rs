//! Other builders of images, to be measured beside ours.

use super::tree::Tree;

/// See [`Tree`]. apt-utils makes the index of a local repository.
pub const BUILDERS: Tree = Tree {
    name: "builders",
    about: "a Debian 13 root with mkosi and mmdebstrap (about a minute)",
    packages: &["apt-utils", "erofs-utils", "mkosi", "mmdebstrap"],
};
