//! What is on a machine's disk, looked at from outside while the machine does not matter any more.

use super::root::Root;
use crate::process;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::path::Path;

/// What decides whether a disk can start.
#[derive(Debug)]
pub struct DiskLook {
    /// The ESP's directory has an entry for a boot loader or a boot image.
    pub esp_has_boot_files: bool,
    /// The name of root A ends in the mark.
    pub root_a_in_progress: bool,
}

impl DiskLook {
    /// Looks at a raw image.
    ///
    /// # Errors
    /// When it has no table with our partitions.
    pub fn at(root: &Root, image: &Path) -> Result<Self> {
        let table = process::output(root.command("sfdisk").arg("--json").arg(image)).context("reading the table")?;
        let table: Value = serde_json::from_str(&table).context("reading the table")?;
        let sector = table["partitiontable"]["sectorsize"].as_u64().unwrap_or(512);
        let partition = |index: usize| &table["partitiontable"]["partitions"][index];
        let number = |index: usize, field: &str| partition(index)[field].as_u64().context("the table has no partition");
        // FAT keeps the short name and the extension in eleven bytes, padded with blanks. Long names are in UTF-16.
        let script = "dd if=\"$1\" iflag=skip_bytes,count_bytes skip=\"$2\" count=\"$3\" bs=4M status=none \
            | tr --delete '\\0' | grep --text --count --extended-regexp 'BOOTX64 EFI|SYSTEM~1EFI|SHELFB~1EFI' || true";
        let mut command = root.command("sh");
        command.args(["-ec", script, "sh"]).arg(image);
        command.args([number(0, "start")? * sector, number(0, "size")? * sector].map(|n| n.to_string()));
        let found = process::output(&mut command).context("looking at the ESP")?;
        let name = partition(1)["name"].as_str().context("the root partition has no name")?;
        Ok(Self { esp_has_boot_files: found.trim() != "0", root_a_in_progress: name.ends_with('!') })
    }
}
