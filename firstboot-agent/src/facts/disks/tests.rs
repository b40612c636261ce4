//! Over folders that look like the sysfs of machines with one disk of each kind.

use super::*;
use std::{fs, os::unix::fs::symlink, path::PathBuf};

/// A folder that looks like `/`.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("sys/block")).unwrap();
        Self(folder)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), bytes).unwrap();
    }

    /// A disk of 100 GB whose device is `device`, with some files below the device or, with a leading `/`, below the disk.
    fn disk(&self, device: &str, name: &str, files: &[(&str, &str)]) {
        let disk = format!("sys/devices/{device}/block/{name}");
        self.write(&format!("{disk}/size"), "195312500\n");
        self.write(&format!("{disk}/queue/logical_block_size"), "512\n");
        for (file, text) in files {
            let path = match file.strip_prefix('/') {
                Some(of_disk) => format!("{disk}/{of_disk}"),
                None => format!("sys/devices/{device}/{file}"),
            };
            self.write(&path, text);
        }
        symlink("../..", self.at(&format!("{disk}/device"))).unwrap();
        symlink(self.at(&disk), self.at(&format!("sys/block/{name}"))).unwrap();
    }

    fn system(&self) -> System {
        System(self.0.path().to_owned())
    }

    fn only(&self) -> Disk {
        let disks = read(&self.system(), false);
        assert_eq!(disks.len(), 1, "{disks:?}");
        disks.into_iter().next().unwrap()
    }
}

const SATA: &str = "pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0";

#[test]
fn a_sata_disk() {
    let machine = Machine::new();
    let page = "\0\u{0}\0\x0bS5GXNX 1234";
    machine.disk(
        SATA,
        "sda",
        &[
            ("model", "Samsung SSD 870 \n"),
            ("vendor", "ATA     \n"),
            ("rev", "1B6Q\n"),
            ("wwid", "naa.5002538f31234567\n"),
            ("state", "running\n"),
            ("/queue/rotational", "0\n"),
            ("/queue/physical_block_size", "4096\n"),
            ("/ro", "0\n"),
        ],
    );
    let mut page = page.as_bytes().to_vec();
    page[1] = 0x80;
    machine.write(&format!("sys/devices/{SATA}/vpd_pg80"), page);
    machine.write("sys/devices/pci0000:00/0000:00:17.0/ata3/ata_port/ata3/port_no", "2\n");
    let disk = machine.only();
    assert_eq!(disk.transport, Transport::Sata);
    assert_eq!(disk.path, "pci-0000:00:17.0-ata-2");
    assert_eq!(disk.serial.as_deref(), Some("S5GXNX 1234"));
    assert_eq!((disk.wwn.as_deref(), disk.model.as_deref()), (Some("naa.5002538f31234567"), Some("Samsung SSD 870")));
    assert_eq!((disk.vendor, disk.revision.as_deref()), (None, Some("1B6Q")));
    assert_eq!((disk.rotational, disk.physical_sector_bytes), (Some(false), Some(4096)));
    assert_eq!((disk.bytes, disk.sector_bytes, disk.removable, disk.read_only), (100_000_000_000, 512, false, false));
    assert_eq!((disk.health, disk.used_by), (None, None));
    assert!(matches!(disk.content, DiskContent::Foreign { .. }), "what was not looked at is not blank");
}

#[test]
fn an_nvme_disk_and_its_namespaces_and_paths() {
    let machine = Machine::new();
    let device = "pci0000:00/0000:01:00.0/nvme/nvme0";
    let files =
        [("model", "Samsung SSD 980 PRO 1TB   \n"), ("serial", "S5 \n"), ("state", "live\n"), ("transport", "pcie\n")];
    machine.disk(device, "nvme0n1", &[&files[..], &[("/wwid", "eui.0025385b21404321\n")]].concat());
    machine.disk(device, "nvme0n2", &[&files[..], &[("/nsid", "2\n")]].concat());
    machine.disk(device, "nvme0c1n1", &[("/hidden", "1\n")]);
    let disks = read(&machine.system(), false);
    assert_eq!(disks.iter().map(|disk| disk.kernel_name.as_str()).collect::<Vec<_>>(), ["nvme0n1", "nvme0n2"]);
    assert_eq!((disks[0].transport, disks[0].path.as_str()), (Transport::Nvme, "pci-0000:01:00.0"));
    assert_eq!(disks[0].wwn.as_deref(), Some("eui.0025385b21404321"));
    assert_eq!(disks[1].path, "pci-0000:01:00.0-nvme-2");
    machine.write(&format!("sys/devices/{device}/transport"), "tcp\n");
    machine.write(&format!("sys/devices/{device}/state"), "dead\n");
    let disks = read(&machine.system(), false);
    assert_eq!(disks[0].transport, Transport::Network);
    assert_eq!(disks[0].health.as_ref().unwrap().failing.as_deref(), Some("is dead"));
}

#[test]
fn an_emmc_is_one_disk_and_says_how_worn_it_is() {
    let machine = Machine::new();
    let device = "pci0000:00/0000:00:1c.0/mmc_host/mmc0/mmc0:0001";
    let files = [("type", "MMC\n"), ("name", "DG4064\n"), ("serial", "0x12345678\n"), ("life_time", "0x02 0x01\n")];
    machine.disk(device, "mmcblk0", &files);
    for part in ["mmcblk0boot0", "mmcblk0boot1", "mmcblk0rpmb", "mmcblk0gp0"] {
        machine.disk(device, part, &[]);
    }
    let disk = machine.only();
    assert_eq!((disk.transport, disk.removable, disk.model.as_deref()), (Transport::Emmc, false, Some("DG4064")));
    assert_eq!(disk.health, Some(DiskHealth { wear_percent: Some(20), failing: None }));
    machine.write(&format!("sys/devices/{device}/pre_eol_info"), "0x03\n");
    assert!(machine.only().health.unwrap().failing.is_some());
    machine.write(&format!("sys/devices/{device}/type"), "SD\n");
    let disk = machine.only();
    assert_eq!((disk.transport, disk.removable), (Transport::Sd, true));
}

#[test]
fn how_a_disk_is_attached_is_told_by_its_place() {
    for (device, name, transport, path) in [
        (
            "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0",
            "sdb",
            Transport::Usb,
            "pci-0000:00:14.0",
        ),
        ("pci0000:00/0000:00:04.0/virtio1", "vda", Transport::Virtio, "pci-0000:00:04.0"),
        (
            "pci0000:00/0000:00:05.0/virtio2/host0/target0:0:3/0:0:3:0",
            "sda",
            Transport::Scsi,
            "pci-0000:00:05.0-scsi-0:3:0",
        ),
        (
            "pci0000:16/0000:17:00.0/host0/port-0:0/end_device-0:0/target0:0:1/0:0:1:0",
            "sdc",
            Transport::Sas,
            "pci-0000:17:00.0-scsi-0:1:0",
        ),
        (
            "pci0000:00/0000:03:00.0/host1/rport-1:0-1/target1:0:0/1:0:0:5",
            "sdd",
            Transport::Network,
            "pci-0000:03:00.0-scsi-0:0:5",
        ),
        (
            "platform/host9/session1/target9:0:0/9:0:0:1",
            "sde",
            Transport::Network,
            "sys/devices/platform/host9/session1/target9:0:0/9:0:0:1/block/sde",
        ),
        ("vbd-768", "xvda", Transport::Xen, "sys/devices/vbd-768/block/xvda"),
    ] {
        let machine = Machine::new();
        machine.disk(device, name, &[("/queue/rotational", "1\n")]);
        let disk = machine.only();
        assert_eq!((disk.transport, disk.path.as_str()), (transport, path), "{name}");
        assert_eq!(disk.removable, transport == Transport::Usb);
        assert_eq!(disk.rotational.is_none(), transport == Transport::Virtio);
    }
}

#[test]
fn what_is_no_disk_is_left_out() {
    let machine = Machine::new();
    machine.disk(SATA, "sr0", &[]);
    machine.disk("platform/floppy.0", "fd0", &[]);
    machine.disk("pci0000:00/0000:00:14.0/usb1/1-1/host3/target3:0:0/3:0:0:0", "sdx", &[("/size", "0\n")]);
    fs::create_dir_all(machine.at("sys/devices/virtual/block/loop0")).unwrap();
    symlink(machine.at("sys/devices/virtual/block/loop0"), machine.at("sys/block/loop0")).unwrap();
    assert!(read(&machine.system(), false).is_empty());
}

#[test]
fn who_uses_a_disk_is_named() {
    let machine = Machine::new();
    let files = [("/dev", "8:0\n"), ("/sda2/dev", "8:2\n"), ("/queue/zoned", "host-managed\n")];
    machine.disk(SATA, "sda", &files);
    assert_eq!(machine.only().used_by, None);
    assert!(machine.only().zoned);
    machine.write("proc/swaps", "Filename\tType\n/dev/sda2 partition 1 0 -2\n");
    assert_eq!(machine.only().used_by.as_deref(), Some("swap"));
    machine.write("proc/self/mountinfo", "22 1 0:5 / /proc rw - proc\n29 1 8:2 / /srv rw - ext4 /dev/sda2\n");
    assert_eq!(machine.only().used_by.as_deref(), Some("mounted at /srv"));
    machine.write(&format!("sys/devices/{SATA}/block/sda/sda2/holders/dm-0/x"), "");
    assert_eq!(machine.only().used_by.as_deref(), Some("dm-0"));
}

#[test]
fn serial_numbers_that_lie_about_their_length_are_left_out() {
    assert_eq!(page_80(&[0, 0x80, 0, 3, b'a', b'b', b'c']).as_deref(), Some("abc"));
    assert_eq!(page_80(&[0, 0x80, 0, 4, b'a', b'b', b'c']), None);
    assert_eq!(page_80(&[0, 0x83, 0, 1, b'a']), None);
    assert_eq!(page_80(&[0]), None);
}
