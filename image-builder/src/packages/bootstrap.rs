//! A Debian tree from package files: essential packages are unpacked, then dpkg, inside the tree and without a network, installs
//! all of them the way it always does.

use super::{
    apt,
    deb::{self, DebError},
    lock::Package,
    store,
};
use crate::{
    cache::Cache,
    command::{CommandError, Sandbox},
    debian,
    files::{self, FileError, at},
    report::Reporter,
};
use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Where dpkg finds the packages inside the tree.
const PACKAGES: &str = "/packages";

/// What no image needs below `/usr/share`. Licences stay: the list of software names them.
const LEFT_OUT: [&str; 7] = ["doc", "man", "info", "locale", "lintian", "bug", "bash-completion"];

fn dpkg_options() -> Vec<String> {
    // Packages come in apt's order: what must be configured first is unpacked already. A tree that is half done is thrown away.
    let mut options = vec!["--force-depends".to_owned(), "--force-unsafe-io".to_owned()];
    options.extend(LEFT_OUT.iter().map(|folder| format!("--path-exclude=/usr/share/{folder}/*")));
    options.push("--path-include=/usr/share/doc/*/copyright".to_owned());
    options
}

/// The same as dpkg's options, for packages that are unpacked without it.
fn left_out(path: &Path) -> bool {
    let path = path.strip_prefix(".").unwrap_or(path);
    let Ok(below) = path.strip_prefix("usr/share") else { return false };
    let mut parts = below.iter();
    let folder = parts.next().and_then(|part| part.to_str()).unwrap_or_default();
    parts.next().is_some() && LEFT_OUT.contains(&folder) && !(folder == "doc" && path.ends_with("copyright"))
}

/// Programs that stand in while packages are configured: nothing is started, and the kernel's module lists are made once, after
/// what the image leaves out is gone.
const STAND_INS: [(&str, &str); 2] =
    [("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n"), ("usr/local/sbin/depmod", "#!/bin/sh\nexit 0\n")];

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A package file is damaged.
    #[error("{package} cannot be unpacked")]
    Package {
        /// Which.
        package: String,
        /// Why.
        #[source]
        source: DebError,
    },
    /// dpkg failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Package files without compression, in a folder of their own that goes when this does.
#[derive(Debug)]
pub struct Plain {
    folder: crate::cache::Scratch,
}

impl Plain {
    /// Decompresses packages on all processors.
    ///
    /// # Errors
    /// See [`BootstrapError`].
    pub async fn make(cache: &Cache, packages: &[&Package]) -> Result<Self, BootstrapError> {
        let folder = cache.temporary()?;
        let work: Vec<(String, PathBuf, PathBuf)> = packages
            .iter()
            .map(|package| (package.name.clone(), store::place(cache, package), folder.path().join(file(package))))
            .collect();
        let done = tokio::task::spawn_blocking(move || {
            on_all_processors(&work, |(name, from, to)| {
                deb::decompress(from, to).map_err(|source| BootstrapError::Package { package: name.clone(), source })
            })
        });
        done.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Ok(Self { folder })
    }
}

fn file(package: &Package) -> String {
    format!("{}.deb", package.name)
}

/// Does the same with every item; the first error ends it.
fn on_all_processors<T: Sync, R, E: Send>(items: &[T], each: impl Fn(&T) -> Result<R, E> + Sync) -> Result<(), E> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(items.len().max(1));
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = each(item) {
                        next.store(items.len(), Ordering::Relaxed);
                        *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Begins a tree: unpacks the essential packages, so that there is a shell and a dpkg in it.
///
/// # Errors
/// See [`BootstrapError`].
pub fn begin(tree: &Path, plain: &Plain, essential: &[Package]) -> Result<(), BootstrapError> {
    files::create_folder(tree)?;
    // base-files brings the links of a merged /usr, which everything else is unpacked through.
    let (first, rest): (Vec<&Package>, Vec<&Package>) =
        essential.iter().partition(|package| package.name == "base-files");
    let unpack = |package: &&Package| {
        let damaged = |source| BootstrapError::Package { package: package.name.clone(), source };
        let data = deb::data(&plain.folder.path().join(file(package))).map_err(damaged)?;
        let mut archive = tar::Archive::new(data);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(true);
        archive.set_preserve_mtime(true);
        archive.set_overwrite(true);
        for entry in archive.entries().map_err(|error| damaged(error.into()))? {
            let mut entry = entry.map_err(|error| damaged(error.into()))?;
            let path = entry.path().map_err(|error| damaged(error.into()))?.into_owned();
            if !left_out(&path) {
                entry.unpack_in(tree).map_err(|error| damaged(error.into()))?;
            }
        }
        Ok::<_, BootstrapError>(())
    };
    on_all_processors(&first, unpack)?;
    on_all_processors(&rest, unpack)?;
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "dev", "proc"] {
        files::create_folder(&tree.join(folder))?;
    }
    files::write(&tree.join("var/lib/dpkg/status"), apt::STAND_IN.as_bytes(), 0o644)?;
    files::write(&tree.join("var/lib/dpkg/available"), b"", 0o644)?;
    files::write(&tree.join("var/lib/dpkg/info/shelfboot-no-initramfs.list"), b"", 0o644)?;
    Ok(())
}

/// Installs packages into a tree that has a dpkg: unpacks all of them, then configures all of them.
///
/// # Errors
/// See [`BootstrapError`].
pub async fn install(
    tree: &Path,
    plain: &Plain,
    packages: &[&Package],
    reporter: &mut dyn Reporter,
) -> Result<(), BootstrapError> {
    if packages.is_empty() {
        return Ok(());
    }
    for (path, text) in STAND_INS {
        files::write(&tree.join(path), text.as_bytes(), 0o755)?;
    }
    files::create_folder(&tree.join(&PACKAGES[1..]))?;
    let sandbox = Sandbox::of_tree(tree)
        .bind(plain.folder.path(), PACKAGES)
        .alone()
        .variable("SOURCE_DATE_EPOCH", debian::PACKAGE_EPOCH.to_string());
    let options = dpkg_options();
    let paths = packages.iter().map(|package| format!("{PACKAGES}/{}", file(package)));
    let unpack: Vec<String> = options.iter().cloned().chain(["--unpack".to_owned()]).chain(paths).collect();
    sandbox.run(reporter, "dpkg", &unpack).await?;
    let configure: Vec<String> =
        options.into_iter().chain(["--configure".to_owned(), "--pending".to_owned()]).collect();
    sandbox.run(reporter, "dpkg", &configure).await?;
    let folder = tree.join(&PACKAGES[1..]);
    std::fs::remove_dir(&folder).map_err(at("remove", &folder))?;
    STAND_INS.iter().try_for_each(|(path, _)| files::remove(&tree.join(path)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_would_leave_out_is_left_out() {
        for path in
            ["./usr/share/doc/dash/README", "./usr/share/man/man1/sh.1.gz", "usr/share/locale/de/LC_MESSAGES/x.mo"]
        {
            assert!(left_out(Path::new(path)), "{path}");
        }
        for path in ["./usr/share/doc/dash/copyright", "./usr/share/doc", "./usr/share/zoneinfo/UTC", "./bin/sh", "./"]
        {
            assert!(!left_out(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn all_items_are_done_and_an_error_is_told() {
        let done = AtomicUsize::new(0);
        let items: Vec<usize> = (0..100).collect();
        let count = |_: &usize| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok::<_, String>(())
        };
        assert_eq!(on_all_processors(&items, count), Ok(()));
        assert_eq!(done.into_inner(), 100);
        let failed = on_all_processors(&items, |item| if *item == 50 { Err("fifty") } else { Ok(()) });
        assert_eq!(failed, Err("fifty"));
    }
}
