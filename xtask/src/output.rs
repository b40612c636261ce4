//! What a terminal or a CI log gets: results on stdout, everything else on stderr.

use contracts::exit::Code;
use qemu_tests::{hint, report::Report};
use std::{io::Write as _, process::ExitCode};

/// Progress lines, on stderr. `eprintln!` would panic where nobody can read them; then there is nobody to tell.
pub(crate) fn progress() -> Report {
    Report::new(|line| drop(writeln!(std::io::stderr(), "{line}")))
}

/// Results, on stdout. Where they cannot be written the work is lost, and the program ends.
pub(crate) fn results() -> Report {
    Report::new(|line| {
        let mut out = std::io::stdout().lock();
        let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) else { return };
        // `| head` has read enough.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(Code::Done.number().into());
        }
        let _ = explain(&anyhow::Error::new(error).context("cannot write to standard output"));
        std::process::exit(Code::Host.number().into());
    })
}

/// Shows an error with its causes and what to do next; gives the code that the program ends with.
#[must_use]
pub fn explain(error: &anyhow::Error) -> ExitCode {
    let say = progress();
    say.line(format!("error: {error}"));
    for cause in error.chain().skip(1) {
        say.line(format!("  because: {cause}"));
    }
    if let Some(hint) = hint::hint_of(error) {
        say.line(format!("hint: {hint}"));
    }
    hint::code_of(error).into()
}
