//! Who is an event for?

use bevy_ecs::entity::Entity;
use coplay_proto::{PeerId, session};

use crate::refs::Refs;

/// Who an event is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Every peer, this one included, so that one observer serves online and offline.
    #[default]
    Everyone,
    /// Every peer but this one.
    Others,
    /// The host, or in a mesh whoever leads. Maybe this peer.
    Host,
    /// One peer; maybe this one.
    Peer(PeerId),
    /// Every peer that sees this entity, this one included: its owner, and who is told of it. It is to be
    /// [`Shared`](crate::Shared), may be brand-new, and need not be owned here. Whoever does not see it, or no more when the
    /// event comes, does not hear of it.
    Seeing(Entity),
}

impl Target {
    /// As the session says it. The error is an entity that has no name.
    pub(crate) fn resolve(self, refs: &Refs) -> Result<session::Target, Entity> {
        Ok(match self {
            Self::Everyone => session::Target::Everyone,
            Self::Others => session::Target::Others,
            Self::Host => session::Target::Host,
            Self::Peer(peer) => session::Target::Peer(peer),
            Self::Seeing(entity) => session::Target::Seeing(refs.name(entity).ok_or(entity)?),
        })
    }
}
