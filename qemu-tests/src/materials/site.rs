//! What a retailer's own repository of templates looks like, where a case needs more than the templates that ship.

use super::container::Containers;
use crate::{process, world::addresses as at};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A folder with `templates/`, `software/` and `configuration/`, and which template is meant.
#[derive(Debug, Clone)]
pub struct Site {
    /// The folder.
    pub folder: PathBuf,
    /// The template's name.
    pub template: String,
}

impl Site {
    /// The templates of the checkout.
    #[must_use]
    pub fn shipped(checkout: &Path, template: &str) -> Self {
        Self { folder: checkout.join("profiles"), template: template.to_owned() }
    }
}

/// The name by which pods ask for an image. Nothing listens at its registry.
#[must_use]
pub fn reference(name: &str) -> String {
    format!("{}:{}/shop/{name}:1", at::REGION, at::REGISTRY_PORT)
}

/// What the site's template adds to the kernel's command line.
pub const KERNEL_ARGUMENT: &str = "audit=0";
/// Its user, with number and home.
pub const USER: &str = "till";
/// See [`USER`].
pub const UID: u32 = 900;
/// See [`USER`].
pub const HOME: &str = "/var/lib/till";

/// A file with what the store, the region and the build say, each about one thing. A unit reads it out before the agent begins.
pub const STORE_FILE: &str = "/etc/shop/store";
/// What the build says.
pub const BUILT: &str = "as it was built";

/// A template of a site's own, begun with `image-builder new` like `like`, with profiles that bring container images, a kernel
/// argument, a user, an egress list and a file that names the store.
///
/// # Errors
/// When image-builder fails, or the template is not as expected.
pub fn of_a_store(
    folder: &Path,
    image_builder: &Path,
    like: &str,
    containers: &Containers,
    parameters: &mut Map<String, Value>,
) -> Result<Site> {
    const NAME: &str = "store-worker";
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    let mut new = Command::new(image_builder);
    process::output(new.args(["new", NAME, "--like", like, "--folder"]).arg(folder))?;
    let template = folder.join(format!("templates/{NAME}.yaml"));
    let mut text = fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
    for kind in ["software", "configuration"] {
        let list = format!("{kind}: [base, kubernetes-node");
        ensure!(text.contains(&list), "the template {like} has other profiles than expected");
        text = text.replace(&list, &format!("{list}, store"));
    }
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write(&format!("templates/{NAME}.yaml"), &text)?;
    write("software/store.yaml", &software(containers))?;
    write("configuration/store.yaml", &configuration())?;
    for (name, value) in [
        ("images.folder", json!(containers.folder)),
        ("containerd.sandboxImage", json!(reference("pause"))),
        // What the unit that imports says is read from the serial line.
        ("journal.forwardToConsole", json!("yes")),
    ] {
        parameters.insert(name.into(), value);
    }
    Ok(Site { folder: folder.to_owned(), template: NAME.into() })
}

/// A version of the template [`VERSIONS_TEMPLATE`], beyond the one that is installed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The one that is installed first.
    First,
    /// One package more.
    Next,
    /// What the machine is for cannot be started.
    Broken,
    /// It never gets as far as the agent.
    Hanging,
    /// Its state is encrypted, or it is not installed.
    Sealed,
    /// Its state is encrypted where the machine has a TPM.
    SealedWherePossible,
}

/// The template of [`versions`].
pub const VERSIONS_TEMPLATE: &str = "shop-worker";
/// Seconds that a version of [`versions`] has to become healthy, where it is to become so.
pub const DEADLINE: u64 = 200;
/// The package that [`Variant::Next`] has besides.
const MORE: &str = "tree";

impl Variant {
    /// Its name: of the image's version, and of the channel in which it is published.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "1-first",
            Self::Next => "2-next",
            Self::Broken => "3-broken",
            Self::Hanging => "3-hanging",
            Self::Sealed => "1-sealed",
            Self::SealedWherePossible => "2-where-possible",
        }
    }

    /// What its template says besides.
    const fn state(self) -> &'static str {
        match self {
            Self::Sealed => "  state: {encryption: tpm, withoutTpm: refuse}\n",
            Self::SealedWherePossible => "  state: {encryption: tpm, withoutTpm: clear}\n",
            _ => "",
        }
    }

    fn packages(self) -> &'static str {
        if self == Self::Next { MORE } else { "" }
    }

    fn units(self) -> String {
        match self {
            Self::First | Self::Next | Self::Sealed | Self::SealedWherePossible => String::new(),
            Self::Broken => "  files:
    - path: /etc/systemd/system/kubelet.service.d/99-broken.conf
      content: |
        [Service]
        ExecStart=
        ExecStart=/usr/bin/sleep infinity
"
            .into(),
            Self::Hanging => "  files:
    - path: /etc/systemd/system/stuck.service
      content: |
        [Unit]
        Before=shelfboot-agent.service
        [Service]
        Type=oneshot
        TimeoutStartSec=infinity
        ExecStart=/usr/bin/sleep infinity
        [Install]
        WantedBy=multi-user.target
  units:
    enable: [stuck.service]
"
            .into(),
        }
    }
}

/// The template of a variant, begun like `like`: versions of one image differ in what [`Variant`] says, and in how long they have.
///
/// # Errors
/// When image-builder fails, or the template is not as expected.
pub fn versions(folder: &Path, image_builder: &Path, like: &str, variant: Variant) -> Result<Site> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    let mut new = Command::new(image_builder);
    process::output(new.args(["new", VERSIONS_TEMPLATE, "--like", like, "--folder"]).arg(folder))?;
    let template = folder.join(format!("templates/{VERSIONS_TEMPLATE}.yaml"));
    let mut text = fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
    for kind in ["software", "configuration"] {
        let list = format!("{kind}: [base, kubernetes-node");
        ensure!(text.contains(&list), "the template {like} has other profiles than expected");
        text = text.replace(&list, &format!("{list}, variant"));
    }
    text = text.replacen("spec:\n", &format!("spec:\n{}", variant.state()), 1);
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    let head = |kind: &str| format!("apiVersion: shelfboot.dev/v1\nkind: {kind}\nmetadata: {{name: variant}}\nspec:\n");
    let deadline = match variant {
        Variant::First | Variant::Next | Variant::Sealed | Variant::SealedWherePossible => DEADLINE,
        // Its agent has to begin, and to see why it is not healthy.
        Variant::Broken => 90,
        // The agent never begins.
        Variant::Hanging => 30,
    };
    write(&format!("templates/{VERSIONS_TEMPLATE}.yaml"), &text)?;
    write("software/variant.yaml", &format!("{}  packages: [{}]\n", head("SoftwareProfile"), variant.packages()))?;
    write(
        "configuration/variant.yaml",
        &format!(
            "{}  kernelArguments: [shelfboot.deadline={deadline}, shelfboot.update=15]\n{}",
            head("ConfigurationProfile"),
            variant.units()
        ),
    )?;
    Ok(Site { folder: folder.to_owned(), template: VERSIONS_TEMPLATE.into() })
}

fn software(containers: &Containers) -> String {
    format!(
        "apiVersion: shelfboot.dev/v1
kind: SoftwareProfile
metadata: {{name: store}}
spec:
  parameters:
    images.folder: {{description: Where the OCI archives and layouts lie, type: path}}
  containerImages:
    - {{reference: \"{}\", source: \"${{images.folder}}/pause.tar\", digest: \"{}\"}}
    - {{reference: \"{}\", source: \"${{images.folder}}/greeter\", digest: \"{}\"}}
",
        reference("pause"),
        containers.pause,
        reference("greeter"),
        containers.greeter,
    )
}

/// The registrar is missing in the list: the agent reaches it without, through netboot, and nobody else is to.
fn configuration() -> String {
    format!(
        "apiVersion: shelfboot.dev/v1
kind: ConfigurationProfile
metadata: {{name: store}}
spec:
  parameters:
    store.number: {{description: Of the store, per: store}}
    store.place: {{description: Where stores are, per: store, default: nowhere}}
    store.word: {{description: Which nobody says, per: store, default: \"{BUILT}\"}}
  files:
    - {{path: {STORE_FILE}, content: \"${{store.number}} ${{store.place}}, ${{store.word}}\\n\"}}
    - path: /etc/systemd/system/shop-words.service
      content: |
        [Unit]
        Before=shelfboot-agent.service
        ConditionPathExists={STORE_FILE}
        [Service]
        Type=oneshot
        ExecStart=/usr/bin/cat {STORE_FILE}
        [Install]
        WantedBy=multi-user.target
  units:
    enable: [shop-words.service]
  kernelArguments: [{KERNEL_ARGUMENT}]
  users:
    - {{name: {USER}, uid: {UID}, home: {HOME}, description: Software of the tills}}
  egress:
    allow:
      - {{to: [\"{region}\"], ports: [\"{}\", \"{}\"]}}
      - {{to: [\"${{cni.podCIDR}}\"], protocol: any}}
",
        at::API_PORT,
        at::REGISTRY_PORT,
        region = at::REGION,
    )
}
