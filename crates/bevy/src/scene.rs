//! Which entity that every peer loads by itself is which? Those with the same [`SceneId`] are one and not several.

use bevy_ecs::{component::Component, entity::Entity, query::With, reflect::ReflectComponent, world::World};
use bevy_reflect::{Reflect, std_traits::ReflectDefault};

use crate::control::{NetEntity, Shared};

/// Names an entity that every peer makes by itself, from the same level.
///
/// The room's leader (under a host: the host) is its owner. On the other peers the leader's entity is not spawned: their
/// own one with the same number becomes it, and gets the leader's values. When the leader leaves, the next one takes it
/// over as it is.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_coplay::prelude::*;
/// # fn load(mut commands: Commands) {
/// // On every peer, at start:
/// for (number, door) in ["north", "south"].into_iter().enumerate() {
///     commands.spawn((Name::new(door), SceneId(number as u32)));
/// }
/// # }
/// ```
#[derive(Component, crate::Networked, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Reflect)]
#[require(Shared)]
#[net(name = "bevy_coplay::SceneId")]
#[reflect(Component, Clone, Debug, Default, PartialEq, Hash)]
pub struct SceneId(pub u32);

/// This peer's entities of this scene, those without a name in the room first.
pub(crate) fn local(world: &mut World, scene: SceneId) -> Vec<(Entity, Option<NetEntity>)> {
    let mut scenes = world.query_filtered::<(Entity, &SceneId, Option<&NetEntity>), With<Shared>>();
    let same = scenes.iter(world).filter(|(_, id, _)| **id == scene);
    let mut same: Vec<_> = same.map(|(entity, _, name)| (entity, name.copied())).collect();
    same.sort_by_key(|(_, name)| name.is_some());
    same
}
