//! What this host is set up with.

pub mod mirror;
