//! What two peers have with each other, whichever connection carries it: sequences, acks, round trips, and messages exactly
//! once, in the order of their channel.

mod copies;
mod figures;
mod fleeting;
mod incoming;
mod machine;
mod no_path;
mod outgoing;
mod pacer;
mod path;
mod rate;
mod receipts;
mod received;
mod wire;

use core::time::Duration;

use bytes::Bytes;

use crate::{Channel, Lane};

pub use figures::{Cause, Figures, Quality};
pub use machine::Link;
pub use no_path::NoPath;

/// The most bytes that one datagram of ours has, so that it fits every path's MTU below DTLS and SCTP.
pub const MAX_DATAGRAM: usize = 1150;
/// The most bytes of state that go with one datagram ([`Input::State`]).
pub const MAX_STATE: usize = 1130;
/// The most bytes that one message may have.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// The most bytes that one message of [`Channel::Unreliable`] may have, so that it goes with one datagram.
pub const MAX_UNRELIABLE: usize = 1136;
/// The most bytes of messages of [`Channel::Unreliable`] that wait to be sent, each counted with 8 more.
pub const UNRELIABLE_QUEUE: usize = 16 * 1024;
/// What each of them counts besides its bytes, so that empty ones are not free.
pub(crate) const UNRELIABLE_COST: usize = 8;
/// How long a message of [`Channel::Unreliable`] waits to be sent; then it is dropped.
pub const UNRELIABLE_PATIENCE: Duration = Duration::from_millis(250);

/// What there is room for on the control channel besides [`LinkConfig::send_queue`], so that events never keep out the
/// word that ends them.
pub const CONTROL_RESERVE: usize = MAX_MESSAGE;

/// Bytes a second that a link sends before anything is known of its path: 1.2 Mbit/s. See [`Figures::rate`].
pub const FIRST_RATE: u32 = 150_000;

/// How long a datagram with messages waits for company before it is acked by a datagram of its own.
const MESSAGE_ACK_DELAY: Duration = Duration::from_millis(8);

/// The same for a datagram with state: nothing is repeated for want of that ack, but how much may be sent follows from it.
const STATE_ACK_DELAY: Duration = Duration::from_millis(50);

/// The settings of a link.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Silence after which the peer counts as unresponsive. Default 2 s.
    pub unresponsive: Duration,
    /// Silence after which the peer counts as gone. Default 10 s.
    pub grace: Duration,
    /// Longest time between two datagrams to a peer. Default 250 ms.
    pub keep_alive: Duration,
    /// Most bytes of messages that wait to be sent or acked; [`MAX_MESSAGE`] at the least. Default 1 MiB.
    pub send_queue: usize,
    /// Most bytes of messages that wait to be taken by the session ([`Input::Consumed`]), or for messages before them;
    /// [`MAX_MESSAGE`] at the least. The message that is next in a channel has room besides: up to [`MAX_MESSAGE`] for each
    /// of 18 channels. Default 1 MiB.
    pub receive_queue: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            unresponsive: Duration::from_secs(2),
            grace: Duration::from_secs(10),
            keep_alive: Duration::from_millis(250),
            send_queue: 1 << 20,
            receive_queue: 1 << 20,
        }
    }
}

/// What happens to a link.
#[derive(Clone, Debug)]
pub enum Input {
    /// A datagram came from the peer, on this lane.
    Received(Lane, Bytes),
    /// A frame of the session, at most [`MAX_STATE`] bytes: sent once, when [`Link::poll`] is drained.
    State(Bytes),
    /// A message: delivered exactly once, in order within its channel, unless the [`Channel`] promises less.
    Message(Channel, Bytes),
    /// The session has taken messages with this many bytes. Due for empty ones too.
    Consumed(usize),
    /// Say goodbye, and close when the peer has all messages that were handed over before, a second later at the most.
    Close,
    /// Time has passed: due at the latest at [`Link::deadline`].
    Elapsed,
}

/// What a link wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send these bytes to the peer.
    Transmit(Lane, Bytes),
    /// Tell the session.
    Event(LinkEvent),
}

/// What a link tells the session.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// Both lanes are open (said by whoever opens links, not by the link).
    Opened,
    /// A frame of the other session.
    State(Bytes),
    /// The next message of this channel.
    Message(Channel, Bytes),
    /// The peer has been silent for [`LinkConfig::unresponsive`].
    Unresponsive,
    /// The peer is heard again.
    Responsive,
    /// What the link measured: about every 250 ms, and at once when [`Figures::budget`] is much more or less.
    Figures(Figures),
    /// The link is over.
    Closed(CloseReason),
}

/// Why a link is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer said goodbye.
    #[error("the peer left")]
    Goodbye,
    /// This side closed the link.
    #[error("closed from here")]
    Local,
    /// Nothing was heard for [`LinkConfig::grace`].
    #[error("nothing was heard from the peer for {0:?}")]
    Silent(Duration),
    /// The connection below failed or could not be made.
    #[error("{0}")]
    Failed(String),
    /// No path to the peer was found.
    #[error(transparent)]
    NoPath(NoPath),
    /// The peer sent what no coplay peer sends.
    #[error("the peer sent bytes that are not of this protocol: {0}")]
    Malformed(&'static str),
}

/// Why a link does not take what it is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// [`LinkConfig::send_queue`], or [`UNRELIABLE_QUEUE`], is full. What was handed over before is still sent.
    #[error("as many messages wait for the peer to take them as may ({limit} bytes): send less, or later")]
    QueueFull {
        /// How many bytes may wait.
        limit: usize,
    },
    /// More than [`MAX_STATE`], [`MAX_MESSAGE`] or [`MAX_UNRELIABLE`].
    #[error("{size} bytes are more than the {limit} that can be sent at once: split them")]
    TooLarge {
        /// How many bytes it has.
        size: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The link is closed, or closing.
    #[error("the link to the peer is closed: send nothing until it has joined again")]
    Closed,
}
