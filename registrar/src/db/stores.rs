//! Stores: their keys, and the cursor of their assignments.

use super::{Db, DbError, millis};
use crate::voucher::StoreKeys;
use contracts::fleet::Addressed;
use contracts::staging::StagingWindow;
use contracts::store::{RetiredMachine, StoreAssignments, StoreMachine};
use contracts::window::AdmissionWindow;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use time::OffsetDateTime;

impl Db {
    /// Registers a store's key; an earlier one is replaced.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn put_store(&self, name: &str, public_key: &[u8], now: OffsetDateTime) -> Result<(), DbError> {
        let sql = "INSERT INTO stores (name, public_key, added_at) VALUES (?1, ?2, ?3)
                   ON CONFLICT (name) DO UPDATE SET public_key = ?2, added_at = ?3";
        sqlx::query(sql).bind(name).bind(public_key).bind(millis(now)).execute(&self.pool).await?;
        Ok(())
    }

    /// A store's registered key: SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn store_key(&self, name: &str) -> Result<Option<Vec<u8>>, DbError> {
        let sql = "SELECT public_key FROM stores WHERE name = ?";
        Ok(sqlx::query_scalar(sql).bind(name).fetch_optional(&self.pool).await?)
    }

    /// The keys of those of these stores that are registered.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn store_keys(&self, names: &[String]) -> Result<StoreKeys, DbError> {
        let mut keys = StoreKeys::new();
        for name in names {
            if let Some(key) = self.store_key(name).await? {
                keys.insert(name.clone(), key);
            }
        }
        Ok(keys)
    }

    /// The epochs of one store's machines.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn epochs(&self, store: &str) -> Result<HashMap<String, u64>, DbError> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT name, epoch FROM machines WHERE store = ?")
            .bind(store)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|(name, epoch)| (name, epoch.unsigned_abs())).collect())
    }

    /// Changes whenever some machine's epoch does, and when a permit is given or withdrawn.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn epoch_sum(&self) -> Result<i64, DbError> {
        Ok(sqlx::query_scalar("SELECT (SELECT COALESCE(SUM(epoch), 0) FROM machines) + (SELECT COUNT(*) + COUNT(withdrawn_at) FROM permits)").fetch_one(&self.pool).await?)
    }

    /// Puts a generation to a store's machines, windows and orders: the last one when they are the same, the next one
    /// otherwise.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn number(
        &self,
        store: &str,
        machines: Vec<StoreMachine>,
        windows: Vec<AdmissionWindow>,
        orders: Vec<Addressed>,
        retired: Vec<RetiredMachine>,
        staging: Option<StagingWindow>,
    ) -> Result<StoreAssignments, DbError> {
        // Without windows and orders the digest is what it always was: no store is told the same anew.
        let text = match (windows.is_empty(), orders.is_empty()) {
            (true, true) => serde_json::to_string(&machines),
            (false, true) => serde_json::to_string(&(&machines, &windows)),
            _ => serde_json::to_string(&(&machines, &windows, &orders)),
        };
        let text = match (retired.is_empty(), &staging) {
            (true, None) => text,
            _ => serde_json::to_string(&(&machines, &windows, &orders, &retired, &staging)),
        };
        let text = text.map_err(|_| DbError::Damaged("generations"))?;
        let digest = hex::encode(Sha256::digest(text));
        let known: Option<(i64, String)> = sqlx::query_as("SELECT generation, digest FROM generations WHERE store = ?")
            .bind(store)
            .fetch_optional(&self.pool)
            .await?;
        let generation = match known {
            Some((generation, known)) if known == digest => generation,
            _ => {
                let sql = "INSERT INTO generations (store, generation, digest) VALUES (?1, 1, ?2)
                           ON CONFLICT (store) DO UPDATE SET generation = generation + (digest <> ?2), digest = ?2
                           RETURNING generation";
                sqlx::query_scalar(sql).bind(store).bind(&digest).fetch_one(&self.pool).await?
            }
        };
        Ok(StoreAssignments {
            version: contracts::VERSION,
            store: store.into(),
            generation: generation.unsigned_abs(),
            machines,
            windows,
            orders,
            retired,
            staging,
        })
    }
}
