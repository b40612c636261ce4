//! Where blobs come from: a folder, or a tar file whose members are looked up once and then read in place.

use super::{
    OciError,
    documents::{Descriptor, Index, digits},
};
use crate::files::{self, at};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

/// More members than this are no image.
const MAX_MEMBERS: usize = 100_000;
/// `oci-layout` and `index.json`.
const MAX_HEAD: u64 = 4 << 20;
/// How many images an error names.
const MOST_NAMED: usize = 8;

/// Content, and how many bytes that is.
type Blob<'a> = (Box<dyn Read + 'a>, u64);

/// An OCI image layout.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder,
    /// Where members begin, and their bytes.
    Archive(File, HashMap<String, (u64, u64)>),
}

impl Source {
    /// Opens a folder or an archive, and sees that it is a layout.
    ///
    /// # Errors
    /// See [`OciError`].
    pub fn open(path: &Path) -> Result<Self, OciError> {
        let place = if fs::metadata(path).map_err(at("look at", path))?.is_dir() {
            Place::Folder
        } else {
            let file = File::open(path).map_err(at("read", path))?;
            let members = members(&file).map_err(|error| no_layout(path, error.to_string()))?;
            Place::Archive(file, members)
        };
        let source = Self { path: path.to_owned(), place };
        let layout = source.head("oci-layout")?;
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layout {
            image_layout_version: String,
        }
        match serde_json::from_slice::<Layout>(&layout) {
            Ok(layout) if layout.image_layout_version.starts_with("1.") => Ok(source),
            Ok(layout) => Err(no_layout(path, format!("its version is {}", layout.image_layout_version))),
            Err(error) => Err(no_layout(path, format!("its oci-layout is not as it should be ({error})"))),
        }
    }

    /// A whole small document, checked.
    pub(super) fn document(&self, digest: &str, most: u64) -> Result<Vec<u8>, OciError> {
        let (mut reader, length) = self.blob(digest)?;
        if length > most {
            return Err(self.unusable(digest, format!("it has {length} bytes, a document has at most {most}")));
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(at("read", &self.path))?;
        let found = hex::encode(Sha256::digest(&bytes));
        if Some(found.as_str()) == digits(digest) { Ok(bytes) } else { Err(self.damaged(digest, other_digest(&found))) }
    }

    /// Copies a blob of any size; it appears when it is whole.
    pub(super) fn copy_blob(&self, descriptor: &Descriptor, place: &Path) -> Result<(), OciError> {
        let digest = &descriptor.digest;
        let (mut reader, length) = self.blob(digest)?;
        let folder = place.parent().unwrap_or(Path::new("."));
        files::create_folder(folder)?;
        let mut part =
            tempfile::Builder::new().prefix(".part-").tempfile_in(folder).map_err(at("write into", folder))?;
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            let count = reader.read(&mut buffer).map_err(at("read", &self.path))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            part.write_all(&buffer[..count]).map_err(at("write", place))?;
        }
        self.check_length(descriptor, length)?;
        let found = hex::encode(hasher.finalize());
        if found != self.digits(digest)? {
            return Err(self.damaged(digest, other_digest(&found)));
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        part.as_file().set_permissions(mode).map_err(at("set the mode of", place))?;
        part.persist(place).map_err(|error| at("write", place)(error.error))?;
        Ok(())
    }

    /// Sees that a blob is there, with the length that its manifest says.
    pub(super) fn check_presence(&self, descriptor: &Descriptor) -> Result<(), OciError> {
        let length = self.blob(&descriptor.digest)?.1;
        self.check_length(descriptor, length)
    }

    /// A blob and its length. Nothing is known of its content yet.
    fn blob(&self, digest: &str) -> Result<Blob<'_>, OciError> {
        let name = format!("blobs/sha256/{}", self.digits(digest)?);
        let there = match &self.place {
            Place::Folder => self.path.join(&name).is_file(),
            Place::Archive(_, members) => members.contains_key(&name),
        };
        let holds = if there { Vec::new() } else { self.holds() };
        let none = OciError::NoBlob { path: self.path.clone(), digest: digest.to_owned(), holds };
        if there { self.member(&name)?.ok_or(none) } else { Err(none) }
    }

    fn member(&self, name: &str) -> Result<Option<Blob<'_>>, OciError> {
        match &self.place {
            Place::Folder => {
                let path = self.path.join(name);
                let file = match File::open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    opened => opened.map_err(at("read", &path))?,
                };
                let meta = file.metadata().map_err(at("look at", &path))?;
                // The length is what is read, whatever happens to the file meanwhile.
                Ok(meta.is_file().then(|| (Box::new(file.take(meta.len())) as Box<dyn Read>, meta.len())))
            }
            Place::Archive(file, members) => {
                let Some((offset, length)) = members.get(name).copied() else { return Ok(None) };
                let mut file: &File = file;
                // The place in the file is shared: one blob is read at a time.
                file.seek(SeekFrom::Start(offset)).map_err(at("read", &self.path))?;
                Ok(Some((Box::new(file.take(length)), length)))
            }
        }
    }

    fn head(&self, name: &str) -> Result<Vec<u8>, OciError> {
        let Some((reader, _)) = self.member(name)? else {
            return Err(no_layout(&self.path, format!("it has no {name}")));
        };
        let mut bytes = Vec::new();
        reader.take(MAX_HEAD).read_to_end(&mut bytes).map_err(at("read", &self.path))?;
        Ok(bytes)
    }

    /// The images that the index names, for people.
    fn holds(&self) -> Vec<String> {
        let Some(index) = self.head("index.json").ok().and_then(|b| serde_json::from_slice::<Index>(&b).ok()) else {
            return Vec::new();
        };
        let name = |entry: &Descriptor| {
            let names = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
            let name = names.iter().find_map(|key| entry.annotations.get(*key));
            name.map_or(entry.digest.clone(), |name| format!("{} ({name})", entry.digest))
        };
        index.manifests.iter().take(MOST_NAMED).map(name).collect()
    }

    pub(super) fn check_length(&self, descriptor: &Descriptor, length: u64) -> Result<(), OciError> {
        if descriptor.size == length {
            return Ok(());
        }
        let why = format!("it has {length} bytes, its manifest says {}", descriptor.size);
        Err(self.damaged(&descriptor.digest, why))
    }

    fn damaged(&self, digest: &str, why: String) -> OciError {
        OciError::Damaged { path: self.path.clone(), digest: digest.to_owned(), why }
    }

    pub(super) fn digits<'a>(&self, digest: &'a str) -> Result<&'a str, OciError> {
        digits(digest).ok_or_else(|| self.unusable(digest, "only SHA-256 is used".into()))
    }

    pub(super) fn unusable(&self, digest: &str, why: String) -> OciError {
        OciError::Document { path: self.path.clone(), digest: digest.to_owned(), why }
    }

    pub(super) fn wrong_platform(&self, digest: &str, found: &str) -> OciError {
        let found = if found.is_empty() { "nothing" } else { found }.to_owned();
        OciError::Platform { path: self.path.clone(), digest: digest.to_owned(), found }
    }
}

fn no_layout(path: &Path, why: String) -> OciError {
    OciError::NoLayout { path: path.to_owned(), why }
}

fn other_digest(found: &str) -> String {
    format!("its content has sha256:{found}")
}

/// The regular members of a tar file by name. Raw: what stands in for longer names and sparse files is read as members of
/// their own kind and passed over, so that no member's size decides how much memory is taken. The names of a layout fit
/// into a plain header (POSIX ustar).
fn members(file: &File) -> io::Result<HashMap<String, (u64, u64)>> {
    let bytes = file.metadata()?.len();
    let mut archive = tar::Archive::new(file);
    let mut members = HashMap::new();
    for (count, entry) in archive.entries_with_seek()?.raw(true).enumerate() {
        let entry = entry?;
        if count >= MAX_MEMBERS {
            return Err(io::Error::other(format!("it has more than {MAX_MEMBERS} members")));
        }
        let (offset, length) = (entry.raw_file_position(), entry.size());
        let inside = offset.checked_add(length).is_some_and(|end| end <= bytes);
        if !entry.header().entry_type().is_file() || !inside {
            continue;
        }
        if let Ok(name) = std::str::from_utf8(&entry.path_bytes()) {
            members.insert(name.strip_prefix("./").unwrap_or(name).to_owned(), (offset, length));
        }
    }
    Ok(members)
}
