//! An inventory as CycloneDX.

use super::{
    super::{
        SbomError, derived_uuid,
        inventory::{Content, Digests, Entry, Inventory, Origin, Package},
        rfc3339,
    },
    BYTES, Bom, Component, Dependency, ExternalReference, FROM, Hash, IN, INITRD, INSTEAD_OF, LINK, License, Metadata,
    ORIGIN, Pedigree, Property, Supplier, Tools, WHY_NO_LICENCE,
};
use std::collections::{BTreeMap, BTreeSet};

const IMAGE: &str = "image";

/// Writes an inventory. Everything is sorted, so equal inventories make equal documents.
///
/// # Errors
/// [`SbomError::Time`] and [`SbomError::Json`].
pub fn write(inventory: &Inventory) -> Result<Bom, SbomError> {
    let mut files: BTreeMap<String, Vec<Component>> = BTreeMap::new();
    for (path, entry) in &inventory.root {
        files.entry(reference(&entry.origin)).or_default().push(file(path, entry));
    }
    let mut components = vec![distribution(inventory)];
    for (url, package) in &inventory.packages {
        components.push(Component { components: files.remove(url).unwrap_or_default(), ..of_package(url, package) });
    }
    components.extend(inventory.containers.iter().map(|(reference, digest)| container(reference, digest)));
    let origins: BTreeSet<&Origin> =
        inventory.root.values().chain(inventory.initrd.values()).map(|e| &e.origin).collect();
    for origin in origins {
        let reference = reference(origin);
        let Some(group) = group(inventory, origin) else { continue };
        // Two origins may share a group: a file made anew, and one made instead of a package's.
        if !components.iter().any(|known| known.bom_ref.as_ref() == Some(&reference)) {
            let components_inside = files.remove(&reference).unwrap_or_default();
            components.push(Component { bom_ref: Some(reference), components: components_inside, ..group });
        }
    }
    components.push(initrd(inventory));

    let metadata = Metadata {
        timestamp: rfc3339(inventory.created)?,
        tools: Tools {
            components: vec![Component {
                kind: "application".into(),
                name: "image-builder".into(),
                version: Some(env!("CARGO_PKG_VERSION").into()),
                ..Component::default()
            }],
        },
        component: Component {
            kind: "operating-system".into(),
            bom_ref: Some(IMAGE.into()),
            name: inventory.template.clone(),
            version: Some(inventory.image_version.clone()),
            description: Some(inventory.description.clone()),
            properties: vec![
                property("shelfboot:root-hash", &inventory.root_hash),
                property("shelfboot:kernel", &inventory.kernel),
            ],
            ..Component::default()
        },
    };
    let mut bom = Bom {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json".into(),
        bom_format: "CycloneDX".into(),
        spec_version: "1.6".into(),
        serial_number: String::new(),
        version: 1,
        metadata,
        components,
        dependencies: dependencies(inventory),
    };
    let bytes = serde_json::to_vec(&bom).map_err(SbomError::Json)?;
    bom.serial_number = format!("urn:uuid:{}", derived_uuid(&bytes));
    Ok(bom)
}

/// The component that a path's origin is written as.
fn reference(origin: &Origin) -> String {
    match origin {
        Origin::Package(url) => url.clone(),
        Origin::Profile { profile, .. } => format!("profile:{profile}"),
        Origin::Agent => "agent".into(),
        Origin::Made { by, .. } => format!("made:{}", by.replace(' ', "-")),
    }
}

/// The component for what is no package.
fn group(inventory: &Inventory, origin: &Origin) -> Option<Component> {
    let data = |name: &str, description: &str, origin| Component {
        kind: "data".into(),
        name: name.into(),
        description: Some(description.into()),
        properties: vec![property(ORIGIN, origin)],
        ..Component::default()
    };
    match origin {
        Origin::Package(_) => None,
        Origin::Profile { profile, .. } => {
            Some(data(profile, "files that a profile of the template asks for", "profile"))
        }
        Origin::Made { by, .. } => Some(data(by, "files that were made while the image was built", "made")),
        Origin::Agent => Some(Component {
            kind: "application".into(),
            name: "firstboot-agent".into(),
            hashes: vec![sha256(&inventory.agent)],
            properties: vec![property(ORIGIN, "agent")],
            ..Component::default()
        }),
    }
}

fn distribution(inventory: &Inventory) -> Component {
    let found = &inventory.distribution;
    Component {
        kind: "operating-system".into(),
        bom_ref: Some("distribution".into()),
        name: found.id.clone(),
        version: Some(found.version.clone()),
        description: Some(found.name.clone()),
        ..Component::default()
    }
}

fn of_package(url: &str, package: &Package) -> Component {
    let known = &package.installed;
    let vendor = url.strip_prefix("pkg:deb/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let vendor = if vendor == "debian" { "Debian" } else { vendor };
    let places = [("root", package.in_root), ("boot", package.in_boot)];
    let mut properties = vec![property(ORIGIN, "package")];
    if !known.section.is_empty() {
        properties.push(property("shelfboot:section", &known.section));
    }
    properties.extend(places.iter().filter(|(_, there)| *there).map(|(place, _)| property(IN, place)));
    properties.extend(package.licence.why_not().map(|why| property(WHY_NO_LICENCE, why)));
    let (source, source_version) = &known.source;
    let ancestor = Component {
        kind: "library".into(),
        name: source.clone(),
        version: Some(source_version.clone()),
        ..Component::default()
    };
    Component {
        kind: "library".into(),
        bom_ref: Some(url.to_owned()),
        supplier: Some(Supplier { name: vendor.into() }),
        publisher: Some(known.maintainer.clone()).filter(|maintainer| !maintainer.is_empty()),
        name: known.name.clone(),
        version: Some(known.version.clone()),
        hashes: package.sha256.iter().map(|digest| Hash { alg: "SHA-256".into(), content: digest.clone() }).collect(),
        licenses: package
            .licence
            .declared()
            .map(|declared| License { expression: declared.expression.clone(), acknowledgement: "declared".into() })
            .into_iter()
            .collect(),
        purl: Some(url.to_owned()),
        pedigree: Some(Pedigree { ancestors: vec![ancestor] }),
        external_references: known
            .homepage
            .iter()
            .map(|url| ExternalReference { kind: "website".into(), url: url.clone() })
            .collect(),
        properties,
        ..Component::default()
    }
}

/// A container image. What is inside of it is for its own list to say.
fn container(reference: &str, digest: &str) -> Component {
    let hash = digest.strip_prefix("sha256:").map(|hex| Hash { alg: "SHA-256".into(), content: hex.into() });
    Component {
        kind: "container".into(),
        bom_ref: Some(format!("container:{reference}")),
        name: reference.into(),
        version: Some(digest.into()),
        hashes: hash.into_iter().collect(),
        ..Component::default()
    }
}

fn file(path: &str, entry: &Entry) -> Component {
    let mut out = Component { kind: "file".into(), name: path.into(), ..Component::default() };
    match &entry.content {
        Content::File(digests) => {
            out.hashes = vec![sha256(digests)];
            out.properties = vec![property(BYTES, &digests.bytes.to_string())];
        }
        Content::Link(target) => out.properties = vec![property(LINK, target)],
    }
    if let Origin::Made { instead_of: Some(package), .. } = &entry.origin {
        out.properties.push(property(INSTEAD_OF, package));
    }
    out
}

fn initrd(inventory: &Inventory) -> Component {
    let inside = inventory.initrd.iter().map(|(path, entry)| {
        let mut file = file(path, entry);
        file.properties.push(property(FROM, &reference(&entry.origin)));
        file
    });
    Component {
        kind: "data".into(),
        bom_ref: Some(INITRD.into()),
        name: "initrd".into(),
        description: Some("what the boot image unpacks into memory".into()),
        components: inside.collect(),
        ..Component::default()
    }
}

fn dependencies(inventory: &Inventory) -> Vec<Dependency> {
    let of_initrd = inventory.initrd.values().map(|entry| reference(&entry.origin)).collect();
    let in_root = inventory.packages.iter().filter(|(_, package)| package.in_root);
    let mut of_image: BTreeSet<String> = in_root.map(|(url, _)| url.clone()).collect();
    of_image.extend([INITRD.to_owned()]);
    of_image.extend(inventory.containers.keys().map(|reference| format!("container:{reference}")));
    let mut out = vec![
        Dependency { of: IMAGE.into(), depends_on: of_image },
        Dependency { of: INITRD.into(), depends_on: of_initrd },
    ];
    let packages = inventory.packages.iter();
    out.extend(packages.map(|(url, package)| Dependency { of: url.clone(), depends_on: package.depends.clone() }));
    out
}

fn sha256(digests: &Digests) -> Hash {
    Hash { alg: "SHA-256".into(), content: digests.sha256.clone() }
}

fn property(name: &str, value: &str) -> Property {
    Property { name: name.into(), value: value.into() }
}
