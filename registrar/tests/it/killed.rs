//! Installs go on while the store's netboot and the region's registrar are killed again and again: the real programs, the real
//! agent's calls and queue, over loopback. What the machines said is at the registrar once, in order, and the ledger knows them all.
//!
//! `SHELFBOOT_INSTALLS` says how many machines (6 unless set), `SHELFBOOT_SEED` in what rhythm it kills.
//! `cargo xtask e2e netboot-kill` runs it with twenty.

#[path = "../../../netboot/tests/it/common/tuf.rs"]
#[expect(dead_code, reason = "netboot's own tests use more of it")]
mod repository;

use contracts::{
    assignment::{Action, BootMode, MachineReport},
    event::{Event, StepStatus},
    facts::MachineFacts,
    status::StoreStatus,
    step::Step,
};
use firstboot_agent::{
    failure::{Coded, Failure},
    install::{repository::Repository, source::Source},
    net::client::Netboot,
    report::Reporter,
    retry::Backoff,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    fs::{self, File, OpenOptions},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Longer than any run takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(240);

/// Pieces of a system that is installed, each some 0.3 s.
const PIECES: u32 = 24;

type Said = (Step, StepStatus, String);

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap())
}

fn free_tcp() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn free_udp() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn mac(machine: u64) -> String {
    format!("52:54:00:00:10:{machine:02x}")
}

/// netboot's program, as new as this one.
fn netboot_program() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_registrar")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--package", "netboot", "--bin", "netboot"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "netboot cannot be built");
    folder.join("netboot")
}

/// A program that is started anew whenever it is killed.
struct Victim {
    name: &'static str,
    program: PathBuf,
    config: PathBuf,
    child: Child,
    log: PathBuf,
    kills: usize,
}

impl Victim {
    fn start(name: &'static str, program: &Path, config: PathBuf) -> Self {
        let log = config.with_extension("log");
        let child = spawn(program, &config, &log);
        Self { name, program: program.to_owned(), config, child, log, kills: 0 }
    }

    fn kill(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{} ended by itself: {}", self.name, fs::read_to_string(&self.log).unwrap());
        // SIGKILL.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.kills += 1;
    }

    fn again(&mut self) {
        self.child = spawn(&self.program, &self.config, &self.log);
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, config: &Path, log: &Path) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(program);
    command.args(["serve", "--config"]).arg(config).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(log).spawn().unwrap()
}

/// A store and its region, switched on.
struct World {
    folder: tempfile::TempDir,
    netboot: Victim,
    registrar: Victim,
    base: String,
    root: Vec<u8>,
}

impl World {
    fn new(machines: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (program, port) = (Path::new(env!("CARGO_BIN_EXE_registrar")), free_tcp());
        let run = |arguments: &[&str]| {
            let done = Command::new(program).args(arguments).current_dir(folder.path()).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        run(&["init", "--state", "region", "--server-name", "registrar.test", "--address", "127.0.0.1"]);
        let endpoint = format!("127.0.0.1:{port}");
        run(&["store", "add", "store-1", "--state", "region", "--endpoint", &endpoint, "--out", "store.json"]);
        let entry = |n| format!("      - {{name: w{n}, template: k8s-worker, channel: stable, mac: '{}'}}\n", mac(n));
        let entries: String = (0..machines).map(entry).collect();
        let inventory = "apiVersion: shelfboot.dev/v1\nkind: Inventory\nstores:\n  - name: store-1\n    machines:\n";
        fs::write(at("inventory.yaml"), inventory.to_owned() + &entries).unwrap();
        let config = "apiVersion: shelfboot.dev/v1\nkind: Registrar\n";
        fs::write(
            at("registrar.yaml"),
            format!("{config}listen: {endpoint}\nstate: region\ninventory: inventory.yaml\n"),
        )
        .unwrap();

        let repository = repository::Repository::new(at("repository"));
        repository.publish(1, &[7; 200_000]);
        let root = repository.root_json();
        fs::write(at("root.json"), &root).unwrap();
        let http = free_tcp();
        let text = format!(
            "apiVersion: shelfboot.dev/v1\nkind: Netboot\ninterface: lo\nhttpPort: {http}\nrelayPort: {}\n\
             repository: repository\ntrust: root.json\nstate: store\ncredential: store.json\n\
             ports: {{dhcp: {}, tftp: {}, proxy: {}}}\n",
            free_tcp(),
            free_udp(),
            free_udp(),
            free_udp()
        );
        fs::write(at("netboot.yaml"), text).unwrap();
        let registrar = Victim::start("registrar", program, at("registrar.yaml"));
        let netboot = Victim::start("netboot", &netboot_program(), at("netboot.yaml"));
        Self { netboot, registrar, base: format!("http://127.0.0.1:{http}"), root, folder }
    }

    /// What the registrar has of one machine's agent, in the order in which it came.
    async fn heard(&self, mac: &str) -> Vec<Event> {
        let path = self.folder.path().join("region/registrar.db");
        let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        let sql = "SELECT body FROM events WHERE subject = ? AND source = 'agent' ORDER BY rowid";
        let bodies: Vec<String> = sqlx::query_scalar(sql).bind(mac).fetch_all(&pool).await.unwrap();
        bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect()
    }
}

/// One machine: the agent's reporter and client, and what it has said.
struct Machine {
    number: u64,
    attempt: Uuid,
    base: String,
    root: Vec<u8>,
    said: Vec<Said>,
    /// How many pieces of the system are on its disk: they stay there when an install begins anew.
    pieces: u32,
}

impl Machine {
    async fn step<T>(
        &mut self,
        reporter: &Reporter,
        step: Step,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> Result<T, Failure> {
        // Every sentence is another one: whatever is lost or doubled shows.
        let words = |what: &str, said: &Vec<Said>| format!("{what} {step} ({})", said.len());
        let begin = words("begins", &self.said);
        self.said.push((step, StepStatus::Started, begin.clone()));
        let end = words("ended", &self.said);
        let work = async { Ok((work.await.code("trouble")?, end.clone())) };
        match reporter.step(step, &begin, work).await {
            Ok(value) => {
                self.said.push((step, StepStatus::Done, end));
                Ok(value)
            }
            Err(failure) => {
                // netboot cuts what is longer.
                self.said.push((step, StepStatus::Failed, failure.to_string().chars().take(2000).collect()));
                Err(failure)
            }
        }
    }

    fn report(&self, boot_mode: BootMode) -> MachineReport {
        let (mac, boot_id) = (mac(self.number), Uuid::new_v4().to_string());
        MachineReport { version: 1, attempt: self.attempt, boot_mode, mac, boot_id, facts: facts() }
    }

    /// The installer's life, to the restart. What netboot has not got is what the disk keeps.
    async fn install(&mut self) -> Vec<Event> {
        let netboot = Netboot::new(&self.base).unwrap();
        let reporter = Reporter::new(self.attempt);
        reporter.connect(netboot.clone(), &mac(self.number));
        let mut backoff = Backoff::new(Duration::from_millis(300), Duration::from_secs(2));
        // As the agent does: from the start, with the same attempt, until it works.
        while self.try_to_install(&reporter, &netboot).await.is_err() {
            tokio::time::sleep(backoff.next_wait()).await;
        }
        // The agent waits for a minute; less makes machines that take their outcomes along over the restart.
        reporter.flush(Duration::from_secs(self.number % 3)).await;
        reporter.unsent()
    }

    async fn try_to_install(&mut self, reporter: &Reporter, netboot: &Netboot) -> Result<(), Failure> {
        self.step(reporter, Step::Network, async { netboot.time().await.map(drop) }).await?;
        let report = self.report(BootMode::Installer);
        let assigned = async {
            let assignment = netboot.assign(&report).await?;
            anyhow::ensure!(assignment.action == Action::Install, "{:?}: {}", assignment.action, assignment.reason);
            Ok(assignment.image.unwrap())
        };
        let image = self.step(reporter, Step::Assign, assigned).await?;
        self.step(reporter, Step::Plan, async { Ok(()) }).await?;
        self.step(reporter, Step::Partition, async { Ok(()) }).await?;
        let (root, mut has) = (self.root.clone(), self.pieces);
        let fetched = async {
            let floor = contracts::manifest::TrustFloor {
                version: 1,
                built_at: time::OffsetDateTime::UNIX_EPOCH,
                roles: contracts::manifest::RoleVersions { targets: 1, snapshot: 1, timestamp: 1 },
                staleness: contracts::manifest::Staleness::default(),
            };
            let repository = Repository::load(&Source::Store(netboot.clone()), &root, &floor).await?;
            let manifest = repository.manifest(&image).await?;
            while has < PIECES {
                repository.target(&manifest.uki).await?;
                has += 1;
                reporter.progress(Step::Install, f64::from(has) / f64::from(PIECES), None, &format!("piece {has}"));
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Ok(())
        };
        let installed = self.step(reporter, Step::Install, fetched).await;
        self.pieces = has;
        installed?;
        self.step(reporter, Step::Verify, async { Ok(()) }).await
    }

    /// The installed system's life.
    async fn serve(&mut self, unsent: Vec<Event>) {
        let netboot = Netboot::new(&self.base).unwrap();
        let reporter = Reporter::new(self.attempt);
        let word = "started from the disk".to_owned();
        reporter.done(Step::Restart, word.clone());
        self.said.push((Step::Restart, StepStatus::Done, word));
        reporter.inherit(unsent);
        let report = self.report(BootMode::Installed);
        reporter.connect(netboot.clone(), &mac(self.number));
        while netboot.assign(&report).await.is_err() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        for step in [Step::Enroll, Step::Join, Step::Ready] {
            let pause = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(())
            };
            self.step(&reporter, step, pause).await.unwrap();
        }
        assert!(reporter.flush(PATIENCE).await, "netboot did not take what machine {} says", self.number);
    }

    /// Both lives, each in a runtime of its own: what runs in the first one ends with it, as at a restart.
    fn run(mut self) -> Vec<Said> {
        let life = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::sleep(Duration::from_millis(self.number * 150));
        let unsent = life().block_on(self.install());
        life().block_on(self.serve(unsent));
        self.said
    }
}

fn facts() -> MachineFacts {
    let smbios = serde_json::json!({ "manufacturer": "", "product": "", "serial": "", "uuid": "" });
    serde_json::from_value(serde_json::json!({
        "version": 1, "firmware": "uefi", "smbios": smbios, "cpus": 1, "memory_bytes": 1, "disks": [], "nics": [],
    }))
    .unwrap()
}

async fn status(base: &str) -> Option<StoreStatus> {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("{base}/v1/status"))
        .send()
        .await
        .ok()?
        .json()
        .await
        .ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn installs_finish_and_no_event_is_lost_or_doubled_while_store_and_region_are_killed() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (machines, seed) = (number("SHELFBOOT_INSTALLS", 6), number("SHELFBOOT_SEED", 7));
    let mut world = World::new(machines);
    let begin = Instant::now();
    while status(&world.base).await.is_none_or(|status| !status.region_reachable) {
        assert!(begin.elapsed() < PATIENCE, "netboot did not come up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let begin = Instant::now();
    let finished = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..machines)
        .map(|number| {
            let (base, root, finished) = (world.base.clone(), world.root.clone(), Arc::clone(&finished));
            let machine = Machine { number, attempt: Uuid::new_v4(), base, root, said: Vec::new(), pieces: 0 };
            std::thread::spawn(move || {
                let said = machine.run();
                finished.fetch_add(1, Ordering::Relaxed);
                said
            })
        })
        .collect();
    let mut random = StdRng::seed_from_u64(seed);
    let all = usize::try_from(machines).unwrap();
    while finished.load(Ordering::Relaxed) < all {
        assert!(begin.elapsed() < PATIENCE, "only {} machines are installed", finished.load(Ordering::Relaxed));
        assert!(threads.iter().filter(|thread| thread.is_finished()).count() <= finished.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(random.random_range(1500..4000))).await;
        world.netboot.kill();
        if random.random_ratio(1, 3) {
            world.registrar.kill();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
            world.registrar.again();
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..700))).await;
        world.netboot.again();
    }
    let said: Vec<Vec<Said>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let seconds = begin.elapsed().as_secs_f64();
    let (kills, region_kills) = (world.netboot.kills, world.registrar.kills);
    assert!(kills >= 3, "killed {kills} times: that proves nothing");

    // Nobody is killed any more: what waits goes to the region.
    let begin = Instant::now();
    while status(&world.base).await.is_none_or(|status| status.events_waiting > 0) {
        assert!(begin.elapsed() < PATIENCE, "events still wait: {:?}", status(&world.base).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (mut events, mut outcomes) = (0, 0);
    for number in 0..machines {
        let heard = world.heard(&mac(number)).await;
        events += heard.len();
        let progress: Vec<Uuid> =
            heard.iter().filter(|e| e.data.status == StepStatus::Progress).map(|event| event.id).collect();
        assert_eq!(progress.len(), progress.iter().collect::<std::collections::BTreeSet<_>>().len());
        let rest = heard.into_iter().filter(|event| event.data.status != StepStatus::Progress);
        let rest: Vec<Said> = rest.map(|e| (e.data.step, e.data.status, e.data.message)).collect();
        outcomes += rest.len();
        assert_eq!(rest, said[usize::try_from(number).unwrap()], "machine {number}");
    }
    // The ledger has all of them.
    let netboot = Netboot::new(&world.base).unwrap();
    for number in 0..machines {
        let asks =
            Machine { number, attempt: Uuid::new_v4(), base: String::new(), root: vec![], said: vec![], pieces: 0 };
        let assignment = netboot.assign(&asks.report(BootMode::Installer)).await.unwrap();
        assert_eq!(assignment.action, Action::Boot, "machine {number}: {}", assignment.reason);
    }
    let status = status(&world.base).await.unwrap();
    assert_eq!((status.events_refused, status.state_problem), (0, None));
    assert_eq!(status.machines.len(), all, "the page shows every machine");
    let ready = |m: &contracts::status::MachineStatus| m.steps.last().is_some_and(|l| l.step == Step::Ready);
    assert!(status.machines.iter().all(ready), "{:?}", status.machines);
    for victim in [&world.netboot, &world.registrar] {
        let log = fs::read_to_string(&victim.log).unwrap();
        assert!(!log.contains("panicked") && !log.contains("damaged"), "{log}");
    }
    let text = format!(
        "{machines} installs in {seconds:.1} s, netboot killed {kills} times and the registrar {region_kills} times: {outcomes} \
         events of steps and {} of progress at the registrar, each once and in order\n",
        events - outcomes
    );
    // Shown by `cargo xtask e2e netboot-kill`.
    if let Some(path) = std::env::var_os("SHELFBOOT_REPORT") {
        use std::io::Write;
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }
}
