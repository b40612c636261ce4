//! The database: SQLite in WAL mode, so that `registrar machine` reads while the server writes.

mod claims;
mod enrollments;
mod events;
mod machines;
mod permits;
mod recovery;
mod retirements;
mod staging;
mod stores;
mod upkeep;

pub use claims::{Approval, Claim, ClaimView};
pub use enrollments::{EnrollmentRow, NewEnrollment, Recorded};
pub use events::{EventRow, MAX_EVENT_BYTES, from_json};
pub use machines::MachineView;
pub use permits::PermitView;
pub use recovery::{Kept, Look, RecoveryKeyView};
pub use retirements::RetirementView;
pub use staging::Staged;
pub use upkeep::{MOST_EVENTS_PER_STORE, Removed};

use contracts::fleet::Addressed;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;

/// Why the database could not answer.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It cannot be opened.
    #[error("cannot open the database")]
    Open(#[source] sqlx::Error),
    /// It was made by a newer program, or is damaged.
    #[error("cannot bring the database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("a statement failed")]
    Statement(#[from] sqlx::Error),
    /// A row does not hold what this program writes.
    #[error("a row in {0} is damaged")]
    Damaged(&'static str),
}

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    pool: SqlitePool,
}

impl Db {
    /// Opens an existing database file and applies the migrations that it lacks.
    ///
    /// # Errors
    /// [`DbError::Open`], [`DbError::Migrate`].
    pub async fn open(path: &Path) -> Result<Self, DbError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            // A pin or an outcome that was confirmed must survive a power cut of the region's machine as well.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await.map_err(DbError::Open)?;
        sqlx::migrate!("./migrations").run(&pool).await.map_err(DbError::Migrate)?;
        Ok(Self { pool })
    }

    /// Closes all connections; SQLite folds its WAL back into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Takes the write lock at once: a transaction that reads first and writes later could fail half way
    /// (SQLITE_BUSY_SNAPSHOT).
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, DbError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// One setting.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn setting(&self, key: &str) -> Result<Option<String>, DbError> {
        Ok(sqlx::query_scalar("SELECT value FROM settings WHERE key = ?").bind(key).fetch_optional(&self.pool).await?)
    }

    /// Sets one setting.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn set_setting(&self, key: &str, value: &str) -> Result<(), DbError> {
        sqlx::query("INSERT INTO settings (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")
            .bind(key)
            .bind(value)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Unix milliseconds.
fn millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// The reverse of [`millis`].
fn from_millis(millis: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Signed orders as they lie in `table`: MAC address and envelope.
fn addressed(rows: Vec<(String, String)>, table: &'static str) -> Result<Vec<Addressed>, DbError> {
    let read = |(mac, envelope): (String, String)| {
        let envelope = serde_json::from_str(&envelope).map_err(|_| DbError::Damaged(table))?;
        Ok(Addressed { mac, envelope })
    };
    rows.into_iter().map(read).collect()
}
