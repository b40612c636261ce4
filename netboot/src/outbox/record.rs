//! An event as it lies in the file: the JSON that is sent. Pure.

use super::queue::{Meta, Weight};
use contracts::event::{Event, StepStatus};
use serde::Deserialize;

/// The largest event: registrars take 16 KiB each.
pub const LARGEST_EVENT: usize = 16 << 10;

/// An event that the region would never take.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is too large.
    #[error("the event has {0} bytes, at most {LARGEST_EVENT} are sent")]
    TooLarge(usize),
    /// It is no event.
    #[error("this is no event")]
    Shape(#[source] serde_json::Error),
    /// Its place is none.
    #[error("`{0}` is no place in the queue")]
    Place(String),
}

/// What matters of the data, whatever else there is.
#[derive(Deserialize)]
struct Data {
    status: Option<StepStatus>,
}

/// The JSON of an event.
///
/// # Errors
/// [`Unfit`].
pub(super) fn write<D: serde::Serialize>(event: &Event<D>) -> Result<String, Unfit> {
    let text = serde_json::to_string(event).map_err(Unfit::Shape)?;
    if text.len() > LARGEST_EVENT { Err(Unfit::TooLarge(text.len())) } else { Ok(text) }
}

/// The key of a place. Keys sort as their places do.
pub(super) fn key(place: u64) -> String {
    format!("{place:016x}")
}

/// The reverse of [`key`].
pub(super) fn place(key: &str) -> Result<u64, Unfit> {
    let wrong = || Unfit::Place(key.escape_default().take(40).collect());
    if key.len() != 16 || key.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(wrong());
    }
    // The highest places would leave none for what comes.
    u64::from_str_radix(key, 16).ok().filter(|place| *place < u64::MAX / 2).ok_or_else(wrong)
}

/// Reads back an event that waits: its place, and what the queue has to know of it.
///
/// # Errors
/// `Unfit` for whatever was not written by this program.
pub fn read_back(key: &str, value: &[u8]) -> Result<(u64, Meta), Unfit> {
    let place = place(key)?;
    if value.len() > LARGEST_EVENT {
        return Err(Unfit::TooLarge(value.len()));
    }
    let event: Event<serde_json::Value> = serde_json::from_slice(value).map_err(Unfit::Shape)?;
    let status = Data::deserialize(&event.data).ok().and_then(|data| data.status);
    let weight = status.map_or(Weight::Other, Weight::of);
    Ok((place, Meta { id: event.id, machine: event.subject.parse().ok(), weight, bytes: value.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_sort_as_their_keys() {
        assert_eq!(place(&key(255)).unwrap(), 255);
        assert!(key(9) < key(16) && key(255) < key(256));
        for bad in ["", "ff", "00000000000000FF", "+0000000000000ff", "ffffffffffffffff", "0000000000000000f"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_key_and_value_is_survived(key in ".{0,20}", value in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read_back(&key, &value).is_err());
        }
    }
}
