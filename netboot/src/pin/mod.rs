//! The store's PIN: what the staff types to change something on the page.
//!
//! It authorises nothing destructive (see `http::routes`): at most, a window in which spares are taken in. [`secret`] is the file,
//! [`guard`] the pauses between tries, [`form`] what tells our own form from another site's.

pub mod form;
pub mod guard;
pub mod secret;

use self::{
    guard::Guard,
    secret::{SecretError, SecretFile},
};
use crate::shared::lock;
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::sync::Semaphore;

/// The file in the state folder.
pub const FILE: &str = "pin.json";

/// Why a PIN was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Nobody has set one.
    #[error("this store has no PIN; set one with `netboot pin set`")]
    NotSet,
    /// It is not this one.
    #[error("the PIN is wrong")]
    Wrong,
    /// Too many wrong ones.
    #[error("too many wrong PINs; wait {0} seconds")]
    Wait(u64),
    /// The file cannot be used.
    #[error("the store's PIN cannot be read")]
    Secret(#[source] SecretError),
}

/// Checks PINs. One check at a time: each is made slow on purpose.
#[derive(Debug)]
pub struct Pin {
    path: PathBuf,
    guard: Mutex<Guard>,
    one: Arc<Semaphore>,
}

impl Pin {
    /// For the PIN in a state folder. The file is read at each check: setting it needs no restart.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { path: state.join(FILE), guard: Mutex::default(), one: Arc::new(Semaphore::new(1)) }
    }

    /// True when there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.path.exists()
    }

    /// Compares, as long as this client and all of them together have not been wrong too often. Every outcome is logged.
    ///
    /// # Errors
    /// [`PinError`]; nothing may be changed then.
    pub async fn check(&self, client: IpAddr, pin: &str) -> Result<(), PinError> {
        let checked = self.compare(client, pin.to_owned()).await;
        match &checked {
            Ok(()) => tracing::info!(%client, code = "pin-typed", "{client}: the store's PIN was typed"),
            Err(error) => {
                tracing::warn!(%client, code = "pin-refused", "{client}: the store's PIN was not accepted: {error}")
            }
        }
        checked
    }

    async fn compare(&self, client: IpAddr, pin: String) -> Result<(), PinError> {
        // Never closed. Those who wait hold a connection each, and those are counted.
        let _one = self.one.acquire().await.map_err(|_| PinError::Wait(1))?;
        if !self.is_set() {
            return Err(PinError::NotSet);
        }
        // The try counts as wrong until it is known to be right: nobody gains by asking many at the same time.
        lock(&self.guard).begin(Instant::now(), client).map_err(|wait| PinError::Wait(wait.as_secs().max(1)))?;
        let path = self.path.clone();
        let compared = tokio::task::spawn_blocking(move || SecretFile::read(&path).map(|secret| secret.is(&pin))).await;
        match compared {
            Ok(Ok(true)) => {
                lock(&self.guard).was_right(client);
                Ok(())
            }
            Ok(Ok(false)) => Err(PinError::Wrong),
            Ok(Err(error)) => Err(PinError::Secret(error)),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_pin_passes_and_wrong_ones_make_everybody_wait() {
        let folder = tempfile::tempdir().unwrap();
        let pin = Pin::new(folder.path());
        let client = |n: u8| IpAddr::from([10, 0, 0, n]);
        assert!(matches!(pin.check(client(1), "428571").await, Err(PinError::NotSet)));
        SecretFile::make_with("428571", 1000).unwrap().write(&folder.path().join(FILE)).unwrap();
        pin.check(client(1), "428571").await.unwrap();
        for _ in 0..guard::FREE_PER_CLIENT {
            assert!(matches!(pin.check(client(1), "428572").await, Err(PinError::Wrong)));
        }
        assert!(matches!(pin.check(client(1), "428572").await, Err(PinError::Wrong)), "then the pauses begin");
        let refused = pin.check(client(1), "428571").await;
        assert!(matches!(refused, Err(PinError::Wait(1..))), "not even the right one: {refused:?}");
        pin.check(client(2), "428571").await.unwrap();
        std::fs::write(folder.path().join(FILE), b"{}").unwrap();
        assert!(matches!(pin.check(client(3), "428571").await, Err(PinError::Secret(_))));
    }
}
