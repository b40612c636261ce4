//! The templates and profiles that ship with the project, for a site's own to begin with.

/// A file below the folder of templates and profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// `templates`, `software` or `configuration`.
    pub folder: &'static str,
    /// The document's name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($folder:literal / $name:literal),* $(,)?) => {
        [$(Shipped {
            folder: $folder,
            name: $name,
            text: include_str!(concat!("../", $folder, "/", $name, ".yaml")),
        }),*]
    };
}

/// All of them.
pub const SHIPPED: [Shipped; 11] = shipped![
    "templates" / "hypervisor",
    "templates" / "k8s-worker",
    "templates" / "storage-node",
    "software" / "base",
    "software" / "ceph-osd",
    "software" / "kubernetes-node",
    "software" / "nova-compute",
    "configuration" / "base",
    "configuration" / "ceph-osd",
    "configuration" / "kubernetes-node",
    "configuration" / "nova-compute",
];

/// The names of the templates.
#[must_use]
pub fn templates() -> Vec<&'static str> {
    SHIPPED.iter().filter(|file| file.folder == "templates").map(|file| file.name).collect()
}

/// Finds one.
#[must_use]
pub fn find(folder: &str, name: &str) -> Option<Shipped> {
    SHIPPED.into_iter().find(|file| file.folder == folder && file.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_the_folders_ships() {
        for folder in ["templates", "software", "configuration"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for entry in std::fs::read_dir(path).unwrap() {
                let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
                assert!(find(folder, &name).is_some(), "{folder}/{name}");
            }
        }
    }
}
