//! What does the server sign, and with what? Passwords of rooms and tokens of seats, with a key that it makes when it
//! starts and tells nobody.
//!
//! By HMAC-SHA1 (RFC 2104; that SHA-1 collides is no weakness of it, RFC 6194, section 3.3), which TURN needs anyway. A
//! slow key derivation would protect hashes that are stolen from a disk; these live in memory for as long as their
//! room, beside the key. It would also hand everyone a way to keep the server busy. Against guessing there are
//! limits by address and by room, see `room/door.rs`.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use coplay_proto::PeerId;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use uuid::Uuid;

use crate::registry::RoomKey;

/// The longest token that is looked at, in bytes; ours have about 220 at most.
const MAX_TOKEN: usize = 512;
/// Bytes of a signature.
const TAG: usize = 20;

/// The key. `Debug` does not show it.
pub(crate) struct Secrets([u8; 32]);

/// A password, as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct PasswordHash {
    salt: Uuid,
    tag: [u8; TAG],
}

/// A seat, as a token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeatName {
    pub(crate) room: RoomKey,
    pub(crate) group: u64,
    pub(crate) peer: PeerId,
}

impl Secrets {
    /// Another key each time.
    pub(crate) fn new() -> Self {
        let mut key = [0; 32];
        // Of the 256 bits, 244 are random (RFC 9562, section 5.4).
        key.iter_mut().zip([Uuid::new_v4(), Uuid::new_v4()].iter().flat_map(|uuid| *uuid.as_bytes())).for_each(
            |(to, from)| {
                *to = from;
            },
        );
        Self(key)
    }

    /// What to keep of a password.
    pub(crate) fn hash(&self, password: &str) -> Option<PasswordHash> {
        let salt = Uuid::new_v4();
        let tag = self.signer("password", &[salt.as_bytes(), password.as_bytes()])?.finalize().into_bytes().into();
        Some(PasswordHash { salt, tag })
    }

    /// Whether this is the password, found out in a time that does not depend on how much of it is right.
    pub(crate) fn is_password(&self, hash: &PasswordHash, password: &str) -> bool {
        self.signer("password", &[hash.salt.as_bytes(), password.as_bytes()])
            .is_some_and(|signer| signer.verify_slice(&hash.tag).is_ok())
    }

    /// What brings a peer back to its seat. It holds for as long as a seat of that peer is there.
    pub(crate) fn token(&self, seat: &SeatName) -> Option<String> {
        let SeatName { room: RoomKey { name, next }, group, peer } = seat;
        let text = format!("{}/{group}/{}/{name}", next.unwrap_or(0), Uuid::from(*peer));
        let mut token = self.signer("seat", &[text.as_bytes()])?.finalize().into_bytes().to_vec();
        token.extend(text.bytes());
        Some(BASE64_URL_SAFE_NO_PAD.encode(token))
    }

    /// The seat that a token is for; `None` if this server did not make the token.
    pub(crate) fn seat(&self, token: &str) -> Option<SeatName> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(Some(token).filter(|token| token.len() <= MAX_TOKEN)?).ok()?;
        let (tag, text) = bytes.split_at_checked(TAG)?;
        self.signer("seat", &[text])?.verify_slice(tag).ok()?;
        let mut parts = std::str::from_utf8(text).ok()?.splitn(4, '/');
        let next = Some(parts.next()?.parse().ok()?).filter(|next| *next > 0);
        let group = parts.next()?.parse().ok()?;
        let peer = PeerId::from(parts.next()?.parse::<Uuid>().ok()?);
        Some(SeatName { room: RoomKey { name: parts.next()?.to_owned(), next }, group, peer })
    }

    fn signer(&self, purpose: &str, parts: &[&[u8]]) -> Option<Hmac<Sha1>> {
        // A key of any length is taken.
        let mut signer = Hmac::<Sha1>::new_from_slice(&self.0).ok()?;
        for part in [purpose.as_bytes()].iter().chain(parts) {
            signer.update(&(part.len() as u64).to_le_bytes());
            signer.update(part);
        }
        Some(signer)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_not_kept() {
        let secrets = Secrets::new();
        let (hash, again) = (secrets.hash("swordfish").unwrap(), secrets.hash("swordfish").unwrap());
        assert!(secrets.is_password(&hash, "swordfish") && secrets.is_password(&again, "swordfish"));
        assert!(!secrets.is_password(&hash, "swordfis") && !secrets.is_password(&hash, ""));
        assert_ne!(hash.tag, again.tag, "the same password of two rooms");
        assert!(!Secrets::new().is_password(&hash, "swordfish"), "another server's key");
    }

    #[test]
    fn a_token_names_its_seat_and_cannot_be_made_elsewhere() {
        let secrets = Secrets::new();
        let seat = |name: &str, next| SeatName {
            room: RoomKey { name: name.into(), next },
            group: 7,
            peer: PeerId::from_u128(u128::MAX),
        };
        for seat in [seat("ABC", None), seat("", Some(2)), seat(&"x".repeat(64), Some(64))] {
            let token = secrets.token(&seat).unwrap();
            assert!(token.len() <= MAX_TOKEN && token.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c)));
            assert_eq!(secrets.seat(&token), Some(seat));
            assert_eq!(Secrets::new().seat(&token), None);
            for at in [0, 10, token.len() - 1] {
                let mut forged = token.clone().into_bytes();
                forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(secrets.seat(std::str::from_utf8(&forged).unwrap()), None, "{at}");
            }
        }
        for nonsense in ["", "A", "€", &"A".repeat(10_000)] {
            assert_eq!(secrets.seat(nonsense), None);
        }
    }
}
