//! How errors look: the chain, then what to do next, on standard error.

use super::Interrupted;
use super::machines::{BadCode, NotRevoked, UnknownMachine};
use super::permits::BadPermit;
use super::recovery::NoKey;
use super::retire::NobodyThere;
use super::staging::UnknownStore;
use contracts::exit::{Code, Lack};
use registrar::broker::{KubernetesUnusable, NovaUnusable, SetupError};
use registrar::chain;
use registrar::inventory_watch::LoadError;
use registrar::server::StartError;
use registrar::state::StateError;
use registrar::yaml::YamlError;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// An argument that clap cannot judge.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Standard output does not take what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct Output(#[source] pub(crate) std::io::Error);

/// Shows an error, and gives the code with which the program ends.
pub(crate) fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return Code::Done.into() };
    // `| head` has read enough.
    if matches!(error.downcast_ref(), Some(Output(source)) if source.kind() == ErrorKind::BrokenPipe) {
        return Code::Done.into();
    }
    let mut text = format!("error: {}\n", chain(error.as_ref()));
    if let Some(hint) = hint(&error) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // Nothing is left to be done when standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
    code(&error).into()
}

fn code(error: &anyhow::Error) -> Code {
    if error.is::<Interrupted>() {
        return Code::Interrupted;
    }
    if error.is::<Usage>() {
        return Code::Usage;
    }
    let lack = lack(error);
    if matches!(lack, Some(Lack::Space | Lack::Writable)) {
        return Code::Host;
    }
    let known = error.chain().find_map(|cause| {
        if let Some(state) = cause.downcast_ref::<StateError>() {
            return match state {
                StateError::Missing(_) | StateError::File { action: "read", .. } => Some(Code::Input),
                StateError::StoreName(_) => Some(Code::Usage),
                _ => None,
            };
        }
        if let Some(BadCode::Malformed(_)) = cause.downcast_ref() {
            return Some(Code::Usage);
        }
        if cause.downcast_ref().is_some_and(BadPermit::is_usage) {
            return Some(Code::Usage);
        }
        if cause.is::<YamlError>() {
            return Some(Code::Input);
        }
        if let Some(cluster) = cause.downcast_ref::<SetupError>() {
            let input = !matches!(
                cluster,
                SetupError::Kubernetes(KubernetesUnusable::Client(_)) | SetupError::Nova(NovaUnusable::Client(_))
            );
            return input.then_some(Code::Input);
        }
        match cause.downcast_ref::<StartError>()? {
            StartError::Listen { .. } => Some(Code::Host),
            StartError::Tls(_) => Some(Code::Input),
            StartError::Inventory(LoadError::File(_)) => Some(Code::Input),
            _ => None,
        }
    });
    known.unwrap_or(if lack.is_some() { Code::Host } else { Code::Failed })
}

/// What the machine lacks. SQLite says it in words of its own.
fn lack(error: &anyhow::Error) -> Option<Lack> {
    let said = chain(error.as_ref());
    // SQLITE_FULL, and SQLITE_IOERR_SHMSIZE: no room for the index of the write-ahead log.
    if said.contains("(code: 13)") || said.contains("(code: 4874)") {
        return Some(Lack::Space);
    }
    if said.contains("attempt to write a readonly database") {
        return Some(Lack::Writable);
    }
    Lack::of(error.as_ref())
}

fn hint(error: &anyhow::Error) -> Option<&'static str> {
    if error.is::<Interrupted>() {
        return Some("run it again");
    }
    if let Some(lack @ (Lack::Space | Lack::Writable)) = lack(error) {
        return Some(lack.hint());
    }
    let known = error.chain().find_map(|cause| {
        if let Some(state) = cause.downcast_ref::<StateError>() {
            return state.hint();
        }
        if cause.is::<NobodyThere>() {
            return Some(NobodyThere::hint());
        }
        if cause.is::<UnknownStore>() {
            return Some(UnknownStore::hint());
        }
        if let Some(unknown) = cause.downcast_ref::<UnknownMachine>() {
            return Some(unknown.hint());
        }
        if let Some(code) = cause.downcast_ref::<BadCode>() {
            return Some(code.hint());
        }
        if let Some(permit) = cause.downcast_ref::<BadPermit>() {
            return Some(permit.hint());
        }
        if let Some(no_key) = cause.downcast_ref::<NoKey>() {
            return Some(no_key.hint());
        }
        if let Some(not) = cause.downcast_ref::<NotRevoked>() {
            return Some(not.hint());
        }
        match cause.downcast_ref::<SetupError>() {
            Some(SetupError::Kubernetes(_)) => {
                return Some("`kubernetes.kubeconfig` needs the rights in deploy/rbac.yaml");
            }
            Some(SetupError::Nova(_)) => return Some("deploy/nova.md shows what the registrar needs at the region"),
            None => {}
        }
        match cause.downcast_ref::<YamlError>() {
            Some(YamlError::Read { .. }) => return Some("name a file that exists and that you may read"),
            Some(YamlError::Content { .. }) => return Some("correct the file at that line"),
            None => {}
        }
        match cause.downcast_ref::<StartError>()? {
            StartError::Listen { .. } => {
                Some("is another registrar running? `listen` in the configuration sets the address")
            }
            _ => None,
        }
    });
    known.or_else(|| lack(error).map(Lack::hint))
}
