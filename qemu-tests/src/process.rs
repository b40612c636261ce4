//! Running programs: with their output as progress, and with the end of it in the error.

use crate::report::Report;
use anyhow::{Context as _, Result, bail};
use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

/// How many lines of a failed program's output are shown.
const TAIL: usize = 30;

/// Runs a program to its end; each line that it prints goes to the report, after `prefix`.
///
/// # Errors
/// When it cannot be started or ends with failure; the error holds its last lines.
pub fn run(command: &mut Command, prefix: &str, report: &Report) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let outputs: Vec<Box<dyn Read + Send>> = [
        child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>),
        child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>),
    ]
    .into_iter()
    .flatten()
    .collect();
    std::thread::scope(|scope| {
        for output in outputs {
            let tail = Arc::clone(&tail);
            scope.spawn(move || relay(output, prefix, report, &tail));
        }
    });
    let status = child.wait().with_context(|| format!("waiting for {name}"))?;
    if !status.success() {
        let lines: Vec<String> = tail.lock().map(|t| t.iter().cloned().collect()).unwrap_or_default();
        bail!("{name} ended with {status}; its last lines:\n{}", lines.join("\n"));
    }
    Ok(())
}

fn relay(output: impl Read, prefix: &str, report: &Report, tail: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        // Programs that draw progress bars end a line by a bare carriage return.
        let text = String::from_utf8_lossy(&line);
        let Some(text) = text.rsplit('\r').map(str::trim_end).find(|t| !t.is_empty()) else { continue };
        report.line(format!("{prefix}{text}"));
        if let Ok(mut tail) = tail.lock() {
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(format!("  {text}"));
        }
    }
}

/// Runs a program to its end and returns what it printed on stdout.
///
/// # Errors
/// When it cannot be started or ends with failure; the error holds what it printed on stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {name}"))?;
    if !output.status.success() {
        bail!("{name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is not UTF-8"))
}

/// The last line of a program's output: of one that tells one JSON object a line, its result.
#[must_use]
pub fn last_line(output: &[u8]) -> &[u8] {
    output.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default()
}

/// The last lines of a program's output, for an error.
#[must_use]
pub fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    last.iter().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_what_stands_behind_the_last_break() {
        assert_eq!(last_line(b"{1}\n{2}\n"), b"{2}");
        assert_eq!(last_line(b"{1}"), b"{1}");
        assert_eq!(last_line(b""), b"");
    }

    #[test]
    fn a_failure_shows_the_last_lines() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let report = Report::new(move |line| sink.lock().unwrap().push(line.to_owned()));
        let error = run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]), "x: ", &report).unwrap_err();
        assert!(error.to_string().contains("two"), "{error}");
        let mut lines = seen.lock().unwrap().clone();
        lines.sort();
        assert_eq!(lines, ["x: one", "x: two"]);
    }
}
