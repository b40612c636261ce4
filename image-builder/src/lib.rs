//! Turns a machine template into a signed repository of static files: verified root, UKI, chunked archive,
//! manifest.
//!
//! What it is for: the same inputs become the same image, on any machine that has apt; every image
//! tool comes from a tools tree of its own. What it never does: mount anything outside a private mount
//! namespace, use a loop device or the device mapper, keep a secret in an image. Start reading at
//! [`pipeline::build`], which is the list of steps.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

pub mod apply;
pub mod archive;
pub mod authenticode;
pub mod bios;
pub mod boot;
pub mod cache;
pub mod cli;
pub mod command;
pub mod debian;
mod der;
pub mod diff;
pub mod egress;
pub mod elf;
pub mod exclude;
pub mod export;
pub mod files;
pub mod initrd;
pub mod keys;
pub mod lock;
pub mod locking;
pub mod modules;
pub mod namespace;
pub mod new;
pub mod oci;
pub mod packages;
pub mod pipeline;
pub mod preload;
pub mod provenance;
pub mod published;
pub mod repo;
pub mod report;
pub mod repository;
pub mod root_image;
pub mod roots;
pub mod sbom;
pub mod signing;
pub mod sources;
pub mod tools;
pub mod trees;
pub mod uki;
pub mod users;
