//! How do inputs leave? After the game wrote them, tick by tick, to the owners of what is controlled from here.

use bevy_ecs::world::World;

use crate::{net::Net, registry};

/// Gives the session what the game wrote in [`NetSystems::Input`](crate::NetSystems::Input).
pub(crate) fn say(world: &mut World) {
    if !world.resource::<Net>().is_admitted() {
        return;
    }
    let table = registry::table(world);
    for input in table.inputs() {
        let place = input.place();
        for (entity, value) in input.say(world) {
            let Some(session) = &mut world.resource_mut::<Net>().session else { return };
            if let Err(error) = session.input(entity, place, value) {
                tracing::debug!("input `{}` is not sent: {error}", table.name(place));
            }
        }
    }
    // What the next tick writes is newer than what was said now.
    world.increment_change_tick();
}
