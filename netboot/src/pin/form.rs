//! Tells our own form, in a browser that shows our page, from what another site makes a browser send (CSRF): the request comes
//! from our own origin, and carries a token that only our page has shown.

use aws_lc_rs::{hmac, rand};
use std::{net::IpAddr, time::Duration};
use time::OffsetDateTime;

/// A form may lie open for so long.
const VALID: Duration = Duration::from_secs(30 * 60);

/// Makes and checks tokens, with a key that lives as long as this process.
#[derive(Debug)]
pub struct Tokens {
    key: hmac::Key,
}

impl Tokens {
    /// A new key.
    ///
    /// # Panics
    /// When the system gives no random numbers: then nothing that this service does is safe.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("the system gives random numbers");
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) }
    }

    /// A token for one client's form, `SECONDS.HEX`.
    #[must_use]
    pub fn make(&self, now: OffsetDateTime, client: IpAddr) -> String {
        let until = now.unix_timestamp().saturating_add(VALID.as_secs() as i64);
        format!("{until}.{}", hex::encode(hmac::sign(&self.key, text(until, client).as_bytes())))
    }

    /// True for a token of ours that was made for this client and has not run out.
    #[must_use]
    pub fn is_good(&self, now: OffsetDateTime, client: IpAddr, token: &str) -> bool {
        let Some((until, signature)) = token.split_once('.') else { return false };
        let (Ok(until), Ok(signature)) = (until.parse::<i64>(), hex::decode(signature)) else { return false };
        let left = until.saturating_sub(now.unix_timestamp());
        (0..=VALID.as_secs() as i64).contains(&left)
            && hmac::verify(&self.key, text(until, client).as_bytes(), &signature).is_ok()
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new()
    }
}

fn text(until: i64, client: IpAddr) -> String {
    format!("shelfboot form v1\n{until}\n{client}\n")
}

/// What a request says about where it comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// `Host`.
    pub host: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`; browsers send it only over TLS or to the loopback.
    pub fetch_site: Option<&'a str>,
}

impl Origin<'_> {
    /// True when a browser sent it from a page of this server. `addresses` are the names that this server has, as `Host` writes
    /// them: a name that an attacker's DNS points here is none of them (DNS rebinding).
    #[must_use]
    pub fn is_own(&self, addresses: &[&str]) -> bool {
        let Some(host) = self.host.filter(|host| addresses.iter().any(|own| own.eq_ignore_ascii_case(host))) else {
            return false;
        };
        // Every browser since 2020 sends `Origin` with a form by POST (Fetch standard, section 3.2).
        let own = self.origin.and_then(|origin| origin.strip_prefix("http://"));
        own.is_some_and(|own| own.eq_ignore_ascii_case(host))
            && self.fetch_site.is_none_or(|site| site == "same-origin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn client(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn a_token_is_good_for_one_client_and_for_a_while() {
        let tokens = Tokens::new();
        let token = tokens.make(NOW, client(1));
        assert!(tokens.is_good(NOW, client(1), &token));
        assert!(tokens.is_good(NOW + VALID, client(1), &token));
        assert!(!tokens.is_good(NOW + VALID + Duration::from_secs(1), client(1), &token), "run out");
        assert!(!tokens.is_good(NOW - Duration::from_secs(1), client(1), &token), "from the future");
        assert!(!tokens.is_good(NOW, client(2), &token), "another client's");
        assert!(!Tokens::new().is_good(NOW, client(1), &token), "another key's");
        assert!(!tokens.is_good(NOW, client(1), &token.replace(|c: char| c.is_ascii_alphabetic(), "0")), "forged");
    }

    #[test]
    fn only_our_own_page_may_send_the_form() {
        let own = |host, origin, fetch_site| Origin { host, origin, fetch_site }.is_own(&["10.77.0.2", "10.77.0.2:80"]);
        let (here, ours) = (Some("10.77.0.2"), Some("http://10.77.0.2"));
        assert!(own(here, ours, None) && own(here, ours, Some("same-origin")));
        assert!(!own(here, Some("http://evil.example"), None), "another site");
        assert!(!own(here, Some("https://10.77.0.2"), None), "another scheme");
        assert!(!own(here, Some("null"), None) && !own(here, None, None), "no origin");
        assert!(!own(here, ours, Some("cross-site")));
        assert!(!own(Some("evil.example"), Some("http://evil.example"), None), "a name that only points here");
        assert!(!own(None, ours, None));
    }

    proptest! {
        #[test]
        fn any_token_is_survived(token: String) {
            prop_assert!(!Tokens::new().is_good(NOW, client(1), &token));
        }
    }
}
