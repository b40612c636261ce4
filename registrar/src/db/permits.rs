//! Permits to wipe a disk: every one that was ever given, and by whom.

use super::{Db, DbError, addressed, from_millis, millis};
use contracts::fleet::{Addressed, WipePermit};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

/// A store has a handful of machines; more permits at once are a mistake.
const MOST_PER_STORE: i64 = 64;

/// A permit, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PermitView {
    /// Its name in logs and events.
    pub id: Uuid,
    /// The store.
    pub store: String,
    /// MAC address of the machine.
    pub mac: String,
    /// WWN or serial number of the disk.
    pub disk: String,
    /// The number that the machine showed.
    pub number: String,
    /// Who gave it.
    pub by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub issued: OffsetDateTime,
    /// It does not count from then on.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
    /// When it was withdrawn.
    #[serde(with = "time::serde::rfc3339::option")]
    pub withdrawn: Option<OffsetDateTime>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    store: String,
    mac: String,
    disk: String,
    number: String,
    given_by: String,
    issued_at: i64,
    expires_at: i64,
    withdrawn_at: Option<i64>,
}

impl Db {
    /// Keeps a permit for its store to fetch.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn put_permit(&self, permit: &WipePermit, envelope: &str) -> Result<(), DbError> {
        let sql = "INSERT INTO permits (id, store, mac, disk, number, given_by, issued_at, expires_at, envelope)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(permit.id.to_string())
            .bind(&permit.store)
            .bind(&permit.mac)
            .bind(&permit.disk)
            .bind(&permit.number)
            .bind(&permit.by)
            .bind(millis(permit.issued))
            .bind(millis(permit.expires))
            .bind(envelope)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// All permits, the newest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn permits(&self) -> Result<Vec<PermitView>, DbError> {
        let sql = "SELECT id, store, mac, disk, number, given_by, issued_at, expires_at, withdrawn_at
                   FROM permits ORDER BY issued_at DESC, id";
        let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        let view = |row: Row| {
            Ok(PermitView {
                id: row.id.parse().map_err(|_| DbError::Damaged("permits"))?,
                store: row.store,
                mac: row.mac,
                disk: row.disk,
                number: row.number,
                by: row.given_by,
                issued: from_millis(row.issued_at),
                expires: from_millis(row.expires_at),
                withdrawn: row.withdrawn_at.map(from_millis),
            })
        };
        rows.into_iter().map(view).collect()
    }

    /// Takes a permit back; false when there is none of this id that still counts. A machine that has it already may use it.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn withdraw_permit(&self, id: Uuid, now: OffsetDateTime) -> Result<bool, DbError> {
        let sql = "UPDATE permits SET withdrawn_at = ?2 WHERE id = ?1 AND withdrawn_at IS NULL AND expires_at > ?2";
        let rows = sqlx::query(sql).bind(id.to_string()).bind(millis(now)).execute(&self.pool).await?.rows_affected();
        Ok(rows > 0)
    }

    /// What a store gets: the permits that still count.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn orders(&self, store: &str, now: OffsetDateTime) -> Result<Vec<Addressed>, DbError> {
        let sql = "SELECT mac, envelope FROM permits
                   WHERE store = ? AND expires_at > ? AND withdrawn_at IS NULL ORDER BY issued_at DESC, id LIMIT ?";
        let rows: Vec<(String, String)> =
            sqlx::query_as(sql).bind(store).bind(millis(now)).bind(MOST_PER_STORE).fetch_all(&self.pool).await?;
        addressed(rows, "permits")
    }
}
