//! System users with fixed numbers: files on the state partition belong to the same user after every update.

use crate::{
    compose::{Checked, fill},
    parameters::Parameters,
    shapes::UserSpec,
    template::User,
    validate,
    yaml::{Placed, Source},
};
use std::collections::BTreeMap;

/// Below are Debian's own (Debian Policy 9.2.2); above are those that systemd gives out for a while (systemd.io, "Users, Groups,
/// UIDs and GIDs on systemd Systems").
const NUMBERS: std::ops::RangeInclusive<u32> = 100..=59_999;
const NO_SHELL: &str = "/usr/sbin/nologin";
const KEYS: [&str; 6] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Adds one, in place of an earlier one of the same name. Two users with one number would be one user, and systemd-sysusers gives the
/// second another one without a word.
pub(crate) fn add(
    source: &Source,
    spec: &UserSpec,
    values: &Parameters,
    all: &mut BTreeMap<String, User>,
) -> Checked<()> {
    let (name, user) = read(source, spec, values)?;
    let taken = |(other, found): &(&String, &User)| **other != name && (found.uid == user.uid || found.gid == user.gid);
    if let Some((other, _)) = all.iter().find(taken) {
        let message = format!("{name} and {other} have a number in common");
        return Err(source.problem(&spec.uid, "bad-user", message, "give each user and group a number of its own"));
    }
    all.insert(name, user);
    Ok(())
}

/// Reads one, with its name.
fn read(source: &Source, spec: &UserSpec, values: &Parameters) -> Checked<(String, User)> {
    let name = name(source, &spec.name)?;
    let uid = number(source, &spec.uid)?;
    let path = |at: &Option<Placed<String>>, default: &str| {
        at.as_ref().map_or(Ok(default.to_owned()), |at| no_colon(source, at, validate::path(source, at)?))
    };
    let description = match &spec.description {
        Some(at) => no_colon(source, at, fill(source, at, values)?)?,
        None => String::new(),
    };
    let user = User {
        uid,
        gid: spec.gid.as_ref().map_or(Ok(uid), |gid| number(source, gid))?,
        description,
        home: path(&spec.home, "/nonexistent")?,
        shell: path(&spec.shell, NO_SHELL)?,
        groups: spec.groups.iter().map(|group| self::name(source, group)).collect::<Checked<_>>()?,
        ssh_keys: spec.ssh_keys.iter().map(|key| ssh_key(source, key, values)).collect::<Checked<_>>()?,
    };
    Ok((name, user))
}

/// What useradd and systemd-sysusers both take (sysusers.d(5), "Name").
fn name(source: &Source, at: &Placed<String>) -> Checked<String> {
    let text = &at.value;
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if first && rest && text.len() <= 31 {
        return Ok(text.clone());
    }
    let message = format!("'{text}' is not the name of a user or group");
    Err(source.problem(
        at,
        "bad-user",
        message,
        "use lower-case letters, digits, '-' and '_', a letter first, at most 31",
    ))
}

fn number(source: &Source, at: &Placed<u32>) -> Checked<u32> {
    if NUMBERS.contains(&at.value) {
        return Ok(at.value);
    }
    let message = format!("{} is no number for a user or group", at.value);
    let fix = format!("write one from {} to {} that no package uses", NUMBERS.start(), NUMBERS.end());
    Err(source.problem(at, "bad-user", message, fix))
}

/// A colon would end the field of /etc/passwd, a quote that of sysusers.d.
fn no_colon(source: &Source, at: &Placed<String>, text: String) -> Checked<String> {
    if text.contains([':', '"', '\\', '%']) || text.bytes().any(|b| b.is_ascii_control()) {
        let message = format!("'{text}' does not fit into a line of /etc/passwd");
        return Err(source.problem(
            at,
            "bad-user",
            message,
            "leave out colons, quotes, backslashes and per cent signs",
        ));
    }
    Ok(text)
}

/// A line of authorized_keys without options (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").
fn ssh_key(source: &Source, at: &Placed<String>, values: &Parameters) -> Checked<String> {
    let text = fill(source, at, values)?.trim().to_owned();
    let mut words = text.split(' ');
    let kind = words.next().is_some_and(|word| KEYS.contains(&word));
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    let key = words.next().is_some_and(|word| word.len() >= 44 && word.bytes().all(base64));
    if kind && key && !text.bytes().any(|b| b.is_ascii_control()) {
        return Ok(text);
    }
    let message = "this is no public key of SSH";
    Err(source.problem(
        at,
        "bad-user",
        message,
        format!("write KIND KEY COMMENT on one line; kinds are {}", KEYS.join(", ")),
    ))
}
