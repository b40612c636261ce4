//! One machine on QEMU: the hardware of a small store server, real firmware, a serial log.

use super::{
    addresses as at,
    firmware::{self, NetworkBoot},
    network,
    root::Root,
    tagged::Cables,
    tpm,
};
use crate::{
    journey::{DATA_DISK_GIB, DISK_GIB, Plan},
    signals::Recorder,
};
use anyhow::{Context as _, Result, bail};
use std::{
    collections::VecDeque,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};

/// Linux' words (kernel/rcu/tree_stall.h) when timer interrupts do not come.
const LOST_TIMER: &str = "rcu_preempt kthread timer wakeup didn't happen";

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// QEMU's arguments. A small code cache halves the memory that the translator takes on the host.
    #[must_use]
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"],
        }
    }
}

/// What the firmware tries first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The network, then the disk.
    Network,
    /// The disk, and nothing else.
    Disk,
    /// The medium, then the disk.
    Medium,
}

/// Something that people put in.
#[derive(Debug, Clone)]
pub struct Medium {
    /// Where.
    pub drive: Drive,
    /// An ISO image.
    pub image: PathBuf,
}

/// Where a medium is put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// A CD drive, SATA.
    Cd,
    /// A stick.
    Usb,
}

/// What is odd about a machine's hardware.
#[derive(Debug, Clone, Default)]
pub struct Odd {
    /// Its disk has sectors of 4096 bytes, and no smaller ones (4Kn).
    pub large_sectors: bool,
    /// What its clock says when it is switched on, as QEMU reads it: `1970-01-01T00:00:05`.
    pub clock: Option<&'static str>,
    /// Rules of QEMU's `blkdebug` for the disk, a file.
    pub disk_faults: Option<PathBuf>,
    /// Its speaker and its keyboard's lights are recorded.
    pub signals: Option<Recorder>,
    /// It has a TPM 2.0, which keeps what it keeps in this folder.
    pub tpm: Option<PathBuf>,
    /// Between its card and the tap is a port that carries tagged frames only.
    pub tagged: Option<Cables>,
    /// A second network card, behind the first one in the order of PCI paths.
    pub second_card: Option<Card>,
}

/// A network card.
#[derive(Debug, Clone)]
pub struct Card {
    /// Its MAC address.
    pub mac: String,
    /// The tap that its cable goes to.
    pub tap: String,
}

/// What QEMU calls the cables of the first card and of the second.
pub const CABLES: [&str; 2] = ["lan", "lan2"];

/// What a machine is made of. Disk and firmware variables outlive it.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Its name in file names.
    pub name: String,
    /// MAC address of its network card.
    pub mac: String,
    /// The tap that its cable goes to.
    pub tap: String,
    /// Memory.
    pub memory_mib: u32,
    /// The disk, a raw image.
    pub disk: PathBuf,
    /// More disks, behind it in the order of PCI paths; their names are their serial numbers.
    pub more_disks: Vec<PathBuf>,
    /// What the firmware keeps or needs, from [`firmware::prepare`].
    pub firmware: PathBuf,
    /// How the firmware boots from the network.
    pub network_boot: NetworkBoot,
    /// A CD or stick that is in it.
    pub medium: Option<Medium>,
    /// What the firmware tries first, whatever its variables say, as some do in the field.
    pub first: Option<First>,
    /// Everything that reaches the disk is noted here, with its flushes (QEMU's `blklogwrites`).
    pub writes: Option<PathBuf>,
    /// What is written to the disk goes away with the machine.
    pub throw_away: bool,
    /// What is not as it should be.
    pub odd: Odd,
    /// What executes it.
    pub accelerator: Accelerator,
}

impl Hardware {
    /// The machine of most tests: a blank disk of the smallest size, the least memory that is promised to work, and the
    /// template's blank disks for data.
    ///
    /// # Errors
    /// When disk or firmware cannot be made.
    pub fn blank(root: &Root, plan: &Plan, network_boot: NetworkBoot, accelerator: Accelerator) -> Result<Self> {
        let name = "machine";
        let disk = plan.run.join(format!("{name}.raw"));
        blank_disk(&disk, DISK_GIB)?;
        let data = (1..=plan.shape.data_disks).map(|number| plan.run.join(format!("data-{number}.raw")));
        let more_disks: Vec<PathBuf> = data.collect();
        more_disks.iter().try_for_each(|disk| blank_disk(disk, DATA_DISK_GIB))?;
        Ok(Self {
            name: name.into(),
            mac: at::MACHINE_MAC.into(),
            tap: network::MACHINE_TAP.into(),
            memory_mib: plan.shape.memory_mib,
            disk,
            more_disks,
            firmware: firmware::prepare(root, plan, network_boot, name)?,
            network_boot,
            medium: None,
            first: None,
            writes: None,
            throw_away: false,
            odd: Odd::default(),
            accelerator,
        })
    }

    /// No `bootindex` unless something is to come first: what boots first is decided by the firmware and its variables
    /// alone.
    fn arguments(&self, control: &Path) -> Vec<String> {
        let mut arguments: Vec<String> = ["-machine", "q35", "-smp", "2", "-display", "none", "-serial", "stdio"]
            .iter()
            .chain(self.accelerator.arguments().iter())
            .map(|a| (*a).to_owned())
            .collect();
        arguments.extend(firmware::arguments(&self.firmware, self.network_boot));
        arguments.extend(self.odd.signals.iter().flat_map(Recorder::arguments));
        let mut more = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        more("-name", self.name.clone());
        more("-m", self.memory_mib.to_string());
        more("-monitor", "none".into());
        more("-qmp", format!("unix:{},server=on,wait=off", control.display()));
        more("-smbios", format!("type=1,manufacturer=Shelfboot,product=Test server,serial=SHELF-{}", self.name));
        more("-device", "virtio-rng-pci".into());
        let [lan, lan2] = CABLES;
        let plain = |id: &str, tap: &str| format!("tap,id={id},ifname={tap},script=no,downscript=no");
        match &self.odd.tagged {
            None => more("-netdev", plain(lan, &self.tap)),
            Some(cables) => cables.netdevs(lan, &self.tap).into_iter().for_each(|netdev| more("-netdev", netdev)),
        }
        let rom = self.network_boot.card_rom();
        // OVMF forgets the boot entries of devices that have no place where others have one, so the disk gets one too.
        let (network, disk, medium) = match self.first {
            None => ("", "", ""),
            Some(First::Network) => (",bootindex=1", ",bootindex=2", ""),
            Some(First::Disk) => ("", ",bootindex=1", ""),
            Some(First::Medium) => ("", ",bootindex=2", ",bootindex=1"),
        };
        more("-device", format!("virtio-net-pci,netdev={lan},mac={}{rom}{network}", self.mac));
        if let Some(Card { mac, tap }) = &self.odd.second_card {
            more("-netdev", plain(lan2, tap));
            more("-device", format!("virtio-net-pci,netdev={lan2},mac={mac}{rom}"));
        }
        let format = match self.disk.extension() {
            Some(name) if name == "qcow2" || name == "vmdk" => name.to_string_lossy(),
            _ => "raw".into(),
        };
        let snapshot = if self.throw_away { ",snapshot=on" } else { "" };
        let faults =
            self.odd.disk_faults.as_ref().map_or(String::new(), |rules| format!("blkdebug:{}:", rules.display()));
        let disk_file = format!("{faults}{}", self.disk.display());
        match &self.writes {
            None => more(
                "-drive",
                format!("if=none,id=disk,file={disk_file},format={format},cache=unsafe,discard=unmap{snapshot}"),
            ),
            Some(log) => {
                let node = format!(
                    "driver=file,node-name=under,filename={},discard=unmap,cache.no-flush=on",
                    self.disk.display()
                );
                more("-blockdev", node);
                more("-blockdev", format!("driver=file,node-name=log,filename={},cache.no-flush=on", log.display()));
                more("-blockdev", "driver=blklogwrites,node-name=disk,file=under,log=log,discard=unmap".into());
            }
        }
        let sectors = if self.odd.large_sectors { ",logical_block_size=4096,physical_block_size=4096" } else { "" };
        more("-device", format!("virtio-blk-pci,drive=disk,werror=report,serial=DISK-{}{sectors}{disk}", self.name));
        if let Some(clock) = self.odd.clock {
            more("-rtc", format!("base={clock}"));
        }
        if let Some(Medium { drive, image }) = &self.medium {
            let image = image.display();
            match drive {
                Drive::Cd => {
                    more("-drive", format!("if=none,id=medium,media=cdrom,file={image},format=raw,readonly=on"));
                    more("-device", format!("ide-cd,drive=medium,bus=ide.0{medium}"));
                }
                Drive::Usb => {
                    more("-device", "qemu-xhci".into());
                    more("-drive", format!("if=none,id=medium,file={image},format=raw,snapshot=on"));
                    more("-device", format!("usb-storage,drive=medium,removable=on{medium}"));
                }
            }
        }
        if let Some(tpm) = &self.odd.tpm {
            more("-chardev", format!("socket,id=tpm,path={}", tpm::socket(tpm).display()));
            more("-tpmdev", "emulator,id=tpm,chardev=tpm".into());
            more("-device", "tpm-tis,tpmdev=tpm".into());
        }
        for (index, disk) in self.more_disks.iter().enumerate() {
            let serial = disk.file_stem().unwrap_or_default().to_string_lossy();
            more(
                "-drive",
                format!("if=none,id=more{index},file={},format=raw,cache=unsafe,discard=unmap", disk.display()),
            );
            more("-device", format!("virtio-blk-pci,drive=more{index},serial={serial}"));
        }
        arguments
    }
}

/// Makes a blank disk that takes no space until it is written.
///
/// # Errors
/// When the file cannot be made.
pub fn blank_disk(path: &Path, gib: u64) -> Result<()> {
    let file = File::create_new(path).with_context(|| format!("making {}", path.display()))?;
    file.set_len(gib << 30).with_context(|| format!("sizing {}", path.display()))
}

/// A machine that is switched on. Switched off when dropped.
#[derive(Debug)]
pub struct Machine {
    child: tokio::process::Child,
    tpm: Option<tokio::process::Child>,
    control: PathBuf,
    /// MAC address of its network card; nothing where it has none that matters.
    pub mac: String,
    /// When it was switched on: host monotonic time.
    pub started: Instant,
    /// The same by the host's clock, to compare with events.
    pub started_at: OffsetDateTime,
    /// What it says on its serial line.
    pub serial: Arc<Serial>,
}

impl Machine {
    /// Switches it on.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn switch_on(root: &Root, hardware: &Hardware, folder: &Path, boot: u32) -> Result<Self> {
        let control = folder.join(format!("{}-{boot}.qmp", hardware.name));
        let tpm = hardware.odd.tpm.as_deref().map(|tpm| tpm::start(root, tpm)).transpose()?;
        let mut command = root.command("qemu-system-x86_64");
        command.args(hardware.arguments(&control));
        let log = folder.join(format!("{}-serial-{boot}.log", hardware.name));
        let mut machine = Self::start(command, control, &log)?;
        machine.mac.clone_from(&hardware.mac);
        machine.tpm = tpm;
        Ok(machine)
    }

    /// Starts QEMU with a command of its own; its serial line is on stdout.
    ///
    /// # Errors
    /// When QEMU or its log cannot be started.
    pub fn start(command: std::process::Command, control: PathBuf, log: &Path) -> Result<Self> {
        let mut command = tokio::process::Command::from(command);
        let errors = File::options().create(true).append(true).open(log.with_extension("qemu.log"));
        let (started, started_at) = (Instant::now(), OffsetDateTime::now_utc());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors.with_context(|| format!("making a log beside {}", log.display()))?)
            .kill_on_drop(true)
            .spawn()
            .context("starting QEMU")?;
        let serial = Arc::new(Serial::new(log.to_owned(), started)?);
        let output = child.stdout.take().context("QEMU has no stdout")?;
        tokio::spawn(Arc::clone(&serial).read(output));
        Ok(Self { child, tpm: None, control, mac: String::new(), started, started_at, serial })
    }

    /// Fails when QEMU has ended by itself, or has lost the guest's timer: on a busy host its translator sometimes does, and
    /// that guest waits for ever for what never comes.
    ///
    /// # Errors
    /// When it is not running any more, or not in earnest.
    pub fn check(&mut self) -> Result<()> {
        if self.serial.first(LOST_TIMER).is_some() {
            bail!("QEMU lost the guest's timer; the host is too busy for emulation, run it again when it is not");
        }
        if let Some(status) = self.child.try_wait().context("asking for QEMU's status")? {
            let errors = super::service::tail(&self.serial.log.with_extension("qemu.log"), 10);
            bail!("QEMU ended with {status}\n{errors}");
        }
        Ok(())
    }

    /// Waits until the guest has switched itself off.
    ///
    /// # Errors
    /// When it takes longer than this.
    pub async fn wait_for_end(&mut self, within: Duration) -> Result<()> {
        tokio::time::timeout(within, self.child.wait()).await.context("the guest did not end")?.context("waiting")?;
        Ok(())
    }

    /// Pulls the plug: QEMU ends at once, the guest notices nothing.
    ///
    /// # Errors
    /// When QEMU cannot be ended.
    pub async fn pull_the_plug(mut self) -> Result<()> {
        let asked = tokio::time::timeout(Duration::from_secs(5), self.quit()).await;
        if !matches!(asked, Ok(Ok(()))) {
            self.child.start_kill().context("killing QEMU")?;
        }
        self.child.wait().await.context("waiting for QEMU's end")?;
        // It ends when QEMU is gone, and writes down what a TPM does not forget.
        if let Some(mut tpm) = self.tpm.take() {
            let ended = tokio::time::timeout(Duration::from_secs(5), tpm.wait()).await;
            ended.context("the TPM does not end")?.context("waiting for the TPM's end")?;
        }
        Ok(())
    }

    /// Pulls the network cable, or puts it in.
    ///
    /// # Errors
    /// When QEMU does not do it.
    pub async fn cable(&self, plugged: bool) -> Result<()> {
        self.cable_of(CABLES[0], plugged).await
    }

    /// The same for one of [`CABLES`].
    ///
    /// # Errors
    /// When QEMU does not do it.
    pub async fn cable_of(&self, name: &str, plugged: bool) -> Result<()> {
        self.command("set_link", &serde_json::json!({"name": name, "up": plugged})).await
    }

    /// Gives QEMU a command (QEMU Machine Protocol) and waits until it is done.
    ///
    /// # Errors
    /// When QEMU does not do it.
    pub async fn command(&self, name: &str, arguments: &serde_json::Value) -> Result<()> {
        let begin = Instant::now();
        // The socket appears a moment after QEMU has started.
        let stream = loop {
            match tokio::net::UnixStream::connect(&self.control).await {
                Ok(stream) => break stream,
                Err(error) if begin.elapsed() > Duration::from_secs(10) => {
                    return Err(error).context("QEMU's control socket");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let (answers, mut questions) = stream.into_split();
        let command = serde_json::json!({"execute": name, "arguments": arguments});
        let text = format!("{{\"execute\":\"qmp_capabilities\"}}{command}\n");
        questions.write_all(text.as_bytes()).await.context("asking QEMU")?;
        let mut lines = BufReader::new(answers).lines();
        let mut done = 0;
        while done < 2 {
            let line = lines.next_line().await.context("QEMU's answer")?.context("QEMU hung up")?;
            if line.contains("\"error\"") {
                bail!("QEMU did not do {name}: {line}");
            }
            done += usize::from(line.contains("\"return\""));
        }
        Ok(())
    }

    async fn quit(&mut self) -> Result<()> {
        let mut stream = tokio::net::UnixStream::connect(&self.control).await.context("QEMU's control socket")?;
        stream.write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}\n").await.context("asking QEMU")?;
        self.child.wait().await.context("waiting for QEMU's end")?;
        Ok(())
    }
}

/// The serial line: a log with the seconds since power-on before each line, and its latest lines.
#[derive(Debug)]
pub struct Serial {
    log: PathBuf,
    started: Instant,
    lines: Mutex<VecDeque<(Duration, String)>>,
}

impl Serial {
    fn new(log: PathBuf, started: Instant) -> Result<Self> {
        File::create(&log).with_context(|| format!("making {}", log.display()))?;
        Ok(Self { log, started, lines: Mutex::default() })
    }

    async fn read(self: Arc<Self>, output: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(output).split(b'\n');
        let Ok(mut log) = File::options().append(true).open(&self.log) else { return };
        while let Ok(Some(line)) = lines.next_segment().await {
            let text = plain_text(&String::from_utf8_lossy(&line));
            if text.is_empty() {
                continue;
            }
            let at = self.started.elapsed();
            let _ = writeln!(log, "[{:8.2}] {text}", at.as_secs_f64());
            if let Ok(mut lines) = self.lines.lock() {
                lines.push_back((at, text));
                if lines.len() > 20_000 {
                    lines.pop_front();
                }
            }
        }
    }

    /// When the first line that holds this text came, after power-on, and the line.
    #[must_use]
    pub fn first(&self, text: &str) -> Option<(Duration, String)> {
        self.lines.lock().ok()?.iter().find(|(_, line)| line.contains(text)).cloned()
    }

    /// How many lines hold this text.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.lines.lock().map_or(0, |lines| lines.iter().filter(|(_, line)| line.contains(text)).count())
    }

    /// The last lines, for error messages.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let Ok(lines) = self.lines.lock() else { return String::new() };
        lines
            .iter()
            .skip(lines.len().saturating_sub(count))
            .map(|(at, line)| format!("  [{:8.2}] {line}\n", at.as_secs_f64()))
            .collect()
    }

    /// Where the log is.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }
}

/// Firmware paints its screen with escape sequences, and draws progress over one line with carriage returns.
fn plain_text(line: &str) -> String {
    let mut out = String::new();
    // A terminal that adds a carriage return to a line with one of its own ends it with two.
    let mut characters = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\x1b' if characters.peek() == Some(&'[') => {
                characters.next();
                while characters.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
            }
            '\r' => out.clear(),
            // An operating system command, for example a palette: up to BEL or the next escape.
            '\x1b' if characters.peek() == Some(&']') => {
                while characters.next().is_some_and(|c| c != '\x07' && c != '\x1b') {}
            }
            c if c.is_control() && c != '\t' => {}
            c => out.push(c),
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_progress_are_taken_out() {
        assert_eq!(plain_text("\x1b[2J\x1b[01;01H>>Start PXE over IPv4.\r"), ">>Start PXE over IPv4.");
        assert_eq!(plain_text("10%\r20%\rdone\r\r"), "done");
        assert_eq!(plain_text("\x1b[0m\x1b]104\x07ok\r"), "ok");
    }

    #[test]
    fn the_machine_has_no_boot_order_and_no_option_rom() {
        let hardware = Hardware {
            name: "m".into(),
            mac: "52:54:00:00:00:01".into(),
            tap: "t".into(),
            memory_mib: 1024,
            disk: "/d".into(),
            more_disks: vec![],
            firmware: "/v".into(),
            network_boot: NetworkBoot::Pxe,
            medium: None,
            first: None,
            writes: None,
            throw_away: false,
            odd: Odd::default(),
            accelerator: Accelerator::Tcg,
        };
        let text = hardware.arguments(Path::new("/q")).join(" ");
        assert!(!text.contains("bootindex") && text.contains("romfile=") && text.contains("-m 1024"), "{text}");
        assert!(!text.contains("PXESupport"));
    }
}
