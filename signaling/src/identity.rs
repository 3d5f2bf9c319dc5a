//! How does a peer prove which id it had, also to a server that knows nothing of it any more?
//!
//! An id is the hash of a secret that the server draws and tells the peer alone, so no server has to keep anything, nor has
//! it to be the same one. Who has the secret is that peer; to find another secret for the same id takes 2^128 tries.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use coplay_proto::PeerId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Hashed before the secret, so that it is good for nothing else.
const DOMAIN: &[u8] = b"coplay peer id v1";

/// What an id is made of. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdSecret([u8; 16]);

impl IdSecret {
    /// Another one each time. Of the 128 bits, 122 are random (RFC 9562, section 5.4).
    pub(crate) fn new() -> Self {
        Self(Uuid::new_v4().into_bytes())
    }

    /// The secret that a peer shows; `None` if it is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut secret = [0; 16];
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut secret).ok()?;
        (length == secret.len()).then_some(Self(secret))
    }

    /// For the peer alone.
    pub(crate) fn text(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The id that it is the secret of.
    pub(crate) fn id(self) -> PeerId {
        let hash = Sha256::new_with_prefix(DOMAIN).chain_update(self.0).finalize();
        let mut id = [0; 16];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        PeerId::from(Uuid::from_bytes(id))
    }
}

impl fmt::Debug for IdSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_secret_is_the_same_id_for_every_server_and_every_version() {
        // `printf 'coplay peer id v1\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17' | sha256sum`
        let secret = IdSecret(std::array::from_fn(|at| at as u8));
        assert_eq!(Uuid::from(secret.id()).simple().to_string(), "721e7ee2a691f0c71df5e4c166d030e9");
        assert_eq!(IdSecret::read(&secret.text()), Some(secret));
        assert_ne!(IdSecret::new().id(), IdSecret::new().id());
    }

    #[test]
    fn what_is_no_secret_is_none() {
        let text = IdSecret::new().text();
        assert_eq!(text.len(), 22);
        let long = "A".repeat(10_000);
        for bad in ["", "A", "€", &text[1..], &format!("{text}A"), &format!("{text}AA"), &long] {
            assert_eq!(IdSecret::read(bad), None, "{bad:.30}");
        }
    }
}
