//! Other people's TFTP clients against netboot: what they fetch is the file, with and without options, on a good line and on
//! a bad one; what they may not have is refused.

use super::{
    inside::{Bench, LARGE, TINY},
    network::{self, ADDRESS, CLIENTS},
    servers::{Running, Server},
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// A client with some options; `@FILE`, `@OUT` and `@SERVER` stand for what is fetched, whereto and from whom.
struct Client {
    title: &'static str,
    program: &'static str,
    arguments: &'static str,
}

const fn client(title: &'static str, program: &'static str, arguments: &'static str) -> Client {
    Client { title, program, arguments }
}

impl Client {
    /// curl asks for six seconds between repeats with every other option.
    fn agrees_on_seconds(&self) -> bool {
        self.arguments.contains("timeout=") || (self.program == "curl" && !self.arguments.contains("no-options"))
    }
}

const ALL: &[Client] = &[
    client("tftp-hpa", "tftp", "-m binary @SERVER -c get @FILE @OUT"),
    client("atftp without options", "atftp", "--get --remote-file @FILE --local-file @OUT @SERVER"),
    client(
        "atftp with blksize, tsize and timeout",
        "atftp",
        "--option blksize=1428 --option tsize=1 --option timeout=2 --get --remote-file @FILE --local-file @OUT @SERVER",
    ),
    client(
        "atftp with windowsize",
        "atftp",
        "--option windowsize=8 --option blksize=1428 --get --remote-file @FILE --local-file @OUT @SERVER",
    ),
    client("curl", "curl", "--silent --show-error --output @OUT tftp://@SERVER/@FILE"),
    client(
        "curl with blocks of 1468",
        "curl",
        "--silent --show-error --tftp-blksize 1468 --output @OUT tftp://@SERVER/@FILE",
    ),
    client(
        "curl without options",
        "curl",
        "--silent --show-error --tftp-no-options --output @OUT tftp://@SERVER/@FILE",
    ),
];

/// Runs all of them. Gives how many checks passed.
///
/// # Errors
/// At the first client that gets something else than the file.
pub async fn run(bench: &Bench<'_>) -> Result<u64> {
    let _running = Running::start(bench, Server::Netboot).await?;
    let mut passed = 0;
    let mut done = |text: String| {
        passed += 1;
        bench.report.line(format!("   ok {text}"));
    };
    for (file, loss) in [(LARGE, 0), (TINY, 2)] {
        network::lose(&bench.root, loss)?;
        // Seconds that were agreed on are kept: each lost packet takes that long then.
        for client in ALL.iter().filter(|client| loss == 0 || !client.agrees_on_seconds()) {
            let what = format!("{} fetches {file}.efi, {loss} % lost", client.title);
            fetch(bench, client, &format!("{file}.efi")).with_context(|| what.clone())?;
            done(what);
        }
    }
    network::lose(&bench.root, 0)?;
    for client in ALL {
        ensure!(fetch(bench, client, "nothing.efi").is_err(), "{} got a file that is not there", client.title);
        done(format!("{} hears that there is no such file", client.title));
    }
    let out = bench.plan.run.join("out");
    fs::write(&out, "something").context("writing a file")?;
    let put = client("tftp-hpa", "tftp", "-v -m binary @SERVER -c put @OUT @FILE");
    let said = say(&mut command(bench, &put, "k8s-worker.efi", &out))?;
    ensure!(said.contains("read only"), "tftp-hpa was not told that nothing can be written: {said}");
    done("tftp-hpa hears that nothing can be written".into());
    Ok(passed)
}

fn command(bench: &Bench<'_>, client: &Client, file: &str, out: &Path) -> Command {
    // A client that waits for ever is a failure, too.
    let mut command = bench.root.command_in(CLIENTS, "timeout");
    command.arg("120").arg(client.program);
    for word in client.arguments.split(' ') {
        let word = word.replace("@FILE", file).replace("@SERVER", &ADDRESS.to_string());
        // atftp takes "name value" as one word.
        let word = if client.program == "atftp" { word.replace('=', " ") } else { word };
        command.arg(word.replace("@OUT", &out.display().to_string()));
    }
    command.stdin(Stdio::null());
    command
}

fn say(command: &mut Command) -> Result<String> {
    let output = command.output().context("starting a client")?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn fetch(bench: &Bench<'_>, client: &Client, file: &str) -> Result<()> {
    let out = bench.plan.run.join("out");
    let _ = fs::remove_file(&out);
    let said = say(&mut command(bench, client, file, &out))?;
    let got = fs::read(&out).unwrap_or_default();
    let wanted = fs::read(bench.files.join(file)).unwrap_or_default();
    if got.is_empty() || got != wanted {
        bail!("{} bytes came instead of {}: {}", got.len(), wanted.len(), said.trim());
    }
    Ok(())
}
