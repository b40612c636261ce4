//! `POST /v1/recovery-keys`: a machine hands over the key that opens its state when its TPM does not.

use super::{Api, ApiError, enrollments};
use crate::db::Kept;
use crate::identity::Identity;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use contracts::state::{RecoveryKey, is_recovery_key};
use time::OffsetDateTime;

/// Answers once the key is on the disk: the machine forgets it then.
pub(super) async fn keep(
    State(api): State<Api>,
    Extension(identity): Extension<Identity>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let fingerprint = enrollments::machine(&identity)?;
    // The reader's own words may quote what it read.
    let key: RecoveryKey = contracts::read(&body?)
        .map_err(|_| ApiError::bad_request("bad-document", "the recovery key document is not valid"))?;
    if !is_recovery_key(&key.key) {
        return Err(ApiError::bad_request("bad-document", "the key has not the shape of a recovery key"));
    }
    match api.db.keep_recovery_key(fingerprint, &key, OffsetDateTime::now_utc()).await? {
        Kept::Kept { machine, new } => {
            tracing::info!(
                target: "audit", decision = "recovery-key-kept", machine, fingerprint, volume = %key.volume, repeat = !new,
            );
            Ok(StatusCode::NO_CONTENT)
        }
        Kept::Stranger => {
            tracing::warn!(
                target: "audit", decision = "refused", code = "forbidden", fingerprint,
                reason = "a recovery key from a machine that is not admitted",
            );
            Err(ApiError::forbidden("no machine is admitted with this key; enroll first"))
        }
        Kept::TooMany => {
            tracing::warn!(
                target: "audit", decision = "refused", code = "too-many", fingerprint,
                reason = "more recovery keys than any machine needs",
            );
            Err(ApiError::conflict(
                "too-many",
                "this machine has handed over more recovery keys than any machine needs",
            ))
        }
    }
}
