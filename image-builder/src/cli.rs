//! The command line, as clap reads it, and what it asks for.

use crate::{
    apply::ApplyError,
    authenticode::AuthenticodeError,
    cache,
    command::CommandError,
    diff::DiffError,
    export::cli::ExportArgs,
    initrd::InitrdError,
    keys::{KeysError, args::KeysCommand, boot::BootKeyError, roots::RootError, sources::KeyError},
    locking::LockingError,
    new::NewError,
    packages::{lock::LockError, store::FetchError},
    pipeline::{BuildError, Request},
    provenance,
    published::PublishedError,
    repo::args::RepoCommand,
    repository::{Expiry, RepositoryError},
    sbom::{Format, SbomError},
};
use clap::{Args, Parser, Subcommand};
use contracts::{
    exit::{Code, Lack},
    manifest::Staleness,
};
use profiles::ProfileError;
use std::path::PathBuf;
use time::OffsetDateTime;
use url::Url;

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
    /// Needs apt; every image tool comes from a tree that it makes itself. Who is not root becomes root of a user namespace.
    /// What was made before is taken from the cache. Package versions come from the lock beside the template (NAME.lock); without
    /// one they are resolved once and kept until --refresh. Data goes to standard output, everything else to standard error.
    Build(Box<BuildArgs>),
    /// Pin every package of a template, and of the tools that build it, by version and SHA-256
    ///
    /// Writes NAME.lock beside the template; commit it. The same lock gives the same image, byte for byte, anywhere and at any time.
    Lock(LockArgs),
    /// Give one image of a repository another shape: ISO, virtual disk, OCI artifact
    ///
    /// The repository is checked as a stranger would check it, with nothing but the root of trust. The same image makes the same
    /// bytes. An output appears whole or not at all. Without root it works where user namespaces are allowed.
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
    /// Print what an image is made of: every package with its licence, every file with its origin
    ///
    /// As it was published with the image: one line of CycloneDX 1.6 or SPDX 2.3 JSON on standard output, checked against its
    /// signed digest.
    Sbom(SbomArgs),
    /// Show what is different between two images, and what an update transfers
    ///
    /// Packages, files with what brought them, sizes, and the bytes that a machine with A fetches to get B: the boot image
    /// whole, the archive's dictionary, and the chunks that A's archive lacks.
    Diff(DiffArgs),
    /// Make, rotate and revoke keys
    Keys {
        /// What to do with keys.
        #[command(subcommand)]
        command: Box<KeysCommand>,
    },
    /// Look after a published repository
    Repo {
        /// What to do with it.
        #[command(subcommand)]
        command: Box<RepoCommand>,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
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

/// `image-builder lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// The machine template
    #[arg(value_name = "TEMPLATE.yaml")]
    pub template: PathBuf,
    /// Values for the parameters of the profiles (kind: Settings)
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Where the lock is [default: NAME.lock beside the template]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write nothing; show what a new lock would change, with sizes, and which packages come from the security archive
    #[arg(long)]
    pub diff: bool,
    /// With --diff: print the changes as a JSON list of {part, package, from, to, bytes, download, security}
    #[arg(long, requires = "diff")]
    pub json: bool,
    /// Where packages come from, and where they are kept.
    #[command(flatten)]
    pub origin: OriginArgs,
}

/// Where packages come from, and where they are kept.
#[derive(Debug, Args)]
pub struct OriginArgs {
    /// Cache folder [default: $SHELFBOOT_CACHE, $XDG_CACHE_HOME/shelfboot or ~/.cache/shelfboot]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Debian mirror [default: the one in this host's apt sources]
    #[arg(long, value_name = "URL")]
    pub debian_mirror: Option<String>,
    /// Debian security mirror [default: the one in this host's apt sources, or beside the mirror]
    #[arg(long, value_name = "URL")]
    pub debian_security_mirror: Option<String>,
}

impl OriginArgs {
    /// The cache folder, from the argument or the environment.
    #[must_use]
    pub fn cache_folder(&self, variable: impl Fn(&str) -> Option<String>) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| cache::default_folder(variable))
    }
}

/// A repository to read from.
#[derive(Debug, Args)]
pub struct FromRepository {
    /// Folder of the repository
    #[arg(long, value_name = "DIR")]
    pub repository: PathBuf,
    /// TUF root of trust [default: the repository's own 1.root.json, which finds damage but no forgery]
    #[arg(long, value_name = "ROOT.json")]
    pub root: Option<PathBuf>,
}

/// `image-builder sbom`.
#[derive(Debug, Args)]
pub struct SbomArgs {
    /// The template
    pub template: String,
    /// The image's version, or a channel
    pub version: String,
    /// Where it is published
    #[command(flatten)]
    pub from: FromRepository,
    /// The form
    #[arg(long, value_enum, default_value = "cyclonedx")]
    pub format: Format,
}

/// `image-builder diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// One image: TEMPLATE@VERSION or TEMPLATE:CHANNEL
    #[arg(value_name = "A")]
    pub one: String,
    /// The other one
    #[arg(value_name = "B")]
    pub other: String,
    /// Where they are published
    #[command(flatten)]
    pub from: FromRepository,
    /// Show each file of packages whose version changed, too
    #[arg(long)]
    pub files: bool,
    /// Print everything as JSON on standard output: {from, to, packages, files, sizes, transfer}
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
    /// The lock [default: NAME.lock beside the template, when it is there]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Refuse to build without a lock; what CI should do
    #[arg(long)]
    pub locked: bool,
    /// When the repository has this version already, say so and do nothing
    #[arg(long)]
    pub if_missing: bool,
    /// Resolve package versions again; no use with a lock
    #[arg(long, conflicts_with_all = ["lock", "locked"])]
    pub refresh: bool,
    /// Days for which targets.json is believed
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=3650))]
    pub targets_days: i64,
    /// Days for which snapshot.json and timestamp.json are believed
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=3650))]
    pub timestamp_days: i64,
    /// Days for which this image's installer believes an expired snapshot.json and timestamp.json, so that a store whose line is
    /// down goes on installing; 0: not at all. Written into the signed boot image
    #[arg(long, value_name = "DAYS", default_value_t = Staleness::USUAL_DAYS, value_parser = clap::value_parser!(u16).range(0..=i64::from(Staleness::MOST_DAYS)))]
    pub stale_days: u16,
    /// Publish an SPDX list of packages and files too, beside the CycloneDX one
    #[arg(long)]
    pub spdx: bool,
    /// Who builds, for the provenance: a URI of your CI's builder
    #[arg(long, value_name = "URI", default_value = provenance::UNKNOWN_BUILDER, value_parser = uri)]
    pub builder_id: String,
    /// Which run of your CI builds, for the provenance: a URI
    ///
    /// With it the provenance also says when the build began and ended, and is like no other. Without it, the same inputs give
    /// the same provenance.
    #[arg(long, value_name = "URI", value_parser = uri)]
    pub invocation: Option<String>,
    /// Tell machines on standard output, one JSON object a line: {event: started|done|error}, at the end {event: summary, …}
    #[arg(long)]
    pub json: bool,
    /// Where packages come from, and where they are kept.
    #[command(flatten)]
    pub origin: OriginArgs,
}

fn uri(text: &str) -> Result<String, String> {
    Url::parse(text).map(|_| text.to_owned()).map_err(|error| format!("not a URI: {error}"))
}

impl BuildArgs {
    /// The request, with defaults from the environment and the clock.
    #[must_use]
    pub fn request(self, variable: impl Fn(&str) -> Option<String>, now: OffsetDateTime) -> Request {
        let epoch = variable("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
        let cache = self.origin.cache_folder(&variable);
        Request {
            template: self.template,
            settings: self.settings,
            keys: self.keys,
            agent: self.agent,
            registrar_ca: self.registrar_ca,
            repository: self.repository,
            channel: self.channel,
            image_version: self.image_version,
            cache,
            debian_mirror: self.origin.debian_mirror,
            debian_security_mirror: self.origin.debian_security_mirror,
            lock: self.lock,
            locked: self.locked,
            refresh: self.refresh,
            expiry: Expiry { targets_days: self.targets_days, timestamp_days: self.timestamp_days },
            staleness: Staleness { max_age_days: self.stale_days },
            source_date: epoch.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok()),
            now: now.replace_nanosecond(0).unwrap_or(now),
            spdx: self.spdx,
            builder: self.builder_id,
            invocation: self.invocation,
        }
    }
}

impl Command {
    /// What is true when it is ended before it was done.
    #[must_use]
    pub fn left_by_interruption(&self) -> &'static str {
        match self {
            Self::Build(_) => "nothing was published",
            Self::Lock(_) => "no lock was written",
            Self::Keys { .. } => "no key was made or changed by half",
            Self::Repo { .. } => "the repository is whole, as it was before or as it was to be",
            Self::Export(_) => "there is no new output",
            Self::New(_)
            | Self::Sbom(_)
            | Self::Diff(_)
            | Self::Check(_)
            | Self::Explain(_)
            | Self::Schema { .. }
            | Self::Completions { .. } => "nothing was made",
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

const LOOK_ABOVE: &str = "look at the lines above: a mirror or a repository may be out of reach, or a key may not fit";

/// What to do next about a lock.
#[must_use]
pub fn locking_hint(error: &LockingError) -> Option<String> {
    Some(match error {
        LockingError::Missing(_) => "make it: image-builder lock TEMPLATE.yaml".into(),
        LockingError::Lock(LockError::Stale(_)) => {
            "lock again: image-builder lock TEMPLATE.yaml; with --diff it shows first what would change".into()
        }
        LockingError::Lock(LockError::Content { .. } | LockError::TooLong { .. }) => {
            "take it from the Git repository again, or lock again: image-builder lock TEMPLATE.yaml".into()
        }
        LockingError::Resolve(_) => LOOK_ABOVE.into(),
        _ => Lack::of(error)?.hint().into(),
    })
}

/// How the program ends after this error of reading a repository, and what to do next.
#[must_use]
pub fn published_failed(error: &PublishedError) -> (Code, Option<String>) {
    let hint = match error {
        PublishedError::Reference(_) => "name one as TEMPLATE@VERSION or TEMPLATE:CHANNEL".into(),
        PublishedError::Unknown { known, .. } if known.is_empty() => "it has no image at all; build one first".into(),
        PublishedError::Unknown { known, .. } => format!("it has {}", known.join(", ")),
        PublishedError::NoTarget(name) if name.ends_with(".spdx.json") => {
            "SPDX lists are published by `image-builder build --spdx`".into()
        }
        PublishedError::NoTarget(_) => {
            "images from before image-builder made these lists have none; build it anew".into()
        }
        PublishedError::Load { .. } | PublishedError::Target { .. } | PublishedError::Document { .. } => {
            "name the folder of a repository that `image-builder build` made; --root names its root of trust".into()
        }
        PublishedError::TooBig { .. } => "it was not written by image-builder".into(),
        PublishedError::File(_) => "name a folder that exists and that you may read".into(),
    };
    let usage =
        matches!(error, PublishedError::Reference(_) | PublishedError::Unknown { .. } | PublishedError::NoTarget(_));
    (if usage { Code::Usage } else { Code::Input }, Some(hint))
}

/// How the program ends after this error of `diff`, and what to do next.
#[must_use]
pub fn diff_failed(error: &DiffError) -> (Code, Option<String>) {
    match error {
        DiffError::Published(error) => published_failed(error),
        DiffError::Chunks { .. } => {
            (Code::Input, Some("mirror the repository anew: its archives are not whole".into()))
        }
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
        BuildError::Locking(LockingError::Lock(_) | LockingError::Missing(_)) => Code::Input,
        BuildError::Images(error) | BuildError::Apply(ApplyError::Preload(error)) => error.code(),
        BuildError::Keys(error) => keys_code(error),
        BuildError::Repository(
            RepositoryError::Load { .. } | RepositoryError::Trust { .. } | RepositoryError::OldKeys { .. },
        ) => Code::Input,
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
        (
            KeysError::NoKeys { .. }
            | KeysError::Readable { .. }
            | KeysError::PublicKey(_)
            | KeysError::Unsigned { .. }
            | KeysError::Version { .. }
            | KeysError::Root(RootError::Json(_) | RootError::Stranger(_))
            | KeysError::Key(KeyError::Format(_) | KeyError::Uri(..)),
            _,
        ) => Code::Input,
        (KeysError::File(file), _) if ["look at", "read"].contains(&file.action) => Code::Input,
        (_, Some(_)) | (KeysError::Key(KeyError::NoTool(_)), _) => Code::Host,
        (
            KeysError::Exists(_)
            | KeysError::InsideRepository { .. }
            | KeysError::Pending(_)
            | KeysError::Root(RootError::Threshold { .. } | RootError::NoKey(_) | RootError::Twice(_)),
            None,
        ) => Code::Usage,
        _ => Code::Failed,
    }
}

/// How the program ends after this error about the key that signs boot images, and what to do next.
#[must_use]
pub fn boot_key_failed(error: &BootKeyError) -> (Code, Option<String>) {
    match error {
        BootKeyError::Keys(error) => (keys_code(error), keys_hint(error)),
        BootKeyError::Image(_, AuthenticodeError::Key(KeyError::NoTool(_))) => {
            (Code::Host, Some("apt-get install opensc".into()))
        }
        BootKeyError::Image(_, AuthenticodeError::Image(_)) => {
            (Code::Input, Some("name a program for x86-64 firmware that has no signature yet".into()))
        }
        BootKeyError::Certificate(_) => (Code::Input, Some("put the key's certificate there, as PEM".into())),
        BootKeyError::File(file) if file.action == "read" => (Code::Input, None),
        _ => match Lack::of(error) {
            Some(lack) => (Code::Host, Some(lack.hint().into())),
            None => (Code::Failed, None),
        },
    }
}

/// What to do next about keys.
#[must_use]
pub fn keys_hint(error: &KeysError) -> Option<String> {
    Some(match error {
        KeysError::Exists(_) => "name a folder that does not exist yet".into(),
        KeysError::InsideRepository { .. } => "name a folder outside of it".into(),
        KeysError::Readable { path, .. } => format!("chmod 0600 {}", path.display()),
        KeysError::Key(KeyError::NoTool(_)) => "apt-get install opensc".into(),
        KeysError::Key(KeyError::Uri(..)) => {
            "write it as pkcs11:token=NAME;id=%01?module-path=/usr/lib/…/MODULE.so".into()
        }
        KeysError::Key(KeyError::Token(_)) => {
            "`pkcs11-tool --module MODULE.so --list-token-slots` shows what the module has".into()
        }
        KeysError::Pending(_) => "collect its signatures and accept it, or remove the folder next/ to drop it".into(),
        KeysError::Unsigned { .. } => "its holders sign it with: image-builder keys root sign".into(),
        KeysError::Version { .. } => {
            "roots of trust follow one another without a gap: accept the one before first".into()
        }
        KeysError::PublicKey(_) => "`image-builder keys root new` writes one: root.pub.json".into(),
        KeysError::Root(RootError::Stranger(_)) => {
            "take the key of a holder; one that the new root no longer names needs --previous".into()
        }
        KeysError::Root(RootError::NoKey(_)) => "`image-builder keys show` has the ids; write 8 digits or more".into(),
        KeysError::Root(RootError::Threshold { .. }) => {
            "name more keys, or a lower threshold; to replace root keys: image-builder keys rotate root".into()
        }
        _ => Lack::of(error)?.hint().into(),
    })
}

/// What to do next about a repository.
#[must_use]
pub fn repository_hint(error: &RepositoryError) -> Option<String> {
    Some(match error {
        RepositoryError::Load { .. } => "publish with the keys that signed it, or into another folder".into(),
        RepositoryError::Busy(_) => "wait until it has ended, or name another folder".into(),
        RepositoryError::OldKeys { .. } => {
            "use the key set that made that root, or put its N.root.json files into tuf/ of this one".into()
        }
        RepositoryError::Empty(_) => "`image-builder build` publishes the first image".into(),
        RepositoryError::Sign(_) => {
            "`image-builder keys show` says which keys are wanted, and where they are looked for".into()
        }
        RepositoryError::Keys(error) => return keys_hint(error),
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
        (BuildError::NotRoot, _) => {
            "run it with sudo, or allow user namespaces: install uidmap and give this user ids in /etc/subuid and /etc/subgid".into()
        }
        (BuildError::NoProgram(program), _) => {
            format!("install it: apt-get install apt util-linux (wanted: {program})")
        }
        (BuildError::NoMirror(_), _) => "name one with --debian-mirror URL".into(),
        (BuildError::Name { .. }, _) => "1 to 64 letters, digits, '.', '-' and '~', a letter or digit first".into(),
        (BuildError::VersionExists { .. }, _) => {
            "name another version with --image-version, or pass over it with --if-missing".into()
        },
        (BuildError::NoCertificate(_), _) => "`registrar init` writes one: ca.pem in its state folder".into(),
        (BuildError::Images(error) | BuildError::Apply(ApplyError::Preload(error)), None) => return error.hint(),
        (BuildError::Keys(KeysError::NoKeys { .. } | KeysError::File(_)), _) => {
            "make a development key set with: image-builder keys init --out DIR".into()
        }
        (BuildError::Keys(error), _) => return keys_hint(error),
        (BuildError::Repository(error), None) => return repository_hint(error),
        (BuildError::Agent(InitrdError::DynamicAgent { .. }), _) => {
            "build it with RUSTFLAGS='-C target-feature=+crt-static' and --target x86_64-unknown-linux-gnu".into()
        }
        (BuildError::Agent(_), _) => "--agent needs the program firstboot-agent, linked statically".into(),
        (BuildError::Template(inner), _) if matches!(**inner, ProfileError::Read { .. }) => {
            "name a file that exists and that you may read; templates lie in profiles/templates".into()
        }
        (BuildError::Locking(error), _) => return locking_hint(error),
        (BuildError::Fetch(FetchError::Gone { .. }), _) => {
            "take a mirror that keeps old versions (--debian-mirror with a snapshot), or lock again: image-builder lock TEMPLATE.yaml".into()
        }
        (BuildError::Fetch(FetchError::Different { .. }), _) => {
            "the source changed a file that it had published: ask its owner why before you lock again".into()
        }
        (BuildError::Fetch(FetchError::NoSource { .. }), _) => "lock again: image-builder lock TEMPLATE.yaml".into(),
        (BuildError::Fetch(_), _) => LOOK_ABOVE.into(),
        (BuildError::Sbom(SbomError::NoPackages(_)), _) => {
            "that tree in the cache is damaged: remove it, and build again".into()
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
        assert_eq!(request.source_date, Some(datetime!(1970-01-02 00:00 UTC)));
        assert_eq!(request.now, datetime!(2026-11-01 00:00 UTC));
    }
}
