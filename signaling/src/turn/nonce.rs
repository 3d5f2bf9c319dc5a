//! Which nonces does this server take back (RFC 8489, section 9.2)? Those that it signed, for the same client, within an
//! hour. They are not remembered, so that being asked for many of them costs nothing.

use std::{net::SocketAddr, time::Duration};

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// How long a nonce holds. RFC 8489, section 14.11 wants it to change at least once an hour.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// Hexadecimal digits of the time in a nonce, and of the signature after it.
const TIME: usize = 8;
const SIGNATURE: usize = 20;

/// Makes nonces and knows its own.
#[derive(Debug)]
pub(crate) struct Nonces(Hmac<Sha1>);

impl Nonces {
    /// With a key that nobody else knows; `None` if no key can be made of it.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(key).ok().map(Self)
    }

    /// A nonce for `client`, at `age` since this server started.
    pub(crate) fn issue(&self, client: SocketAddr, age: Duration) -> String {
        let time = format!("{:0TIME$x}", age.as_secs() as u32);
        let signature = self.sign(client, &time);
        time + &signature
    }

    /// Whether `nonce` was issued to `client`, not too long before `age`.
    pub(crate) fn holds(&self, nonce: &str, client: SocketAddr, age: Duration) -> bool {
        let Some((time, signature)) = nonce.split_at_checked(TIME) else { return false };
        let Ok(issued) = u32::from_str_radix(time, 16) else { return false };
        let since = age.checked_sub(Duration::from_secs(issued.into()));
        since.is_some_and(|since| since < LIFETIME) && self.sign(client, time) == signature
    }

    fn sign(&self, client: SocketAddr, time: &str) -> String {
        let mut signer = self.0.clone();
        signer.update(time.as_bytes());
        signer.update(client.to_string().as_bytes());
        let digest = signer.finalize().into_bytes();
        digest.iter().take(SIGNATURE / 2).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_holds_for_its_client_for_an_hour() {
        let nonces = Nonces::new(b"key").unwrap();
        let client: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let at = Duration::from_secs;
        let nonce = nonces.issue(client, at(100));
        assert_eq!(nonce.len(), TIME + SIGNATURE);
        assert!(nonces.holds(&nonce, client, at(100)) && nonces.holds(&nonce, client, at(100 + 3_599)));
        assert!(!nonces.holds(&nonce, client, at(100 + 3_600)), "too old");
        assert!(!nonces.holds(&nonce, client, at(99)), "not yet issued");
        assert!(!nonces.holds(&nonce, "192.0.2.1:5001".parse().unwrap(), at(100)), "another client's");
        assert!(!Nonces::new(b"other").unwrap().holds(&nonce, client, at(100)), "another server's");
    }

    #[test]
    fn what_is_no_nonce_does_not_hold() {
        let nonces = Nonces::new(b"key").unwrap();
        let client: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let good = nonces.issue(client, Duration::from_secs(1));
        let long = format!("{good}0");
        for bad in ["", "x", "0000000", "00000001", "+0000001", "äöüäöü", &good[..27], &long] {
            assert!(!nonces.holds(bad, client, Duration::from_secs(2)), "{bad}");
        }
    }
}
