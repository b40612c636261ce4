//! Which Debian mirror the host itself uses: images come from the same place, so that nobody has to name it.
//!
//! Reads both formats of sources.list(5): one line per source, and deb822 stanzas.

use std::path::Path;

/// One binary package source of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// For example an `http://` address that ends in `/debian`.
    pub uri: String,
    /// For example `trixie-security`.
    pub suite: String,
}

/// Where Debian's packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// The archive.
    pub archive: String,
    /// The security archive.
    pub security: String,
}

/// No mirror was named, and the host names none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this host's apt sources name no Debian mirror")]
pub struct NoMirror;

/// Reads the one-line format. Lines that are not understood are skipped: apt itself judges them.
#[must_use]
pub fn parse_list(text: &str) -> Vec<Source> {
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t'])) else { continue };
        let rest = rest.trim_start();
        // Options stand in brackets before the address and may hold blanks.
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            out.push(Source { uri: uri.to_owned(), suite: suite.to_owned() });
        }
    }
    out
}

/// Reads deb822 stanzas.
#[must_use]
pub fn parse_stanzas(text: &str) -> Vec<Source> {
    let mut out = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            let mut value = String::new();
            let mut inside = false;
            for line in stanza {
                if line.starts_with([' ', '\t']) {
                    if inside {
                        value.push_str(line);
                    }
                } else if let Some((key, rest)) = line.split_once(':') {
                    inside = key.eq_ignore_ascii_case(name);
                    if inside {
                        value.push_str(rest);
                    }
                }
            }
            value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let enabled = !field("Enabled").first().is_some_and(|value| value.eq_ignore_ascii_case("no"));
        if !enabled || !field("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        for uri in field("URIs") {
            out.extend(field("Suites").into_iter().map(|suite| Source { uri: uri.clone(), suite }));
        }
    }
    out
}

/// Picks Debian's archive and security archive. What the user named comes first; a security archive that
/// nobody names is looked for beside the archive, where every full mirror has it.
///
/// # Errors
/// [`NoMirror`].
pub fn choose(archive: Option<&str>, security: Option<&str>, host: &[Source]) -> Result<Mirrors, NoMirror> {
    let is_security = |source: &&Source| source.suite.ends_with("-security") || source.suite.ends_with("/updates");
    let is_debian = |uri: &str| uri.trim_end_matches('/').rsplit('/').next().is_some_and(|last| last == "debian");
    let host_archive = host.iter().filter(|s| !s.suite.contains(['-', '/'])).find(|source| is_debian(&source.uri));
    let host_security = host.iter().filter(is_security).find(|s| s.uri.contains("debian"));
    let clean = |uri: &str| uri.trim_end_matches('/').to_owned();
    let chosen = archive.map(clean).or_else(|| host_archive.map(|source| clean(&source.uri))).ok_or(NoMirror)?;
    let beside = || {
        let base = chosen.strip_suffix("/debian").unwrap_or(&chosen);
        format!("{base}/debian-security")
    };
    let security = match (security, archive, host_security) {
        (Some(named), _, _) => clean(named),
        // A mirror that was named for this build is not mixed with the host's.
        (None, None, Some(source)) => clean(&source.uri),
        _ => beside(),
    };
    Ok(Mirrors { archive: chosen, security })
}

/// Reads the host's apt sources. Files that cannot be read are skipped.
#[must_use]
pub fn read_host(etc_apt: &Path) -> Vec<Source> {
    let mut files = vec![etc_apt.join("sources.list")];
    if let Ok(folder) = std::fs::read_dir(etc_apt.join("sources.list.d")) {
        files.extend(folder.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut out = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => out.extend(parse_list(&text)),
            Some("sources") => out.extend(parse_stanzas(&text)),
            _ => {}
        }
    }
    // Cloud images name a file that lists mirrors (apt-transport-mirror(1)); its first line is the preferred one.
    for source in &mut out {
        if let Some(path) = source.uri.strip_prefix("mirror+file:")
            && let Ok(text) = std::fs::read_to_string(path)
            && let Some(first) = text.split_whitespace().next()
        {
            source.uri = first.to_owned();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIST: &str = "\
# deb http://old.test/debian stretch main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian/ trixie main # here
deb-src http://mirror.test/debian trixie main
deb http://sec.test/debian-security trixie-security main
debx http://no.test/debian trixie main
";

    const STANZAS: &str = "\
Types: deb deb-src
# a comment
URIs: http://mirror.test/debian
Suites: bookworm
 bookworm-updates
Components: main

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm

Types: deb
URIs: https://node.test/node_20.x
Suites: nodistro
";

    #[test]
    fn both_formats_are_read() {
        insta::assert_debug_snapshot!((parse_list(LIST), parse_stanzas(STANZAS)));
    }

    #[test]
    fn the_hosts_mirrors_are_used() {
        let mirrors = choose(None, None, &parse_list(LIST)).unwrap();
        assert_eq!(mirrors.archive, "http://mirror.test/debian");
        assert_eq!(mirrors.security, "http://sec.test/debian-security");
    }

    #[test]
    fn a_named_mirror_is_not_mixed_with_the_hosts() {
        let mirrors = choose(Some("http://named.test/debian/"), None, &parse_list(LIST)).unwrap();
        assert_eq!(mirrors.archive, "http://named.test/debian");
        assert_eq!(mirrors.security, "http://named.test/debian-security");
    }

    #[test]
    fn a_host_of_another_distribution_names_none() {
        assert_eq!(choose(None, None, &parse_list("deb http://x.test/ubuntu noble main")), Err(NoMirror));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n\t]{0,200}") {
            let _ = (parse_list(&text), parse_stanzas(&text));
        }
    }
}
