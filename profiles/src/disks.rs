//! Which disk may get the system: `disks` of a template, checked as strictly as the agent will check it again.

use crate::{
    compose::{Checked, Named},
    error::Problems,
    parameters::{self, Parameters},
    shapes::{DiskSpec, SeveralSpec, TemplateDocument},
    yaml::{Placed, Source},
};
use contracts::{
    disks::{DiskPolicy, DiskSelector, Several},
    facts::Transport,
};

const CODE: &str = "bad-disks";

/// The template's word; no wishes where it says nothing.
pub(crate) fn read(template: &Named<TemplateDocument>, values: &Parameters, problems: &mut Problems) -> DiskPolicy {
    let Some(spec) = &template.document.spec.disks else { return DiskPolicy::default() };
    let source = &template.source;
    let mut lines = |specs: &[Placed<DiskSpec>]| {
        specs.iter().filter_map(|spec| problems.keep(line(source, spec, values))).collect::<Vec<_>>()
    };
    let (system, never) = (lines(&spec.system), lines(&spec.never));
    DiskPolicy {
        system,
        never,
        smallest_bytes: spec.smallest.as_ref().and_then(|text| problems.keep(size(source, text, values))),
        several: match spec.several {
            SeveralSpec::First => Several::First,
            SeveralSpec::Stop => Several::Stop,
        },
    }
}

fn line(source: &Source, spec: &Placed<DiskSpec>, values: &Parameters) -> Checked<DiskSelector> {
    let size_of = |text: &Option<Placed<String>>| text.as_ref().map(|text| size(source, text, values)).transpose();
    let said = &spec.value;
    let line = DiskSelector {
        wwn: said.wwn.clone(),
        serial: said.serial.clone(),
        model: said.model.clone(),
        path: said.path.clone(),
        transport: said.transport.iter().map(|word| transport(source, word)).collect::<Checked<_>>()?,
        rotational: said.rotational,
        at_least_bytes: size_of(&said.at_least)?,
        at_most_bytes: size_of(&said.at_most)?,
    };
    if line == DiskSelector::default() {
        let message = "this line says nothing, so every disk would fit it";
        return Err(source.problem(spec, CODE, message, "write for example transport: [nvme], or take the line out"));
    }
    if line.at_least_bytes.zip(line.at_most_bytes).is_some_and(|(least, most)| least > most) {
        let message = "no disk is at least as large as atLeast and at most as large as atMost";
        return Err(source.problem(spec, CODE, message, "write the smaller size as atLeast"));
    }
    Ok(line)
}

fn size(source: &Source, text: &Placed<String>, values: &Parameters) -> Checked<u64> {
    let filled = crate::compose::fill(source, text, values)?;
    parameters::bytes(&filled).ok_or_else(|| {
        source.problem(text, "bad-size", format!("'{filled}' is not a size"), "write for example 100 GB")
    })
}

/// What can hold a system; USB and SD never do.
fn transport(source: &Source, word: &Placed<String>) -> Checked<Transport> {
    Ok(match word.value.as_str() {
        "sata" => Transport::Sata,
        "sas" => Transport::Sas,
        "scsi" => Transport::Scsi,
        "nvme" => Transport::Nvme,
        "virtio" => Transport::Virtio,
        "emmc" => Transport::Emmc,
        "ufs" => Transport::Ufs,
        "xen" => Transport::Xen,
        "network" => Transport::Network,
        other => {
            let message = format!("'{other}' is no way to attach a disk that can hold a system");
            let fix = "write sata, sas, scsi, nvme, virtio, emmc, ufs, xen or network";
            return Err(source.problem(word, CODE, message, fix));
        }
    })
}
