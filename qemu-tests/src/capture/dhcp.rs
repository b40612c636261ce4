//! DHCP messages as the tests look at them. Its own small reader on purpose: the tests must not believe netboot's.

use std::collections::BTreeMap;

/// Message types (RFC 2132, section 9.6).
pub const DISCOVER: u8 = 1;
/// See [`DISCOVER`].
pub const OFFER: u8 = 2;
/// See [`DISCOVER`].
pub const REQUEST: u8 = 3;
/// See [`DISCOVER`].
pub const ACK: u8 = 5;

/// Option 43, vendor-specific information.
pub const VENDOR_INFORMATION: u8 = 43;
/// Option 54, the server's identifier.
pub const SERVER: u8 = 54;
/// Option 60, the vendor class.
pub const VENDOR_CLASS: u8 = 60;
/// Option 67, the boot file's name.
pub const BOOT_FILE: u8 = 67;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// From a server to a client.
    pub is_reply: bool,
    /// The transaction.
    pub xid: u32,
    /// The client's hardware address: its first six bytes.
    pub client: [u8; 6],
    /// The address that the server gives.
    pub your_address: [u8; 4],
    /// The boot file in the header.
    pub file: String,
    /// Options by code.
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Message {
    /// The message type, option 53.
    #[must_use]
    pub fn kind(&self) -> Option<u8> {
        self.options.get(&53).and_then(|v| v.first().copied())
    }

    /// An option as text, without a closing NUL.
    #[must_use]
    pub fn text(&self, code: u8) -> String {
        let bytes = self.options.get(&code).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
    }
}

/// Reads a message; `None` when it is none.
#[must_use]
pub fn read(payload: &[u8]) -> Option<Message> {
    if payload.get(236..240)? != [99, 130, 83, 99] {
        return None;
    }
    let mut options: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let mut rest = &payload[240..];
    while let Some((code, tail)) = rest.split_first() {
        match code {
            0 => rest = tail,
            255 => break,
            code => {
                let (length, tail) = tail.split_first()?;
                // An option that comes twice is one long one (RFC 3396).
                options.entry(*code).or_default().extend(tail.get(..usize::from(*length))?);
                rest = &tail[usize::from(*length)..];
            }
        }
    }
    let file = payload[108..236].split(|b| *b == 0).next().unwrap_or_default();
    Some(Message {
        is_reply: payload[0] == 2,
        xid: u32::from_be_bytes(payload[4..8].try_into().ok()?),
        client: payload[28..34].try_into().ok()?,
        your_address: payload[16..20].try_into().ok()?,
        file: String::from_utf8_lossy(file).into_owned(),
        options,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_read() {
        let mut payload = vec![0; 236];
        payload[28..34].copy_from_slice(&[1, 2, 3, 4, 5, 6]);
        payload[108..112].copy_from_slice(b"a.ef");
        payload.extend([99, 130, 83, 99, 0, 53, 1, 2, 67, 3, b'x', b'y', 0, 255, 9]);
        let message = read(&payload).unwrap();
        assert_eq!(message.kind(), Some(OFFER));
        assert_eq!((message.text(BOOT_FILE).as_str(), message.file.as_str()), ("xy", "a.ef"));
        assert_eq!(message.client, [1, 2, 3, 4, 5, 6]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut payload = vec![0; 236];
            payload.extend([99, 130, 83, 99]);
            payload.extend(tail);
            let _ = read(&payload);
        }
    }
}
