//! Where a private key is: a file, a variable of the environment, or a module for PKCS#11.

use super::{KeysError, token::Uri};
use crate::files::{FileError, at};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tough::{
    key_source::KeySource,
    sign::{Sign, parse_keypair},
};

/// A key is small; more than this is something else.
const LARGEST: u64 = 64 << 10;

/// Where a private key is.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// A file with PKCS#8, as PEM or DER.
    File(PathBuf),
    /// A variable with PKCS#8, as PEM or as DER in base64, or with a URI of a key in a module.
    Variable(String),
    /// A file with a URI of a key in a module.
    TokenFile(PathBuf),
}

/// The content of a variable is not shown: it is the key.
impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) | Self::TokenFile(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
        }
    }
}

/// Why a key could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The variable went away.
    #[error("the variable {0} is not set")]
    NoVariable(String),
    /// A URI that is none.
    #[error("{0} holds no pkcs11: URI that can be used: {1}")]
    Uri(String, String),
    /// The program that speaks PKCS#11.
    #[error("the program {0} is not installed")]
    NoTool(&'static str),
    /// What it says.
    #[error("the key in the PKCS#11 module cannot be used: {0}")]
    Token(String),
    /// Not a private key that signs TUF metadata.
    #[error("{0} holds no Ed25519, P-256 or RSA key in PKCS#8")]
    Format(String),
}

/// The variable that can hold a role's key, for example `SHELFBOOT_TARGETS_KEY`.
#[must_use]
pub fn variable_of(role: &str) -> String {
    format!("SHELFBOOT_{}_KEY", role.to_ascii_uppercase())
}

impl Place {
    /// Looks for a role's key: the environment comes before the folder.
    #[must_use]
    pub fn find(folder: &Path, role: &str, variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let name = variable_of(role);
        if variable(&name).is_some_and(|value| !value.trim().is_empty()) {
            return Some(Self::Variable(name));
        }
        let (file, token) = (folder.join(format!("{role}.pk8")), folder.join(format!("{role}.pkcs11")));
        let file = file.is_file().then_some(Self::File(file));
        file.or_else(|| token.is_file().then_some(Self::TokenFile(token)))
    }

    /// Reads the key.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(&self) -> Result<Box<dyn Sign>, KeyError> {
        let bytes = content(self)?;
        let text = std::str::from_utf8(&bytes).ok().filter(|text| Uri::is_meant(text));
        if text.is_some() || matches!(self, Self::TokenFile(_)) {
            let uri = Uri::parse(text.unwrap_or_default());
            let uri = uri.map_err(|message| KeyError::Uri(self.to_string(), message))?;
            return Ok(Box::new(uri.open()?));
        }
        parse(&bytes).ok_or_else(|| KeyError::Format(self.to_string()))
    }
}

/// What is at a place.
pub(super) fn content(place: &Place) -> Result<Vec<u8>, KeyError> {
    match place {
        Place::File(path) | Place::TokenFile(path) => {
            let length = fs::metadata(path).map_err(at("look at", path))?.len();
            if length > LARGEST {
                return Err(KeyError::Format(place.to_string()));
            }
            Ok(fs::read(path).map_err(at("read", path))?)
        }
        Place::Variable(name) => {
            std::env::var(name).map(String::into_bytes).map_err(|_| KeyError::NoVariable(name.clone()))
        }
    }
}

/// PKCS#8 as DER, as DER in base64, or as PEM.
fn parse(bytes: &[u8]) -> Option<Box<dyn Sign>> {
    let boxed = |key: &[u8]| parse_keypair(key).ok().map(|key| Box::new(key) as Box<dyn Sign>);
    // `tough` reads PEM of RSA keys only, and the other kinds as DER only.
    boxed(bytes).or_else(|| {
        let text = std::str::from_utf8(bytes).ok()?;
        let body: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        boxed(&STANDARD.decode(body).ok()?)
    })
}

/// The private keys that lie in a folder; none when there is no such folder.
pub(super) fn keys_in(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(at("look at", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(at("look at", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "pk8") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Refuses a private key that others may read.
pub(super) fn check_mode(path: &Path) -> Result<(), KeysError> {
    let mode = fs::metadata(path).map_err(at("look at", path))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeysError::Readable { path: path.to_owned(), mode }) }
}

#[tough::async_trait]
impl KeySource for Place {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, Box<dyn Error + Send + Sync + 'static>> {
        Ok(self.open()?)
    }

    async fn write(&self, _: &str, _: &str) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Err("keys are written by `keys init` and `keys rotate` only".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};

    #[test]
    fn a_key_is_read_in_every_form() {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let base64 = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n");
        let id = parse(der.as_ref()).unwrap().tuf_key();
        assert_eq!(parse(base64.as_bytes()).unwrap().tuf_key(), id);
        assert_eq!(parse(pem.as_bytes()).unwrap().tuf_key(), id);
        let p256 = rcgen::KeyPair::generate().unwrap();
        assert!(parse(p256.serialize_pem().as_bytes()).is_some());
        assert!(parse(b"").is_none() && parse(b"-----BEGIN PRIVATE KEY-----").is_none());
    }

    #[test]
    fn the_environment_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("targets.pk8"), "key").unwrap();
        let found = |value: Option<&str>| Place::find(folder.path(), "targets", |_| value.map(str::to_owned));
        assert_eq!(found(Some("x")), Some(Place::Variable("SHELFBOOT_TARGETS_KEY".into())));
        assert_eq!(found(Some(" ")), Some(Place::File(folder.path().join("targets.pk8"))));
        assert_eq!(Place::find(folder.path(), "snapshot", |_| None), None);
    }
}
