//! netboot beside other servers: TFTP, DHCP, HTTP, memory and a boot storm, with the same files and the same clients for all, in
//! network namespaces. Start reading at [`outside`]; [`inside`] is what runs in the world that it makes.

pub mod dhcp;
pub mod figures;
pub mod http;
pub mod inside;
pub mod interop;
pub mod lenders;
pub mod network;
pub mod outside;
pub mod perfdhcp;
pub mod repository;
pub mod servers;
pub mod storm;
pub mod tftp;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// TFTP against dnsmasq and tftpd-hpa.
    Tftp,
    /// DHCP against dnsmasq and Kea.
    Dhcp,
    /// HTTP against nginx.
    Http,
    /// Memory at rest and with a hundred machines.
    Memory,
    /// Three hundred machines at once.
    Storm,
    /// Other people's TFTP clients: right or wrong, nothing is measured.
    Interop,
}

/// Everything that is measured, in this order.
pub const PARTS: [Part; 5] = [Part::Tftp, Part::Dhcp, Part::Http, Part::Memory, Part::Storm];

/// What the world is told, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// This run's own folder.
    pub run: PathBuf,
    /// The cache, visible in the world.
    pub cache: PathBuf,
    /// The root with the peers.
    pub tree: PathBuf,
    /// The program that is measured, as it is handed out.
    pub netboot: PathBuf,
    /// The region's registrar.
    pub registrar: PathBuf,
    /// The registrar's state; copied before use.
    pub registrar_state: PathBuf,
    /// Keys that sign the repository.
    pub keys: PathBuf,
    /// The clients.
    pub load: PathBuf,
    /// How often.
    pub samples: u8,
    /// What.
    pub parts: Vec<Part>,
}

/// One thing that was measured, sample by sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What.
    pub what: String,
    /// Of what.
    pub unit: String,
    /// The peer, or what the value is compared with.
    pub peer: String,
    /// Ours and the peer's, where there is one. (JSON has no way to say "not a number".)
    pub pairs: Vec<(f64, Option<f64>)>,
    /// What is promised.
    pub bar: Bar,
}

/// What a figure has to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bar {
    /// Ours by the peer's is at least this.
    RatioAtLeast(f64),
    /// Ours by the peer's is at most this.
    RatioAtMost(f64),
    /// Ours is at most this.
    ValueAtMost(f64),
}
