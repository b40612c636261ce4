//! Two slots: a new version goes into the one that does not run, is started on trial, and is committed when it is healthy.
//! Otherwise the machine is back at the version before, by itself, and says why.
//!
//! [`model`] decides, without knowing any device: start reading there. [`bootfiles`] is what boot loaders go by, [`start`] what
//! the initrd does, [`trial`] what the service of the installed system does, [`update`] how a version gets onto the disk.

pub mod boot_image;
pub mod bootfiles;
pub mod choice;
pub mod entries;
pub mod fetch;
pub mod here;
pub mod keep;
pub mod model;
pub mod settings;
pub mod start;
pub mod trial;
pub mod update;
pub mod watch;
