//! Keys that open the encrypted state of machines, and who had them shown.

use super::{Db, DbError, from_millis, millis};
use contracts::state::RecoveryKey;
use serde::Serialize;
use std::fmt;
use time::OffsetDateTime;
use uuid::Uuid;

/// Volumes of one machine; each costs a whole install.
const MOST_PER_MACHINE: i64 = 64;

/// A key, for the person who asked for it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryKeyView {
    /// UUID of the volume that it opens.
    pub volume: Uuid,
    /// The key.
    pub key: String,
    /// When the machine brought it.
    #[serde(with = "time::serde::rfc3339")]
    pub received: OffsetDateTime,
}

impl fmt::Debug for RecoveryKeyView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryKeyView").field("volume", &self.volume).finish_non_exhaustive()
    }
}

/// Somebody had a machine's keys shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Look {
    /// Who.
    pub by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// How a machine's key was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is on the disk, under this machine's name. `new` unless it was there before.
    Kept {
        /// The inventory entry.
        machine: String,
        /// It was not there before.
        new: bool,
    },
    /// No machine is admitted with this key.
    Stranger,
    /// The machine has brought more than any machine needs.
    TooMany,
}

impl Db {
    /// Keeps a key for the machine whose pinned key this is.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn keep_recovery_key(
        &self,
        fingerprint: &str,
        key: &RecoveryKey,
        now: OffsetDateTime,
    ) -> Result<Kept, DbError> {
        let mut transaction = self.write().await?;
        let sql = "SELECT name FROM machines WHERE fingerprint = ? AND revoked_at IS NULL";
        let machine: Option<String> =
            sqlx::query_scalar(sql).bind(fingerprint).fetch_optional(&mut *transaction).await?;
        let Some(machine) = machine else { return Ok(Kept::Stranger) };
        let sql = "INSERT INTO recovery_keys (machine, volume, key, fingerprint, received_at) VALUES (?, ?, ?, ?, ?)
                   ON CONFLICT DO NOTHING";
        let insert = sqlx::query(sql).bind(&machine).bind(key.volume.to_string()).bind(&key.key).bind(fingerprint);
        let new = insert.bind(millis(now)).execute(&mut *transaction).await?.rows_affected() > 0;
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM recovery_keys WHERE machine = ?")
            .bind(&machine)
            .fetch_one(&mut *transaction)
            .await?;
        if count > MOST_PER_MACHINE {
            return Ok(Kept::TooMany);
        }
        transaction.commit().await?;
        Ok(Kept::Kept { machine, new })
    }

    /// A machine's keys, the newest first, and who had them shown before. That they were shown is on record before they are.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn show_recovery_keys(
        &self,
        machine: &str,
        by: &str,
        now: OffsetDateTime,
    ) -> Result<(Vec<RecoveryKeyView>, Vec<Look>), DbError> {
        let sql = "SELECT volume, key, received_at FROM recovery_keys
                   WHERE machine = ? ORDER BY received_at DESC, volume";
        let rows: Vec<(String, String, i64)> = sqlx::query_as(sql).bind(machine).fetch_all(&self.pool).await?;
        let sql = "SELECT looked_by, looked_at FROM recovery_looks WHERE machine = ? ORDER BY looked_at DESC LIMIT 100";
        let looks: Vec<(String, i64)> = sqlx::query_as(sql).bind(machine).fetch_all(&self.pool).await?;
        if !rows.is_empty() {
            let sql = "INSERT INTO recovery_looks (machine, looked_by, looked_at) VALUES (?, ?, ?)";
            sqlx::query(sql).bind(machine).bind(by).bind(millis(now)).execute(&self.pool).await?;
        }
        let view = |(volume, key, received): (String, String, i64)| {
            let volume = volume.parse().map_err(|_| DbError::Damaged("recovery_keys"))?;
            Ok(RecoveryKeyView { volume, key, received: from_millis(received) })
        };
        let keys = rows.into_iter().map(view).collect::<Result<_, DbError>>()?;
        Ok((keys, looks.into_iter().map(|(by, at)| Look { by, at: from_millis(at) }).collect()))
    }
}
