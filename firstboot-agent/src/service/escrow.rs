//! The recovery key of the state goes to the registrar, and stays on the machine until the registrar has it on its disk. It lies
//! in the volume that it opens, so waiting costs nothing but that nobody else could open it meanwhile.

use super::region::Region;
use crate::{console, encryption::KEY_FILE, retry::Backoff};
use anyhow::{Context as _, Result};
use contracts::state::RecoveryKey;
use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

/// Hands the key over, where there is one. What does not work now is tried again for as long as the service runs: the key is of no
/// use here, and nobody but the region can take it. Joining does not wait for it.
pub(super) async fn hand_over(region: &Region, folder: &'static Path) {
    if let Err(error) = once(region, folder).await {
        console::line(&format!("the registrar has not taken the recovery key yet: {error:#}"));
        let region = region.clone();
        tokio::spawn(async move {
            let mut backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(3600));
            loop {
                tokio::time::sleep(backoff.next_wait()).await;
                match once(&region, folder).await {
                    Ok(()) => break,
                    Err(error) => {
                        console::line(&format!("the registrar has not taken the recovery key yet: {error:#}"))
                    }
                }
            }
        });
    }
}

async fn once(region: &Region, folder: &Path) -> Result<()> {
    let path = folder.join(KEY_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    // The reader's own words may quote what it read.
    let key: RecoveryKey = contracts::read(&bytes).map_err(|_| anyhow::anyhow!("{} is damaged", path.display()))?;
    region.keep_recovery_key(&key).await?;
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| format!("syncing {}", folder.display()))?;
    console::line(&format!("the registrar keeps the recovery key of the state (volume {})", key.volume));
    Ok(())
}
