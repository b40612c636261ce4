//! The region's side of Shelfboot: who may join, under which name, and whether the cluster sees it.
//!
//! What it is for: it knows the inventory, admits machines that a store vouches for, pins the first key of each
//! inventory entry, brokers the join (a Kubernetes client certificate today), confirms readiness from the cluster's
//! side and keeps the events. What it never does: hold a machine's private key, hand out a shared secret, decide
//! what is written to a disk.
//!
//! Start reading at [`admission`], the pure decision; then [`api`], the calls around it; then [`tls`] and
//! [`identity`], which say who is calling; then [`joins`] and [`broker`].

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

pub mod admission;
pub mod api;
pub mod authority;
pub mod broker;
pub mod config;
pub mod csr;
pub mod db;
pub mod files;
pub mod fleet;
pub mod identity;
pub mod inventory;
pub mod inventory_watch;
pub mod joins;
pub mod server;
pub mod state;
pub mod tls;
pub mod upkeep;
pub mod voucher;
pub mod yaml;

/// An error and everything behind it, as one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        // Some libraries repeat the inner text in their own; saying it once is enough.
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
