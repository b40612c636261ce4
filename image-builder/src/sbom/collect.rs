//! Looks at the trees that an image was made of, and at what was made of them.

use super::{
    SbomError,
    copyright::{self, Licence},
    dpkg::{self, Diversions, Installed},
    inventory::{self, Content, Distribution, Entry, Inventory, Origin, Package, Pins},
    known::Known,
    look::{Found, content, digests, in_parallel, names, read_initrd, text, walk},
    origin::{self, Beside, Written},
};
use crate::files::{FileError, at};
use profiles::{Explanation, MachineTemplate};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// Programs of the tools tree that start the image and are not in its initrd: the stub of the UKI, the boot loaders.
const STARTERS: [&str; 5] = [
    "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
    "/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
    "/usr/lib/grub/i386-pc/boot.img",
    "/usr/lib/grub/i386-pc/kernel.img",
    "/usr/lib/ipxe/undionly.kpxe",
];

/// What an inventory is taken of.
#[derive(Debug)]
pub struct Trees<'a> {
    /// The finished root.
    pub root: &'a Path,
    /// The package root that it was made from.
    pub packages: &'a Path,
    /// The tools tree.
    pub tools: &'a Path,
    /// The packed archives that the initrd consists of: the kernel unpacks one over the other.
    pub initrd: &'a [PathBuf],
    /// The agent.
    pub agent: &'a Path,
    /// What is known of the packages besides what dpkg knows.
    pub pins: &'a Pins,
    /// The template.
    pub template: &'a MachineTemplate,
    /// The same, part by part.
    pub explanation: &'a Explanation,
    /// The image's version.
    pub image_version: &'a str,
    /// The kernel's release.
    pub kernel: &'a str,
    /// The dm-verity root hash.
    pub root_hash: &'a str,
    /// The time of the build.
    pub created: OffsetDateTime,
    /// Take SHA-1 too, for SPDX.
    pub sha1: bool,
    /// Digests that were taken before, of the root that the finished one was made from.
    pub known: &'a Known,
}

/// Takes the inventory.
///
/// # Errors
/// See [`SbomError`].
pub fn collect(trees: &Trees<'_>) -> Result<Inventory, SbomError> {
    let distribution = Distribution::parse(&text(&trees.packages.join("usr/lib/os-release"))?.unwrap_or_default());
    let root = Database::read(trees.packages, trees.pins, &distribution.codename)?;
    let tools = Database::read(trees.tools, trees.pins, &distribution.codename)?;
    if root.packages.is_empty() {
        return Err(SbomError::NoPackages(trees.packages.to_owned()));
    }

    let written = Written::of(trees.template, trees.explanation);
    let mut found = Vec::new();
    walk(trees.root, Path::new(""), &mut found)?;
    let look = |Found { path, below }: &Found| -> Result<Entry, FileError> {
        let content = match trees.known.get(trees.root, below) {
            Some(digests) => Content::File(digests.clone()),
            None => content(&trees.root.join(below), trees.sha1)?,
        };
        let beside = beside(trees, below, &content)?;
        let origin = origin::origin(path, &content, root.owner(path), beside, &written);
        Ok(Entry { content, origin })
    };
    let root_entries = in_parallel(&found, look)?;

    let mut initrd = BTreeMap::new();
    for packed in trees.initrd {
        for (path, content) in read_initrd(packed, trees.sha1)? {
            let owner = |tree: &Database, path: &str| tree.owner(path).map(str::to_owned);
            let origin = origin::initrd_origin(&path, |path| owner(&tools, path), |path| owner(&root, path));
            initrd.insert(path, Entry { content, origin });
        }
    }

    let mut boot: BTreeSet<String> = initrd.values().filter_map(|entry| package_of(&entry.origin)).collect();
    boot.extend(STARTERS.iter().filter_map(|path| tools.owner(path).map(str::to_owned)));
    boot.extend(root.owner(&format!("/boot/vmlinuz-{}", trees.kernel)).map(str::to_owned));
    let packages = join(root, tools, &boot);
    let images = trees.template.container_images.iter();
    Ok(Inventory {
        template: trees.template.name.clone(),
        image_version: trees.image_version.to_owned(),
        description: trees.template.description.clone(),
        created: trees.created,
        root_hash: trees.root_hash.to_owned(),
        kernel: trees.kernel.to_owned(),
        distribution,
        packages,
        containers: images.map(|(reference, image)| (reference.clone(), image.digest.clone())).collect(),
        agent: digests(trees.agent, trees.sha1)?,
        root: found.into_iter().map(|found| found.path).zip(root_entries).collect(),
        initrd,
    })
}

fn package_of(origin: &Origin) -> Option<String> {
    match origin {
        Origin::Package(package) => Some(package.clone()),
        _ => None,
    }
}

/// Everything of the root, and of the tools tree what the boot image needs; dependencies among these.
fn join(root: Database, tools: Database, boot: &BTreeSet<String>) -> BTreeMap<String, Package> {
    let mut out = root.packages;
    out.values_mut().for_each(|package| package.in_root = true);
    for (url, package) in tools.packages.into_iter().filter(|(url, _)| boot.contains(url)) {
        let known = out.entry(url).or_insert_with(|| Package { depends: BTreeSet::new(), ..package.clone() });
        known.depends.extend(package.depends.into_iter().filter(|other| boot.contains(other)));
    }
    for (url, package) in &mut out {
        package.in_boot = boot.contains(url);
    }
    out
}

/// What dpkg knows of one tree.
#[derive(Debug)]
struct Database {
    packages: BTreeMap<String, Package>,
    /// Package URLs by path.
    owners: BTreeMap<String, String>,
}

impl Database {
    fn read(tree: &Path, pins: &Pins, codename: &str) -> Result<Self, SbomError> {
        let dpkg = tree.join("var/lib/dpkg");
        let installed = dpkg::parse_status(&text(&dpkg.join("status"))?.unwrap_or_default());
        let url = |package: &Installed| {
            let known = pins.of(package).and_then(|pin| pin.repository.as_deref());
            // The empty package that stands in for a maker of initramfs images is the build's own.
            let repository = known.or((package.maintainer == "Shelfboot").then_some("shelfboot"));
            inventory::package_url(package, repository, codename)
        };
        let urls: Vec<String> = installed.iter().map(url).collect();
        let by_name: BTreeMap<&str, &String> =
            installed.iter().map(|package| package.name.as_str()).zip(&urls).collect();

        let diversions = Diversions::parse(&text(&dpkg.join("diversions"))?.unwrap_or_default());
        let mut lists = Vec::new();
        for name in names(&dpkg.join("info"))? {
            if let Some(package) = dpkg::package_of_list(&name) {
                lists.push((package.to_owned(), text(&dpkg.join("info").join(&name))?.unwrap_or_default()));
            }
        }
        let lists = lists.iter().map(|(package, text)| (package.as_str(), text.as_str()));
        let owners = dpkg::owners(lists, &diversions).into_iter();
        let owners = owners.filter_map(|(path, package)| Some((path, (*by_name.get(package.as_str())?).clone())));
        let owners = owners.collect();

        let depends = dpkg::dependencies(&installed);
        let mut packages = BTreeMap::new();
        for ((package, url), depends) in installed.iter().zip(&urls).zip(depends) {
            let licence = licence(tree, &package.name)?;
            let sha256 = pins.of(package).and_then(|pin| pin.sha256.clone());
            let depends = depends.into_iter().map(|index| urls[index].clone()).collect();
            let package =
                Package { installed: package.clone(), sha256, licence, depends, in_root: false, in_boot: false };
            packages.insert(url.clone(), package);
        }
        Ok(Self { packages, owners })
    }

    fn owner(&self, path: &str) -> Option<&str> {
        self.owners.get(path).map(String::as_str)
    }
}

/// Reads a package's copyright file. Its folder may be a link to another package's.
fn licence(tree: &Path, package: &str) -> Result<Licence, FileError> {
    let doc = tree.join("usr/share/doc");
    let mut folder = doc.join(package);
    if let Ok(target) = fs::read_link(&folder) {
        // Only to its neighbour: any other link might lead out of the tree.
        match target.to_str() {
            Some(name) if !name.contains('/') && name != ".." => folder = doc.join(name),
            _ => return Ok(Licence::NoFile),
        }
    }
    let file = folder.join("copyright");
    let link = [&folder, &file].iter().any(|path| path.is_symlink());
    let text = if link { None } else { text(&file)? };
    Ok(copyright::read(package, text.as_deref()))
}

/// Holds a path of the root against the package root.
fn beside(trees: &Trees<'_>, below: &Path, content: &Content) -> Result<Beside, FileError> {
    let (new, old) = (trees.root.join(below), trees.packages.join(below));
    let Ok(before) = fs::symlink_metadata(&old) else { return Ok(Beside::New) };
    let same = match content {
        Content::Link(target) => fs::read_link(&old).is_ok_and(|old| old.to_string_lossy() == *target),
        Content::File(_) if !before.is_file() => false,
        Content::File(found) => {
            let now = fs::symlink_metadata(&new).map_err(at("look at", &new))?;
            // Times say nothing: trees are made with fixed ones.
            let one_file = (before.dev(), before.ino()) == (now.dev(), now.ino());
            one_file || (found.bytes == before.len() && found.sha256 == digests(&old, false)?.sha256)
        }
    };
    Ok(if same { Beside::Same } else { Beside::Changed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            files::write(&folder.path().join(path), text.as_bytes(), 0o644).unwrap();
        }
        folder
    }

    #[test]
    fn a_copyright_file_may_be_a_neighbours_and_never_the_hosts() {
        let tree = tree(&[("usr/share/doc/a/copyright", "Format: copyright-format\n\nFiles: *\nLicense: Expat\n")]);
        let doc = tree.path().join("usr/share/doc");
        std::os::unix::fs::symlink("a", doc.join("b")).unwrap();
        std::os::unix::fs::symlink("/etc", doc.join("c")).unwrap();
        assert_eq!(licence(tree.path(), "b").unwrap().declared().unwrap().expression, "MIT");
        assert_eq!(licence(tree.path(), "c").unwrap(), Licence::NoFile);
        assert_eq!(licence(tree.path(), "d").unwrap(), Licence::NoFile);
    }
}
