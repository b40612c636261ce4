//! The store service: it lets a spare server start from the network, beside the store's own DHCP server, serves
//! it the image, and passes events and enrollments on to the region.
//!
//! What it never does: lease addresses unless its mode says so, answer devices that are not in the inventory, or read what passes through
//! its relay. Start reading at [`service`], where the parts are put together; [`proto`] has the protocols as pure
//! functions, [`roster`] the decision what each machine is to do, [`board`] what people see.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

pub mod accept;
pub mod admission;
pub mod beneath;
pub mod board;
pub mod boot_files;
pub mod boot_watch;
pub mod cache;
pub mod cli;
pub mod config;
pub mod confine;
pub mod content;
pub mod decision;
pub mod dhcp_server;
pub mod handed_out;
pub mod health;
pub mod http;
pub mod ingest;
pub mod interface;
pub mod journal;
pub mod lan;
#[cfg(test)]
mod limits_tests;
pub mod logging;
pub mod logs;
pub mod manager;
pub mod metrics;
pub mod mistakes;
pub mod names;
pub mod outbox;
pub mod page;
pub mod permit;
pub mod pin;
pub mod proto;
pub mod quiet_log;
pub mod region;
pub mod reload;
pub mod roster;
pub mod service;
pub mod shared;
pub mod silence;
pub mod slow;
pub mod sockets;
pub mod step_times;
pub mod store;
pub mod tftp_server;
pub mod voucher;
pub mod windows;
