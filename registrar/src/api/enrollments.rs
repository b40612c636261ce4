//! `POST /v1/enrollments` and `GET /v1/enrollments/{id}`: machines.

use super::{Api, ApiError};
use crate::db::{Claim, EnrollmentRow, NewEnrollment, Recorded};
use crate::identity::Identity;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use contracts::enrollment::{Admission, Enrollment, EnrollmentRequest, EnrollmentState};
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// A machine waits this long for its certificate before it is told to ask again: well below the time-outs of
/// ordinary HTTP clients.
const PATIENCE: Duration = Duration::from_secs(15);
/// Asking again is cheap, and the answer may come from the other kind of call.
const PATIENCE_AGAIN: Duration = Duration::from_secs(5);
const MAX_TEXT: usize = 256;

pub(super) async fn enroll(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Enrollment>, ApiError> {
    let fingerprint = machine(&identity)?;
    let request = read(&body?)?;
    let inventory = api.current.borrow().inventory.clone();
    let now = OffsetDateTime::now_utc();
    let new = NewEnrollment { request: &request, fingerprint, inventory: &inventory, brokers: &api.brokers, now };
    let (row, first_key) = match api.db.enroll(&new).await? {
        Recorded::Refused { id, refusal } => {
            audit_refusal(fingerprint, &request, &refusal);
            let state = EnrollmentState::Refused { code: refusal.code.into(), reason: refusal.reason };
            return Ok(answer(id, state));
        }
        Recorded::Held(claim) => {
            tracing::info!(
                target: "audit", decision = "held", machine = claim.machine, fingerprint, template = request.template,
                enrollment = %claim.id, reason = "its template needs a person's word",
            );
            return Ok(held(claim));
        }
        Recorded::Admitted { row, new, first_key, relay } => {
            tracing::info!(
                target: "audit", decision = "admitted", machine = row.machine, store = row.store, mac = row.mac,
                fingerprint, relay, first_key, repeat = !new, asks = row.asked.is_some(), boot_id = row.boot_id,
                reason = if first_key { "vouched by its store; first key, pinned" } else { "vouched by its store; the pinned key" },
            );
            (row, first_key)
        }
    };
    api.joins.drive(&row, PATIENCE).await;
    let row = if row.asked.is_some() { reread(&api, row.id, fingerprint).await? } else { row };
    if request.join && row.asked.is_none() {
        // Its template has no broker here. It goes on asking, and IT may add one.
        let reason = api.joins.waiting_reason(&row);
        return Ok(answer(row.id, EnrollmentState::Pending { claim_code: None, reason }));
    }
    tracing::debug!(machine = row.machine, first_key, joined = row.join_material.is_some(), "answered");
    Ok(answer(row.id, state_of(&api, row, None)))
}

pub(super) async fn show(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<Json<Enrollment>, ApiError> {
    let fingerprint = machine(&identity)?;
    let id = id.parse::<Uuid>().map_err(|_| no_such_enrollment())?;
    if let Some(claim) = api.db.claim(id, fingerprint, OffsetDateTime::now_utc()).await? {
        return Ok(held(claim));
    }
    let mut row = reread(&api, id, fingerprint).await?;
    if row.asked.is_some() && row.join_material.is_none() {
        api.joins.drive(&row, PATIENCE_AGAIN).await;
        row = reread(&api, id, fingerprint).await?;
    }
    let mut reason = None;
    if !row.ready {
        reason = api.joins.why_not_ready(&row).await;
        if reason.is_none() {
            row.ready = true;
            if api.db.set_ready(&row, OffsetDateTime::now_utc()).await? {
                tracing::info!(machine = row.machine, boot_id = row.boot_id, "the cluster reports this boot ready");
            }
        }
    }
    Ok(answer(id, state_of(&api, row, reason)))
}

pub(super) fn machine(identity: &Identity) -> Result<&str, ApiError> {
    match identity {
        Identity::Machine { fingerprint } => Ok(fingerprint),
        Identity::Store { .. } => Err(ApiError::forbidden("this call is for machines, with their own self-signed key")),
    }
}

/// One answer for "not there" and "not yours", so that ids cannot be probed.
fn no_such_enrollment() -> ApiError {
    ApiError::not_found("this machine has no such enrollment; enroll again")
}

async fn reread(api: &Api, id: Uuid, fingerprint: &str) -> Result<EnrollmentRow, ApiError> {
    api.db.enrollment(id, fingerprint).await?.ok_or_else(no_such_enrollment)
}

fn read(body: &[u8]) -> Result<EnrollmentRequest, ApiError> {
    let request: EnrollmentRequest =
        contracts::read(body).map_err(|error| ApiError::bad_request("bad-document", crate::chain(&error)))?;
    let nonce_fits = request.nonce.len() == 32 && request.nonce.bytes().all(|b| b.is_ascii_hexdigit());
    if !nonce_fits {
        return Err(ApiError::bad_request("bad-document", "nonce needs 32 hex digits"));
    }
    if request.boot_id.trim().parse::<Uuid>().is_err() {
        return Err(ApiError::bad_request("bad-document", "boot_id needs the text of /proc/sys/kernel/random/boot_id"));
    }
    if request.template.len() > MAX_TEXT || request.image_version.len() > MAX_TEXT {
        return Err(ApiError::bad_request("bad-document", "template and image_version are short names"));
    }
    // Some write hex in upper case, and files end in a newline; compared and kept is one form.
    let boot_id = request.boot_id.trim().to_ascii_lowercase();
    Ok(EnrollmentRequest { boot_id, nonce: request.nonce.to_ascii_lowercase(), ..request })
}

fn state_of(api: &Api, row: EnrollmentRow, ready_reason: Option<String>) -> EnrollmentState {
    if row.asked.is_some() && row.join_material.is_none() {
        return EnrollmentState::Pending { claim_code: None, reason: api.joins.waiting_reason(&row) };
    }
    let (files, parameters) = {
        let inventory = &api.current.borrow().inventory;
        (inventory.files_of(&row.machine), inventory.parameters_of(&row.store))
    };
    EnrollmentState::Admitted(Admission {
        name: row.machine,
        files,
        parameters,
        join: row.join_material,
        ready: row.ready,
        ready_reason,
    })
}

fn held(claim: Claim) -> Json<Enrollment> {
    let reason = format!("a person in the region has to admit this machine as {}", claim.machine);
    answer(claim.id, EnrollmentState::Pending { claim_code: Some(claim.code), reason })
}

fn answer(id: Uuid, state: EnrollmentState) -> Json<Enrollment> {
    Json(Enrollment { version: contracts::VERSION, id, state })
}

fn audit_refusal(fingerprint: &str, request: &EnrollmentRequest, refusal: &crate::admission::Refusal) {
    let vouched = refusal.vouched.as_ref();
    tracing::warn!(
        target: "audit", decision = "refused", code = refusal.code, fingerprint, template = request.template,
        store = vouched.map(|v| v.store.as_str()), mac = vouched.map(|v| v.mac.as_str()), reason = refusal.reason,
    );
}
