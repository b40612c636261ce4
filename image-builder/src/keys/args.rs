//! `image-builder keys …`, as clap reads it.

use super::ROOT_DAYS;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use tough::schema::RoleType;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key set: TUF roles and Secure Boot
    ///
    /// Private keys get mode 0600. An existing folder is never overwritten, and a folder inside a Git repository is
    /// refused. Without options it is a set for development, with one root key that lies beside the others. For a root of
    /// trust that is kept offline each holder makes a key with "keys root new", and --root-key names their public halves;
    /// then they sign tuf/next/root.json one after the other.
    ///
    /// Whoever publishes looks for the keys of targets, snapshot and timestamp in SHELFBOOT_TARGETS_KEY and so on (PKCS#8 as
    /// PEM or base64, or a pkcs11: URI), then in tuf/ROLE.pk8, then in tuf/ROLE.pkcs11 (a URI). SHELFBOOT_PKCS11_PIN holds
    /// the PIN, unless the URI names a pin-source.
    Init(InitArgs),
    /// Show keys, where they are, until when they are believed, and what needs attention
    Show {
        /// Key set
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// Also the metadata of this repository
        #[arg(long, value_name = "REPO")]
        repository: Option<PathBuf>,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Give a role new keys
    ///
    /// Makes the next version of the root of trust. It counts when enough root keys have signed it: at once where they lie
    /// in the key set, otherwise after "keys root sign" and "keys root accept". The next publication, or "repo refresh",
    /// brings it to the stores; the old key signs that one publication too, so that no reader is left behind.
    Rotate {
        /// Whose keys
        role: Role,
        /// Key set
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// Public half of a key that is kept elsewhere, or the pkcs11: URI of one in a module, in place of one that is made
        /// here; may be repeated
        #[arg(long = "public-key", value_name = "FILE.pub.json|URI")]
        public_keys: Vec<String>,
        /// How many of the role's keys have to sign
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
        threshold: u64,
        /// Days for which the new root of trust is believed
        #[arg(long, value_name = "DAYS", default_value_t = ROOT_DAYS, value_parser = clap::value_parser!(i64).range(1..=7300))]
        root_days: i64,
    },
    /// Take a key out of every role, because it may be in other hands
    ///
    /// A role that needs it gets a new key. The revoked one signs nothing any more: a reader that comes between the new
    /// root of trust and the new timestamp, a moment, has to ask again.
    Revoke {
        /// The key's id, or its first 8 digits or more
        #[arg(value_name = "KEYID")]
        id: String,
        /// Key set
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// Days for which the new root of trust is believed
        #[arg(long, value_name = "DAYS", default_value_t = ROOT_DAYS, value_parser = clap::value_parser!(i64).range(1..=7300))]
        root_days: i64,
    },
    /// Sign a program that firmware starts, for Secure Boot
    ///
    /// With the key of "db": SHELFBOOT_DB_KEY (PEM, or a pkcs11: URI of an RSA key), secure-boot/db.key, or
    /// secure-boot/db.pkcs11; secure-boot/db.crt is its certificate. Builds sign their boot images in the same way.
    SignEfi {
        /// The program, without a signature
        #[arg(value_name = "PROGRAM.efi")]
        file: PathBuf,
        /// Where the signed one goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Key set
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
    },
    /// The root of trust: keys of its holders, signatures, dates
    Root {
        /// What to do.
        #[command(subcommand)]
        command: RootCommand,
    },
}

/// `image-builder keys init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// New folder for the keys
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Root keys that are made in the folder
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub root_keys: u64,
    /// How many root keys have to sign a root of trust
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub threshold: u64,
    /// Public half of a root key that its holder keeps; may be repeated
    #[arg(long = "root-key", value_name = "FILE.pub.json", conflicts_with = "root_keys")]
    pub root_public: Vec<String>,
    /// Public half of a targets key that is kept elsewhere, or the pkcs11: URI of one in a module; may be repeated
    #[arg(long = "targets-key", value_name = "FILE.pub.json|URI")]
    pub targets_public: Vec<String>,
    /// Days for which the root of trust is believed
    #[arg(long, value_name = "DAYS", default_value_t = ROOT_DAYS, value_parser = clap::value_parser!(i64).range(1..=7300))]
    pub root_days: i64,
}

/// `image-builder keys root`.
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Make the key of one holder, on a machine of its own
    ///
    /// root.pk8 stays there; root.pub.json is handed over.
    New {
        /// New folder for the key
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Read a root of trust, and add a signature to it
    ///
    /// Needs no network and no key set: the file goes from holder to holder. It says what is signed, and what has changed
    /// since --previous.
    Sign {
        /// The root of trust: next/root.json of the key set
        #[arg(value_name = "ROOT.json")]
        file: PathBuf,
        /// Private root key
        #[arg(long, value_name = "root.pk8")]
        key: PathBuf,
        /// The version before; a key that the new root no longer names can only sign with it
        #[arg(long, value_name = "ROOT.json")]
        previous: Option<PathBuf>,
    },
    /// Take a root of trust that enough holders have signed
    Accept {
        /// The signed file [default: next/root.json of the key set]
        #[arg(value_name = "ROOT.json")]
        file: Option<PathBuf>,
        /// Key set
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
    },
    /// Make the next version with the same keys and a new date
    Renew {
        /// Key set
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// Days for which it is believed
        #[arg(long, value_name = "DAYS", default_value_t = ROOT_DAYS, value_parser = clap::value_parser!(i64).range(1..=7300))]
        root_days: i64,
    },
}

/// A role of TUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Names the keys of all roles; kept offline
    Root,
    /// Signs what is published
    Targets,
    /// Signs which versions belong together
    Snapshot,
    /// Signs which snapshot is the newest
    Timestamp,
}

impl From<Role> for RoleType {
    fn from(role: Role) -> Self {
        match role {
            Role::Root => Self::Root,
            Role::Targets => Self::Targets,
            Role::Snapshot => Self::Snapshot,
            Role::Timestamp => Self::Timestamp,
        }
    }
}
