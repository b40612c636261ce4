//! What people see: steps, progress, errors with a hint. The one module that prints.

use crate::{keys_console, progress::Progress, repo_console};
use clap::{CommandFactory, Parser};
use contracts::{
    exit::{Code, Lack},
    manifest::ImageManifest,
};
use image_builder::{
    cli::{self, CheckArgs, Cli, Command, NewArgs, SbomArgs},
    diff::{self, MAX_LIST},
    export, lock, namespace, new,
    pipeline::{self, BuildError},
    published::Published,
};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Report, miette};
use profiles::{Explanation, Problem, ProfileError, explain::Place};
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

/// Reads the command line, does it, and says how it went.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    namespace::share();
    if matches!(cli.command, Command::Build(_) | Command::Export(_) | Command::Lock(_)) {
        namespace::enter();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start"), None, Code::Host),
    };
    // One thread: the kernel's parent-death signal, which ends our programs with us, is tied to it.
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => {
                return fail(&anyhow::Error::new(error).context("cannot wait for Ctrl-C"), None, Code::Host);
            }
        };
        let left = cli.command.left_by_interruption();
        // What is dropped here ends its program, with all mounts, and removes its temporary folders. Work that has
        // just been finished is not called interrupted.
        tokio::select! {
            biased;
            code = execute(cli.command) => code,
            _ = interrupt.recv() => interrupted(left),
            _ = terminate.recv() => interrupted(left),
        }
    })
}

fn interrupted(left: &str) -> ExitCode {
    say(format_args!("interrupted; {left}"));
    Code::Interrupted.into()
}

async fn execute(command: Command) -> ExitCode {
    match command {
        Command::Build(arguments) => {
            let (mut progress, if_missing) = (Progress::new(arguments.json), arguments.if_missing);
            let request = arguments.request(|name| std::env::var(name).ok(), time::OffsetDateTime::now_utc());
            match pipeline::build(&request, &mut progress).await {
                Ok(summary) => progress.ended(&summary, &summary.manifest),
                Err(BuildError::VersionExists { template, image_version }) if if_missing => {
                    progress.stopped();
                    say(format_args!("the repository has {template} {image_version} already; there is nothing to do"));
                    let manifest = ImageManifest::target_name(&template, &image_version);
                    progress.ended(&serde_json::json!({"manifest": manifest, "present": true}), &manifest)
                }
                Err(error) => {
                    progress.failed(&error, cli::code(&error), cli::hint(&error));
                    build_failed(error)
                }
            }
        }
        Command::Lock(arguments) => {
            let mut progress = Progress::new(false);
            let variable = |name: &str| std::env::var(name).ok();
            match lock::run(&arguments, variable, time::OffsetDateTime::now_utc(), &mut progress).await {
                Ok(outcome) => print_line(outcome.trim_end()),
                Err(error) => {
                    progress.failed(&error, cli::code(&error), cli::hint(&error));
                    build_failed(error)
                }
            }
        }
        Command::Export(arguments) => {
            let mut progress = Progress::new(arguments.json);
            let request = arguments.request(|name| std::env::var(name).ok());
            match export::export(&request, &mut progress).await {
                Ok(exported) => progress.ended(&exported, &exported.out.display().to_string()),
                Err(error) => {
                    let (code, hint) = (export::cli::code(&error), export::cli::hint(&error));
                    progress.failed(&error, code, hint.clone());
                    fail(&error.into(), hint, code)
                }
            }
        }
        Command::New(NewArgs { name, like, folder }) => match new::begin(&folder, &name, &like) {
            Ok(written) => {
                let lines: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
                print_line(&lines.join("\n"))
            }
            Err(error) => {
                let (code, hint) = cli::new_failed(&error);
                fail(&error.into(), hint, code)
            }
        },
        Command::Check(arguments) => check(&arguments),
        Command::Explain(arguments) => match profiles::explain(&arguments.template, arguments.settings.as_deref()) {
            Ok(explanation) if arguments.json => print_line(&format!("{:#}", explained_json(&explanation))),
            Ok(explanation) => print_line(explained(&explanation).trim_end()),
            Err(error) => build_failed(BuildError::Template(Box::new(error))),
        },
        Command::Sbom(arguments) => list(&arguments).await,
        Command::Diff(arguments) => {
            let (one, other, from) = (&arguments.one, &arguments.other, &arguments.from);
            match diff::diff(&from.repository, from.root.as_deref(), one, other).await {
                Ok(difference) if arguments.json => match serde_json::to_string_pretty(&difference) {
                    Ok(text) => print_line(&text),
                    Err(error) => fail(&error.into(), None, Code::Failed),
                },
                Ok(difference) => print_line(diff::table::show(&difference, arguments.files).trim_end()),
                Err(error) => {
                    let (code, hint) = cli::diff_failed(&error);
                    fail(&error.into(), hint, code)
                }
            }
        }
        Command::Schema { kind } => print_line(&format!("{:#}", profiles::schema::schema(&kind).unwrap_or_default())),
        Command::Keys { command } => keys_console::execute(*command).await,
        Command::Repo { command } => repo_console::execute(*command).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "image-builder", &mut script);
            print_line(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

/// `image-builder sbom`.
async fn list(arguments: &SbomArgs) -> ExitCode {
    let SbomArgs { template, version, from, format } = arguments;
    let read = async {
        let published = Published::open(&from.repository, from.root.as_deref()).await?;
        let image = published.find(&format!("{template}@{version}")).await?;
        published.read(&format.target_name(&image.template, &image.image_version), MAX_LIST).await
    };
    match read.await {
        Ok(bytes) => print_line(&String::from_utf8_lossy(&bytes)),
        Err(error) => {
            let (code, hint) = cli::published_failed(&error);
            fail(&error.into(), hint, code)
        }
    }
}

/// Prints data. A reader that went away (`| head`) is not an error of ours.
pub(crate) fn print_line(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let hint = Lack::of(&error).map(|lack| lack.hint().to_owned());
            fail(&anyhow::Error::new(error).context("cannot write to standard output"), hint, Code::Host)
        }
        _ => Code::Done.into(),
    }
}

/// Says a line on standard error. `eprintln!` would panic where nobody can read it; then there is nobody to tell.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Every mistake of every file; one that two templates share is said once.
fn check(arguments: &CheckArgs) -> ExitCode {
    let mut problems: Vec<Problem> = Vec::new();
    for file in &arguments.files {
        match profiles::check(file, arguments.settings.as_deref()) {
            Ok(found) => {
                for problem in found {
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
            }
            Err(error) => return build_failed(BuildError::Template(Box::new(error))),
        }
    }
    let code = if problems.is_empty() { Code::Done } else { Code::Failed };
    if arguments.json {
        let rows: Vec<_> = problems.iter().map(row).collect();
        return match serde_json::to_string_pretty(&rows) {
            Ok(text) if print_line(&text) == ExitCode::SUCCESS => code.into(),
            Ok(_) => Code::Failed.into(),
            Err(error) => fail(&error.into(), None, Code::Failed),
        };
    }
    problems.iter().for_each(|problem| say(format_args!("{}", draw(problem))));
    match problems.len() {
        0 => say(format_args!("no mistakes")),
        1 => say(format_args!("1 mistake")),
        count => say(format_args!("{count} mistakes")),
    }
    code.into()
}

fn place(place: &Place) -> String {
    format!("{}:{}", place.file.display(), place.line)
}

/// Sections with their parts; the place of each stands in a column of its own.
fn explained(explanation: &Explanation) -> String {
    let mut out = format!("{}: {}\n", explanation.template, explanation.description);
    let mut section = "";
    for part in &explanation.parts {
        if part.section != section {
            section = part.section;
            out += &format!("\n{section}\n");
        }
        let what = match part.value.as_deref() {
            None => format!("{} has no value yet", part.name),
            Some("") if part.section == "parameters" => format!("{} = \"\"", part.name),
            Some("") => part.name.clone(),
            Some(value) => format!("{} = {}", part.name, value.trim_end()),
        };
        let over: Vec<String> = part.over.iter().map(place).collect();
        let over = if over.is_empty() { String::new() } else { format!(" (instead of {})", over.join(", ")) };
        out += &format!("  {what:<72} {}{over}\n", place(&part.from));
    }
    out
}

fn explained_json(explanation: &Explanation) -> serde_json::Value {
    let place = |place: &Place| serde_json::json!({"file": place.file, "line": place.line});
    let parts = explanation.parts.iter().map(|part| {
        let over: Vec<_> = part.over.iter().map(place).collect();
        serde_json::json!({
            "section": part.section, "name": part.name, "value": part.value, "from": place(&part.from), "over": over,
        })
    });
    serde_json::json!({
        "template": explanation.template, "description": explanation.description, "parts": parts.collect::<Vec<_>>(),
    })
}

fn row(problem: &Problem) -> serde_json::Value {
    serde_json::json!({
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "code": problem.code,
        "message": problem.message,
        "help": problem.fix,
    })
}

/// A mistake with its place in the file.
fn draw(problem: &Problem) -> String {
    let label = LabeledSpan::at(problem.bytes.clone(), "here");
    let report: Report =
        miette!(labels = vec![label], help = problem.fix.clone(), code = problem.code, "{}", problem.message);
    let report = report.with_source_code(NamedSource::new(problem.file.display().to_string(), problem.text.clone()));
    let mut text = String::new();
    // Off a terminal lines get no colours and the same width everywhere.
    let terminal = std::io::stderr().is_terminal();
    let theme = if terminal { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(terminal);
    let drawn = handler.render_report(&mut text, report.as_ref());
    if drawn.is_ok() { text } else { problem.to_string() }
}

fn build_failed(error: BuildError) -> ExitCode {
    let code = cli::code(&error);
    if let BuildError::Template(inner) = &error
        && let ProfileError::Invalid(problems) = inner.as_ref()
    {
        say(format_args!("error: {error}"));
        problems.iter().for_each(|problem| say(format_args!("{}", draw(problem))));
        return code.into();
    }
    let hint = cli::hint(&error);
    fail(&error.into(), hint, code)
}

/// Prints the chain of causes and what to do next. Links of the chain that only repeat the next one are left out.
pub(crate) fn fail(error: &anyhow::Error, hint: Option<String>, code: Code) -> ExitCode {
    let mut last = error.to_string();
    say(format_args!("error: {last}"));
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if text != last {
            say(format_args!("  because: {text}"));
        }
        last = text;
    }
    if let Some(hint) = hint {
        say(format_args!("hint: {hint}"));
    }
    code.into()
}
