//! What is it like to be in no room? The same, with this peer as the only one.

use bevy_ecs::world::World;
use coplay_proto::PeerId;

use crate::peers;

/// This peer while it is in no room: no signaling server gives this id.
pub(crate) const LOCAL: PeerId = PeerId::from_u128(0);

/// The player of an offline game enters, once the game has started.
pub(crate) fn enter(world: &mut World) {
    peers::enter(world);
}
