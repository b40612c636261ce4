//! Follows the inventory file: a good change counts within seconds, a bad one is logged and changes nothing.

use crate::chain;
use crate::db::{Db, DbError};
use crate::inventory::{self, Inventory};
use crate::yaml::YamlError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);

/// What assignments are made from. A new value wakes every long poll.
#[derive(Debug, Clone)]
pub struct Current {
    /// The inventory.
    pub inventory: Arc<Inventory>,
    /// The sum of all epochs: changes when a machine is re-opened, by this or another process.
    pub epochs: i64,
}

/// Why the first inventory could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file.
    #[error("the inventory is not usable")]
    File(#[source] YamlError),
    /// The database.
    #[error("the inventory cannot be noted in the database")]
    Database(#[source] DbError),
}

/// Loads the inventory and follows it until `stop`.
///
/// # Errors
/// [`LoadError`] for the first load only.
pub async fn follow(path: PathBuf, db: Db, stop: CancellationToken) -> Result<watch::Receiver<Current>, LoadError> {
    let mut seen = stamp(&path);
    let inventory = load(&path, &db).await?;
    let epochs = db.epoch_sum().await.map_err(LoadError::Database)?;
    let (sender, receiver) = watch::channel(Current { inventory, epochs });
    tokio::spawn(async move {
        while tokio::time::timeout(EVERY, stop.cancelled()).await.is_err() {
            let now = stamp(&path);
            if now != seen {
                seen = now;
                match load(&path, &db).await {
                    Ok(inventory) => {
                        tracing::info!(machines = inventory.entries().count(), "the inventory changed");
                        sender.send_modify(|current| current.inventory = inventory);
                    }
                    Err(error) => {
                        tracing::error!(error = chain(&error), "the inventory before this change stays in force");
                        // A bad file waits for its next change; a busy database is tried again.
                        if matches!(error, LoadError::Database(_)) {
                            seen = None;
                        }
                    }
                }
            }
            match db.epoch_sum().await {
                Ok(epochs) => {
                    sender.send_if_modified(|current| std::mem::replace(&mut current.epochs, epochs) != epochs);
                }
                Err(error) => tracing::error!(error = chain(&error), "cannot look for re-opened machines"),
            }
        }
    });
    Ok(receiver)
}

async fn load(path: &std::path::Path, db: &Db) -> Result<Arc<Inventory>, LoadError> {
    let inventory = inventory::read(path).map_err(LoadError::File)?;
    db.note_inventory(&inventory).await.map_err(LoadError::Database)?;
    Ok(Arc::new(inventory))
}

/// Time, length and inode: a file put in place by `mv` may carry an old time.
fn stamp(path: &std::path::Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
