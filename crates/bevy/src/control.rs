//! Whose is an entity? What is networked, who has the authority over it, and who controls it.

use core::any::TypeId;

use bevy_ecs::{
    component::Component,
    entity::Entity,
    lifecycle::{Add, Insert, Remove},
    observer::On,
    query::{Has, With, Without},
    reflect::ReflectComponent,
    resource::Resource,
    system::{Commands, Query, Res, ResMut},
    world::World,
};
use bevy_reflect::{Reflect, std_traits::ReflectDefault};
use coplay_proto::{NetId, PeerId};

use crate::{refs::Refs, room::Room};

/// The entity is networked: every peer of the room has it, with its components of the types that were added by
/// [`add_net`](crate::AppNetExt::add_net).
///
/// Whoever inserts it owns the entity.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Reflect)]
#[reflect(Component, Clone, Debug, Default, PartialEq)]
pub struct Shared;

/// Which player controls the entity: what that player's peer writes to its [`NetInput`](crate::NetInput) components
/// goes to the owner. When the player leaves, the owner despawns the entity.
///
/// Only the owner of the entity inserts or removes it.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Reflect)]
#[component(immutable)]
#[require(Shared)]
#[reflect(opaque)]
#[reflect(Component, Clone, Debug, PartialEq)]
pub struct ControlledBy(pub PeerId);

/// The entity is controlled from here. Kept by the plugin.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Reflect)]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Clone, Debug, Default, PartialEq)]
pub struct Mine;

/// The authority over the entity is here: what is written here is what every peer gets to see. Kept by the plugin.
///
/// What is written to a shared component of an entity without it is undone, with a warning in debug builds.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Reflect)]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Clone, Debug, Default, PartialEq)]
pub struct Owned;

/// The rules of the game are to run on the entity here: what systems in [`Simulate`](crate::Simulate) filter by. Kept
/// by the plugin.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, Reflect)]
#[component(clone_behavior = Ignore)]
#[reflect(Component, Clone, Debug, Default, PartialEq)]
pub struct Simulated;

/// The name by which all peers of the room know the entity. Kept by the plugin, while the entity is known in a room.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Reflect)]
#[component(immutable, clone_behavior = Ignore)]
#[reflect(opaque)]
#[reflect(Component, Clone, Debug, PartialEq)]
pub struct NetEntity(pub(crate) NetId);

impl NetEntity {
    /// The name.
    pub const fn id(self) -> NetId {
        self.0
    }
}

/// The entity belongs to another peer.
#[derive(Component, Clone, Copy, Debug, Default)]
#[component(clone_behavior = Ignore)]
pub(crate) struct Remote;

/// What the game did to shared entities since the last [`NetSystems::Collect`](crate::NetSystems::Collect), apart
/// from writing to components. Verified there against the session, so that the plugin's own doings need no mark.
#[derive(Resource, Debug, Default)]
pub(crate) struct Touched {
    /// Got [`Shared`] and has no name in the room yet.
    pub(crate) shared: Vec<Entity>,
    /// Lost it, or was despawned.
    pub(crate) unshared: Vec<(NetId, Entity)>,
    /// Lost a component of a shared type.
    pub(crate) removed: Vec<(Entity, TypeId)>,
    /// Got, changed or lost its [`ControlledBy`].
    pub(crate) controlled: Vec<Entity>,
}

pub(crate) fn plugin(app: &mut bevy_app::App) {
    app.init_resource::<Touched>()
        .register_type::<Shared>()
        .register_type::<ControlledBy>()
        .register_type::<Mine>()
        .register_type::<Owned>()
        .register_type::<Simulated>()
        .register_type::<NetEntity>()
        .add_observer(share)
        .add_observer(unshare)
        .add_observer(control)
        .add_observer(release);
}

fn share(add: On<Add, Shared>, remote: Query<(), With<Remote>>, mut touched: ResMut<Touched>, mut commands: Commands) {
    if !remote.contains(add.entity) {
        touched.shared.push(add.entity);
        commands.entity(add.entity).try_insert((Owned, Simulated));
    }
}

fn unshare(remove: On<Remove, Shared>, mut refs: ResMut<Refs>, mut touched: ResMut<Touched>, mut commands: Commands) {
    if let Some(id) = refs.forget(remove.entity) {
        touched.unshared.push((id, remove.entity));
    }
    commands.entity(remove.entity).try_remove::<(NetEntity, Owned, Simulated, Remote)>();
}

fn control(
    insert: On<Insert, ControlledBy>,
    controllers: Query<(&ControlledBy, Has<Mine>)>,
    room: Res<Room>,
    mut touched: ResMut<Touched>,
    mut commands: Commands,
) {
    let Ok((controller, mine)) = controllers.get(insert.entity) else { return };
    touched.controlled.push(insert.entity);
    match (controller.0 == room.me(), mine) {
        (true, false) => commands.entity(insert.entity).try_insert(Mine),
        (false, true) => commands.entity(insert.entity).try_remove::<Mine>(),
        _ => return,
    };
}

fn release(remove: On<Remove, ControlledBy>, mut touched: ResMut<Touched>, mut commands: Commands) {
    touched.controlled.push(remove.entity);
    commands.entity(remove.entity).try_remove::<Mine>();
}

/// Changes who the owner is, as this world sees it.
pub(crate) fn set_owned(world: &mut World, entity: Entity, owned: bool) {
    let Ok(mut entity) = world.get_entity_mut(entity) else { return };
    if owned {
        entity.remove::<Remote>().insert((Owned, Simulated));
    } else {
        entity.remove::<(Owned, Simulated)>().insert(Remote);
    }
}

/// Says of what one peer id controls that another does: this peer has got another id.
pub(crate) fn rename(world: &mut World, from: PeerId, to: PeerId) {
    for entity in controlled_by(world, from) {
        world.entity_mut(entity).insert(ControlledBy(to));
    }
}

/// The entities that are owned here and that this peer controls.
pub(crate) fn controlled_by(world: &mut World, peer: PeerId) -> Vec<Entity> {
    let mut controlled = world.query_filtered::<(Entity, &ControlledBy), Without<Remote>>();
    controlled.iter(world).filter(|(_, by)| by.0 == peer).map(|(entity, _)| entity).collect()
}
