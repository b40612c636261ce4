//! Fetching one object from one upstream: taken up where it broke off, judged before it gets its name.

use super::{
    delta::{self, Step},
    fetch::{Body, FetchError, Fetcher},
    folder::{Folder, FolderError, at, tag_of},
    progress::Progress,
    want::{Judge, Object},
};
use contracts::{
    archive::{self, Chunk, check_chunk},
    manifest::Archive,
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};
use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWriteExt,
};
use url::Url;

const PIECE: usize = 128 << 10;

/// Why an object is not here.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The line, or the server.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The file ends before its end.
    #[error("{0} ends after {1} of {2} bytes")]
    Short(String, u64, u64),
    /// Other bytes than were signed.
    #[error("{0} has other bytes than were signed: {1}")]
    Lied(String, String),
    /// What was signed makes no sense: no upstream can help.
    #[error("the archive {0} cannot be used: {1}")]
    Image(String, String),
    /// Our own disk.
    #[error(transparent)]
    Disk(#[from] FolderError),
}

/// Where an object comes from and goes to.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The client.
    pub fetcher: &'a Fetcher,
    /// The upstream.
    pub base: &'a Url,
    /// The cache.
    pub folder: &'a Folder,
    /// Told about every byte.
    pub progress: &'a Progress,
}

impl Way<'_> {
    /// Fetches an object. `earlier` are archives that may have some of its chunks.
    ///
    /// # Errors
    /// See [`DownloadError`]. What has come stays, for the next try.
    pub async fn fetch(self, object: &Object, earlier: Vec<PathBuf>) -> Result<(), DownloadError> {
        match &object.judge {
            Judge::Whole(digest) => self.whole(object, *digest).await,
            Judge::Chunks(archive) => self.archive(object, archive, earlier).await,
        }
    }

    async fn open(self, object: &Object, range: (u64, Option<u64>), etag: Option<&str>) -> Result<Body, FetchError> {
        match (self.fetcher.open(self.base, &object.path, range, etag).await, &object.other) {
            (Err(FetchError::Missing(_)), Some(other)) => self.fetcher.open(self.base, other, range, etag).await,
            (opened, _) => opened,
        }
    }

    async fn whole(self, object: &Object, digest: [u8; 32]) -> Result<(), DownloadError> {
        let partial = self.folder.partial(object);
        loop {
            let mut have = fs::metadata(&partial).map_or(0, |found| found.len());
            if have > object.bytes {
                fs::remove_file(&partial).map_err(at("remove", &partial))?;
                have = 0;
            }
            let resumed = have > 0;
            self.progress.have(have);
            let mut hasher = hash_of(&partial, have).await?;
            if have < object.bytes {
                let tag = fs::read_to_string(tag_of(&partial)).unwrap_or_default();
                let tag = tag.strip_prefix(self.base.as_str()).map(str::trim).filter(|tag| !tag.is_empty());
                let mut body = self.open(object, (have, None), tag.filter(|_| resumed)).await?;
                let mut file = open_at(&partial, body.at).await?;
                if body.at == 0 && have > 0 {
                    (have, hasher) = (0, Sha256::new());
                    self.progress.have(0);
                }
                let tag = format!("{}\n{}", self.base, body.etag.clone().unwrap_or_default());
                fs::write(tag_of(&partial), tag).map_err(at("write", &tag_of(&partial)))?;
                while let Some(piece) = body.next().await? {
                    have += piece.len() as u64;
                    if have > object.bytes {
                        let _ = fs::remove_file(&partial);
                        let why = format!("it is longer than {} bytes", object.bytes);
                        return Err(DownloadError::Lied(body.name().to_owned(), why));
                    }
                    hasher.update(&piece);
                    file.write_all(&piece).await.map_err(at("write", &partial))?;
                    self.progress.fetched(piece.len() as u64);
                }
                file.flush().await.map_err(at("write", &partial))?;
                if have < object.bytes {
                    return Err(DownloadError::Short(body.name().to_owned(), have, object.bytes));
                }
            }
            if hasher.finalize()[..] == digest {
                return Ok(self.folder.keep(&partial, object)?);
            }
            fs::remove_file(&partial).map_err(at("remove", &partial))?;
            // What lay there may be another upstream's, or what a power cut left: only a file from one hand is a lie.
            if !resumed {
                let name = format!("{}{}", self.base, object.path);
                return Err(DownloadError::Lied(name, "its SHA-256 is another one".into()));
            }
        }
    }

    async fn archive(self, object: &Object, archive: &Archive, earlier: Vec<PathBuf>) -> Result<(), DownloadError> {
        let partial = self.folder.partial(object);
        let header = self.header(object, archive, &partial).await?;
        let unusable = |why: String| DownloadError::Image(object.path.clone(), why);
        let chunks = archive::read_header(&header).map_err(unusable)?.chunks;
        let end = chunks.last().map_or(header.len() as u64, |last| last.at + u64::from(last.stored));
        if end != archive.bytes {
            return Err(unusable(format!("its chunks end at byte {end}, its manifest says {}", archive.bytes)));
        }
        let blocking = {
            let partial = partial.clone();
            tokio::task::spawn_blocking(move || {
                let good = good_chunks(&partial, &chunks)?;
                let known = delta::Known::read(earlier, &chunks[good..]);
                Ok::<_, FolderError>((good, known, chunks))
            })
        };
        let (good, mut known, chunks) = blocking.await.map_err(|error| unusable(error.to_string()))??;
        let position =
            good.checked_sub(1).map_or(header.len() as u64, |last| chunks[last].at + u64::from(chunks[last].stored));
        self.progress.have(position);
        let mut file = open_at(&partial, position).await?;
        let mut step_at = good;
        while step_at < chunks.len() {
            let step = delta::next(&chunks, step_at, |chunk| known.has(chunk));
            match step {
                Step::Copy(index) => {
                    if let Some(stored) = known.take(&chunks[index]) {
                        file.write_all(&stored).await.map_err(at("write", &partial))?;
                        self.progress.reused(stored.len() as u64);
                        step_at += 1;
                    }
                    // Otherwise the old archive is damaged there; it is forgotten, and fetched like any other.
                }
                Step::Fetch(until) => {
                    step_at = self.chunks(object, &chunks, step_at..until, &mut file, &partial).await?;
                    file.flush().await.map_err(at("write", &partial))?;
                }
            }
        }
        file.flush().await.map_err(at("write", &partial))?;
        Ok(self.folder.keep(&partial, object)?)
    }

    /// The header, from the partial file or the upstream, exactly as its manifest says.
    async fn header(self, object: &Object, archive: &Archive, partial: &Path) -> Result<Vec<u8>, DownloadError> {
        let length = usize::try_from(archive.header_bytes).unwrap_or(usize::MAX);
        let is_it = |bytes: &[u8]| hex::encode(Sha256::digest(bytes)) == archive.header_sha256;
        let mut header = Vec::new();
        if let Ok(file) = fs::File::open(partial) {
            let _ = file.take(archive.header_bytes).read_to_end(&mut header);
        }
        if header.len() == length && is_it(&header) {
            return Ok(header);
        }
        header.clear();
        let mut body = self.open(object, (0, Some(archive.header_bytes.saturating_sub(1))), None).await?;
        while header.len() < length {
            let Some(piece) = body.next().await? else {
                return Err(DownloadError::Short(body.name().to_owned(), header.len() as u64, archive.header_bytes));
            };
            header.extend_from_slice(&piece[..piece.len().min(length - header.len())]);
        }
        if !is_it(&header) {
            return Err(DownloadError::Lied(body.name().to_owned(), "its header is another one".into()));
        }
        let mut file = open_at(partial, 0).await?;
        file.write_all(&header).await.map_err(at("write", partial))?;
        file.flush().await.map_err(at("write", partial))?;
        self.progress.fetched(header.len() as u64);
        Ok(header)
    }

    /// Fetches consecutive chunks, each checked before it is written. Gives the first that is not there then.
    async fn chunks(
        self,
        object: &Object,
        chunks: &[Chunk],
        range: std::ops::Range<usize>,
        file: &mut File,
        partial: &Path,
    ) -> Result<usize, DownloadError> {
        let (first, last) = (&chunks[range.start], &chunks[range.end - 1]);
        let to = last.at + u64::from(last.stored) - 1;
        let mut body = self.open(object, (first.at, Some(to)), None).await?;
        // A server that knows no ranges sends all of it each time: then all that follows is taken at once.
        let (mut skip, until) = if body.at == first.at { (0, range.end) } else { (first.at, chunks.len()) };
        let (mut waiting, mut buffer) = (Vec::new(), Vec::new());
        let mut next = range.start;
        while next < until {
            let chunk = &chunks[next];
            let wanted = chunk.stored as usize;
            if waiting.len() < wanted {
                let Some(piece) = body.next().await? else {
                    return Err(DownloadError::Short(body.name().to_owned(), chunk.at, object.bytes));
                };
                let cut = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
                skip -= cut as u64;
                waiting.extend_from_slice(&piece[cut..]);
                continue;
            }
            let stored = &waiting[..wanted];
            if let Err(why) = check_chunk(chunk, stored, &mut buffer) {
                let why = format!("chunk {next} at byte {} {why}", chunk.at);
                return Err(DownloadError::Lied(body.name().to_owned(), why));
            }
            file.write_all(stored).await.map_err(at("write", partial))?;
            self.progress.fetched(wanted as u64);
            waiting.drain(..wanted);
            next += 1;
        }
        Ok(next)
    }
}

/// A file that is written from this byte on; what lies behind it goes.
async fn open_at(path: &Path, position: u64) -> Result<File, FolderError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).await;
    let mut file = file.map_err(at("write", path))?;
    file.set_len(position).await.map_err(at("write", path))?;
    tokio::io::AsyncSeekExt::seek(&mut file, SeekFrom::Start(position)).await.map_err(at("write", path))?;
    Ok(file)
}

/// The hash of what is there already.
async fn hash_of(path: &Path, bytes: u64) -> Result<Sha256, FolderError> {
    let mut hasher = Sha256::new();
    if bytes == 0 {
        return Ok(hasher);
    }
    let mut file = fs::File::open(path).map_err(at("read", path))?.take(bytes);
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer).map_err(at("read", path))? {
            0 => return Ok(hasher),
            length => hasher.update(&buffer[..length]),
        }
        tokio::task::yield_now().await;
    }
}

/// True when every byte of an archive is still what it was: disks forget.
#[must_use]
pub fn is_sound(path: &Path, archive: &Archive) -> bool {
    let mut header = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(archive.header_bytes).read_to_end(&mut header));
    let same = read.is_ok() && hex::encode(Sha256::digest(&header)) == archive.header_sha256;
    same && archive::read_header(&header)
        .is_ok_and(|dictionary| good_chunks(path, &dictionary.chunks).is_ok_and(|good| good == dictionary.chunks.len()))
}

/// How many chunks a partial archive has whole and good, from the first on.
fn good_chunks(path: &Path, chunks: &[Chunk]) -> Result<usize, FolderError> {
    let mut file = fs::File::open(path).map_err(at("read", path))?;
    let length = file.metadata().map_err(at("read", path))?.len();
    let Some(first) = chunks.first() else { return Ok(0) };
    file.seek(SeekFrom::Start(first.at)).map_err(at("read", path))?;
    let mut file = std::io::BufReader::with_capacity(PIECE, file);
    let (mut stored, mut buffer) = (Vec::new(), Vec::new());
    for (index, chunk) in chunks.iter().enumerate() {
        if chunk.at + u64::from(chunk.stored) > length {
            return Ok(index);
        }
        stored.resize(chunk.stored as usize, 0);
        file.read_exact(&mut stored).map_err(at("read", path))?;
        if check_chunk(chunk, &stored, &mut buffer).is_err() {
            return Ok(index);
        }
    }
    Ok(chunks.len())
}
