//! How do the entities of other peers come into this world? Whole, so that an observer of one component finds the rest.

use core::any::TypeId;
use std::sync::Arc;

use bevy_ecs::{
    entity::Entity,
    hierarchy::{ChildOf, Children},
    world::World,
};
use bytes::Bytes;
use coplay_proto::{NetId, PeerId, Tick, session::Session};

use crate::{
    absent::{Absent, Cause, PATIENCE, Wait},
    apply::arrival,
    child::Child,
    component::decode,
    control::{ControlledBy, NetEntity, Owned, Remote, Shared, Simulated, Touched},
    net::{Clock, Net},
    part::{self, Part},
    refs::Refs,
    registry::{Table, Type},
    room::Room,
    scene::{self, SceneId},
};

/// An entity came into being elsewhere, with these values.
pub(crate) fn spawn(
    world: &mut World,
    table: &Arc<Table>,
    id: NetId,
    owner: PeerId,
    controller: Option<PeerId>,
    values: Vec<(Type, Bytes, Tick)>,
) {
    if let Some(cause) = obstacle(world, table, owner, &values) {
        let until = world.resource::<Clock>().now + PATIENCE;
        if world.resource_mut::<Absent>().insert(id, Wait { until, cause, entity: None }) {
            return;
        }
    }
    place(world, table, id, owner, controller, &values, None);
}

/// Something is new about an entity that is not in the world: perhaps what it waits for.
pub(crate) fn again(world: &mut World, table: &Arc<Table>, id: NetId) {
    let waits = world.resource::<Absent>().get(id).is_some_and(|wait| wait.cause != Cause::Time);
    let Some(owner) = world.resource::<Net>().owner_of(Some(id)).filter(|_| waits) else { return };
    let values = current_values(world, id);
    if obstacle(world, table, owner, &values).is_none() {
        place_current(world, table, id);
    }
}

/// The room has another leader.
pub(crate) fn leader_changed(world: &mut World, table: &Arc<Table>) {
    for id in world.resource::<Absent>().because_of(Cause::Leader) {
        again(world, table, id);
    }
}

/// Brings the entities that have waited long enough.
pub(crate) fn due(world: &mut World, table: &Arc<Table>) {
    let now = world.resource::<Clock>().now;
    for id in world.resource::<Absent>().due(now) {
        place_current(world, table, id);
    }
}

/// Children that are other peers' go with a parent, unless their owners mean them to stay. They say so by and by.
pub(crate) fn keep_children(world: &mut World, parent: Entity) {
    let until = world.resource::<Clock>().now + PATIENCE;
    let mut parents = vec![parent];
    while let Some(parent) = parents.pop() {
        let Some(children) = world.get::<Children>(parent) else { continue };
        let children: Vec<Entity> = children.iter().copied().collect();
        for child in &children {
            if world.get::<Remote>(*child).is_some()
                && let Some(id) = world.resource_mut::<Refs>().forget(*child)
            {
                world.resource_mut::<Absent>().insert(id, Wait { until, cause: Cause::Time, entity: None });
            }
        }
        parents.extend(children);
    }
}

/// As the session knows the entity now.
fn place_current(world: &mut World, table: &Arc<Table>, id: NetId) {
    let Some(wait) = world.resource_mut::<Absent>().remove(id) else { return };
    let Some(session) = &world.resource::<Net>().session else { return };
    let Some(owner) = session.owner(id) else { return };
    let controller = session.controller(id);
    let values = current_values(world, id);
    place(world, table, id, owner, controller, &values, wait.entity);
}

fn current_values(world: &World, id: NetId) -> Vec<(Type, Bytes, Tick)> {
    let net = world.resource::<Net>();
    let tick = net.tick(world.resource::<Clock>().now).map_or(0.0, |(tick, _)| tick);
    let values = net.session.iter().flat_map(|session| session.values(id));
    values.map(|(component, value)| (component, value.clone(), Tick(tick as u32))).collect()
}

/// What keeps an entity with these values from being put into the world.
fn obstacle(world: &World, table: &Table, owner: PeerId, values: &[(Type, Bytes, Tick)]) -> Option<Cause> {
    if scene_of(world, table, values).is_some() && !leads(world, owner) {
        return Some(Cause::Leader);
    }
    Child::parent(world, value_of::<ChildOf>(table, values)?).1.map(Cause::Parent)
}

fn leads(world: &World, peer: PeerId) -> bool {
    world.resource::<Net>().session.as_ref().and_then(Session::leader) == Some(peer)
}

fn value_of<'a, T: 'static>(table: &Table, values: &'a [(Type, Bytes, Tick)]) -> Option<&'a Bytes> {
    let place = table.place(TypeId::of::<T>())?;
    values.iter().find(|(component, ..)| *component == place).map(|(_, value, _)| value)
}

fn scene_of(world: &World, table: &Table, values: &[(Type, Bytes, Tick)]) -> Option<SceneId> {
    Some(decode::<SceneId>(world, value_of::<SceneId>(table, values)?).ok()?.0)
}

/// Puts it into the world, onto `entity` or the one of the same scene, if there is one.
fn place(
    world: &mut World,
    table: &Arc<Table>,
    id: NetId,
    owner: PeerId,
    controller: Option<PeerId>,
    values: &[(Type, Bytes, Tick)],
    entity: Option<Entity>,
) {
    if world.resource::<Refs>().entity(id).is_some() {
        return;
    }
    let entity = entity.filter(|entity| world.get_entity(*entity).is_ok());
    let entity = entity.or_else(|| same_scene(world, table, owner, values));
    let entity = entity.unwrap_or_else(|| world.spawn_empty().id());
    world.resource_mut::<Refs>().insert(id, entity);
    let mut parts: Vec<Box<dyn Part>> = vec![Box::new(NetEntity(id)), Box::new(Shared)];
    if owner == world.resource::<Room>().me() {
        parts.extend([Box::new(Owned) as Box<dyn Part>, Box::new(Simulated)]);
    } else {
        world.entity_mut(entity).remove::<(Owned, Simulated)>();
        parts.push(Box::new(Remote));
    }
    if let Some(controller) = controller {
        parts.push(Box::new(ControlledBy(controller)));
    }
    for (component, value, _) in values {
        if let Some((part, missing)) = table.component(*component).and_then(|shape| shape.part(world, value)) {
            parts.push(part);
            world.resource_mut::<Refs>().wait(id, *component, &missing);
        }
    }
    part::insert(world, entity, parts);
    for (component, _, tick) in values {
        if let Some(shape) = table.component(*component) {
            shape.landed(world, entity, arrival(world, id, *tick));
        }
    }
    welcome(world, table, id);
}

/// Who waited for this entity gets it.
fn welcome(world: &mut World, table: &Arc<Table>, id: NetId) {
    for (referrer, component) in world.resource_mut::<Refs>().take_waiting(id) {
        let entity = world.resource::<Refs>().entity(referrer);
        let value = world.resource::<Net>().value(referrer, component).cloned();
        if let (Some(entity), Some(value), Some(shape)) = (entity, value, table.component(component)) {
            shape.refresh(world, entity, &value);
        }
    }
    for child in world.resource::<Absent>().because_of(Cause::Parent(id)) {
        place_current(world, table, child);
    }
}

/// This peer's own entity of the same scene. A new leader also takes over what was a former one's.
fn same_scene(world: &mut World, table: &Table, owner: PeerId, values: &[(Type, Bytes, Tick)]) -> Option<Entity> {
    let scene = scene_of(world, table, values)?;
    let former = leads(world, owner);
    let (entity, _) = scene::local(world, scene).into_iter().find(|(_, name)| former || name.is_none())?;
    world.resource_mut::<Refs>().forget(entity);
    world.resource_mut::<Touched>().shared.retain(|shared| *shared != entity);
    Some(entity)
}
