//! The firmware of test machines: edk2 (OVMF) with variables that survive power-off, or SeaBIOS.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

/// How the firmware boots from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkBoot {
    /// edk2's own order: PXE comes before HTTP Boot.
    Pxe,
    /// PXE is switched off, so HTTP Boot is what remains.
    Http,
    /// SeaBIOS: the disk when it can be started, else iPXE in the network card's ROM.
    Bios,
}

impl NetworkBoot {
    /// QEMU's network card brings iPXE in its ROM. SeaBIOS has no network of its own and boots by it; with it, edk2's
    /// own PXE would not run.
    #[must_use]
    pub fn card_rom(self) -> &'static str {
        if self == Self::Bios { "" } else { ",romfile=" }
    }
}

/// Copies fresh variables for a machine.
///
/// # Errors
/// When the file cannot be copied.
pub fn fresh_variables(lab: &Path, to: &Path) -> Result<PathBuf> {
    let from = lab.join(VARIABLES);
    std::fs::copy(&from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(to.to_owned())
}

/// QEMU's arguments for this firmware.
#[must_use]
pub fn arguments(variables: &Path, boot: NetworkBoot) -> Vec<String> {
    if boot == NetworkBoot::Bios {
        // What SeaBIOS, the ROM and GRUB show on the screen goes to the serial line too when there is no screen.
        return ["-machine", "graphics=off", "-boot", "order=cn"].map(str::to_owned).to_vec();
    }
    let mut arguments = vec![
        "-drive".into(),
        format!("if=pflash,format=raw,unit=0,readonly=on,file={CODE}"),
        "-drive".into(),
        format!("if=pflash,format=raw,unit=1,file={}", variables.display()),
    ];
    if boot == NetworkBoot::Http {
        // Switches of OVMF (OvmfPkg, read through fw_cfg), there for exactly this.
        for family in ["IPv4", "IPv6"] {
            arguments.push("-fw_cfg".into());
            arguments.push(format!("name=opt/org.tianocore/{family}PXESupport,string=n"));
        }
    }
    arguments
}
