//! Files that an image leaves open: their parameters have a value of the build, a region or a store may say another one, and the
//! machine fills them in.

use crate::{
    enrollment::NodeFile,
    fill::{self, SubstituteError, Values},
    machine::MachineConfig,
};
use std::collections::BTreeMap;

/// A file that cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot fill in {path}")]
pub struct LateError {
    /// Which.
    pub path: String,
    /// Why not.
    #[source]
    pub source: SubstituteError,
}

/// The files with these values, and with those of the build where there are none. Values of other names are left alone: a region
/// has more than one template. Gives those that can be filled in, and what is wrong with the others.
#[must_use]
pub fn files(config: &MachineConfig, values: &BTreeMap<String, String>) -> (Vec<NodeFile>, Vec<LateError>) {
    let value =
        |(name, built): (&String, &Option<String>)| (name.clone(), values.get(name).cloned().or_else(|| built.clone()));
    let values: Values = config.late_parameters.iter().map(value).collect();
    let (mut filled, mut wrong) = (Vec::new(), Vec::new());
    for file in &config.late_files {
        match fill::substitute(&file.content, &values) {
            Ok(content) => filled.push(NodeFile { content, ..file.clone() }),
            Err(source) => wrong.push(LateError { path: file.path.clone(), source }),
        }
    }
    (filled, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{JoinConfig, ReadyCheck};

    fn config() -> MachineConfig {
        let file =
            |path: &str, content: &str| NodeFile { path: path.into(), mode: "0644".into(), content: content.into() };
        MachineConfig {
            version: crate::VERSION,
            template: "t".into(),
            image_version: "1".into(),
            persist: vec![],
            data_disks: None,
            state: Default::default(),
            state_formats: vec![],
            late_files: vec![file("/etc/a", "x=${a} $${b}"), file("/etc/b", "${b}")],
            late_parameters: BTreeMap::from([("a".into(), Some("built".into())), ("b".into(), None)]),
            join: JoinConfig {
                driver: "kubernetes".into(),
                certificates: vec![],
                files: vec![],
                units: vec![],
                ready: ReadyCheck::Command(vec![]),
            },
        }
    }

    #[test]
    fn a_store_says_more_than_the_build() {
        let said = |values: &[(&str, &str)]| {
            let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let (files, wrong) = files(&config(), &values);
            (files.into_iter().map(|file| file.content).collect::<Vec<_>>(), wrong)
        };
        let missing = LateError { path: "/etc/b".into(), source: SubstituteError::Missing("b".into()) };
        assert_eq!(said(&[]), (vec!["x=built ${b}".into()], vec![missing.clone()]));
        assert_eq!(said(&[("a", "store"), ("other", "1")]), (vec!["x=store ${b}".into()], vec![missing]));
        assert_eq!(said(&[("b", "${a}")]), (vec!["x=built ${b}".into(), "${a}".into()], vec![]));
    }
}
