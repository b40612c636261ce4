//! The TPM's endorsement key, by which a machine is known again: made anew from the TPM's seed each time it is asked for, always the same
//! (TPM 2.0 Library, part 1, section 14; TCG EK Credential Profile 2.5, template L-2, ECC P-256). Nothing is kept in the TPM: the
//! kernel's resource manager forgets the object when its device is closed.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
};

/// TPM2_CreatePrimary in the endorsement hierarchy with an empty password (part 3, section 24.1).
#[rustfmt::skip]
const CREATE: [u8; 163] = [
    0x80, 0x02, 0, 0, 0, 163, 0, 0, 0x01, 0x31, // tag with sessions, length, command
    0x40, 0, 0, 0x0b, // TPM_RH_ENDORSEMENT
    0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0, // a password session, empty
    0, 4, 0, 0, 0, 0, // nothing secret goes in
    0, 122, 0, 0x23, 0, 0x0b, 0, 3, 0, 0xb2, // public area: ECC, named by SHA-256, attributes
    0, 32, // the profile's policy
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
    0, 0x06, 0, 0x80, 0, 0x43, 0, 0x10, 0, 0x03, 0, 0x10, // AES-128-CFB, no scheme, P-256, no KDF
    0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // X
    0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // Y
    0, 0, // nothing else goes in
    0, 0, 0, 0, // no PCRs
];
/// The answer holds the key twice and a few hundred bytes more.
const LONGEST: usize = 4096;

/// The key's point, X and Y in hex; `None` where there is no TPM 2.0 that gives it.
#[must_use]
pub fn read() -> Option<String> {
    let mut device = File::options().read(true).write(true).open(Path::new("/dev/tpmrm0")).ok()?;
    device.write_all(&CREATE).ok()?;
    let mut answer = vec![0; LONGEST];
    let length = device.read(&mut answer).ok()?;
    of_answer(&answer[..length])
}

/// The point in the answer to `CREATE`.
#[must_use]
pub fn of_answer(answer: &[u8]) -> Option<String> {
    let mut rest = Rest(answer);
    let (_tag, _length, code) = (rest.take(2)?, rest.take(4)?, rest.take(4)?);
    if code != [0; 4] {
        return None;
    }
    // The object's handle, the length of the parameters, the length of the public area.
    let (_handle, _parameters) = (rest.take(4)?, rest.take(4)?);
    let mut area = Rest(rest.sized()?);
    let (kind, _name, _attributes) = (area.take(2)?, area.take(2)?, area.take(4)?);
    let _policy = area.sized()?;
    // Symmetric algorithm of three words, scheme, curve, KDF: as they went in.
    let as_asked = kind == [0, 0x23] && area.take(12)? == [0, 0x06, 0, 0x80, 0, 0x43, 0, 0x10, 0, 0x03, 0, 0x10];
    let (x, y) = (area.sized()?, area.sized()?);
    let is_point = [x, y].iter().all(|part| !part.is_empty() && part.len() <= 32);
    // A coordinate that begins with zeros may come shorter.
    (as_asked && is_point).then(|| format!("{:0>64}{:0>64}", hex::encode(x), hex::encode(y)))
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// What follows its own length.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([length[0], length[1]])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(x: &[u8], y: &[u8]) -> Vec<u8> {
        let mut area = vec![0, 0x23, 0, 0x0b, 0, 3, 0, 0xb2, 0, 2, 1, 2];
        area.extend([0, 0x06, 0, 0x80, 0, 0x43, 0, 0x10, 0, 0x03, 0, 0x10]);
        for part in [x, y] {
            area.extend((part.len() as u16).to_be_bytes());
            area.extend(part);
        }
        let mut whole = vec![0x80, 0x02, 0, 0, 1, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 1, 0];
        whole.extend((area.len() as u16).to_be_bytes());
        whole.extend(area);
        whole.extend([0; 40]);
        whole
    }

    #[test]
    fn the_command_says_its_own_length_and_that_of_its_public_area() {
        assert_eq!(usize::from(CREATE[5]), CREATE.len());
        let area = CREATE.len() - 35 - 6;
        assert_eq!(usize::from(CREATE[34]), area, "all but what comes before it, and six bytes");
    }

    #[test]
    fn the_point_is_found() {
        // What swtpm 0.7 (libtpms 0.9) answered to these very bytes, twice, with a restart between.
        let real = include_bytes!("../../fuzz/seeds/firmware/endorsement");
        let x = "200a5d99291998bc921d6a30fcf5aa4311af4f8ec42c7e87f9dfa79f7d348f69";
        let y = "706d36cfbd34f62d0e4d242fac6c8cd6746bcaa3a3da57d0f5d1474f213c75e0";
        assert_eq!(of_answer(real), Some(format!("{x}{y}")));
        let found = of_answer(&answer(&[0xab; 32], &[0xcd; 31])).unwrap();
        assert_eq!(found, format!("{}00{}", "ab".repeat(32), "cd".repeat(31)));
        let mut refused = answer(&[1; 32], &[2; 32]);
        refused[9] = 1;
        assert_eq!(of_answer(&refused), None);
        assert_eq!(of_answer(&answer(&[1; 33], &[2; 32])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..200_usize) {
            let _ = of_answer(&bytes);
            let whole = answer(&[1; 32], &[2; 32]);
            let _ = of_answer(&whole[..cut.min(whole.len())]);
            let mut changed = whole;
            for (at, byte) in bytes.iter().enumerate().take(changed.len()) {
                if byte % 16 == 0 {
                    changed[at] = *byte;
                }
            }
            if let Some(point) = of_answer(&changed) {
                prop_assert_eq!(point.len(), 128);
            }
        }
    }
}
