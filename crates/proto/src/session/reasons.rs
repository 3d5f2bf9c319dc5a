//! Why something does not go on or does not work: for the person who plays, and for the one who programs.

use crate::{NetId, PeerId, Topology};

/// Why a peer is not, or no longer, in the session with us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// It left.
    #[error("left the room")]
    Goodbye,
    /// It was sent away.
    #[error("removed by the leader of the room")]
    Kicked,
    /// We left.
    #[error("this peer left the room")]
    Local,
    /// The session takes no more members.
    #[error("the session is full ({0} players): raise `max_players` on the host, or join another room")]
    Full(u16),
    /// Another version of coplay.
    #[error("N0002: speaks protocol version {theirs}, this peer {ours}: build both with the same release of coplay")]
    Version {
        /// Ours.
        ours: u16,
        /// Theirs.
        theirs: u16,
    },
    /// The game shares other types there.
    #[error("N0001: {0}")]
    Schema(crate::schema::Mismatch),
    /// The other one plays by another topology.
    #[error("N0003: plays as {theirs:?}, this peer as {ours:?}: use the same topology on every peer")]
    Topology {
        /// Ours.
        ours: Topology,
        /// Theirs.
        theirs: Topology,
    },
    /// The other one's ticks are of another length.
    #[error("N0008: runs {theirs} ticks a second, this peer {ours}: use the same tick rate on every peer")]
    TickRate {
        /// Ours.
        ours: u16,
        /// Theirs.
        theirs: u16,
    },
    /// It, or the leader, was there and took nothing for 10 s of what was sent to it, and what waits is kept in order.
    #[error(
        "was cut off: it took nothing of what was sent to it for 10 s: its game stands still, or its link carries nothing"
    )]
    TooSlow,
    /// The link to it is gone.
    #[error("is not connected: {0}")]
    Link(crate::link::CloseReason),
    /// The leader declared it gone.
    #[error("was declared gone by the room's leader")]
    Declared,
    /// The host is gone, and with it the session.
    #[error("the host left: the session is over")]
    HostLeft,
    /// Two sessions of one room met, and this one went over to the other.
    #[error("this session joins another one of the same room")]
    Absorbed,
    /// Nobody who leads a session could be reached.
    #[error("nobody who leads the room could be reached: check that the host runs, and that a TURN server is set up")]
    Unreachable,
    /// The link opened, and the peer did not say which protocol it speaks.
    #[error("connected and said nothing: it is no coplay peer, or does not run")]
    NoHandshake,
    /// It sent what no coplay peer sends.
    #[error("sent what is not of this protocol: {0}")]
    Malformed(&'static str),
}

/// What a rule forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// A write to an entity that the peer does not own, or a claim to own it that nobody confirmed.
    #[error("wrote to {0}, which it does not own")]
    NotOwner(NetId),
    /// An entity in another member's name.
    #[error("made {0} in another's name")]
    NotCreator(NetId),
    /// Input for an entity that it does not control.
    #[error("sent input for {0}, which it does not control")]
    NotController(NetId),
    /// An event in another member's name, or one to be passed on by a peer that is no host.
    #[error("sent an event by a way that only the host's events take")]
    NotHost,
}

/// Why a write, or another change to an entity, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// No living entity has this id.
    #[error("{0} is not alive: spawn another entity instead")]
    Gone(NetId),
    /// Another peer has the authority.
    #[error("this peer does not own {0}: have its owner write, or have it granted first")]
    NotOwner(NetId),
    /// Another peer controls it.
    #[error("this peer does not control {0}: have its owner name this peer as controller")]
    NotController(NetId),
    /// The value does not fit.
    #[error("a value takes {size} bytes, and at most {limit} can be sent: split it over several types")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most it may have: [`super::MAX_VALUE`] or [`super::MAX_INPUT`].
        limit: usize,
    },
    /// The owner's entities have as much state as they may.
    #[error(
        "the entities of one owner can have {limit} bytes of values, and that is reached: despawn some, or share less"
    )]
    StateFull {
        /// The most they may have: [`super::MAX_STATE_BYTES`].
        limit: usize,
    },
    /// The peer that was named is no member.
    #[error("{0} is not in the session")]
    NoMember(PeerId),
}

/// Why an event is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// We are in no session.
    #[error("this peer is in no session: wait until it is admitted")]
    NotAdmitted,
    /// The peer that was named is not in the session, or has not joined yet.
    #[error("{0} is not in the session")]
    NoMember(PeerId),
    /// The entity whose seers it is for is not alive.
    #[error("{0} is not alive: nobody sees it")]
    Gone(NetId),
    /// As much waits for this peer as may. Nothing was sent, to nobody: what was sent before still comes.
    #[error("{peer} has yet to take what was sent to it ({limit} bytes may wait): send less, or this again later")]
    QueueFull {
        /// Whose queue is full. Under a host, guests see that of the host.
        peer: PeerId,
        /// How many bytes may wait: [`super::SessionConfig::send_queue`], or [`crate::link::UNRELIABLE_QUEUE`].
        limit: usize,
    },
    /// The value does not fit.
    #[error("an event takes {size} bytes, and at most {limit} can be sent: split it")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most it may have: [`super::MAX_EVENT`] or [`super::MAX_UNRELIABLE_EVENT`].
        limit: usize,
    },
}
