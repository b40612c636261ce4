//! The processors, from `/proc/cpuinfo`.

use contracts::facts::Cpu;
use std::collections::BTreeSet;

/// Reads what the kernel prints, one paragraph for each logical processor. `None` when there is none.
pub(super) fn read(cpuinfo: &str) -> Option<Cpu> {
    let line = |paragraph: &str, key: &str| {
        let mut named = paragraph.lines().filter_map(|line| line.split_once(':'));
        named.find(|(name, _)| name.trim() == key).map(|(_, value)| value.to_owned())
    };
    let value = |paragraph: &str, key: &str| line(paragraph, key).map(|value| super::tidy(&value));
    let paragraphs: Vec<&str> = cpuinfo.split("\n\n").filter(|text| text.contains("processor")).collect();
    let first = paragraphs.first()?;
    let place = |paragraph: &&str| (value(paragraph, "physical id"), value(paragraph, "core id"));
    let cores: BTreeSet<_> = paragraphs.iter().map(place).collect();
    let sockets: BTreeSet<_> = cores.iter().map(|(socket, _)| socket).collect();
    let flags = line(first, "flags").unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|found| found == flag);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    // Where the kernel tells no places, every logical processor is one core of one socket.
    let told = cores.iter().all(|(_, core)| core.is_some());
    Some(Cpu {
        vendor: value(first, "vendor_id").unwrap_or_default(),
        model: value(first, "model name").unwrap_or_default(),
        sockets: count(sockets.len()),
        cores: count(if told { cores.len() } else { paragraphs.len() }),
        virtualization: has("vmx") || has("svm"),
        virtual_machine: has("hypervisor"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_cores_are_counted_once() {
        let one = |number: u32, socket: u32, core: u32| {
            format!(
                "processor\t: {number}\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R)  Xeon(R)\nphysical id\t: {socket}\n\
                 core id\t\t: {core}\nflags\t\t: {}vmx sse\n",
                "fpu ".repeat(100)
            )
        };
        let text = [one(0, 0, 0), one(1, 0, 1), one(2, 0, 0), one(3, 1, 0)].join("\n");
        let cpu = read(&text).unwrap();
        assert_eq!((cpu.sockets, cpu.cores, cpu.model.as_str()), (2, 3, "Intel(R) Xeon(R)"));
        assert!(cpu.virtualization && !cpu.virtual_machine);
        let bare = read("processor : 0\nflags : hypervisor\n\nprocessor : 1\n").unwrap();
        assert_eq!((bare.sockets, bare.cores, bare.virtual_machine), (1, 2, true));
        assert_eq!(read(""), None);
    }
}
