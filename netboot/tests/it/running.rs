//! The real program with a world's configuration.

use crate::common::{World, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// The program with a world's configuration, and its log.
pub(crate) struct Program {
    pub(crate) child: Child,
    log: PathBuf,
    pub(crate) base: String,
}

impl Program {
    pub(crate) async fn start(world: &World, more: &str) -> Self {
        let config = world.write_config();
        let text = fs::read_to_string(&config).unwrap() + more;
        fs::write(&config, text).unwrap();
        let log = world.folder.path().join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_netboot"));
        command
            .args(["serve", "--config"])
            .arg(&config)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let program = Self { child, log, base: format!("http://127.0.0.1:{}", world.http) };
        program.says("ready: ").await;
        program
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) async fn says(&self, word: &str) {
        until(|| self.log().contains(word)).await;
    }

    /// A field of every thread's status, each value once (proc_pid_status(5)).
    pub(crate) fn field(&self, name: &str) -> Vec<String> {
        let mut found: Vec<String> = fs::read_dir(format!("/proc/{}/task", self.child.id()))
            .unwrap()
            .map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap())
            .map(|text| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned())
            .collect();
        found.sort();
        found.dedup();
        found
    }

    pub(crate) async fn get(&self, path: &str) -> Vec<u8> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(format!("{}{path}", self.base)).send().await.unwrap().bytes().await.unwrap().to_vec()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Ends it as a service manager does.
    pub(crate) async fn end(mut self) {
        self.signal(Signal::SIGTERM);
        let mut code = None;
        until(|| {
            code = self.child.try_wait().unwrap();
            code.is_some()
        })
        .await;
        assert_eq!(code.unwrap().code(), Some(0), "{}", self.log());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // After a failed test; otherwise it has ended.
        let _ = (self.child.kill(), self.child.wait());
    }
}
