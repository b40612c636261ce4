//! Inventory entries as the database knows them: pins, epochs, and what was last heard.

use super::{Db, DbError, from_millis, millis, retirements};
use crate::inventory::Inventory;
use serde::Serialize;
use sqlx::SqliteConnection;
use time::OffsetDateTime;

/// One machine, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineView {
    /// The inventory entry's name.
    pub name: String,
    /// Its store.
    pub store: String,
    /// Its template.
    pub template: String,
    /// True while the inventory names it.
    pub listed: bool,
    /// See [`contracts::store::StoreMachine::epoch`].
    pub epoch: u64,
    /// The pinned key's fingerprint.
    pub fingerprint: Option<String>,
    /// When it was pinned.
    #[serde(with = "time::serde::rfc3339::option")]
    pub pinned_at: Option<OffsetDateTime>,
    /// Since when it has been revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
    /// The MAC address that its store saw at the last admission.
    pub mac: Option<String>,
    /// The boot of the last enrollment.
    pub boot_id: Option<String>,
    /// Since when the cluster has reported that boot ready.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ready_since: Option<OffsetDateTime>,
    /// The last step that an event told of.
    pub last_step: Option<String>,
    /// How that step stood.
    pub last_status: Option<String>,
    /// What was said about it.
    pub last_message: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    store: String,
    template: String,
    listed: bool,
    epoch: i64,
    fingerprint: Option<String>,
    pinned_at: Option<i64>,
    revoked_at: Option<i64>,
    mac: Option<String>,
    boot_id: Option<String>,
    ready_at: Option<i64>,
    step: Option<String>,
    status: Option<String>,
    message: Option<String>,
}

// The latest enrollment and the latest event of each machine. A bare column beside MAX() comes from the row that has
// the maximum (SQLite, "Bare columns in an aggregate query").
const VIEW: &str = "
    SELECT m.name, m.store, m.template, m.listed, m.epoch, m.fingerprint, m.pinned_at, m.revoked_at, m.mac,
           e.boot_id, e.ready_at, v.step, v.status, v.message
    FROM machines m
    LEFT JOIN (SELECT machine, boot_id, ready_at, MAX(created_at) FROM enrollments GROUP BY machine) e
           ON e.machine = m.name
    LEFT JOIN (SELECT store, subject, step, status, message, MAX(time) FROM events
               WHERE step IS NOT NULL GROUP BY store, subject) v
           ON v.store = m.store AND v.subject = m.mac
    WHERE (m.listed OR m.fingerprint IS NOT NULL) AND (?1 IS NULL OR m.name = ?1)
    ORDER BY m.store, m.name";

impl Db {
    /// Notes which entries the inventory names now. Pins and epochs of entries that are gone are kept.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn note_inventory(&self, inventory: &Inventory) -> Result<(), DbError> {
        let mut transaction = self.write().await?;
        sqlx::query("UPDATE machines SET listed = 0").execute(&mut *transaction).await?;
        for (store, machine) in inventory.entries() {
            let sql = "INSERT INTO machines (name, store, template, listed) VALUES (?1, ?2, ?3, 1)
                       ON CONFLICT (name) DO UPDATE SET store = ?2, template = ?3, listed = 1";
            sqlx::query(sql)
                .bind(&machine.name)
                .bind(store)
                .bind(&machine.image.template)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// All machines, or the one with this name.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn machines(&self, name: Option<&str>) -> Result<Vec<MachineView>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(VIEW).bind(name).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(MachineView::from).collect())
    }

    /// Forgets a machine's pinned key and its enrollments and raises its epoch, so that another machine may take its
    /// place. `None` when there is no such machine; otherwise whether a key was pinned.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn reopen(&self, name: &str, now: OffsetDateTime) -> Result<Option<bool>, DbError> {
        let mut transaction = self.write().await?;
        let pinned: Option<Option<String>> = sqlx::query_scalar("SELECT fingerprint FROM machines WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(pinned) = pinned else { return Ok(None) };
        forget(&mut transaction, name).await?;
        retirements::withdraw(&mut transaction, name, now).await?;
        let sql = "UPDATE machines SET fingerprint = NULL, pinned_at = NULL, revoked_at = NULL, mac = NULL,
                                  epoch = epoch + 1 WHERE name = ?";
        sqlx::query(sql).bind(name).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Some(pinned.is_some()))
    }

    /// Keeps a machine out until its entry is opened again, and forgets what it was given. Gives its template; `None` when
    /// there is no such machine.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn revoke(&self, name: &str, now: OffsetDateTime) -> Result<Option<String>, DbError> {
        let mut transaction = self.write().await?;
        let sql = "UPDATE machines SET revoked_at = COALESCE(revoked_at, ?) WHERE name = ? RETURNING template";
        let template: Option<String> =
            sqlx::query_scalar(sql).bind(millis(now)).bind(name).fetch_optional(&mut *transaction).await?;
        if template.is_some() {
            forget(&mut transaction, name).await?;
        }
        transaction.commit().await?;
        Ok(template)
    }
}

/// What was given to a machine, and what waits to be.
async fn forget(connection: &mut SqliteConnection, name: &str) -> Result<(), DbError> {
    for sql in ["DELETE FROM enrollments WHERE machine = ?", "DELETE FROM claims WHERE machine = ?"] {
        sqlx::query(sql).bind(name).execute(&mut *connection).await?;
    }
    Ok(())
}

impl From<Row> for MachineView {
    fn from(row: Row) -> Self {
        Self {
            name: row.name,
            store: row.store,
            template: row.template,
            listed: row.listed,
            epoch: row.epoch.unsigned_abs(),
            fingerprint: row.fingerprint,
            pinned_at: row.pinned_at.map(from_millis),
            revoked_at: row.revoked_at.map(from_millis),
            mac: row.mac,
            boot_id: row.boot_id,
            ready_since: row.ready_at.map(from_millis),
            last_step: row.step,
            last_status: row.status,
            last_message: row.message,
        }
    }
}
