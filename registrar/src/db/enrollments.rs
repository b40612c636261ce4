//! Enrollments: the decision and its record are one transaction, so that two machines cannot both be first.

use super::claims::{self, Claim};
use super::{Db, DbError, EventRow, events, millis};
use crate::admission::{Admitted, Decision, Pins, Refusal, admit};
use crate::broker::Brokers;
use crate::inventory::Inventory;
use crate::voucher;
use contracts::enrollment::{Csr, EnrollmentRequest, JoinMaterial};
use contracts::event::StepStatus;
use contracts::step::Step;
use contracts::voucher::VoucherStatement;
use sqlx::SqliteConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// One enrollment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollmentRow {
    /// Its id.
    pub id: Uuid,
    /// The inventory entry's name.
    pub machine: String,
    /// The machine's store.
    pub store: String,
    /// Readiness counts only for this boot.
    pub boot_id: String,
    /// The MAC address that the store saw.
    pub mac: String,
    /// The agent's attempt.
    pub attempt: Uuid,
    /// The machine's template.
    pub template: String,
    /// What it asks its broker for, checked.
    pub asked: Option<Vec<Csr>>,
    /// What the broker delivered for it.
    pub join_material: Option<JoinMaterial>,
    /// The broker's last trouble.
    pub join_error: Option<String>,
    /// The cluster reported this boot ready.
    pub ready: bool,
}

/// What became of a request.
#[derive(Debug)]
pub enum Recorded {
    /// In.
    Admitted {
        /// The enrollment.
        row: EnrollmentRow,
        /// False when the request is a repeat.
        new: bool,
        /// The key was pinned now.
        first_key: bool,
        /// See [`Admitted::relay`].
        relay: Option<String>,
    },
    /// A person has to decide.
    Held(Claim),
    /// Out.
    Refused {
        /// The enrollment that this request repeats, or a fresh id.
        id: Uuid,
        /// Why.
        refusal: Refusal,
    },
}

/// A request with everything that the decision needs.
#[derive(Debug)]
pub struct NewEnrollment<'a> {
    /// What the machine says.
    pub request: &'a EnrollmentRequest,
    /// The key that it proved in TLS.
    pub fingerprint: &'a str,
    /// The inventory now.
    pub inventory: &'a Inventory,
    /// Who checks what it asks for.
    pub brokers: &'a Brokers,
    /// The time now.
    pub now: OffsetDateTime,
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: String,
    machine: String,
    store: String,
    boot_id: String,
    mac: String,
    attempt: String,
    template: String,
    asked: Option<String>,
    join_material: Option<String>,
    join_error: Option<String>,
    ready_at: Option<i64>,
}

const SELECT: &str =
    "SELECT e.id, e.machine, m.store, e.boot_id, e.mac, e.attempt, m.template, e.asked, e.join_material,
                             e.join_error, e.ready_at
                      FROM enrollments e JOIN machines m ON m.name = e.machine
                      WHERE e.id = ?1 AND (?2 IS NULL OR e.fingerprint = ?2)";

impl Db {
    /// Decides about a request and records the outcome.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn enroll(&self, new: &NewEnrollment<'_>) -> Result<Recorded, DbError> {
        let claimed = voucher::claimed_stores(&new.request.vouchers);
        let keys = self.store_keys(&claimed).await?;
        let decide =
            |pins: &Pins| admit(new.request, new.fingerprint, new.inventory, pins, &keys, new.brokers, new.now);
        // Whoever has no good voucher must not take the write lock: everybody can make a key and connect.
        if let Decision::Refuse(refusal @ Refusal { vouched: None, .. }) = decide(&Pins::default()) {
            return Ok(Recorded::Refused { id: Uuid::new_v4(), refusal });
        }
        let mut transaction = self.write().await?;
        let pins = pins(&mut transaction, &claimed, new.fingerprint).await?;
        let existing = existing(&mut transaction, new).await?;
        let recorded = match decide(&pins) {
            Decision::Refuse(refusal) => refuse(&mut transaction, new, existing, refusal).await?,
            Decision::Admit(admitted) if admitted.needs_person => {
                match claims::standing(&mut transaction, new, &admitted).await? {
                    claims::Standing::Approved => accept(&mut transaction, new, existing, &admitted).await?,
                    claims::Standing::Waiting(claim) => Recorded::Held(claim),
                    claims::Standing::TooMany => {
                        refuse(&mut transaction, new, existing, too_many_claims(&admitted, new)).await?
                    }
                }
            }
            Decision::Admit(admitted) => accept(&mut transaction, new, existing, &admitted).await?,
        };
        transaction.commit().await?;
        Ok(recorded)
    }

    /// An enrollment, for the machine whose key has this fingerprint.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn enrollment(&self, id: Uuid, fingerprint: &str) -> Result<Option<EnrollmentRow>, DbError> {
        let mut connection = self.pool.acquire().await?;
        fetch(&mut connection, id, Some(fingerprint)).await
    }

    /// Keeps what the broker delivered, unless the machine has asked for something else since.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn joined(
        &self,
        row: &EnrollmentRow,
        material: &JoinMaterial,
        now: OffsetDateTime,
    ) -> Result<(), DbError> {
        let json = serde_json::to_string(material).map_err(|_| DbError::Damaged("enrollments"))?;
        let mut transaction = self.write().await?;
        let sql = "UPDATE enrollments SET join_material = ?, join_error = NULL
                   WHERE id = ? AND asked IS ? AND join_material IS NULL";
        let asked = asked_text(row.asked.as_deref())?;
        let done = sqlx::query(sql).bind(json).bind(row.id.to_string()).bind(asked).execute(&mut *transaction).await?;
        if done.rows_affected() == 1 {
            let text = format!("join material for {} is ready", row.machine);
            let event = EventRow::own(&row.mac, row.attempt, Step::Join, StepStatus::Progress, None, text, now);
            events::insert(&mut transaction, &row.store, &event, now).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Keeps the broker's trouble, for the machine's console.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn join_failed(&self, id: Uuid, reason: &str) -> Result<(), DbError> {
        sqlx::query("UPDATE enrollments SET join_error = ? WHERE id = ? AND join_material IS NULL")
            .bind(reason)
            .bind(id.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes that the cluster reports this enrollment's boot ready; true the first time.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn set_ready(&self, row: &EnrollmentRow, now: OffsetDateTime) -> Result<bool, DbError> {
        let mut transaction = self.write().await?;
        let done = sqlx::query("UPDATE enrollments SET ready_at = ? WHERE id = ? AND boot_id = ? AND ready_at IS NULL")
            .bind(millis(now))
            .bind(row.id.to_string())
            .bind(&row.boot_id)
            .execute(&mut *transaction)
            .await?;
        let first = done.rows_affected() == 1;
        if first {
            let text = format!("the cluster reports {} ready, boot {}", row.machine, row.boot_id);
            let event = EventRow::own(&row.mac, row.attempt, Step::Ready, StepStatus::Done, None, text, now);
            events::insert(&mut transaction, &row.store, &event, now).await?;
        }
        transaction.commit().await?;
        Ok(first)
    }
}

async fn accept(
    connection: &mut SqliteConnection,
    new: &NewEnrollment<'_>,
    existing: Option<Uuid>,
    admitted: &Admitted,
) -> Result<Recorded, DbError> {
    let id = record_admission(connection, new, admitted, existing).await?;
    let row = fetch(connection, id, None).await?.ok_or(DbError::Damaged("enrollments"))?;
    Ok(Recorded::Admitted {
        row,
        new: existing.is_none(),
        first_key: admitted.first_key,
        relay: admitted.relay.clone(),
    })
}

async fn refuse(
    connection: &mut SqliteConnection,
    new: &NewEnrollment<'_>,
    existing: Option<Uuid>,
    refusal: Refusal,
) -> Result<Recorded, DbError> {
    record_refusal(connection, new, &refusal).await?;
    Ok(Recorded::Refused { id: existing.unwrap_or_else(Uuid::new_v4), refusal })
}

fn too_many_claims(admitted: &Admitted, new: &NewEnrollment<'_>) -> Refusal {
    let statement = VoucherStatement {
        version: contracts::VERSION,
        store: admitted.store.clone(),
        fingerprint: new.fingerprint.into(),
        mac: admitted.mac.clone(),
        entry: None,
        relay: None,
        time: new.now,
    };
    Refusal {
        code: "too-many-claims",
        reason: format!("too many machines of store {} wait for a person; admit or remove some first", admitted.store),
        vouched: Some(statement),
    }
}

async fn pins(connection: &mut SqliteConnection, stores: &[String], fingerprint: &str) -> Result<Pins, DbError> {
    type Row = (String, Option<String>, bool);
    let mut pins = Pins::default();
    let sql = "SELECT name, fingerprint, revoked_at IS NOT NULL FROM machines WHERE fingerprint = ?";
    let mut rows: Vec<Row> = sqlx::query_as(sql).bind(fingerprint).fetch_all(&mut *connection).await?;
    for store in stores {
        let sql = "SELECT name, fingerprint, revoked_at IS NOT NULL FROM machines
                   WHERE store = ? AND (fingerprint IS NOT NULL OR revoked_at IS NOT NULL)";
        rows.extend(sqlx::query_as::<_, Row>(sql).bind(store).fetch_all(&mut *connection).await?);
    }
    for (name, fingerprint, revoked) in &rows {
        if let Some(fingerprint) = fingerprint {
            pins.insert(name, fingerprint);
        }
        if *revoked {
            pins.revoke(name);
        }
    }
    Ok(pins)
}

/// The enrollment that a request repeats: the same nonce, or the same attempt of the same boot (the call for join
/// material that follows the first one).
async fn existing(connection: &mut SqliteConnection, new: &NewEnrollment<'_>) -> Result<Option<Uuid>, DbError> {
    let sql = "SELECT id FROM enrollments WHERE fingerprint = ?1 AND (nonce = ?2 OR (attempt = ?3 AND boot_id = ?4))
               ORDER BY nonce = ?2 DESC, created_at DESC LIMIT 1";
    let id: Option<String> = sqlx::query_scalar(sql)
        .bind(new.fingerprint)
        .bind(&new.request.nonce)
        .bind(new.request.attempt.to_string())
        .bind(&new.request.boot_id)
        .fetch_optional(connection)
        .await?;
    id.map(|id| id.parse().map_err(|_| DbError::Damaged("enrollments"))).transpose()
}

async fn record_admission(
    connection: &mut SqliteConnection,
    new: &NewEnrollment<'_>,
    admitted: &Admitted,
    existing: Option<Uuid>,
) -> Result<Uuid, DbError> {
    if let Some(former) = &admitted.releases {
        let sql = "UPDATE machines SET fingerprint = NULL, pinned_at = NULL WHERE name = ?";
        sqlx::query(sql).bind(former).execute(&mut *connection).await?;
    }
    let sql = "UPDATE machines SET fingerprint = ?1, pinned_at = COALESCE(pinned_at, ?2), mac = ?3
               WHERE name = ?4 AND (fingerprint IS NULL OR fingerprint = ?1)";
    let pinned = sqlx::query(sql)
        .bind(new.fingerprint)
        .bind(millis(new.now))
        .bind(&admitted.mac)
        .bind(&admitted.name)
        .execute(&mut *connection)
        .await?;
    // The inventory in memory and the rows are brought in step before a new inventory is used.
    if pinned.rows_affected() != 1 {
        return Err(DbError::Damaged("machines"));
    }
    let id = existing.unwrap_or_else(Uuid::new_v4);
    // Material belongs to what was asked for, readiness to the boot that reached it. A repeat that asks for nothing
    // takes nothing away.
    let sql = "INSERT INTO enrollments (id, machine, fingerprint, nonce, attempt, boot_id, mac, asked, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
               ON CONFLICT (id) DO UPDATE SET machine = ?2, boot_id = ?6, mac = ?7, asked = COALESCE(?8, asked),
                   join_material = CASE WHEN ?8 IS NULL OR ?8 IS asked THEN join_material END,
                   join_error = CASE WHEN ?8 IS NULL OR ?8 IS asked THEN join_error END,
                   ready_at = CASE WHEN boot_id = ?6 THEN ready_at END";
    sqlx::query(sql)
        .bind(id.to_string())
        .bind(&admitted.name)
        .bind(new.fingerprint)
        .bind(&new.request.nonce)
        .bind(new.request.attempt.to_string())
        .bind(&new.request.boot_id)
        .bind(&admitted.mac)
        .bind(asked_text(admitted.asked.as_deref())?)
        .bind(millis(new.now))
        .execute(&mut *connection)
        .await?;
    if existing.is_none() {
        let text = format!("admitted as {} of store {}", admitted.name, admitted.store);
        let attempt = new.request.attempt;
        let event = EventRow::own(&admitted.mac, attempt, Step::Enroll, StepStatus::Done, None, text, new.now);
        events::insert(connection, &admitted.store, &event, new.now).await?;
    }
    Ok(id)
}

/// Tells of a refusal once, not at every repeat of the question.
async fn record_refusal(
    connection: &mut SqliteConnection,
    new: &NewEnrollment<'_>,
    refusal: &Refusal,
) -> Result<(), DbError> {
    let Some(vouched) = &refusal.vouched else { return Ok(()) };
    let sql = "SELECT code FROM events WHERE store = ? AND subject = ? AND source = 'registrar'
               ORDER BY received_at DESC, rowid DESC LIMIT 1";
    let last: Option<Option<String>> =
        sqlx::query_scalar(sql).bind(&vouched.store).bind(&vouched.mac).fetch_optional(&mut *connection).await?;
    if last.flatten().as_deref() == Some(refusal.code) {
        return Ok(());
    }
    let (status, reason) = (StepStatus::Failed, refusal.reason.clone());
    let attempt = new.request.attempt;
    let event = EventRow::own(&vouched.mac, attempt, Step::Enroll, status, Some(refusal.code), reason, new.now);
    events::insert(connection, &vouched.store, &event, new.now).await?;
    Ok(())
}

fn asked_text(asked: Option<&[Csr]>) -> Result<Option<String>, DbError> {
    asked.map(|csrs| serde_json::to_string(csrs).map_err(|_| DbError::Damaged("enrollments"))).transpose()
}

async fn fetch(
    connection: &mut SqliteConnection,
    id: Uuid,
    fingerprint: Option<&str>,
) -> Result<Option<EnrollmentRow>, DbError> {
    let raw: Option<Raw> =
        sqlx::query_as(SELECT).bind(id.to_string()).bind(fingerprint).fetch_optional(connection).await?;
    raw.map(EnrollmentRow::try_from).transpose()
}

impl TryFrom<Raw> for EnrollmentRow {
    type Error = DbError;

    fn try_from(raw: Raw) -> Result<Self, DbError> {
        let damaged = || DbError::Damaged("enrollments");
        let material = raw.join_material.as_deref().map(serde_json::from_str);
        Ok(Self {
            id: raw.id.parse().map_err(|_| damaged())?,
            machine: raw.machine,
            store: raw.store,
            boot_id: raw.boot_id,
            mac: raw.mac,
            attempt: raw.attempt.parse().map_err(|_| damaged())?,
            template: raw.template,
            asked: raw.asked.as_deref().map(serde_json::from_str).transpose().map_err(|_| damaged())?,
            join_material: material.transpose().map_err(|_| damaged())?,
            join_error: raw.join_error,
            ready: raw.ready_at.is_some(),
        })
    }
}
