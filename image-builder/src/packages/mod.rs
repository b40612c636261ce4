//! Debian packages: which ones (a lock), their files (a verified cache), and trees made of them.

pub mod apt;
pub mod bootstrap;
pub mod deb;
pub mod lock;
pub mod lock_diff;
pub mod resolve;
pub mod store;
