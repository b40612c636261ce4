//! A small guest that writes the same image several ways, one after the other: our install engine, and curl with dd.

use super::{
    addresses as at,
    machine::{Accelerator, Machine, blank_disk},
    network::PLAIN_TAP,
    plain::SmallGuest,
    root::Root,
};
use crate::process;
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// One round: seconds by the guest's own clock, and bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// `curl | zstd -d | dd`.
    pub packed: f64,
    /// `curl | dd` of the image as it is.
    pub plain: f64,
    /// Our engine.
    pub ours: f64,
    /// Our check of what is on the disk.
    pub verify: f64,
    /// `veritysetup verify`.
    pub veritysetup: f64,
    /// The most memory that our engine held.
    pub peak_memory: u64,
}

/// What the guest needs.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The world's root.
    pub root: &'a Root,
    /// A root with the other programs.
    pub peers: &'a Root,
    /// The program `firstboot-agent`.
    pub agent: &'a Path,
    /// The image's manifest, as a file.
    pub manifest: &'a Path,
    /// The root hash in it.
    pub root_hash: &'a str,
    /// A folder of its own.
    pub folder: &'a Path,
    /// Memory.
    pub memory_mib: u32,
}

/// Runs so many rounds in one guest. netboot has the image as `/repo/bench/raw` and `/repo/bench/raw.zst` too.
///
/// # Errors
/// When the guest does not come to its end, or says something else.
pub async fn rounds(setup: &Setup<'_>, small: &SmallGuest, accelerator: Accelerator, count: u8) -> Result<Vec<Round>> {
    let initrd = initrd(setup, small)?;
    let disks: Vec<PathBuf> = ["dd", "data", "tree"].map(|name| setup.folder.join(format!("{name}.raw"))).into();
    for (disk, gib) in disks.iter().zip([8, 8, 1]) {
        let _ = fs::remove_file(disk);
        blank_disk(disk, gib)?;
    }
    let task = format!("{count}@http://{}/repo@{}", at::NETBOOT, setup.root_hash);
    let mut command = small.command_with(setup.root, &initrd, accelerator, setup.memory_mib, &task);
    command.args(["-netdev", &format!("tap,id=lan,ifname={PLAIN_TAP},script=no,downscript=no")]);
    command.args(["-device", &format!("virtio-net-pci,netdev=lan,mac={},romfile=", at::PLAIN_MAC)]);
    for (index, disk) in disks.iter().enumerate() {
        let drive = format!("if=none,id=d{index},file={},format=raw,cache=unsafe,discard=unmap", disk.display());
        command.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive=d{index}")]);
    }
    let log = setup.folder.join("guest.log");
    let mut machine = Machine::start(command, PathBuf::new(), &log)?;
    machine.wait_for_end(Duration::from_secs(300 + 300 * u64::from(count))).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let rounds: Vec<Round> = (1..=count)
        .map(|number| {
            let line = machine.serial.first(&format!("round-{number}:"));
            let (_, line) = line.with_context(|| format!("the guest's last lines:\n{}", machine.serial.tail(20)))?;
            round(&line).with_context(|| format!("the guest said: {line}"))
        })
        .collect::<Result<_>>()?;
    disks.iter().try_for_each(fs::remove_file).context("removing the guest's disks")?;
    Ok(rounds)
}

/// Begin and end of each way, in the order of the script, then the memory.
fn round(line: &str) -> Result<Round> {
    let (_, numbers) = line.split_once(": ").context("no numbers")?;
    let numbers: Vec<f64> =
        numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>().context("not a number")?;
    ensure!(numbers.len() == 11, "{} numbers instead of 11", numbers.len());
    let took = |way: usize| numbers[2 * way + 1] - numbers[2 * way];
    let peak_memory = numbers[10] as u64;
    Ok(Round { packed: took(0), ours: took(1), plain: took(2), verify: took(3), veritysetup: took(4), peak_memory })
}

/// The small guest's initrd, and behind it the programs. Those of other people bring their libraries and their loader along, in a
/// folder of their own: the boot image's are not touched.
fn initrd(setup: &Setup<'_>, small: &SmallGuest) -> Result<PathBuf> {
    let overlay = setup.folder.join("overlay");
    fs::create_dir_all(overlay.join("bench")).context("making the guest's folder")?;
    fs::write(overlay.join("init"), INIT.replace("ADDRESS", at::PLAIN_GUEST)).context("writing the guest's script")?;
    let copy = "cd \"$1/bench\" && for p in curl zstd dd; do cp -L \"$(command -v $p)\" . && \
        ldd \"$(command -v $p)\" | grep -o '/[^ ]*' | while read -r l; do cp -nL \"$l\" . || exit 1; done; done";
    process::output(setup.peers.command("sh").args(["-ec", copy, "sh"]).arg(&overlay))?;
    for (from, name) in [(setup.agent, "agent"), (setup.manifest, "manifest.json")] {
        fs::copy(from, overlay.join("bench").join(name)).with_context(|| format!("copying {}", from.display()))?;
    }
    let archive = setup.folder.join("bench.cpio");
    let pack = "cd \"$1\" && chmod 0755 init && find init bench | cpio --quiet -o -H newc -R 0:0 > \"$2\"";
    process::output(setup.root.command("sh").args(["-ec", pack, "sh"]).arg(&overlay).arg(&archive))?;
    let mut bytes = fs::read(small.initrd()).context("reading the small guest's initrd")?;
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(fs::read(&archive).context("reading the cpio archive")?);
    let path = setup.folder.join("initrd");
    fs::write(&path, bytes).context("writing the guest's initrd")?;
    Ok(path)
}

/// Every way begins with an empty page cache and disks that hold nothing, and ends with the disk's flush. The ways take turns in each
/// round.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /tmp
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev 2>/dev/null
exec </dev/console >/dev/console 2>&1
for word in $($b cat /proc/cmdline); do case $word in plain.task=*) task=${word#plain.task=} ;; esac; done
rounds=${task%%@*}; rest=${task#*@}; base=${rest%@*}; hash=${rest##*@}
for module in virtio_pci virtio_net virtio_blk; do /usr/sbin/modprobe $module; done
while ! $b test -b /dev/vdc; do $b sleep 0.1; done
nic=$($b ls /sys/class/net | $b grep -v lo | $b head -n 1)
$b ip address add ADDRESS/24 dev $nic
$b ip link set $nic up
$b ip link set lo up
while [ "$($b cat /sys/class/net/$nic/carrier)" != 1 ]; do $b sleep 0.1; done
theirs() { program=$1; shift; /bench/ld-linux-x86-64.so.2 --library-path /bench /bench/$program "$@"; }
clean() { for disk in "$@"; do $b blkdiscard $disk; done; echo 3 > /proc/sys/vm/drop_caches; $b sleep 1; }
now() { read up rest < /proc/uptime; times="$times $up"; }
fail() { echo "bench: $1 failed"; $b cat /tmp/log; $b poweroff -f; }
dd() { theirs dd of=/dev/vda bs=4M iflag=fullblock oflag=direct conv=fsync status=none; }
round=1
while [ $round -le $rounds ]; do
    times=
    clean /dev/vda; now
    theirs curl -sf $base/bench/raw.zst | theirs zstd -dcq | dd || fail zstd
    now; clean /dev/vdb /dev/vdc; now
    /bench/agent image write --from $base --manifest /bench/manifest.json --data /dev/vdb --tree /dev/vdc >/tmp/log 2>&1 || fail write
    now; peak=$($b sed -n 's/.*"peak_memory":\([0-9]*\).*/\1/p' /tmp/log)
    clean /dev/vda; now
    theirs curl -sf $base/bench/raw | dd || fail raw
    now; clean; now
    /bench/agent image verify --manifest /bench/manifest.json --data /dev/vdb --tree /dev/vdc >/tmp/log 2>&1 || fail verify
    now; clean; now
    /usr/sbin/veritysetup verify /dev/vdb /dev/vdc $hash >/tmp/log 2>&1 || fail veritysetup
    now
    echo "round-$round:$times $peak"
    round=$((round + 1))
done
$b poweroff -f
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_read() {
        let line = "round-1: 1 11 20 25.5 30 38 40 43 50 54 33554432";
        let read = round(line).unwrap();
        assert_eq!((read.packed, read.ours, read.plain, read.verify, read.veritysetup), (10.0, 5.5, 8.0, 3.0, 4.0));
        assert_eq!(read.peak_memory, 32 << 20);
        assert!(round("round-1: 1 2").is_err());
    }
}
