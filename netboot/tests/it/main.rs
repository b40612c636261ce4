//! netboot over real sockets on the loopback.

mod agent;
mod cache;
mod common;
mod confine;
mod errors;
mod files;
mod full;
mod lan;
mod logs;
mod operation;
mod packaging;
mod page;
mod pin;
#[path = "../../../contracts/tests/program/mod.rs"]
mod program;
mod region;
mod reload;
mod running;
mod slow;
mod soak;
mod tftp;
mod window;
