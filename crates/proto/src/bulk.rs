//! Files, levels and replays for one peer: offered, accepted, in chunks over the reliable lane, checked at the end.
//!
//! [`Bulk`] is a machine like [`Link`](crate::link::Link), and runs beside it, where bytes arrive. What is sent is a [`Blob`];
//! the other side is told of it by an [`Offer`], and nothing of it moves before the other side accepts.
//!
//! ```
//! use std::time::Duration;
//! use coplay_proto::bulk::{Blob, Bulk, BulkConfig, Fact, Input, Output};
//!
//! let mut now = Duration::ZERO;
//! let (mut one, mut other) = (Bulk::new(now, BulkConfig::default()), Bulk::new(now, BulkConfig::default()));
//! one.handle(now, Input::Send(7, Blob::new("level", "a hill, a tree")));
//! let mut level = None;
//! while level.is_none() {
//!     now += Duration::from_millis(20);
//!     one.handle(now, Input::Elapsed);
//!     while let Some(bytes) = one.transmit(now) {
//!         other.handle(now, Input::Received(bytes));
//!     }
//!     while let Some(output) = other.poll() {
//!         match output {
//!             Output::Fact(Fact::Offered(offer)) => {
//!                 other.handle(now, Input::Accept { number: offer.number, stream: false, kept: None });
//!             }
//!             Output::Fact(Fact::Received { bytes, .. }) => level = bytes,
//!             _ => {}
//!         }
//!     }
//!     while let Some(bytes) = other.transmit(now) {
//!         one.handle(now, Input::Received(bytes));
//!     }
//! }
//! assert_eq!(level.as_deref(), Some(&b"a hill, a tree"[..]));
//! ```

mod blob;
mod incoming;
mod machine;
mod outgoing;
mod shelf;
mod window;
mod wire;

use core::fmt;

use bytes::Bytes;

pub use blob::{Blob, Digest, Source};
pub use machine::Bulk;
pub use shelf::{Kept, Shelf, ShelfConfig};

/// The most bytes of one message on the reliable lane: what every WebRTC implementation passes on in one piece.
pub const MAX_MESSAGE: usize = 16 * 1024;
/// The least bytes that a chunk brings, unless it is the last of its blob.
const MIN_CHUNK: usize = 1024;
/// The most bytes of a blob's name; it has one at least.
pub const MAX_NAME: usize = 128;
/// The most bytes of what is said of a blob besides: [`Blob::metadata`].
pub const MAX_METADATA: usize = 1024;

/// The limits of one side, for one peer.
#[derive(Clone, Debug)]
pub struct BulkConfig {
    /// The largest blob that is taken, in bytes. Default 16 MiB.
    pub max_size: u64,
    /// How many blobs of the peer may be offered or under way at once, those included whose end the game has not taken
    /// yet. Default 8.
    pub max_incoming: usize,
    /// Up to which size a blob is handed over as one; a larger one comes in chunks. Default 16 MiB.
    pub max_whole: u64,
    /// The most bytes of a blob that the peer may send ahead: of what has arrived or, of a blob in chunks, of what the game
    /// has taken. Default 1 MiB, at least [`MAX_MESSAGE`].
    pub receive_window: usize,
    /// How many blobs are offered or under way to the peer at once; the others wait in line. Default 4, at least 1.
    pub outgoing: usize,
    /// How many may wait in line, these included. Default 64.
    pub queue: usize,
    /// The most bytes under way to the peer. As both lanes share one path and one congestion window, less is under way if
    /// more would only make it wait longer: what arrives in one round trip of the idle path, and a quarter more. Default
    /// 1 MiB.
    pub window: usize,
}

impl Default for BulkConfig {
    fn default() -> Self {
        Self {
            max_size: 16 << 20,
            max_incoming: 8,
            max_whole: 16 << 20,
            receive_window: 1 << 20,
            outgoing: 4,
            queue: 64,
            window: 1 << 20,
        }
    }
}

/// A blob of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobId {
    /// One that this side sends, by the number that it was given with [`Input::Send`].
    Out(u64),
    /// One that the peer sends, by [`Offer::number`].
    In(u64),
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Out(number) => write!(f, "out {number}"),
            Self::In(number) => write!(f, "in {number}"),
        }
    }
}

/// What the peer says of a blob that it would send. None of it is to be believed before the blob is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The peer's number for it. Never the same twice on one link.
    pub number: u64,
    /// What the peer calls it, 1 to [`MAX_NAME`] bytes. Whoever makes a path of it checks it first.
    pub name: String,
    /// How many bytes it has.
    pub size: u64,
    /// What its bytes come down to. A blob that does not is not handed over.
    pub digest: Digest,
    /// What else is said of it, at most [`MAX_METADATA`] bytes.
    pub metadata: Bytes,
}

/// What happens to a machine.
#[derive(Debug)]
pub enum Input {
    /// A message came from the peer, on the reliable lane: see [`Bulk::malformed`].
    Received(Bytes),
    /// Send this blob to the peer, under this number, which was not used before. Its end is a [`Fact::Sent`] or a
    /// [`Fact::Failed`].
    Send(u64, Blob),
    /// Take the peer's blob.
    Accept {
        /// [`Offer::number`].
        number: u64,
        /// Whether it is to come in chunks, however small it is.
        stream: bool,
        /// What is kept of it from before, by [`Shelf::take`].
        kept: Option<Kept>,
    },
    /// Do not take it.
    Refuse(u64, Refusal),
    /// Send or take no more of it.
    Cancel(BlobId),
    /// The game has taken so many facts about blobs of the peer, [`Fact::Progress`] not counted.
    Taken(usize),
    /// The peer is reached by another path than before, which takes so many bytes a second of blobs. `None`: as many as get
    /// through.
    Path(Option<u32>),
    /// The reliable lane begins anew: the peer is reached by another connection, and what was on its way is lost. Blobs go
    /// on from where they are there; nobody but the two machines hears of it.
    Anew,
    /// The link is over. What was not at its end fails; what is kept of it comes as [`Output::Keep`].
    Closed,
    /// Time has passed: due at the latest at [`Bulk::deadline`].
    Elapsed,
}

/// What a machine wants done.
#[derive(Debug)]
pub enum Output {
    /// Tell the game.
    Fact(Fact),
    /// Put this on the [`Shelf`].
    Keep(Kept),
}

/// What a machine tells of blobs.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// The peer would send a blob. [`Input::Accept`] or [`Input::Refuse`] is due, some time.
    Offered(Offer),
    /// So many bytes of a blob are there: at its start, which says whether something was there before, and then about ten
    /// times a second while it moves.
    Progress {
        /// Which.
        blob: BlobId,
        /// So many bytes are with the receiver.
        bytes: u64,
        /// Of so many.
        size: u64,
    },
    /// The next bytes of a blob that comes in chunks. Whether it is what the peer has, [`Self::Received`] says.
    Chunk {
        /// [`Offer::number`].
        number: u64,
        /// Where in the blob they belong: where those before it ended. The first may be beyond 0: see [`Shelf`].
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// All of a blob is here, and is what the peer has.
    Received {
        /// [`Offer::number`].
        number: u64,
        /// It, unless it came in chunks.
        bytes: Option<Bytes>,
    },
    /// The peer has all of a blob.
    Sent {
        /// The number from [`Input::Send`].
        number: u64,
    },
    /// A blob does not arrive.
    Failed {
        /// Which.
        blob: BlobId,
        /// Why.
        failure: Failure,
    },
}

impl Fact {
    /// Which blob it is about.
    pub const fn blob(&self) -> BlobId {
        match self {
            Self::Offered(offer) => BlobId::In(offer.number),
            Self::Progress { blob, .. } | Self::Failed { blob, .. } => *blob,
            Self::Chunk { number, .. } | Self::Received { number, .. } => BlobId::In(*number),
            Self::Sent { number } => BlobId::Out(*number),
        }
    }

    /// Whether it is the last one about its blob.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Received { .. } | Self::Sent { .. } | Self::Failed { .. })
    }

    /// Whether it counts for [`Input::Taken`].
    pub const fn is_to_be_taken(&self) -> bool {
        matches!(self.blob(), BlobId::In(_)) && !matches!(self, Self::Progress { .. })
    }
}

/// Why a blob is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It has more bytes than the receiver takes.
    #[error("the receiver takes no blob of more than {limit} bytes: send less, or by another way such as HTTP")]
    TooLarge {
        /// How many it takes.
        limit: u64,
    },
    /// There are as many as the receiver takes at once.
    #[error("the receiver takes no more than {limit} blobs at once: send it later")]
    TooMany {
        /// How many it takes.
        limit: u64,
    },
    /// The receiver has no room for it now.
    #[error("the receiver has no room for it now: send it later")]
    Busy,
    /// The receiver does not want it.
    #[error("the receiver does not want it")]
    Unwanted,
}

/// Why a blob was not sent at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// The name is empty, or longer than [`MAX_NAME`].
    #[error("a blob's name has 1 to {MAX_NAME} bytes: choose another")]
    Name,
    /// More than [`MAX_METADATA`].
    #[error("what is said of a blob besides has at most {MAX_METADATA} bytes: put more into the blob")]
    Metadata,
    /// As many wait in line as may: [`BulkConfig::queue`].
    #[error("{limit} blobs wait for this peer already: send it when one of them is through")]
    QueueFull {
        /// How many may.
        limit: usize,
    },
    /// There is no link to the peer.
    #[error("there is no link to this peer: wait until it has joined; under a host, guests have one to the host alone")]
    NotConnected,
}

/// Why a blob does not arrive, or is not known to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It was not sent.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
    /// The peer did not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was cancelled, or refused, on this side.
    #[error("it was cancelled here")]
    Cancelled,
    /// It was cancelled on the other side.
    #[error("the peer cancelled it")]
    CancelledByPeer,
    /// What arrived is not what was offered.
    #[error("what arrived is not what was offered: its bytes changed while they were read, or the peer is not honest")]
    Damaged,
    /// What the sender reads it from failed.
    #[error("the sender cannot read it: {0}")]
    Unreadable(String),
    /// The link to the peer is over. On the sender's side the blob may have arrived all the same, if all of it was sent.
    #[error(
        "the link to the peer is over: send it again when there is one, and what has arrived need not be sent again"
    )]
    Disconnected,
}
