//! The pipeline of `docs/ci`, as a user without root: two of them at once, one that is killed, one that runs again.

use super::{
    Inputs, share_packages,
    somebody::{OTHER_USER, as_user, copy, give, open_to_all},
};
use crate::{process, report::Report, sandbox};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const TEMPLATE: &str = "k8s-worker";

/// Runs the case.
///
/// # Errors
/// When the pipeline does not do what its page says.
pub fn run(checkout: &Path, report: &Report) -> Result<()> {
    let place = tempfile::Builder::new().prefix("shelfboot-ci-").tempdir_in("/var/tmp");
    let place = place.context("making a folder in /var/tmp")?;
    open_to_all(place.path())?;
    let inputs = Inputs::prepare(checkout, TEMPLATE, place.path(), report)?;
    let folder = place.path().join("work");
    let pipeline = Pipeline { folder: &folder, mirrors: inputs.mirror_arguments() };
    pipeline.lay_out(checkout, &inputs)?;

    report.line(if sandbox::am_root() {
        "two pipelines at once, as a user without root, in one cache and one repository"
    } else {
        "two pipelines at once in one cache and one repository"
    });
    let (first, second) = (pipeline.start("1767225600", "first")?, pipeline.start("1767225660", "second")?);
    for (child, name) in [(first, "first"), (second, "second")] {
        pipeline.end(child, name)?;
    }
    report.line("check: both have built, and the repository verifies: yes");

    pipeline.end(pipeline.start("1767225660", "again")?, "again")?;
    let said = pipeline.said("again")?;
    ensure!(said.contains("there is nothing to do"), "a second run built again:\n{}", process::tail(&said));
    report.line("check: a pipeline that runs again for the same commit builds nothing: yes");

    for (number, seconds) in [2, 5, 9].into_iter().enumerate() {
        let name = format!("killed-{number}");
        // Later each time, so that it dies in another step.
        let mut child = pipeline.start(&format!("{}", 1_767_225_720 + 60 * number), &name)?;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(seconds)
            && child.try_wait().context("asking for a child")?.is_none()
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        pipeline.kill_builders()?;
        child.wait().context("waiting for a pipeline")?;
        pipeline.nothing_is_left()?;
    }
    pipeline.end(pipeline.start("1767225900", "after")?, "after")?;
    report.line("check: after three that were killed nothing is mounted or running, and the next one builds: yes");

    let template = folder.join("site/software/base.yaml");
    let text = fs::read_to_string(&template).context("reading a profile")?;
    fs::write(&template, text.replacen("    - dbus\n", "    - dbus\n    - less\n", 1)).context("writing a profile")?;
    let status = pipeline.start("1767225960", "stale")?.wait().context("waiting for a pipeline")?;
    let said = pipeline.said("stale")?;
    ensure!(
        !status.success() && said.contains("is older than its template") && said.contains("hint: lock again"),
        "a stale lock was taken:\n{}",
        process::tail(&said)
    );
    report.line("check: a lock that is older than its template stops the pipeline, and says what to do: yes");
    Ok(())
}

struct Pipeline<'a> {
    folder: &'a Path,
    mirrors: Vec<String>,
}

impl Pipeline<'_> {
    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A checkout with templates and locks, programs, keys.
    fn lay_out(&self, checkout: &Path, inputs: &Inputs) -> Result<()> {
        fs::create_dir_all(self.at("bin")).context("making the work folder")?;
        let site = self.at("site");
        for folder in ["templates", "software", "configuration"] {
            fs::create_dir_all(site.join(folder)).context("making the site's folders")?;
        }
        for folder in ["software", "configuration"] {
            copy(&checkout.join("profiles").join(folder), &site)?;
        }
        let template = site.join(format!("templates/{TEMPLATE}.yaml"));
        copy(&checkout.join(format!("profiles/templates/{TEMPLATE}.yaml")), &template)?;
        inputs.lock(&template, &template.with_extension("lock"))?;
        for (from, name) in [
            (inputs.programs.image_builder.as_path(), "bin/image-builder"),
            (&inputs.programs.agent, "bin/firstboot-agent"),
            (&checkout.join("docs/ci/build-images.sh"), "build-images.sh"),
            (&inputs.keys, "keys"),
            (&inputs.registrar_ca, "ca.pem"),
            (&inputs.settings, "site.yaml"),
        ] {
            copy(from, &self.at(name))?;
        }
        // What a pipeline for templates holds: not the root key.
        fs::remove_file(self.at("keys/tuf/root.pk8")).context("taking the root key away")?;
        // The script has no flags of its own: mirrors come from the host's apt sources, here from what the test uses.
        let wrapper = format!(
            "#!/bin/sh\nif [ \"$1\" = build ]; then exec {program} \"$@\" {mirrors}; fi\nexec {program} \"$@\"\n",
            program = self.at("bin/image-builder.real").display(),
            mirrors = self.mirrors.join(" ")
        );
        fs::rename(self.at("bin/image-builder"), self.at("bin/image-builder.real")).context("renaming the program")?;
        fs::write(self.at("bin/image-builder"), wrapper).context("writing a wrapper")?;
        process::output(Command::new("chmod").arg("755").arg(self.at("bin/image-builder")))?;
        share_packages(inputs.cache.root(), &self.at("cache"))?;
        if sandbox::am_root() { give(self.folder, OTHER_USER) } else { Ok(()) }
    }

    fn start(&self, epoch: &str, name: &str) -> Result<Child> {
        let log = fs::File::create(self.at(&format!("{name}.log"))).context("creating a log")?;
        let errors = log.try_clone().context("sharing a log")?;
        let mut command = if sandbox::am_root() { as_user(OTHER_USER, self.folder)? } else { Command::new("sh") };
        command.arg(self.at("build-images.sh")).current_dir(self.folder);
        for (variable, file) in [
            ("TEMPLATES", "site/templates"),
            ("SETTINGS", "site.yaml"),
            ("KEYS", "keys"),
            ("AGENT", "bin/firstboot-agent"),
            ("REGISTRAR_CA", "ca.pem"),
            ("REPOSITORY", "repository"),
            ("TRUST", "keys/tuf/1.root.json"),
            ("SHELFBOOT_CACHE", "cache"),
            ("HOME", "home"),
        ] {
            command.env(variable, self.at(file));
        }
        let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.at("bin").display());
        command.env("PATH", path).env("SOURCE_DATE_EPOCH", epoch);
        command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().context("starting a pipeline")
    }

    fn end(&self, mut child: Child, name: &str) -> Result<()> {
        let status = child.wait().context("waiting for a pipeline")?;
        let said = self.said(name)?;
        ensure!(status.success(), "the pipeline {name} ended with {status}:\n{}", process::tail(&said));
        Ok(())
    }

    fn said(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.at(&format!("{name}.log"))).with_context(|| format!("reading what {name} said"))
    }

    /// Ends image-builder itself the hard way; what it started is for the kernel to end.
    fn kill_builders(&self) -> Result<()> {
        let program = self.at("bin/image-builder.real").display().to_string();
        let ours = |line: &String| line.starts_with(&program);
        for (id, _) in self.processes().into_iter().filter(|(_, line)| ours(line)) {
            process::output(Command::new("kill").args(["-s", "KILL", &id]))?;
        }
        Ok(())
    }

    /// Processes of a killed pipeline end by themselves, and their mounts with them.
    fn nothing_is_left(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            ensure!(begin.elapsed() < Duration::from_secs(30), "these are still running: {left:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
        let folder = self.folder.display().to_string();
        ensure!(!mounts.contains(&folder), "something is mounted below {folder}");
        Ok(())
    }

    /// Ids and command lines of everything that works in the folder.
    fn processes(&self) -> Vec<(String, String)> {
        let folder = self.folder.display().to_string();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines = entries.filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some((entry.file_name().to_str()?.to_owned(), String::from_utf8_lossy(&line).replace('\0', " ")))
        });
        lines.filter(|(_, line)| line.contains(&folder)).collect()
    }
}
