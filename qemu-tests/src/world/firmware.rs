//! The firmware of test machines: edk2 (OVMF) with variables that survive power-off, or SeaBIOS.

use super::{addresses as at, root::Root, secure_boot};
use crate::journey::Plan;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const SECURE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";
/// iPXE in the shape of a Linux kernel (Debian's `ipxe`).
const IPXE_KERNEL: &str = "/usr/lib/ipxe/ipxe.lkrn";

/// How the firmware boots from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkBoot {
    /// edk2's own order: PXE comes before HTTP Boot.
    Pxe,
    /// PXE is switched off, so HTTP Boot is what remains.
    Http,
    /// As [`NetworkBoot::Pxe`], with Secure Boot enforced: only what the image's own key signed is started.
    SecurePxe,
    /// SeaBIOS: the disk when it can be started, else iPXE in the network card's ROM.
    Bios,
    /// SeaBIOS, and in place of a ROM that is not iPXE (none can be had for QEMU) one that does what such a ROM does once
    /// it has its answer: it starts the disk when it can, else fetches `undionly.kpxe` from netboot and runs it on top
    /// of its own PXE services.
    BiosUndionly,
}

impl NetworkBoot {
    /// QEMU's network card brings iPXE in its ROM. SeaBIOS has no network of its own and boots by it; with it, edk2's
    /// own PXE would not run.
    #[must_use]
    pub fn card_rom(self) -> &'static str {
        if self == Self::Bios { "" } else { ",romfile=" }
    }
}

/// What the ROM of a card that is not iPXE knows once it has its answer.
#[derive(Debug, Clone, Copy)]
pub struct Rom<'a> {
    /// The machine's address, and the router on its way to netboot.
    pub address: &'a str,
    /// See above.
    pub gateway: &'a str,
    /// netboot.
    pub netboot: &'a str,
}

impl Default for Rom<'_> {
    fn default() -> Self {
        Self { address: at::ROM_GUEST, gateway: at::ROUTER, netboot: at::NETBOOT }
    }
}

/// Makes the file that this firmware needs for a machine: fresh variables, or the boot script.
///
/// # Errors
/// When it cannot be made.
pub fn prepare(root: &Root, plan: &Plan, boot: NetworkBoot, name: &str) -> Result<PathBuf> {
    let path = plan.run.join(format!("{name}-firmware"));
    if boot == NetworkBoot::SecurePxe {
        secure_boot::enrol(root, &plan.lab.join(VARIABLES), &plan.image.keys, &path)?;
    } else {
        plain(&plan.lab, boot, Rom::default(), &path)?;
    }
    Ok(path)
}

/// The same for firmware that trusts no keys of ours, to `path`.
///
/// # Errors
/// When it cannot be made.
pub fn plain(lab: &Path, boot: NetworkBoot, rom: Rom<'_>, path: &Path) -> Result<()> {
    if boot == NetworkBoot::BiosUndionly {
        return std::fs::write(path, chain_script(rom)).with_context(|| format!("writing {}", path.display()));
    }
    let from = lab.join(VARIABLES);
    std::fs::copy(&from, path).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

/// Drive 0x80 is the BIOS' first disk; a disk without boot code hands back.
fn chain_script(rom: Rom<'_>) -> String {
    let Rom { address, gateway, netboot } = rom;
    format!(
        "#!ipxe\n\
         sanboot --no-describe --drive 0x80 || echo nothing to start on the disk\n\
         set net0/ip {address}\n\
         set net0/netmask 255.255.255.0\n\
         set net0/gateway {gateway}\n\
         ifopen net0\n\
         chain tftp://{netboot}/undionly.kpxe\n"
    )
}

/// QEMU's arguments for this firmware; `file` is from [`prepare`].
#[must_use]
pub fn arguments(file: &Path, boot: NetworkBoot) -> Vec<String> {
    // What SeaBIOS, the ROM and GRUB show on the screen goes to the serial line too when there is no screen.
    let bios = ["-machine", "graphics=off", "-boot", "order=cn"].map(str::to_owned).to_vec();
    match boot {
        NetworkBoot::Bios => bios,
        NetworkBoot::BiosUndionly => {
            let more = ["-kernel", IPXE_KERNEL, "-initrd"].map(str::to_owned);
            bios.into_iter().chain(more).chain([file.display().to_string()]).collect()
        }
        NetworkBoot::Pxe => uefi(CODE, file),
        NetworkBoot::SecurePxe => {
            // System management mode keeps the guest from writing to the variables behind the firmware's back
            // (OvmfPkg/README, "SMM support").
            let more = ["-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on", "-global"];
            let more = more.iter().chain(&["ICH9-LPC.disable_s3=1"]).map(|a| (*a).to_owned());
            uefi(SECURE_CODE, file).into_iter().chain(more).collect()
        }
        NetworkBoot::Http => {
            let mut arguments = uefi(CODE, file);
            // Switches of OVMF (OvmfPkg, read through fw_cfg), there for exactly this.
            for family in ["IPv4", "IPv6"] {
                arguments.push("-fw_cfg".into());
                arguments.push(format!("name=opt/org.tianocore/{family}PXESupport,string=n"));
            }
            arguments
        }
    }
}

fn uefi(code: &str, variables: &Path) -> Vec<String> {
    vec![
        "-drive".into(),
        format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"),
        "-drive".into(),
        format!("if=pflash,format=raw,unit=1,file={}", variables.display()),
    ]
}
