//! Why a step ended badly: a code for IT, a chain of causes, and whether trying again by itself can help.

use nix::errno::Errno;
use std::{fmt, io};

/// A step's bad end.
#[derive(Debug)]
pub struct Failure {
    /// Stable code, shown on the console and the store page, for example `foreign-data`.
    pub code: &'static str,
    /// What happened, with its causes.
    pub error: anyhow::Error,
    /// Nobody has to help: it is tried again, and somebody elsewhere may decide otherwise by then.
    pub waits: bool,
}

impl Failure {
    /// A failure with a sentence of its own.
    pub fn new(code: &'static str, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { code, error: anyhow::Error::msg(message), waits: false }
    }

    /// Not a failure yet: the answer is to ask again later.
    pub fn wait(code: &'static str, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { waits: true, ..Self::new(code, message) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// Gives an error its code.
pub trait Coded<T> {
    /// Wraps the error with `code`.
    ///
    /// # Errors
    /// The same error, with its code.
    fn code(self, code: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Coded<T> for Result<T, E> {
    fn code(self, code: &'static str) -> Result<T, Failure> {
        self.map_err(|error| {
            let error = error.into();
            if WRITE_TO_THE_DISK.contains(&code) && is_the_disks_fault(&error) {
                let error = anyhow::anyhow!("the disk fails or is full: {error:#}. Put in another disk");
                return Failure { code: "disk-error", error, waits: false };
            }
            Failure { code, error, waits: false }
        })
    }
}

/// Codes of what is done to the disk that gets the system.
const WRITE_TO_THE_DISK: [&str; 6] = ["partition", "install", "verify", "state", "boot-files", "boot-entry"];

/// What Linux says when a disk does not do what it is told (errno(3)): trying again will hardly help, another disk will.
fn is_the_disks_fault(error: &anyhow::Error) -> bool {
    let broken =
        [Errno::EIO, Errno::ENOSPC, Errno::EROFS, Errno::ENXIO, Errno::ENODEV, Errno::EREMOTEIO, Errno::EBADMSG];
    error.chain().any(|cause| {
        let number = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        let number = number.map(Errno::from_raw).or_else(|| cause.downcast_ref::<Errno>().copied());
        number.is_some_and(|number| broken.contains(&number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_disk_that_fails_is_named_as_such_and_a_line_that_breaks_is_not() {
        let failed = |error: io::Error, code| Err::<(), _>(error).context("writing the root").code(code).unwrap_err();
        for number in [libc_number(Errno::EIO), libc_number(Errno::ENOSPC)] {
            let failure = failed(io::Error::from_raw_os_error(number), "install");
            assert_eq!(failure.code, "disk-error");
            assert!(failure.to_string().contains("writing the root") && failure.to_string().contains("another disk"));
        }
        assert_eq!(failed(io::Error::from_raw_os_error(libc_number(Errno::ECONNRESET)), "install").code, "install");
        // The disk is not what was asked here.
        assert_eq!(failed(io::Error::from_raw_os_error(libc_number(Errno::EIO)), "network").code, "network");
        assert_eq!(Err::<(), _>(Errno::EIO).code("partition").unwrap_err().code, "disk-error");
    }

    fn libc_number(number: Errno) -> i32 {
        number as i32
    }
}
