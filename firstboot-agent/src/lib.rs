//! The agent that turns a blank machine into a member of its cluster.
//!
//! As PID 1 in the initrd ([`boot`]) it either installs the machine ([`install`]) or opens the installed root and
//! hands over to systemd ([`boot::installed`]). In the installed system it runs as a service ([`service`]) that
//! enrolls and joins. Decisions are pure functions: [`disk::plan`], [`disk::layout`], [`efi`]'s encoders; what
//! writes is narrow: [`disk::table`], [`install::archive`], [`install::esp`].
//!
//! What it never does: write to a disk that [`disk::plan`] did not choose; believe content that TUF did not
//! authenticate; ask anybody to press a key. Start reading at [`install::journey`].

#![deny(clippy::exit)]

pub mod boot;
pub mod cli;
pub mod clock;
pub mod console;
pub mod deadline;
pub mod disk;
pub mod durable;
pub mod efi;
pub mod encryption;
pub mod facts;
pub mod failure;
pub mod fleet;
pub mod image;
pub mod install;
pub mod logs;
pub mod net;
pub mod report;
pub mod retry;
pub mod screen;
pub mod service;
pub mod signal;
pub mod slots;
pub mod truth;
pub mod verity;
