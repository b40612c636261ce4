//! Which files and folders may be opened from now on (Landlock, Linux 5.13 and newer).

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use std::path::{Path, PathBuf};

/// The newest set of rights that is asked for; older kernels enforce what they know.
const KNOWN: ABI = ABI::V6;

/// What may be opened: what is below these paths, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    /// To be read.
    pub read: Vec<PathBuf>,
    /// To be read and changed.
    pub write: Vec<PathBuf>,
}

impl Folders {
    /// A file that others replace by renaming: its folder has to be readable, or the new file would be unknown. `/etc`
    /// and the root are more than anybody means by that: there, only the file as it is now.
    #[must_use]
    pub fn with_file(mut self, file: &Path) -> Self {
        for path in [Some(file.to_owned()), file.canonicalize().ok()].into_iter().flatten() {
            let folder = path.parent().filter(|folder| !matches!(folder.to_str(), None | Some("" | "/" | "/etc")));
            self.read.push(folder.map_or(path.clone(), Path::to_owned));
        }
        self
    }

    /// A folder that may be a symbolic link which others switch: then what lies beside its target is readable too.
    #[must_use]
    pub fn with_folder(mut self, folder: &Path) -> Self {
        self.read.push(folder.to_owned());
        if folder.is_symlink() {
            let target = folder.canonicalize().ok();
            self.read.extend(target.as_deref().and_then(Path::parent).filter(|p| *p != Path::new("/")).map(Into::into));
        }
        self
    }

    /// What the program itself looks at: facts about itself, the neighbour table, its interfaces, and who vouches for
    /// web servers.
    #[must_use]
    pub fn with_own_needs(mut self) -> Self {
        // The crate `getrandom` looks for its system call by dlsym(3), which finds nothing in a static program. Then it reads
        // these, and `rand` panics where it may not.
        self.read.extend(["/dev/random", "/dev/urandom"].map(PathBuf::from));
        self.read.extend(
            ["/proc", "/sys/class/net", "/sys/devices", "/etc/ssl", "/usr/share/ca-certificates"].map(PathBuf::from),
        );
        self
    }
}

/// True when it is in force, at least in part.
pub(super) fn restrict(folders: &Folders) -> bool {
    match try_restrict(folders) {
        Ok((RulesetStatus::NotEnforced, status)) => {
            tracing::warn!("files are not restricted: {}", lacks(&status));
            false
        }
        Ok((RulesetStatus::PartiallyEnforced, status)) => {
            tracing::info!("files are restricted in part: {}", lacks(&status));
            true
        }
        Ok(_) => true,
        Err(error) => {
            tracing::warn!("files are not restricted: {error}");
            false
        }
    }
}

fn lacks(status: &LandlockStatus) -> String {
    match status {
        LandlockStatus::NotEnabled => "Landlock is switched off in this kernel (`lsm=` on its command line)".into(),
        LandlockStatus::NotImplemented => "this kernel has no Landlock (Linux 5.13 or newer has, if built so)".into(),
        LandlockStatus::Available { effective_abi, .. } => {
            format!(
                "this kernel knows version {} of Landlock, {} is the newest of use",
                *effective_abi as i32, KNOWN as i32
            )
        }
    }
}

fn try_restrict(folders: &Folders) -> Result<(RulesetStatus, LandlockStatus), RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let special =
        AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::MakeFifo;
    let write = AccessFs::from_all(KNOWN) & !special & !BitFlags::from(AccessFs::IoctlDev);
    // A service manager may listen on an abstract socket (sd_notify(3)).
    let scope = match std::env::var("NOTIFY_SOCKET") {
        Ok(socket) if socket.starts_with('@') => BitFlags::from(Scope::Signal),
        _ => Scope::from_all(KNOWN),
    };
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        // No rule names a port: whatever has to listen listens already.
        .handle_access(AccessNet::BindTcp)?
        .scope(scope)?
        .create()?
        .add_rules(path_beneath_rules(&folders.read, read))?
        .add_rules(path_beneath_rules(&folders.write, write))?
        .restrict_self()?;
    Ok((status.ruleset, status.landlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_needs_its_folder_but_never_all_of_etc() {
        let folders = Folders::default().with_file(Path::new("/no/such/netboot.yaml"));
        assert_eq!(folders.read, [Path::new("/no/such")]);
        let etc = Folders::default().with_file(Path::new("/etc/no-such.conf"));
        assert_eq!(etc.read, [Path::new("/etc/no-such.conf")]);
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("a/repository")).unwrap();
        std::os::unix::fs::symlink(real.join("a/repository"), real.join("link")).unwrap();
        let link = Folders::default().with_folder(&real.join("link"));
        assert_eq!(link.read, [real.join("link"), real.join("a")]);
    }
}
