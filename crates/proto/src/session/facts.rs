//! What a session is told, and what it answers: the words of `handle` and `poll`.

use bytes::Bytes;

use super::{Denied, DisconnectReason, TypeId};
use crate::{Channel, MemberId, NetId, PeerId, Tick, link::LinkEvent, signal::Leader};

/// What happens to a session.
#[derive(Clone, Debug)]
pub enum Input {
    /// Signaling let us into a room. `leader` is known where the signaling is ours. Again with another id, if
    /// signaling was lost while we had no links: then we are in no session any more, and seek or found one anew.
    Entered {
        /// Our id.
        me: PeerId,
        /// Who leads, if signaling knows it.
        leader: Option<Leader>,
    },
    /// Signaling says who leads now. Matters only until we are admitted: a running session finds its own successor.
    Leader(Leader),
    /// Something came over the link to this peer.
    Link(PeerId, LinkEvent),
    /// So many bytes of messages wait for this peer now: handed over by [`Output::Message`], and not acked. Those of
    /// [`Channel::Unreliable`] do not count. Due once for each [`Self::Flush`], when all
    /// outputs are taken: until then what was sent before still counts as waiting.
    Waiting(PeerId, usize),
    /// There was no room for a message to this peer ([`crate::link::Refused::QueueFull`]): it is lost. Does not happen
    /// while [`Self::Waiting`] is told and [`Session::relays`](super::Session::relays) is kept to, and is not to be told of
    /// [`Channel::Unreliable`].
    Overflow(PeerId),
    /// The end of one or more ticks of the game: what has changed is to be sent.
    Flush,
    /// Time has passed. Due at least every 100 ms; a [`Self::Flush`] does as well.
    Elapsed,
}

/// What a session wants done, and what it has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Give this frame to the link (`link::Input::State`).
    State(PeerId, Bytes),
    /// Give this message to the link (`link::Input::Message`).
    Message(PeerId, Channel, Bytes),
    /// Close the link to this peer. The session has forgotten the peer already.
    Disconnect(PeerId, DisconnectReason),
    /// What changed, for the game.
    Fact(Fact),
}

/// What changed, for the game: in the order in which it is to be applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// We are in: the session's clock runs and we may spawn. Again after [`DisconnectReason::Absorbed`], with a new seat.
    Admitted(MemberId),
    /// We are out: all members, entities and ids of the session are void, without a fact for each. Nothing more will
    /// come, but after [`DisconnectReason::Absorbed`]: another [`Fact::Admitted`] follows, or another `Closed`.
    Closed(DisconnectReason),
    /// Another member can be played with now.
    Joined {
        /// Who.
        peer: PeerId,
        /// Its seat.
        member: MemberId,
    },
    /// A member that had joined has left. Follows after the despawns of what it owned.
    Left {
        /// Who.
        peer: PeerId,
        /// Its seat, from now on free.
        member: MemberId,
        /// Why.
        reason: DisconnectReason,
    },
    /// A peer that was turned away, or that we cannot play with, and why: it never joined.
    Refused(PeerId, DisconnectReason),
    /// The peer is silent or its link is lost (false), or is heard again (true).
    Responsive(PeerId, bool),
    /// The session has another leader (in a host topology this is the host); maybe us.
    Leader(PeerId),
    /// An entity came into being elsewhere. The components that came with it follow at once.
    Spawned {
        /// Its id.
        entity: NetId,
        /// Who has the authority.
        owner: PeerId,
        /// Who controls it, if anyone.
        controller: Option<PeerId>,
    },
    /// A component of a remote entity has a newer value, or is new on it.
    Written {
        /// Which entity.
        entity: NetId,
        /// Which component.
        component: TypeId,
        /// The value.
        value: Bytes,
        /// The owner's tick at which it was so.
        tick: Tick,
    },
    /// A component of a remote entity is gone.
    Removed(NetId, TypeId),
    /// An entity is gone: for good, but for one whose owner has left just when it was given to another.
    Despawned(NetId),
    /// An entity has another owner; maybe us.
    Owner(NetId, PeerId),
    /// An entity has another controller; maybe us.
    Controller(NetId, Option<PeerId>),
    /// The newest input of the controller of an entity that we own.
    Controlled {
        /// Which entity.
        entity: NetId,
        /// Which input.
        input: TypeId,
        /// The value.
        value: Bytes,
        /// The controller's tick.
        tick: Tick,
    },
    /// An event.
    Event {
        /// Who sent it; maybe us.
        from: PeerId,
        /// Which.
        event: TypeId,
        /// The value.
        value: Bytes,
    },
    /// An event came without an entity that it is about, or not at all.
    Astray {
        /// Who sent it.
        from: PeerId,
        /// Which.
        event: TypeId,
        /// Without which entity.
        entity: NetId,
        /// What became of it.
        astray: Astray,
    },
    /// A record of a peer that a rule forbids, and that had no effect.
    Denied(PeerId, Denied),
}

/// What became of an event whose entity is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Astray {
    /// It was delivered, right after this fact. The entity, or what it was when the event was sent, did not come in time.
    #[error(
        "was delivered before what it is about had come: in two seconds, or before too many events waited or their sender was gone"
    )]
    Early,
    /// It was not delivered: it was only for who sees the entity, which is gone, or never came.
    #[error("was not delivered: it is for those who see an entity that is gone, or did not come in time")]
    Unseen,
}

/// Who an event is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Every member, the sender included, so that one observer serves online and offline.
    #[default]
    Everyone,
    /// Every member but the sender.
    Others,
    /// The leader: the host, in a host topology. Maybe the sender itself.
    Host,
    /// One member; maybe the sender itself.
    Peer(PeerId),
    /// Every member that sees this entity, the sender included: its owner, and who is told of it. Whoever is about to be
    /// told hears the event once that is done.
    Seeing(NetId),
}
