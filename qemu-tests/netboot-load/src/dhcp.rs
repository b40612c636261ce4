//! The DHCP packets of UEFI PXE, as far as a boot server beside another DHCP server sees them.

use std::net::Ipv4Addr;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Fixed part of a packet with the cookie (RFC 2131, section 2).
const FIXED: usize = 240;

/// The MAC address of a machine, counted from 0. Locally administered.
#[must_use]
pub fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [0x02, 0x5b, a, b, c, d]
}

fn packet(number: u32, kind: u8, address: Ipv4Addr, broadcast: bool, more: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![0; FIXED];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[4..8].copy_from_slice(&number.to_be_bytes());
    packet[10] = if broadcast { 0x80 } else { 0 };
    packet[12..16].copy_from_slice(&address.octets());
    packet[28..34].copy_from_slice(&mac(number));
    packet[236..].copy_from_slice(&COOKIE);
    packet.extend([53, 1, kind]);
    packet.extend([57, 2, 0x05, 0xc0]);
    let class = b"PXEClient:Arch:00007:UNDI:003016";
    packet.extend([60, u8::try_from(class.len()).unwrap_or(0)]);
    packet.extend(class);
    packet.extend([93, 2, 0, 7, 94, 3, 1, 3, 16]);
    packet.extend([97, 17, 0]);
    packet.extend([0x11; 12]);
    packet.extend(number.to_be_bytes());
    packet.extend([55, 6, 1, 3, 43, 60, 66, 67]);
    more.iter().for_each(|option| packet.extend(*option));
    packet.push(255);
    packet
}

/// DHCPDISCOVER of a machine's firmware.
#[must_use]
pub fn discover(number: u32) -> Vec<u8> {
    packet(number, 1, Ipv4Addr::UNSPECIFIED, true, &[])
}

/// The request to port 4011, once the machine has an address.
#[must_use]
pub fn boot_request(number: u32, address: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d] = server.octets();
    packet(number, 3, address, false, &[&[54, 4, a, b, c, d]])
}

/// What a boot server's answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which machine it is for.
    pub number: u32,
    /// Message type: 2 offer, 5 acknowledgement.
    pub kind: u8,
    /// Whether the class is `PXEClient`.
    pub pxe: bool,
    /// The boot file's name.
    pub file: String,
    /// Where it is.
    pub server: Ipv4Addr,
}

/// Reads an answer; none when it is none to a machine.
#[must_use]
pub fn answer(packet: &[u8]) -> Option<Answer> {
    if packet.len() < FIXED || packet[0] != 2 || packet[236..240] != COOKIE {
        return None;
    }
    let number = u32::from_be_bytes(packet[4..8].try_into().ok()?);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
    let server = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[20..24]).ok()?);
    let mut answer = Answer { number, kind: 0, pxe: false, file: text(&packet[108..236]), server };
    let mut rest = &packet[FIXED..];
    while let [code, tail @ ..] = rest {
        match code {
            0 => rest = tail,
            255 => break,
            _ => {
                let (length, tail) = tail.split_first()?;
                let (value, tail) = tail.split_at_checked(usize::from(*length))?;
                match code {
                    53 => answer.kind = *value.first()?,
                    60 => answer.pxe = value.starts_with(b"PXEClient"),
                    67 => answer.file = text(value),
                    _ => {}
                }
                rest = tail;
            }
        }
    }
    (packet[28..34] == mac(number)).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_a_cut_one_is_not() {
        let mut packet = discover(7);
        assert_eq!(answer(&packet), None, "a request is no answer");
        packet[0] = 2;
        packet[20..24].copy_from_slice(&[10, 0, 0, 1]);
        packet[108..113].copy_from_slice(b"a.efi");
        let read = answer(&packet).unwrap();
        assert_eq!((read.number, read.kind, read.pxe, read.file.as_str()), (7, 1, true, "a.efi"));
        assert_eq!(read.server, Ipv4Addr::new(10, 0, 0, 1));
        for length in 0..packet.len() - 1 {
            let _ = answer(&packet[..length]);
        }
        packet[33] = 9;
        assert_eq!(answer(&packet), None, "another machine's");
    }
}
