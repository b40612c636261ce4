//! Keys in a hardware security module, through PKCS#11.
//!
//! The module, a shared library of the vendor's, is loaded by OpenSC's `pkcs11-tool` and not by us: a static program that
//! loads shared libraries works only with the C library that it was built with, and ours is static. The PIN goes to
//! it through the environment, where other users do not see it.

use super::sources::KeyError;
use aws_lc_rs::rand::SecureRandom;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    error::Error,
    io::Write as _,
    process::{Command, Stdio},
};
use tough::{
    schema::key::{EcdsaKey, EcdsaScheme, Key},
    sign::Sign,
};

/// The program.
const TOOL: &str = "pkcs11-tool";
/// Holds the user's PIN when the URI names no `pin-source`.
pub const PIN_VARIABLE: &str = "SHELFBOOT_PKCS11_PIN";
/// A URI is a line.
const LONGEST: usize = 2048;
/// SubjectPublicKeyInfo of a P-256 key, up to the point (RFC 5480): algorithm id-ecPublicKey, curve prime256v1.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Where a key is in a module, as RFC 7512 writes it: `pkcs11:token=ci;id=%01?module-path=/usr/lib/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    module: String,
    token: String,
    object: Option<String>,
    id: String,
    pin_source: Option<String>,
}

impl Uri {
    /// True for what is meant to be such a URI.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().starts_with("pkcs11:")
    }

    /// Reads a URI: `token`, `id` and perhaps `object` before the question mark, `module-path` and perhaps
    /// `pin-source=file:PATH` behind it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err("it is too long".into());
        }
        let rest = text.strip_prefix("pkcs11:").ok_or("it does not begin with pkcs11:")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut found = HashMap::new();
        for (separator, part) in [(';', path), ('&', query)] {
            for attribute in part.split(separator).filter(|attribute| !attribute.is_empty()) {
                let (name, value) = attribute.split_once('=').ok_or_else(|| format!("{attribute:?} has no value"))?;
                let value = match name {
                    // Bytes, and the program wants them in hex.
                    "id" => hex::encode(percent_decode_str(value).collect::<Vec<u8>>()),
                    "token" | "object" | "module-path" | "pin-source" | "type" => {
                        let value =
                            percent_decode_str(value).decode_utf8().map_err(|_| format!("{name} is no text"))?;
                        value.into_owned()
                    }
                    "pin-value" => return Err(format!("a PIN does not belong in it; {PIN_VARIABLE} can hold it")),
                    other => return Err(format!("it has an attribute {other:?}, which is not known")),
                };
                let sound = !value.is_empty() && !value.starts_with('-') && !value.contains(char::is_control);
                if !sound || found.insert(name, value).is_some() {
                    return Err(format!("{name} is empty, doubled or strange"));
                }
            }
        }
        let module = found.remove("module-path").ok_or("it names no module-path")?;
        let token = found.remove("token").ok_or("it names no token")?;
        // pkcs11-tool 0.23 signs with any key of the token when it is not told an id; a label does not count.
        let id = found.remove("id").ok_or("it names no id")?;
        let object = found.remove("object");
        let pin_source = found.remove("pin-source").map(|source| source.trim_start_matches("file:").to_owned());
        Ok(Self { module, token, object, id, pin_source })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(TOOL);
        command.args(["--module", &self.module, "--token-label", &self.token]);
        command.args(["--id", &self.id]);
        command.args(self.object.iter().flat_map(|object| ["--label", object.as_str()]));
        command
    }

    /// Fetches the public half. No PIN is needed.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(&self) -> Result<TokenKey, KeyError> {
        let mut command = self.command();
        command.args(["--read-object", "--type", "pubkey"]);
        let public = run(command, &[])?;
        let point = point_of(&public).ok_or_else(|| KeyError::Token("its key is not of the curve P-256".into()))?;
        Ok(TokenKey { uri: self.clone(), point })
    }

    /// Signs with an RSA key: PKCS#1 v1.5 with SHA-256.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn sign_rsa(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        // DigestInfo for SHA-256 (RFC 8017, 9.2, note 1): every module signs what it is given.
        const PREFIX: [u8; 19] = [
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04,
            0x20,
        ];
        self.sign(&["--mechanism", "RSA-PKCS"], &[&PREFIX[..], &Sha256::digest(message)].concat())
    }

    fn sign(&self, mechanism: &[&str], input: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut command = self.command();
        command.args(["--login", "--pin", &format!("env:{PIN_VARIABLE}"), "--sign"]).args(mechanism);
        command.env(PIN_VARIABLE, self.pin()?);
        run(command, input)
    }

    fn pin(&self) -> Result<String, KeyError> {
        let pin = match &self.pin_source {
            Some(path) => std::fs::read_to_string(path)
                .map_err(crate::files::at("read", path.as_ref()))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            None => std::env::var(PIN_VARIABLE).map_err(|_| KeyError::NoVariable(PIN_VARIABLE.into()))?,
        };
        Ok(pin)
    }
}

/// The point of a P-256 key: from its SubjectPublicKeyInfo, or as the octet string that PKCS#11 itself has.
fn point_of(public: &[u8]) -> Option<Vec<u8>> {
    let point = public.strip_prefix(&P256_PREFIX).or_else(|| public.strip_prefix(&[0x04, 0x41]))?;
    (point.len() == 65 && point[0] == 0x04).then(|| point.to_vec())
}

/// Runs the program with something on standard input, and gives what it printed.
fn run(mut command: Command, input: &[u8]) -> Result<Vec<u8>, KeyError> {
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => KeyError::NoTool(TOOL),
        _ => KeyError::Token(error.to_string()),
    })?;
    let failed = |error: std::io::Error| KeyError::Token(error.to_string());
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why on its own.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() && !output.stdout.is_empty() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty() && *line != "Aborting.");
    Err(KeyError::Token(last.unwrap_or("it says nothing").trim().to_owned()))
}

/// A key whose private half is in a module.
#[derive(Debug, Clone)]
pub struct TokenKey {
    uri: Uri,
    point: Vec<u8>,
}

#[tough::async_trait]
impl Sign for TokenKey {
    fn tuf_key(&self) -> Key {
        Key::Ecdsa {
            keyval: EcdsaKey { public: self.point.clone().into(), _extra: HashMap::new() },
            scheme: EcdsaScheme::EcdsaSha2Nistp256,
            _extra: HashMap::new(),
        }
    }

    async fn sign(
        &self,
        message: &[u8],
        _: &(dyn SecureRandom + Sync),
    ) -> Result<Vec<u8>, Box<dyn Error + Send + Sync + 'static>> {
        // Modules that hash by themselves are rare; all sign a digest.
        let mechanism = ["--mechanism", "ECDSA", "--signature-format", "openssl"];
        Ok(self.uri.sign(&mechanism, &Sha256::digest(message))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uri_names_module_token_and_key() {
        let text =
            "pkcs11:token=my%20token;object=targets;id=%01%ff?module-path=/usr/lib/x.so&pin-source=file:/run/pin\n";
        let uri = Uri::parse(text).unwrap();
        assert_eq!((uri.token.as_str(), uri.module.as_str(), uri.id.as_str()), ("my token", "/usr/lib/x.so", "01ff"));
        assert_eq!((uri.object.as_deref(), uri.pin_source.as_deref()), (Some("targets"), Some("/run/pin")));
        for bad in [
            "pkcs11:token=t;id=%01",
            "pkcs11:id=%01?module-path=m",
            "pkcs11:token=t;object=o?module-path=m",
            "pkcs11:token=t;token=u;id=%01?module-path=m",
            "pkcs11:token=--slot;id=%01?module-path=m",
            "pkcs11:token=t;id=%01?module-path=m&pin-value=1234",
            "pkcs11:token=t;colour=red;id=%01?module-path=m",
            "file:x",
        ] {
            assert!(Uri::parse(bad).is_err(), "{bad}");
        }
        assert!(!Uri::parse("pkcs11:token=t;id=%01?module-path=m&pin-value=1234").unwrap_err().contains("1234"));
    }

    #[test]
    fn a_point_is_found_in_both_forms() {
        let mut point = vec![0x04];
        point.extend([7; 64]);
        assert_eq!(point_of(&[&P256_PREFIX[..], &point].concat()), Some(point.clone()));
        assert_eq!(point_of(&[&[0x04, 0x41][..], &point].concat()), Some(point.clone()));
        assert_eq!(point_of(&point), None);
        assert_eq!(point_of(&P256_PREFIX), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(pkcs11:)?[ -~\\n%;&=?]{0,80}") {
            if let Ok(uri) = Uri::parse(&text) {
                prop_assert!(!uri.token.starts_with('-') && !uri.module.starts_with('-'));
            }
        }
    }
}
