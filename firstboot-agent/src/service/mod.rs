//! The service in the installed system: enroll, join, ready. From then on, when the cluster itself reports this boot of this
//! machine ready, it looks for updates; it starts again with every boot.

pub mod data_disks;
pub mod enroll;
mod escrow;
pub mod identity;
pub mod join;
pub mod region;
pub mod updates;

use crate::{
    boot::{installed::STATE, start_mark},
    clock, console, durable, facts,
    failure::{Coded, Failure},
    install::{network::mac_bytes, state::UNSENT_EVENTS},
    logs::{Teller, kept},
    net::{client::Netboot, dhcp},
    report::Reporter,
    retry::Backoff,
    screen::{self, story::Story},
    signal,
    slots::trial::Watch,
    truth::show,
};
use anyhow::{Context, Result};
use contracts::{
    VERSION,
    assignment::{Assignment, BootMode, MachineReport},
    event::Event,
    facts::{MachineFacts, Owner},
    install::InstallRecord,
    logs::LogPart,
    machine::{MACHINE_CONFIG_PATH, MachineConfig},
    network,
    step::Step,
};
use std::{
    fs,
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// What every step of the service needs to know.
#[derive(Debug)]
pub struct Machine {
    /// The installed template's part for the machine.
    pub config: MachineConfig,
    /// This attempt.
    pub attempt: Uuid,
    /// The kernel's boot id.
    pub boot_id: String,
    /// MAC of the network card behind which netboot is.
    pub mac: String,
}

/// Runs the service.
///
/// Without an end until the machine is ready: nobody is there who could start it again. The waits grow to a minute.
///
/// # Errors
/// When the installed image or the state partition cannot be read.
pub fn run() -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let config: MachineConfig =
        contracts::read(&fs::read(MACHINE_CONFIG_PATH).context("reading the machine configuration")?)?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let attempt = attempt_of_this_boot();
    screen::begin(Story::new(env!("CARGO_PKG_VERSION"), attempt.to_string()));
    signal::begin();
    let reporter = Reporter::new(attempt);
    reporter.leave_words_at(Path::new(show::LAST_WORDS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if install_record().is_some_and(|record| record.attempt == Some(attempt)) {
            reporter.done(Step::Restart, "started from the disk");
        }
        reporter.inherit(unsent_events());
        let teller = Teller::new(&reporter, LogPart::Installed);
        let logs = Path::new(STATE).join(kept::FOLDER);
        teller.inherit(kept::all(&logs));
        tokio::spawn(kept::write_down(logs.clone(), reporter.clone(), teller.clone()));
        let slots = Watch::begin(&reporter);
        let mut machine = Machine { config, attempt, boot_id, mac: String::new() };
        let (own, join) = (slots.clone(), machine.config.join.clone());
        tokio::spawn(async move { own.own_health(&join).await });
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));
        while let Err(failure) = become_member(&mut machine, &reporter, &slots).await {
            if failure.code == enroll::REVOKED {
                join::leave(&machine.config.join);
            }
            if !failure.waits && teller.tell().await {
                kept::forget(&logs, &reporter);
            }
            // A person who has just read out a code wants to see that it helped.
            let most = if failure.waits { MOST_BEFORE_ASKING_AGAIN } else { Duration::MAX };
            let wait = backoff.next_wait().min(most);
            screen::next_try(wait);
            console::line(&format!(
                "not a member yet ({failure}, code {}); trying again in {} s",
                failure.code,
                wait.as_secs()
            ));
            tokio::time::sleep(wait).await;
        }
        if let Err(error) = slots.healthy() {
            console::line(&format!("this version stays on trial: {error:#}"));
        }
        // Once for the console and its log; people and monitoring ask again with `firstboot-agent check`.
        match show::check(false) {
            Ok((text, _)) => text.lines().for_each(console::line),
            Err(error) => console::line(&format!("check: {error:#}")),
        }
        if reporter.flush(Duration::from_secs(60)).await {
            forget_unsent_events();
            slots.told();
        }
        if teller.tell().await {
            kept::forget(&logs, &reporter);
        }
        updates::watch(&mut machine, &reporter, &slots).await;
        Ok(())
    })
}

impl Machine {
    /// The machine that this program runs on.
    ///
    /// # Errors
    /// When this is no installed system.
    pub fn here() -> Result<Self> {
        let config = contracts::read(&fs::read(MACHINE_CONFIG_PATH).context("reading the machine configuration")?)?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { config, attempt: attempt_of_this_boot(), boot_id, mac: String::new() })
    }
}

/// The steps, in order.
async fn become_member(machine: &mut Machine, reporter: &Reporter, slots: &Watch) -> Result<(), Failure> {
    let (netboot, assignment) = find_store(machine).await?;
    slots.store_answers(&machine.mac);
    reporter.connect(netboot.clone(), &machine.mac);
    // Before any certificate is looked at. Where it cannot be had, the machine's own clock may do.
    match clock::correct(&netboot, Path::new(STATE)).await {
        Ok(words) => console::line(&words),
        Err(error) => console::line(&format!("the store's time cannot be had: {error:#}")),
    }
    write_owner(machine, &assignment);
    let key = identity::load_or_make(Path::new(STATE)).code("machine-key")?;
    let region = region::Region::connect(&assignment, &key).code("region")?;

    let enrolled = reporter.step(Step::Enroll, "asking the region to admit this machine", async {
        let admitted = enroll::enroll(machine, &netboot, &region, &key).await?;
        let words = format!("admitted as {}", admitted.admission.name);
        Ok((admitted, words))
    });
    let enrolled = enrolled.await?;
    if let Err(error) = clock::vouched_for(Path::new(STATE)) {
        console::line(&format!("the time cannot be written down: {error:#}"));
    }
    escrow::hand_over(&region, Path::new(STATE)).await;
    let joined = reporter.step(Step::Join, "joining the cluster", join::join(machine, &region, enrolled));
    let request = joined.await?;
    let ready = reporter.step(Step::Ready, "waiting until the cluster reports this machine ready", async {
        let ready = join::ready(machine, &region, &request, reporter).await?;
        // Before anybody hears of it: whoever does may pull the plug.
        journey_ended();
        Ok(ready)
    });
    ready.await
}

/// The longest wait where somebody elsewhere is to decide.
const MOST_BEFORE_ASKING_AGAIN: Duration = Duration::from_secs(15);

/// How long the network may take to come up after the system started before that is worth a word: spanning tree
/// keeps a port silent for thirty seconds and more.
const NETWORK_PATIENCE: Duration = Duration::from_secs(60);

/// netboot and its answer. The installed system has its network from systemd-networkd; only the place of netboot is
/// asked for.
async fn find_store(machine: &mut Machine) -> Result<(Netboot, Assignment), Failure> {
    let end = Instant::now() + NETWORK_PATIENCE;
    let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let facts = facts::gather(false);
        for (name, nic_mac) in interfaces(&facts) {
            let Some(mac) = mac_bytes(&nic_mac) else { continue };
            // A card that is being set up may refuse for a moment.
            let Ok(heard) = dhcp::discover(&name, mac, false, Duration::from_secs(2)).await else {
                continue;
            };
            let mut base = heard.netboot;
            if let (None, Some(offer)) = (&base, &heard.offer) {
                let (servers, limit) = (offer.likely_boot_servers(), Duration::from_secs(1));
                let asked = dhcp::ask_boot_servers(&name, mac, &servers, limit);
                base = asked.await.unwrap_or_default();
            }
            let Some(base) = base else { continue };
            let netboot = Netboot::new(&base).code("network")?;
            machine.mac = nic_mac;
            if let Some(assignment) = ask(machine, &netboot, facts.clone(), end).await? {
                return Ok((netboot, assignment));
            }
        }
        if Instant::now() > end {
            return Err(Failure::new(
                "no-boot-service",
                "no network card with a cable hears the store's boot service; check the cable, and that netboot runs",
            ));
        }
        tokio::time::sleep(pause.next_wait()).await;
    }
}

/// Interfaces that may lead to netboot, with their MAC addresses: what lies over the cards first, because where there is such an
/// interface the cards below it have no address.
fn interfaces(facts: &MachineFacts) -> Vec<(String, String)> {
    let over = [network::VLAN, network::BOND].into_iter().filter_map(|name| {
        let mac = fs::read_to_string(format!("/sys/class/net/{name}/address")).ok()?;
        Some((name.to_owned(), mac.trim().to_owned()))
    });
    let cards = facts.nics.iter().filter(|nic| nic.carrier).map(|nic| (nic.kernel_name.clone(), nic.mac.clone()));
    over.chain(cards).collect()
}

/// `None` while the address is still missing that a TCP connection needs.
async fn ask(
    machine: &Machine,
    netboot: &Netboot,
    facts: MachineFacts,
    end: Instant,
) -> Result<Option<Assignment>, Failure> {
    let report = MachineReport {
        version: VERSION,
        attempt: machine.attempt,
        boot_mode: BootMode::Installed,
        mac: machine.mac.clone(),
        boot_id: machine.boot_id.clone(),
        facts,
    };
    match netboot.assign(&report).await {
        Ok(assignment) => Ok(Some(assignment)),
        Err(_) if Instant::now() < end => Ok(None),
        Err(error) => Err(error).code("no-assignment"),
    }
}

/// The first boot goes on with the attempt of the install, every later one is an attempt of its own.
fn attempt_of_this_boot() -> Uuid {
    install_record().and_then(|record| record.attempt).unwrap_or_else(Uuid::new_v4)
}

/// More than an install ever leaves.
const UNSENT_LIMIT: u64 = 4 << 20;

/// What the installer could not tell the store. Sending it twice is harmless: every event has an id.
fn unsent_events() -> Vec<Event> {
    let mut bytes = Vec::new();
    let file = fs::File::open(Path::new(STATE).join(UNSENT_EVENTS));
    let read = file.and_then(|file| file.take(UNSENT_LIMIT).read_to_end(&mut bytes));
    read.ok().and_then(|_| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn forget_unsent_events() {
    let _ = fs::remove_file(Path::new(STATE).join(UNSENT_EVENTS));
}

/// A machine that was installed without its store is its store's from now on.
fn write_owner(machine: &Machine, assignment: &Assignment) {
    let (Some(store), Some(record)) = (&assignment.store, install_record().filter(|record| record.owner.is_none()))
    else {
        return;
    };
    let owner = Some(Owner { store: store.clone(), machine: machine.mac.clone() });
    keep_install_record(&InstallRecord { owner, ..record });
}

fn keep_install_record(record: &InstallRecord) {
    let written = serde_json::to_vec_pretty(record).context("writing the record as JSON");
    let path = Path::new(STATE).join(InstallRecord::FILE);
    if let Err(error) = written.and_then(|bytes| durable::write(&path, &bytes, 0o644)) {
        console::line(&format!("the record of the install stays as it was: {error:#}"));
    }
}

fn install_record() -> Option<InstallRecord> {
    serde_json::from_slice(&fs::read(Path::new(STATE).join(InstallRecord::FILE)).ok()?).ok()
}

/// The journey is over: this start came to its end, and later boots are attempts of their own. Losing this to a power cut
/// only costs the next start a check of the disk, and joins two attempts on the store page.
fn journey_ended() {
    if let Err(error) = start_mark::end(Path::new(STATE)) {
        console::line(&format!("the next start will check the whole disk: {error:#}"));
    }
    if let Some(record) = install_record().filter(|record| record.attempt.is_some()) {
        keep_install_record(&InstallRecord { attempt: None, ..record });
    }
}
