//! What is kept of blobs whose link broke, so that they need not be sent again from the start?

use core::time::Duration;
use std::collections::VecDeque;

use super::{Digest, Offer, blob::Hasher};

/// How much is kept, and for how long.
#[derive(Clone, Debug)]
pub struct ShelfConfig {
    /// How long after its link broke. Default 2 minutes.
    pub time: Duration,
    /// The most bytes of all that is kept. Default 64 MiB.
    pub bytes: usize,
    /// Of the most blobs. Default 16.
    pub number: usize,
}

impl Default for ShelfConfig {
    fn default() -> Self {
        Self { time: Duration::from_secs(120), bytes: 64 << 20, number: 16 }
    }
}

/// The beginnings of blobs, from links that are over. What is offered with the same name, size and digest goes on where it
/// was, whoever offers it: that the whole is what was offered, its digest says.
///
/// Of a blob in chunks the game has the beginning, and only how far it came is kept here.
#[derive(Debug, Default)]
pub struct Shelf {
    config: ShelfConfig,
    /// The oldest first, each with when it was put here.
    kept: VecDeque<(Duration, Kept)>,
}

/// The beginning of a blob.
#[derive(Debug)]
pub struct Kept {
    pub(super) key: Key,
    pub(super) hasher: Hasher,
    pub(super) received: u64,
    /// It, unless it came in chunks.
    pub(super) bytes: Option<Vec<u8>>,
    /// Whether there are chunks of it that the game has not taken.
    pub(super) waits: bool,
}

/// What makes two offers those of one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    name: String,
    size: u64,
    digest: Digest,
}

impl Key {
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }
}

impl From<&Offer> for Key {
    fn from(offer: &Offer) -> Self {
        Self { name: offer.name.clone(), size: offer.size, digest: offer.digest }
    }
}

impl Kept {
    /// How many bytes of it are here.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Whether there are chunks of it that the game has not taken. If it never will, the blob must not go on behind them.
    pub const fn waits(&self) -> bool {
        self.waits
    }

    fn held(&self) -> usize {
        self.bytes.as_ref().map_or(0, Vec::capacity)
    }
}

impl Shelf {
    /// An empty one.
    pub const fn new(config: ShelfConfig) -> Self {
        Self { config, kept: VecDeque::new() }
    }

    /// Keeps the beginning of a blob. The oldest go, if it is too much.
    pub fn put(&mut self, now: Duration, kept: Kept) {
        self.expire(now);
        self.kept.retain(|(_, other)| other.key != kept.key);
        self.kept.push_back((now, kept));
        while self.kept.len() > self.config.number || self.bytes() > self.config.bytes {
            self.kept.pop_front();
        }
    }

    /// Takes what is kept of a blob that is offered, if it is to come the same way as before: whole or in chunks.
    pub fn take(&mut self, now: Duration, offer: &Offer, stream: bool) -> Option<Kept> {
        self.expire(now);
        let key = Key::from(offer);
        let at = self.kept.iter().position(|(_, kept)| kept.key == key && kept.bytes.is_none() == stream)?;
        self.kept.remove(at).map(|(_, kept)| kept)
    }

    /// Forgets what has been kept long enough.
    pub fn expire(&mut self, now: Duration) {
        let time = self.config.time;
        self.kept.retain(|(at, _)| *at + time > now);
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> usize {
        self.kept.iter().map(|(_, kept)| kept.held()).sum()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn offer(name: &str) -> Offer {
        let digest = Digest::of(name.as_bytes());
        Offer { number: 1, name: name.into(), size: 1_000, digest, metadata: Bytes::new() }
    }

    fn kept(name: &str, bytes: Option<usize>) -> Kept {
        let bytes = bytes.map(|bytes| vec![0; bytes]);
        Kept { key: Key::from(&offer(name)), hasher: Hasher::default(), received: 7, bytes, waits: false }
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn what_is_kept_is_found_by_name_size_and_digest_and_once() {
        let mut shelf = Shelf::default();
        shelf.put(secs(1), kept("level", Some(10)));
        for other in [
            offer("other"),
            Offer { size: 999, ..offer("level") },
            Offer { digest: Digest::of(b"another"), ..offer("level") },
        ] {
            assert!(shelf.take(secs(1), &other, false).is_none());
        }
        assert!(shelf.take(secs(1), &offer("level"), true).is_none(), "it did not come in chunks");
        assert_eq!(shelf.take(secs(1), &offer("level"), false).map(|kept| kept.received()), Some(7));
        assert!(shelf.take(secs(1), &offer("level"), false).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded_in_time_number_and_bytes() {
        let config = ShelfConfig { time: secs(10), bytes: 100, number: 3 };
        let mut shelf = Shelf::new(config);
        shelf.put(secs(0), kept("old", Some(10)));
        assert!(shelf.take(secs(10), &offer("old"), false).is_none());
        for name in ["a", "b", "c", "d"] {
            shelf.put(secs(20), kept(name, None));
        }
        assert!(shelf.take(secs(20), &offer("a"), true).is_none(), "three at the most");
        shelf.put(secs(20), kept("e", Some(60)));
        shelf.put(secs(20), kept("f", Some(60)));
        assert_eq!(shelf.bytes(), 60);
        shelf.put(secs(20), kept("huge", Some(101)));
        assert_eq!(shelf.bytes(), 0, "more than all that may be kept is not");
    }
}
