//! One package set through three builders, package files already downloaded for all of them.

use super::{
    Inputs,
    measure::{self, Cost},
};
use crate::{
    materials::builders::BUILDERS,
    process,
    report::Report,
    sandbox::{self, Apart},
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TEMPLATE: &str = "k8s-worker";

/// What one round measured.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// mmdebstrap and mkfs.erofs by hand.
    pub by_hand: Cost,
    /// mkosi: the same packages into a disk image with an EROFS root.
    pub mkosi: Cost,
    /// image-builder with nothing but package files and its tools.
    pub cold: Cost,
    /// image-builder again, after one file of a profile has changed.
    pub warm: Cost,
}

/// Measures; rounds interleave the builders, so that what else the machine does meets all of them.
///
/// # Errors
/// When a builder fails.
pub fn run(checkout: &Path, rounds: u8, report: &Report) -> Result<Vec<Round>> {
    let place = tempfile::Builder::new().prefix("shelfboot-bench-").tempdir_in("/var/tmp");
    let place = place.context("making a folder in /var/tmp")?;
    let inputs = Inputs::prepare(checkout, TEMPLATE, place.path(), report)?;
    let tree = BUILDERS.make(&inputs.cache, &inputs.mirrors, report)?;
    let bench = Bench { inputs, place: place.path().to_owned(), tree: tree.path };
    bench.prepare(checkout, report)?;
    let mut out = Vec::new();
    for number in 1..=rounds {
        report.line(format!("== round {number} of {rounds}"));
        let say =
            |what: &str, cost: Cost| report.line(format!("{what}: {:.1} s, {:.0} MiB", cost.seconds, cost.peak_mib));
        let by_hand = bench.by_hand().context("mmdebstrap and mkfs.erofs")?;
        say("mmdebstrap and mkfs.erofs", by_hand);
        let mkosi = bench.mkosi().context("mkosi")?;
        say("mkosi", mkosi);
        bench.forget()?;
        let cold = bench.ours("cold").context("image-builder, cold")?;
        say("image-builder, cold", cold);
        bench.change(number)?;
        let warm = bench.ours("warm").context("image-builder, warm")?;
        say("image-builder, after one file has changed", warm);
        out.push(Round { by_hand, mkosi, cold, warm });
    }
    Ok(out)
}

struct Bench {
    inputs: Inputs,
    place: PathBuf,
    /// The root with the other builders.
    tree: PathBuf,
}

impl Bench {
    fn at(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn template(&self) -> PathBuf {
        self.at(&format!("profiles/templates/{TEMPLATE}.yaml"))
    }

    /// Locks the template, builds it once for its package files and tools, and makes a repository of these files for the others.
    fn prepare(&self, checkout: &Path, report: &Report) -> Result<()> {
        process::output(Command::new("cp").args(["-a", "--"]).arg(checkout.join("profiles")).arg(self.at("profiles")))?;
        let lock = self.template().with_extension("lock");
        self.inputs.lock(&self.template(), &lock)?;
        super::share_packages(self.inputs.cache.root(), &self.at("cache"))?;
        report.line("one build that does not count: package files and tools");
        self.ours("first")?;

        let text = fs::read(&lock).with_context(|| format!("reading {}", lock.display()))?;
        let lock: Value = serde_json::from_slice(&text).context("reading the lock")?;
        let layers = lock["image"].as_array().into_iter().flatten();
        let packages: Vec<&Value> = layers.filter_map(|layer| layer["packages"].as_array()).flatten().collect();
        ensure!(packages.len() > 100, "the lock has {} packages", packages.len());
        let field = |package: &Value, name: &str| package[name].as_str().unwrap_or_default().to_owned();
        let pool = self.at("repository/pool");
        fs::create_dir_all(&pool).with_context(|| format!("making {}", pool.display()))?;
        for package in &packages {
            let from = self.at("cache/packages").join(format!("{}.deb", field(package, "sha256")));
            let to = pool.join(format!("{}.deb", field(package, "name")));
            fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        let names: Vec<String> = packages.iter().map(|package| field(package, "name")).collect();
        fs::write(self.at("names"), names.join(",")).context("writing the package names")?;
        self.in_tree(INDEX, "index").map(drop)
    }

    /// A script in the tree with the other builders; our folder is /mnt there.
    fn in_tree(&self, script: &str, log: &str) -> Result<Cost> {
        // The tree is a mount of its own, because mkosi wants "/" to be one.
        let enter = "mount --bind \"$2\" \"$2\" && mount --bind \"$1\" \"$2/mnt\" && mount --rbind /dev \"$2/dev\" && mount -t proc proc \"$2/proc\" && \
                     mount -t tmpfs tmpfs \"$2/run\" && exec chroot \"$2\" sh -euc \"$3\"";
        let mut command = sandbox::command(Apart::Build, "sh".as_ref());
        command.args(["-c", enter, "sh"]).arg(&self.place).arg(&self.tree).arg(script);
        command
            .env("SOURCE_DATE_EPOCH", "1735689600")
            .env("TMPDIR", "/mnt")
            .env("HOME", "/mnt")
            .env("LC_ALL", "C.UTF-8");
        measure::run(&mut command, &self.at(&format!("{log}.log")))
    }

    fn by_hand(&self) -> Result<Cost> {
        self.in_tree("rm -rf /mnt/by-hand /mnt/by-hand.erofs", "clean")?;
        self.in_tree(BY_HAND, "by-hand")
    }

    fn mkosi(&self) -> Result<Cost> {
        self.in_tree(
            "rm -rf /mnt/mkosi; mkdir -p /mnt/mkosi/mkosi.repart; mkdir /mnt/mkosi/out /mnt/mkosi/cache",
            "clean",
        )?;
        let names = fs::read_to_string(self.at("names")).context("reading the package names")?;
        let packages = names.replace(',', "\n    ");
        let files = [
            ("mkosi.conf", MKOSI.replace("@PACKAGES@", &packages)),
            ("mkosi.repart/10-root.conf", MKOSI_ROOT.to_owned()),
        ];
        for (name, text) in files {
            fs::write(self.at("mkosi").join(name), text).with_context(|| format!("writing {name}"))?;
        }
        self.in_tree("cd /mnt/mkosi && mkosi --force build && test -s out/image.raw", "mkosi")
    }

    /// Leaves package files and tools in our cache, and nothing that was made of them.
    fn forget(&self) -> Result<()> {
        for name in [
            "cache/trees/packages",
            "cache/trees/roots",
            "cache/trees/initrds",
            "cache/trees/digests",
            "cache/archives",
            "images",
        ] {
            let path = self.at(name);
            if path.exists() {
                fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Changes one file of the image.
    fn change(&self, number: u8) -> Result<()> {
        let profile = self.at("profiles/configuration/base.yaml");
        let text = fs::read_to_string(&profile).with_context(|| format!("reading {}", profile.display()))?;
        let (before, after) =
            text.split_once("      content: |\n").context("no file of the base profile has a content")?;
        let changed = format!("{before}      content: |\n        # changed {number} times\n{after}");
        fs::write(&profile, changed).with_context(|| format!("writing {}", profile.display()))
    }

    fn ours(&self, version: &str) -> Result<Cost> {
        let programs = &self.inputs.programs;
        let mut command = Command::new(&programs.image_builder);
        command.arg("build").arg(self.template()).args(["--locked", "--image-version", version]);
        command.args(self.inputs.mirror_arguments()).arg("--settings").arg(&self.inputs.settings);
        command.arg("--keys").arg(&self.inputs.keys).arg("--agent").arg(&programs.agent);
        command.arg("--registrar-ca").arg(&self.inputs.registrar_ca);
        command.arg("--repository").arg(self.at("images")).arg("--cache").arg(self.at("cache"));
        measure::run(&mut command, &self.at(&format!("ours-{version}.log")))
    }
}

/// A local repository, and a package that stands in for a maker of initramfs images: the kernel depends on one.
const INDEX: &str = "\
mkdir -p /mnt/stand-in/DEBIAN
printf 'Package: no-initramfs\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody\\nProvides: linux-initramfs-tool\\nDescription: none\\n' \
> /mnt/stand-in/DEBIAN/control
dpkg-deb --build /mnt/stand-in /mnt/repository/pool/no-initramfs.deb
cd /mnt/repository
mkdir -p dists/trixie/main/binary-amd64
apt-ftparchive packages pool > dists/trixie/main/binary-amd64/Packages
release=APT::FTPArchive::Release
apt-ftparchive -o $release::Suite=trixie -o $release::Codename=trixie -o $release::Components=main -o $release::Architectures=amd64 \
release dists/trixie > Release
mv Release dists/trixie/Release
";

const BY_HAND: &str = "\
mmdebstrap --mode=root --variant=minbase --include=\"$(cat /mnt/names),no-initramfs\" --skip=chroot/mount/sys \
--aptopt='APT::Install-Recommends \"false\"' --aptopt='APT::Sandbox::User \"root\"' \
--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
trixie /mnt/by-hand 'deb [trusted=yes] copy:/mnt/repository trixie main'
mkfs.erofs --quiet -T1735689600 /mnt/by-hand.erofs /mnt/by-hand
";

const MKOSI: &str = "\
[Distribution]
Distribution=debian
Release=trixie
LocalMirror=file:///mnt/repository
RepositoryKeyCheck=no

[Build]
CacheDirectory=cache
Incremental=no

[Output]
Format=disk
OutputDirectory=out

[Content]
Bootable=no
WithRecommends=no
WithDocs=no
Packages=
    @PACKAGES@
    no-initramfs
";

const MKOSI_ROOT: &str = "\
[Partition]
Type=root
Format=erofs
CopyFiles=/
Minimize=best
";
