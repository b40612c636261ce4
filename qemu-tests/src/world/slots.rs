//! Disks as an update or a cut-off reinstall leaves them behind, made from outside.

use super::root::Root;
use crate::process;
use anyhow::{Context as _, Result};
use contracts::manifest;
use std::path::Path;

/// Moves a finished install from slot A to slot B, and leaves in slot A what claims to be another complete version and is
/// not one: whoever starts it by mistake does not get far.
///
/// # Errors
/// When a tool fails.
pub fn move_to_b(root: &Root, image: &Path, root_hash: &str) -> Result<()> {
    let (data, tree) = manifest::guids_of(root_hash).context("a root hash without GUIDs")?;
    let mut command = root.command("sh");
    command.args(["-ec", SCRIPT, "sh"]).arg(image);
    command.args([data, tree, uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|guid| guid.to_string()));
    process::output(&mut command).context("moving the install to slot B")?;
    Ok(())
}

/// Marks slot A as one whose install is in progress, as a power cut in the middle of it leaves the table.
///
/// # Errors
/// When sfdisk fails.
pub fn unfinish_a(root: &Root, image: &Path) -> Result<()> {
    let mut command = root.command("sfdisk");
    command.args(["--quiet", "--part-label"]).arg(image).args(["2", "shelfboot-root-a!"]);
    process::output(&mut command).context("marking slot A")?;
    Ok(())
}

/// Partitions 2 to 5: root A, verity A, root B, verity B. What lies in holes of the image file stays a hole.
const SCRIPT: &str = r#"
sector() { sfdisk --dump "$image" | sed -n "s/.*start= *\([0-9]*\), *size= *\([0-9]*\),.*/\1 \2/p" | sed -n "$1p"; }
copy() {
    from=$(sector "$1"); to=$(sector "$2"); size=${from#* }
    dd if="$image" of="$image" bs=1M iflag=skip_bytes,count_bytes oflag=seek_bytes conv=notrunc,sparse status=none \
        skip=$((${from% *} * 512)) seek=$((${to% *} * 512)) count=$((size * 512))
    dd if=/dev/urandom of="$image" bs=1M oflag=seek_bytes conv=notrunc status=none seek=$((${from% *} * 512)) count=1
}
image=$1
copy 2 4
copy 3 5
for line in "2 $4" "3 $5" "4 $2" "5 $3"; do
    sfdisk --quiet --part-uuid "$image" ${line% *} ${line#* }
done
sfdisk --quiet --part-label "$image" 4 shelfboot-root-b
"#;
