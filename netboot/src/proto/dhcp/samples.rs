//! Hand-made packets in the shape that real clients send, for tests.

use std::net::Ipv4Addr;

#[derive(Debug, Clone)]
pub(crate) struct Sample {
    header: Vec<u8>,
    options: Vec<(u8, Vec<u8>)>,
}

pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0xbb, 1];
pub(crate) const GUID: [u8; 16] = [7; 16];

impl Sample {
    pub(crate) fn discover(class: &[u8]) -> Self {
        let mut header = vec![0; 236];
        header[..4].copy_from_slice(&[1, 1, 6, 0]);
        header[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        header[10] = 0x80;
        header[28..34].copy_from_slice(&MAC);
        let sample = Self { header, options: vec![(53, vec![1])] };
        if class.is_empty() { sample } else { sample.option(60, class) }
    }

    /// What OVMF's PXE driver broadcasts.
    pub(crate) fn edk2_pxe() -> Self {
        let mut guid = vec![0];
        guid.extend_from_slice(&GUID);
        Self::discover(b"PXEClient:Arch:00007:UNDI:003016")
            .option(57, &[0x05, 0xc0])
            .option(55, &[1, 3, 43, 54, 60, 66, 67, 97])
            .option(97, &guid)
            .option(94, &[1, 3, 16])
            .option(93, &[0, 7])
    }

    /// What the PXE ROM of a BIOS machine broadcasts.
    pub(crate) fn bios_pxe() -> Self {
        Self::edk2_pxe().option(60, b"PXEClient:Arch:00000:UNDI:002001").option(93, &[0, 0])
    }

    /// What iPXE broadcasts on a BIOS machine.
    pub(crate) fn bios_ipxe() -> Self {
        Self::bios_pxe().option(77, b"iPXE").option(175, &[0xb1, 0, 1, 1])
    }

    /// What OVMF's HTTP Boot driver broadcasts.
    pub(crate) fn edk2_http() -> Self {
        Self::edk2_pxe().option(60, b"HTTPClient:Arch:00016:UNDI:003016").option(93, &[0, 16])
    }

    /// What OVMF's PXE driver sends to port 4011 after an offer without boot options.
    pub(crate) fn edk2_4011(ciaddr: Ipv4Addr) -> Self {
        Self::edk2_pxe().option(53, &[3]).ciaddr(ciaddr)
    }

    /// Sets an option, in place of an earlier one of this code.
    pub(crate) fn option(mut self, code: u8, value: &[u8]) -> Self {
        match self.options.iter_mut().find(|(c, _)| *c == code) {
            Some(old) => old.1 = value.to_vec(),
            None => self.options.push((code, value.to_vec())),
        }
        self
    }

    /// Adds a further piece of an option (RFC 3396).
    pub(crate) fn piece(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec()));
        self
    }

    pub(crate) fn without(mut self, code: u8) -> Self {
        self.options.retain(|(c, _)| *c != code);
        self
    }

    pub(crate) fn ciaddr(mut self, address: Ipv4Addr) -> Self {
        self.header[12..16].copy_from_slice(&address.octets());
        self
    }

    pub(crate) fn yiaddr(mut self, address: Ipv4Addr) -> Self {
        self.header[16..20].copy_from_slice(&address.octets());
        self
    }

    pub(crate) fn giaddr(mut self, address: Ipv4Addr) -> Self {
        self.header[24..28].copy_from_slice(&address.octets());
        self
    }

    pub(crate) fn mac(mut self, mac: [u8; 6]) -> Self {
        self.header[28..34].copy_from_slice(&mac);
        self
    }

    pub(crate) fn xid(mut self, xid: u32) -> Self {
        self.header[4..8].copy_from_slice(&xid.to_be_bytes());
        self
    }

    pub(crate) fn flags(mut self, flags: u16) -> Self {
        self.header[10..12].copy_from_slice(&flags.to_be_bytes());
        self
    }

    /// EDK2 in "send GUID" mode: the GUID takes the hardware address's place.
    pub(crate) fn guid_for_address(mut self) -> Self {
        self.header[2] = 16;
        self.header[28..44].copy_from_slice(&GUID);
        self
    }

    pub(crate) fn op(mut self, op: u8) -> Self {
        self.header[0] = op;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        bytes.extend_from_slice(&[99, 130, 83, 99]);
        for (code, value) in &self.options {
            bytes.push(*code);
            bytes.push(u8::try_from(value.len()).unwrap());
            bytes.extend_from_slice(value);
        }
        bytes.push(255);
        bytes
    }
}
