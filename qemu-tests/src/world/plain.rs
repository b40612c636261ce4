//! A small guest with the kernel and drivers of the boot image and busybox instead of our agent. It answers two
//! questions: does KVM really run Linux here, and how long does a plain download onto the disk take?

use super::{
    addresses as at,
    machine::{Accelerator, Machine},
    network::PLAIN_TAP,
    root::Root,
};
use crate::{process, report::Report};
use anyhow::{Context as _, Result, ensure};
use contracts::uki;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Printed by the small guest before its answer.
const MARK: &str = "plain-guest:";

/// A kernel and an initrd with busybox.
#[derive(Debug, Clone)]
pub struct SmallGuest {
    kernel: PathBuf,
    initrd: PathBuf,
    folder: PathBuf,
}

impl SmallGuest {
    /// Takes kernel and initrd out of the UKI and adds busybox and a script as `/init`. Later members of
    /// concatenated cpio archives win (Documentation/driver-api/early-userspace/buffer-format.rst).
    ///
    /// # Errors
    /// When the UKI is not one, or a file cannot be written.
    pub fn make(root: &Root, image: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("overlay/bin")).context("making the small guest's folder")?;
        let bytes = fs::read(image).with_context(|| format!("reading {}", image.display()))?;
        let kernel = folder.join("kernel");
        fs::write(&kernel, uki::section(&bytes, ".linux")?).context("writing the kernel")?;

        let overlay = folder.join("overlay");
        process::output(root.command("cp").arg("/usr/bin/busybox").arg(overlay.join("bin/busybox")))?;
        fs::write(overlay.join("init"), INIT.replace("ADDRESS", at::PLAIN_GUEST))
            .context("writing the small guest's script")?;
        let archive = folder.join("overlay.cpio");
        let script = "cd \"$1\" && chmod 0755 init bin/busybox && \
            printf 'init\\nbin\\nbin/busybox\\n' | cpio --quiet -o -H newc -R 0:0 > \"$2\"";
        process::output(root.command("sh").args(["-c", script, "sh"]).arg(&overlay).arg(&archive))?;

        let mut initrd_bytes = uki::section(&bytes, ".initrd")?.to_vec();
        // The next archive begins at a multiple of four; the kernel skips zeros between archives.
        initrd_bytes.resize(initrd_bytes.len().next_multiple_of(4), 0);
        initrd_bytes.extend(fs::read(&archive).context("reading the cpio archive")?);
        let initrd = folder.join("initrd");
        fs::write(&initrd, initrd_bytes).context("writing the small guest's initrd")?;
        Ok(Self { kernel, initrd, folder: folder.to_owned() })
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// The initrd: the boot image's, with busybox.
    #[must_use]
    pub fn initrd(&self) -> &Path {
        &self.initrd
    }

    /// A tiny initrd for it, without drivers: it says this word on the console, again and again.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn speaker(&self, root: &Root, word: &str) -> Result<PathBuf> {
        let tree = self.folder.join("speaker");
        fs::create_dir_all(tree.join("bin")).context("making the speaker's folder")?;
        process::output(root.command("cp").arg("/usr/bin/busybox").arg(tree.join("bin/busybox")))?;
        // Without /dev/console in the archive, which not everybody may make, init has no output until it opens one.
        let script = format!(
            "#!/bin/busybox sh\nB=/bin/busybox\n$B mount -t devtmpfs dev /dev\nexec >/dev/console 2>&1\n\
             while :; do $B echo '{word}'; $B sleep 5; done\n"
        );
        fs::write(tree.join("init"), script).context("writing the speaker's script")?;
        let initrd = self.folder.join("speaker.cpio");
        let script = "cd \"$1\" && chmod 0755 init bin/busybox && mkdir -p dev && \
            printf 'init\\nbin\\nbin/busybox\\ndev\\n' | cpio --quiet -o -H newc -R 0:0 > \"$2\"";
        process::output(root.command("sh").args(["-c", script, "sh"]).arg(&tree).arg(&initrd))?;
        Ok(initrd)
    }

    fn command(&self, root: &Root, accelerator: Accelerator, memory_mib: u32, task: &str) -> Command {
        self.command_with(root, &self.initrd, accelerator, memory_mib, task)
    }

    /// QEMU with this kernel and another initrd, whose `/init` finds the task on the command line.
    #[must_use]
    pub fn command_with(
        &self,
        root: &Root,
        initrd: &Path,
        accelerator: Accelerator,
        memory_mib: u32,
        task: &str,
    ) -> Command {
        let mut command = root.command("qemu-system-x86_64");
        command
            .args(["-machine", "q35", "-smp", "2", "-display", "none", "-monitor", "none", "-serial", "stdio"])
            .args(["-no-reboot", "-m", &memory_mib.to_string(), "-device", "virtio-rng-pci"])
            .args(accelerator.arguments())
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", &format!("console=ttyS0,115200 panic=-1 quiet plain.task={task}")]);
        command
    }

    /// Boots it under KVM. `/dev/kvm` can be there, answer, and hang Linux for ever (nested virtualization), so
    /// only a boot tells. The answer is kept until the host restarts.
    ///
    /// # Errors
    /// When the answer cannot be kept.
    pub async fn choose_accelerator(&self, root: &Root, answers: &Path, report: &Report) -> Result<Accelerator> {
        if !Path::new("/dev/kvm").exists() {
            report.line("machine: no /dev/kvm; QEMU translates instructions (slower)");
            return Ok(Accelerator::Tcg);
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the host's boot id")?;
        let answer = answers.join(format!("kvm-works-{}", boot_id.trim()));
        if let Ok(text) = fs::read_to_string(&answer) {
            return Ok(if text.trim() == "yes" { Accelerator::Kvm } else { Accelerator::Tcg });
        }
        let works = self.run(root, Accelerator::Kvm, "probe", 512, &[], Duration::from_secs(15)).await.is_ok();
        fs::write(&answer, if works { "yes\n" } else { "no\n" }).context("keeping the answer about KVM")?;
        report.line(if works {
            "machine: KVM works here"
        } else {
            "machine: /dev/kvm is there but does not run Linux; QEMU translates instructions (slower)"
        });
        Ok(if works { Accelerator::Kvm } else { Accelerator::Tcg })
    }

    /// Seconds that a plain download of `path` from netboot onto a disk takes, by the guest's own clock.
    ///
    /// # Errors
    /// When the guest does not finish in ten minutes, or says that something failed.
    pub async fn download_seconds(
        &self,
        root: &Root,
        accelerator: Accelerator,
        memory_mib: u32,
        path: &str,
        bytes: u64,
    ) -> Result<f64> {
        let disk = self.folder.join("disk.raw");
        let _ = fs::remove_file(&disk);
        super::machine::blank_disk(&disk, 16)?;
        let devices = [
            "-netdev".into(),
            format!("tap,id=lan,ifname={PLAIN_TAP},script=no,downscript=no"),
            "-device".into(),
            format!("virtio-net-pci,netdev=lan,mac={},romfile=", at::PLAIN_MAC),
            "-drive".into(),
            format!("if=none,id=disk,file={},format=raw,cache=unsafe", disk.display()),
            "-device".into(),
            "virtio-blk-pci,drive=disk".into(),
        ];
        let task = format!("http://{}{path}", at::NETBOOT);
        let answer = self.run(root, accelerator, &task, memory_mib, &devices, Duration::from_secs(600)).await?;
        fs::remove_file(&disk).context("removing the plain guest's disk")?;
        let words: Vec<&str> = answer.split_whitespace().collect();
        let [begin, end, blocks] = words[..] else { anyhow::bail!("the plain guest said: {answer}") };
        // dd writes "whole+partial".
        let received: u64 = blocks.split('+').filter_map(|n| n.parse::<u64>().ok()).sum();
        ensure!(
            received == bytes.div_ceil(4 << 20),
            "the plain guest wrote {blocks} blocks of 4 MiB for {bytes} bytes"
        );
        let [begin, end]: [f64; 2] = [begin.parse().context("its clock")?, end.parse().context("its clock")?];
        Ok(end - begin)
    }

    async fn run(
        &self,
        root: &Root,
        accelerator: Accelerator,
        task: &str,
        memory_mib: u32,
        devices: &[String],
        within: Duration,
    ) -> Result<String> {
        let mut command = self.command(root, accelerator, memory_mib, task);
        command.args(devices);
        let log = self.folder.join(if devices.is_empty() { "probe.log" } else { "download.log" });
        let mut machine = Machine::start(command, PathBuf::new(), &log)?;
        let ended = machine.wait_for_end(within).await;
        // The reader of the serial line may be a moment behind the end of the process.
        for _ in 0..20 {
            if let Some((_, line)) = machine.serial.first(MARK) {
                let answer = line.split_once(MARK).map(|(_, answer)| answer.trim().to_owned());
                return answer.context("an empty answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ended?;
        anyhow::bail!("the plain guest said nothing; its last lines:\n{}", machine.serial.tail(15))
    }
}

/// `dd` pads the last block, because direct I/O wants whole sectors; it tells how many blocks it saw.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev 2>/dev/null
exec </dev/console >/dev/console 2>&1
for word in $($b cat /proc/cmdline); do case $word in plain.task=*) task=${word#plain.task=} ;; esac; done
if [ "$task" = probe ]; then echo "plain-guest: here"; $b poweroff -f; fi
for module in virtio_pci virtio_net virtio_blk; do /usr/sbin/modprobe $module; done
while ! $b test -b /dev/vda; do $b sleep 0.1; done
nic=$($b ls /sys/class/net | $b grep -v lo | $b head -n 1)
$b ip address add ADDRESS/24 dev $nic
$b ip link set $nic up
while [ "$($b cat /sys/class/net/$nic/carrier)" != 1 ]; do $b sleep 0.1; done
read begin rest < /proc/uptime
$b wget -q -O - "$task" | $b dd of=/dev/vda bs=4M iflag=fullblock oflag=direct conv=sync,fsync 2>/dd
read end rest < /proc/uptime
read blocks rest < /dd
echo "plain-guest: $begin $end $blocks"
$b poweroff -f
"#;
