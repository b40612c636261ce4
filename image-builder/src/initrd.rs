//! The initrd: the agent as `/init`, seven of Debian's tools with their libraries, drivers, and the roots of trust.
//! No shell, no systemd, no udev.

use crate::{
    cache::Cache,
    command::CommandError,
    elf::{self, ElfError},
    files::{self, FileError, InputHash, at},
    modules,
    report::{Reporter, Silent},
    roots::Root,
    tools::{Tools, WORK},
};
use contracts::manifest::TrustFloor;
use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The tools, by their place in the initrd and in the tools tree.
const TOOLS: [&str; 7] = [
    "usr/bin/systemd-cryptenroll",
    "usr/sbin/blkid",
    "usr/sbin/cryptsetup",
    "usr/sbin/mkfs.ext4",
    "usr/sbin/mkfs.vfat",
    "usr/sbin/modprobe",
    "usr/sbin/veritysetup",
];

/// Libraries that no ELF header names: cryptsetup and systemd-cryptenroll open them when they speak with a TPM
/// (docs/state-encryption.md).
const OPENED_BY_NAME: [&str; 5] = [
    "usr/lib/x86_64-linux-gnu/cryptsetup/libcryptsetup-token-systemd-tpm2.so",
    "usr/lib/x86_64-linux-gnu/libtss2-esys.so.0",
    "usr/lib/x86_64-linux-gnu/libtss2-mu.so.0",
    "usr/lib/x86_64-linux-gnu/libtss2-rc.so.0",
    "usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0",
];

/// Mount points, and the folders of a merged /usr. The kernel starts `/sbin/modprobe`, programs ask for `/lib64`.
const FOLDERS: [&str; 8] = ["dev", "etc", "proc", "run", "state", "sys", "sysroot", "tmp"];
const LINKS: [(&str, &str); 4] = [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")];

/// Good compression in a few seconds; the kernel unpacks every level at the same speed.
const ZSTD_LEVEL: i32 = 9;
const WORKERS: u32 = 4;

/// The file of [`own`] in the work folder.
pub const OWN: &str = "own.zst";

/// Raised when this module makes another archive from the same inputs.
const RECIPE: &str = "4";

/// One thing in the initrd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A folder.
    Folder,
    /// A link and where it points.
    Link(String),
    /// A file with this mode and content.
    File(u32, Vec<u8>),
    /// A file with this mode; its content lies on the host.
    Copy(u32, PathBuf),
}

/// The initrd's content by path, without a leading `/`. Sorted, so that equal contents make equal archives.
pub type Entries = BTreeMap<String, Entry>;

/// Why there is no initrd.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program of the tools tree cannot be taken over.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The agent could not run: nothing in an initrd would load it.
    #[error("the agent {} needs the dynamic linker {linker}, but the initrd has no libraries for it", path.display())]
    DynamicAgent {
        /// Which file.
        path: PathBuf,
        /// What it asks for.
        linker: String,
    },
    /// The trust floor could not be written as JSON.
    #[error("cannot write the trust floor as JSON")]
    Json(#[source] serde_json::Error),
    /// cpio's newc format has 32-bit sizes.
    #[error("{0} is too long for a cpio archive")]
    TooLong(String),
}

/// Bytes of an initrd, as packed and as the kernel unpacks it.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Compressed.
    pub packed: u64,
    /// Uncompressed.
    pub unpacked: u64,
}

/// A part that the cache keeps.
#[derive(Debug)]
pub struct Part {
    /// The archive.
    pub path: PathBuf,
    /// Its bytes.
    pub sizes: Sizes,
}

/// Refuses an agent that could not run as `/init`.
///
/// # Errors
/// See [`InitrdError`].
pub fn check_agent(path: &Path) -> Result<(), InitrdError> {
    let needs = elf::needs(&files::read(path)?).ok_or_else(|| ElfError::NotElf(path.to_owned()))?;
    match needs.interpreter {
        Some(linker) => Err(InitrdError::DynamicAgent { path: path.to_owned(), linker }),
        None => Ok(()),
    }
}

/// Takes the base from the cache or makes it: tools, libraries, drivers. It is the same in every image with this kernel and these
/// tools. The kernel unpacks several archives, one after the other (Linux,
/// Documentation/driver-api/early-userspace/buffer-format.rst).
///
/// # Errors
/// See [`InitrdError`].
pub async fn base(cache: &Cache, tools: &Tools, root: &Root, reporter: &mut dyn Reporter) -> Result<Part, InitrdError> {
    let inputs = InputHash::default().with("recipe", RECIPE).with("tools", tools.key()).with("root", &root.key);
    let inputs = inputs.with("modules", modules::recipe());
    kept(
        cache,
        &inputs.finish(),
        async |scratch| {
            stage_modules(tools, scratch, root, &mut Silent).await?;
            let mut entries = Entries::new();
            for (path, target) in LINKS {
                entries.insert(path.into(), Entry::Link(target.into()));
            }
            let ours = || TOOLS.into_iter().chain(OPENED_BY_NAME);
            let programs: Vec<PathBuf> = ours().map(|tool| tools.path().join(tool)).collect();
            for (tool, path) in ours().zip(&programs) {
                entries.insert(tool.into(), Entry::Copy(0o755, path.clone()));
            }
            for (path, library) in elf::libraries(tools.path(), &programs)? {
                entries.insert(path, Entry::Copy(0o755, library));
            }
            // Which features mkfs.ext4 turns on; the same file that the installed system has.
            entries.insert("etc/mke2fs.conf".into(), Entry::Copy(0o644, tools.path().join("etc/mke2fs.conf")));
            // Where mkfs looks whether its device is mounted.
            entries.insert("etc/mtab".into(), Entry::Link("../proc/self/mounts".into()));
            add_tree(&mut entries, &scratch.join("modules"), "")?;
            Ok(entries)
        },
        reporter,
    )
    .await
}

/// Takes the agent, as `/init`, from the cache or packs it.
///
/// # Errors
/// See [`InitrdError`].
pub async fn agent(cache: &Cache, agent: &Path, reporter: &mut dyn Reporter) -> Result<Part, InitrdError> {
    let key = InputHash::default().with("recipe", RECIPE).with("agent", files::sha256(agent)?).finish();
    let entry = Entry::Copy(0o755, agent.to_owned());
    kept(cache, &key, async |_| Ok(Entries::from([("init".to_owned(), entry)])), reporter).await
}

/// Makes `own.zst` in the work folder: what differs between any two images, the root of trust and its floor.
///
/// # Errors
/// See [`InitrdError`].
pub fn own(work: &Path, trust_root: &[u8], floor: &TrustFloor) -> Result<Sizes, InitrdError> {
    let mut entries = Entries::new();
    entries.insert("etc/shelfboot/root.json".into(), Entry::File(0o644, trust_root.to_vec()));
    let floor = serde_json::to_vec_pretty(floor).map_err(InitrdError::Json)?;
    entries.insert("etc/shelfboot/trust.json".into(), Entry::File(0o644, floor));
    add_folders(&mut entries);
    pack(&entries, &work.join(OWN))
}

/// Takes an archive from the cache, or packs what `collect` finds, which has a scratch folder.
async fn kept(
    cache: &Cache,
    key: &str,
    collect: impl AsyncFnOnce(&Path) -> Result<Entries, InitrdError>,
    reporter: &mut dyn Reporter,
) -> Result<Part, InitrdError> {
    let made = |place: PathBuf| {
        let path = place.join("initrd.zst");
        let unpacked = String::from_utf8_lossy(&files::read(&place.join("unpacked"))?).trim().parse().unwrap_or(0);
        Ok(Part { sizes: Sizes { packed: files::length(&path)?, unpacked }, path })
    };
    let place = cache.tree("initrds", key);
    if place.is_dir() {
        return made(place);
    }
    let claim = cache.claim("initrds", key, reporter).await?;
    if place.is_dir() {
        return made(place);
    }
    let scratch = cache.temporary()?;
    let mut entries = collect(scratch.path()).await?;
    add_folders(&mut entries);
    let folder = scratch.path().join("made");
    files::create_folder(&folder)?;
    let packed = folder.join("initrd.zst");
    let packing = tokio::task::spawn_blocking(move || pack(&entries, &packed));
    let sizes = packing.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    files::write(&folder.join("unpacked"), sizes.unpacked.to_string().as_bytes(), 0o644)?;
    made(cache.publish(&folder, "initrds", key, &claim)?)
}

fn pack(entries: &Entries, place: &Path) -> Result<Sizes, InitrdError> {
    let file = fs::File::create(place).map_err(at("write", place))?;
    let mut encoder = zstd::Encoder::new(io::BufWriter::new(file), ZSTD_LEVEL).map_err(at("write", place))?;
    // The bytes depend on there being workers, not on how many (zstd.h, ZSTD_c_nbWorkers).
    encoder.multithread(WORKERS).map_err(at("write", place))?;
    let unpacked = write_archive(entries, &mut encoder)?;
    encoder.finish().and_then(|mut file| file.flush()).map_err(at("write", place))?;
    Ok(Sizes { packed: files::length(place)?, unpacked })
}

/// Copies the chosen modules to `modules/` in the work folder, unpacks them and writes their indexes anew. They
/// are unpacked because unpacking xz module by module would take seconds of the machine's only busy core; the
/// initrd as a whole is compressed anyway.
async fn stage_modules(
    tools: &Tools,
    work: &Path,
    root: &Root,
    reporter: &mut dyn Reporter,
) -> Result<(), InitrdError> {
    let from = root.path.join("usr/lib/modules").join(&root.kernel);
    let stage = work.join("modules");
    files::remove(&stage)?;
    let to = stage.join("usr/lib/modules").join(&root.kernel);
    let text = |name: &str| files::read(&from.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let chosen = modules::select(&text("modules.dep")?, &text("modules.softdep")?);
    let lists = ["modules.builtin", "modules.builtin.modinfo", "modules.order"].map(str::to_owned);
    for path in chosen.iter().chain(&lists) {
        files::write(&to.join(path), &files::read(&from.join(path))?, 0o644)?;
    }
    // depmod looks below /lib.
    let lib = stage.join("lib");
    std::os::unix::fs::symlink("usr/lib", &lib).map_err(at("link", &lib))?;
    let sandbox = tools.sandbox(work);
    let unpack = format!("find {WORK}/modules -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P 2 xz --decompress");
    sandbox.run(reporter, "sh", &["-c", &unpack]).await?;
    sandbox.run(reporter, "depmod", &["-b", &format!("{WORK}/modules"), &root.kernel]).await?;
    files::remove(&lib)?;
    Ok(())
}

/// Adds every file and link below a folder of the host.
fn add_tree(entries: &mut Entries, folder: &Path, below: &str) -> Result<(), InitrdError> {
    for entry in fs::read_dir(folder).map_err(at("list", folder))? {
        let path = entry.map_err(at("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let inside = if below.is_empty() { name.into_owned() } else { format!("{below}/{name}") };
        if path.is_dir() {
            add_tree(entries, &path, &inside)?;
        } else {
            let mode = path.metadata().map_err(at("look at", &path))?.permissions().mode() & 0o777;
            entries.insert(inside, Entry::Copy(mode, path));
        }
    }
    Ok(())
}

/// Adds the mount points and every folder that something lies in.
fn add_folders(entries: &mut Entries) {
    let mut folders: Vec<String> = FOLDERS.iter().map(|folder| (*folder).to_owned()).collect();
    for path in entries.keys() {
        let mut rest = path.as_str();
        while let Some((folder, _)) = rest.rsplit_once('/') {
            folders.push(folder.to_owned());
            rest = folder;
        }
    }
    for folder in folders {
        entries.entry(folder).or_insert(Entry::Folder);
    }
}

/// Writes a newc archive: sorted, owned by root, dated 1970. Returns its length.
///
/// # Errors
/// [`InitrdError::File`] and [`InitrdError::TooLong`].
pub fn write_archive(entries: &Entries, out: &mut impl Write) -> Result<u64, InitrdError> {
    let mut out = Counted { inner: out, bytes: 0 };
    for (inode, (path, entry)) in (1u32..).zip(entries) {
        let (mode, content) = match entry {
            Entry::Folder => (0o040_755, Vec::new()),
            Entry::Link(target) => (0o120_777, target.clone().into_bytes()),
            Entry::File(mode, content) => (0o100_000 | mode, content.clone()),
            Entry::Copy(mode, host) => (0o100_000 | mode, files::read(host)?),
        };
        let length = u32::try_from(content.len()).map_err(|_| InitrdError::TooLong(path.clone()))?;
        let builder = cpio::newc::Builder::new(path).ino(inode).mode(mode);
        let mut writer = builder.write(&mut out, length);
        let written = writer.write_all(&content).and_then(|()| writer.finish());
        written.map_err(at("pack", Path::new(path)))?;
    }
    cpio::newc::trailer(&mut out).map_err(at("pack", Path::new("the archive's end")))?;
    Ok(out.bytes)
}

struct Counted<'a, W> {
    inner: &'a mut W,
    bytes: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Entries {
        let mut entries = Entries::new();
        entries.insert("usr/sbin/tool".into(), Entry::File(0o755, b"program".to_vec()));
        entries.insert("sbin".into(), Entry::Link("usr/sbin".into()));
        add_folders(&mut entries);
        entries
    }

    #[test]
    fn equal_contents_make_equal_archives() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let length = write_archive(&entries(), &mut one).unwrap();
        write_archive(&entries(), &mut two).unwrap();
        assert_eq!(one, two);
        assert_eq!(length, one.len() as u64);
    }

    #[test]
    fn folders_come_before_what_lies_in_them() {
        let mut bytes = Vec::new();
        write_archive(&entries(), &mut bytes).unwrap();
        let (mut rest, mut listing) = (&bytes[..], String::new());
        loop {
            let reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            listing += &format!("{:o} {} {}\n", reader.entry().mode(), reader.entry().mtime(), reader.entry().name());
            rest = reader.finish().unwrap();
        }
        insta::assert_snapshot!(listing);
    }

    #[test]
    fn a_dynamic_agent_is_refused() {
        // A test program is linked dynamically unless the target is static altogether.
        let this = std::env::current_exe().unwrap();
        let dynamic = elf::needs(&fs::read(&this).unwrap()).unwrap().interpreter.is_some();
        assert_eq!(matches!(check_agent(&this), Err(InitrdError::DynamicAgent { .. })), dynamic);
    }
}
