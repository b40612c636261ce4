//! Says which disks are for the role's data, before the units of the join start. The choice is remembered on the state
//! partition before anybody hears of it, so that a disk that was cut off in the middle is named again. Whether what is on it by
//! then is its own, the product's unit has to see from the disk.

use crate::{
    disk::data::{self, DataPlan},
    durable, facts,
    failure::{Coded, Failure},
};
use anyhow::{Context, Result};
use contracts::machine::{DATA_DISKS_PATH, DataDisks};
use std::{fs, io::ErrorKind, path::Path};

/// Below the agent's folder on the state partition: a JSON list of ids.
const FILE: &str = "data-disks.json";

/// Chooses, remembers, and writes the list for the units. Gives a sentence for people. The list may be empty when there are
/// only disks with data: whether that is data of this role, of a machine that has died, only its product can tell.
///
/// # Errors
/// `no-data-disk` when there is no disk besides the system disk, `data-disks` when a file does not work.
pub fn choose(policy: &DataDisks, state: &Path) -> Result<String, Failure> {
    let mut known = remembered(state).code("data-disks")?;
    let plan = data::choose(&facts::gather(true).disks, policy, &known);
    if plan.disks.is_empty() && !plan.foreign {
        return Err(none(&plan));
    }
    let new: Vec<String> = plan.disks.iter().map(|disk| disk.id.clone()).filter(|id| !known.contains(id)).collect();
    if !new.is_empty() {
        known.extend(new);
        let bytes = serde_json::to_vec_pretty(&known).code("data-disks")?;
        durable::write(&state.join(FILE), &bytes, 0o644).code("data-disks")?;
    }
    let list = serde_json::to_vec_pretty(&plan.disks).code("data-disks")?;
    durable::write(Path::new(DATA_DISKS_PATH), &list, 0o644).code("data-disks")?;
    Ok(words(&plan))
}

fn remembered(state: &Path) -> Result<Vec<String>> {
    let path = state.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn words(plan: &DataPlan) -> String {
    let names: Vec<&str> = plan.disks.iter().map(|disk| disk.device.trim_start_matches("/dev/")).collect();
    let left = plan.left.iter().map(|left| format!("; {left}")).collect::<String>();
    if names.is_empty() {
        format!("no disk is free for data{left}")
    } else {
        format!("data on {}{left}", names.join(", "))
    }
}

fn none(plan: &DataPlan) -> Failure {
    let left = plan.left.join(", ");
    let why = if left.is_empty() { "there is only the system disk".to_owned() } else { left };
    Failure::new("no-data-disk", format!("no disk is free for data: {why}. Put in an empty disk"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::machine::DataDisk;

    #[test]
    fn the_words_name_what_is_used_and_what_is_left() {
        let disk = DataDisk { device: "/dev/vdb".into(), id: "serial-b".into(), blank: true };
        let left = "disk vdc (20 GB) holds a ntfs file system and is not prepared";
        let plan = DataPlan { disks: vec![disk], left: vec![left.into()], foreign: true };
        assert_eq!(words(&plan), format!("data on vdb; {left}"));
        assert_eq!(words(&DataPlan { disks: vec![], ..plan }), format!("no disk is free for data; {left}"));
        assert_eq!(none(&DataPlan::default()).code, "no-data-disk");
    }

    #[test]
    fn what_is_remembered_is_read_back_and_damage_is_no_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        assert!(remembered(folder.path()).unwrap().is_empty());
        fs::write(folder.path().join(FILE), "[\"serial-b\"]").unwrap();
        assert_eq!(remembered(folder.path()).unwrap(), ["serial-b"]);
        fs::write(folder.path().join(FILE), "[").unwrap();
        assert!(remembered(folder.path()).is_err());
    }
}
