//! `image-builder repo …` for people and for machines: data on standard output, everything else on standard error.

use crate::console::{fail, print_line, say};
use contracts::{exit::Code, manifest::RoleVersions, rollout::Rollout};
use image_builder::{
    keys::Keys,
    repo::{
        args::{
            ChannelCommand, GcArgs, ImportArgs, MirrorArgs, Place, RepoCommand, RolloutArgs, RolloutCommand, Target,
            VerifyArgs, default_rings,
        },
        chain,
        failure::RepoError,
        gc, import, mirror,
        source::Source,
        update,
        verify::{self, Selection, VerifyError},
    },
    report::mebibytes,
    repository::Repository,
};
use serde::Serialize;
use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};
use time::OffsetDateTime;
use tough::schema::{Root, Signed};

/// Does it, and says how it went.
pub(crate) async fn execute(command: RepoCommand) -> ExitCode {
    let done = match command {
        RepoCommand::Verify(arguments) => verify(&arguments).await,
        RepoCommand::List { place, json } => list(&place, json).await,
        RepoCommand::Refresh { target, if_within_days } => refresh(&target, if_within_days).await,
        RepoCommand::Channel { command } => channel(command).await,
        RepoCommand::Rollout { command } => rollout(command).await,
        RepoCommand::Import(arguments) => import(&arguments).await,
        RepoCommand::Gc(arguments) => gc(&arguments).await,
        RepoCommand::Mirror(arguments) => mirror(&arguments).await,
    };
    done.unwrap_or_else(|error| {
        let (code, hint) = (error.code(), error.hint());
        fail(&error.into(), hint, code)
    })
}

fn json(value: &impl Serialize, code: Code) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) if print_line(&text) == ExitCode::SUCCESS => code.into(),
        Ok(_) => Code::Failed.into(),
        Err(error) => fail(&error.into(), None, Code::Failed),
    }
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

async fn verify(arguments: &VerifyArgs) -> Result<ExitCode, RepoError> {
    let selection = Selection { template: arguments.template.clone(), version: arguments.image_version.clone() };
    let now = jiff::Timestamp::now();
    let report = verify::verify(&arguments.repository, &arguments.root, &selection, now).await?;
    let code = if report.verified { Code::Done } else { Code::Failed };
    if arguments.json {
        return Ok(json(&report, code));
    }
    for role in &report.roles {
        say(format_args!("{:<10} version {:<5} believed until {}", role.role, role.version, role.expires));
    }
    for problem in &report.problems {
        say(format_args!("{}: {}: {}", problem.file, problem.code, problem.message));
    }
    let (targets, images) = (plural(report.targets, "target"), plural(report.images.len() as u64, "image"));
    let checked = format!("{targets}, {images}, {}, {}", plural(report.chunks, "chunk"), mebibytes(report.bytes));
    match report.problems.len() as u64 {
        0 => say(format_args!("verified: {checked}")),
        count => say(format_args!("not verified: {} ({checked} looked at)", plural(count, "problem"))),
    }
    Ok(code.into())
}

/// The root of trust that a command was given: a file, or the oldest one of a key set.
fn trusted(root: Option<&Path>, keys: Option<&Path>) -> Result<Signed<Root>, RepoError> {
    let path = match (root, keys) {
        (Some(root), _) => root.to_owned(),
        (None, Some(keys)) => {
            let roots = Keys::open_online(keys)?.roots()?;
            roots.into_iter().next().map(|(_, path)| path).unwrap_or_default()
        }
        (None, None) => unreachable!("clap asks for one of both"),
    };
    let bytes = image_builder::files::read(&path).map_err(VerifyError::File)?;
    Ok(chain::trusted(&bytes).map_err(|source| VerifyError::Trust { path, source })?)
}

async fn list(place: &Place, as_json: bool) -> Result<ExitCode, RepoError> {
    let root = trusted(place.root.as_deref(), place.keys.as_deref())?;
    let found = update::listed(&place.repository, root).await?;
    if as_json {
        return Ok(json(&found, Code::Done));
    }
    let mut lines = Vec::new();
    for image in &found.images {
        let channels =
            if image.channels.is_empty() { String::new() } else { format!("  {}", image.channels.join(" ")) };
        lines.push(format!(
            "{:<24} {:<28} {:>10}{channels}",
            image.template,
            image.image_version,
            mebibytes(image.bytes)
        ));
    }
    for rollout in &found.rollouts {
        let halted = if rollout.halted { ", halted" } else { "" };
        let (template, channel, version) = (&rollout.template, &rollout.channel, &rollout.image_version);
        lines.push(format!("rollout of {template} {version} on {channel} since {}{halted}", rollout.start));
    }
    for role in &found.roles {
        lines.push(format!("{:<24} version {:<20} until {}", role.role, role.version, role.expires));
    }
    Ok(print_line(&lines.join("\n")))
}

async fn open(target: &Target) -> Result<Repository, RepoError> {
    Ok(Repository::open_existing(&target.repository, Keys::open_online(&target.keys)?).await?)
}

fn published(versions: Option<RoleVersions>) -> ExitCode {
    match versions {
        Some(versions) => say(format_args!(
            "published: targets {}, snapshot {}, timestamp {}",
            versions.targets, versions.snapshot, versions.timestamp
        )),
        None => say(format_args!("nothing to do: it is so already")),
    }
    Code::Done.into()
}

async fn refresh(target: &Target, within: Option<i64>) -> Result<ExitCode, RepoError> {
    let repository = open(target).await?;
    if let Some(days) = within
        && !repository.needs_refresh(image_builder::repository::days_from_now(days))
    {
        return Ok(published(None));
    }
    Ok(published(Some(repository.refresh(target.expiry()).await?)))
}

async fn channel(command: ChannelCommand) -> Result<ExitCode, RepoError> {
    Ok(published(match command {
        ChannelCommand::Set { target, template, channel, image_version } => {
            update::set_channel(open(&target).await?, &template, &channel, &image_version, target.expiry()).await?
        }
        ChannelCommand::Remove { target, template, channel } => {
            Some(update::remove_channel(open(&target).await?, &template, &channel, target.expiry()).await?)
        }
    }))
}

async fn rollout(command: RolloutCommand) -> Result<ExitCode, RepoError> {
    let halt = async |arguments: RolloutArgs, halted| {
        let RolloutArgs { target, template, channel } = arguments;
        update::halt_rollout(open(&target).await?, &template, &channel, halted, target.expiry())
            .await
            .map_err(RepoError::from)
    };
    let end = async |arguments: RolloutArgs, dropped| {
        let RolloutArgs { target, template, channel } = arguments;
        let versions = update::end_rollout(open(&target).await?, &template, &channel, dropped, target.expiry()).await?;
        Ok::<_, RepoError>(Some(versions))
    };
    Ok(published(match command {
        RolloutCommand::Start { target, template, channel, image_version, rings, start, window } => {
            let rollout = Rollout {
                version: contracts::VERSION,
                template,
                channel,
                image_version,
                start: start.unwrap_or_else(now),
                rings: if rings.is_empty() { default_rings() } else { rings },
                window,
                halted: false,
            };
            update::set_rollout(open(&target).await?, &rollout, target.expiry()).await?
        }
        RolloutCommand::Halt(arguments) => halt(arguments, true).await?,
        RolloutCommand::Resume(arguments) => halt(arguments, false).await?,
        RolloutCommand::Finish(arguments) => end(arguments, false).await?,
        RolloutCommand::Drop(arguments) => end(arguments, true).await?,
    }))
}

/// To the second, as documents have it.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now)
}

async fn import(arguments: &ImportArgs) -> Result<ExitCode, RepoError> {
    let target = &arguments.target;
    let keys = Keys::open_online(&target.keys)?;
    let root = trusted(None, Some(&target.keys))?;
    let repository = Repository::open(&target.repository, keys).await?;
    let image = (arguments.template.as_str(), arguments.image_version.as_str());
    let channel = arguments.channel.as_deref();
    let versions = import::import(repository, &arguments.from, root, image, channel, target.expiry()).await?;
    Ok(published(Some(versions)))
}

async fn gc(arguments: &GcArgs) -> Result<ExitCode, RepoError> {
    let GcArgs { place, dry_run, keep, grace_hours, .. } = arguments;
    let root = trusted(place.root.as_deref(), place.keys.as_deref())?;
    let mut withdrawn = Vec::new();
    if let (Some(keep), Some(keys)) = (keep, &place.keys) {
        let repository = Repository::open_existing(&place.repository, Keys::open_online(keys)?).await?;
        withdrawn = update::withdraw_outdated(repository, *keep as usize, *dry_run).await?;
    }
    let grace = Duration::from_secs(grace_hours * 3600);
    let garbage = gc::collect(&place.repository, root, grace, *dry_run, SystemTime::now()).await?;
    let bytes = garbage.iter().map(|entry| entry.bytes).sum();
    if arguments.json {
        let withdrawn: Vec<String> =
            withdrawn.iter().map(|(template, version)| format!("{template} {version}")).collect();
        let report =
            serde_json::json!({"dry_run": dry_run, "withdrawn": withdrawn, "removed": garbage, "bytes": bytes});
        return Ok(json(&report, Code::Done));
    }
    let (would, have) = if *dry_run { ("would be ", "would go") } else { ("", "went") };
    for (template, version) in &withdrawn {
        say(format_args!("{template} {version} {would}withdrawn"));
    }
    let lines: Vec<String> = garbage.iter().map(|entry| format!("{:>12}  {}", entry.bytes, entry.path)).collect();
    let printed = if lines.is_empty() { Code::Done.into() } else { print_line(&lines.join("\n")) };
    say(format_args!("{} {have}, {}", plural(garbage.len() as u64, "file"), mebibytes(bytes)));
    Ok(printed)
}

async fn mirror(arguments: &MirrorArgs) -> Result<ExitCode, RepoError> {
    let root = trusted(Some(&arguments.root), None)?;
    let source = Source::parse(&arguments.from)?;
    let quiet = arguments.json;
    let mut fetching = |path: &str| {
        if !quiet {
            say(format_args!("fetching {path}"));
        }
    };
    let done = mirror::mirror(&source, &arguments.to, root, jiff::Timestamp::now(), &mut fetching).await?;
    if arguments.json {
        return Ok(json(&done, Code::Done));
    }
    say(format_args!("{} fetched, {}; {} were there", plural(done.fetched, "file"), mebibytes(done.bytes), done.kept));
    Ok(Code::Done.into())
}
