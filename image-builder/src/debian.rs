//! What is fixed about Debian.

/// The Debian release of images and tools.
pub const RELEASE: &str = "trixie";

/// The time of everything that installing packages writes, 2025-01-01. Not 0: in /etc/shadow that would mean a
/// password that must be changed (shadow(5)).
pub const PACKAGE_EPOCH: i64 = 1_735_689_600;

/// Its sources besides security: the release, and what was fixed since.
pub const SUITES: [&str; 2] = ["trixie", "trixie-updates"];
