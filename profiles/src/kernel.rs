//! Arguments of the kernel's command line, which is signed with the boot image.

use crate::{
    compose::{Checked, fill},
    parameters::Parameters,
    yaml::{Placed, Source},
};
use contracts::bios;

/// The most bytes of all arguments together, with a blank each: GRUB's environment block holds the whole line on BIOS
/// machines, and other arguments are there already.
pub const MOST_BYTES: usize = 640;

/// What the image, the agent and the way back to the other slot rely on. `_` and `-` are the same to the kernel.
const OURS: [&str; 13] = [
    "roothash",
    "root",
    "rootfstype",
    "rootflags",
    "ro",
    "rw",
    "init",
    "rdinit",
    "initrd",
    "noinitrd",
    "panic",
    "usrhash",
    "systemd.unit",
];
/// The same, by what they begin with.
const OUR_BEGINNINGS: [&str; 5] = ["shelfboot.", "systemd.verity", "systemd.volatile", "rd.", "dm_mod."];

/// What a template says to the agent: seconds, and whether the machine may beep.
const FOR_THE_AGENT: [&str; 3] = ["shelfboot.beeps", "shelfboot.deadline", "shelfboot.update"];

fn is_for_the_agent(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, value)| {
        FOR_THE_AGENT.contains(&name) && (1..=6).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Reads one argument.
pub(crate) fn argument(source: &Source, at: &Placed<String>, values: &Parameters) -> Checked<String> {
    let text = fill(source, at, values)?;
    let wrong = |message: String, fix: &str| Err(source.problem(at, "bad-kernel-argument", message, fix));
    let name = text.split('=').next().unwrap_or_default().replace('-', "_");
    // A word that is none: "--" ends the kernel's own arguments.
    if !bios::is_plain(&text) || text.contains(' ') || !name.bytes().any(|b| b.is_ascii_alphanumeric()) {
        let message = format!("'{text}' is not an argument of the kernel");
        return wrong(message, "write NAME or NAME=VALUE with letters, digits and = , . : / @ _ + -, one per entry");
    }
    let ours = OURS.contains(&name.as_str()) || OUR_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    if ours && !is_for_the_agent(&text) {
        let message = format!("'{text}' is not a template's to say");
        return wrong(
            message,
            "leave it out: which root is started, and what happens when that fails, is part of the image",
        );
    }
    Ok(text)
}

/// Notes an argument behind the others; one that is there already stays where it is.
pub(crate) fn add(source: &Source, at: &Placed<String>, argument: String, all: &mut Vec<String>) -> Checked<()> {
    if all.contains(&argument) {
        return Ok(());
    }
    let bytes: usize = all.iter().map(|other| other.len() + 1).sum::<usize>() + argument.len() + 1;
    if bytes > MOST_BYTES {
        let message = format!("the kernel's arguments have {bytes} bytes together, {MOST_BYTES} fit");
        return Err(source.problem(at, "bad-kernel-argument", message, "leave some out"));
    }
    all.push(argument);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str) -> bool {
        let source = Source::new(std::path::Path::new("x.yaml"), text.to_owned());
        let at: Placed<String> = serde_saphyr::from_str(&format!("{text:?}")).unwrap();
        argument(&source, &at, &Parameters::default()).is_ok()
    }

    #[test]
    fn nothing_that_decides_what_is_started_can_be_said() {
        for fine in ["console=ttyS1,115200n8", "mitigations=auto", "isolcpus=2-3", "nosmt", "audit=0", "dm_verity.x=1"]
            .into_iter()
            .chain(["shelfboot.deadline=900", "shelfboot.update=0", "shelfboot.beeps=0"])
        {
            assert!(accepted(fine), "{fine}");
        }
        let roots = ["roothash=00", "root=/dev/sda1", "rw", "init=/bin/sh", "rdinit=/x", "panic=0", "initrd=x"];
        let spellings = [
            "dm-mod.create=x",
            "shelfboot.loader=x",
            "shelfboot.deadline=x",
            "shelfboot.update=",
            "rd.break",
            "systemd.verity_root_options=x",
            "systemd.unit=x",
        ];
        let texts = ["", "--", "a b", "a=\"b\"", "a\nb", "$(x)", "a;b", "a\\b", "\u{e9}"];
        for bad in roots.into_iter().chain(spellings).chain(texts) {
            assert!(!accepted(bad), "{bad:?}");
        }
    }
}
