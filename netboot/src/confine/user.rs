//! Who the process is after the start: `user` of the configuration, or somebody without rights.

use super::{ConfineError, Plan, kernel};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::{
    fmt, io,
    os::unix::fs::{MetadataExt, lchown},
    path::{Path, PathBuf},
};

/// The user that is taken, if there is one, when the configuration names none.
const USUAL: &str = "netboot";
/// Else this number, for user and group. It lies where systemd takes users of services from (61184 to 65519), so no
/// person and no package has it.
const NUMBER: u32 = 64067;

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}, group {}", self.uid, self.gid)
    }
}

/// Why a user cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// There is none of this name.
    #[error("`user`: there is no user `{0}` in /etc/passwd; a number does as well")]
    Unknown(String),
    /// It cannot reach what the service needs.
    #[error("`user`: {account} cannot reach {}: {problem}", .path.display())]
    Unreachable {
        /// Who.
        account: Account,
        /// What.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A file cannot be handed over.
    #[error("{} cannot be given to {account}", .path.display())]
    Give {
        /// To whom.
        account: Account,
        /// What.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Whom to become; none when this process is not root, or is to stay root.
pub(super) fn choose(plan: &Plan) -> Result<Option<Account>, ConfineError> {
    let root = nix::unistd::geteuid().is_root();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let Some(wanted) = plan.user.as_deref() else {
        if !root {
            return Ok(None);
        }
        let account = find(&passwd, USUAL).unwrap_or(Account { uid: NUMBER, gid: NUMBER });
        return Ok(match reachable(plan, account).and_then(|()| mapped(account)) {
            Ok(()) => Some(account),
            Err(error) => {
                // Root without any capability is bound by file modes like everybody else.
                tracing::warn!("the service stays root, without capabilities: {error}");
                None
            }
        });
    };
    let account = find(&passwd, wanted).ok_or_else(|| UserError::Unknown(wanted.to_owned()))?;
    if account.uid == 0 || account.uid == nix::unistd::geteuid().as_raw() {
        return Ok(None);
    }
    if root {
        reachable(plan, account)?;
    }
    Ok(Some(account))
}

/// A user by name or number, from the text of /etc/passwd (passwd(5)). The C library's own way reads shared libraries,
/// which a static program does without.
#[must_use]
pub fn find(passwd: &str, wanted: &str) -> Option<Account> {
    let listed = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?, fields.next()?);
        (name == wanted || wanted.parse() == Ok(uid)).then_some(Account { uid, gid: gid.parse().ok()? })
    });
    listed.or_else(|| wanted.parse().ok().map(|number| Account { uid: number, gid: number }))
}

/// In a user namespace only some numbers exist.
fn mapped(account: Account) -> Result<(), UserError> {
    let has = |file: &str, number: u32| {
        let Ok(map) = std::fs::read_to_string(file) else { return true };
        map.lines().any(|line| {
            let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
            let (first, _, count) = (fields.next().unwrap_or(0), fields.next(), fields.next().unwrap_or(0));
            (first..first + count).contains(&u64::from(number))
        })
    };
    if has("/proc/self/uid_map", account.uid) && has("/proc/self/gid_map", account.gid) {
        return Ok(());
    }
    let problem = "this user namespace does not have that number".into();
    Err(UserError::Unreachable { account, path: "/proc/self/uid_map".into(), problem })
}

/// Whether the user can get to everything that the service opens later, by the modes of files and folders.
fn reachable(plan: &Plan, account: Account) -> Result<(), UserError> {
    for path in plan.folders.read.iter().chain(&plan.folders.write) {
        // What is not there yet is somebody else's to complain about.
        let Ok(path) = path.canonicalize() else { continue };
        for (step, last) in path.ancestors().map(|step| (step, step == path)) {
            if plan.own.iter().any(|own| step.starts_with(own)) {
                continue;
            }
            let Ok(meta) = std::fs::metadata(step) else { continue };
            let (need, word) = match (last, meta.is_dir()) {
                (true, true) => (0o5, "not readable"),
                (true, false) => (0o4, "not readable"),
                (false, _) => (0o1, "not to be passed through"),
            };
            if !may(account, &meta, need) {
                let problem = format!("{} is {word} for it", step.display());
                return Err(UserError::Unreachable { account, path, problem });
            }
        }
    }
    Ok(())
}

/// Whether the mode of a file allows `need` (4 read, 2 write, 1 pass).
fn may(account: Account, meta: &std::fs::Metadata, need: u32) -> bool {
    let shift = if meta.uid() == account.uid {
        6
    } else if meta.gid() == account.gid {
        3
    } else {
        0
    };
    meta.mode() >> shift & need == need
}

/// Becomes the user, for good. What is in `own` belongs to it afterwards.
pub(super) fn become_account(account: &Account, own: &[PathBuf]) -> Result<(), ConfineError> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    for folder in own {
        give(folder, *account)?;
    }
    setgroups(&[]).map_err(kernel("the groups of root"))?;
    setresgid(gid, gid, gid).map_err(kernel("the group of root"))?;
    setresuid(uid, uid, uid).map_err(kernel("the user root"))
}

/// Gives a folder and what is in it. Links are given themselves, never followed.
fn give(path: &Path, account: Account) -> Result<(), UserError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| UserError::Give { account, path, source }
    };
    let meta = path.symlink_metadata().map_err(failed(path))?;
    if (meta.uid(), meta.gid()) != (account.uid, account.gid) {
        lchown(path, Some(account.uid), Some(account.gid)).map_err(failed(path))?;
    }
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).map_err(failed(path))? {
            give(&entry.map_err(failed(path))?.path(), account)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::{Sandbox, folders::Folders};
    use proptest::prelude::*;
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nnetboot:x:990:980::/:/bin/false\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(find(PASSWD, "netboot"), Some(Account { uid: 990, gid: 980 }));
        assert_eq!(find(PASSWD, "990"), Some(Account { uid: 990, gid: 980 }));
        assert_eq!(find(PASSWD, "4711"), Some(Account { uid: 4711, gid: 4711 }));
        assert_eq!(find(PASSWD, "nobody"), None);
    }

    #[test]
    fn a_folder_on_the_way_that_is_shut_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("shut/repository")).unwrap();
        std::fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(root.join("shut"), Permissions::from_mode(0o700)).unwrap();
        let folders = Folders { read: vec![root.join("shut/repository")], write: vec![] };
        let mut plan = Plan { user: None, sandbox: Sandbox::default(), folders, own: vec![] };
        let stranger = Account { uid: 4711, gid: 4711 };
        let error = reachable(&plan, stranger).unwrap_err().to_string();
        assert!(error.contains("shut is not to be passed through"), "{error}");
        plan.own = vec![root.join("shut")];
        reachable(&plan, stranger).unwrap();
    }

    proptest! {
        #[test]
        fn any_text_is_survived(passwd in "\\PC{0,200}", wanted in "\\PC{0,20}") {
            let _ = find(&passwd, &wanted);
        }
    }
}
