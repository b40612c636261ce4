//! Writes answers that every firmware in the field accepts.
//!
//! - Header fields and options carry the same facts: EDK2 reads option 67 first, U-Boot and shim only the header.
//! - Option 67 ends with a NUL inside its length: EDK2 writes one behind it otherwise, over the next option.
//! - Options 53 and 54 are always there: EDK2 throws away an offer without a server id before its boot code
//!   sees it, and takes one without 53 for BOOTP.
//! - No overload, no PAD between options, at least 300 bytes in all: weak parsers and old relays need it.
//! - `yiaddr` stays 0: the address comes from the store's own DHCP server.
//! - The client's machine identifier (97) goes back as it came, relay information (82) too, and last.

use super::packet::{Packet, code};
use dhcproto::{
    Encodable, Encoder,
    v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode, UnknownOption},
};
use std::net::Ipv4Addr;

/// BOOTP's size; older relays and ROMs drop less.
const LEAST: usize = 300;
/// IPv4 and UDP headers, which option 57 counts in.
const HEADERS: usize = 28;
/// EDK2's HTTP Boot driver drops offers above this, and so may others.
const MOST: usize = 1472;

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// True for the ACK on port 4011, false for an offer.
    pub ack: bool,
    /// This server, reachable on the client's link.
    pub server: Ipv4Addr,
    /// The vendor class that the client expects back.
    pub class: &'static str,
    /// The boot file's name or URL.
    pub file: Option<String>,
    /// Content of option 43.
    pub vendor: Option<Vec<u8>>,
    /// Whether the answer is broadcast on this link; relayed answers keep the client's flags.
    pub broadcast: bool,
}

/// Why an answer cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The client would drop it.
    #[error("the answer has {bytes} bytes, this client takes {most}")]
    TooLarge {
        /// Size of the answer.
        bytes: usize,
        /// What the client takes.
        most: usize,
    },
    /// The encoder refused.
    #[error("the answer cannot be encoded: {0}")]
    Encode(String),
}

impl Answer {
    /// Writes the answer to a request.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] when the client would drop it.
    pub fn write(&self, to: &Packet) -> Result<Vec<u8>, WriteError> {
        let address = to.chaddr.get(..usize::from(to.hlen)).unwrap_or_default();
        let unset = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(to.xid, to.ciaddr, unset, self.server, to.giaddr, address);
        let flags = if self.broadcast { to.flags | 0x8000 } else { to.flags };
        message.set_opcode(Opcode::BootReply).set_htype(HType::from(to.htype)).set_flags(flags.into());
        self.write_options(&mut message, to);
        let mut bytes = Vec::with_capacity(512);
        message.encode(&mut Encoder::new(&mut bytes)).map_err(|e| WriteError::Encode(e.to_string()))?;
        bytes.resize(bytes.len().max(LEAST), 0);
        let most = (to.max_size() - HEADERS).min(MOST);
        if bytes.len() > most { Err(WriteError::TooLarge { bytes: bytes.len(), most }) } else { Ok(bytes) }
    }

    fn write_options(&self, message: &mut Message, to: &Packet) {
        let kind = if self.ack { MessageType::Ack } else { MessageType::Offer };
        let mut options = vec![
            DhcpOption::MessageType(kind),
            DhcpOption::ServerIdentifier(self.server),
            DhcpOption::ClassIdentifier(self.class.as_bytes().to_vec()),
        ];
        if let Some(file) = &self.file {
            let server = self.server.to_string();
            message.set_sname(server.as_bytes());
            // The header's field ends with a NUL too, so 127 characters fit; a longer URL goes into option 67 alone.
            if file.len() < 128 {
                message.set_fname(file.as_bytes());
            }
            options.push(DhcpOption::TFTPServerName(server.into_bytes()));
            options.push(DhcpOption::BootfileName([file.as_bytes(), b"\0"].concat()));
        }
        options.extend(self.vendor.clone().map(DhcpOption::VendorExtensions));
        options.extend(to.option(code::GUID).map(|v| DhcpOption::ClientMachineIdentifier(v.to_vec())));
        for echoed in [code::CLIENT_ID, code::RELAY] {
            let code = OptionCode::from(echoed);
            options.extend(to.option(echoed).map(|v| DhcpOption::Unknown(UnknownOption::new(code, v.to_vec()))));
        }
        for option in options {
            message.opts_mut().insert(option);
        }
    }
}
