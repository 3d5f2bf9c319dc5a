//! How does what the session tells come into the world? One fact after another, in their order.

use std::sync::Arc;

use bevy_ecs::{entity::Entity, world::World};
use bytes::Bytes;
use coplay_proto::{
    MemberId, NetId, PeerId, Tick, Topology,
    session::{DisconnectReason, Fact},
};

use crate::{
    absent::Absent,
    component::Arrival,
    control::{self, ControlledBy, NetEntity, Remote, Touched},
    event_counts,
    net::{Clock, Net},
    offline::LOCAL,
    parked,
    peers::{self, PeerRefused, Peers},
    refs::Refs,
    registry::{self, Table, Type},
    room::{self, Room, RoomError, RoomState},
    scene::SceneId,
    spawn,
};

/// Brings the world up to date: [`NetSystems::Apply`](crate::NetSystems::Apply).
///
/// Observers of the game run in between, and may leave the room: nothing is held over from one fact to the next.
pub(crate) fn apply(world: &mut World) {
    let table = registry::table(world);
    while let Some(fact) = world.resource_mut::<Net>().facts.pop_front() {
        one(world, &table, fact);
    }
    spawn::due(world, &table);
    parked::deliver(world, &table);
    let (now, net) = (world.resource::<Clock>().now, world.resource::<Net>());
    if let Some((tick, _)) = net.tick(now) {
        world.resource_mut::<Room>().tick = tick;
    }
}

fn one(world: &mut World, table: &Arc<Table>, fact: Fact) {
    match fact {
        Fact::Admitted(member) => admitted(world, member),
        Fact::Closed(DisconnectReason::Absorbed) => {
            // What follows is of the other session.
            let following = core::mem::take(&mut world.resource_mut::<Net>().facts);
            room::set_state(world, RoomState::Joining);
            room::clear(world, &DisconnectReason::Absorbed);
            world.resource_mut::<Net>().facts = following;
        }
        Fact::Closed(DisconnectReason::Local) => room::close(world, None),
        Fact::Closed(reason) => room::close(world, Some(RoomError::Session(reason))),
        Fact::Joined { peer, member } => peers::joined(world, peer, member),
        Fact::Left { peer, reason, .. } => peers::left(world, peer, &reason),
        Fact::Refused(id, reason) => {
            tracing::warn!("cannot play with {id}: {reason}");
            world.trigger(PeerRefused { id, reason });
        }
        Fact::Responsive(peer, responsive) => peers::responsive(world, peer, responsive),
        Fact::Leader(peer) => {
            world.resource_mut::<Room>().leader = Some(peer);
            spawn::leader_changed(world, table);
        }
        Fact::Spawned { entity, owner, controller } => {
            let values = following_values(world, entity);
            spawn::spawn(world, table, entity, owner, controller, values);
        }
        Fact::Written { entity, component, value, tick } => written(world, table, entity, component, &value, tick),
        Fact::Removed(id, component) => {
            let entity = world.resource::<Refs>().entity(id);
            if let (Some(entity), Some(component)) = (entity, table.component(component)) {
                component.remove(world, entity);
            } else if entity.is_none() {
                spawn::again(world, table, id);
            }
        }
        Fact::Despawned(id) => despawned(world, id),
        Fact::Owner(id, owner) => {
            let Some(entity) = world.resource::<Refs>().entity(id) else { return };
            let owned = owner == world.resource::<Room>().me();
            if owned {
                table.components().for_each(|component| component.adopt(world, entity));
            }
            control::set_owned(world, entity, owned);
        }
        Fact::Controller(id, controller) => {
            // What is owned here is controlled by whom the game says; if that one leaves, it goes.
            if let Some(entity) = world.resource::<Refs>().entity(id).filter(|entity| is_remote(world, *entity)) {
                set_controller(world, entity, controller);
            }
        }
        Fact::Controlled { entity, input, value, .. } => {
            if let (Some(entity), Some(input)) = (world.resource::<Refs>().entity(entity), table.input(input)) {
                input.control(world, entity, &value);
            }
        }
        Fact::Event { from, event, value } => parked::arrived(world, table, from, event, value),
        Fact::Astray { from, event, entity, astray } => event_counts::astray(world, table, from, event, entity, astray),
        Fact::Denied(peer, denied) => peers::denied(world, peer, denied),
    }
}

/// We are in.
fn admitted(world: &mut World, member: MemberId) {
    let Some(session) = &world.resource::<Net>().session else { return };
    let Some((me, _)) = session.me() else { return };
    let leader = session.leader();
    let leads = leader == Some(me);
    let topology = world.resource::<Net>().topology;
    let room = &mut *world.resource_mut::<Room>();
    (room.me, room.member, room.leader) = (me, Some(member), leader);
    tracing::info!("in room {} at {}, as {me} in slot {}", room.code, room.server, member.slot);
    room::set_state(world, RoomState::Joined);
    if topology == Topology::Host && !leads {
        // Here the host makes the player's entities. Those of the game that went on offline would be a second set.
        for entity in control::controlled_by(world, LOCAL) {
            world.try_despawn(entity).ok();
        }
        world.resource_mut::<Peers>().entered = false;
    } else {
        control::rename(world, LOCAL, me);
        peers::enter(world);
    }
}

/// The values that an entity came with.
fn following_values(world: &mut World, id: NetId) -> Vec<(Type, Bytes, Tick)> {
    let facts = &mut world.resource_mut::<Net>().facts;
    let mut values: Vec<(Type, Bytes, Tick)> = Vec::new();
    while let Some(Fact::Written { component, value, tick, .. }) =
        facts.pop_front_if(|fact| matches!(fact, Fact::Written { entity, .. } if *entity == id))
    {
        values.retain(|(earlier, ..)| *earlier != component);
        values.push((component, value, tick));
    }
    values
}

fn written(world: &mut World, table: &Arc<Table>, id: NetId, component: Type, value: &[u8], tick: Tick) {
    let Some(entity) = world.resource::<Refs>().entity(id) else {
        // It waits for its parent, and this may be another one.
        spawn::again(world, table, id);
        return;
    };
    let Some(shape) = table.component(component) else { return };
    let arrival = arrival(world, id, tick);
    let missing = shape.receive(world, entity, value, arrival);
    world.resource_mut::<Refs>().wait(id, component, &missing);
}

/// What is to be known of a value besides itself.
pub(crate) fn arrival(world: &World, id: NetId, tick: Tick) -> Arrival {
    let net = world.resource::<Net>();
    let now = net.tick(world.resource::<Clock>().now).map_or(0.0, |(tick, _)| tick);
    Arrival { owner: net.owner_of(Some(id)).unwrap_or(LOCAL), tick, now }
}

/// An entity is gone.
fn despawned(world: &mut World, id: NetId) {
    world.resource_mut::<Absent>().remove(id);
    let entity = world.resource_mut::<Refs>().remove(id);
    world.resource_mut::<Refs>().take_waiting(id);
    let Some(entity) = entity else { return };
    if world.get::<SceneId>(entity).is_some() && owner_leaves(world, id) {
        // The level is still there: it is for the next leader to name it again.
        world.entity_mut(entity).remove::<NetEntity>();
        control::set_owned(world, entity, true);
        world.resource_mut::<Touched>().shared.push(entity);
        return;
    }
    spawn::keep_children(world, entity);
    world.try_despawn(entity).ok();
}

/// Whether the entity goes because who made it leaves: the session tells of the leave right after.
fn owner_leaves(world: &World, id: NetId) -> bool {
    let facts = &world.resource::<Net>().facts;
    facts.iter().any(|fact| matches!(fact, Fact::Left { member, .. } if *member == id.creator))
}

fn is_remote(world: &World, entity: Entity) -> bool {
    world.get::<Remote>(entity).is_some()
}

/// Another peer says who controls an entity.
pub(crate) fn set_controller(world: &mut World, entity: Entity, controller: Option<PeerId>) {
    let Ok(mut entity) = world.get_entity_mut(entity) else { return };
    match controller {
        Some(peer) if entity.get::<ControlledBy>() == Some(&ControlledBy(peer)) => {}
        Some(peer) => _ = entity.insert(ControlledBy(peer)),
        None => _ = entity.remove::<ControlledBy>(),
    }
}
