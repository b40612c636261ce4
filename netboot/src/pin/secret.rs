//! The file with the PIN's hash: PBKDF2 with HMAC-SHA-256 (RFC 8018), a salt of its own, mode 0600.

use aws_lc_rs::{pbkdf2, rand};
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, Permissions},
    io::{self, Read as _, Write as _},
    num::NonZeroU32,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

/// What OWASP's Password Storage Cheat Sheet asks for with SHA-256 (2023). A PIN is short: without the pauses of
/// [`super::guard`] no number would be enough, and who can read this file can read the store's key beside it.
const ITERATIONS: u32 = 600_000;
/// A file that says more than that would only keep the router busy.
const MOST_ITERATIONS: u32 = 5_000_000;
const LARGEST_FILE: u64 = 4096;
/// Digits or other characters that a PIN has at least and at most.
pub const LENGTH: std::ops::RangeInclusive<usize> = 6..=64;
const BYTES: usize = 32;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    version: u32,
    /// Always `pbkdf2-hmac-sha256`.
    algorithm: String,
    iterations: u32,
    /// 32 bytes, hex.
    salt: String,
    /// 32 bytes, hex.
    hash: String,
}

const ALGORITHM: &str = "pbkdf2-hmac-sha256";

/// Why a PIN cannot be kept, or the file not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Too short, too long, or too easy.
    #[error("this PIN cannot be used: {0}")]
    Weak(&'static str),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The file is not one of ours.
    #[error("{} is not a PIN file: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file cannot be written; the old one is as it was.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// What nobody has to guess.
fn too_easy(pin: &str) -> Option<&'static str> {
    let bytes = pin.as_bytes();
    if !LENGTH.contains(&bytes.len()) {
        return Some("it must have 6 to 64 characters");
    }
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Some("it must have only digits, letters and signs of a plain keyboard, without spaces");
    }
    let steps: Vec<i16> = bytes.windows(2).map(|pair| i16::from(pair[1]) - i16::from(pair[0])).collect();
    let same = steps.iter().all(|step| *step == steps[0]);
    (same && steps[0].abs() <= 1).then_some("its characters only count up or down, or are all the same")
}

impl SecretFile {
    /// Makes the content for a PIN.
    ///
    /// # Errors
    /// [`SecretError::Weak`] when everybody would guess it.
    pub fn make(pin: &str) -> Result<Self, SecretError> {
        Self::make_with(pin, ITERATIONS)
    }

    /// The same with another number of rounds: fewer are for tests.
    ///
    /// # Errors
    /// See [`SecretFile::make`].
    pub fn make_with(pin: &str, iterations: u32) -> Result<Self, SecretError> {
        if let Some(why) = too_easy(pin) {
            return Err(SecretError::Weak(why));
        }
        let (mut salt, mut hash) = ([0; BYTES], [0; BYTES]);
        rand::fill(&mut salt).map_err(|_| SecretError::Random)?;
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, pin.as_bytes(), &mut hash);
        let (salt, hash) = (hex::encode(salt), hex::encode(hash));
        Ok(Self { version: contracts::VERSION, algorithm: ALGORITHM.into(), iterations, salt, hash })
    }

    /// Compares, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, pin: &str) -> bool {
        let (Ok(salt), Ok(hash)) = (hex::decode(&self.salt), hex::decode(&self.hash)) else { return false };
        let Some(rounds) = NonZeroU32::new(self.iterations) else { return false };
        LENGTH.contains(&pin.len())
            && pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, pin.as_bytes(), &hash).is_ok()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`SecretError::Read`], [`SecretError::Content`].
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut bytes));
        read.map_err(|error| SecretError::Read(path.to_owned(), error))?;
        Self::parse(&bytes).map_err(|problem| SecretError::Content { path: path.to_owned(), problem })
    }

    /// Takes the content apart; any bytes may come.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let secret: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let whole = |text: &str| hex::decode(text).is_ok_and(|bytes| bytes.len() == BYTES);
        if secret.version > contracts::VERSION || secret.algorithm != ALGORITHM {
            return Err(format!("it is of version {} with {}", secret.version, secret.algorithm));
        }
        if !(1..=MOST_ITERATIONS).contains(&secret.iterations) || !whole(&secret.salt) || !whole(&secret.hash) {
            return Err("its numbers are not those of a PIN".into());
        }
        Ok(secret)
    }

    /// Writes the file, whole or not at all, for its folder's owner alone.
    ///
    /// # Errors
    /// [`SecretError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), SecretError> {
        self.try_write(path).map_err(|error| SecretError::Write(path.to_owned(), error))
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.as_file().set_permissions(Permissions::from_mode(0o600))?;
        // The service may run as somebody else than who sets the PIN.
        let (owner, own) = (std::fs::metadata(folder)?, file.as_file().metadata()?);
        if owner.uid() != own.uid() && own.uid() == 0 {
            fchown(file.as_file(), Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_file_holds_no_pin_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/pin.json");
        let secret = SecretFile::make("428571").unwrap();
        assert_eq!(secret.iterations, ITERATIONS);
        secret.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("428571"));
        let read = SecretFile::read(&path).unwrap();
        assert!(read.is("428571") && !read.is("428572") && !read.is("") && !read.is(&"4".repeat(100_000)));
        assert_ne!(SecretFile::make_with("428571", 1).unwrap().salt, SecretFile::make_with("428571", 1).unwrap().salt);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn pins_that_everybody_tries_first_are_refused() {
        for weak in ["12345", "123456", "000000", "987654", "abcdef", "12 34 56", "zwölfx", &"x1".repeat(40)] {
            assert!(matches!(SecretFile::make_with(weak, 1), Err(SecretError::Weak(_))), "{weak}");
        }
        SecretFile::make_with("135791", 1).unwrap();
    }

    /// RFC 7914, section 11, has this vector of PBKDF2-HMAC-SHA-256; its first half is what fits.
    #[test]
    fn the_hash_is_pbkdf2() {
        let mut hash = [0; 64];
        let rounds = NonZeroU32::new(80_000).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, b"NaCl", b"Password", &mut hash);
        assert!(hex::encode(hash).starts_with("4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SecretFile::parse(&bytes);
        }
    }
}
