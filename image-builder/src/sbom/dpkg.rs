//! What dpkg knows of a tree: packages, the files of each, diversions. Pure: text in, tables out. Formats are those of
//! deb-control(5), dpkg(1) and dpkg-divert(1).

use std::collections::{BTreeMap, BTreeSet};

/// An installed package, as `/var/lib/dpkg/status` describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Installed {
    /// For example `libc6`.
    pub name: String,
    /// For example `2.41-12`.
    pub version: String,
    /// For example `amd64` or `all`.
    pub architecture: String,
    /// Name and version of the source package.
    pub source: (String, String),
    /// Who takes care of it.
    pub maintainer: String,
    /// For example `libs`.
    pub section: String,
    /// Where the project lives.
    pub homepage: Option<String>,
    /// `Pre-Depends` and `Depends`: each entry is a list of alternatives, names without versions.
    pub depends: Vec<Vec<String>>,
    /// Other names that it answers to.
    pub provides: Vec<String>,
}

/// Reads a status file. Packages that are removed, or not wholly installed, are not in the list. Sorted.
#[must_use]
pub fn parse_status(text: &str) -> Vec<Installed> {
    let mut out: Vec<Installed> = paragraphs(text)
        .filter(|fields| fields.get("status").is_some_and(|status| status.ends_with(" installed")))
        .filter_map(|fields| installed(&fields))
        .collect();
    out.sort();
    out.dedup();
    out
}

fn installed(fields: &BTreeMap<String, String>) -> Option<Installed> {
    let get = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let (name, version) = (get("package"), get("version"));
    if name.is_empty() || version.is_empty() {
        return None;
    }
    // `Source: NAME (VERSION)`; what is left out is the same as the package's.
    let source = match get("source").split_once(' ') {
        Some((source, version)) => (source.to_owned(), version.trim_matches(['(', ')', ' ']).to_owned()),
        None if get("source").is_empty() => (name.clone(), version.clone()),
        None => (get("source"), version.clone()),
    };
    let mut depends = relations(&get("pre-depends"));
    depends.extend(relations(&get("depends")));
    Some(Installed {
        architecture: get("architecture"),
        source,
        maintainer: get("maintainer"),
        section: get("section"),
        homepage: fields.get("homepage").cloned(),
        depends,
        provides: relations(&get("provides")).into_iter().flatten().collect(),
        name,
        version,
    })
}

/// `a (>= 1) | b:any, c` becomes `[[a, b], [c]]`.
fn relations(text: &str) -> Vec<Vec<String>> {
    let name = |word: &str| {
        let word = word.trim();
        let end = word.find([' ', '(', ':', '[', '<']).unwrap_or(word.len());
        word[..end].to_owned()
    };
    let entries = text.split(',').map(|entry| entry.split('|').map(name).filter(|name| !name.is_empty()).collect());
    entries.filter(|entry: &Vec<String>| !entry.is_empty()).collect()
}

/// Paragraphs of `Field: value` lines, field names in lower case. Lines that go on a field are joined to it with their
/// first blank removed.
pub fn paragraphs(text: &str) -> impl Iterator<Item = BTreeMap<String, String>> {
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in lines.by_ref() {
            if line.trim().is_empty() {
                if fields.is_empty() {
                    continue;
                }
                break;
            }
            if line.starts_with('#') {
                continue;
            }
            if let Some(rest) = line.strip_prefix([' ', '\t']) {
                if let Some(value) = fields.get_mut(&last) {
                    value.push('\n');
                    value.push_str(rest);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                last = name.trim().to_ascii_lowercase();
                fields.insert(last.clone(), value.trim().to_owned());
            }
        }
        (!fields.is_empty()).then_some(fields)
    })
}

/// The package's name in the name of one of its files below `/var/lib/dpkg/info`: `libc6:amd64.list` is of `libc6`.
#[must_use]
pub fn package_of_list(file: &str) -> Option<&str> {
    let name = file.strip_suffix(".list")?;
    Some(name.split_once(':').map_or(name, |(name, _)| name))
}

/// Which package each path came with. `lists` are package names and the text of their file lists.
#[must_use]
pub fn owners<'a>(
    lists: impl IntoIterator<Item = (&'a str, &'a str)>,
    diversions: &Diversions,
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (package, text) in lists {
        for path in text.lines().filter(|line| line.starts_with('/') && *line != "/.") {
            out.insert(merged(diversions.place(package, path)), package.to_owned());
        }
    }
    out
}

/// Files that one package's maintainer scripts moved out of another one's way.
#[derive(Debug, Default)]
pub struct Diversions(BTreeMap<String, (String, String)>);

impl Diversions {
    /// Reads `/var/lib/dpkg/diversions`: three lines each, the path, where it goes, and the package that takes its place.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let entries = lines.chunks_exact(3).map(|entry| (entry[0].into(), (entry[1].into(), entry[2].into())));
        Self(entries.collect())
    }

    /// Where a package's path really lies.
    fn place<'a>(&'a self, package: &str, path: &'a str) -> &'a str {
        match self.0.get(path) {
            Some((to, by)) if by != package => to,
            _ => path,
        }
    }
}

/// The path in a tree whose `/bin`, `/lib`, `/lib64` and `/sbin` are links into `/usr`: packages still name the old ones.
#[must_use]
pub fn merged(path: &str) -> String {
    let old = ["/bin/", "/lib/", "/lib64/", "/sbin/"].iter().any(|folder| path.starts_with(folder));
    if old { format!("/usr{path}") } else { path.to_owned() }
}

/// For each package, by its index, the indexes of the installed ones that it depends on. An alternative that is not
/// installed is left out; a package never depends on itself.
#[must_use]
pub fn dependencies(packages: &[Installed]) -> Vec<BTreeSet<usize>> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, package) in packages.iter().enumerate() {
        by_name.entry(&package.name).or_default().push(index);
    }
    for (index, package) in packages.iter().enumerate() {
        for provided in &package.provides {
            by_name.entry(provided).or_insert_with(|| vec![index]);
        }
    }
    let of = |(index, package): (usize, &Installed)| {
        let found = package.depends.iter().filter_map(|entry| entry.iter().find_map(|name| by_name.get(name.as_str())));
        found.flatten().copied().filter(|other| *other != index).collect()
    };
    packages.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATUS: &str = "\
Package: libacl1
Status: install ok installed
Section: libs
Maintainer: Guillem Jover <guillem@debian.org>
Architecture: amd64
Source: acl (2.3.2-2)
Version: 2.3.2-2+b1
Depends: libc6 (>= 2.38), default-mta | mail-transport-agent
Description: access control list
 two lines

Package: gone
Status: deinstall ok config-files
Version: 1

Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.41-12
Homepage: https://www.gnu.org/

Package: postfix
Status: install ok installed
Architecture: amd64
Version: 3
Provides: mail-transport-agent (= 1)
";

    #[test]
    fn packages_have_their_source_and_what_they_need() {
        let packages = parse_status(STATUS);
        let names: Vec<&str> = packages.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["libacl1", "libc6", "postfix"]);
        assert_eq!(packages[0].source, ("acl".into(), "2.3.2-2".into()));
        assert_eq!(packages[1].source, ("glibc".into(), "2.41-12".into()));
        assert_eq!(packages[2].source, ("postfix".into(), "3".into()));
        assert_eq!(dependencies(&packages)[0], BTreeSet::from([1, 2]));
    }

    #[test]
    fn paths_are_found_where_they_really_lie() {
        let diversions = Diversions::parse("/lib/a.so\n/lib/a.so.moved\nother\n/bin\n");
        let lists = [("mine", "/.\n/lib\n/lib/a.so\n"), ("other", "/lib/a.so\n/etc/x\n")];
        let owners = owners(lists, &diversions);
        let owner = |path: &str| owners.get(path).map(String::as_str);
        assert_eq!(owner("/usr/lib/a.so.moved"), Some("mine"));
        assert_eq!(owner("/usr/lib/a.so"), Some("other"));
        assert_eq!(owner("/etc/x"), Some("other"));
        assert_eq!(package_of_list("libc6:amd64.list"), Some("libc6"));
        assert_eq!(package_of_list("libc6.md5sums"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC*", lines in "([A-Za-z-]{0,6}:?[ ,|()a-z]{0,9}\n?){0,20}") {
            for text in [text, lines] {
                let packages = parse_status(&text);
                prop_assert_eq!(dependencies(&packages).len(), packages.len());
                let _ = owners([("p", text.as_str())], &Diversions::parse(&text));
            }
        }
    }
}
