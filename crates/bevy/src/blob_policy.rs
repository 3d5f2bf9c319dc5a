//! Which blobs does this peer take? What is set at start.

use bevy_ecs::resource::Resource;
use coplay_proto::bulk::BulkConfig;

/// Which blobs are taken from peers: `app.insert_resource(BlobPolicy::accept(1 << 20))`, or
/// [`CoplayPlugins::blobs`](crate::CoplayPlugins::blobs). By default none.
///
/// It is read when a room is joined, except whether blobs are accepted, which can be changed at any time.
#[derive(Resource, Clone, Debug)]
pub struct BlobPolicy {
    answer: Answer,
    max_size: u64,
    max_number: usize,
    max_whole: u64,
    max_total: u64,
}

/// What is said to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Refuse,
    Accept,
    Ask,
}

impl Default for BlobPolicy {
    fn default() -> Self {
        Self::refuse()
    }
}

impl BlobPolicy {
    /// None. The sender is told that they are not wanted.
    pub const fn refuse() -> Self {
        Self::new(Answer::Refuse, u64::MAX)
    }

    /// All of at most so many bytes, each handed over as one. [`BlobOffered`](crate::BlobOffered) tells of each before.
    pub const fn accept(max_size: u64) -> Self {
        Self::new(Answer::Accept, max_size)
    }

    /// Those that the game accepts: [`BlobOffered`](crate::BlobOffered) asks, of those of at most so many bytes.
    pub const fn ask(max_size: u64) -> Self {
        Self::new(Answer::Ask, max_size)
    }

    const fn new(answer: Answer, max_size: u64) -> Self {
        Self { answer, max_size, max_number: 8, max_whole: 16 << 20, max_total: 64 << 20 }
    }

    /// How many blobs of one peer may be offered or on their way at once; more wait with the sender. Default 8.
    #[must_use]
    pub const fn max_number(mut self, blobs: usize) -> Self {
        self.max_number = blobs;
        self
    }

    /// Up to how many bytes a blob is handed over as one, which has to be in memory; larger ones come in
    /// [`BlobChunk`](crate::BlobChunk)s. Default 16 MiB.
    #[must_use]
    pub const fn max_whole(mut self, bytes: u64) -> Self {
        self.max_whole = bytes;
        self
    }

    /// How many bytes all blobs that are handed over as one may have, of all peers at once. What is more is refused, and can
    /// be sent later. Default 64 MiB.
    #[must_use]
    pub const fn max_total(mut self, bytes: u64) -> Self {
        self.max_total = bytes;
        self
    }

    pub(crate) const fn answer(&self) -> Answer {
        self.answer
    }

    /// How large a blob may be to be handed over as one, and how much all of those may have.
    pub(crate) const fn room(&self) -> (u64, u64) {
        (self.max_whole, self.max_total)
    }

    /// What each link is to let through.
    pub(crate) fn config(&self) -> BulkConfig {
        let (max_size, max_incoming, max_whole) = (self.max_size, self.max_number, self.max_whole);
        BulkConfig { max_size, max_incoming, max_whole, ..BulkConfig::default() }
    }
}
