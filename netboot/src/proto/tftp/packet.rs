//! TFTP packets. The reader takes what real ROMs send: any letter case, a leading slash, backslashes, a missing
//! final NUL, options that nobody knows.

/// Longest error text that is sent; some clients copy it into a small buffer.
const ERROR_TEXT: usize = 64;

/// Error codes of RFC 1350 and RFC 2347.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the text.
    Undefined = 0,
    /// There is no such file.
    NotFound = 1,
    /// Writing, or leaving the folder.
    AccessViolation = 2,
    /// Not a packet that makes sense here.
    IllegalOperation = 4,
    /// A packet from a port that has no transfer.
    UnknownTransfer = 5,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// Wants a file.
    Read(ReadRequest),
    /// Wants to store one.
    Write,
    /// Has the blocks up to this number.
    Ack(u16),
    /// Gives up.
    Error {
        /// The code.
        code: u16,
        /// The text, printable and short.
        text: String,
    },
}

/// A request for a file, with the options that this server knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadRequest {
    /// The name without a leading slash, with slashes between folders.
    pub name: String,
    /// The transfer mode, lower case.
    pub mode: String,
    /// Bytes per block.
    pub block_size: Option<u16>,
    /// Present when the client asks for the file's size.
    pub size: bool,
    /// Seconds between repeats.
    pub timeout: Option<u8>,
    /// Blocks per acknowledgement.
    pub window: Option<u16>,
}

/// Why bytes are not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// Too short for its kind.
    #[error("the packet is cut off")]
    CutOff,
    /// An operation code that clients do not send.
    #[error("operation {0} makes no sense from a client")]
    Operation(u16),
    /// The name or the mode is no text.
    #[error("the file name or mode is not readable text")]
    Text,
}

impl FromClient {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`BadPacket`]; unknown or unreadable options are ignored instead.
    pub fn read(bytes: &[u8]) -> Result<Self, BadPacket> {
        let (operation, rest) = split_u16(bytes).ok_or(BadPacket::CutOff)?;
        match operation {
            1 => read_request(rest).map(Self::Read),
            2 => Ok(Self::Write),
            4 => split_u16(rest).map(|(block, _)| Self::Ack(block)).ok_or(BadPacket::CutOff),
            5 => {
                let (code, text) = split_u16(rest).ok_or(BadPacket::CutOff)?;
                Ok(Self::Error { code, text: printable(text) })
            }
            other => Err(BadPacket::Operation(other)),
        }
    }
}

fn read_request(bytes: &[u8]) -> Result<ReadRequest, BadPacket> {
    let mut parts = bytes.split(|b| *b == 0);
    let mut word = || parts.next().filter(|p| !p.is_empty()).map(std::str::from_utf8);
    let name = word().ok_or(BadPacket::CutOff)?.map_err(|_| BadPacket::Text)?;
    let mode = word().ok_or(BadPacket::CutOff)?.map_err(|_| BadPacket::Text)?;
    if name.chars().any(char::is_control) {
        return Err(BadPacket::Text);
    }
    let name = name.replace('\\', "/").trim_start_matches('/').to_owned();
    let mut request = ReadRequest { name, mode: mode.to_ascii_lowercase(), ..ReadRequest::default() };
    while let (Some(Ok(option)), Some(Ok(value))) = (word(), word()) {
        match option.to_ascii_lowercase().as_str() {
            // RFC 2348: 8 to 65464 bytes. RFC 2349: 1 to 255 s. RFC 7440: 1 to 65535 blocks.
            "blksize" => request.block_size = value.parse().ok().filter(|n| (8..=65464).contains(n)),
            "timeout" => request.timeout = value.parse().ok().filter(|n| *n >= 1),
            "windowsize" => request.window = value.parse().ok().filter(|n| *n >= 1),
            "tsize" => request.size = true,
            _ => {}
        }
    }
    Ok(request)
}

/// What stands before the bytes of a block. Blocks count from 1; their number wraps to 0 behind 65535.
#[must_use]
pub fn data_header(block: u64) -> [u8; 4] {
    let [.., high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

/// The options that the server accepts.
#[must_use]
pub fn option_ack(options: &[(&str, u64)]) -> Vec<u8> {
    let mut bytes = vec![0, 6];
    for (name, value) in options {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(value.to_string().as_bytes());
        bytes.push(0);
    }
    bytes
}

/// An error. The text is cut to what small clients hold.
#[must_use]
pub fn error(code: ErrorCode, text: &str) -> Vec<u8> {
    let text = printable(text.as_bytes());
    [&[0, 5], &(code as u16).to_be_bytes()[..], text.as_bytes(), &[0]].concat()
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*head), rest))
}

/// Printable ASCII up to the first NUL: it goes into logs.
fn printable(bytes: &[u8]) -> String {
    let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
    text.iter()
        .take(ERROR_TEXT)
        .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> ReadRequest {
        match FromClient::read(&[b"\0\x01", text].concat()).unwrap() {
            FromClient::Read(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_of_real_roms_are_understood() {
        let edk2 = read(b"k8s-worker.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0");
        assert_eq!((edk2.name.as_str(), edk2.mode.as_str()), ("k8s-worker.efi", "octet"));
        assert_eq!((edk2.block_size, edk2.size, edk2.window), (Some(1468), true, Some(4)));
        let sloppy = read(b"\\boot\\a.efi\0OCTET\0multicast\0\0BLKSIZE\x00512");
        assert_eq!((sloppy.name.as_str(), sloppy.mode.as_str(), sloppy.block_size), ("boot/a.efi", "octet", None));
        let absurd = read(b"a\0octet\0blksize\x007\0timeout\x000\0windowsize\x0099999\0");
        assert_eq!((absurd.block_size, absurd.timeout, absurd.window), (None, None, None));
    }

    #[test]
    fn a_hostile_error_text_is_made_harmless() {
        let bytes = [&[0, 5, 0, 8][..], b"bad\x1b[31m\n", &[b'x'; 300]].concat();
        let FromClient::Error { code, text } = FromClient::read(&bytes).unwrap() else { panic!() };
        assert_eq!((code, text.len()), (8, ERROR_TEXT));
        assert!(text.starts_with("bad?[31m?xxx"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600), operation in 0_u8..8) {
            let _ = FromClient::read(&bytes);
            let _ = FromClient::read(&[&[0, operation], &bytes[..]].concat());
        }
    }
}
