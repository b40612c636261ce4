//! Unpacks the root of an image: archive to EROFS, EROFS to a folder.

use crate::{
    process,
    sandbox::{self, Apart},
};
use anyhow::{Context as _, Result, ensure};
use bitar::archive_reader::IoReader;
use contracts::manifest::ImageManifest;
use futures_util::StreamExt as _;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// Unpacks an image's root below `folder`, with programs of image-builder's tools tree.
///
/// # Errors
/// When the archive or the file system in it cannot be read.
pub async fn unpack(repository: &Path, manifest: &ImageManifest, tools: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let image = folder.join("root.erofs");
    restore(&repository.join(&manifest.archive.path), manifest.root.data_bytes, &image).await?;
    let script =
        "mount --bind \"$1\" \"$2/work\" && exec chroot \"$2\" fsck.erofs --extract=/work/root /work/root.erofs";
    let mut command = sandbox::command(Apart::Build, "sh".as_ref());
    command.args(["-c", script, "sh"]).arg(folder).arg(tools);
    process::output(&mut command).context("unpacking the root")?;
    fs::remove_file(&image).with_context(|| format!("removing {}", image.display()))
}

/// Puts the first bytes of an archive's source together.
async fn restore(archive: &Path, bytes: u64, to: &Path) -> Result<()> {
    let file = tokio::fs::File::open(archive).await.with_context(|| format!("opening {}", archive.display()))?;
    let read = bitar::Archive::try_init(IoReader::new(file)).await;
    let mut archive = read.map_err(|error| anyhow::anyhow!("reading the archive: {error}"))?;
    let out = File::create(to).with_context(|| format!("creating {}", to.display()))?;
    let index = archive.build_source_index();
    let mut places = std::collections::HashMap::<Vec<u8>, Vec<u64>>::new();
    for (at, chunk) in archive.iter_source_chunks() {
        places.entry(chunk.checksum.to_vec()).or_default().push(at);
    }
    let length = archive.chunk_hash_length();
    let mut stream = archive.chunk_stream(&index);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| anyhow::anyhow!("reading a chunk: {error}"))?;
        let chunk = chunk.decompress().context("unpacking a chunk")?.verify().context("checking a chunk")?;
        let mut hash = chunk.hash().to_vec();
        hash.truncate(length);
        for at in places.get(&hash).into_iter().flatten() {
            out.write_all_at(chunk.data(), *at).with_context(|| format!("writing {}", to.display()))?;
        }
    }
    let whole = out.metadata().map(|meta| meta.len()).context("looking at the root")?;
    ensure!(whole >= bytes, "the archive has {whole} bytes, the root {bytes}");
    out.set_len(bytes).with_context(|| format!("cutting {}", to.display()))
}
