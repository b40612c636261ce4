//! Machine templates, software profiles and configuration profiles.
//!
//! What it is for: one reader and validator for the YAML that says what a machine is to be. A template names
//! software and configuration profiles; later ones win over earlier ones; parameters fill `${name}`. What it
//! never does: install anything, ask the network, guess at a field that it does not know. Start reading at
//! [`load()`], then [`compose`]; [`shapes`] is the YAML as written, [`template`] is what is left when it is valid.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::exit)]

pub mod check;
pub mod compose;
mod container_image;
mod disks;
mod egress;
mod entries;
pub mod error;
pub mod explain;
mod kernel;
mod late_files;
pub mod load;
mod parameters;
pub mod schema;
pub mod shapes;
pub mod shipped;
mod state_format;
pub mod template;
mod users;
mod validate;
mod yaml;

pub use check::{check, check_text};
pub use error::{Problem, ProfileError};
pub use explain::{Explanation, explain};
pub use kernel::MOST_BYTES as MOST_KERNEL_BYTES;
pub use load::load;
pub use template::{
    AptRepository, ContainerImage, Egress, EgressRule, File, MachineTemplate, Network, Protocol, SigningKey, User,
};

/// The `apiVersion` of every document that this crate reads.
pub const API_VERSION: &str = "shelfboot.dev/v1";
