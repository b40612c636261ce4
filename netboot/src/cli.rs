//! The command line.

mod pin;
mod status;
mod survey;

use crate::{
    boot_files::name_of,
    logging::{self, Format},
    service::Prepared,
};
use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use contracts::{
    assignment::ImageRef,
    exit::{Code, Lack},
    manifest::Channel,
};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

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

/// How the program ends after this error.
fn code(error: &anyhow::Error) -> Code {
    use crate::{
        boot_files::BootError, cache::CacheError, config::ConfigError, confine::ConfineError,
        interface::InterfaceError, service::InputError, sockets::SocketError,
    };
    if error.is::<Interrupted>() {
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
    writeln!(out, "error: {error}")?;
    for cause in error.chain().skip(1) {
        writeln!(out, "  because: {cause}")?;
    }
    writeln!(out, "hint: {}", hint(error))
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
    } else if error.is::<status::AskError>() {
        "is the service running there (`netboot serve`)? `--url` takes http://ADDRESS[:PORT] of the store LAN"
    } else if error.is::<ConfigError>() {
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
        Command::Check { config } => {
            let mut text = Vec::new();
            let checked = runtime()?.block_on(async {
                tokio::select! {
                    biased;
                    checked = check(&config, &mut text) => checked,
                    signal = crate::service::wait_for_signal() => signal.and(Err(Interrupted.into())),
                }
            });
            // What was found good before the error is worth reading too.
            write_out(&text)?;
            checked
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

async fn check(path: &Path, out: &mut impl Write) -> Result<()> {
    let prepared = Prepared::read(path)?;
    writeln!(out, "store       {}", prepared.credential.store)?;
    writeln!(out, "interface   {} ({})", prepared.config.interface, prepared.address)?;
    writeln!(out, "registrars  {}", prepared.credential.registrars.join(", "))?;
    let pin = if crate::pin::Pin::new(&prepared.config.state).is_set() { "set" } else { "not set (`netboot pin set`)" };
    writeln!(out, "pin         {pin}")?;
    // A datastore of its own: checking must not change what the service remembers. It vanishes when dropped.
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let source = crate::boot_files::Source { datastore: scratch.path().to_owned(), ..prepared.source() };
    if !prepared.config.cache.upstreams.is_empty() {
        return check_cache(&prepared.config, &source, out).await;
    }
    check_repository(&source, &format!("http://{}", prepared.address), out).await
}

/// Verifies what the upstreams have, and what the cache has: either is enough to go on.
async fn check_cache(
    config: &crate::config::Config,
    source: &crate::boot_files::Source,
    out: &mut impl Write,
) -> Result<()> {
    let mut good = false;
    for (url, answer) in crate::cache::check::upstreams(config, &source.datastore).await? {
        good |= answer.is_ok();
        writeln!(out, "upstream    {url} ({})", answer.unwrap_or_else(|problem| problem))?;
    }
    if source.fingerprint().is_some() {
        source.open().await?;
        good = true;
        writeln!(out, "cache       {} (verified)", source.repository.display())?;
    } else {
        writeln!(out, "cache       {} (empty)", source.repository.display())?;
    }
    if good { Ok(()) } else { Err(crate::cache::CacheError::NoUpstream.into()) }
}

/// Verifies the repository, and the boot file of every channel in it.
async fn check_repository(source: &crate::boot_files::Source, base_url: &str, out: &mut impl Write) -> Result<()> {
    let repository = source.open().await?;
    writeln!(out, "repository  {} (verified)", source.repository.display())?;
    let mut images: Vec<ImageRef> = Vec::new();
    for (name, _) in repository.all_targets() {
        let mut parts = name.raw().strip_prefix("channels/").into_iter().flat_map(|rest| rest.split('/'));
        if let (Some(template), Some(file), None) = (parts.next(), parts.next(), parts.next())
            && let Some(channel) = file.strip_suffix(".json")
        {
            images.push(ImageRef { template: template.into(), channel: channel.into(), version: None });
        }
    }
    for image in &images {
        let set = source.load(std::slice::from_ref(image), base_url).await?;
        let name = name_of(&image.template);
        let channel = Channel::target_name(&image.template, &image.channel);
        match (set.files.get(&name), set.problem) {
            (Some(file), None) => {
                writeln!(out, "boot file   {name} {} ({channel}), {} bytes", file.version, file.content.length())?;
            }
            (_, problem) => {
                let problem = format!("{channel}: {}", problem.unwrap_or_else(|| "no boot file".into()));
                return Err(crate::service::InputError::Image(problem).into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
