//! The same lock gives the same repository, whoever builds it and wherever; and when it does not, the difference is named.

use super::{
    Inputs, Summary, compare, erofs, share_packages,
    somebody::{OTHER_USER, as_user, copy, give, open_to_all},
    summary,
};
use crate::{materials::image, report::Report, sandbox};
use anyhow::{Context as _, Result, bail, ensure};
use contracts::manifest::ImageManifest;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const TEMPLATE: &str = "k8s-worker";
/// One build: where it is done, and in which surroundings.
struct Site<'a> {
    folder: &'a Path,
    /// A cache with package files.
    packages: &'a Path,
    /// Somebody else's user id; `None` for who runs the test.
    user: Option<u32>,
    variables: &'a [(&'a str, &'a str)],
    mask: &'a str,
}

struct Built {
    repository: PathBuf,
    summary: Summary,
}

/// Runs the case.
///
/// # Errors
/// When the repositories differ; the error names what does.
pub async fn run(checkout: &Path, report: &Report) -> Result<()> {
    // Outside of anybody's home, so that another user gets there. Several gigabytes: not in memory.
    let place = tempfile::Builder::new().prefix("shelfboot-reproducible-").tempdir_in("/var/tmp");
    let place = place.context("making a folder in /var/tmp")?;
    open_to_all(place.path())?;
    let inputs = Inputs::prepare(checkout, TEMPLATE, place.path(), report)?;
    let profiles = place.path().join("profiles");
    copy(&checkout.join("profiles"), &profiles)?;
    let template = profiles.join(format!("templates/{TEMPLATE}.yaml"));
    inputs.lock(&template, &template.with_extension("lock"))?;

    report.line("first build");
    let folder = place.path().join("one");
    let site =
        Site { folder: &folder, packages: inputs.cache.root(), user: None, variables: &[("TZ", "UTC")], mask: "022" };
    let first = build(&inputs, &profiles, &site)?;
    let packages = &folder.join("cache");
    report.line(match sandbox::am_root() {
        true => "second build: another user without root, another path, time zone, language and umask",
        false => {
            "second build: another path, time zone, language and umask (another user only when the test runs as root)"
        }
    });
    let other = place.path().join("a folder/with another, longer name");
    let variables = [("TZ", "Asia/Tokyo"), ("LANG", "de_DE.UTF-8"), ("HOME", "/nonexistent"), ("USER", "somebody")];
    let user = sandbox::am_root().then_some(OTHER_USER);
    let second =
        build(&inputs, &profiles, &Site { folder: &other, packages, user, variables: &variables, mask: "077" })?;
    let differences = differences(&first, &second, place.path()).await?;
    if !differences.is_empty() {
        bail!("two builds from one lock differ:\n  {}", differences.join("\n  "));
    }
    report.line("check: two builds from one lock are the same, but for expiry dates and signatures: yes");

    // Whether a difference would be found and named is shown with one that was made on purpose.
    let base = profiles.join("configuration/base.yaml");
    let text = fs::read_to_string(&base).with_context(|| format!("reading {}", base.display()))?;
    let planted = "\n  links:\n    - {path: /etc/planted, target: somewhere}\n";
    let changed = text.replacen("\n  links:\n", planted, 1);
    ensure!(changed != text, "{} is not written as expected", base.display());
    fs::write(&base, changed).with_context(|| format!("writing {}", base.display()))?;
    let third = place.path().join("three");
    let site = Site { folder: &third, packages, user: None, variables: &[], mask: "022" };
    let third = build(&inputs, &profiles, &site)?;
    let differences = self::differences(&first, &third, place.path()).await?;
    let named = differences.iter().find(|line| line.starts_with("/etc/planted: only in the second"));
    ensure!(named.is_some(), "a planted link was not named, but:\n  {}", differences.join("\n  "));
    let others: Vec<&String> =
        differences.iter().filter(|line| line.starts_with('/') && !line.contains("planted")).collect();
    ensure!(others.is_empty(), "besides the planted link, files were named that are the same: {others:?}");
    report.line("check: a file that differs is named, and no other: yes");
    Ok(())
}

fn build(inputs: &Inputs, profiles: &Path, site: &Site<'_>) -> Result<Built> {
    let at = |name: &str| site.folder.join(name);
    fs::create_dir_all(at("in")).with_context(|| format!("making {}", site.folder.display()))?;
    for (from, name) in [
        (profiles, "in/profiles"),
        (&inputs.keys, "in/keys"),
        (&inputs.programs.agent, "in/agent"),
        (&inputs.programs.image_builder, "in/image-builder"),
        (&inputs.registrar_ca, "in/ca.pem"),
        (&inputs.settings, "in/settings.yaml"),
    ] {
        copy(from, &at(name))?;
    }
    share_packages(site.packages, &at("cache"))?;
    let mut command = match site.user {
        None => Command::new("sh"),
        Some(user) => {
            give(site.folder, user)?;
            as_user(user, site.folder)?
        }
    };
    command.args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", site.mask]);
    command.arg(at("in/image-builder")).arg("build").arg(at(&format!("in/profiles/templates/{TEMPLATE}.yaml")));
    command.args(["--locked", "--json"]).args(inputs.mirror_arguments());
    for (flag, name) in [
        ("--settings", "in/settings.yaml"),
        ("--keys", "in/keys"),
        ("--agent", "in/agent"),
        ("--registrar-ca", "in/ca.pem"),
        ("--repository", "repository"),
        ("--cache", "cache"),
    ] {
        command.arg(flag).arg(at(name));
    }
    command.env_remove("SOURCE_DATE_EPOCH").envs(site.variables.iter().copied()).current_dir(site.folder);
    let summary = summary(&mut command)?;
    Ok(Built { repository: at("repository"), summary })
}

/// What differs between two repositories: of an image that does, the files in it.
async fn differences(one: &Built, two: &Built, place: &Path) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for folder in ["targets", "archives"] {
        out.extend(compare::folders(&one.repository.join(folder), &two.repository.join(folder), false)?);
    }
    out = out.into_iter().map(|line| format!("the repository's {}", line.trim_start_matches('/'))).collect();
    for name in ["root.json", "1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json"] {
        let read = |built: &Built| fs::read(built.repository.join("metadata").join(name));
        let (first, second) = (read(one).context(name)?, read(two).context(name)?);
        let lasting = compare::lasting(&first).with_context(|| format!("{name} is not metadata"))?;
        if Some(lasting) != compare::lasting(&second) {
            out.push(format!("the repository's {name}: its content differs"));
        }
    }
    let manifests: BTreeSet<&str> = [one, two].into_iter().map(|built| built.summary.manifest.as_str()).collect();
    ensure!(manifests.len() == 1, "the two images have two names: {manifests:?}");
    let (first, second) = (manifest(one)?, manifest(two)?);
    if first.root != second.root {
        let (left, right) = (place.join("unpacked-one"), place.join("unpacked-two"));
        erofs::unpack(&one.repository, &first, &one.summary.tools, &left).await?;
        erofs::unpack(&two.repository, &second, &one.summary.tools, &right).await?;
        out.extend(compare::folders(&left.join("root"), &right.join("root"), true)?);
        for folder in [left, right] {
            fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        }
    }
    Ok(out)
}

fn manifest(built: &Built) -> Result<ImageManifest> {
    let file = image::target(&built.repository, &built.summary.manifest)?;
    Ok(contracts::read(&fs::read(&file).with_context(|| format!("reading {}", file.display()))?)?)
}
