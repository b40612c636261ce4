//! Files of the image, and those whose parameters a region or a store may say: the machine completes them.

use crate::{
    compose::{Checked, Documents, fill, unfilled},
    error::{Problem, Problems},
    parameters::Parameters,
    shapes::FileSpec,
    template::{File, MachineTemplate},
    validate,
    yaml::{Placed, Source},
};
use contracts::fill;
use std::{cell::Cell, path::Path};

/// A file, as it lies in the image, and as the machine completes it; at least one of both.
#[derive(Debug)]
pub(crate) struct Written {
    now: Option<File>,
    late: Option<File>,
}

impl Written {
    /// Replaces whatever was at this path.
    pub(crate) fn put(self, path: String, merged: &mut MachineTemplate) {
        for (files, file) in [(&mut merged.files, self.now), (&mut merged.late_files, self.late)] {
            match file {
                Some(file) => files.insert(path.clone(), file),
                None => files.remove(&path),
            };
        }
    }
}

/// Reads a file of a configuration profile. What is filled in late has the build's values in the image, so that a machine that
/// nobody told anything works as far as it can.
pub(crate) fn read(source: &Source, spec: &FileSpec, values: &Parameters) -> Checked<(String, Written)> {
    let mode = spec.mode.as_ref().map_or(Ok(0o644), |mode| validate::mode(source, mode))?;
    let path = validate::path(source, &spec.path)?;
    let is_late = Cell::new(false);
    let later = |name: &str| {
        let later = values.late.contains_key(name);
        is_late.set(is_late.get() || later);
        later
    };
    let content = fill::substitute_now(&spec.content.value, &values.now, later)
        .map_err(|error| unfilled(source, &spec.content, &error, ""))?;
    if !is_late.get() {
        let content = fill(source, &spec.content, values)?;
        return Ok((path, Written { now: Some(File { mode, content }), late: None }));
    }
    if !path.starts_with("/etc/") {
        let message = format!("{path} holds a parameter that a store may say, and is not below /etc");
        let fix = "only /etc can be written when the machine starts; move the file, or declare the parameter without 'per: store'";
        return Err(source.problem(&spec.path, "late-parameter", message, fix));
    }
    let built = fill::substitute(&content, &values.late).ok().map(|content| File { mode, content });
    Ok((path, Written { now: built, late: Some(File { mode, content }) }))
}

/// What persists is bound over `/etc` after the files were written: they would not be seen.
pub(crate) fn check_places(documents: &Documents, merged: &MachineTemplate, problems: &mut Problems) {
    for profile in &documents.configuration {
        for file in &profile.document.spec.files {
            let path = &file.path.value;
            let hidden = |kept: &&String| Path::new(path).starts_with(kept);
            if let Some(kept) = merged.persist.iter().find(hidden).filter(|_| merged.late_files.contains_key(path)) {
                let message =
                    format!("{path} holds a parameter that a store may say, and {kept} is kept from start to start");
                let fix = "move the file out of the paths of 'persist'";
                problems.note(*profile.source.problem(&file.path, "late-parameter", message, fix));
            }
        }
    }
}

/// A parameter where only the build can say something.
pub(crate) fn too_early(source: &Source, at: &Placed<String>, name: &str) -> Box<Problem> {
    let message = format!("the parameter '{name}' is known only on the machine");
    let fix = "use it in the 'content' of files below /etc, or declare it without 'per: store'";
    source.problem_within(at, &format!("${{{name}}}"), "late-parameter", message, fix)
}
