//! How programs end: one table of exit codes for `image-builder`, `netboot`, `registrar` and `xtask`.
//!
//! A script, a unit file or CI decides from the code whether to try again (1), to mend the call (2) or a file (3),
//! or to look after the machine (4). `docs/exit-codes.md` is the table for people; a test holds the two together.

use std::{error::Error, io, process::ExitCode};

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// All went well; also a service that was asked to end.
    Done = 0,
    /// The work failed.
    Failed = 1,
    /// The command line is wrong. clap uses this number too.
    Usage = 2,
    /// A configuration or input file is missing, unreadable or wrong.
    Input = 3,
    /// The machine lacks something: a tool, a port, a permission, space on a disk.
    Host = 4,
    /// Ctrl-C or SIGTERM ended work that was not finished: 128 and the number of SIGINT, as shells count it.
    Interrupted = 130,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 6] = [Self::Done, Self::Failed, Self::Usage, Self::Input, Self::Host, Self::Interrupted];

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What a number means, where it is one of ours.
    #[must_use]
    pub fn of_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| i32::from(code.number()) == number)
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}

/// What a machine can lack, as the kernel says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Space on a disk, or in a quota.
    Space,
    /// A file system that can be written.
    Writable,
    /// A permission.
    Permission,
    /// An address or port that is free.
    Address,
}

impl Lack {
    /// Looks for the kernel's word in an error and everything behind it.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |error| (*error).source())
            .find_map(|error| Self::of_kind(error.downcast_ref::<io::Error>()?.kind()))
    }

    /// The same for one kind of error.
    #[must_use]
    pub fn of_kind(kind: io::ErrorKind) -> Option<Self> {
        Some(match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::Space,
            io::ErrorKind::ReadOnlyFilesystem => Self::Writable,
            io::ErrorKind::PermissionDenied => Self::Permission,
            io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable => Self::Address,
            _ => return None,
        })
    }

    /// What to do next.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Space => "make room on that disk (`df -h` shows it), then run it again; nothing half-written counts",
            Self::Writable => "name a place on a file system that can be written",
            Self::Permission => "run it as a user who may do that, or name another place",
            Self::Address => "stop the program that has it (`ss -lntup` names it), or choose another one",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_one_code_and_stands_in_the_table() {
        let page = include_str!("../../docs/exit-codes.md");
        for code in Code::ALL {
            assert_eq!(Code::of_number(code.number().into()), Some(code));
            assert!(page.contains(&format!("| {} |", code.number())), "docs/exit-codes.md lacks {code:?}");
        }
        assert_eq!(
            page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit()).count(),
            6
        );
        assert_eq!(Code::of_number(101), None);
    }

    #[test]
    fn what_is_lacking_is_found_behind_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write")]
        struct Outer(#[source] io::Error);
        let full = Outer(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(Lack::of(&full), Some(Lack::Space));
        assert_eq!(Lack::of(&Outer(io::Error::from(io::ErrorKind::NotFound))), None);
    }
}
