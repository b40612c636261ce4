//! As much of DER as signatures for firmware need (X.690, 8.1 and 10.1).

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const NULL: &[u8] = &[0x05, 0x00];
pub(crate) const VERSION_1: &[u8] = &[0x02, 0x01, 0x01];
/// id-sha256, 2.16.840.1.101.3.4.2.1.
pub(crate) const SHA256: &[u8] = &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// rsaEncryption, 1.2.840.113549.1.1.1.
pub(crate) const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Tag, length, content.
pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let bytes = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1)..];
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend(parts.concat());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_as_x690_writes_them() {
        assert_eq!(der(4, &[&[0; 127]])[..2], [4, 127]);
        assert_eq!(der(4, &[&[0; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(der(4, &[&[0; 300]])[..4], [4, 0x82, 1, 44]);
    }
}
