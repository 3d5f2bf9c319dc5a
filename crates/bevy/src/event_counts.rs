//! How many events were not sent, or came without what they are about?

use core::time::Duration;

use bevy_ecs::{resource::Resource, world::World};
use coplay_proto::{
    NetId, PeerId,
    session::{Astray, SendError},
};

use crate::{
    events::UnsentError,
    registry::{Table, Type},
};

/// The least time between two warnings of one kind.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// How many events went another way than most, since the app started. In Bevy's diagnostics, too:
/// [`NetDiagnosticsPlugin`](crate::NetDiagnosticsPlugin).
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Not sent, to nobody: [`Unsent`](crate::Unsent).
    pub unsent: u64,
    /// Delivered here although one of the first eight entities that they name, or its state, had not come: in two seconds,
    /// or before too many events waited or their sender was gone.
    pub early: u64,
    /// Not delivered here: they were for who [sees](crate::Target::Seeing) an entity that is gone, or did not come in time.
    pub unseen: u64,
    /// When there was a warning of an event that was not sent.
    warned: Option<Duration>,
}

impl EventCounts {
    pub(crate) fn unsent(&mut self, now: Duration, name: &str, error: &UnsentError) {
        self.unsent += 1;
        match error {
            UnsentError::Refused(SendError::NoMember(_)) => tracing::debug!("the event `{name}` is not sent: {error}"),
            UnsentError::Refused(SendError::QueueFull { .. }) => {
                if self.warned.is_none_or(|before| before + WARNING_INTERVAL <= now) {
                    self.warned = Some(now);
                    tracing::warn!("the event `{name}` is not sent: {error}");
                }
            }
            _ => tracing::error!("the event `{name}` is not sent: {error}"),
        }
    }
}

/// An event came without what it is about.
pub(crate) fn astray(world: &mut World, table: &Table, from: PeerId, event: Type, entity: NetId, astray: Astray) {
    tracing::debug!("the event `{}` of {from} about {entity} {astray}", table.name(event));
    let counts = &mut *world.resource_mut::<EventCounts>();
    match astray {
        Astray::Unseen => counts.unseen += 1,
        _ => counts.early += 1,
    }
}
