//! How is what goes through the relay kept from the relay? Sealed with keys that only the two peers know.
//!
//! Each peer makes an X25519 key (RFC 7748) for each relay and tells it in its hello. HKDF-SHA256 (RFC 5869) over the
//! shared secret gives a key a direction, bound to both peers, both public keys and the room; ChaCha20-Poly1305 (RFC
//! 8439) seals with it. The nonce is a counter that each frame carries, and that must grow from one to the next: what was
//! said before, and what comes out of order, is not opened.
//!
//! The relay can neither read, change, repeat nor invent anything. It could be the other one of the handshake, for both: as
//! with the fingerprints of DTLS, who passes the keys on is trusted with that.

use chacha20poly1305::{
    ChaCha20Poly1305, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use coplay_proto::{PeerId, signal::relay::FrameKind};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

/// What all keys are bound to.
const CONTEXT: &[u8] = b"coplay relay v1";
/// Bytes of the counter before what is sealed.
const COUNTER: usize = 8;

/// A public key.
pub(super) type Public = [u8; 32];

/// One side's key.
pub(super) struct KeyPair {
    secret: StaticSecret,
    pub(super) public: Public,
}

impl KeyPair {
    /// A new one, of the system's randomness; `None` if there is none.
    pub(super) fn fresh() -> Option<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).ok()?;
        Some(Self::from_secret(secret))
    }

    fn from_secret(secret: [u8; 32]) -> Self {
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, public }
    }

    /// What seals for the peer with this public key and opens what it sealed; `None` if that is no key to agree with.
    pub(super) fn agree(&self, theirs: &Public, me: PeerId, peer: PeerId, room: &str) -> Option<(Sealer, Opener)> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*theirs));
        if !shared.was_contributory() {
            return None;
        }
        let (mine, theirs) = ((me, &self.public), (peer, theirs));
        let [low, high] = if me < peer { [mine, theirs] } else { [theirs, mine] };
        let mut info = CONTEXT.to_vec();
        for (id, public) in [low, high] {
            info.extend_from_slice(&id.as_u128().to_be_bytes());
            info.extend_from_slice(public);
        }
        info.extend_from_slice(room.as_bytes());
        let mut keys = [0; 64];
        Hkdf::<Sha256>::new(None, shared.as_bytes()).expand(&info, &mut keys).ok()?;
        let (from_low, from_high) = keys.split_at(32);
        let cipher = |key: &[u8]| ChaCha20Poly1305::new(Key::from_slice(key));
        let [seals, opens] = if me < peer { [from_low, from_high] } else { [from_high, from_low] };
        Some((Sealer { cipher: cipher(seals), next: 0 }, Opener { cipher: cipher(opens), next: 0 }))
    }
}

/// Seals what goes to the peer.
pub(super) struct Sealer {
    cipher: ChaCha20Poly1305,
    next: u64,
}

impl Sealer {
    /// The body of a frame of this kind.
    pub(super) fn seal(&mut self, kind: FrameKind, plain: &[u8]) -> Vec<u8> {
        let counter = self.next;
        self.next += 1;
        let sealed = self.cipher.encrypt(&nonce(counter), Payload { msg: plain, aad: &[kind as u8] });
        let mut body = counter.to_be_bytes().to_vec();
        // It only fails for more bytes than there is memory for.
        body.extend(sealed.unwrap_or_default());
        body
    }
}

/// Opens what comes from the peer.
pub(super) struct Opener {
    cipher: ChaCha20Poly1305,
    /// The least counter that is taken.
    next: u64,
}

impl Opener {
    /// What is in the body of a frame of this kind; `None` if the peer did not seal that, or it came before.
    pub(super) fn open(&mut self, kind: FrameKind, body: &[u8]) -> Option<Vec<u8>> {
        let (counter, sealed) = body.split_at_checked(COUNTER)?;
        let counter = u64::from_be_bytes(counter.try_into().ok()?);
        if counter < self.next {
            return None;
        }
        let plain = self.cipher.decrypt(&nonce(counter), Payload { msg: sealed, aad: &[kind as u8] }).ok()?;
        self.next = counter.checked_add(1)?;
        Some(plain)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = Nonce::default();
    let (_, low) = nonce.split_at_mut(4);
    low.copy_from_slice(&counter.to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId::from_u128(1);
    const B: PeerId = PeerId::from_u128(2);
    const KIND: FrameKind = FrameKind::Reliable;

    fn keys() -> (KeyPair, KeyPair) {
        (KeyPair::from_secret([7; 32]), KeyPair::from_secret([9; 32]))
    }

    /// What `A` seals with, and what `B` opens with, where each thinks that these are the peers and this is the room.
    fn pair(there: (PeerId, PeerId, &str)) -> (Sealer, Opener) {
        let (a, b) = keys();
        let (sealer, _) = a.agree(&b.public, A, B, "room").expect("a key");
        let (_, opener) = b.agree(&a.public, there.0, there.1, there.2).expect("a key");
        (sealer, opener)
    }

    #[test]
    fn what_one_seals_the_other_opens_in_both_directions() {
        let (a, b) = keys();
        let (mut a_seals, mut a_opens) = a.agree(&b.public, A, B, "room").expect("a key");
        let (mut b_seals, mut b_opens) = b.agree(&a.public, B, A, "room").expect("a key");
        for n in 0..3_u8 {
            let (there, back) = (a_seals.seal(KIND, &[n; 5]), b_seals.seal(KIND, &[n; 5]));
            assert_ne!(there, back, "each direction has a key of its own");
            assert_eq!(b_opens.open(KIND, &there), Some(vec![n; 5]));
            assert_eq!(a_opens.open(KIND, &back), Some(vec![n; 5]));
            assert_eq!(b_opens.open(KIND, &back), None, "what one sent itself is nothing to it");
        }
        assert!(!a_seals.seal(KIND, b"a secret").windows(6).any(|bytes| bytes == b"secret"));
    }

    #[test]
    fn keys_are_bound_to_peers_and_room() {
        let (mut sealer, mut opener) = pair((B, A, "room"));
        assert!(opener.open(KIND, &sealer.seal(KIND, b"x")).is_some());
        let other = PeerId::from_u128(3);
        for there in [(B, other, "room"), (other, A, "room"), (B, A, "moor"), (A, B, "room")] {
            let (mut sealer, mut opener) = pair(there);
            assert_eq!(opener.open(KIND, &sealer.seal(KIND, b"x")), None, "{there:?}");
        }
    }

    #[test]
    fn what_came_before_or_is_late_is_not_opened() {
        let (mut sealer, mut opener) = pair((B, A, "room"));
        let frames: Vec<_> = (0..4).map(|n| sealer.seal(KIND, &[n])).collect();
        for (n, opens) in [(1, true), (1, false), (0, false), (3, true), (2, false), (3, false)] {
            assert_eq!(opener.open(KIND, &frames[n]).is_some(), opens, "frame {n}");
        }
    }

    #[test]
    fn no_spoiled_frame_is_opened_and_the_next_good_one_is() {
        let (mut sealer, mut opener) = pair((B, A, "room"));
        let good = sealer.seal(KIND, b"some bytes");
        for bit in 0..good.len() * 8 {
            let mut spoiled = good.clone();
            spoiled[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opener.open(KIND, &spoiled), None, "bit {bit}");
        }
        for length in 0..good.len() {
            assert_eq!(opener.open(KIND, &good[..length]), None, "cut to {length}");
        }
        assert_eq!(opener.open(FrameKind::Unreliable, &good), None, "as another kind");
        assert_eq!(opener.open(KIND, &[&good[..], &[0]].concat()), None, "longer");
        assert!(opener.open(KIND, &good).is_some());
    }

    #[test]
    fn a_key_that_makes_the_secret_known_is_none() {
        let (a, _) = keys();
        let mut one = [0; 32];
        one[0] = 1;
        for low_order in [[0; 32], one] {
            assert!(a.agree(&low_order, A, B, "room").is_none());
        }
        let (one, other) = (KeyPair::fresh().expect("random"), KeyPair::fresh().expect("random"));
        assert_ne!(one.public, other.public);
    }
}
