//! The state folder: CA, server certificate, database.

use crate::authority::{self, AuthorityError, Issued};
use crate::db::{Db, DbError};
use crate::files;
use crate::inventory::is_label;
use contracts::store::StoreCredential;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const FLEET_CERTIFICATE: &str = "fleet.pem";
const FLEET_KEY: &str = "fleet.key";
const SERVER_CERTIFICATE: &str = "server.pem";
const SERVER_KEY: &str = "server.key";
const DATABASE: &str = "registrar.db";
const SERVER_NAME: &str = "server_name";

/// Why the state folder could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is a registrar in it already.
    #[error("{} holds a registrar already", .0.display())]
    Exists(PathBuf),
    /// There is no registrar in it.
    #[error("{} holds no registrar", .0.display())]
    Missing(PathBuf),
    /// A store with this name was added before.
    #[error("store {0} was added before")]
    StoreExists(String),
    /// Not a name.
    #[error("`{0}` is not a store name: 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")]
    StoreName(String),
    /// A file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// For example `read` or `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("the certificate authority failed")]
    Authority(#[source] AuthorityError),
    /// The database failed.
    #[error("the database in {} failed", path.display())]
    Database {
        /// The state folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: DbError,
    },
}

impl StateError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Exists(_) => Some("choose another folder for --state; to start over, remove this one yourself"),
            Self::Missing(_) => Some("make one with: registrar init --state DIR --server-name NAME"),
            Self::StoreExists(_) => {
                Some("its credential is used by a store; add --replace to make a new one, which locks out the old")
            }
            Self::File { action: "write", source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
                Some("files are never overwritten: choose another name or remove the file yourself")
            }
            _ => None,
        }
    }
}

/// An opened state folder.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    /// The database.
    pub db: Db,
}

/// What the server shows to its clients.
#[derive(Debug)]
pub struct ServerFiles {
    /// The CA certificates, PEM.
    pub ca: String,
    /// The server's certificate, PEM.
    pub certificate: String,
    /// The server's key, PKCS #8, PEM.
    pub key: String,
}

impl State {
    /// Makes a new state folder with a CA, a server certificate and an empty database.
    ///
    /// # Errors
    /// [`StateError::Exists`] when there is anything of ours in it.
    pub async fn init(
        folder: &Path,
        server_name: &str,
        addresses: &[IpAddr],
        now: OffsetDateTime,
    ) -> Result<Self, StateError> {
        let all = [CA_CERTIFICATE, CA_KEY, SERVER_CERTIFICATE, SERVER_KEY, DATABASE];
        if all.iter().any(|name| folder.join(name).exists()) {
            return Err(StateError::Exists(folder.into()));
        }
        let ca = authority::new_ca(server_name, now).map_err(StateError::Authority)?;
        let server = authority::new_server(&ca, server_name, addresses, now).map_err(StateError::Authority)?;
        let unfinished = Unfinished::begin(folder)?;
        let contents = [
            (CA_CERTIFICATE, files::PUBLIC, ca.certificate),
            (CA_KEY, files::PRIVATE, ca.key),
            (SERVER_CERTIFICATE, files::PUBLIC, server.certificate),
            (SERVER_KEY, files::PRIVATE, server.key),
            // SQLite gives its WAL files the mode of the database, so the mode is set before it opens the file.
            (DATABASE, files::PRIVATE, String::new()),
        ];
        for (name, mode, content) in contents {
            let path = folder.join(name);
            files::write_new(&path, mode, content.as_bytes()).map_err(|source| failed("write", &path, source))?;
        }
        let state = Self::open(folder).await?;
        state.db.set_setting(SERVER_NAME, server_name).await.map_err(|source| state.database(source))?;
        unfinished.finish();
        Ok(state)
    }

    /// Opens a state folder and brings its database up to date.
    ///
    /// # Errors
    /// [`StateError::Missing`] when `init` never ran here.
    pub async fn open(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join(DATABASE);
        if !path.exists() {
            return Err(StateError::Missing(folder.into()));
        }
        let db = Db::open(&path).await.map_err(|source| StateError::Database { path: folder.into(), source })?;
        Ok(Self { folder: folder.into(), db })
    }

    /// The server's certificate and key, and the CA that checks stores.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn server_files(&self) -> Result<ServerFiles, StateError> {
        Ok(ServerFiles {
            ca: self.read(CA_CERTIFICATE)?,
            certificate: self.read(SERVER_CERTIFICATE)?,
            key: self.read(SERVER_KEY)?,
        })
    }

    /// Makes a store's key and certificate, registers the key, and writes the credential to a new file.
    ///
    /// # Errors
    /// [`StateError::StoreExists`] unless `replace`; [`StateError::File`] when the file exists.
    pub async fn add_store(
        &self,
        store: &str,
        registrars: Vec<String>,
        out: &Path,
        replace: bool,
        now: OffsetDateTime,
    ) -> Result<(), StateError> {
        if !is_label(store) {
            return Err(StateError::StoreName(store.into()));
        }
        let ca = Issued { key: self.read(CA_KEY)?, certificate: self.read(CA_CERTIFICATE)?, public_key: Vec::new() };
        let issued = authority::new_store(&ca, store, now).map_err(StateError::Authority)?;
        let server_name = self.db.setting(SERVER_NAME).await.map_err(|source| self.database(source))?;
        let credential = StoreCredential {
            version: contracts::VERSION,
            store: store.into(),
            key: issued.key,
            certificate: issued.certificate,
            registrar_ca: ca.certificate,
            server_name: server_name.ok_or_else(|| StateError::Missing(self.folder.clone()))?,
            registrars,
        };
        let mut text = serde_json::to_string_pretty(&credential).unwrap_or_default();
        text.push('\n');
        // The file comes first: a registered key that nobody holds would be worse than a useless file.
        let known = self.db.store_key(store).await.map_err(|source| self.database(source))?.is_some();
        if known && !replace {
            return Err(StateError::StoreExists(store.into()));
        }
        files::write_new(out, files::PRIVATE, text.as_bytes()).map_err(|source| {
            if source.kind() != std::io::ErrorKind::AlreadyExists {
                // What a full disk took of it is no credential.
                let _ = std::fs::remove_file(out);
            }
            failed("write", out, source)
        })?;
        self.db.put_store(store, &issued.public_key, now).await.map_err(|source| self.database(source))
    }

    /// The key that signs orders for machines, made when it is needed first.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn fleet(&self, now: OffsetDateTime) -> Result<Issued, StateError> {
        if !self.folder.join(FLEET_CERTIFICATE).exists() {
            let ca =
                Issued { key: self.read(CA_KEY)?, certificate: self.read(CA_CERTIFICATE)?, public_key: Vec::new() };
            let made = authority::new_fleet(&ca, now).map_err(StateError::Authority)?;
            // The certificate last: a key without one is made anew.
            for (name, mode, content) in
                [(FLEET_KEY, files::PRIVATE, &made.key), (FLEET_CERTIFICATE, files::PUBLIC, &made.certificate)]
            {
                let path = self.folder.join(name);
                files::replace(&path, mode, content.as_bytes()).map_err(|source| failed("write", &path, source))?;
            }
        }
        Ok(Issued { key: self.read(FLEET_KEY)?, certificate: self.read(FLEET_CERTIFICATE)?, public_key: Vec::new() })
    }

    /// Wraps a database error with the folder's name.
    #[must_use]
    pub fn database(&self, source: DbError) -> StateError {
        StateError::Database { path: self.folder.clone(), source }
    }

    fn read(&self, name: &str) -> Result<String, StateError> {
        let path = self.folder.join(name);
        std::fs::read_to_string(&path).map_err(|source| failed("read", &path, source))
    }
}

/// A state folder in the making: what `init` wrote is removed again unless it finished, be it that the disk was full
/// or that somebody pressed Ctrl-C.
struct Unfinished {
    folder: PathBuf,
    made_folder: bool,
    finished: bool,
}

impl Unfinished {
    fn begin(folder: &Path) -> Result<Self, StateError> {
        let made_folder = !folder.exists();
        files::private_folder(folder).map_err(|source| failed("make the folder", folder, source))?;
        Ok(Self { folder: folder.into(), made_folder, finished: false })
    }

    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let side_files = ["-wal", "-shm", "-journal"].map(|end| format!("{DATABASE}{end}"));
        let ours = [CA_CERTIFICATE, CA_KEY, SERVER_CERTIFICATE, SERVER_KEY, DATABASE].into_iter();
        for name in ours.chain(side_files.iter().map(String::as_str)) {
            // Most may not be there yet.
            let _ = std::fs::remove_file(self.folder.join(name));
        }
        if self.made_folder {
            let _ = std::fs::remove_dir(&self.folder);
        }
    }
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> StateError {
    StateError::File { action, path: path.into(), source }
}
