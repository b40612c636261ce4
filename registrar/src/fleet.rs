//! Signs orders that nobody on the way to a machine may make: see `contracts::fleet`.

use crate::authority::Issued;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use contracts::fleet::{Envelope, Order, PAYLOAD_TYPE, Signature, signed_bytes};
use rcgen::{KeyPair, SigningKey as _};

/// Why an order was not signed.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The key in the state folder is damaged, or cannot sign.
    #[error("the fleet key in the state folder cannot be used")]
    Key(#[source] rcgen::Error),
    /// It is no JSON.
    #[error("cannot write the order as JSON")]
    Json(#[source] serde_json::Error),
}

/// Signs an order with the fleet key.
///
/// # Errors
/// See [`FleetError`].
pub fn sign(order: &Order, fleet: &Issued) -> Result<Envelope, FleetError> {
    let payload = serde_json::to_vec(order).map_err(FleetError::Json)?;
    let key = KeyPair::from_pem(&fleet.key).map_err(FleetError::Key)?;
    let signature = key.sign(&signed_bytes(&payload)).map_err(FleetError::Key)?;
    Ok(Envelope {
        payload_type: PAYLOAD_TYPE.into(),
        payload: STANDARD.encode(payload),
        signatures: vec![Signature { sig: STANDARD.encode(signature), cert: fleet.certificate.clone() }],
    })
}
