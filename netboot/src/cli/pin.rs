//! `netboot pin`.

use super::Interrupted;
use crate::{
    config::Config,
    pin::{self, secret::SecretFile},
};
use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
};

/// What Ctrl-C sends.
const CTRL_C: u8 = 3;
/// More than any PIN.
const LONGEST_LINE: usize = 1024;

/// What to do with the store's PIN.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set the PIN that people type to change something on the store page.
    ///
    /// It is asked for twice on a terminal; otherwise it is the first line of standard input. It has 6 to 64 characters. The
    /// running service takes it at once. Only a hash is kept, in `pin.json` in the state folder.
    Set {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Remove the PIN: then nothing can be changed on the store page.
    Remove {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

pub(super) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Set { config } => {
            let path = Config::load(config)?.state.join(pin::FILE);
            let secret = SecretFile::make(&ask()?)?;
            secret.write(&path)?;
            tracing::info!("the store's PIN is set, in {}", path.display());
        }
        Command::Remove { config } => {
            let path = Config::load(config)?.state.join(pin::FILE);
            match std::fs::remove_file(&path) {
                Ok(()) => tracing::info!("the store's PIN is removed"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => tracing::info!("this store has no PIN"),
                Err(error) => return Err(error).with_context(|| format!("cannot remove {}", path.display())),
            }
        }
    }
    Ok(())
}

fn ask() -> Result<String> {
    if !io::stdin().is_terminal() {
        return line();
    }
    let hidden = Hidden::new()?;
    let first = hidden.ask("New PIN: ")?;
    if first != hidden.ask("The same again: ")? {
        bail!("these were two different PINs; nothing was changed");
    }
    Ok(first)
}

/// A terminal that shows nothing of what is typed, until this is dropped. Ctrl-C is read as a character, so that nothing can
/// leave the terminal like that.
struct Hidden(Termios);

impl Hidden {
    fn new() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's settings")?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        hidden.local_flags.insert(LocalFlags::ECHONL | LocalFlags::ICANON);
        hidden.control_chars[SpecialCharacterIndices::VEOL as usize] = CTRL_C;
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &hidden).context("cannot hide what is typed")?;
        Ok(Self(before))
    }

    fn ask(&self, question: &str) -> Result<String> {
        let mut out = io::stderr().lock();
        out.write_all(question.as_bytes()).and_then(|()| out.flush()).context("cannot write to the terminal")?;
        line()
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

/// One line of standard input, without its end.
fn line() -> Result<String> {
    let mut bytes = Vec::new();
    for byte in io::stdin().lock().bytes() {
        match byte.context("cannot read standard input")? {
            b'\n' => break,
            CTRL_C => return Err(Interrupted.into()),
            _ if bytes.len() >= LONGEST_LINE => bail!("the line is too long for a PIN"),
            byte => bytes.push(byte),
        }
    }
    let text = String::from_utf8(bytes).context("the PIN is not plain text")?;
    Ok(text.trim_end_matches('\r').to_owned())
}
