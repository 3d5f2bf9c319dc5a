//! What things are called on the wire: peers, members, entities, lanes.

use core::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A peer, as signaling named it. Nobody else can get the id of a peer, which itself keeps it as long as it can prove
/// it, also when it comes back to signaling.
///
/// Shown as the first eight hex digits, which is enough to tell the peers of a room apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerId(Uuid);

impl PeerId {
    /// The id made of these 128 bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The id as 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl From<Uuid> for PeerId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<PeerId> for Uuid {
    fn from(peer: PeerId) -> Self {
        peer.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0.as_u128() >> 96)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A seat in the session: the leader gives a slot to each peer that it admits, and counts its incarnation up each
/// time the slot is given again, so that what a former holder said is never taken for its successor's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId {
    /// The seat, from 0. Small, so that it is short on the wire, and good for colours and spawn points.
    pub slot: u16,
    /// How often the seat was given before.
    pub incarnation: u16,
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.incarnation)
    }
}

/// An entity, named by the member that made it; never used again in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetId {
    /// Who made it.
    pub creator: MemberId,
    /// The creator's count of entities, from 0.
    pub counter: u32,
}

impl fmt::Display for NetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.creator, self.counter)
    }
}

/// One of the two data channels that every link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Data channel 0: unordered, never retransmitted.
    Unreliable,
    /// Data channel 1: reliable and ordered.
    Reliable,
}

/// A stream of messages within a link. What of one is lost does not hold up another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The session's own: handshake, membership. Each message arrives exactly once, in order.
    Control,
    /// The game's events that name no channel: exactly once, in order.
    Events,
    /// The game's events that name this channel: exactly once, in order among themselves.
    Named(EventChannel),
    /// The game's events of which each is delivered as it comes: exactly once.
    Unordered,
    /// The game's events that are sent once, and may be lost.
    Unreliable,
}

/// The number of a channel of events that a game has named: one of the first [`Self::MOST`], from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventChannel(u8);

impl EventChannel {
    /// How many there are.
    pub const MOST: u8 = 15;

    /// The channel with this number. None from [`Self::MOST`] on.
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::MOST { Some(Self(number)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl Channel {
    /// All channels but [`Self::Unreliable`], in their order.
    pub(crate) fn reliable() -> impl Iterator<Item = Self> {
        let named = (0..EventChannel::MOST).map(|number| Self::Named(EventChannel(number)));
        [Self::Control, Self::Events].into_iter().chain(named).chain([Self::Unordered])
    }

    /// All channels of events, in their order.
    pub(crate) fn events() -> impl Iterator<Item = Self> {
        Self::reliable().skip(1).chain([Self::Unreliable])
    }

    /// Whether each of its messages waits for those before it.
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Control | Self::Events | Self::Named(_))
    }
}

/// Who decides in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One peer is the host: it owns what nobody else was given, and passes on what the others own.
    Host,
    /// Every peer owns what it spawned and tells everyone itself.
    #[default]
    Mesh,
}

/// How often the room has changed its leader; the higher term wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u32);

/// A moment on the room's clock, in ticks since the session was founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tick(pub u32);

impl Tick {
    /// How many ticks after another one this is; negative if it is before.
    pub(crate) const fn since(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }
}
