//! `image-builder repo …`, as clap reads it.

use crate::repository::Expiry;
use clap::{ArgGroup, Args, Subcommand};
use contracts::rollout::{Ring, Window};
use std::path::PathBuf;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What to do with a repository.
#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// Verify a repository from scratch, as a stranger would
    ///
    /// Follows the metadata from the root of trust through every rotation, hashes every target, reads every manifest, and
    /// unpacks and hashes every chunk of every archive. Says every problem and ends with 1 when there is one. It asks
    /// nothing of the keys and changes nothing.
    Verify(VerifyArgs),
    /// Show images, channels, rollouts and the dates of the metadata
    List {
        /// What is read and believed
        #[command(flatten)]
        place: Place,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Sign snapshot and timestamp anew before they expire
    ///
    /// For a timer on the machine with the online keys: it needs the snapshot and the timestamp key and no other. A new
    /// root of trust among the keys is published with it.
    Refresh {
        /// What is changed, and with which keys
        #[command(flatten)]
        target: Target,
        /// Do nothing when both are still believed for longer than this
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i64).range(0..=3650))]
        if_within_days: Option<i64>,
    },
    /// Say which version a channel names
    Channel {
        /// What to do with it.
        #[command(subcommand)]
        command: ChannelCommand,
    },
    /// Give a version to some stores before others
    Rollout {
        /// What to do with it.
        #[command(subcommand)]
        command: RolloutCommand,
    },
    /// Take a tested image from another repository of the same root of trust
    ///
    /// Everything of the image is verified first. The bytes stay the same, so what was tested is what is published.
    Import(ImportArgs),
    /// Remove what no reader can ask for any more
    ///
    /// Kept is what the current metadata leads to, every root of trust, and whatever was current within the grace period,
    /// for readers that are not through yet. With --keep, older images are withdrawn first; their bytes go with the first
    /// run after the grace period.
    Gc(GcArgs),
    /// Copy a repository, verified, from a folder or a web server into a folder
    ///
    /// Metadata is switched when everything that it leads to is there. Run it again after an interruption: it goes on
    /// where it was. An older state than the copy's is refused.
    Mirror(MirrorArgs),
}

/// `image-builder repo verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder of the repository
    #[arg(value_name = "REPO")]
    pub repository: PathBuf,
    /// The root of trust to begin with; it may be an old one
    #[arg(long, value_name = "ROOT.json")]
    pub root: PathBuf,
    /// Images of this template only, with what they need
    #[arg(long, value_name = "TEMPLATE")]
    pub template: Option<String>,
    /// Images of this version only
    #[arg(long, visible_alias = "version", value_name = "VERSION")]
    pub image_version: Option<String>,
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// A repository that is read.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("trust").required(true).args(["root", "keys"]))]
pub struct Place {
    /// Folder of the repository
    #[arg(value_name = "REPO")]
    pub repository: PathBuf,
    /// The root of trust to begin with
    #[arg(long, value_name = "ROOT.json")]
    pub root: Option<PathBuf>,
    /// Key set whose root of trust is used
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
}

/// A repository that is changed.
#[derive(Debug, Args)]
pub struct Target {
    /// Folder of the repository
    #[arg(value_name = "REPO")]
    pub repository: PathBuf,
    /// Key set made by "keys init"
    #[arg(long, value_name = "DIR")]
    pub keys: PathBuf,
    /// Days for which targets.json is believed when it is signed anew
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=3650))]
    pub targets_days: i64,
    /// Days for which snapshot.json and timestamp.json are believed
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=3650))]
    pub timestamp_days: i64,
}

impl Target {
    /// For how long what is signed is believed.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        Expiry { targets_days: self.targets_days, timestamp_days: self.timestamp_days }
    }
}

/// `image-builder repo channel`.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Let a channel name a version; nothing is published when it does already
    Set {
        /// What is changed, and with which keys
        #[command(flatten)]
        target: Target,
        /// The machine template
        #[arg(value_parser = name)]
        template: String,
        /// The channel
        #[arg(value_parser = name)]
        channel: String,
        /// The version of the image
        #[arg(value_name = "VERSION", value_parser = name)]
        image_version: String,
    },
    /// Withdraw a channel
    Remove {
        /// What is changed, and with which keys
        #[command(flatten)]
        target: Target,
        /// The machine template
        #[arg(value_parser = name)]
        template: String,
        /// The channel
        #[arg(value_parser = name)]
        channel: String,
    },
}

/// `image-builder repo rollout`.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Begin a rollout, or replace the one on that channel
    ///
    /// The channel goes on naming the version before it, for stores that are not reached yet.
    Start {
        /// What is changed, and with which keys
        #[command(flatten)]
        target: Target,
        /// The machine template
        #[arg(value_parser = name)]
        template: String,
        /// The channel
        #[arg(value_parser = name)]
        channel: String,
        /// The version of the image
        #[arg(value_name = "VERSION", value_parser = name)]
        image_version: String,
        /// HOURS=STORE,STORE or HOURS=PERCENT%: who gets it how many hours after the start [default: 0=10% 24=25% 48=50%
        /// 72=100%]
        #[arg(long = "ring", value_name = "HOURS=WHO", value_parser = ring)]
        rings: Vec<Ring>,
        /// When it begins, as 2026-11-21T02:00:00Z [default: now]
        #[arg(long, value_name = "TIME", value_parser = moment)]
        start: Option<OffsetDateTime>,
        /// Hours of the day, UTC, in which machines may be restarted
        #[arg(long, value_name = "HH:MM-HH:MM", value_parser = window)]
        window: Option<Window>,
    },
    /// Reach no further stores for now
    Halt(RolloutArgs),
    /// Go on with a rollout that was halted
    Resume(RolloutArgs),
    /// Let the channel name the version for all stores, and end the rollout
    Finish(RolloutArgs),
    /// End the rollout; the channel stays as it is
    Drop(RolloutArgs),
}

/// One rollout.
#[derive(Debug, Args)]
pub struct RolloutArgs {
    /// What is changed, and with which keys
    #[command(flatten)]
    pub target: Target,
    /// The machine template
    #[arg(value_parser = name)]
    pub template: String,
    /// The channel
    #[arg(value_parser = name)]
    pub channel: String,
}

/// `image-builder repo import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// What is changed, and with which keys
    #[command(flatten)]
    pub target: Target,
    /// Folder of the repository that has the image
    #[arg(long, value_name = "REPO")]
    pub from: PathBuf,
    /// The machine template
    #[arg(long, value_name = "TEMPLATE", value_parser = name)]
    pub template: String,
    /// The version of the image
    #[arg(long, visible_alias = "version", value_name = "VERSION", value_parser = name)]
    pub image_version: String,
    /// Channel that names this image from now on
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub channel: Option<String>,
}

/// `image-builder repo gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// What is cleaned up
    #[command(flatten)]
    pub place: Place,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Withdraw all but this many versions of each template, never one that a channel or a rollout names
    #[arg(long, value_name = "N", requires = "keys", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub keep: Option<u32>,
    /// Hours for which readers of an older state are still served
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(0..=8760))]
    pub grace_hours: u64,
    /// Print what goes as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// `image-builder repo mirror`.
#[derive(Debug, Args)]
pub struct MirrorArgs {
    /// Folder or URL of the repository
    pub from: String,
    /// Folder of the copy; made when it does not exist
    pub to: PathBuf,
    /// The root of trust to begin with
    #[arg(long, value_name = "ROOT.json")]
    pub root: PathBuf,
    /// Print what was copied as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// The rings of a rollout that names none.
#[must_use]
pub fn default_rings() -> Vec<Ring> {
    let ring = |(after_hours, percent)| Ring { after_hours, percent, stores: Vec::new() };
    [(0, 10), (24, 25), (48, 50), (72, 100)].map(ring).to_vec()
}

/// A name that is safe in paths: what `build` takes for channels and versions.
fn name(text: &str) -> Result<String, String> {
    let fine = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-~".contains(&b))
        && text.as_bytes()[0].is_ascii_alphanumeric();
    if fine {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 letters, digits, '.', '-' and '~', a letter or digit first".into())
    }
}

fn ring(text: &str) -> Result<Ring, String> {
    let (hours, who) = text.split_once('=').ok_or("write HOURS=STORE,STORE or HOURS=PERCENT%")?;
    let after_hours = hours.parse().map_err(|_| format!("{hours:?} is no number of hours"))?;
    if let Some(percent) = who.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| *percent <= 100);
        let percent = percent.ok_or_else(|| format!("{who:?} is no percentage"))?;
        return Ok(Ring { after_hours, percent, stores: Vec::new() });
    }
    let stores: Vec<String> = who.split(',').map(str::to_owned).collect();
    if stores.iter().any(|store| store.is_empty() || store.contains(char::is_whitespace)) {
        return Err(format!("{who:?} is no list of stores"));
    }
    Ok(Ring { after_hours, percent: 0, stores })
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "write it as 2026-11-21T02:00:00Z".to_owned())
}

fn window(text: &str) -> Result<Window, String> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let both = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    let (from_minute, to_minute) = both.ok_or("write it as 22:00-05:00")?;
    Ok(Window { from_minute, to_minute })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for bad in ["", "..", "a/b", "-x", "a b", "stable\n"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(name("stable-2").unwrap(), "stable-2");
    }

    #[test]
    fn rings_and_windows_as_people_write_them() {
        assert_eq!(ring("24=25%").unwrap(), Ring { after_hours: 24, percent: 25, stores: Vec::new() });
        assert_eq!(ring("0=a,b").unwrap().stores, ["a", "b"]);
        for bad in ["24", "x=1%", "0=101%", "0=", "0=a,,b"] {
            assert!(ring(bad).is_err(), "{bad}");
        }
        assert_eq!(window("22:00-05:30").unwrap(), Window { from_minute: 1320, to_minute: 330 });
        assert!(window("22-5").is_err() && window("24:00-01:00").is_err());
    }
}
