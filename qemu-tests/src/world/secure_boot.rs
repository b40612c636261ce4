//! Enforced Secure Boot with keys of one's own: who may start what, and boot images that may not.

use super::root::Root;
use crate::process;
use anyhow::{Context as _, Result, ensure};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256};
use std::{fs, path::Path};

/// Makes variables in which Secure Boot is on, with a platform key and a key exchange key made for the occasion, and
/// the image's Secure Boot certificate as the only one in `db`.
///
/// # Errors
/// When a key cannot be made, or `virt-fw-vars` fails.
pub fn enrol(root: &Root, template: &Path, keys: &Path, to: &Path) -> Result<()> {
    // Any GUID: it only says who owns an entry.
    let owner = uuid::Uuid::new_v4().to_string();
    let [pk, kek] = ["PK", "KEK"].map(|name| to.with_extension(format!("{name}.pem")));
    for (path, name) in [(&pk, "platform key"), (&kek, "key exchange key")] {
        fs::write(path, certificate(name)?).with_context(|| format!("writing {}", path.display()))?;
    }
    // The template lies in the lab tree, which has another path inside the root.
    let blank = to.with_extension("blank.fd");
    fs::copy(template, &blank).with_context(|| format!("copying {}", template.display()))?;
    let db = to.with_extension("db.pem");
    fs::copy(keys.join("secure-boot/db.crt"), &db).context("copying the Secure Boot certificate")?;
    let mut command = root.command("virt-fw-vars");
    command.arg("--input").arg(&blank).arg("--output").arg(to).args(["--no-microsoft", "--secure-boot"]);
    for (flag, path) in [("--set-pk", &pk), ("--add-kek", &kek), ("--add-db", &db)] {
        command.args([flag, &owner]).arg(path);
    }
    process::output(&mut command).context("enrolling Secure Boot keys")?;
    Ok(())
}

fn certificate(name: &str) -> Result<String> {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).context("making a key")?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, format!("Shelfboot test {name}"));
    Ok(parameters.self_signed(&key).context("making a certificate")?.pem())
}

/// The same boot image with one bit of its command line changed; the signature stays as it was.
///
/// # Errors
/// When it has no command line.
pub fn tampered(image: &[u8]) -> Result<Vec<u8>> {
    let line = contracts::uki::section(image, ".cmdline").context("reading the boot image")?;
    let at = line.as_ptr().addr() - image.as_ptr().addr();
    let mut bytes = image.to_vec();
    bytes[at] ^= 1;
    Ok(bytes)
}

/// The same boot image without its signature: the entry of the attribute certificate table is taken out of the header
/// (PE format, "Optional Header Data Directories").
///
/// # Errors
/// When it is not signed.
pub fn unsigned(image: &[u8]) -> Result<Vec<u8>> {
    // Past "PE\0\0", the COFF header and the optional header's fields, each directory is eight bytes; the fifth counts.
    let header = u32_at(image, 0x3c).context("no PE header")? as usize;
    let entry = header + 4 + 20 + 112 + 4 * 8;
    let place = u32_at(image, entry).context("no data directories")? as usize;
    let length = u32_at(image, entry + 4).context("no data directories")? as usize;
    ensure!(place > 0 && place + length <= image.len(), "the boot image is not signed");
    let mut bytes = image[..place].to_vec();
    bytes[entry..entry + 8].fill(0);
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
