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

/// A template of a site's own, begun with `image-builder new` like `like`, with a profile that brings container images.
///
/// # Errors
/// When image-builder fails, or the template is not as expected.
pub fn with_containers(
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
    let text = fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
    let (before, after) = ("software: [base, kubernetes-node]", "software: [base, kubernetes-node, store-images]");
    ensure!(text.contains(before), "the template {like} has other profiles than expected");
    fs::write(&template, text.replace(before, after)).with_context(|| format!("writing {}", template.display()))?;
    let image = |name: &str, file: &str, digest: &str| {
        format!(
            "    - reference: {}\n      source: ${{images.folder}}/{file}\n      digest: {digest}\n",
            reference(name)
        )
    };
    let profile = [
        "apiVersion: shelfboot.dev/v1\nkind: SoftwareProfile\nmetadata:\n  name: store-images\nspec:\n  parameters:\n    \
         images.folder:\n      description: Where the OCI archives and layouts lie\n      type: path\n  containerImages:\n",
        &image("pause", "pause.tar", &containers.pause),
        &image("greeter", "greeter", &containers.greeter),
    ];
    let place = folder.join("software/store-images.yaml");
    fs::write(&place, profile.concat()).with_context(|| format!("writing {}", place.display()))?;
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
