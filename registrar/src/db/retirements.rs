//! Machines that go to the shelf: every order that was ever given, and what became of it.

use super::{Db, DbError, addressed, from_millis, millis};
use contracts::fleet::{Addressed, RetireOrder};
use contracts::store::RetiredMachine;
use serde::Serialize;
use sqlx::SqliteConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// The agent's code when nothing of the machine is on its disks any more.
pub(super) const DONE: &str = "retired";
/// A store has a handful of machines.
const MOST_PER_STORE: i64 = 64;

/// One, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetirementView {
    /// Its name in logs and events.
    pub id: Uuid,
    /// The inventory entry.
    pub machine: String,
    /// The store.
    pub store: String,
    /// MAC address of the machine.
    pub mac: String,
    /// Who gave it.
    pub by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub issued: OffsetDateTime,
    /// The order does not count from then on.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
    /// When the entry was opened again.
    #[serde(with = "time::serde::rfc3339::option")]
    pub withdrawn: Option<OffsetDateTime>,
    /// When the machine said that it is ready for the shelf.
    #[serde(with = "time::serde::rfc3339::option")]
    pub done: Option<OffsetDateTime>,
    /// What it said then.
    pub said: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    machine: String,
    store: String,
    mac: String,
    given_by: String,
    issued_at: i64,
    expires_at: i64,
    withdrawn_at: Option<i64>,
    done_at: Option<i64>,
    said: Option<String>,
}

impl Db {
    /// Keeps an order for its store to fetch. One that is still under way for the same machine makes room.
    ///
    /// # Errors
    /// [`DbError::Statement`].
    pub async fn put_retirement(&self, order: &RetireOrder, envelope: &str) -> Result<(), DbError> {
        let mut transaction = self.write().await?;
        let sql = "UPDATE retirements SET withdrawn_at = ? WHERE machine = ? AND withdrawn_at IS NULL";
        sqlx::query(sql).bind(millis(order.issued)).bind(&order.name).execute(&mut *transaction).await?;
        let sql = "INSERT INTO retirements (id, machine, store, mac, key, given_by, issued_at, expires_at, envelope)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(order.id.to_string())
            .bind(&order.name)
            .bind(&order.store)
            .bind(&order.mac)
            .bind(&order.key)
            .bind(&order.by)
            .bind(millis(order.issued))
            .bind(millis(order.expires))
            .bind(envelope)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// All of them, the newest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn retirements(&self) -> Result<Vec<RetirementView>, DbError> {
        let sql = "SELECT id, machine, store, mac, given_by, issued_at, expires_at, withdrawn_at, done_at, said
                   FROM retirements ORDER BY issued_at DESC, rowid DESC";
        let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(&self.pool).await?;
        let view = |row: Row| {
            Ok(RetirementView {
                id: row.id.parse().map_err(|_| DbError::Damaged("retirements"))?,
                machine: row.machine,
                store: row.store,
                mac: row.mac,
                by: row.given_by,
                issued: from_millis(row.issued_at),
                expires: from_millis(row.expires_at),
                withdrawn: row.withdrawn_at.map(from_millis),
                done: row.done_at.map(from_millis),
                said: row.said,
            })
        };
        rows.into_iter().map(view).collect()
    }

    /// The signed orders that a store gets: those that still count.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn retire_orders(&self, store: &str, now: OffsetDateTime) -> Result<Vec<Addressed>, DbError> {
        let sql = "SELECT mac, envelope FROM retirements
                   WHERE store = ? AND expires_at > ? AND withdrawn_at IS NULL ORDER BY issued_at DESC, rowid DESC LIMIT ?";
        let rows: Vec<(String, String)> =
            sqlx::query_as(sql).bind(store).bind(millis(now)).bind(MOST_PER_STORE).fetch_all(&self.pool).await?;
        addressed(rows, "retirements")
    }

    /// Machines of a store that install nothing until their entries are opened again.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn retired(&self, store: &str) -> Result<Vec<RetiredMachine>, DbError> {
        let sql = "SELECT mac, machine FROM retirements
                   WHERE store = ? AND withdrawn_at IS NULL ORDER BY issued_at DESC, rowid DESC LIMIT ?";
        let rows: Vec<(String, String)> =
            sqlx::query_as(sql).bind(store).bind(MOST_PER_STORE).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|(mac, name)| RetiredMachine { mac, name }).collect())
    }
}

/// The entry was opened again: what was ordered of the machine that had it is over.
pub(super) async fn withdraw(
    connection: &mut SqliteConnection,
    name: &str,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    let sql = "UPDATE retirements SET withdrawn_at = ? WHERE machine = ? AND withdrawn_at IS NULL";
    sqlx::query(sql).bind(millis(now)).bind(name).execute(connection).await?;
    Ok(())
}

/// A machine said that it is ready for the shelf.
pub(super) async fn done(
    connection: &mut SqliteConnection,
    store: &str,
    mac: &str,
    said: Option<&str>,
    now: OffsetDateTime,
) -> Result<(), DbError> {
    let sql = "UPDATE retirements SET done_at = ?, said = ?
               WHERE store = ? AND mac = ? AND withdrawn_at IS NULL AND done_at IS NULL";
    sqlx::query(sql).bind(millis(now)).bind(said).bind(store).bind(mac).execute(connection).await?;
    Ok(())
}
