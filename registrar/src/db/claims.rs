//! Machines that wait until a person admits them, each under its claim code.

use super::{Db, DbError, EventRow, events, from_millis, millis};
use crate::admission::Admitted;
use crate::db::NewEnrollment;
use contracts::claim;
use contracts::event::StepStatus;
use contracts::step::Step;
use serde::Serialize;
use sqlx::SqliteConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// How long a code may be used; after that the machine gets and shows a new one.
const GOOD_FOR: Duration = Duration::hours(24);
/// A code that was used too late is told apart from a wrong one for this long.
const REMEMBERED: Duration = Duration::days(7);
/// A store has a handful of machines: more keys than these at once are not honest ones.
const MOST_PER_STORE: i64 = 64;

/// A waiting machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The enrollment's id.
    pub id: Uuid,
    /// What its screen shows.
    pub code: String,
    /// The inventory entry that it would get.
    pub machine: String,
}

/// A waiting machine, for people; without its code, which has to come from its screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClaimView {
    /// The inventory entry that it would get.
    pub machine: String,
    /// Its store.
    pub store: String,
    /// What is installed on it.
    pub template: String,
    /// The MAC address that the store saw.
    pub mac: String,
    /// Its key's fingerprint.
    pub fingerprint: String,
    /// Since when it waits under its present code.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Until when that code may be used.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// A person has admitted it, and it has not asked again since.
    pub approved: bool,
}

/// What became of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// The machine is let in the next time it asks.
    Given(ClaimView),
    /// No machine waits under this code.
    Unknown,
    /// The code was good until then.
    Expired(OffsetDateTime),
}

/// How a machine that needs a person stands.
#[derive(Debug)]
pub(super) enum Standing {
    /// A person has admitted this key to this store, for this template.
    Approved,
    /// Nobody has.
    Waiting(Claim),
    /// Too many others wait in this store.
    TooMany,
}

#[derive(sqlx::FromRow)]
struct Row {
    machine: String,
    store: String,
    template: String,
    mac: String,
    fingerprint: String,
    created_at: i64,
    expires_at: i64,
    approved_at: Option<i64>,
}

const SELECT: &str =
    "SELECT machine, store, template, mac, fingerprint, created_at, expires_at, approved_at FROM claims";

/// Looks at a machine's claim, and makes one if it has none that is good.
pub(super) async fn standing(
    connection: &mut SqliteConnection,
    new: &NewEnrollment<'_>,
    admitted: &Admitted,
) -> Result<Standing, DbError> {
    let now = millis(new.now);
    let sql = "SELECT id, code, approved_at IS NOT NULL FROM claims
               WHERE fingerprint = ? AND store = ? AND template = ? AND expires_at > ?";
    let known: Option<(String, String, bool)> = sqlx::query_as(sql)
        .bind(new.fingerprint)
        .bind(&admitted.store)
        .bind(&new.request.template)
        .bind(now)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some((id, code, approved)) = known {
        if approved {
            sqlx::query("DELETE FROM claims WHERE fingerprint = ?").bind(new.fingerprint).execute(connection).await?;
            return Ok(Standing::Approved);
        }
        let id = id.parse().map_err(|_| DbError::Damaged("claims"))?;
        return Ok(Standing::Waiting(Claim { id, code, machine: admitted.name.clone() }));
    }
    sqlx::query("DELETE FROM claims WHERE fingerprint = ? OR expires_at < ?")
        .bind(new.fingerprint)
        .bind(now - millis_of(REMEMBERED))
        .execute(&mut *connection)
        .await?;
    let waiting: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM claims WHERE store = ? AND expires_at > ?")
        .bind(&admitted.store)
        .bind(now)
        .fetch_one(&mut *connection)
        .await?;
    if waiting >= MOST_PER_STORE {
        return Ok(Standing::TooMany);
    }
    insert(connection, new, admitted).await.map(Standing::Waiting)
}

async fn insert(
    connection: &mut SqliteConnection,
    new: &NewEnrollment<'_>,
    admitted: &Admitted,
) -> Result<Claim, DbError> {
    let id = Uuid::new_v4();
    let claim = Claim { id, code: claim::code(new.fingerprint, id), machine: admitted.name.clone() };
    let sql = "INSERT INTO claims (id, code, fingerprint, machine, store, template, mac, created_at, expires_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(id.to_string())
        .bind(&claim.code)
        .bind(new.fingerprint)
        .bind(&admitted.name)
        .bind(&admitted.store)
        .bind(&new.request.template)
        .bind(&admitted.mac)
        .bind(millis(new.now))
        .bind(millis(new.now + GOOD_FOR))
        .execute(&mut *connection)
        .await?;
    let text = format!("{} waits until a person admits it by its claim code", admitted.name);
    let (attempt, status) = (new.request.attempt, StepStatus::Waiting);
    let event = EventRow::own(&admitted.mac, attempt, Step::Enroll, status, Some("claim"), text, new.now);
    events::insert(connection, &admitted.store, &event, new.now).await?;
    Ok(claim)
}

impl Db {
    /// Machines that wait for a person, and those that were admitted and have not asked since.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn claims(&self, now: OffsetDateTime) -> Result<Vec<ClaimView>, DbError> {
        let sql = format!("{SELECT} WHERE expires_at > ? ORDER BY store, created_at");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(millis(now)).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(ClaimView::from).collect())
    }

    /// Lets in the machine that shows this code, in the form of [`claim::code`]: its key and no other.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn approve(&self, code: &str, now: OffsetDateTime) -> Result<Approval, DbError> {
        let mut transaction = self.write().await?;
        let sql = format!("{SELECT} WHERE code = ?");
        let row: Option<Row> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(code).fetch_optional(&mut *transaction).await?;
        let Some(row) = row else { return Ok(Approval::Unknown) };
        if row.expires_at <= millis(now) {
            return Ok(Approval::Expired(from_millis(row.expires_at)));
        }
        sqlx::query("UPDATE claims SET approved_at = COALESCE(approved_at, ?) WHERE code = ?")
            .bind(millis(now))
            .bind(code)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Approval::Given(ClaimView { approved: true, ..row.into() }))
    }

    /// The claim with this id, for the machine whose key has this fingerprint.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn claim(&self, id: Uuid, fingerprint: &str, now: OffsetDateTime) -> Result<Option<Claim>, DbError> {
        let sql = "SELECT code, machine FROM claims WHERE id = ? AND fingerprint = ? AND expires_at > ?";
        let row: Option<(String, String)> = sqlx::query_as(sql)
            .bind(id.to_string())
            .bind(fingerprint)
            .bind(millis(now))
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|(code, machine)| Claim { id, code, machine }))
    }
}

impl From<Row> for ClaimView {
    fn from(row: Row) -> Self {
        Self {
            machine: row.machine,
            store: row.store,
            template: row.template,
            mac: row.mac,
            fingerprint: row.fingerprint,
            since: from_millis(row.created_at),
            until: from_millis(row.expires_at),
            approved: row.approved_at.is_some(),
        }
    }
}

fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.whole_milliseconds()).unwrap_or(i64::MAX)
}
