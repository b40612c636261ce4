//! Where the image repository is: at netboot, or on the medium that the machine was started from. Neither is believed.

use crate::net::client::Netboot;
use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};
use url::Url;

/// Bytes read at once from a medium.
const PART: usize = 256 << 10;

/// A repository that can be read.
#[derive(Debug, Clone)]
pub enum Source {
    /// netboot's, over HTTP.
    Store(Netboot),
    /// Somewhere else, over HTTP, with the base URL without a slash at its end.
    Mirror(reqwest::Client, String),
    /// A folder, with an absolute path.
    Folder(PathBuf),
}

impl Source {
    /// A mirror at this base URL.
    #[must_use]
    pub fn mirror(http: reqwest::Client, base: &Url) -> Self {
        Self::Mirror(http, base.as_str().trim_end_matches('/').to_owned())
    }

    /// The repository's address, with a slash at its end.
    ///
    /// # Errors
    /// When it has none.
    pub fn url(&self) -> Result<Url> {
        match self {
            Self::Store(netboot) => Ok(Url::parse(&format!("{}/repo/", netboot.base()))?),
            Self::Mirror(_, base) => Ok(Url::parse(&format!("{base}/"))?),
            Self::Folder(path) => Url::from_directory_path(path).ok().context("the repository's path is not absolute"),
        }
    }

    /// Where a file of it is, for people.
    #[must_use]
    pub fn place(&self, path: &str) -> String {
        match self {
            Self::Store(netboot) => format!("{}/repo/{path}", netboot.base()),
            Self::Mirror(_, base) => format!("{base}/{path}"),
            Self::Folder(folder) => folder.join(path).display().to_string(),
        }
    }

    /// Begins to read a file at the byte `from`, up to and including `last` or to its end.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or netboot does not deliver ranges.
    pub async fn open(&self, path: &str, from: u64, last: Option<u64>) -> Result<Body> {
        match self {
            Self::Store(netboot) => get(netboot.http(), &self.place(path), from, last).await,
            Self::Mirror(http, _) => get(http, &self.place(path), from, last).await,
            Self::Folder(folder) => {
                let inside = Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
                ensure!(inside, "{path} is no path inside the repository");
                let path = folder.join(path);
                let mut file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
                file.seek(SeekFrom::Start(from))?;
                Ok(Body::File(file, last.map_or(u64::MAX, |last| last.saturating_sub(from).saturating_add(1))))
            }
        }
    }
}

async fn get(http: &reqwest::Client, url: &str, from: u64, last: Option<u64>) -> Result<Body> {
    let last = last.map_or(String::new(), |last| last.to_string());
    let request = http.get(url).header("Range", format!("bytes={from}-{last}"));
    let answer = request.send().await?.error_for_status()?;
    ensure!(answer.status().as_u16() == 206, "{url} does not deliver ranges");
    Ok(Body::Http(answer))
}

/// Bytes that are coming.
#[derive(Debug)]
pub enum Body {
    /// Over HTTP.
    Http(reqwest::Response),
    /// From a file, at most so many more.
    File(File, u64),
}

impl Body {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When reading broke off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Http(answer) => Ok(answer.chunk().await?),
            Self::File(file, left) => {
                let mut part = vec![0; usize::try_from(*left).unwrap_or(PART).min(PART)];
                // A stick may take its time over a bad spot.
                let length = tokio::task::block_in_place(|| file.read(&mut part));
                // Without the system's number: a bad stick is no word about the disk.
                let length = length.map_err(|error| anyhow!("reading the medium: {error}"))?;
                part.truncate(length);
                *left -= length as u64;
                Ok((length > 0).then(|| part.into()))
            }
        }
    }
}
