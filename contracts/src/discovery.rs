//! How the agent finds netboot on the LAN: a DHCPDISCOVER with the vendor class [`VENDOR_CLASS`] in option 60;
//! the ProxyDHCP answer carries netboot's base URL in option 43, encapsulated as RFC 2132 section 8.4 says.

/// Option 60 of the agent's DHCPDISCOVER, and of netboot's answer.
pub const VENDOR_CLASS: &str = "shelfboot-agent";

/// Sub-option of option 43 that holds the base URL, for example `http://10.77.0.2`.
const BASE_URL: u8 = 1;

/// Why an option 43 was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The sub-options end in the middle of one.
    #[error("option 43 is cut off at byte {0}")]
    CutOff(usize),
    /// There is no base URL among them.
    #[error("option 43 has no base URL (sub-option 1)")]
    NoBaseUrl,
    /// The base URL is not `http://` with printable ASCII.
    #[error("the base URL in option 43 is not an http:// URL in printable ASCII")]
    BadBaseUrl,
    /// The base URL does not fit into one option.
    #[error("the base URL is {0} bytes long, option 43 holds at most 252")]
    TooLong(usize),
}

/// Encodes the base URL as the content of option 43.
///
/// # Errors
/// [`DiscoveryError::TooLong`] above 252 bytes, [`DiscoveryError::BadBaseUrl`] when it could not be read back.
pub fn encode(base_url: &str) -> Result<Vec<u8>, DiscoveryError> {
    check(base_url)?;
    let length =
        u8::try_from(base_url.len()).ok().filter(|n| *n <= 252).ok_or(DiscoveryError::TooLong(base_url.len()))?;
    let mut out = vec![BASE_URL, length];
    out.extend_from_slice(base_url.as_bytes());
    out.push(255);
    Ok(out)
}

/// Reads the base URL from the content of option 43. Unknown sub-options are skipped.
///
/// # Errors
/// See [`DiscoveryError`].
pub fn decode(option43: &[u8]) -> Result<String, DiscoveryError> {
    let mut at = 0;
    while at < option43.len() {
        match option43[at] {
            0 => at += 1,
            255 => break,
            code => {
                let length = usize::from(*option43.get(at + 1).ok_or(DiscoveryError::CutOff(at))?);
                let value = option43.get(at + 2..at + 2 + length).ok_or(DiscoveryError::CutOff(at))?;
                if code == BASE_URL {
                    let url = std::str::from_utf8(value).map_err(|_| DiscoveryError::BadBaseUrl)?;
                    check(url)?;
                    return Ok(url.to_owned());
                }
                at += 2 + length;
            }
        }
    }
    Err(DiscoveryError::NoBaseUrl)
}

fn check(url: &str) -> Result<(), DiscoveryError> {
    let printable = url.bytes().all(|b| b.is_ascii_graphic());
    if printable && url.len() > "http://".len() && url.starts_with("http://") {
        Ok(())
    } else {
        Err(DiscoveryError::BadBaseUrl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_url_comes_back(host in "[a-z0-9.:]{1,200}") {
            let url = format!("http://{host}");
            prop_assert_eq!(decode(&encode(&url).unwrap()).unwrap(), url);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        assert_eq!(decode(&[1, 10, b'h']), Err(DiscoveryError::CutOff(0)));
        assert_eq!(decode(&[0, 0, 255]), Err(DiscoveryError::NoBaseUrl));
    }
}
