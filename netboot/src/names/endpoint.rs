//! `HOST:PORT` of the region, where the host is an address or a name.

use super::{NameError, Names, message};
use std::{fmt, net::SocketAddr, str::FromStr};

/// Where a registrar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// An address or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// It is not `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not ADDRESS:PORT or NAME:PORT")]
pub struct NoEndpoint(String);

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, NoEndpoint> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: address.port() });
        }
        let wrong = || NoEndpoint(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        // 10.0.0.256 is nobody's name.
        let number = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if number || !message::is_name(host) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Endpoint {
    /// Its addresses: at least one.
    ///
    /// # Errors
    /// [`NameError`].
    pub async fn addresses(&self, names: &Names) -> Result<Vec<SocketAddr>, NameError> {
        let found = names.find(&self.host).await?;
        Ok(found.into_iter().map(|address| (address, self.port).into()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_and_names() {
        for good in ["10.0.0.1:7443", "[fd00::1]:7443", "registrar.region.example:7443", "r:1"] {
            assert_eq!(good.parse::<Endpoint>().unwrap().to_string(), good);
        }
        for bad in ["10.0.0.1", "10.0.0.256:1", "r", "r:", "r:0", "r:99999", ":1", "a b:1", "fd00::1:x"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_what_is_taken_comes_back(text in "[a-z0-9.:\\[\\]-]{0,20}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
            }
        }
    }
}
