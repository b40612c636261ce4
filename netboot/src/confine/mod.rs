//! Gives up every right that is not needed once sockets and state are open.
//!
//! All of it happens in the only thread there is, before the runtime starts others: capabilities, Landlock and seccomp
//! belong to threads and pass on to those that come after. What the kernel lacks is said in the log, and the rest is
//! done all the same. Start reading at [`apply`].

pub mod calls;
pub mod folders;
pub mod user;

use caps::{CapSet, Capability};
use folders::Folders;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Deserialize;
use std::path::PathBuf;
use user::{Account, UserError};

/// Open files that the service may have.
pub(crate) const WANTED_FILES: u64 = 4096;

/// `sandbox` in the configuration: both are on unless somebody looks for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// Landlock: only the configured folders can be opened.
    pub landlock: bool,
    /// seccomp: only the system calls that the service makes.
    pub seccomp: bool,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { landlock: true, seccomp: true }
    }
}

/// What is to be given up.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `user` of the configuration.
    pub user: Option<String>,
    /// Which parts of the sandbox are on.
    pub sandbox: Sandbox,
    /// What may still be opened.
    pub folders: Folders,
    /// Folders that belong to the user from now on, with everything in them.
    pub own: Vec<PathBuf>,
}

/// Why rights could not be given up as the configuration demands.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The user is unknown or cannot do the work.
    #[error(transparent)]
    User(#[from] UserError),
    /// The kernel refuses a step that every kernel must do.
    #[error("cannot give up {what}")]
    Kernel {
        /// What.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn kernel<E: Into<Box<dyn std::error::Error + Send + Sync>>>(what: &'static str) -> impl Fn(E) -> ConfineError {
    move |error| ConfineError::Kernel { what, source: error.into() }
}

/// What is in force after [`apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// Landlock restricts files.
    pub landlock: bool,
    /// seccomp restricts system calls.
    pub seccomp: bool,
    /// The process is not root.
    pub unprivileged: bool,
}

/// Gives up rights, and says in the log what was done and what the kernel lacks. Nothing can be taken back.
///
/// # Errors
/// [`ConfineError`]: the service must not run with rights that the configuration takes away.
pub fn apply(plan: &Plan) -> Result<Confinement, ConfineError> {
    more_files();
    let account = user::choose(plan)?;
    // Needs CAP_SETPCAP, so it comes first. Without it (a service manager gave few rights) nothing can be gained
    // anyway: no_new_privs follows.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
        for capability in caps::all() {
            // Older kernels do not know the newer ones.
            let _ = caps::drop(None, CapSet::Bounding, capability);
        }
    }
    if let Some(account) = &account {
        user::become_account(account, &plan.own)?;
    }
    // A change from root to another user has emptied these already; every other start has not.
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(kernel("capabilities"))?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(kernel("the way to new rights"))?;
    let landlock = plan.sandbox.landlock && folders::restrict(&plan.folders);
    let seccomp = plan.sandbox.seccomp && calls::restrict();
    let unprivileged = !nix::unistd::geteuid().is_root();
    tracing::info!(
        "rights: {}, no capabilities, no new ones; files: {}; system calls: {}",
        account.map_or_else(|| format!("user {}", nix::unistd::geteuid()), |account: Account| account.to_string()),
        if landlock { "only what is configured (Landlock)" } else { "as the user may" },
        if seccomp { "only known ones (seccomp)" } else { "all" },
    );
    for (on, name) in [(plan.sandbox.landlock, "landlock"), (plan.sandbox.seccomp, "seccomp")] {
        if !on {
            tracing::warn!("`sandbox.{name}` is switched off in the configuration");
        }
    }
    Ok(Confinement { landlock, seccomp, unprivileged })
}

/// Every connection and transfer is a file descriptor; service managers allow 1024 unless asked.
fn more_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < WANTED_FILES.min(hard)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, WANTED_FILES.min(hard), hard)
    {
        tracing::warn!("the number of open files stays at {soft}: {error}");
    }
}
