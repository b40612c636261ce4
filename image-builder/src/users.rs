//! Users of a template: systemd-sysusers makes them while the image is built, and what came out is compared with what was
//! wanted, because it takes another number when the one it was given is in use.

use crate::files::{self, FileError};
use profiles::{MachineTemplate, User};
use std::{collections::BTreeMap, fmt::Write as _, path::Path};

const SYSUSERS: &str = "etc/sysusers.d/shelfboot.conf";
const TMPFILES: &str = "etc/tmpfiles.d/shelfboot-users.conf";
const SSH_KEYS: &str = "etc/ssh/authorized_keys.d";
const SSH_CONFIG: &str = "etc/ssh/sshd_config.d/10-shelfboot.conf";
const SSH_CONFIG_TEXT: &str = "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u\n\
                               PasswordAuthentication no\nKbdInteractiveAuthentication no\n";

/// Why users are not as the template wants them.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// A number or name that a package has taken.
    #[error("the {what} {name} should have the number {wanted}, and has {}", found.map_or("none".into(), |id| id.to_string()))]
    Number {
        /// `user` or `group`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What the template says.
        wanted: u32,
        /// What it came to.
        found: Option<u32>,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Writes what systemd-sysusers, systemd-tmpfiles and sshd read.
///
/// # Errors
/// [`FileError`].
pub fn write(tree: &Path, template: &MachineTemplate) -> Result<(), FileError> {
    if template.users.is_empty() {
        return Ok(());
    }
    files::write(&tree.join(SYSUSERS), sysusers(&template.users).as_bytes(), 0o644)?;
    files::write(&tree.join(TMPFILES), homes(&template.users).as_bytes(), 0o644)?;
    let with_keys: Vec<_> = template.users.iter().filter(|(_, user)| !user.ssh_keys.is_empty()).collect();
    for (name, user) in &with_keys {
        let keys = user.ssh_keys.iter().map(|key| format!("{key}\n")).collect::<String>();
        files::write(&tree.join(SSH_KEYS).join(name), keys.as_bytes(), 0o644)?;
    }
    if !with_keys.is_empty() {
        files::write(&tree.join(SSH_CONFIG), SSH_CONFIG_TEXT.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Compares with /etc/passwd and /etc/group of the tree.
///
/// # Errors
/// See [`UsersError`].
pub fn check(tree: &Path, template: &MachineTemplate) -> Result<(), UsersError> {
    if template.users.is_empty() {
        return Ok(());
    }
    let read = |path: &str| files::read(&tree.join(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
    for (name, user) in &template.users {
        for (what, table, wanted) in [("user", &passwd, user.uid), ("group", &group, user.gid)] {
            let found = number(table, name);
            if found != Some(wanted) {
                return Err(UsersError::Number { what, name: name.clone(), wanted, found });
            }
        }
    }
    Ok(())
}

/// Third field of the line of this name (passwd(5), group(5)).
fn number(table: &str, name: &str) -> Option<u32> {
    let line = table.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// sysusers.d(5): groups first, then users in them.
fn sysusers(users: &BTreeMap<String, User>) -> String {
    let mut text = String::new();
    for (name, user) in users {
        let _ = writeln!(text, "g {name} {}", user.gid);
        let User { uid, gid, description, home, shell, .. } = user;
        let _ = writeln!(text, "u {name} {uid}:{gid} \"{description}\" \"{home}\" \"{shell}\"");
        for group in &user.groups {
            let _ = writeln!(text, "m {name} {group}");
        }
    }
    text
}

/// tmpfiles.d(5): a home is made where it is missing, and is its user's own.
fn homes(users: &BTreeMap<String, User>) -> String {
    let homes = users.iter().filter(|(_, user)| user.home != "/nonexistent");
    homes.map(|(name, user)| format!("d \"{}\" 0750 {name} {name} -\n", user.home)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> BTreeMap<String, User> {
        let till = User {
            uid: 900,
            gid: 901,
            description: "Software of the tills".into(),
            home: "/var/lib/till".into(),
            shell: "/usr/sbin/nologin".into(),
            groups: vec!["adm".into()],
            ssh_keys: vec![],
        };
        let scan = User { uid: 910, gid: 910, home: "/nonexistent".into(), groups: vec![], ..till.clone() };
        BTreeMap::from([("till".into(), till), ("scan".into(), scan)])
    }

    #[test]
    fn users_become_lines_of_sysusers_and_tmpfiles() {
        insta::assert_snapshot!(sysusers(&users()) + "--\n" + &homes(&users()));
    }

    #[test]
    fn another_number_than_the_wanted_one_is_found() {
        let table = "root:x:0:0::/root:/bin/sh\ntill2:x:1:1::/:/bin/sh\ntill:x:900:901::/:/bin/sh\n";
        assert_eq!(number(table, "till"), Some(900));
        assert_eq!(number(table, "scan"), None);
    }
}
