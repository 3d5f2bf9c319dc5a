//! How does what the game did leave the world? Read once for each tick that is sent, by the world's own change ticks.

use std::collections::BTreeSet;

use bevy_ecs::{change_detection::Tick as ChangeTick, entity::Entity, resource::Resource, world::World};
use coplay_proto::{
    NetId, PeerId, Topology,
    session::{Input, WriteError},
};

use crate::{
    absent::{Absent, Cause, Wait},
    apply,
    component::Changes,
    control::{ControlledBy, NetEntity, Owned, Shared, Touched},
    net::{self, Clock, Net},
    offline::LOCAL,
    refs::Refs,
    registry::{self, Table, Type},
    room::Room,
    scene::SceneId,
};

/// When to send next, and what was read last.
#[derive(Resource, Debug, Default)]
pub(crate) struct Pace {
    /// Ticks of the game since the last frames went out.
    ticks: u32,
    /// The room's tick when they did.
    sent_at: f64,
    /// Up to where the world was read.
    since: Option<ChangeTick>,
    /// Whether there is something to flush.
    due: bool,
    /// What was said once is not said again.
    complained: bool,
    too_large: BTreeSet<Type>,
    #[cfg(debug_assertions)]
    reported: BTreeSet<Type>,
}

/// A tick of the game is over.
pub(crate) fn count(world: &mut World) {
    world.resource_mut::<Pace>().ticks += 1;
}

/// Reads what has changed: [`NetSystems::Collect`](crate::NetSystems::Collect).
pub(crate) fn collect(world: &mut World) {
    let (now, net) = (world.resource::<Clock>().now, world.resource::<Net>());
    let Some((tick, _)) = net.tick(now) else {
        *world.resource_mut::<Pace>() = Pace::default();
        return;
    };
    let pace = &mut *world.resource_mut::<Pace>();
    // A paused game has no ticks, and is to be seen by the others nevertheless.
    pace.due = pace.ticks > 0 || tick - pace.sent_at >= 2.0 || tick < pace.sent_at;
    if !pace.due {
        return;
    }
    (pace.ticks, pace.sent_at) = (0, tick);
    let since = pace.since;
    let table = registry::table(world);
    announce(world);
    let touched = core::mem::take(&mut *world.resource_mut::<Touched>());
    world.resource_mut::<Touched>().shared = touched.shared;
    for (id, entity) in touched.unshared {
        unshared(world, id, entity);
    }
    for entity in touched.controlled {
        controlled(world, entity);
    }
    let mut changes = Changes::default();
    let since = since.unwrap_or_else(|| ChangeTick::new(world.change_tick().get().wrapping_sub(u32::MAX / 4)));
    for component in table.components() {
        component.collect(world, since, &mut changes);
    }
    for (entity, rust) in touched.removed {
        if let Some(component) = table.place(rust) {
            removed(world, &table, entity, component, &mut changes);
        }
    }
    for (id, component, value) in changes.writes {
        let Some(session) = &mut world.resource_mut::<Net>().session else { return };
        let result = session.write(id, component, value);
        report(world, &table, component, result);
    }
    for (id, entity, component) in changes.foreign {
        restore(world, &table, id, entity, component);
    }
    world.resource_mut::<Pace>().since = Some(world.change_tick());
    world.increment_change_tick();
}

/// Reads what an entity that is owned here is now, if the game has changed it since the last tick.
pub(crate) fn collect_one(world: &mut World, table: &Table, id: NetId) {
    let Some(entity) = world.resource::<Refs>().entity(id).filter(|entity| world.get::<Owned>(*entity).is_some())
    else {
        return;
    };
    for component in table.components() {
        let value = component.encode(world, entity);
        let Some(session) = &mut world.resource_mut::<Net>().session else { return };
        if let Some(value) = value {
            let result = session.write(id, component.place(), value);
            report(world, table, component.place(), result);
        }
    }
}

/// Sends: [`NetSystems::Flush`](crate::NetSystems::Flush).
pub(crate) fn flush(world: &mut World) {
    let now = world.resource::<Clock>().now;
    if core::mem::take(&mut world.resource_mut::<Pace>().due)
        && let Some(session) = &mut world.resource_mut::<Net>().session
    {
        session.handle(now, Input::Flush);
    }
    net::drain(world);
}

/// Gives a name in the room to what has got [`Shared`] since the last time.
pub(crate) fn announce(world: &mut World) {
    if !world.resource::<Net>().is_admitted() {
        return;
    }
    let leads = world.resource::<Net>().is_leader();
    for entity in core::mem::take(&mut world.resource_mut::<Touched>().shared) {
        let Ok(shared) = world.get_entity(entity) else { continue };
        if !shared.contains::<Shared>() || shared.contains::<NetEntity>() {
            continue;
        }
        if shared.contains::<SceneId>() && !leads {
            // The leader names it; this one waits to become the leader's, or for this peer to lead.
            world.resource_mut::<Touched>().shared.push(entity);
            continue;
        }
        let controller = shared.get::<ControlledBy>().map(|by| by.0);
        let controller = controller.and_then(|peer| known(world, peer));
        let Some(session) = &mut world.resource_mut::<Net>().session else { return };
        if let Some(id) = session.spawn(controller) {
            world.resource_mut::<Refs>().insert(id, entity);
            world.entity_mut(entity).insert(NetEntity(id));
        } else if !core::mem::replace(&mut world.resource_mut::<Pace>().complained, true) {
            tracing::error!("entity {entity} is not shared: this peer has as many entities in the room as it can have");
        }
    }
}

/// The controller, if it is in the room.
fn known(world: &World, peer: PeerId) -> Option<PeerId> {
    let peer = if peer == LOCAL { world.resource::<Room>().me() } else { peer };
    let known = world.resource::<Net>().session.as_ref()?.members().any(|(member, _)| member == peer);
    if !known {
        tracing::warn!("`ControlledBy({peer})` names a peer that is not in the room: nobody controls the entity");
    }
    known.then_some(peer)
}

/// The game despawned an entity, or took `Shared` away.
fn unshared(world: &mut World, id: NetId, entity: Entity) {
    let now = world.resource::<Clock>().now;
    let me = world.resource::<Room>().me();
    let Some(session) = &mut world.resource_mut::<Net>().session else { return };
    let host = session.config().topology == Topology::Host && session.is_leader();
    match session.owner(id) {
        Some(owner) if owner == me || host => _ = session.despawn(id),
        Some(owner) => {
            #[cfg(debug_assertions)]
            tracing::warn!("entity {entity} ({id}) was despawned here, but {owner} owns it: it comes back");
            #[cfg(not(debug_assertions))]
            let _ = owner;
            let entity = world.get_entity(entity).is_ok().then_some(entity);
            world.resource_mut::<Absent>().insert(id, Wait { until: now, cause: Cause::Time, entity });
        }
        None => {}
    }
}

/// The game, or the plugin, changed who controls an entity.
fn controlled(world: &mut World, entity: Entity) {
    let Some(id) = world.resource::<Refs>().name(entity) else { return };
    let here = world.get::<ControlledBy>(entity).map(|by| by.0);
    let me = world.resource::<Room>().me();
    let Some(session) = &world.resource::<Net>().session else { return };
    let (there, owner) = (session.controller(id), session.owner(id));
    if here == there {
        return;
    }
    if owner != Some(me) {
        apply::set_controller(world, entity, there);
        return;
    }
    let controller = here.and_then(|peer| known(world, peer));
    if let Some(session) = &mut world.resource_mut::<Net>().session
        && let Err(error) = session.set_controller(id, controller)
    {
        tracing::warn!("the controller of entity {entity} is not changed for other peers: {error}");
    }
}

/// A component is gone from an entity.
fn removed(world: &mut World, table: &Table, entity: Entity, component: Type, changes: &mut Changes) {
    let Some(id) = world.resource::<Refs>().name(entity) else { return };
    let there_again = table.component(component).is_some_and(|shape| shape.is_on(world, entity));
    let me = world.resource::<Room>().me();
    let Some(session) = &mut world.resource_mut::<Net>().session else { return };
    if there_again || session.value(id, component).is_none() {
        return;
    }
    if session.owner(id) == Some(me) {
        let result = session.remove(id, component);
        report(world, table, component, result);
    } else {
        changes.foreign.push((id, entity, component));
    }
}

/// What was done to another peer's entity is undone.
fn restore(world: &mut World, table: &Table, id: NetId, entity: Entity, component: Type) {
    let Some(shape) = table.component(component) else { return };
    let net = world.resource::<Net>();
    let (value, owner) = (net.value(id, component).cloned(), net.owner_of(Some(id)));
    #[cfg(debug_assertions)]
    if world.resource_mut::<Pace>().reported.insert(component) {
        let owner = owner.map_or_else(|| "another peer".to_owned(), |owner| owner.to_string());
        tracing::warn!(
            "`{}` of entity {entity} ({id}) was changed here, but {owner} owns it: the owner's value is put back. Filter \
             systems that write to shared components by `With<Simulated>`. Further ones of this type are not reported",
            table.name(component)
        );
    }
    #[cfg(not(debug_assertions))]
    let _ = owner;
    match value {
        Some(value) => shape.restore(world, entity, &value),
        None => shape.remove(world, entity),
    }
}

fn report(world: &mut World, table: &Table, component: Type, result: Result<(), WriteError>) {
    match result {
        Ok(()) => {}
        Err(error @ (WriteError::TooLarge { .. } | WriteError::StateFull { .. })) => {
            if world.resource_mut::<Pace>().too_large.insert(component) {
                tracing::error!("`{}` is not sent, other peers keep its last value: {error}", table.name(component));
            }
        }
        Err(error) => tracing::debug!("`{}` is not sent: {error}", table.name(component)),
    }
}
