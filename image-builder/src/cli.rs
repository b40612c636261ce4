//! The command line, as clap reads it, and what it asks for.

use crate::{
    cache::{self, CacheError},
    command::CommandError,
    export::cli::ExportArgs,
    initrd::InitrdError,
    keys::KeysError,
    new::NewError,
    pipeline::{BuildError, Request},
    repository::{Expiry, RepositoryError},
};
use clap::{Args, Parser, Subcommand};
use contracts::exit::{Code, Lack};
use profiles::ProfileError;
use std::path::PathBuf;
use time::OffsetDateTime;

/// Turns a machine template into a signed repository of static files.
#[derive(Debug, Parser)]
#[command(name = "image-builder", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 the work failed, 2 wrong command line, 3 wrong input file, 4 this machine \
                        lacks something, 130 interrupted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image and publish it
    ///
    /// Needs root and mmdebstrap; every other tool comes from a tree that it makes itself. What was made before is
    /// taken from the cache. Data goes to standard output, everything else to standard error.
    Build(Box<BuildArgs>),
    /// Give one image of a repository another shape: ISO, virtual disk, OCI artifact
    ///
    /// The repository is checked as a stranger would check it, with nothing but the root of trust. The same image makes the same
    /// bytes. An output appears whole or not at all. Needs root, except for oci.
    Export(Box<ExportArgs>),
    /// Begin a template of your own, like one that ships
    ///
    /// Writes templates/NAME.yaml and the profiles that it names into a folder, for a Git repository of yours. What is there
    /// already stays as it is.
    New(NewArgs),
    /// Look for mistakes in templates, profiles and settings, and say all of them at once
    ///
    /// A template is checked together with every profile that it names. Without --settings, parameters that have no value yet
    /// are no mistake. Ends with 1 when something is wrong.
    Check(CheckArgs),
    /// Show what a template comes to, and the file and line that each part of it comes from
    Explain(ExplainArgs),
    /// Print the JSON Schema of a kind of document, for editors
    Schema {
        /// Which kind
        #[arg(value_parser = profiles::schema::KINDS)]
        kind: String,
    },
    /// Make keys
    Keys {
        /// What to do with keys.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a development key set: TUF roles and Secure Boot
    ///
    /// Private keys get mode 0600. An existing folder is never overwritten, and a folder inside a Git repository is
    /// refused.
    Init {
        /// New folder for the keys
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// `image-builder new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The template's name: lower-case letters, digits and dashes
    pub name: String,
    /// The template that it begins like
    #[arg(long, value_name = "TEMPLATE", default_value = "k8s-worker", value_parser = profiles::shipped::templates())]
    pub like: String,
    /// Folder of your templates and profiles
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// `image-builder check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Templates, profiles or settings
    #[arg(value_name = "FILE.yaml", required = true)]
    pub files: Vec<PathBuf>,
    /// Values for the parameters of the profiles (kind: Settings)
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Print the mistakes as a JSON list of {file, line, column, code, message, help} on standard output
    #[arg(long)]
    pub json: bool,
}

/// `image-builder explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The machine template
    #[arg(value_name = "TEMPLATE.yaml")]
    pub template: PathBuf,
    /// Values for the parameters of the profiles (kind: Settings)
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `image-builder build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The machine template; its profiles lie in software/ and configuration/ beside the template's folder
    #[arg(value_name = "TEMPLATE.yaml")]
    pub template: PathBuf,
    /// Key set made by "keys init"
    #[arg(long, value_name = "DIR")]
    pub keys: PathBuf,
    /// The agent: firstboot-agent, linked statically
    #[arg(long, value_name = "BINARY")]
    pub agent: PathBuf,
    /// The registrar's CA certificates
    #[arg(long, value_name = "PEM")]
    pub registrar_ca: PathBuf,
    /// Folder of the repository; made when it does not exist
    #[arg(long, value_name = "DIR")]
    pub repository: PathBuf,
    /// Values for the parameters of the profiles (kind: Settings)
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Channel that names this image from now on
    #[arg(long, value_name = "NAME", default_value = "stable")]
    pub channel: String,
    /// Version of the image [default: the time of the build]
    #[arg(long, value_name = "VERSION")]
    pub image_version: Option<String>,
    /// Cache folder [default: $SHELFBOOT_CACHE, $XDG_CACHE_HOME/shelfboot or ~/.cache/shelfboot]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Debian mirror [default: the one in this host's apt sources]
    #[arg(long, value_name = "URL")]
    pub debian_mirror: Option<String>,
    /// Debian security mirror [default: the one in this host's apt sources, or beside the mirror]
    #[arg(long, value_name = "URL")]
    pub debian_security_mirror: Option<String>,
    /// Fetch all packages again instead of taking them from the cache
    #[arg(long)]
    pub refresh: bool,
    /// Days for which targets.json is believed
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=3650))]
    pub targets_days: i64,
    /// Days for which snapshot.json and timestamp.json are believed
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=3650))]
    pub timestamp_days: i64,
    /// Print a summary as JSON on standard output at the end
    #[arg(long)]
    pub json: bool,
}

impl BuildArgs {
    /// The request, with defaults from the environment and the clock.
    #[must_use]
    pub fn request(self, variable: impl Fn(&str) -> Option<String>, now: OffsetDateTime) -> Request {
        let epoch = variable("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
        let built_at = epoch.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok()).unwrap_or(now);
        Request {
            template: self.template,
            settings: self.settings,
            keys: self.keys,
            agent: self.agent,
            registrar_ca: self.registrar_ca,
            repository: self.repository,
            channel: self.channel,
            image_version: self.image_version,
            cache: self.cache.unwrap_or_else(|| cache::default_folder(&variable)),
            debian_mirror: self.debian_mirror,
            debian_security_mirror: self.debian_security_mirror,
            refresh: self.refresh,
            expiry: Expiry { targets_days: self.targets_days, timestamp_days: self.timestamp_days },
            built_at: built_at.replace_nanosecond(0).unwrap_or(built_at),
        }
    }
}

impl Command {
    /// What is true when it is ended before it was done.
    #[must_use]
    pub fn left_by_interruption(&self) -> &'static str {
        match self {
            Self::Build(_) => "nothing was published",
            Self::Export(_) => "there is no new output",
            Self::Keys { .. } => "no keys were made",
            Self::New(_) | Self::Check(_) | Self::Explain(_) | Self::Schema { .. } | Self::Completions { .. } => {
                "nothing was made"
            }
        }
    }
}

/// How the program ends after this error of `new`, and what to do next.
#[must_use]
pub fn new_failed(error: &NewError) -> (Code, Option<String>) {
    match (error, Lack::of(error)) {
        (_, Some(lack)) => (Code::Host, Some(lack.hint().into())),
        (NewError::Exists(_), _) => {
            (Code::Usage, Some("name another one; image-builder check looks for mistakes in it".into()))
        }
        (NewError::Name(_), _) => (Code::Usage, Some("use lower-case letters, digits and dashes, at most 63".into())),
        (NewError::Unknown(_), _) => {
            (Code::Usage, Some(format!("the templates are {}", profiles::shipped::templates().join(", "))))
        }
        (NewError::File(_), None) => (Code::Failed, None),
    }
}

/// What a program of the tools tree says when it finds no room.
const NO_SPACE: &str = "No space left on device";

/// How the program ends after this error.
#[must_use]
pub fn code(error: &BuildError) -> Code {
    let host = Lack::of(error);
    match error {
        _ if matches!(host, Some(Lack::Space | Lack::Writable)) || ran_out_of_space(error) => Code::Host,
        BuildError::NotRoot | BuildError::NoProgram(_) => Code::Host,
        BuildError::Name { .. } | BuildError::NoMirror(_) => Code::Usage,
        BuildError::Template(_) | BuildError::NoCertificate(_) | BuildError::Agent(_) => Code::Input,
        BuildError::Keys(error) => keys_code(error),
        BuildError::Repository(RepositoryError::Load { .. }) => Code::Input,
        // Nothing has been written yet when these are raised: it is a file that the command line names.
        BuildError::File(file) if file.action == "read" => Code::Input,
        _ if host.is_some() => Code::Host,
        _ => Code::Failed,
    }
}

/// How the program ends after this error about keys.
#[must_use]
pub fn keys_code(error: &KeysError) -> Code {
    match (error, Lack::of(error)) {
        (_, Some(Lack::Space | Lack::Writable)) => Code::Host,
        (KeysError::NoKeys { .. } | KeysError::Readable { .. }, _) => Code::Input,
        (KeysError::File(file), _) if ["look at", "read"].contains(&file.action) => Code::Input,
        (_, Some(_)) => Code::Host,
        (KeysError::Exists(_) | KeysError::InsideRepository { .. }, None) => Code::Usage,
        _ => Code::Failed,
    }
}

/// What to do next about keys.
#[must_use]
pub fn keys_hint(error: &KeysError) -> Option<String> {
    Some(match error {
        KeysError::Exists(_) => "name a folder that does not exist yet".into(),
        KeysError::InsideRepository { .. } => "name a folder outside of it".into(),
        KeysError::Readable { path, .. } => format!("chmod 0600 {}", path.display()),
        _ => Lack::of(error)?.hint().into(),
    })
}

fn ran_out_of_space(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source())
        .any(|error| matches!(error.downcast_ref(), Some(CommandError::Failed { tail, .. }) if tail.contains(NO_SPACE)))
}

/// What to do next, for errors that know it.
#[must_use]
pub fn hint(error: &BuildError) -> Option<String> {
    if ran_out_of_space(error) {
        return Some(Lack::Space.hint().into());
    }
    Some(match (error, Lack::of(error)) {
        (_, Some(lack @ (Lack::Space | Lack::Writable))) => lack.hint().into(),
        (BuildError::NotRoot, _) => "run it with sudo".into(),
        (BuildError::NoProgram(program), _) => {
            let package = if *program == "mmdebstrap" { "mmdebstrap" } else { "apt, dpkg and util-linux" };
            format!("install it: apt-get install {package} (wanted: {program})")
        }
        (BuildError::NoMirror(_), _) => "name one with --debian-mirror URL".into(),
        (BuildError::Name { .. }, _) => "1 to 64 letters, digits, '.', '-' and '~', a letter or digit first".into(),
        (BuildError::VersionExists { .. }, _) => "name another version with --image-version".into(),
        (BuildError::NoCertificate(_), _) => "`registrar init` writes one: ca.pem in its state folder".into(),
        (BuildError::Keys(KeysError::NoKeys { .. } | KeysError::File(_)), _) => {
            "make a development key set with: image-builder keys init --out DIR".into()
        }
        (BuildError::Keys(error), _) => return keys_hint(error),
        (BuildError::Repository(RepositoryError::Load { .. }), _) => {
            "publish with the keys that signed it, or into another folder".into()
        }
        (BuildError::Repository(RepositoryError::Busy(_)) | BuildError::Cache(CacheError::Busy(_)), _) => {
            "wait until it has ended, or name another folder".into()
        }
        (BuildError::Agent(InitrdError::DynamicAgent { .. }), _) => {
            "build it with RUSTFLAGS='-C target-feature=+crt-static' and --target x86_64-unknown-linux-gnu".into()
        }
        (BuildError::Agent(_), _) => "--agent needs the program firstboot-agent, linked statically".into(),
        (BuildError::Template(inner), _) if matches!(**inner, ProfileError::Read { .. }) => {
            "name a file that exists and that you may read; templates lie in profiles/templates".into()
        }
        (BuildError::Tools(_) | BuildError::Packages(_), _) => {
            "look at the lines above: a mirror or a repository may be out of reach, or a key may not fit".into()
        }
        (BuildError::TooBig { .. }, _) => "leave packages out, or paths, with 'exclude' in a software profile".into(),
        (_, Some(lack)) => lack.hint().into(),
        (BuildError::File(file), _) if file.action == "read" => "name a file that exists and that you may read".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use time::macros::datetime;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_says_what_there_is() {
        let mut command = Cli::command().term_width(100);
        let build = command.find_subcommand_mut("build").unwrap();
        insta::assert_snapshot!(build.render_long_help());
    }

    #[test]
    fn source_date_epoch_is_the_time_of_the_build() {
        let arguments = "image-builder build t.yaml --keys k --agent a --registrar-ca c --repository r";
        let Command::Build(build) = Cli::parse_from(arguments.split(' ')).command else { panic!("not a build") };
        let now = datetime!(2026-11-01 00:00:00.5 UTC);
        let request = build.request(|name| (name == "SOURCE_DATE_EPOCH").then(|| "86400".into()), now);
        assert_eq!(request.built_at, datetime!(1970-01-02 00:00 UTC));
    }
}
