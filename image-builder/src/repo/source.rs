//! Where a repository is read from: a folder, or any web server that serves one.

use super::layout;
use std::{
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use url::Url;

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(20);
/// The bytes between source and file.
const PIECE: usize = 256 << 10;

/// Why something could not be read from a repository.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not a folder, not a URL that can be read from.
    #[error("{0} is neither a folder nor an http or https URL")]
    Kind(String),
    /// The file system.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// The copy could not be written.
    #[error("cannot write what was read from {0}")]
    Write(String, #[source] std::io::Error),
    /// The connection.
    #[error("cannot fetch {0}")]
    Fetch(String, #[source] reqwest::Error),
    /// The server's answer.
    #[error("{0} answers with HTTP status {1}")]
    Status(String, u16),
    /// Longer than it may be.
    #[error("{0} is longer than {1} bytes")]
    TooLong(String, u64),
    /// A path that leaves the repository.
    #[error("{0:?} is not a path within a repository")]
    Unsafe(String),
}

/// A repository that is read.
#[derive(Debug, Clone)]
pub enum Source {
    /// On this machine.
    Folder(PathBuf),
    /// On a web server.
    Http {
        /// With a slash at its end.
        base: Url,
        /// The client.
        client: reqwest::Client,
    },
}

impl Source {
    /// A folder by its path, or `http://…`, `https://…`.
    ///
    /// # Errors
    /// [`SourceError::Kind`], or when there is no TLS on this machine.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            let folder = PathBuf::from(text);
            return if folder.is_dir() { Ok(Self::Folder(folder)) } else { Err(SourceError::Kind(text.to_owned())) };
        }
        let base = Url::parse(&format!("{}/", text.trim_end_matches('/')));
        let base = base.map_err(|_| SourceError::Kind(text.to_owned()))?;
        // Says no only when it was said before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).build();
        let client = client.map_err(|error| SourceError::Fetch(text.to_owned(), error))?;
        Ok(Self::Http { base, client })
    }

    /// For people: the folder or URL with this path.
    #[must_use]
    pub fn name(&self, path: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(path).display().to_string(),
            Self::Http { base, .. } => format!("{base}{path}"),
        }
    }

    /// A whole small file. `None` when there is none.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let mut bytes = Vec::new();
        Ok(self.copy(path, 0, limit, &mut bytes).await?.map(|()| bytes))
    }

    /// Writes a file from byte `from` on. `None` when there is none; an error when it is longer than `limit`, of which
    /// nothing beyond the limit is written.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn copy(
        &self,
        path: &str,
        from: u64,
        limit: u64,
        to: &mut (impl Write + Send),
    ) -> Result<Option<()>, SourceError> {
        if !layout::is_safe(path) {
            return Err(SourceError::Unsafe(path.to_owned()));
        }
        match self {
            Self::Folder(folder) => copy_file(&folder.join(path), from, limit, to),
            Self::Http { .. } => self.copy_http(path, from, limit, to).await,
        }
    }

    async fn copy_http(
        &self,
        path: &str,
        from: u64,
        limit: u64,
        to: &mut (impl Write + Send),
    ) -> Result<Option<()>, SourceError> {
        let Self::Http { base, client } = self else { return Ok(None) };
        let name = self.name(path);
        let url = base.join(path).map_err(|_| SourceError::Unsafe(path.to_owned()))?;
        let fetch = |error| SourceError::Fetch(name.clone(), error);
        let mut request = client.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let mut answer = request.send().await.map_err(fetch)?;
        // A server that knows no ranges sends the whole file.
        let mut skip = match answer.status().as_u16() {
            206 => 0,
            200 => from,
            // Buckets that may not be listed say 403 for what is not there.
            403 | 404 | 410 => return Ok(None),
            status => return Err(SourceError::Status(name, status)),
        };
        let mut at = from;
        while let Some(part) = answer.chunk().await.map_err(fetch)? {
            let cut = usize::try_from(skip).unwrap_or(usize::MAX).min(part.len());
            skip -= cut as u64;
            write(&part[cut..], &mut at, limit, &name, to)?;
        }
        Ok(Some(()))
    }
}

fn write(part: &[u8], at: &mut u64, limit: u64, name: &str, to: &mut impl Write) -> Result<(), SourceError> {
    let end = at.saturating_add(part.len() as u64);
    if end > limit {
        return Err(SourceError::TooLong(name.to_owned(), limit));
    }
    *at = end;
    to.write_all(part).map_err(|error| SourceError::Write(name.to_owned(), error))
}

fn copy_file(path: &Path, from: u64, limit: u64, to: &mut impl Write) -> Result<Option<()>, SourceError> {
    let failed = |error| SourceError::Read(path.to_owned(), error);
    // Looked at before it is opened: a pipe would wait for ever.
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    }
    let mut file = std::fs::File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let (mut at, mut buffer) = (from, vec![0; PIECE]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(Some(())),
            length => write(&buffer[..length], &mut at, limit, &path.display().to_string(), to)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_to_its_limit_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"0123456789").unwrap();
        let source = Source::parse(folder.path().to_str().unwrap()).unwrap();
        assert_eq!(source.read("a", 10).await.unwrap().unwrap(), b"0123456789");
        assert!(matches!(source.read("a", 9).await, Err(SourceError::TooLong(_, 9))));
        assert!(source.read("b", 9).await.unwrap().is_none());
        assert!(source.read("a/b", 9).await.unwrap().is_none());
        assert!(matches!(source.read("../a", 9).await, Err(SourceError::Unsafe(_))));
        let mut rest = Vec::new();
        source.copy("a", 7, 10, &mut rest).await.unwrap().unwrap();
        assert_eq!(rest, b"789");
    }
}
