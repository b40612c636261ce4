//! The questions that netboot itself sends: DISCOVERs of a test client, to learn who answers. It never takes an offer up, so
//! no address is used; a server that reserves what it offers has it back in a minute.

use crate::proto::mac::Mac;

/// Which client the test stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guise {
    /// An ordinary device: DHCP servers answer.
    Device,
    /// x86-64 UEFI firmware: boot servers answer.
    Firmware,
    /// Shelfboot's agent: netboot answers, whatever it knows of the machine.
    Agent,
}

impl Guise {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Device, Self::Firmware, Self::Agent];
}

/// A DISCOVER. Answers are asked for as broadcasts: a card that has other work must not be given an address.
/// `mac` is the card that sends it, since switches with DHCP snooping compare the two.
#[must_use]
pub fn discover(guise: Guise, mac: Mac, xid: u32) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[10] = 0x80;
    bytes[28..34].copy_from_slice(&mac.0);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 57, 2, 5, 192, 55, 8, 1, 3, 43, 54, 60, 66, 67, 97]);
    match guise {
        Guise::Device => {}
        Guise::Firmware => {
            let class = b"PXEClient:Arch:00007:UNDI:003016";
            bytes.extend([60, 32]);
            bytes.extend_from_slice(class);
            bytes.extend_from_slice(&[93, 2, 0, 7, 94, 3, 1, 3, 16, 97, 17, 0]);
            // The GUID of firmware that does not know its own.
            bytes.extend_from_slice(&[0; 16]);
        }
        Guise::Agent => {
            let class = contracts::discovery::VENDOR_CLASS.as_bytes();
            bytes.extend([60, u8::try_from(class.len()).unwrap_or(0)]);
            bytes.extend_from_slice(class);
        }
    }
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dhcp::{
        family::{Arch, Family},
        packet::{MessageType, Packet},
    };

    #[test]
    fn questions_are_what_they_pretend_to_be() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        for (guise, family) in Guise::ALL.into_iter().zip([Family::Other, Family::UefiPxe(Arch::X86_64), Family::Agent])
        {
            let packet = Packet::read(&discover(guise, mac, 7)).unwrap();
            assert_eq!(packet.message_type(), Some(MessageType::Discover));
            assert_eq!((Family::of(&packet), packet.mac(), packet.xid), (family, Some(mac), 7));
            assert_eq!((packet.guid().is_ok(), packet.max_size()), (true, 1472));
        }
    }
}
