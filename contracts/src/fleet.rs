//! What only the region may order, signed with its fleet key: netboot and everybody else on the way can neither make nor change it.
//!
//! The signature is a DSSE envelope (<https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>), by ECDSA over P-256 with
//! SHA-256. The key's certificate travels with it; the registrar's CA, which images know as a TUF target, has issued it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// The payload's type in envelopes.
pub const PAYLOAD_TYPE: &str = "application/vnd.shelfboot.order+json";
/// TUF target of the CA that fleet certificates come from.
pub const CA_TARGET: &str = "region/registrar-ca.pem";
/// The certificate's common name.
pub const COMMON_NAME: &str = "shelfboot fleet";
/// More bytes than any order has.
pub const MOST_BYTES: usize = 64 << 10;

/// An order and who signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// [`PAYLOAD_TYPE`].
    pub payload_type: String,
    /// The order as JSON. DSSE has base64 here; so has this.
    pub payload: String,
    /// One is enough.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The signature, ASN.1 DER, base64.
    pub sig: String,
    /// The certificate of the key that made it, PEM.
    pub cert: String,
}

/// The bytes that are signed: DSSE's pre-authentication encoding.
#[must_use]
pub fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// An envelope on its way to a machine of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressed {
    /// MAC address of the machine, lower case with colons.
    pub mac: String,
    /// What it is for, opaque to netboot.
    pub envelope: serde_json::Value,
}

/// What is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// A disk with somebody's data may be wiped, once.
    Wipe(WipePermit),
    /// A machine's own disks are to be wiped, for the shelf.
    Retire(RetireOrder),
}

/// Wipes what this very machine has installed, and nothing else. It names the key that the machine made and the region has pinned:
/// the key goes with the wiped disk, so that the order counts once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetireOrder {
    /// [`crate::VERSION`].
    pub version: u32,
    /// Its name in logs and events.
    pub id: Uuid,
    /// The machine's name in the inventory.
    pub name: String,
    /// The store in which it stands.
    pub store: String,
    /// MAC address of the machine, lower case with colons.
    pub mac: String,
    /// The fingerprint of its key, as in [`crate::voucher::VoucherRequest`].
    pub key: String,
    /// Who gave it.
    pub by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub issued: OffsetDateTime,
    /// It does not count from then on.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
}

impl RetireOrder {
    /// Whether it is for this machine, now. The number of [`Asked`] is not looked at. Whose a disk is, is for the caller to look at.
    ///
    /// # Errors
    /// See [`NotPermitted`].
    pub fn check(&self, asked: &Asked<'_>) -> Result<(), NotPermitted> {
        if asked.store != Some(self.store.as_str()) || !asked.macs.contains(&self.mac) {
            return Err(NotPermitted::OtherMachine(self.id));
        }
        if asked.now >= self.expires {
            return Err(NotPermitted::Expired { id: self.id, expires: self.expires });
        }
        Ok(())
    }
}

/// Permission to install over what is on one disk. It counts once: the machine makes a new number when it has used it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WipePermit {
    /// [`crate::VERSION`].
    pub version: u32,
    /// Its name in logs and events.
    pub id: Uuid,
    /// The store in which the machine stands.
    pub store: String,
    /// MAC address of the machine, lower case with colons.
    pub mac: String,
    /// WWN or serial number of the disk.
    pub disk: String,
    /// The number that the machine showed, see [`number`].
    pub number: String,
    /// Who gave it.
    pub by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub issued: OffsetDateTime,
    /// It does not count from then on.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
}

/// What a permit must fit.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The store, where the machine knows it.
    pub store: Option<&'a str>,
    /// MAC addresses of this machine.
    pub macs: &'a [String],
    /// The number that it shows now.
    pub number: &'a str,
    /// Its clock, which netboot or the region has set.
    pub now: OffsetDateTime,
}

/// Why a permit does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPermitted {
    /// For another machine or store.
    #[error("order {0} is for another machine")]
    OtherMachine(Uuid),
    /// For a number that is not shown any more.
    #[error("permit {0} was given for another number than the one that is shown; permits count once")]
    OtherNumber(Uuid),
    /// Too late.
    #[error("order {id} counted until {expires}")]
    Expired {
        /// Which.
        id: Uuid,
        /// Until when.
        expires: OffsetDateTime,
    },
}

impl WipePermit {
    /// Whether it counts for this machine now. Which disk it is for is for the caller to look at.
    ///
    /// # Errors
    /// See [`NotPermitted`].
    pub fn check(&self, asked: &Asked<'_>) -> Result<(), NotPermitted> {
        let here = asked.store.is_none_or(|store| store == self.store) && asked.macs.contains(&self.mac);
        if !here {
            return Err(NotPermitted::OtherMachine(self.id));
        }
        if self.number != asked.number {
            return Err(NotPermitted::OtherNumber(self.id));
        }
        if asked.now >= self.expires {
            return Err(NotPermitted::Expired { id: self.id, expires: self.expires });
        }
        Ok(())
    }

    /// True for the disk with one of these identities.
    #[must_use]
    pub fn is_for(&self, wwn: Option<&str>, serial: Option<&str>) -> bool {
        let same = |identity: Option<&str>| identity.is_some_and(|text| !text.is_empty() && text == self.disk);
        same(wwn) || same(serial)
    }
}

/// Random bits as a number to read out: two groups of four, 40 bits, without letters that sound or look alike.
#[must_use]
pub fn number(random: u64) -> String {
    let digit = |place: u32| char::from(crate::claim::ALPHABET[(random >> (5 * place) & 31) as usize]);
    let group = |first: u32| (first..first + 4).map(digit).collect::<String>();
    format!("{}-{}", group(0), group(4))
}

/// A number as somebody typed it, in the form of [`number`]; `None` when it cannot be one.
#[must_use]
pub fn normal_number(typed: &str) -> Option<String> {
    crate::claim::groups(typed, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn permit() -> WipePermit {
        WipePermit {
            version: crate::VERSION,
            id: Uuid::from_u128(7),
            store: "store-1".into(),
            mac: "02:00:00:00:00:01".into(),
            disk: "DISK-1".into(),
            number: "K7QM-2F9X".into(),
            by: "support".into(),
            issued: datetime!(2026-11-21 10:00 UTC),
            expires: datetime!(2026-11-22 10:00 UTC),
        }
    }

    #[test]
    fn a_permit_counts_for_one_machine_number_and_time() {
        let macs = ["02:00:00:00:00:01".to_owned()];
        let asked =
            Asked { store: Some("store-1"), macs: &macs, number: "K7QM-2F9X", now: datetime!(2026-11-22 09:59 UTC) };
        let permit = permit();
        permit.check(&asked).unwrap();
        permit.check(&Asked { store: None, ..asked }).unwrap();
        for wrong in [
            Asked { store: Some("store-2"), ..asked },
            Asked { macs: &[], ..asked },
            Asked { number: "K7QM-2F9Y", ..asked },
            Asked { now: permit.expires, ..asked },
        ] {
            permit.check(&wrong).unwrap_err();
        }
    }

    #[test]
    fn a_retirement_is_for_one_machine_of_one_store_for_a_time() {
        let macs = ["02:00:00:00:00:01".to_owned()];
        let asked = Asked { store: Some("store-1"), macs: &macs, number: "", now: datetime!(2026-11-22 09:59 UTC) };
        let WipePermit { version, id, store, mac, by, issued, expires, .. } = permit();
        let order =
            RetireOrder { version, id, name: "w1".into(), store, mac, key: "ab".repeat(32), by, issued, expires };
        order.check(&asked).unwrap();
        for wrong in [
            // Who does not know where it stands wipes nothing.
            Asked { store: None, ..asked },
            Asked { store: Some("store-2"), ..asked },
            Asked { macs: &[], ..asked },
            Asked { now: order.expires, ..asked },
        ] {
            order.check(&wrong).unwrap_err();
        }
    }

    #[test]
    fn a_disk_is_known_by_its_own_identity_only() {
        assert!(permit().is_for(Some("0x5000"), Some("DISK-1")) && permit().is_for(Some("DISK-1"), None));
        assert!(!permit().is_for(None, None) && !permit().is_for(None, Some("DISK-10")));
        assert!(!WipePermit { disk: String::new(), ..permit() }.is_for(Some(""), Some("")));
    }

    #[test]
    fn numbers_are_read_out_and_typed_in() {
        let number = number(u64::MAX / 3);
        assert_eq!(number.len(), 9);
        assert_eq!(normal_number(&number.to_lowercase().replace('-', " ")), Some(number));
        assert_eq!(normal_number("K7QM"), None);
    }

    #[test]
    fn the_signed_bytes_are_those_of_the_protocol() {
        // The example of DSSE's protocol, with our type.
        assert_eq!(signed_bytes(b"hello"), b"DSSEv1 36 application/vnd.shelfboot.order+json 5 hello");
    }
}
