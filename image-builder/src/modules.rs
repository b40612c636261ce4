//! Which kernel modules the initrd carries: what it takes to find netboot by any wired network card, to write any
//! common disk, and to open the verified root. Pure: text of `modules.dep` and `modules.softdep` in, paths out.

use std::collections::{BTreeMap, BTreeSet};

/// Folders below `kernel/` that are taken whole.
const FOLDERS: &[&str] = &[
    "drivers/ata/",
    "drivers/char/tpm/",
    "drivers/hv/",
    "drivers/message/fusion/",
    "drivers/net/ethernet/",
    "drivers/net/hyperv/",
    "drivers/net/mdio/",
    "drivers/net/pcs/",
    "drivers/net/phy/",
    "drivers/net/usb/",
    "drivers/net/vmxnet3/",
    "drivers/scsi/aacraid/",
    "drivers/scsi/megaraid/",
    "drivers/scsi/mpt3sas/",
    "drivers/scsi/smartpqi/",
    "drivers/usb/host/",
    "drivers/virtio/",
    "fs/fat/",
];

/// Single modules, by name. One that a kernel has built in is simply not found.
const NAMES: &[&str] = &[
    // disks
    "virtio_blk",
    "virtio_scsi",
    "nvme",
    "sd_mod",
    "sr_mod",
    "hpsa",
    // Broadcom's SAS4 and tri-mode controllers (9600 series, PERC 12).
    "mpi3mr",
    "arcmsr",
    "mvsas",
    "isci",
    "vmw_pvscsi",
    "hv_storvsc",
    "sdhci_pci",
    "sdhci_acpi",
    "mmc_block",
    "loop",
    // Intel VMD hides NVMe disks behind a PCI bridge of its own.
    "vmd",
    // USB: disks, keyboards for the console
    "usb_storage",
    "uas",
    // the file system of CDs, also on sticks
    "isofs",
    "usbhid",
    "hid_generic",
    "atkbd",
    "i8042",
    // network
    "virtio_net",
    "af_packet",
    // tagged frames, and cards that act as one
    "8021q",
    "bonding",
    "xen_netfront",
    // the root: verity, its hashes and file systems
    "dm_mod",
    "dm_bufio",
    "dm_verity",
    "reed_solomon",
    // encrypted state
    "dm_crypt",
    "xts",
    "aesni_intel",
    "sha256_generic",
    "sha256_ssse3",
    "erofs",
    "netfs",
    "overlay",
    // state and ESP; the code pages are what vfat asks for with Debian's default mount options
    "ext4",
    "mbcache",
    "jbd2",
    "crc32c_generic",
    "crc32c_intel",
    "libcrc32c",
    "crc16",
    "crct10dif_pclmul",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "nls_utf8",
    "efivarfs",
    // where a kernel that stops leaves its last words
    "efi_pstore",
    // watchdogs, entropy
    "i6300esb",
    "iTCO_wdt",
    "sp5100_tco",
    "hpwdt",
    "virtio_rng",
    "qemu_fw_cfg",
    // beeps, and lights of industrial computers; the light of a keyboard needs nothing
    "evdev",
    "pcspkr",
    "simatic_ipc",
    "simatic_ipc_leds",
    "simatic_ipc_leds_gpio_apollolake",
    "simatic_ipc_leds_gpio_elkhartlake",
    "simatic_ipc_leds_gpio_f7188x",
];

/// Left out although their folder is taken: InfiniBand and storage over it, which netboot does not use, and
/// accelerators for tunnels and crypto of network cards.
const NOT: &[&str] = &["drivers/net/ethernet/mellanox/mlxsw/", "drivers/net/ethernet/chelsio/inline_crypto/"];

/// All that decides what [`select`] picks besides the kernel's own lists, as text: part of what an initrd is cached by.
#[must_use]
pub fn recipe() -> String {
    [FOLDERS, NAMES, NOT].map(|list| list.join(" ")).join("\n")
}

/// Picks the modules, with everything that they depend on, as paths below the kernel's module folder.
#[must_use]
pub fn select(modules_dep: &str, modules_softdep: &str) -> BTreeSet<String> {
    let dependencies = parse_dependencies(modules_dep);
    let by_name: BTreeMap<String, &str> = dependencies.keys().map(|path| (name(path), *path)).collect();
    let soft = parse_soft_dependencies(modules_softdep);
    let names: BTreeSet<String> = NAMES.iter().map(|name| name.replace('-', "_")).collect();
    let mut queue: Vec<&str> = Vec::new();
    for path in dependencies.keys() {
        let inside = path.strip_prefix("kernel/").unwrap_or(path);
        let folder = FOLDERS.iter().any(|folder| inside.starts_with(folder));
        let out = NOT.iter().any(|folder| inside.starts_with(folder));
        if (folder && !out) || names.contains(&name(path)) {
            queue.push(path);
        }
    }
    let mut chosen = BTreeSet::new();
    while let Some(path) = queue.pop() {
        if chosen.insert(path.to_owned()) {
            queue.extend(dependencies.get(path).into_iter().flatten());
            let wanted = soft.get(&name(path)).into_iter().flatten();
            queue.extend(wanted.filter_map(|name| by_name.get(name)));
        }
    }
    chosen
}

/// `path: path path…`, one line per module (depmod(8)).
fn parse_dependencies(text: &str) -> BTreeMap<&str, Vec<&str>> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, on)| (path, on.split_whitespace().collect()))
        .collect()
}

/// `softdep NAME pre: NAME… post: NAME…`; only what is loaded before counts (modprobe.d(5)).
fn parse_soft_dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
        let mut before = false;
        for word in words {
            match word {
                "pre:" => before = true,
                "post:" => before = false,
                _ if before => out.entry(module.replace('-', "_")).or_default().push(word.replace('-', "_")),
                _ => {}
            }
        }
    }
    out
}

/// A module's name as the kernel knows it: file name without folder and extensions, dashes as underscores.
#[must_use]
pub fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEP: &str = "\
kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko.xz: kernel/drivers/ptp/ptp.ko.xz
kernel/drivers/ptp/ptp.ko.xz: kernel/drivers/pps/pps_core.ko.xz
kernel/drivers/pps/pps_core.ko.xz:
kernel/drivers/net/ethernet/mellanox/mlxsw/mlxsw_core.ko.xz:
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/drivers/usb/storage/usb-storage.ko.xz:
kernel/arch/x86/crypto/special-crc.ko.xz:
kernel/sound/soundcore.ko.xz:
";

    #[test]
    fn drivers_come_with_what_they_depend_on() {
        let chosen = select(DEP, "softdep ext4 pre: special_crc post: soundcore\n");
        insta::assert_debug_snapshot!(chosen);
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(name("kernel/a/usb-storage.ko.xz"), "usb_storage");
        assert_eq!(name("dm-mod.ko"), "dm_mod");
    }

    proptest! {
        #[test]
        fn whatever_is_chosen_has_its_dependencies(edges in proptest::collection::vec((0u8..9, 0u8..9), 0..20)) {
            let path = |n: u8| if n == 0 { "kernel/fs/ext4/ext4.ko".into() } else { format!("kernel/x/m{n}.ko") };
            let mut text = String::new();
            for n in 0..9 {
                let on: Vec<String> = edges.iter().filter(|edge| edge.0 == n).map(|edge| path(edge.1)).collect();
                text += &format!("{}: {}\n", path(n), on.join(" "));
            }
            let chosen = select(&text, "");
            prop_assert!(chosen.contains(&path(0)));
            for (from, to) in edges {
                prop_assert!(!chosen.contains(&path(from)) || chosen.contains(&path(to)));
            }
        }
    }
}
