//! What starts an image: the hash tree over its root, the initrd, the signed UKI with the root hash, the files for BIOS machines.

use crate::{
    bios,
    cache::Cache,
    files,
    initrd::{self, Sizes},
    keys::Keys,
    pipeline::{BuildError, check_size},
    report::{Reporter, Silent},
    root_image::{self, RootImage, Seeds},
    roots::Root,
    tools::Tools,
    uki,
};
use contracts::manifest::TrustFloor;
use std::path::{Path, PathBuf};

/// The kernel unpacks the initrd into memory beside the boot image. A machine needs about four times the unpacked
/// size and 170 MB; the smallest one has 1 GiB, and the agent wants its share.
const MAX_INITRD_UNPACKED: u64 = 120 << 20;

/// What firmware fetches over TFTP, at 3 to 4 MB/s on real machines.
const MAX_UKI: u64 = 64 << 20;

/// What it is made of, beside the EROFS image in the work folder.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The image tools.
    pub tools: &'a Tools,
    /// The root with its kernel.
    pub root: &'a Root,
    /// Who signs.
    pub keys: &'a Keys,
    /// The agent.
    pub agent: &'a Path,
    /// What nothing may be older than.
    pub floor: &'a TrustFloor,
    /// The template's arguments for the kernel.
    pub arguments: &'a [String],
}

/// All of it, as files in the work folder.
#[derive(Debug)]
pub struct Made {
    /// The root with its hash tree.
    pub image: RootImage,
    /// The signed programs.
    pub signed: uki::Signed,
    /// Bytes of the UKI.
    pub uki_bytes: u64,
    /// Bytes of the whole initrd.
    pub initrd: Sizes,
    /// The files for BIOS machines.
    pub bios: bios::Made,
}

/// Makes it. `meanwhile` is called with the root's hash and the archives of the initrd while another program joins the boot image:
/// for work of this process that needs no more than that.
///
/// # Errors
/// See [`BuildError`].
pub async fn make<T>(
    cache: &Cache,
    sources: &Sources<'_>,
    work: &Path,
    seeds: &Seeds,
    meanwhile: impl FnOnce(&str, &[PathBuf]) -> Result<T, BuildError>,
    reporter: &mut dyn Reporter,
) -> Result<(Made, T), BuildError> {
    let tools = sources.tools;
    // Only the boot image itself waits for the root hash.
    let beside = async {
        let base = initrd::base(cache, tools, sources.root, &mut Silent).await.map_err(BuildError::Initrd)?;
        let agent = initrd::agent(cache, sources.agent, &mut Silent).await.map_err(BuildError::Initrd)?;
        let bios = bios::make(tools, work, &mut Silent).await.map_err(BuildError::Bios)?;
        Ok::<_, BuildError>((base, agent, bios))
    };
    let (image, beside) = tokio::join!(root_image::make_hashes(tools, work, seeds, reporter), beside);
    let (image, (base, agent, bios)) = (image.map_err(BuildError::RootImage)?, beside?);
    let trust_root = files::read(&sources.keys.root_json())?;
    let own = initrd::own(work, &trust_root, sources.floor).map_err(BuildError::Initrd)?;
    let sum = |of: fn(&Sizes) -> u64| [&base.sizes, &agent.sizes, &own].into_iter().map(of).sum();
    let initrd = Sizes { packed: sum(|sizes| sizes.packed), unpacked: sum(|sizes| sizes.unpacked) };
    check_size("unpacked initrd", initrd.unpacked, MAX_INITRD_UNPACKED)?;
    let initrds = [base.path, agent.path, work.join(initrd::OWN)];
    let parts = uki::Parts {
        root: sources.root,
        initrds: &initrds,
        root_hash: &image.root.root_hash,
        arguments: sources.arguments,
    };
    // The first one is polled first: ukify runs by the time that the second one keeps this thread busy.
    let joining = uki::make(tools, work, &parts, sources.keys, reporter);
    let (signed, other) = tokio::join!(biased; joining, async { meanwhile(&image.root.root_hash, &initrds) });
    let (signed, other) = (signed.map_err(BuildError::Uki)?, other?);
    let uki_bytes = files::length(&signed.uki)?;
    check_size("boot image", uki_bytes, MAX_UKI)?;
    Ok((Made { image, signed, uki_bytes, initrd, bios }, other))
}
