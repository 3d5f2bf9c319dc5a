//! Whose credentials are these, and do they hold? Names are `EXPIRY:PEER` and passwords sign them, as coturn has it with
//! `use-auth-secret` (draft-uberti-behave-turn-rest-00), so that nothing is kept of those that were given out.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, SystemTime},
};

use coplay_proto::PeerId;
use stun::{integrity::MessageIntegrity, message::Message};
use uuid::Uuid;

use crate::{Secret, ice::password};

/// What credentials are for, as clients are told (RFC 8489, section 9.2).
pub(crate) const REALM: &str = "coplay";
/// The longest name that is looked at, in bytes: 20 digits, a colon, and a UUID.
const MAX_USERNAME: usize = 57;
/// How many revoked peers are remembered. Beyond that, those are forgotten whose credentials end first.
const MAX_REVOKED: usize = 16_384;

/// Who signed a request.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) peer: PeerId,
    pub(crate) username: String,
    /// How long its credentials hold from now on.
    pub(crate) left: Duration,
    /// To sign the answer with.
    pub(crate) key: Key,
}

/// The key of one client (RFC 8489, section 9.2.2).
#[derive(Clone)]
pub(crate) struct Key(pub(crate) MessageIntegrity);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Checks who signed `request`, which says it is by `username`. `None` if nobody did who may.
pub(crate) fn check(secrets: &[Secret], username: String, request: &mut Message, now: SystemTime) -> Option<Signer> {
    let (peer, left) = peer_of(&username, now)?;
    secrets.iter().find_map(|secret| {
        let password = password(secret, &username)?;
        let key = MessageIntegrity::new_long_term_integrity(username.clone(), REALM.to_owned(), password);
        // Compares in constant time.
        key.check(request).ok()?;
        Some(Signer { peer, username: username.clone(), left, key: Key(key) })
    })
}

/// The peer that a name is for, if it has not expired, and for how long.
fn peer_of(username: &str, now: SystemTime) -> Option<(PeerId, Duration)> {
    if username.len() > MAX_USERNAME {
        return None;
    }
    let (expiry, peer) = username.split_once(':')?;
    let expiry = Duration::from_secs(expiry.parse().ok()?);
    let peer = Uuid::try_parse(peer).ok()?;
    let left = expiry.checked_sub(now.duration_since(SystemTime::UNIX_EPOCH).ok()?)?;
    (!left.is_zero()).then(|| (PeerId::from(peer), left))
}

/// Peers whose credentials do not hold although they have not expired.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    peers: HashSet<PeerId>,
    /// In the order in which their credentials end.
    ends: VecDeque<(SystemTime, PeerId)>,
}

impl Revoked {
    /// Revokes what `peer` has, all of which ends before `end`; later calls have later ends.
    pub(crate) fn add(&mut self, peer: PeerId, end: SystemTime, now: SystemTime) {
        while let Some((end, oldest)) = self.ends.front().copied()
            && (end <= now || self.ends.len() >= MAX_REVOKED)
        {
            self.ends.pop_front();
            self.peers.remove(&oldest);
        }
        if self.peers.insert(peer) {
            self.ends.push_back((end, peer));
        }
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        self.peers.contains(&peer)
    }
}

#[cfg(test)]
mod tests {
    use stun::{
        attributes::ATTR_USERNAME,
        message::{CLASS_REQUEST, METHOD_ALLOCATE, MessageType, Setter},
        textattrs::TextAttribute,
    };

    use super::*;

    const PEER: &str = "00000000-0000-0000-0000-000000000007";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A request of `username` with the password by `secret`.
    fn signed(username: &str, secret: &str) -> Message {
        let password = password(&secret.into(), username).unwrap();
        let key = MessageIntegrity::new_long_term_integrity(username.into(), REALM.into(), password);
        let mut request = Message::new();
        let parts: [Box<dyn Setter>; 3] = [
            Box::new(MessageType::new(METHOD_ALLOCATE, CLASS_REQUEST)),
            Box::new(TextAttribute::new(ATTR_USERNAME, username.into())),
            Box::new(key),
        ];
        request.build(&parts).unwrap();
        request
    }

    fn passes(username: &str, secret: &str, now: u64) -> bool {
        let secrets = ["new".into(), "old".into()];
        let signer = check(&secrets, username.into(), &mut signed(username, secret), at(now));
        if let Some(signer) = &signer {
            assert_eq!((signer.peer, signer.username.as_str()), (PeerId::from_u128(7), username));
            assert_eq!(signer.left, Duration::from_secs(1000 - now));
        }
        signer.is_some()
    }

    #[test]
    fn credentials_hold_until_they_expire_by_either_secret() {
        let name = format!("1000:{PEER}");
        assert!(passes(&name, "new", 999) && passes(&name, "old", 999));
        assert!(!passes(&name, "new", 1000) && !passes(&name, "older", 999));
    }

    #[test]
    fn names_that_nobody_was_given_do_not_hold() {
        let long = format!("{}:{PEER}", "9".repeat(21));
        let vast = format!("{}:{PEER}", "9".repeat(20));
        let none = ["", ":", "1000", "1000:", "1000:x", ":00000000-0000-0000-0000-000000000007", "-1:x", &long, &vast];
        for name in none {
            assert!(!passes(name, "new", 1), "{name}");
        }
    }

    #[test]
    fn a_request_that_was_changed_does_not_hold() {
        let name = format!("1000:{PEER}");
        let request = signed(&name, "new");
        for at_byte in 0..request.raw.len() {
            let mut changed = Message::new();
            let mut raw = request.raw.clone();
            raw[at_byte] ^= 1;
            if changed.unmarshal_binary(&raw).is_ok() {
                assert!(check(&["new".into()], name.clone(), &mut changed, at(1)).is_none(), "byte {at_byte}");
            }
        }
    }

    #[test]
    fn the_revoked_are_forgotten_when_they_could_do_no_more() {
        let mut revoked = Revoked::default();
        let peer = |n: usize| PeerId::from_u128(n as u128);
        revoked.add(peer(1), at(10), at(0));
        revoked.add(peer(1), at(11), at(1));
        assert!(revoked.contains(peer(1)) && !revoked.contains(peer(2)));
        revoked.add(peer(2), at(20), at(10));
        assert!(!revoked.contains(peer(1)) && revoked.contains(peer(2)));
        for n in 3..3 + 2 * MAX_REVOKED {
            revoked.add(peer(n), at(30), at(11));
        }
        assert_eq!((revoked.peers.len(), revoked.ends.len()), (MAX_REVOKED, MAX_REVOKED));
        assert!(revoked.contains(peer(2 + 2 * MAX_REVOKED)), "the newest are kept");
    }
}
