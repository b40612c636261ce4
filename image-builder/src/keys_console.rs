//! `image-builder keys …` for people and for machines.

use crate::console::{fail, print_line, say};
use contracts::exit::Code;
use image_builder::{
    cli,
    keys::{
        self, Keys, KeysError, Plan,
        args::{InitArgs, KeysCommand, RootCommand},
        boot::BootKeyError,
        ceremony::{self, Standing},
        lacking, roots, show,
    },
    repo::{chain, source::Source},
};
use std::{path::Path, process::ExitCode};

/// Does it, and says how it went.
pub(crate) async fn execute(command: KeysCommand) -> ExitCode {
    let done = match command {
        KeysCommand::Init(arguments) => init(arguments).await,
        KeysCommand::Show { keys, repository, json } => show(&keys, repository.as_deref(), json).await,
        KeysCommand::Rotate { role, keys, public_keys, threshold, root_days } => {
            async {
                Ok(stands(&Keys::open_online(&keys)?.rotate(role.into(), &public_keys, threshold, root_days).await?))
            }
            .await
        }
        KeysCommand::Revoke { id, keys, root_days } => {
            async { Ok(stands(&Keys::open_online(&keys)?.revoke(&id, root_days).await?)) }.await
        }
        KeysCommand::SignEfi { file, out, keys } => return sign_efi(&file, &out, &keys),
        KeysCommand::Root { command } => root(command).await,
    };
    done.unwrap_or_else(|error: KeysError| {
        let (hint, code) = (cli::keys_hint(&error), cli::keys_code(&error));
        fail(&error.into(), hint, code)
    })
}

fn sign_efi(file: &Path, out: &Path, keys: &Path) -> ExitCode {
    let signed = Keys::open_waiting(keys).map_err(BootKeyError::Keys).and_then(|keys| keys.boot_key()?.sign(file, out));
    match signed {
        Ok(()) => Code::Done.into(),
        Err(error) => {
            let (code, hint) = cli::boot_key_failed(&error);
            fail(&error.into(), hint, code)
        }
    }
}

async fn init(arguments: InitArgs) -> Result<ExitCode, KeysError> {
    let InitArgs { out, root_keys, threshold, root_public, targets_public, root_days } = arguments;
    let plan = Plan { root_keys, threshold, public: root_public, public_targets: targets_public, root_days };
    let (_, standing) = keys::init_with(&out, &plan).await?;
    say(format_args!("keys are in {}; whoever has them can sign images, so keep them safe", out.display()));
    if !standing.missing.is_empty() {
        stands(&standing);
    }
    Ok(Code::Done.into())
}

/// Says what has become of a change of the root of trust.
fn stands(standing: &Standing) -> ExitCode {
    let (version, file) = (standing.version, standing.file.display());
    if standing.missing.is_empty() {
        say(format_args!("version {version} of the root of trust: {file}"));
        if version > 1 {
            say(format_args!("`image-builder repo refresh`, or the next build, publishes it"));
        }
    } else {
        say(format_args!("version {version} of the root of trust waits for {}", lacking(&standing.missing)));
        say(format_args!("sign {file} with: image-builder keys root sign; then: image-builder keys root accept"));
    }
    Code::Done.into()
}

async fn root(command: RootCommand) -> Result<ExitCode, KeysError> {
    match command {
        RootCommand::New { out } => {
            let public = ceremony::new_holder(&out)?;
            say(format_args!("hand over {}/root.pub.json; root.pk8 never leaves this place", out.display()));
            Ok(print_line(&public.keyid))
        }
        RootCommand::Sign { file, key, previous } => {
            let read = |path: &Path| Ok::<_, KeysError>(roots::read(&image_builder::files::read(path)?)?.signed);
            let before = previous.as_deref().map(read).transpose()?;
            for line in ceremony::described(&read(&file)?, before.as_ref()) {
                say(format_args!("{line}"));
            }
            let standing = ceremony::sign_file(&file, &key, previous.as_deref()).await?;
            match standing.missing.as_slice() {
                [] => say(format_args!("signed; no signature of its own keys is missing any more")),
                missing => say(format_args!("signed; it waits for {}", lacking(missing))),
            }
            Ok(Code::Done.into())
        }
        RootCommand::Accept { file, keys } => {
            let keys = Keys::open_waiting(&keys)?;
            let file = file.unwrap_or_else(|| keys.pending());
            Ok(stands(&keys.accept(&file)?))
        }
        RootCommand::Renew { keys, root_days } => Ok(stands(&Keys::open_online(&keys)?.renew(root_days).await?)),
    }
}

async fn show(folder: &Path, repository: Option<&Path>, as_json: bool) -> Result<ExitCode, KeysError> {
    let keys = Keys::open_online(folder)?;
    let mut metadata = Vec::new();
    if let (Some(repository), Some((_, path))) = (repository, keys.roots()?.into_iter().next()) {
        let trusted = roots::read(&image_builder::files::read(&path)?)?;
        let source = Source::Folder(repository.to_owned());
        let chain = chain::walk(&source, trusted, jiff::Timestamp::now()).await.map_err(KeysError::Repository)?;
        metadata = chain.roles;
    }
    let shown = show::show(&keys, metadata, jiff::Timestamp::now())?;
    if as_json {
        return Ok(match serde_json::to_string_pretty(&shown) {
            Ok(text) => print_line(&text),
            Err(error) => fail(&error.into(), None, Code::Failed),
        });
    }
    let mut lines = vec![format!("root of trust: version {}, until {}", shown.root_version, shown.root_expires)];
    for role in &shown.roles {
        lines.push(format!("{}: {} of {} keys", role.role, role.threshold, role.keys.len()));
        for key in &role.keys {
            lines.push(format!("  {}  {}", key.id, key.private.as_deref().unwrap_or("kept elsewhere")));
        }
    }
    for certificate in &shown.secure_boot {
        lines.push(format!("{:<4} {}, until {}", certificate.name, certificate.subject, certificate.expires));
    }
    for state in &shown.metadata {
        lines.push(format!("{:<10} version {:<5} until {}", state.role, state.version, state.expires));
    }
    let printed = print_line(&lines.join("\n"));
    for warning in &shown.warnings {
        say(format_args!("warning: {warning}"));
    }
    Ok(printed)
}
