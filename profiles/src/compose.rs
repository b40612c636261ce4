//! Merges a template and its profiles. Pure: documents in, a [`MachineTemplate`] or a [`Problem`] out.

use crate::{
    container_image, disks, egress,
    error::{Problem, Problems},
    kernel, late_files,
    parameters::{self, Parameters},
    shapes::{
        CertificateSpec, ConfigurationDocument, FileSpec, ReadySpec, RepositorySpec, SettingsDocument,
        SoftwareDocument, TemplateDocument,
    },
    state_format,
    template::{AptRepository, MachineTemplate, SigningKey},
    users, validate,
    yaml::{Placed, Source},
};
use contracts::{
    fill::{self, SubstituteError},
    join::{self, Driver},
    machine::{CertificateConfig, DataDisks, JoinConfig, JoinFile, ReadyCheck},
};
use std::path::Path;

/// A document and where it came from.
#[derive(Debug)]
pub(crate) struct Named<T> {
    pub(crate) source: Source,
    pub(crate) document: T,
}

/// Everything that one template is made of, as written.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) template: Named<TemplateDocument>,
    pub(crate) software: Vec<Named<SoftwareDocument>>,
    pub(crate) configuration: Vec<Named<ConfigurationDocument>>,
    pub(crate) settings: Option<Named<SettingsDocument>>,
}

/// A parameter without a default that nothing names a value for.
pub(crate) const MISSING_VALUE: &str = "missing-value";

pub(crate) type Checked<T> = Result<T, Box<Problem>>;

/// Merges, in the order in which the template names them: software, then configuration; later ones win. Everything that is
/// wrong is noted; `None` when there is no join to be had.
pub(crate) fn compose(documents: &Documents, problems: &mut Problems) -> Option<MachineTemplate> {
    let template = &documents.template;
    let values = parameters::read(documents, problems);
    let name = problems.keep(validate::name(&template.source, &template.document.metadata.name));
    let mut merged = MachineTemplate {
        name: name.unwrap_or_default(),
        description: template.document.metadata.description.clone(),
        packages: Default::default(),
        base_packages: Default::default(),
        repositories: Default::default(),
        exclude: Default::default(),
        container_images: Default::default(),
        files: Default::default(),
        late_files: Default::default(),
        late_parameters: values.late.clone(),
        links: Default::default(),
        folders: Default::default(),
        units: Default::default(),
        sysctls: Default::default(),
        modules: Default::default(),
        kernel_arguments: Default::default(),
        users: Default::default(),
        egress: None,
        persist: Default::default(),
        state: state_format::policy(template.document.spec.state),
        state_formats: state_format::read(template, problems),
        disks: disks::read(template, &values, problems),
        data_disks: problems.keep(data_disks(template, &values)).flatten(),
        join: JoinConfig {
            driver: String::new(),
            certificates: vec![],
            files: vec![],
            units: vec![],
            ready: ReadyCheck::Command(vec![]),
        },
    };
    for (number, profile) in documents.software.iter().enumerate() {
        add_software(&mut merged, profile, &values, problems);
        if number == 0 {
            merged.base_packages = merged.packages.clone();
        }
    }
    for profile in &documents.configuration {
        add_configuration(&mut merged, profile, &values, problems);
    }
    late_files::check_places(documents, &merged, problems);
    merged.join = join(template, &values, problems)?;
    Some(merged)
}

fn data_disks(template: &Named<TemplateDocument>, values: &Parameters) -> Checked<Option<DataDisks>> {
    let Some(spec) = &template.document.spec.data_disks else { return Ok(None) };
    let text = fill(&template.source, &spec.smallest, values)?;
    match parameters::bytes(&text) {
        Some(smallest_bytes) => Ok(Some(DataDisks { smallest_bytes })),
        None => {
            let message = format!("'{text}' is not a size");
            Err(template.source.problem(&spec.smallest, "bad-size", message, "write for example 100 GB"))
        }
    }
}

fn join(template: &Named<TemplateDocument>, values: &Parameters, problems: &mut Problems) -> Option<JoinConfig> {
    let (source, spec) = (&template.source, &template.document.spec.join);
    let driver = join::driver(&spec.driver.value);
    if driver.is_none() {
        let message = format!("there is no join driver '{}'", spec.driver.value);
        let known: Vec<&str> = join::DRIVERS.iter().map(|driver| driver.name).collect();
        let fix = format!("write {}", known.join(" or "));
        problems.note(*source.problem(&spec.driver, "unknown-join-driver", message, fix));
    }
    let certificates: Vec<_> =
        spec.certificates.iter().filter_map(|c| problems.keep(certificate(source, c, driver, values))).collect();
    let files: Vec<_> =
        spec.files.iter().filter_map(|file| problems.keep(join_file(source, file, driver, values))).collect();
    let units = spec.units.iter().filter_map(|unit| problems.keep(validate::unit(source, unit))).collect();
    let ready = problems.keep(ready(source, &spec.ready))?;
    Some(JoinConfig { driver: driver?.name.into(), certificates, files, units, ready })
}

fn ready(source: &Source, spec: &ReadySpec) -> Checked<ReadyCheck> {
    match spec {
        ReadySpec::Http(url) if !url.value.starts_with("http://127.0.0.1") => {
            let message = "the health endpoint is not on this machine's loopback address";
            Err(source.problem(url, "bad-check", message, "write for example http://127.0.0.1:10248/healthz"))
        }
        ReadySpec::Http(url) => Ok(ReadyCheck::Http(url.value.clone())),
        ReadySpec::Command(words) => {
            if let Some(program) = words.first() {
                validate::path(source, program)?;
            }
            Ok(ReadyCheck::Command(words.iter().map(|word| word.value.clone()).collect()))
        }
    }
}

/// Without a driver nothing can be said about its purposes and values.
fn certificate(
    source: &Source,
    spec: &CertificateSpec,
    driver: Option<Driver>,
    values: &Parameters,
) -> Checked<CertificateConfig> {
    if let Some(driver) = driver.filter(|driver| !driver.certificates.contains(&spec.purpose.value.as_str())) {
        let message = format!("the driver {} has no certificates for '{}'", driver.name, spec.purpose.value);
        return Err(source.problem(
            &spec.purpose,
            "unknown-purpose",
            message,
            format!("write {}", driver.certificates.join(" or ")),
        ));
    }
    let text = |at: &Placed<String>| fill_at_join(source, at, driver, values);
    Ok(CertificateConfig {
        purpose: spec.purpose.value.clone(),
        organization: spec.organization.as_ref().map(text).transpose()?,
        common_name: text(&spec.common_name)?,
        key: validate::path(source, &spec.key)?,
        certificate: validate::path(source, &spec.certificate)?,
    })
}

/// What the region gives may be a secret: only the machine's root reads it unless the template says otherwise.
fn join_file(source: &Source, spec: &FileSpec, driver: Option<Driver>, values: &Parameters) -> Checked<JoinFile> {
    let mode = spec.mode.as_ref().map_or(Ok(0o600), |mode| validate::mode(source, mode))?;
    Ok(JoinFile {
        path: validate::path(source, &spec.path)?,
        mode: format!("{mode:04o}"),
        content: fill_at_join(source, &spec.content, driver, values)?,
    })
}

/// Fills in parameters, and leaves what the machine and the region know.
fn fill_at_join(source: &Source, at: &Placed<String>, driver: Option<Driver>, values: &Parameters) -> Checked<String> {
    let later = |name: &str| match driver {
        Some(driver) => driver.fills(name),
        None => name == join::MACHINE_NAME || name.starts_with("region."),
    };
    fill::substitute_now(&at.value, &values.now, later).map_err(|error| {
        if let SubstituteError::Unknown(name) = &error
            && values.late.contains_key(name)
        {
            return late_files::too_early(source, at, name);
        }
        let more = driver.map_or_else(String::new, |driver| {
            let region: Vec<String> = driver.values.iter().map(|value| format!("region.{value}")).collect();
            let known = [&[join::MACHINE_NAME.to_owned()], region.as_slice()].concat().join(", ");
            format!("; the driver {} fills in {known}", driver.name)
        });
        unfilled(source, at, &error, &more)
    })
}

fn add_software(
    merged: &mut MachineTemplate,
    profile: &Named<SoftwareDocument>,
    values: &Parameters,
    problems: &mut Problems,
) {
    let (source, spec) = (&profile.source, &profile.document.spec);
    problems.keep(validate::name(source, &profile.document.metadata.name));
    for package in &spec.packages {
        let Some(package) = problems.keep(validate::package(source, package)) else { continue };
        // A later profile's pinned version replaces an earlier one's.
        let name = package.split('=').next().unwrap_or_default().to_owned();
        merged.packages.retain(|other| other.split('=').next() != Some(&name));
        merged.packages.insert(package);
    }
    for repository in &spec.repositories {
        if let Some(checked) = problems.keep(apt_repository(source, repository, values)) {
            merged.repositories.insert(repository.name.value.clone(), checked);
        }
    }
    for image in &spec.container_images {
        if let Some((reference, image)) = problems.keep(container_image::read(source, image, values)) {
            merged.container_images.insert(reference, image);
        }
    }
    merged.exclude.extend(spec.exclude.iter().filter_map(|path| problems.keep(validate::path(source, path))));
}

fn apt_repository(source: &Source, spec: &RepositorySpec, values: &Parameters) -> Checked<AptRepository> {
    let uri = fill(source, &spec.uri, values)?;
    let remote = ["https://", "http://", "file:///", "copy:///", "file:/", "copy:/"];
    if !remote.iter().any(|scheme| uri.starts_with(scheme)) || uri.contains(char::is_whitespace) {
        let message = format!("'{uri}' is not the address of an apt repository");
        return Err(source.problem(
            &spec.uri,
            "bad-repository",
            message,
            "start it with https://, http://, file:/// or copy:///",
        ));
    }
    let suite = fill(source, &spec.suite, values)?;
    let mut components = Vec::new();
    for component in &spec.components {
        components.extend(fill(source, component, values)?.split_whitespace().map(str::to_owned));
    }
    if suite.ends_with('/') != components.is_empty() {
        let message = format!("suite '{suite}' and {} components do not fit", components.len());
        let fix = "a flat repository has a suite that ends in '/' and no components, any other one needs components";
        return Err(source.problem(&spec.suite, "bad-repository", message, fix));
    }
    let key = fill(source, &spec.signed_by, values)?;
    let signed_by = if key.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        SigningKey::Armored(key)
    } else if Path::new(&key).is_absolute() {
        SigningKey::File(key.into())
    } else {
        let message = format!("'{key}' is neither an absolute path nor an armored key");
        return Err(source.problem(
            &spec.signed_by,
            "bad-repository",
            message,
            "write the absolute path of the repository's key",
        ));
    };
    Ok(AptRepository { uri, suite, components, signed_by })
}

fn add_configuration(
    merged: &mut MachineTemplate,
    profile: &Named<ConfigurationDocument>,
    values: &Parameters,
    problems: &mut Problems,
) {
    let (source, spec) = (&profile.source, &profile.document.spec);
    problems.keep(validate::name(source, &profile.document.metadata.name));
    for file in &spec.files {
        if let Some((path, file)) = problems.keep(late_files::read(source, file, values)) {
            merged.links.remove(&path);
            file.put(path, merged);
        }
    }
    for link in &spec.links {
        if let Some(path) = problems.keep(validate::path(source, &link.path)) {
            merged.files.remove(&path);
            merged.late_files.remove(&path);
            merged.links.insert(path, link.target.value.clone());
        }
    }
    for (units, enabled) in [(&spec.units.enable, true), (&spec.units.mask, false)] {
        let checked = units.iter().filter_map(|unit| problems.keep(validate::unit(source, unit)));
        merged.units.extend(checked.map(|unit| (unit, enabled)));
    }
    for (name, value) in &spec.sysctls {
        if let Some(value) = problems.keep(fill(source, value, values)) {
            merged.sysctls.insert(name.clone(), value);
        }
    }
    for at in &spec.kernel_arguments {
        let argument = problems.keep(kernel::argument(source, at, values));
        argument.map(|argument| problems.keep(kernel::add(source, at, argument, &mut merged.kernel_arguments)));
    }
    for user in &spec.users {
        problems.keep(users::add(source, user, values, &mut merged.users));
    }
    if let Some(egress) = &spec.egress {
        egress::add(source, egress, values, merged.egress.get_or_insert_default(), problems);
    }
    merged.folders.extend(spec.folders.iter().filter_map(|path| problems.keep(validate::path(source, path))));
    merged.modules.extend(spec.modules.iter().filter_map(|module| problems.keep(validate::module(source, module))));
    merged.persist.extend(spec.persist.iter().filter_map(|path| problems.keep(validate::path(source, path))));
}

pub(crate) fn fill(source: &Source, at: &Placed<String>, values: &Parameters) -> Checked<String> {
    fill::substitute(&at.value, &values.now).map_err(|error| match &error {
        SubstituteError::Unknown(name) if values.late.contains_key(name) => late_files::too_early(source, at, name),
        _ => unfilled(source, at, &error, ""),
    })
}

pub(crate) fn unfilled(source: &Source, at: &Placed<String>, error: &SubstituteError, more: &str) -> Box<Problem> {
    let (code, part, fix) = match error {
        SubstituteError::Unknown(name) => {
            let fix = format!("declare it under 'parameters:', or write $${{{name}}}{more}");
            ("undeclared-parameter", format!("${{{name}}}"), fix)
        }
        SubstituteError::Missing(name) => {
            let fix = format!("name a value for {name} in the settings file (--settings)");
            (MISSING_VALUE, format!("${{{name}}}"), fix)
        }
        SubstituteError::Open => {
            ("unclosed-reference", "${".to_owned(), "close it, or write $${ for a literal ${".to_owned())
        }
    };
    source.problem_within(at, &part, code, error.to_string(), fix)
}
