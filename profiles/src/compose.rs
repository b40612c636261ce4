//! Merges a template and its profiles. Pure: documents in, a [`MachineTemplate`] or a [`Problem`] out.

use crate::{
    error::Problem,
    parameters,
    shapes::{
        CertificateSpec, ConfigurationDocument, FileSpec, ReadySpec, RepositorySpec, SettingsDocument,
        SoftwareDocument, TemplateDocument,
    },
    template::{AptRepository, File, MachineTemplate, SigningKey},
    validate,
    yaml::{Placed, Source},
};
use contracts::{
    fill::{self, SubstituteError, Values},
    join::{self, Driver},
    machine::{CertificateConfig, DataDisks, JoinConfig, JoinFile, ReadyCheck},
};
use std::{collections::BTreeMap, path::Path};

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

type Checked<T> = Result<T, Box<Problem>>;

/// Merges, in the order in which the template names them: software, then configuration; later ones win.
pub(crate) fn compose(documents: &Documents) -> Checked<MachineTemplate> {
    let template = &documents.template;
    let values = parameter_values(documents)?;
    let mut merged = MachineTemplate {
        name: validate::name(&template.source, &template.document.metadata.name)?,
        description: template.document.metadata.description.clone(),
        packages: Default::default(),
        repositories: Default::default(),
        exclude: Default::default(),
        files: Default::default(),
        links: Default::default(),
        folders: Default::default(),
        units: Default::default(),
        sysctls: Default::default(),
        modules: Default::default(),
        persist: Default::default(),
        data_disks: data_disks(template, &values)?,
        join: join(template, &values)?,
    };
    for profile in &documents.software {
        add_software(&mut merged, profile, &values)?;
    }
    for profile in &documents.configuration {
        add_configuration(&mut merged, profile, &values)?;
    }
    Ok(merged)
}

/// The parameters that the profiles declare, with their defaults and then the settings' values, each of its kind.
fn parameter_values(documents: &Documents) -> Checked<Values> {
    let software = documents.software.iter().map(|named| (&named.source, &named.document.spec.parameters));
    let configuration = documents.configuration.iter().map(|named| (&named.source, &named.document.spec.parameters));
    let mut declared = BTreeMap::new();
    let mut values = Values::new();
    for (source, parameters) in software.chain(configuration) {
        for (name, parameter) in parameters {
            if let Some(default) = &parameter.default {
                parameters::check(source, default, name, parameter)?;
            }
            values.insert(name.clone(), parameter.default.as_ref().map(|default| default.value.clone()));
            declared.insert(name, parameter);
        }
    }
    if let Some(settings) = &documents.settings {
        for (name, value) in &settings.document.parameters {
            let Some(parameter) = declared.get(name) else {
                let known: Vec<&str> = values.keys().map(String::as_str).collect();
                let message = format!("no profile of this template has a parameter '{name}'");
                let fix = format!("the parameters are {}", known.join(", "));
                return Err(settings.source.problem(value, message, fix));
            };
            parameters::check(&settings.source, value, name, parameter)?;
            values.insert(name.clone(), Some(value.value.clone()));
        }
    }
    Ok(values)
}

fn data_disks(template: &Named<TemplateDocument>, values: &Values) -> Checked<Option<DataDisks>> {
    let Some(spec) = &template.document.spec.data_disks else { return Ok(None) };
    let text = fill(&template.source, &spec.smallest, values)?;
    match parameters::bytes(&text) {
        Some(smallest_bytes) => Ok(Some(DataDisks { smallest_bytes })),
        None => {
            let message = format!("'{text}' is not a size");
            Err(template.source.problem(&spec.smallest, message, "write for example 100 GB"))
        }
    }
}

fn join(template: &Named<TemplateDocument>, values: &Values) -> Checked<JoinConfig> {
    let (source, spec) = (&template.source, &template.document.spec.join);
    let Some(driver) = join::driver(&spec.driver.value) else {
        let message = format!("there is no join driver '{}'", spec.driver.value);
        let known: Vec<&str> = join::DRIVERS.iter().map(|driver| driver.name).collect();
        return Err(source.problem(&spec.driver, message, format!("write {}", known.join(" or "))));
    };
    let certificates = spec.certificates.iter().map(|c| certificate(source, c, driver, values));
    let files = spec.files.iter().map(|file| join_file(source, file, driver, values));
    Ok(JoinConfig {
        driver: driver.name.into(),
        certificates: certificates.collect::<Checked<_>>()?,
        files: files.collect::<Checked<_>>()?,
        units: spec.units.iter().map(|unit| validate::unit(source, unit)).collect::<Checked<_>>()?,
        ready: ready(source, &spec.ready)?,
    })
}

fn ready(source: &Source, spec: &ReadySpec) -> Checked<ReadyCheck> {
    match spec {
        ReadySpec::Http(url) if !url.value.starts_with("http://127.0.0.1") => {
            let message = "the health endpoint is not on this machine's loopback address";
            Err(source.problem(url, message, "write for example http://127.0.0.1:10248/healthz"))
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

fn certificate(source: &Source, spec: &CertificateSpec, driver: Driver, values: &Values) -> Checked<CertificateConfig> {
    if !driver.certificates.contains(&spec.purpose.value.as_str()) {
        let message = format!("the driver {} has no certificates for '{}'", driver.name, spec.purpose.value);
        return Err(source.problem(&spec.purpose, message, format!("write {}", driver.certificates.join(" or "))));
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
fn join_file(source: &Source, spec: &FileSpec, driver: Driver, values: &Values) -> Checked<JoinFile> {
    let mode = spec.mode.as_ref().map_or(Ok(0o600), |mode| validate::mode(source, mode))?;
    Ok(JoinFile {
        path: validate::path(source, &spec.path)?,
        mode: format!("{mode:04o}"),
        content: fill_at_join(source, &spec.content, driver, values)?,
    })
}

/// Fills in parameters, and leaves what the machine and the region know.
fn fill_at_join(source: &Source, at: &Placed<String>, driver: Driver, values: &Values) -> Checked<String> {
    fill::substitute_now(&at.value, values, |name| driver.fills(name)).map_err(|error| {
        let region: Vec<String> = driver.values.iter().map(|value| format!("region.{value}")).collect();
        let known = format!("{}, {}", join::MACHINE_NAME, region.join(", "));
        unfilled(source, at, &error, &format!("; the driver {} fills in {known}", driver.name))
    })
}

fn add_software(merged: &mut MachineTemplate, profile: &Named<SoftwareDocument>, values: &Values) -> Checked<()> {
    let (source, spec) = (&profile.source, &profile.document.spec);
    validate::name(source, &profile.document.metadata.name)?;
    for package in &spec.packages {
        let package = validate::package(source, package)?;
        // A later profile's pinned version replaces an earlier one's.
        let name = package.split('=').next().unwrap_or_default().to_owned();
        merged.packages.retain(|other| other.split('=').next() != Some(&name));
        merged.packages.insert(package);
    }
    for repository in &spec.repositories {
        let checked = apt_repository(source, repository, values)?;
        merged.repositories.insert(repository.name.value.clone(), checked);
    }
    for path in &spec.exclude {
        merged.exclude.insert(validate::path(source, path)?);
    }
    Ok(())
}

fn apt_repository(source: &Source, spec: &RepositorySpec, values: &Values) -> Checked<AptRepository> {
    let uri = fill(source, &spec.uri, values)?;
    let remote = ["https://", "http://", "file:///", "copy:///", "file:/", "copy:/"];
    if !remote.iter().any(|scheme| uri.starts_with(scheme)) || uri.contains(char::is_whitespace) {
        let message = format!("'{uri}' is not the address of an apt repository");
        return Err(source.problem(&spec.uri, message, "start it with https://, http://, file:/// or copy:///"));
    }
    let suite = fill(source, &spec.suite, values)?;
    let mut components = Vec::new();
    for component in &spec.components {
        components.extend(fill(source, component, values)?.split_whitespace().map(str::to_owned));
    }
    if suite.ends_with('/') != components.is_empty() {
        let message = format!("suite '{suite}' and {} components do not fit", components.len());
        let fix = "a flat repository has a suite that ends in '/' and no components, any other one needs components";
        return Err(source.problem(&spec.suite, message, fix));
    }
    let key = fill(source, &spec.signed_by, values)?;
    let signed_by = if key.contains("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        SigningKey::Armored(key)
    } else if Path::new(&key).is_absolute() {
        SigningKey::File(key.into())
    } else {
        let message = format!("'{key}' is neither an absolute path nor an armored key");
        return Err(source.problem(&spec.signed_by, message, "write the absolute path of the repository's key"));
    };
    Ok(AptRepository { uri, suite, components, signed_by })
}

fn add_configuration(
    merged: &mut MachineTemplate,
    profile: &Named<ConfigurationDocument>,
    values: &Values,
) -> Checked<()> {
    let (source, spec) = (&profile.source, &profile.document.spec);
    validate::name(source, &profile.document.metadata.name)?;
    for file in &spec.files {
        let path = validate::path(source, &file.path)?;
        let mode = file.mode.as_ref().map_or(Ok(0o644), |mode| validate::mode(source, mode))?;
        merged.links.remove(&path);
        merged.files.insert(path, File { mode, content: fill(source, &file.content, values)? });
    }
    for link in &spec.links {
        let path = validate::path(source, &link.path)?;
        merged.files.remove(&path);
        merged.links.insert(path, link.target.value.clone());
    }
    for folder in &spec.folders {
        merged.folders.insert(validate::path(source, folder)?);
    }
    for (units, enabled) in [(&spec.units.enable, true), (&spec.units.mask, false)] {
        for unit in units {
            merged.units.insert(validate::unit(source, unit)?, enabled);
        }
    }
    for (name, value) in &spec.sysctls {
        merged.sysctls.insert(name.clone(), fill(source, value, values)?);
    }
    for module in &spec.modules {
        merged.modules.insert(validate::module(source, module)?);
    }
    for path in &spec.persist {
        merged.persist.insert(validate::path(source, path)?);
    }
    Ok(())
}

fn fill(source: &Source, at: &Placed<String>, values: &Values) -> Checked<String> {
    fill::substitute(&at.value, values).map_err(|error| unfilled(source, at, &error, ""))
}

fn unfilled(source: &Source, at: &Placed<String>, error: &SubstituteError, more: &str) -> Box<Problem> {
    let fix = match error {
        SubstituteError::Unknown(name) => format!("declare it under 'parameters:', or write $${{{name}}}{more}"),
        SubstituteError::Missing(name) => format!("name a value for {name} in the settings file (--settings)"),
        SubstituteError::Open => "close it, or write $${ for a literal ${".to_owned(),
    };
    source.problem(at, error.to_string(), fix)
}
