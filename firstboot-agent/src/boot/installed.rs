//! Starting the installed system: the root through verity, `/etc` over it, what persists from the state partition,
//! then systemd. A half-started system helps nobody: any trouble is reported, and ends in a restart.

use super::{
    first_start,
    mounts::mount_at,
    start_mark, switch_root,
    trouble::{Place, Trouble},
};
use crate::{
    clock, console,
    disk::{
        layout::{IN_PROGRESS, Role},
        table::{has_room_for_ours, partition_node},
    },
    durable,
    encryption::{
        luks,
        plan::{LOCKED, Refusal},
        tpm,
    },
    facts,
    install::state,
    slots, verity,
};
use anyhow::{Context, Result, ensure};
use contracts::{
    enrollment::NodeFile,
    install::InstallRecord,
    late,
    machine::{MACHINE_CONFIG_PATH, MachineConfig},
    manifest,
    network::NetworkConfig,
};
use gptman::GPT;
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, chown},
    path::{Component, Path, PathBuf},
};
use time::OffsetDateTime;
use uuid::Uuid;

const SYSROOT: &str = "/sysroot";
/// Where the state partition is mounted before the root is.
const EARLY_STATE: &str = "/run/shelfboot/state";
/// What the boot image believes, for the installed system: `root.json` and `trust.json`.
pub const TRUST: &str = "/run/shelfboot/trust";
/// The agent's folder on the state partition, as the installed system sees it.
pub const STATE: &str = "/state/shelfboot";

/// What the registrar gave this machine, kept for every later boot: `/state/shelfboot/node.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Host name.
    pub name: String,
    /// The node configuration's files.
    pub files: Vec<NodeFile>,
    /// What the region says about parameters of the image's files.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

impl Node {
    /// All files of the node configuration, those that this image leaves open among them, and what is wrong with others.
    #[must_use]
    pub fn all_files(&self, config: &MachineConfig) -> (Vec<NodeFile>, Vec<late::LateError>) {
        let (late, wrong) = late::files(config, &self.parameters);
        // What the region says in so many words counts more.
        (late.into_iter().chain(self.files.iter().cloned()).collect(), wrong)
    }
}

/// Writes a file of the node configuration below `root`. Nothing but `/etc` can be written.
///
/// # Errors
/// When it lies elsewhere, or cannot be written.
pub fn write_node_file(root: &Path, file: &NodeFile) -> Result<()> {
    let place = below(root, &file.path)?;
    ensure!(file.path.starts_with("/etc/"), "{} is not below /etc", file.path);
    let mode = u32::from_str_radix(&file.mode, 8).with_context(|| format!("the mode of {}", file.path))?;
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&place, &file.content).with_context(|| format!("writing {}", file.path))?;
    fs::set_permissions(&place, fs::Permissions::from_mode(mode)).with_context(|| format!("the mode of {}", file.path))
}

/// The slot that this boot image belongs to.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    data: PathBuf,
    tree: PathBuf,
    state: PathBuf,
    esp: PathBuf,
    /// The disk was written as an image: its state is still to be made.
    unmade: Option<String>,
}

/// Looks for the disk that holds `loader_partition`, and on it for the complete root of `root_hash`.
/// `None` means: this boot image was not started from a finished install of its own.
///
/// # Errors
/// When the root hash has no GUIDs, which the caller has ruled out.
pub fn find(loader_partition: Uuid, root_hash: &str) -> Result<Option<Slot>> {
    let (root, _) = manifest::guids_of(root_hash).context("the root hash is not 64 hex digits")?;
    for name in facts::disk_names() {
        let node = Path::new("/dev").join(&name);
        let Some(table) = File::open(&node).ok().and_then(|mut file| GPT::find_from(&mut file).ok()) else { continue };
        if !has_room_for_ours(&table) {
            continue;
        }
        let guid = |role: Role| Uuid::from_bytes_le(table[role.number()].unique_partition_guid);
        if guid(Role::Esp) != loader_partition {
            continue;
        }
        for (data, tree) in [(Role::RootA, Role::VerityA), (Role::RootB, Role::VerityB)] {
            // While an install is in progress the name carries a mark, so it differs from the role's.
            if guid(data) == root && table[data.number()].partition_name.as_str() == data.name() {
                let at = |role: Role| partition_node(&node, role.number());
                let marked = table[Role::State.number()].partition_name.as_str().ends_with(IN_PROGRESS);
                let unmade = marked.then_some(name);
                let (data, tree) = (at(data), at(tree));
                return Ok(Some(Slot { data, tree, state: at(Role::State), esp: at(Role::Esp), unmade }));
            }
        }
    }
    Ok(None)
}

/// Opens the slot and hands over to its systemd.
///
/// # Errors
/// With what did not work; the caller reports it and restarts.
pub fn start(slot: &Slot, root_hash: &str, built_at: OffsetDateTime) -> Result<Infallible, Trouble> {
    console::line("starting the installed system");
    if let Some(disk) = &slot.unmade {
        first_start::make_state(disk).map_err(|error| Trouble { place: place_of(&error), error, unfinished: 0 })?;
    }
    let (state, encrypted) = open_state(slot)?;
    let unfinished = mount_state(&state).map_err(|error| Trouble { place: Place::Start, error, unfinished: 0 })?;
    let ours = Path::new(EARLY_STATE).join("shelfboot");
    // Below the floor no certificate would be valid yet. With a wrong clock the start still goes on.
    if let Err(error) = clock::at_least(clock::floor_of_installed(&ours, built_at)) {
        console::line(&format!("the clock stays as it is: {error:#}"));
    }
    let begun = slots::start::begin(&ours, &slot.esp, root_hash);
    let begun = begun.map_err(|error| Trouble { place: Place::Version, error, unfinished })?;
    if unfinished > 0 {
        // The kernel only looks at what is read, and a panic leaves no word of why: so everything is looked at now.
        console::line("the last start did not come to its end; checking what is on the disk");
        check(slot, root_hash).map_err(|error| Trouble { place: Place::Root, error, unfinished })?;
        console::line("the disk holds exactly what was installed");
    }
    if encrypted && let Err(error) = say_owner(slot, &ours) {
        console::line(&format!("whose state this is cannot be said in its header: {error:#}"));
    }
    let handed_over = hand_over(slot, root_hash, &begun, encrypted);
    handed_over.map_err(|error| Trouble { place: place_of(&error), error, unfinished })
}

fn place_of(error: &anyhow::Error) -> Place {
    error.downcast_ref::<Refusal>().map_or(Place::Start, |refusal| Place::State(refusal.code()))
}

/// Where the state can be mounted, and whether it is encrypted. From here on the TPM gives out no key of any state.
fn open_state(slot: &Slot) -> Result<(PathBuf, bool), Trouble> {
    let trouble = |place, error| Trouble { place, error, unfinished: 0 };
    let encrypted = luks::is_luks(&slot.state);
    let node = if encrypted {
        let opened = luks::open(&slot.state);
        opened.map_err(|e| trouble(Place::State(LOCKED), anyhow::Error::msg(luks::locked(&format!("{e:#}")))))?
    } else {
        slot.state.clone()
    };
    match tpm::close_the_door() {
        Ok(()) => {}
        Err(error) if encrypted => return Err(trouble(Place::Start, error)),
        Err(error) => console::line(&format!("{error:#}")),
    }
    if encrypted {
        console::line("the state is encrypted; the TPM has opened it");
    }
    Ok((node, encrypted))
}

/// A machine that was installed without its store has an owner now.
fn say_owner(slot: &Slot, ours: &Path) -> Result<()> {
    let record: InstallRecord = serde_json::from_slice(&fs::read(ours.join(InstallRecord::FILE))?)?;
    record.owner.map_or(Ok(()), |owner| luks::say_owner(&slot.state, &owner))
}

/// Mounts the state partition for the time before there is a root, marks that a start has begun, and tells how many
/// starts before it did not come to their end.
fn mount_state(node: &Path) -> Result<u32> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(&node.to_string_lossy(), Path::new(EARLY_STATE), "ext4", flags, None)?;
    start_mark::begin(&Path::new(EARLY_STATE).join("shelfboot"))
}

/// Every block of the root against its root hash.
fn check(slot: &Slot, root_hash: &str) -> Result<()> {
    let open = |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
    let (data, tree) = (open(&slot.data)?, open(&slot.tree)?);
    verity::verify(&data, &tree, verity::data_bytes(&data, &tree)?, root_hash, &|_| ())
}

fn hand_over(slot: &Slot, root_hash: &str, begun: &slots::start::Start, encrypted: bool) -> Result<Infallible> {
    let root = Path::new(SYSROOT);
    verity::open(&slot.data, &slot.tree, root_hash)?;
    mount_at("/dev/mapper/root", root, "erofs", MsFlags::MS_RDONLY, None)?;
    mount(Some(EARLY_STATE), &root.join("state"), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .context("moving the state partition below the root")?;

    let config: MachineConfig = contracts::read(&fs::read(below(root, MACHINE_CONFIG_PATH)?)?)?;
    // The root is verified, so this is the template's own word: nobody puts state in the clear in the place of the machine's.
    if config.state.demands_encryption() && !encrypted {
        return Err(Refusal::InTheClear.into());
    }
    compose_etc(root, &config)?;
    for path in &config.persist {
        persist(root, path).with_context(|| format!("binding {path} from the state partition"))?;
    }
    begun.hand_over(&below(root, STATE)?, &slot.esp).context("preparing the watch over this start")?;
    keep_trust().context("handing over what this boot image believes")?;
    switch_root::to(root, "/usr/lib/systemd/systemd")
}

/// Updates are believed as the boot image believes: its root of trust and its floor go along.
fn keep_trust() -> Result<()> {
    let folder = Path::new(TRUST);
    fs::create_dir_all(folder)?;
    for file in [super::TUF_ROOT, super::TRUST_FLOOR] {
        let name = Path::new(file).file_name().context("no file name")?;
        fs::copy(file, folder.join(name)).with_context(|| format!("copying {file}"))?;
    }
    Ok(())
}

/// `/etc`: the image's below, a tmpfs above, and in it what makes this machine itself.
fn compose_etc(root: &Path, config: &MachineConfig) -> Result<()> {
    let layers = Path::new("/run/shelfboot/etc");
    let (upper, work) = (layers.join("upper"), layers.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    // Overlay takes the mode of /etc from its upper folder.
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
    let etc = root.join("etc");
    let options = format!("lowerdir={},upperdir={},workdir={}", etc.display(), upper.display(), work.display());
    mount_at("overlay", &etc, "overlay", MsFlags::empty(), Some(&options))?;

    let ours = below(root, STATE)?;
    fs::write(etc.join("machine-id"), format!("{}\n", machine_id(&ours.join("machine-id"))?))?;
    for file in network_of_medium(&ours) {
        if let Err(error) = write_node_file(root, &file) {
            console::line(&format!("the network that the medium named: {error:#}"));
        }
    }
    // What the region says comes after it, and replaces files of the same names.
    if let Ok(bytes) = fs::read(ours.join("node.json")) {
        let node: Node = serde_json::from_slice(&bytes).context("reading node.json on the state partition")?;
        fs::write(etc.join("hostname"), format!("{}\n", node.name))?;
        let (files, wrong) = node.all_files(config);
        // No reason not to start: the service writes them again, and says to the store what is wrong.
        wrong.iter().for_each(|error| console::line(&error.to_string()));
        for file in &files {
            if let Err(error) = write_node_file(root, file) {
                console::line(&format!("node configuration: {error:#}"));
            }
        }
    }
    Ok(())
}

/// Files of the network that the medium named from which this machine was installed.
pub(crate) fn network_of_medium(ours: &Path) -> Vec<NodeFile> {
    let network = fs::read(ours.join(state::NETWORK)).ok();
    let network = network.and_then(|bytes| serde_json::from_slice::<NetworkConfig>(&bytes).ok());
    network.filter(|network| network.check().is_ok()).map_or_else(Vec::new, |network| network.files())
}

/// Made once, then the same for ever, over reinstalls of the root too.
fn machine_id(path: &Path) -> Result<String> {
    if let Ok(id) = fs::read_to_string(path) {
        let id = id.trim();
        if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(id.to_owned());
        }
    }
    let id = Uuid::new_v4().simple().to_string();
    durable::write(path, id.as_bytes(), 0o444)?;
    Ok(id)
}

/// Binds one folder from the state partition; the first time it is filled from the image.
fn persist(root: &Path, path: &str) -> Result<()> {
    let inside = below(root, path)?;
    let kept = below(&root.join("state/persist"), path)?;
    if !kept.is_dir() {
        // Made beside and renamed: a power cut leaves no half-filled folder that looks finished.
        let parent = kept.parent().context("the path has no folder")?;
        fs::create_dir_all(parent)?;
        let beside = parent.join(format!(".{}.new", kept.file_name().unwrap_or_default().to_string_lossy()));
        if beside.exists() {
            fs::remove_dir_all(&beside)?;
        }
        copy_tree(&inside, &beside)?;
        nix::unistd::sync();
        fs::rename(&beside, &kept)?;
        File::open(parent)?.sync_all()?;
    }
    mount(Some(&kept), &inside, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("binding")
}

/// Copies folders, files and links with owners and modes. Special files have no business below `persist`.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(from).with_context(|| format!("the image has no {}", from.display()))?;
    if metadata.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if metadata.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
        return Ok(std::os::unix::fs::lchown(to, Some(metadata.uid()), Some(metadata.gid()))?);
    } else if metadata.is_file() {
        fs::copy(from, to)?;
    } else {
        return Ok(());
    }
    chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    // After chown, which clears set-user-id bits.
    Ok(fs::set_permissions(to, metadata.permissions())?)
}

/// An absolute path below another root, without any way out of it.
fn below(root: &Path, path: &str) -> Result<PathBuf> {
    let path = Path::new(path);
    ensure!(path.is_absolute(), "{} is not an absolute path", path.display());
    ensure!(
        path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_))),
        "{} has dots",
        path.display()
    );
    Ok(root.join(path.strip_prefix("/")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_their_root() {
        assert_eq!(below(Path::new("/sysroot"), "/var/lib").unwrap(), Path::new("/sysroot/var/lib"));
        assert!(below(Path::new("/sysroot"), "var").is_err());
        assert!(below(Path::new("/sysroot"), "/var/../../etc").is_err());
    }

    #[test]
    fn files_of_the_node_configuration_stay_below_etc() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str| NodeFile { path: path.into(), mode: "0640".into(), content: "x".into() };
        write_node_file(root.path(), &file("/etc/shop/till.conf")).unwrap();
        let written = root.path().join("etc/shop/till.conf");
        assert_eq!(fs::read_to_string(&written).unwrap(), "x");
        assert_eq!(fs::metadata(&written).unwrap().permissions().mode() & 0o777, 0o640);
        for bad in ["/usr/bin/sh", "/etc/../usr/x", "etc/x", "/etc"] {
            assert!(write_node_file(root.path(), &file(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_file_of_before_there_were_parameters_is_read() {
        let node: Node = serde_json::from_str(r#"{"name":"n","files":[]}"#).unwrap();
        assert!(node.parameters.is_empty());
    }

    #[test]
    fn the_machine_id_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine-id");
        let id = machine_id(&path).unwrap();
        assert_eq!(id.len(), 32);
        assert_eq!(machine_id(&path).unwrap(), id);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "cut off").unwrap();
        assert_ne!(machine_id(&path).unwrap(), "cut off");
    }

    #[test]
    fn trees_are_copied_with_links_and_modes() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir_all(from.join("a")).unwrap();
        fs::write(from.join("a/f"), "x").unwrap();
        fs::set_permissions(from.join("a/f"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("f", from.join("a/l")).unwrap();
        let to = folder.path().join("to");
        copy_tree(&from, &to).unwrap();
        assert_eq!(fs::read_link(to.join("a/l")).unwrap(), Path::new("f"));
        assert_eq!(fs::metadata(to.join("a/f")).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
