//! A store: a signed repository with one small image, served over HTTP by a server that lies on demand.

use crate::tuf::{Signer, sha256};
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Response, Uri},
};
use bitar::{
    Compression,
    api::compress::{CreateArchiveOptions, create_archive},
    chunker,
};
use bytes::Bytes;
use contracts::{
    VERSION,
    assignment::ImageRef,
    manifest::{Archive, Channel, ImageManifest, RoleVersions, Root, Staleness, TrustFloor},
};
use firstboot_agent::{
    install::{archive, repository::Repository, source::Source},
    net::client::Netboot,
    report::Reporter,
};
use futures_util::StreamExt;
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tempfile::TempDir;

const DATA: usize = 768 << 10;
const TREE: usize = 16 << 10;

/// How a served file is changed.
#[derive(Clone)]
pub(crate) enum Lie {
    /// One byte at this place, counted from the end when negative.
    Flip(i64),
    /// This instead of the file.
    Replace(Vec<u8>),
    /// More bytes behind the file.
    Append(usize),
    /// Bytes without an end.
    Endless,
}

pub(crate) struct Shop {
    folder: TempDir,
    pub(crate) signer: Signer,
    pub(crate) manifest: ImageManifest,
    source: Vec<u8>,
    pub(crate) floor: TrustFloor,
}

/// What came of an install.
pub(crate) struct Outcome {
    pub(crate) result: anyhow::Result<()>,
    /// Bytes that the server got rid of.
    pub(crate) sent: u64,
    /// What is where the root should be.
    pub(crate) disk: Vec<u8>,
}

impl Outcome {
    /// The error with all its causes, as the console shows it.
    pub(crate) fn error(&self) -> String {
        format!("{:#}", self.result.as_ref().expect_err("the install should have been refused"))
    }
}

impl Shop {
    pub(crate) async fn new() -> Self {
        Self::with(DATA, 32 << 10).await
    }

    /// With an image of many runs, whose chunks end nowhere in particular.
    pub(crate) async fn large() -> Self {
        Self::with(12 << 20, 30_001).await
    }

    async fn with(data: usize, chunk: usize) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        // Half of it compresses well, half of it hardly: both kinds of chunks occur.
        let noise = (0..data as u32 / 2).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ (n >> 9) as u8);
        let text = b"all that glitters is not gold; ".iter().copied().cycle().take(data / 2 + TREE);
        let source: Vec<u8> = noise.chain(text).collect();
        let archive = pack_in(&source, &folder.path().join("archive"), chunk).await;
        fs::create_dir_all(folder.path().join("archives")).unwrap();
        fs::rename(folder.path().join("archive"), folder.path().join(&archive.path)).unwrap();
        let manifest = ImageManifest {
            bios: None,
            version: VERSION,
            template: "k8s-worker".into(),
            image_version: "1".into(),
            architecture: "x86_64".into(),
            root: Root { data_bytes: data as u64, hash_bytes: TREE as u64, root_hash: "0".repeat(64) },
            archive,
            uki: "images/k8s-worker/1/uki.efi".into(),
            boot_loader: "boot".into(),
            registrar_ca: "ca".into(),
            disks: contracts::disks::DiskPolicy::default(),
            state: Default::default(),
        };
        let roles = RoleVersions { targets: 5, snapshot: 5, timestamp: 5 };
        let floor = TrustFloor {
            version: VERSION,
            built_at: time::OffsetDateTime::UNIX_EPOCH,
            roles,
            staleness: Staleness::default(),
        };
        let shop = Self { folder, signer: Signer::new(), manifest, source, floor };
        shop.publish(5, &shop.manifest);
        shop
    }

    /// Signs a state of the repository with this manifest.
    pub(crate) fn publish(&self, version: u64, manifest: &ImageManifest) {
        let manifest = serde_json::to_vec(manifest).unwrap();
        let channel = serde_json::to_vec(&Channel { version: VERSION, image_version: "1".into() }).unwrap();
        let files: [(&str, &[u8]); 3] = [
            ("images/k8s-worker/1/manifest.json", &manifest),
            ("images/k8s-worker/1/uki.efi", &[7; 5000]),
            ("channels/k8s-worker/stable.json", &channel),
        ];
        self.signer.publish(self.folder.path(), version, &files);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Installs while the files whose path holds `of` are served with a lie. Fetches the UKI at last, as the
    /// journey does.
    pub(crate) async fn install(&self, of: &str, lie: Option<Lie>) -> Outcome {
        let sent = Arc::new(AtomicU64::new(0));
        let base = serve(self.folder.path().to_owned(), of.to_owned(), lie, sent.clone()).await;
        self.install_from(&Source::Store(Netboot::new(&base).unwrap()), &sent).await
    }

    /// Serves it honestly; gives the address.
    pub(crate) async fn serve(&self) -> String {
        serve(self.folder.path().to_owned(), String::new(), None, Arc::default()).await
    }

    /// The same from a folder: an offline medium.
    pub(crate) async fn install_from_medium(&self) -> Outcome {
        self.install_from(&Source::Folder(self.folder.path().to_owned()), &AtomicU64::new(0)).await
    }

    async fn install_from(&self, source: &Source, sent: &AtomicU64) -> Outcome {
        let disk = tempfile::tempdir().unwrap();
        let (data, tree) = (disk.path().join("data"), disk.path().join("tree"));
        fs::write(&data, []).unwrap();
        fs::write(&tree, []).unwrap();
        let work = async {
            let reporter = Reporter::new(uuid::Uuid::new_v4());
            let repository = Repository::load(source, &self.signer.root(), &self.floor).await?;
            let image = ImageRef { template: "k8s-worker".into(), channel: "stable".into(), version: None };
            let manifest = repository.manifest(&image).await?;
            archive::install(&reporter, std::slice::from_ref(source), &manifest, &data, &tree).await?;
            repository.target(&manifest.uki).await?;
            anyhow::Ok(())
        };
        let result = work.await;
        let disk = [fs::read(data).unwrap(), fs::read(tree).unwrap()].concat();
        Outcome { result, sent: sent.load(Ordering::Relaxed), disk }
    }

    /// The whole source, as it must be on the disk in the end.
    pub(crate) fn source(&self) -> &[u8] {
        &self.source
    }
}

/// Two partitions that stay, with room for a journal.
pub(crate) struct Disk {
    _folder: TempDir,
    pub(crate) data: PathBuf,
    pub(crate) tree: PathBuf,
}

impl Disk {
    pub(crate) fn new(shop: &Shop) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, tree) = (folder.path().join("data"), folder.path().join("tree"));
        // A used disk.
        fs::write(&data, vec![0xee; shop.source.len()]).unwrap();
        fs::write(&tree, vec![0xee; TREE + (2 << 20)]).unwrap();
        Self { _folder: folder, data, tree }
    }

    /// Installs from these sources, each of which may lie about files whose path holds the word beside it.
    pub(crate) async fn install(
        &self,
        shop: &Shop,
        sources: &[(Option<Lie>, &str)],
    ) -> anyhow::Result<archive::Installed> {
        let mut served = Vec::new();
        for (lie, of) in sources {
            let folder = shop.folder.path().to_owned();
            let base = serve(folder, (*of).to_owned(), lie.clone(), Arc::default()).await;
            served.push(Source::Store(Netboot::new(&base).unwrap()));
        }
        let reporter = Reporter::new(uuid::Uuid::new_v4());
        archive::install(&reporter, &served, &shop.manifest, &self.data, &self.tree).await
    }

    /// What lies where the image should be.
    pub(crate) fn content(&self, shop: &Shop) -> Vec<u8> {
        let (data, tree) = (fs::read(&self.data).unwrap(), fs::read(&self.tree).unwrap());
        let data_bytes = usize::try_from(shop.manifest.root.data_bytes).unwrap();
        [&data[..data_bytes], &tree[..shop.source.len() - data_bytes]].concat()
    }
}

/// Packs an archive in small chunks.
pub(crate) async fn pack(source: &[u8], path: &std::path::Path) -> Archive {
    pack_in(source, path, 32 << 10).await
}

async fn pack_in(source: &[u8], path: &std::path::Path, chunk: usize) -> Archive {
    let options = CreateArchiveOptions {
        chunker_config: chunker::Config::FixedSize(chunk),
        chunk_hash_length: 32,
        compression: Some(Compression::zstd(3).unwrap()),
        ..CreateArchiveOptions::default()
    };
    let output = tokio::fs::File::create(path).await.unwrap();
    let result = create_archive(source, output, &options).await.unwrap();
    let chunks: u64 = result.header.chunk_descriptors.iter().map(|chunk| u64::from(chunk.archive_size)).sum();
    let bytes = fs::read(path).unwrap();
    let header = &bytes[..bytes.len() - usize::try_from(chunks).unwrap()];
    Archive {
        path: format!("archives/{}.bita", sha256(header)),
        header_bytes: header.len() as u64,
        header_sha256: sha256(header),
        bytes: bytes.len() as u64,
    }
}

async fn serve(folder: PathBuf, of: String, lie: Option<Lie>, sent: Arc<AtomicU64>) -> String {
    let lie = Arc::new(lie);
    let answer = move |uri: Uri, headers: HeaderMap| {
        let path = uri.path().trim_start_matches("/repo/").to_owned();
        let lie = if path.contains(&of) { lie.clone() } else { Arc::new(None) };
        let sent = sent.clone();
        let file = fs::read(folder.join(&path));
        async move {
            let Ok(mut bytes) = file else { return Response::builder().status(404).body(Body::empty()).unwrap() };
            match lie.as_ref() {
                None => {}
                Some(Lie::Flip(at)) => {
                    let length = i64::try_from(bytes.len()).unwrap();
                    bytes[usize::try_from(at.rem_euclid(length)).unwrap()] ^= 1;
                }
                Some(Lie::Replace(other)) => bytes.clone_from(other),
                Some(Lie::Append(more)) => bytes.resize(bytes.len() + more, b' '),
                Some(Lie::Endless) => {
                    let parts = futures_util::stream::repeat_with(move || {
                        sent.fetch_add(64 << 10, Ordering::Relaxed);
                        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 64 << 10]))
                    });
                    let status = if headers.contains_key("range") { 206 } else { 200 };
                    return Response::builder().status(status).body(Body::from_stream(parts.boxed())).unwrap();
                }
            }
            sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let range =
                headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
            let Some((first, last)) = range else { return Response::new(Body::from(bytes)) };
            let first: usize = first.parse().unwrap();
            let end = last.parse::<usize>().map_or(bytes.len(), |last| bytes.len().min(last + 1));
            Response::builder().status(206).body(Body::from(bytes[first.min(end)..end].to_vec())).unwrap()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    base
}
