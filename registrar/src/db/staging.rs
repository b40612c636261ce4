//! Staging: until when a store's unknown machines are looked at, and what was found.

use super::{Db, DbError, from_millis, millis};
use contracts::assignment::ImageRef;
use contracts::staging::{StageRecord, StagingWindow};
use serde::Serialize;
use sqlx::SqliteConnection;
use time::OffsetDateTime;

/// Records of one store; the oldest go. Spares are staged by the dozen.
const MOST_PER_STORE: i64 = 512;

/// What was found of one machine, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Staged {
    /// The store in which it was looked at.
    pub store: String,
    /// When that arrived here.
    #[serde(with = "time::serde::rfc3339")]
    pub received: OffsetDateTime,
    /// What was found.
    pub record: StageRecord,
}

impl Db {
    /// Opens a store's window, or changes it.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn open_staging(&self, store: &str, window: &StagingWindow, by: &str) -> Result<(), DbError> {
        let sql =
            "INSERT INTO staging_windows (store, template, channel, until_at, given_by) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (store) DO UPDATE SET template = ?2, channel = ?3, until_at = ?4, given_by = ?5";
        sqlx::query(sql)
            .bind(store)
            .bind(&window.image.template)
            .bind(&window.image.channel)
            .bind(millis(window.until))
            .bind(by)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Closes a store's window; false when none was open.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn close_staging(&self, store: &str, now: OffsetDateTime) -> Result<bool, DbError> {
        let sql = "DELETE FROM staging_windows WHERE store = ? RETURNING until_at";
        let until: Option<i64> = sqlx::query_scalar(sql).bind(store).fetch_optional(&self.pool).await?;
        Ok(until.is_some_and(|until| until > millis(now)))
    }

    /// A store's window, while it is open.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn staging(&self, store: &str, now: OffsetDateTime) -> Result<Option<StagingWindow>, DbError> {
        let sql = "SELECT template, channel, until_at FROM staging_windows WHERE store = ? AND until_at > ?";
        let row: Option<(String, String, i64)> =
            sqlx::query_as(sql).bind(store).bind(millis(now)).fetch_optional(&self.pool).await?;
        Ok(row.map(|(template, channel, until)| StagingWindow {
            until: from_millis(until),
            image: ImageRef { template, channel, version: None },
        }))
    }

    /// What was found, the newest first; of one machine, or all.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn staged(&self, mac: Option<&str>) -> Result<Vec<Staged>, DbError> {
        let sql = "SELECT store, at, record FROM staged WHERE ?1 IS NULL OR mac = ?1 ORDER BY at DESC, mac";
        let rows: Vec<(String, i64, String)> = sqlx::query_as(sql).bind(mac).fetch_all(&self.pool).await?;
        let read = |(store, at, record): (String, i64, String)| {
            let record = serde_json::from_str(&record).map_err(|_| DbError::Damaged("staged"))?;
            Ok(Staged { store, received: from_millis(at), record })
        };
        rows.into_iter().map(read).collect()
    }
}

/// Keeps what a machine was found to be; what was found before goes.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    store: &str,
    mac: &str,
    record: &StageRecord,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    let text = serde_json::to_string(record).map_err(|_| DbError::Damaged("staged"))?;
    let sql = "INSERT INTO staged (mac, store, at, passes, record) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (store, mac) DO UPDATE SET at = ?3, passes = ?4, record = ?5";
    sqlx::query(sql)
        .bind(mac)
        .bind(store)
        .bind(millis(now))
        .bind(record.passes)
        .bind(text)
        .execute(&mut *connection)
        .await?;
    let sql = "DELETE FROM staged WHERE store = ?1 AND mac NOT IN
               (SELECT mac FROM staged WHERE store = ?1 ORDER BY at DESC, mac LIMIT ?2)";
    sqlx::query(sql).bind(store).bind(MOST_PER_STORE).execute(&mut *connection).await?;
    Ok(())
}
