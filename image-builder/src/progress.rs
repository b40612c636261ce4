//! Progress as people see it, on standard error, and as machines read it: one JSON object a line on standard output.

use crate::console::{print_line, say};
use contracts::exit::Code;
use image_builder::report::Reporter;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use std::{error::Error, io::IsTerminal, process::ExitCode, time::Duration};

/// Shows steps: a line that is redrawn on a terminal, two plain lines for each step elsewhere.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    terminal: bool,
    events: bool,
}

impl Progress {
    /// With `events`, machines are told too.
    pub(crate) fn new(events: bool) -> Self {
        Self { bar: None, terminal: std::io::stderr().is_terminal(), events }
    }

    /// The end of work that went well: for machines the whole result, for people and scripts a line.
    pub(crate) fn ended(&self, result: &impl Serialize, line: &str) -> ExitCode {
        if !self.events {
            return print_line(line);
        }
        let mut event = serde_json::to_value(result).unwrap_or_default();
        event["event"] = "summary".into();
        print_line(&event.to_string())
    }

    /// The end of work that went wrong. People are told by the caller.
    pub(crate) fn failed(&mut self, error: &dyn Error, code: Code, hint: Option<String>) {
        self.stopped();
        let causes: Vec<String> =
            std::iter::successors(error.source(), |error| (*error).source()).map(ToString::to_string).collect();
        let code = code as u8;
        self.tell(
            json!({"event": "error", "code": code, "message": error.to_string(), "causes": causes, "hint": hint}),
        );
    }

    /// The step under way will not end.
    pub(crate) fn stopped(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn tell(&self, event: Value) {
        if self.events {
            print_line(&event.to_string());
        }
    }
}

impl Reporter for Progress {
    fn started(&mut self, number: usize, total: usize, title: &str) {
        self.tell(json!({"event": "started", "step": number, "of": total, "title": title}));
        if !self.terminal {
            say(format_args!("[{number}/{total}] {title}"));
            return;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4}  {wide_msg:.dim}") {
            bar.set_style(style);
        }
        bar.set_prefix(format!("[{number}/{total}] {title}"));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bar = Some(bar);
    }

    fn line(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(line.to_owned()),
            // apt marks warnings and errors; what it and dpkg say besides is shown when they fail.
            None if ["W: ", "E: "].iter().any(|mark| line.starts_with(mark)) => say(format_args!("      {line}")),
            None => {}
        }
    }

    fn done(&mut self, title: &str, seconds: f64, detail: &str) {
        self.tell(json!({"event": "done", "title": title, "seconds": seconds, "detail": detail}));
        match self.bar.take() {
            Some(bar) => {
                bar.finish_and_clear();
                say(format_args!("{title}: {detail} ({seconds:.1} s)"));
            }
            None => say(format_args!("      {detail} ({seconds:.1} s)")),
        }
    }
}
