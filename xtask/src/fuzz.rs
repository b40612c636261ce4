//! `cargo xtask fuzz`: every fuzz target for a while. libFuzzer comes with the compiler that is there; cargo-fuzz is built once
//! and kept in the cache.

use crate::{checkout, output, test::Count};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use contracts::exit::Code;
use qemu_tests::{cache::Cache, hint::coded, process, sandbox};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The version that is built.
const CARGO_FUZZ: &str = "0.13.2";

/// Arguments of `fuzz`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Targets as CRATE/TARGET; without any, all of them.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// List the targets.
    #[arg(long)]
    list: bool,
    /// Seconds for each.
    #[arg(long, value_name = "N", default_value_t = MINUTE, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// What `test --all` gives to each target.
pub(crate) const MINUTE: u32 = 60;

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    folder: PathBuf,
    package: String,
    name: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let all = targets(checkout())?;
    if arguments.list {
        all.iter().for_each(|target| output::results().line(target.title()));
        return Ok(());
    }
    for wanted in &arguments.targets {
        if !all.iter().any(|target| target.title() == *wanted) {
            let message = format!("there is no fuzz target {wanted}");
            return Err(coded(Code::Usage, message, "cargo xtask fuzz --list shows all of them"));
        }
    }
    let chosen = all.into_iter().filter(|t| arguments.targets.is_empty() || arguments.targets.contains(&t.title()));
    let count = fuzz(&chosen.collect::<Vec<_>>(), arguments.seconds)?;
    output::results().line(format!("{} passed, {} failed", count.passed, count.failed));
    ensure!(count.failed == 0, "not every target survived");
    Ok(())
}

/// All targets, for that many seconds each.
pub(crate) fn all(seconds: u32) -> Result<Count> {
    fuzz(&targets(checkout())?, seconds)
}

fn fuzz(targets: &[Target], seconds: u32) -> Result<Count> {
    let cache = Cache::from_environment()?;
    let tool = tool(&cache)?;
    let build = cache.folder("programs")?.join("fuzz");
    let mut count = Count::default();
    for target in targets {
        let say = output::progress();
        say.line(format!("fuzz: {} for {seconds} s", target.title()));
        let mut command = sandbox::tied(tool.as_os_str());
        // libFuzzer's instrumentation is an option of the compiler that stable ones hide.
        let fuzz = target.folder.join("fuzz");
        command.args(["fuzz", "run", "--fuzz-dir"]).arg(&fuzz).arg(&target.name);
        // What is found goes into the corpus; where it may begin lies beside it, in the repository.
        let (corpus, seeds) = (fuzz.join("corpus").join(&target.name), fuzz.join("seeds").join(&target.name));
        unpack(&corpus)?;
        if seeds.is_dir() {
            fs::create_dir_all(&corpus).with_context(|| format!("making {}", corpus.display()))?;
            command.arg(&corpus).arg(&seeds);
        }
        command.args([
            "--",
            &format!("-max_total_time={seconds}"),
            "-rss_limit_mb=2048",
            "-timeout=20",
            "-verbosity=0",
        ]);
        command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", &build).env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.current_dir(&target.folder).stdin(Stdio::null());
        let output = command.output().context("starting cargo-fuzz")?;
        let good = output.status.success();
        if !good {
            let said = [output.stdout, output.stderr].concat();
            say.line(process::tail(&String::from_utf8_lossy(&said)).trim_end());
        }
        count.passed += u64::from(good);
        count.failed += u64::from(!good);
    }
    Ok(count)
}

/// What longer runs have found lies in the repository as an archive beside the folder, because it is thousands of files.
fn unpack(corpus: &Path) -> Result<()> {
    let archive = corpus.with_extension("tar.gz");
    if corpus.exists() || !archive.exists() {
        return Ok(());
    }
    let half = corpus.with_extension("half");
    let _ = fs::remove_dir_all(&half);
    fs::create_dir_all(&half).with_context(|| format!("making {}", half.display()))?;
    process::output(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&half))
        .with_context(|| format!("unpacking {}", archive.display()))?;
    fs::rename(&half, corpus).with_context(|| format!("making {}", corpus.display()))
}

impl Target {
    fn title(&self) -> String {
        format!("{}/{}", self.package, self.name)
    }
}

/// The targets of every crate, by their files.
fn targets(checkout: &Path) -> Result<Vec<Target>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(checkout).with_context(|| format!("listing {}", checkout.display()))? {
        let folder = entry.with_context(|| format!("listing {}", checkout.display()))?.path();
        let Ok(files) = fs::read_dir(folder.join("fuzz/fuzz_targets")) else { continue };
        for file in files {
            let file = file.with_context(|| format!("listing {}", folder.display()))?.path();
            let text = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            out.push(Target { package: text(&folder), name: text(&file), folder: folder.clone() });
        }
    }
    out.sort_by_key(Target::title);
    Ok(out)
}

/// cargo-fuzz, from the cache or built anew.
fn tool(cache: &Cache) -> Result<PathBuf> {
    let folder = cache.folder("programs")?.join(format!("cargo-fuzz-{CARGO_FUZZ}"));
    let program = folder.join("bin/cargo-fuzz");
    if !program.exists() {
        output::progress().line("fuzz: building cargo-fuzz (a minute, once)");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut install = Command::new(cargo);
        install.args(["install", "--quiet", "--locked", "--version", CARGO_FUZZ, "cargo-fuzz", "--root"]).arg(&folder);
        process::run(&mut install, "fuzz: ", &output::progress()).context("building cargo-fuzz")?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_declared_by_its_crate() {
        let all = targets(checkout()).unwrap();
        assert!(all.len() >= 12, "{all:?}");
        for target in all {
            let manifest = fs::read_to_string(target.folder.join("fuzz/Cargo.toml")).unwrap();
            let name = format!("name = \"{}\"", target.name);
            assert!(manifest.contains(&name), "{} lacks {name}", target.folder.display());
        }
    }
}
