//! `cargo xtask setup`: what the host needs, why, and how it gets it.

use crate::output;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use contracts::exit::Code;
use qemu_tests::{
    hint::{Coded, coded},
    sandbox,
};
use std::{
    io::{IsTerminal as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

/// Arguments of `setup`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Install what is missing without asking.
    #[arg(long)]
    yes: bool,
}

/// One thing that the host must have.
#[derive(Debug, Clone, Copy)]
struct Need {
    package: &'static str,
    sign: Sign,
    why: &'static str,
}

/// What shows that a package is there.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// Any of these programs, in a folder of PATH or in /usr/sbin.
    Programs(&'static [&'static str]),
    /// A file.
    File(&'static str),
    /// A module of Python.
    PythonModule(&'static str),
}

const NEEDS: [Need; 4] = [
    Need {
        package: "mmdebstrap",
        sign: Sign::Programs(&["mmdebstrap"]),
        why: "makes Debian trees: the lab, the tools, the image",
    },
    Need { package: "uidmap", sign: Sign::Programs(&["newuidmap"]), why: "lets those trees be made without root" },
    Need {
        package: "gcc",
        sign: Sign::Programs(&["cc", "gcc"]),
        why: "links Rust programs and compiles the C parts of libraries",
    },
    Need {
        package: "libc6-dev",
        sign: Sign::File("/usr/lib/x86_64-linux-gnu/libc.a"),
        why: "the C library's headers and its static form",
    },
];

/// What tests need besides.
const TEST_NEEDS: [Need; 3] = [
    Need {
        package: "python3-venv",
        sign: Sign::PythonModule("ensurepip"),
        why: "runs python-tuf, the reference client, against our repositories",
    },
    Need {
        package: "softhsm2",
        sign: Sign::Programs(&["softhsm2-util"]),
        why: "is a PKCS#11 module in software, for tests with keys in one",
    },
    Need { package: "opensc", sign: Sign::Programs(&["pkcs11-tool"]), why: "speaks to PKCS#11 modules" },
];

/// `setup` by itself: says so when nothing is missing.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure_for_tests(arguments.yes)?;
    output::results().line("this host has everything that Shelfboot needs");
    Ok(())
}

/// Installs what is missing. Asks first on a terminal, unless told not to.
pub(crate) fn ensure(yes: bool) -> Result<()> {
    ensure_all(yes, &NEEDS)
}

/// The same with what tests need besides.
pub(crate) fn ensure_for_tests(yes: bool) -> Result<()> {
    ensure_all(yes, &[&NEEDS[..], &TEST_NEEDS].concat())
}

fn ensure_all(yes: bool, needs: &[Need]) -> Result<()> {
    check_rust()?;
    let missing: Vec<Need> = needs.iter().filter(|need| !present(need)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let say = output::progress();
    say.line("This host lacks:");
    for need in &missing {
        say.line(format!("  {:<12} {}", need.package, need.why));
    }
    let packages: Vec<&str> = missing.iter().map(|n| n.package).collect();
    let by_hand = format!("sudo apt-get update && sudo apt-get install {}", packages.join(" "));
    let Some(prefix) = installer_prefix() else {
        bail!(coded(
            Code::Host,
            "packages are missing, and neither root nor sudo without a password is there",
            by_hand
        ));
    };
    if !yes && std::io::stdin().is_terminal() && !agreed(&packages)? {
        bail!(coded(Code::Host, "packages are missing", by_hand));
    }
    install(&prefix, &packages).context(Coded {
        message: "the packages were not installed".into(),
        hint: by_hand,
        code: Code::Host,
    })
}

fn present(need: &Need) -> bool {
    match need.sign {
        Sign::File(path) => Path::new(path).exists(),
        Sign::PythonModule(module) => {
            let mut python = Command::new("python3");
            python.args(["-c", &format!("import venv, {module}")]).stdout(Stdio::null()).stderr(Stdio::null());
            python.status().is_ok_and(|status| status.success())
        }
        Sign::Programs(programs) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
            programs.iter().any(|program| folders.iter().any(|folder| folder.join(program).is_file()))
        }
    }
}

/// How apt-get is called: directly as root, else through sudo if it needs no password.
fn installer_prefix() -> Option<Vec<&'static str>> {
    if sandbox::am_root() {
        return Some(Vec::new());
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    sudo.is_ok_and(|status| status.success()).then(|| vec!["sudo", "-n"])
}

fn agreed(packages: &[&str]) -> Result<bool> {
    eprint!("Install {} with apt-get? [Y/n] ", packages.join(", "));
    std::io::stderr().flush().context("asking")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("reading the answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"))
}

fn install(prefix: &[&str], packages: &[&str]) -> Result<()> {
    for arguments in [vec!["update"], [&["install", "--yes", "--no-install-recommends"], packages].concat()] {
        let words: Vec<&str> = prefix.iter().copied().chain(["apt-get"]).chain(arguments).collect();
        let status = Command::new(words[0])
            .args(&words[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("starting {}", words[0]))?;
        ensure!(status.success(), "`{}` ended with {status}", words.join(" "));
    }
    Ok(())
}

/// Rust itself is there: this program was built with it. Its two companions may not be.
fn check_rust() -> Result<()> {
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo).args([tool, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !status.is_ok_and(|s| s.success()) {
            bail!(coded(
                Code::Host,
                format!("`cargo {tool}` does not work"),
                format!("rustup component add {component}")
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_where_programs_are() {
        let need = |sign| Need { package: "p", sign, why: "w" };
        assert!(present(&need(Sign::Programs(&["sh"]))));
        assert!(!present(&need(Sign::Programs(&["no-such-program-at-all"]))));
        assert!(!present(&need(Sign::File("/no/such/file"))));
        assert!(!present(&need(Sign::PythonModule("no_such_module_at_all"))));
    }
}
