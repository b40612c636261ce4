//! Applies a template to a copy of its root: files, units, the agent. Files are replaced, never written to: the copy shares
//! them with the cache.

use crate::{
    command::{CommandError, Sandbox},
    debian, egress, exclude,
    files::{self, FileError, at},
    preload::{self, PreloadError, Preloaded},
    report::Reporter,
    users::{self, UsersError},
};
use contracts::machine::{MACHINE_CONFIG_PATH, MachineConfig};
use profiles::MachineTemplate;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// Why a template could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A path leads through a link out of the tree.
    #[error("{} goes through the link {}", path.display(), link.display())]
    ThroughLink {
        /// The path.
        path: PathBuf,
        /// The link on the way.
        link: PathBuf,
    },
    /// The container images.
    #[error(transparent)]
    Preload(#[from] PreloadError),
    /// The users.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The machine configuration could not be written as JSON.
    #[error("cannot write the machine configuration as JSON")]
    Json(#[source] serde_json::Error),
}

/// Folders that every image has: mount points, and where the journal goes.
const FOLDERS: &[&str] = &["/dev", "/efi", "/proc", "/run", "/state", "/sys", "/tmp", "/var/log/journal"];

const AGENT: &str = "/usr/lib/shelfboot/firstboot-agent";
const AGENT_UNIT: &str = "shelfboot-agent.service";
/// The screen is the agent's: there is nobody to log in.
const LOGIN_ON_SCREEN: &str = "getty@tty1.service";
const AGENT_UNIT_TEXT: &str = "\
[Unit]
Description=Shelfboot agent: enrolls this machine and joins it to its cluster
After=network.target dbus.service
StartLimitIntervalSec=0

[Service]
Type=simple
ExecStart=/usr/lib/shelfboot/firstboot-agent service
Restart=on-failure
RestartSec=2
RestartSteps=5
RestartMaxDelaySec=60

[Install]
WantedBy=multi-user.target
";

/// Turns `tree`, a copy of [`crate::roots::Root`], into the image's root.
///
/// # Errors
/// See [`ApplyError`].
pub async fn apply(
    tree: &Path,
    template: &MachineTemplate,
    machine: &MachineConfig,
    agent: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Preloaded, ApplyError> {
    let folders = FOLDERS.iter().copied().chain(template.folders.iter().chain(&template.persist).map(String::as_str));
    for folder in folders {
        files::create_folder(&inside(tree, folder)?)?;
    }
    for (path, file) in &template.files {
        files::write(&inside(tree, path)?, file.content.as_bytes(), file.mode)?;
    }
    for (path, target) in &template.links {
        let place = inside(tree, path)?;
        files::remove(&place)?;
        if let Some(folder) = place.parent() {
            files::create_folder(folder)?;
        }
        std::os::unix::fs::symlink(target, &place).map_err(at("link", &place))?;
    }
    write(tree, "/etc/sysctl.d/60-shelfboot.conf", &sysctls(template))?;
    let modules: String = template.modules.iter().map(|module| format!("{module}\n")).collect();
    write(tree, "/etc/modules-load.d/shelfboot.conf", &modules)?;
    // Empty: the agent mounts the machine's own over it (machine-id(5), "Initialization").
    write(tree, "/etc/machine-id", "")?;
    let json = serde_json::to_string_pretty(machine).map_err(ApplyError::Json)?;
    write(tree, MACHINE_CONFIG_PATH, &(json + "\n"))?;
    write(tree, &format!("/etc/systemd/system/{AGENT_UNIT}"), AGENT_UNIT_TEXT)?;
    files::write(&inside(tree, AGENT)?, &files::read(agent)?, 0o755)?;
    users::write(tree, template)?;
    egress::write(tree, template)?;
    let preloaded = preload::put(tree, template)?;

    let sandbox = Sandbox::of_tree(tree).variable("SOURCE_DATE_EPOCH", debian::PACKAGE_EPOCH.to_string());
    sandbox.run::<&str>(reporter, "systemd-sysusers", &[]).await?;
    users::check(tree, template)?;
    let named =
        |wanted: bool| template.units.iter().filter(move |(_, on)| **on == wanted).map(|(unit, _)| unit.as_str());
    let images = Some(preload::UNIT).filter(|_| preloaded.images > 0);
    let rules = template.egress.as_ref().map(|_| egress::UNIT);
    let enable: Vec<&str> =
        ["enable"].into_iter().chain(named(true)).chain([AGENT_UNIT]).chain(images).chain(rules).collect();
    sandbox.run(reporter, "systemctl", &enable).await?;
    let mask: Vec<&str> = ["mask", LOGIN_ON_SCREEN].into_iter().chain(named(false)).collect();
    sandbox.run(reporter, "systemctl", &mask).await?;
    // systemd-sysusers keeps the old files; they are not part of the image.
    exclude::remove(tree, ["/etc/*-", "/etc/.pwd.lock", "/run/*", "/tmp/*"])?;
    Ok(preloaded)
}

fn sysctls(template: &MachineTemplate) -> String {
    template.sysctls.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name} = {value}");
        text
    })
}

fn write(tree: &Path, path: &str, text: &str) -> Result<(), ApplyError> {
    Ok(files::write(&inside(tree, path)?, text.as_bytes(), 0o644)?)
}

/// Where an image's path is on the host. A link among its folders would lead to the host's own files.
fn inside(tree: &Path, path: &str) -> Result<PathBuf, ApplyError> {
    let mut place = tree.to_owned();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for (index, part) in parts.iter().enumerate() {
        place.push(part);
        if index + 1 < parts.len() && place.is_symlink() {
            return Err(ApplyError::ThroughLink { path: path.into(), link: place });
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_through_a_link_is_refused() {
        let tree = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", tree.path().join("etc")).unwrap();
        assert!(matches!(inside(tree.path(), "/etc/passwd"), Err(ApplyError::ThroughLink { .. })));
        assert_eq!(inside(tree.path(), "/usr/lib/x").unwrap(), tree.path().join("usr/lib/x"));
    }
}
