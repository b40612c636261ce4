//! Rules for single values. Each says what is wrong and what to write instead.

use crate::{
    error::Problem,
    yaml::{Placed, Source},
};

type Checked<T> = Result<T, Box<Problem>>;

/// A document's name: part of target names, file names and HTTP paths.
pub(crate) fn name(source: &Source, at: &Placed<String>) -> Checked<String> {
    let text = &at.value;
    let fine = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-');
    let stem = source.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if !fine {
        let message = format!("'{text}' is not a name");
        return Err(source.problem(at, "bad-name", message, "use lower-case letters, digits and dashes, at most 63"));
    }
    if *text != stem {
        let message = format!("the name '{text}' is not the file's name");
        return Err(source.problem(
            at,
            "bad-name",
            message,
            format!("write {stem}, or rename the file to {text}.yaml"),
        ));
    }
    Ok(text.clone())
}

/// An absolute path without `.` and `..`.
pub(crate) fn path(source: &Source, at: &Placed<String>) -> Checked<String> {
    let text = &at.value;
    let fine = text.starts_with('/')
        && text.len() > 1
        && !text.ends_with('/')
        && text[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !text.bytes().any(|b| b.is_ascii_control());
    if fine {
        Ok(text.clone())
    } else {
        let message = format!("'{text}' is not an absolute path");
        Err(source.problem(at, "bad-path", message, "start with '/', without '.', '..', '//' and a '/' at the end"))
    }
}

/// A Debian package name, perhaps with `=VERSION` (Debian Policy 5.6.7 and 5.6.12).
pub(crate) fn package(source: &Source, at: &Placed<String>) -> Checked<String> {
    let (name, version) = at.value.split_once('=').unwrap_or((&at.value, "0"));
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let fine = name.len() >= 2
        && name.bytes().next().is_some_and(lower)
        && name.bytes().all(|b| lower(b) || b"+-.".contains(&b))
        && !version.is_empty()
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-:~*".contains(&b));
    if fine {
        Ok(at.value.clone())
    } else {
        let message = format!("'{}' is not a package", at.value);
        Err(source.problem(at, "bad-package", message, "write NAME or NAME=VERSION"))
    }
}

/// A systemd unit.
pub(crate) fn unit(source: &Source, at: &Placed<String>) -> Checked<String> {
    const KINDS: [&str; 7] = [".service", ".socket", ".timer", ".target", ".mount", ".automount", ".path"];
    let fine = KINDS.iter().any(|kind| at.value.ends_with(kind))
        && at.value.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b));
    if fine {
        Ok(at.value.clone())
    } else {
        let message = format!("'{}' is not a systemd unit", at.value);
        Err(source.problem(at, "bad-unit", message, format!("end it in one of {}", KINDS.join(" "))))
    }
}

/// Octal permission bits.
pub(crate) fn mode(source: &Source, at: &Placed<String>) -> Checked<u32> {
    u32::from_str_radix(&at.value, 8).ok().filter(|mode| *mode <= 0o7777 && at.value.len() >= 3).ok_or_else(|| {
        let message = format!("'{}' is not a file mode", at.value);
        source.problem(at, "bad-mode", message, "write it in octal and quoted, for example \"0644\"")
    })
}

/// A kernel module's name.
pub(crate) fn module(source: &Source, at: &Placed<String>) -> Checked<String> {
    if !at.value.is_empty() && at.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        Ok(at.value.clone())
    } else {
        Err(source.problem(
            at,
            "bad-module",
            format!("'{}' is not a kernel module", at.value),
            "write it as lsmod shows it",
        ))
    }
}
