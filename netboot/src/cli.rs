//! The command line.

mod check;
mod logs;
mod pin;
mod status;
mod survey;

use crate::{
    logging::{self, Format},
    service::Prepared,
};
use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use contracts::exit::{Code, Lack};
use std::{io::Write, path::PathBuf, process::ExitCode};

/// The store service of Shelfboot: starts spare servers from the network, beside the store's own DHCP server.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 the work failed, 2 wrong command line, 3 wrong input file, 4 this machine \
                        lacks something, 130 interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until SIGTERM.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How log lines are written.
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
        log_format: Format,
    },
    /// Ask the running service how it is, and what each machine is doing.
    Status {
        #[command(flatten)]
        arguments: status::Arguments,
        /// Print JSON: the documents of `/v1/health` and `/v1/status`.
        #[arg(long)]
        json: bool,
    },
    /// Show what machines logged of their attempts: a list, or everything of one machine's last attempt.
    Logs(logs::Arguments),
    /// Listen who serves the LAN: DHCP servers, boot servers, and whether netboot's answers arrive. The service need not run.
    Survey {
        #[command(flatten)]
        arguments: survey::Arguments,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration, the files that it names, and the repository's signatures.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON: what was found good, and every problem with line, column and hint.
        #[arg(long)]
        json: bool,
    },
    /// The PIN with which people change something on the store page.
    #[command(subcommand)]
    Pin(pin::Command),
    /// Write a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Runs the program and turns errors into the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let format = match &arguments.command {
        Command::Serve { log_format, .. } => *log_format,
        _ => Format::Text,
    };
    // Data goes to standard output, everything else to standard error.
    logging::start(format);
    match run(arguments.command) {
        Ok(()) => Code::Done.into(),
        Err(error) if reader_went_away(&error) => Code::Done.into(),
        Err(error) => {
            let _ = report(&mut std::io::stderr().lock(), &error);
            code(&error).into()
        }
    }
}

/// `| head` has read enough.
fn reader_went_away(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Ctrl-C or SIGTERM before the work was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Interrupted;

/// Several things are wrong.
#[derive(Debug, thiserror::Error)]
#[error("{} mistakes", .errors.len())]
struct Several {
    errors: Vec<anyhow::Error>,
    /// They stand in the result already.
    said: bool,
}

/// The result of `check --json`.
fn in_json(found: &check::Found, wrong: &[anyhow::Error]) -> Result<Vec<u8>> {
    let problem = |error: &anyhow::Error| {
        let mistake = error.downcast_ref::<check::InFile>().map(|known| &known.mistake);
        serde_json::json!({
            "message": mistake.map_or_else(|| error.to_string(), |mistake| mistake.message.clone()),
            "line": mistake.and_then(|mistake| mistake.line),
            "column": mistake.and_then(|mistake| mistake.column),
            "because": error.chain().skip(1).map(ToString::to_string).collect::<Vec<_>>(),
            "hint": hint(error),
        })
    };
    let found: Vec<_> = found.iter().map(|(word, text)| serde_json::json!({"what": word, "text": text})).collect();
    let problems: Vec<_> = wrong.iter().map(problem).collect();
    let all = serde_json::json!({"good": wrong.is_empty(), "found": found, "problems": problems});
    let mut text = serde_json::to_vec_pretty(&all).context("cannot write JSON")?;
    text.push(b'\n');
    Ok(text)
}

/// How the program ends after this error.
fn code(error: &anyhow::Error) -> Code {
    use crate::{
        boot_files::BootError, cache::CacheError, config::ConfigError, confine::ConfineError,
        interface::InterfaceError, service::InputError, sockets::SocketError,
    };
    if let Some(several) = error.downcast_ref::<Several>() {
        // What the machine lacks counts more than what stands in files.
        let codes: Vec<Code> = several.errors.iter().map(code).collect();
        codes.iter().find(|code| **code == Code::Host).or(codes.first()).copied().unwrap_or(Code::Failed)
    } else if error.is::<Interrupted>() {
        Code::Interrupted
    } else if error.is::<InterfaceError>()
        || error.is::<SocketError>()
        || error.is::<CacheError>()
        || error.is::<crate::lan::dhcp::DhcpError>()
        || error.is::<survey::SurveyError>()
        || matches!(error.downcast_ref(), Some(ConfineError::Kernel { .. }))
        || matches!(Lack::of(error.as_ref()), Some(Lack::Space | Lack::Writable))
    {
        Code::Host
    } else if error.is::<ConfineError>()
        || error.is::<check::InFile>()
        || error.is::<ConfigError>()
        || error.is::<InputError>()
        || error.is::<BootError>()
    {
        Code::Input
    } else if Lack::of(error.as_ref()).is_some() {
        Code::Host
    } else {
        Code::Failed
    }
}

/// Writes an error with its causes, and what to do next.
fn report(out: &mut impl Write, error: &anyhow::Error) -> std::io::Result<()> {
    let Some(several) = error.downcast_ref::<Several>() else { return report_one(out, error, true) };
    if several.said {
        return Ok(());
    }
    for (at, error) in several.errors.iter().enumerate() {
        // The same advice once, after the last that it is for.
        let next = several.errors.get(at + 1).map(hint);
        report_one(out, error, next != Some(hint(error)))?;
    }
    Ok(())
}

fn report_one(out: &mut impl Write, error: &anyhow::Error, with_hint: bool) -> std::io::Result<()> {
    writeln!(out, "error: {error}")?;
    for cause in error.chain().skip(1) {
        writeln!(out, "  because: {cause}")?;
    }
    if with_hint { writeln!(out, "hint: {}", hint(error)) } else { Ok(()) }
}

fn hint(error: &anyhow::Error) -> &'static str {
    use crate::{
        boot_files::BootError, cache::CacheError, config::ConfigError, confine::ConfineError,
        interface::InterfaceError, pin::secret::SecretError, service::InputError, sockets::SocketError,
        store::StoreError,
    };
    if error.is::<Interrupted>() {
        "run it again; it has changed nothing"
    } else if let Some(lack @ (Lack::Space | Lack::Writable)) = Lack::of(error.as_ref()) {
        lack.hint()
    } else if error.is::<ConfineError>() {
        "name in `user` somebody who can read what the configuration names, make those folders readable, or set \
         `user: root`: capabilities are given up all the same"
    } else if let Some(SecretError::Weak(_)) = error.downcast_ref() {
        "take another one, 8 digits for example that are no date; it is typed on a phone"
    } else if error.is::<logs::NoLog>() {
        "`netboot logs --config FILE` lists what is kept; a machine that never reached this store has sent nothing"
    } else if error.is::<status::AskError>() {
        "is the service running there (`netboot serve`)? `--url` takes http://ADDRESS[:PORT] of the store LAN"
    } else if error.is::<check::InFile>() || error.is::<ConfigError>() {
        "correct the configuration file, then run `netboot check --config FILE`"
    } else if let Some(InputError::Credential(..)) = error.downcast_ref() {
        "`registrar store add` makes the credential; copy it here as it is, mode 0600"
    } else if let Some(InputError::Pool(..)) = error.downcast_ref() {
        "correct the section `dhcp`: the pool lies in the network of `interface`, see docs/pxe.md"
    } else if error.is::<survey::SurveyError>() {
        "run it as root, or with CAP_NET_RAW, on an Ethernet interface that is up"
    } else if error.is::<crate::lan::dhcp::DhcpError>() {
        "switch the other DHCP server off, or set `mode: proxy`: netboot boots machines beside it"
    } else if let Some(InputError::NoTrust(_)) = error.downcast_ref() {
        "copy metadata/1.root.json of the repository there, from a place that you trust"
    } else if error.is::<InterfaceError>() {
        "set `interface` and `address` to what `ip -4 address` shows for the store LAN"
    } else if error.is::<SocketError>() {
        "stop the other program, or give netboot another address or port; with CAP_NET_RAW, DHCP's port may stay with its holder"
    } else if let Some(CacheError::NoUpstream) = error.downcast_ref() {
        "look at the lines above: is the line up, is `trust` of the same repository, and does this machine's clock go right?"
    } else if error.is::<CacheError>() {
        "`repository` needs an empty folder that netboot may write, on a file system with symbolic links such as ext4"
    } else if let Some(BootError::Expired { .. }) = error.downcast_ref() {
        "look at this machine's clock; if it goes right, the region has to renew the dates: `image-builder repo refresh`"
    } else if let Some(BootError::Read(..)) = error.downcast_ref() {
        "sync the repository to the folder that `repository` names"
    } else if error.is::<BootError>() {
        "compare `trust` with the repository's metadata/root.json, check this machine's clock, and sync the repository again"
    } else if let Some(StoreError::InUse(_)) = error.downcast_ref() {
        "stop the other netboot, or give this one another `state` folder"
    } else if let Some(StoreError::Folder(..) | StoreError::Lock(..) | StoreError::Journal(_)) = error.downcast_ref() {
        "`state` needs a folder that netboot may write"
    } else if let Some(lack) = Lack::of(error.as_ref()) {
        lack.hint()
    } else {
        "run `netboot check --config FILE` after correcting this; RUST_LOG=debug shows more"
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Completions { shell } => {
            // Into memory first: the generator panics when it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "netboot", &mut script);
            write_out(&script)
        }
        Command::Check { config, json } => {
            let mut found = check::Found::new();
            let wrong = runtime()?.block_on(async {
                tokio::select! {
                    biased;
                    wrong = check::check(&config, &mut found) => Ok(wrong),
                    signal = crate::service::wait_for_signal() => signal.and(Err(Interrupted.into())),
                }
            })?;
            // What was found good is worth reading too when something is not.
            if json {
                write_out(&in_json(&found, &wrong)?)?;
            } else {
                let lines: String = found.iter().map(|(word, text)| format!("{word:<11} {text}\n")).collect();
                write_out(lines.as_bytes())?;
            }
            if wrong.is_empty() { Ok(()) } else { Err(Several { errors: wrong, said: json }.into()) }
        }
        Command::Status { arguments, json } => {
            let answer = runtime()?.block_on(status::ask(&arguments))?;
            if json {
                let mut text = serde_json::to_vec_pretty(&answer).context("cannot write JSON")?;
                text.push(b'\n');
                write_out(&text)
            } else {
                write_out(status::table(&answer).as_bytes())
            }
        }
        Command::Logs(arguments) => logs::run(&arguments),
        Command::Pin(command) => pin::run(&command),
        Command::Survey { arguments, json } => {
            let report = survey::survey(&arguments)?;
            if json {
                let mut text = serde_json::to_vec_pretty(&report).context("cannot write JSON")?;
                text.push(b'\n');
                write_out(&text)
            } else {
                write_out(survey::table(&report).as_bytes())
            }
        }
        Command::Serve { config, .. } => {
            // Before there is a thread: what needs rights is opened, and then they are given up.
            let opened = Prepared::read(&config)?.open()?.confine()?;
            runtime()?.block_on(opened.serve())
        }
    }
}

fn write_out(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot write to standard output")
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    // rustls needs one provider in the process, chosen before its first use. A second call is harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the async runtime")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn errors_name_their_causes_and_a_next_step() {
        let missing = Prepared::read(Path::new("/nonexistent/netboot.yaml")).unwrap_err();
        let mut text = Vec::new();
        report(&mut text, &missing).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("/nonexistent/netboot.yaml") && text.contains("because:") && text.contains("hint:"));
    }
}
