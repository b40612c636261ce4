//! From signed metadata and assignments to the list of files: the documents in between are read as they come.

use super::{
    folder::Folder,
    metadata::Listed,
    want::{self, Judge, LARGEST_DOCUMENT, Object, Wanted},
};
use contracts::{
    Versioned,
    assignment::ImageRef,
    manifest::{Channel, ImageManifest},
    rollout::Rollout,
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};
use time::OffsetDateTime;

/// Versions that are remembered as announced.
const MOST_SEEN: usize = 256;

/// Everything that a store needs.
#[derive(Debug, Default, Clone)]
pub struct Plan {
    /// Documents and the like, which belong to no image.
    pub common: Vec<Object>,
    /// Images that machines are given now.
    pub assigned: Vec<Wanted>,
    /// Images that they will be given.
    pub announced: Vec<Wanted>,
    /// Which image an assignment means, or why it means none.
    pub meaning: HashMap<ImageRef, Result<(String, String), String>>,
    /// A document that is not here and has to be fetched before more can be said.
    pub missing: Option<Object>,
}

/// How announced versions are looked at.
#[derive(Debug)]
pub struct Announcements<'a> {
    /// This store's name.
    pub store: &'a str,
    /// When each was first heard of.
    pub seen: &'a mut HashMap<(String, String), OffsetDateTime>,
    /// See [`super::config::CacheConfig::lead`].
    pub lead: Duration,
    /// See [`super::config::CacheConfig::spread`].
    pub spread: Duration,
    /// Now.
    pub now: OffsetDateTime,
}

/// Why a document says nothing.
enum Unread {
    Missing(Object),
    Wrong(String),
}

struct Reader<'a> {
    folder: &'a Folder,
    targets: &'a BTreeMap<String, Listed>,
}

impl Reader<'_> {
    fn read<T: Versioned + DeserializeOwned>(&self, name: &str) -> Result<T, Unread> {
        let listed = self.targets.get(name).ok_or_else(|| Unread::Wrong(format!("the repository has no {name}")))?;
        if listed.0 > LARGEST_DOCUMENT {
            return Err(Unread::Wrong(format!("{name} is larger than a document")));
        }
        let object = Object::target(name, *listed);
        let bytes = std::fs::read(self.folder.place(&object.path)).unwrap_or_default();
        if object.judge != Judge::Whole(Sha256::digest(&bytes).into()) {
            // One that is there and damaged is fetched anew.
            let _ = self.folder.remove(&object.path);
            return Err(Unread::Missing(object));
        }
        contracts::read(&bytes).map_err(|error| Unread::Wrong(crate::boot_files::chain(&error)))
    }

    fn image(&self, template: &str, version: &str) -> Result<Wanted, Unread> {
        let manifest: ImageManifest = self.read(&ImageManifest::target_name(template, version))?;
        let wrong = |why| Unread::Wrong(format!("the manifest of {template} {version}: {why}"));
        manifest.check(template, version).map_err(wrong)?;
        let objects = want::objects(&manifest, self.targets).map_err(Unread::Wrong)?;
        Ok(Wanted { template: template.into(), version: version.into(), due: None, objects })
    }

    fn assigned(&self, image: &ImageRef) -> Result<Wanted, Unread> {
        let version = match &image.version {
            Some(version) => version.clone(),
            None => self.read::<Channel>(&Channel::target_name(&image.template, &image.channel))?.image_version,
        };
        self.image(&image.template, &version)
    }

    fn announced(&self, image: &ImageRef, about: &mut Announcements<'_>) -> Result<Option<Wanted>, Unread> {
        let name = Rollout::target_name(&image.template, &image.channel);
        if image.version.is_some() || !self.targets.contains_key(&name) {
            return Ok(None);
        }
        let rollout: Rollout = self.read(&name)?;
        if rollout.template != image.template || rollout.check().is_err() {
            return Err(Unread::Wrong(format!("{name} makes no sense")));
        }
        let Some(reach) = want::reaches_at(&rollout, about.store) else { return Ok(None) };
        let key = (rollout.template.clone(), rollout.image_version.clone());
        if about.seen.len() >= MOST_SEEN && !about.seen.contains_key(&key) {
            about.seen.clear();
        }
        let seen = *about.seen.entry(key).or_insert(about.now);
        let place = want::place(about.store, &rollout.template, &rollout.image_version);
        let mut wanted = self.image(&rollout.template, &rollout.image_version)?;
        wanted.due = Some(want::fetch_at(reach, seen, place, about.lead, about.spread));
        Ok(Some(wanted))
    }
}

/// Works out what is needed, from what lies in the folder.
#[must_use]
pub fn resolve(
    folder: &Folder,
    targets: &BTreeMap<String, Listed>,
    images: &[ImageRef],
    about: &mut Announcements<'_>,
) -> Plan {
    let reader = Reader { folder, targets };
    let mut plan = Plan::default();
    let documents = images.iter().flat_map(|image| want::documents(image, targets));
    for name in documents.chain([want::REGISTRAR_CA.to_owned()]) {
        if let Some(listed) = targets.get(&name) {
            plan.common.push(Object::target(&name, *listed));
        }
    }
    let mut known = HashSet::new();
    for image in images {
        let meaning = match reader.assigned(image) {
            Ok(wanted) => {
                let key = (wanted.template.clone(), wanted.version.clone());
                if known.insert(key.clone()) {
                    plan.assigned.push(wanted);
                }
                Ok(key)
            }
            Err(Unread::Missing(object)) => {
                plan.missing.get_or_insert(object);
                Err("it is not here yet".to_owned())
            }
            Err(Unread::Wrong(why)) => Err(why),
        };
        plan.meaning.insert(image.clone(), meaning);
    }
    for image in images {
        match reader.announced(image, about) {
            Ok(Some(wanted)) if known.insert((wanted.template.clone(), wanted.version.clone())) => {
                plan.announced.push(wanted);
            }
            Ok(_) => {}
            Err(Unread::Missing(object)) => drop(plan.missing.get_or_insert(object)),
            Err(Unread::Wrong(why)) => tracing::warn!("an announced version is not fetched: {why}"),
        }
    }
    plan
}

impl Plan {
    /// Everything that machines need now, each file once.
    #[must_use]
    pub fn needed(&self) -> Vec<Object> {
        unique(self.common.iter().chain(self.assigned.iter().flat_map(|wanted| &wanted.objects)))
    }

    /// The paths of everything, announced versions too, and of where it lies while it is fetched.
    #[must_use]
    pub fn paths(&self, folder: &Folder) -> HashSet<String> {
        let announced = self.announced.iter().flat_map(|wanted| &wanted.objects);
        let all = self.common.iter().chain(self.assigned.iter().flat_map(|wanted| &wanted.objects)).chain(announced);
        all.flat_map(|object| {
            let partial = folder.partial(object);
            let partial = partial.strip_prefix(&folder.path).unwrap_or(&partial).display().to_string();
            [object.path.clone(), format!("{partial}.tag"), partial]
        })
        .collect()
    }
}

/// Each object once, in order.
#[must_use]
pub fn unique<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<Object> {
    let mut seen = HashSet::new();
    objects.filter(|object| seen.insert(object.path.clone())).cloned().collect()
}
