//! Do two peers see the same? The shared state of a world, in a form that can be compared bit by bit.

use bevy_ecs::world::World;
use bytes::Bytes;
use coplay_proto::NetId;

use crate::{refs::Refs, registry};

/// The shared state of this world: for each entity of the room its name, and for each of its networked components the
/// type's name and the value as it is sent; in the order of the names.
///
/// Peers that have heard everything have equal snapshots. Read from the components themselves, so that what is still
/// being interpolated differs. Inputs are left out: only an entity's owner and its controller have their values.
pub fn snapshot(world: &mut World) -> Vec<(NetId, Vec<(String, Bytes)>)> {
    let table = registry::table(world);
    let entities: Vec<_> = world.resource::<Refs>().iter().collect();
    entities
        .into_iter()
        .map(|(id, entity)| {
            let value = |component: &dyn crate::component::ComponentType| {
                Some((table.name(component.place()).to_owned(), component.encode(world, entity)?))
            };
            (id, table.components().filter_map(value).collect())
        })
        .collect()
}
