//! What a template comes to, and where each part of it was written.

use crate::{
    compose::{Documents, MISSING_VALUE, Named, compose},
    egress,
    error::{Problems, ProfileError},
    load::read_documents,
    parameters,
    shapes::{ConfigurationDocument, SoftwareDocument},
    template::MachineTemplate,
    yaml::{Placed, Source},
};
use std::path::{Path, PathBuf};

/// One part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// As in the documents: `parameters`, `packages`, `files`, ….
    pub section: &'static str,
    /// Its name, path or key.
    pub name: String,
    /// What it is; empty where the name says everything. `None` for a parameter without a value.
    pub value: Option<String>,
    /// Where it was written.
    pub from: Place,
    /// Where it was written before, and is not used.
    pub over: Vec<Place>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u64,
}

/// A template, part by part: sections in their order, names sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The template's name.
    pub template: String,
    /// A sentence for people.
    pub description: String,
    /// The parts.
    pub parts: Vec<Part>,
}

/// Explains a template. A parameter that has no value yet is shown as such.
///
/// # Errors
/// [`ProfileError`], with everything that is wrong.
pub fn explain(template: &Path, settings: Option<&Path>) -> Result<Explanation, ProfileError> {
    let mut problems = Problems::default();
    let documents = read_documents(template, settings, &mut problems)?;
    let merged = documents.as_ref().and_then(|documents| compose(documents, &mut problems));
    let mut wrong = problems.into_vec();
    wrong.retain(|problem| problem.code != MISSING_VALUE);
    match (documents, wrong) {
        (Some(documents), wrong) if wrong.is_empty() => Ok(parts(&documents, merged.as_ref())),
        (_, wrong) => Err(ProfileError::Invalid(wrong)),
    }
}

const SECTIONS: [&str; 16] = [
    "parameters",
    "packages",
    "repositories",
    "exclude",
    "containerImages",
    "files",
    "links",
    "folders",
    "units",
    "sysctls",
    "modules",
    "kernelArguments",
    "users",
    "egress",
    "persist",
    "stateFormats",
];

fn parts(documents: &Documents, merged: Option<&MachineTemplate>) -> Explanation {
    let mut written = Written::default();
    documents.software.iter().for_each(|profile| software(&mut written, profile));
    documents.configuration.iter().for_each(|profile| configuration(&mut written, profile));
    if let Some(Named { source, document }) = &documents.settings {
        document
            .parameters
            .iter()
            .for_each(|(name, value)| written.note("parameters", name.clone(), "", source, value));
    }
    let Named { source, document } = &documents.template;
    for state in &document.spec.state_formats {
        let back = if state.going_back_safe { "safe" } else { "not safe" };
        let value = format!("{}, going back is {back}", state.format.value);
        written.note("stateFormats", state.path.value.clone(), &value, source, &state.path);
    }
    let values = parameters::read(documents, &mut Problems::default());
    for part in &mut written.0 {
        part.value = match (part.section, merged) {
            ("parameters", _) => match values.late.get(&part.name) {
                Some(value) => Some(format!("{} (or as its store says)", value.as_deref().unwrap_or("no value"))),
                None => values.now.get(&part.name).cloned().flatten(),
            },
            // Filled in, where everything has a value.
            ("repositories", Some(merged)) => {
                let repository = merged.repositories.get(&part.name);
                repository
                    .map_or(part.value.take(), |r| Some(format!("{} {} {}", r.uri, r.suite, r.components.join(" "))))
            }
            ("sysctls", Some(merged)) => merged.sysctls.get(&part.name).cloned().or(part.value.take()),
            _ => part.value.take(),
        };
    }
    let mut parts = written.0;
    parts.sort_by_key(|part| (SECTIONS.iter().position(|section| *section == part.section), part.name.clone()));
    let metadata = &documents.template.document.metadata;
    Explanation { template: metadata.name.value.clone(), description: metadata.description.clone(), parts }
}

fn software(written: &mut Written, profile: &Named<SoftwareDocument>) {
    let (source, spec) = (&profile.source, &profile.document.spec);
    written.parameters(source, spec.parameters.iter().map(|(name, parameter)| (name, parameter.default.as_ref())));
    for package in &spec.packages {
        let (name, version) = package.value.split_once('=').unwrap_or((&package.value, ""));
        written.note("packages", name.into(), version, source, package);
    }
    for repository in &spec.repositories {
        written.note("repositories", repository.name.value.clone(), &repository.uri.value, source, &repository.name);
    }
    for image in &spec.container_images {
        let value = format!("{} from {}", image.digest.value, image.source.value);
        written.note("containerImages", image.reference.value.clone(), &value, source, &image.reference);
    }
    spec.exclude.iter().for_each(|path| written.note("exclude", path.value.clone(), "", source, path));
}

fn configuration(written: &mut Written, profile: &Named<ConfigurationDocument>) {
    let (source, spec) = (&profile.source, &profile.document.spec);
    written.parameters(source, spec.parameters.iter().map(|(name, parameter)| (name, parameter.default.as_ref())));
    for file in &spec.files {
        let mode = file.mode.as_ref().map_or("0644", |mode| mode.value.as_str());
        let value = format!("mode {mode}, {} lines", file.content.value.lines().count());
        written.note("files", file.path.value.clone(), &value, source, &file.path);
    }
    for link in &spec.links {
        written.note("links", link.path.value.clone(), &link.target.value, source, &link.path);
    }
    for (units, word) in [(&spec.units.enable, "enabled"), (&spec.units.mask, "masked")] {
        units.iter().for_each(|unit| written.note("units", unit.value.clone(), word, source, unit));
    }
    spec.sysctls.iter().for_each(|(name, value)| written.note("sysctls", name.clone(), &value.value, source, value));
    let arguments = &spec.kernel_arguments;
    arguments.iter().for_each(|word| written.note("kernelArguments", word.value.clone(), "", source, word));
    for user in &spec.users {
        written.note("users", user.name.value.clone(), &format!("uid {}", user.uid.value), source, &user.name);
    }
    for rule in spec.egress.iter().flat_map(|egress| &egress.allow) {
        let list = |items: &[Placed<String>]| items.iter().map(|at| at.value.as_str()).collect::<Vec<_>>().join(", ");
        let how = format!("{} {}", egress::word(rule.protocol.as_ref()), list(&rule.ports));
        if let Some(first) = rule.to.first() {
            written.note("egress", list(&rule.to), how.trim_end(), source, first);
        }
    }
    for (section, list) in [("folders", &spec.folders), ("modules", &spec.modules), ("persist", &spec.persist)] {
        list.iter().for_each(|item| written.note(section, item.value.clone(), "", source, item));
    }
}

#[derive(Default)]
struct Written(Vec<Part>);

impl Written {
    /// Later ones win; a file and a link at the same path are one thing.
    fn note<T>(&mut self, section: &'static str, name: String, value: &str, source: &Source, at: &Placed<T>) {
        self.put(section, name, value, Place { file: source.file.clone(), line: at.referenced.line().max(1) });
    }

    fn put(&mut self, section: &'static str, name: String, value: &str, from: Place) {
        let one_path = |a: &str, b: &str| ["files", "links"].contains(&a) && ["files", "links"].contains(&b);
        let same = |part: &&mut Part| part.name == name && (part.section == section || one_path(part.section, section));
        if let Some(part) = self.0.iter_mut().find(same) {
            let before = std::mem::replace(&mut part.from, from);
            part.over.push(before);
            (part.section, part.value) = (section, Some(value.to_owned()));
        } else {
            self.0.push(Part { section, name, value: Some(value.to_owned()), from, over: Vec::new() });
        }
    }

    fn parameters<'a>(
        &mut self,
        source: &Source,
        parameters: impl Iterator<Item = (&'a String, Option<&'a Placed<String>>)>,
    ) {
        for (name, default) in parameters {
            match default {
                Some(default) => self.note("parameters", name.clone(), "", source, default),
                None => {
                    let line = source.line_of(&format!("{name}:"));
                    self.put("parameters", name.clone(), "", Place { file: source.file.clone(), line });
                }
            }
        }
    }
}
