//! `image-builder export` as clap reads it, and how it ends.

use super::{
    EPOCH, ExportError, Format, Request,
    oci::OciError,
    staged::{StagedError, Wanted},
};
use crate::{
    cli::OriginArgs,
    locking::{LockingError, ToolsError},
};
use clap::Args;
use contracts::exit::{Code, Lack};
use std::path::PathBuf;

/// `image-builder export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The image: TEMPLATE (its channel stable), TEMPLATE:CHANNEL or TEMPLATE@VERSION
    #[arg(value_name = "IMAGE")]
    pub image: Wanted,
    /// Folder of the repository
    #[arg(long, value_name = "DIR")]
    pub repository: PathBuf,
    /// The TUF root of trust, for example tuf/1.root.json of the keys
    #[arg(long, value_name = "ROOT.json")]
    pub root: PathBuf,
    /// The shape
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Format,
    /// File to make or to replace; for oci the folder of a layout, to which the artifact is added
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// netboot's base URL, for LANs on which machines do not hear it: it is written on the medium (iso-thin, iso-offline)
    #[arg(long, value_name = "URL")]
    pub netboot: Option<String>,
    /// The network of the machines that start from the medium, where DHCP is not enough: a JSON file with `addresses`, `vlan` and
    /// the rest, as the registrar's inventory has them (iso-thin, iso-offline)
    #[arg(long, value_name = "FILE")]
    pub network: Option<PathBuf>,
    /// A lock that pins the image tools [default: those that were resolved first, and kept]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Tell machines on standard output, one JSON object a line: {event: started|done|error}, at the end {event: summary, …}
    #[arg(long)]
    pub json: bool,
    /// Where packages come from, and where they are kept.
    #[command(flatten)]
    pub origin: OriginArgs,
}

impl ExportArgs {
    /// The request, with defaults from the environment.
    #[must_use]
    pub fn request(self, variable: impl Fn(&str) -> Option<String>) -> Request {
        let epoch = variable("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
        Request {
            image: self.image,
            repository: self.repository,
            root: self.root,
            format: self.format,
            out: self.out,
            netboot: self.netboot,
            network: self.network,
            cache: self.origin.cache_folder(&variable),
            debian_mirror: self.origin.debian_mirror,
            debian_security_mirror: self.origin.debian_security_mirror,
            lock: self.lock,
            epoch: epoch.unwrap_or(EPOCH),
        }
    }
}

/// How the program ends after this error.
#[must_use]
pub fn code(error: &ExportError) -> Code {
    match (error, Lack::of(error)) {
        (_, Some(Lack::Space | Lack::Writable)) => Code::Host,
        (ExportError::Host(_), _) => Code::Host,
        (ExportError::Tools(ToolsError::Locking(LockingError::Lock(_))), _) => Code::Input,
        (
            ExportError::Netboot(_)
            | ExportError::Network { .. }
            | ExportError::NoMirror(_)
            | ExportError::Oci(OciError::NoLayout(_)),
            _,
        ) => Code::Usage,
        (ExportError::Staged(error), _) if !matches!(error, StagedError::File(_)) => Code::Input,
        (ExportError::Staged(StagedError::File(file)), _) if ["look at", "read", "list"].contains(&file.action) => {
            Code::Input
        }
        (_, Some(_)) => Code::Host,
        _ => Code::Failed,
    }
}

/// What to do next, for errors that know it.
#[must_use]
pub fn hint(error: &ExportError) -> Option<String> {
    Some(match (error, Lack::of(error)) {
        (_, Some(lack @ (Lack::Space | Lack::Writable))) => lack.hint().into(),
        (ExportError::Host(error), _) => return crate::cli::hint(error),
        (ExportError::NoMirror(_), _) => "name one with --debian-mirror URL".into(),
        (ExportError::Netboot(_), _) => "write it as machines in the store reach it, with http://".into(),
        (ExportError::Network { .. }, _) => {
            r#"write it like {"ports": ["52:54:00:12:34:56"], "vlan": 20, "addresses": ["10.0.4.7/24"], "gateways": ["10.0.4.1"]}"#
                .into()
        }
        (ExportError::Oci(OciError::NoLayout(_)), _) => {
            "name a folder that does not exist yet, or an OCI image layout".into()
        }
        (ExportError::Staged(StagedError::Root(_)), _) => {
            "--root needs the file 1.root.json that `keys init` made".into()
        }
        (ExportError::Staged(StagedError::Load { .. }), _) => {
            "name the root of trust that signed it; expired metadata is renewed by publishing again".into()
        }
        (ExportError::Staged(StagedError::Missing(_)), _) => {
            "build that image into the repository, or name another version or channel".into()
        }
        (ExportError::Staged(StagedError::File(_)), _) => "name the folder of a finished repository".into(),
        (ExportError::Staged(_), _) => {
            "the repository is damaged: publish it again, or take it from another mirror".into()
        }
        (ExportError::Tools(ToolsError::Locking(LockingError::Lock(_))), _) => {
            "name the lock of a template, or lock it again: image-builder lock TEMPLATE.yaml".into()
        }
        (ExportError::Tools(_), _) => "look at the lines above: a mirror may be out of reach".into(),
        (_, Some(lack)) => lack.hint().into(),
        _ => return None,
    })
}
