//! Network cards: Ethernet with hardware behind it.

use super::{System, disks::bus_path};
use crate::disk::fitness::by_number;
use contracts::facts::Nic;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::LinkAttribute;
use std::{collections::BTreeMap, fs};

/// All of them in the order of their places. No loopback, bridges or pods' interfaces.
pub(super) fn read(system: &System) -> Vec<Nic> {
    let names = system.names("sys/class/net");
    let mut nics: Vec<Nic> = names.iter().filter_map(|name| nic(system, name)).collect();
    nics.sort_by(|a, b| by_number(&a.path, &b.path).then_with(|| by_number(&a.kernel_name, &b.kernel_name)));
    nics
}

fn nic(system: &System, name: &str) -> Option<Nic> {
    let at = |file: &str| format!("sys/class/net/{name}/{file}");
    // Type 1 is Ethernet (Linux, include/uapi/linux/if_arp.h).
    if system.number(at("type")) != Some(1) || !system.path(at("device")).exists() {
        return None;
    }
    let driver = fs::read_link(system.path(at("device/driver"))).ok();
    let driver = driver.and_then(|driver| Some(driver.file_name()?.to_string_lossy().into_owned()));
    let carrier = system.number(at("carrier")) == Some(1);
    Some(Nic {
        kernel_name: name.to_owned(),
        mac: system.text(at("address"))?.to_lowercase(),
        driver: driver.unwrap_or_default(),
        carrier,
        path: bus_path(system, &at("device")),
        // Without a link it is -1, or cannot be read.
        speed: system.number(at("speed")).filter(|_| carrier).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
        ..Nic::default()
    })
}

/// Asks the kernel by netlink which addresses the cards were made with: sysfs does not tell. What cannot be had is left out.
pub(super) fn add_permanent_addresses(nics: &mut [Nic]) {
    // A thread of its own: this is also called where a runtime is at work.
    let addresses = std::thread::scope(|scope| scope.spawn(permanent_addresses).join().unwrap_or_default());
    for nic in nics {
        nic.permanent_mac = addresses.get(&nic.kernel_name).filter(|mac| **mac != nic.mac).cloned();
    }
}

fn permanent_addresses() -> BTreeMap<String, String> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return BTreeMap::new();
    };
    runtime.block_on(async {
        let mut found = BTreeMap::new();
        let Ok((connection, handle, _)) = rtnetlink::new_connection() else { return found };
        tokio::spawn(connection);
        let mut links = handle.link().get().execute();
        while let Ok(Some(link)) = links.try_next().await {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            let address = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::PermAddress(bytes) if bytes.len() == 6 => Some(mac(bytes)),
                _ => None,
            });
            found.extend(name.zip(address));
        }
        found
    })
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::fs::symlink, path::Path};

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn cards_are_told_from_interfaces_without_hardware() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for (name, slot, speed) in [("eth10", "0000:00:0a.0", "2500"), ("eth2", "0000:00:02.0", "-1")] {
            let device = format!("sys/devices/pci0000:00/{slot}");
            write(&at(&format!("{device}/net/{name}/type")), "1\n");
            write(&at(&format!("{device}/net/{name}/address")), "52:54:00:AA:00:01\n");
            write(&at(&format!("{device}/net/{name}/speed")), speed);
            write(&at(&format!("{device}/net/{name}/carrier")), "1\n");
            fs::create_dir_all(at("sys/class/net")).unwrap();
            symlink("../../..", at(&format!("{device}/net/{name}/device"))).unwrap();
            symlink("../drivers/igc", at(&format!("{device}/driver"))).unwrap();
            symlink(at(&format!("{device}/net/{name}")), at(&format!("sys/class/net/{name}"))).unwrap();
        }
        write(&at("sys/devices/virtual/net/br0/type"), "1\n");
        symlink(at("sys/devices/virtual/net/br0"), at("sys/class/net/br0")).unwrap();
        let nics = read(&System(root.path().to_owned()));
        // `device` of a card leads to its place two folders up; here it is the PCI device three folders up.
        assert_eq!(nics.iter().map(|nic| nic.kernel_name.as_str()).collect::<Vec<_>>(), ["eth2", "eth10"]);
        assert_eq!((nics[0].speed, nics[1].speed), (None, Some(2500)));
        assert_eq!(nics[1].mac, "52:54:00:aa:00:01");
    }

    #[test]
    fn the_kernel_answers_about_its_interfaces() {
        // Whatever is there: loopback has no permanent address, and nothing hangs or fails.
        assert!(!permanent_addresses().contains_key("lo"));
        assert_eq!(mac(&[0x52, 0x54, 0, 0xaa, 1, 0xff]), "52:54:00:aa:01:ff");
    }
}
