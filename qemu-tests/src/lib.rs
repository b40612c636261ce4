//! The test world: a store's LAN with its own DHCP server, a router, netboot, a region with a real Kubernetes
//! control plane and a real registrar, and machines with real UEFI firmware on QEMU.
//!
//! What it is for: the demo and the end-to-end tests. What it never does: touch the host's network, leave a
//! process or a mount behind, or print (callers pass a [`report::Report`]). It starts the programs of the other
//! parts as processes, as a user does; of their code it uses only `contracts`.
//! Start reading at [`journey`], then [`world`].

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

pub mod builds;
pub mod cache;
pub mod capture;
pub mod cases;
pub mod hint;
pub mod host;
pub mod journey;
pub mod lan;
pub mod materials;
pub mod netboot_bench;
pub mod power_cut;
pub mod process;
pub mod report;
pub mod sandbox;
pub mod signals;
pub mod whole_file;
pub mod world;
