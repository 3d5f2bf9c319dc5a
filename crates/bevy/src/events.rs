//! How do events travel? Said by a command, heard by observers: once, in order, on every peer that they are for.

use core::{any::TypeId, ops::Deref, time::Duration};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bevy_ecs::{error::BevyError, event::Event, resource::Resource, system::Commands, world::World};
use bytes::Bytes;
use coplay_proto::{
    PeerId,
    session::{SendError, Target},
};

use crate::{
    collect,
    net::{Clock, Net},
    net_type::{NetEvent, to_bytes},
    refs::Refs,
    registry::{self, Table, Type},
    room::Room,
};

/// How long an event waits for an entity that it names and that is not here yet.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most events of one peer that wait, because the first of them does.
const MAX_PARKED: usize = 256;

/// An event has come, or was sent here to everyone. It dereferences to the event.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_coplay::prelude::*;
/// # #[derive(NetEvent, Clone)]
/// # struct Honk { loudness: f32 }
/// fn honk(honk: On<Received<Honk>>) {
///     println!("{} honks at {}", honk.from, honk.loudness);
/// }
/// ```
#[derive(Event, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<E: Send + Sync + 'static> {
    /// What was sent.
    pub event: E,
    /// Who sent it; maybe this peer.
    pub from: PeerId,
}

impl<E: Send + Sync + 'static> Deref for Received<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.event
    }
}

/// Sends events.
pub trait NetCommandsExt {
    /// Sends an event to everyone, this peer included. Offline it comes back to this peer.
    ///
    /// Entities that it names may be brand-new: their spawn goes along.
    ///
    /// Events that a peer has not taken yet wait for it, 1 MiB at the most. Whoever sends another one then has sent more
    /// than the link carries, and since none can be left out, the link ends: under a host the guest is out of the room,
    /// in a mesh the leader's partner; both sides are told
    /// [`DisconnectReason::TooSlow`](crate::DisconnectReason::TooSlow). Of two others in a mesh, each is
    /// [`Unresponsive`](crate::Unresponsive) to the other from then on. What a host passes on between guests never
    /// does that: while half a MiB waits for one of them, those who send to it have to wait. So events are for what
    /// happens, and components for what is; what is large goes by another way, such as HTTP.
    fn net_trigger<E: NetEvent>(&mut self, event: E) {
        self.net_trigger_to(Target::Everyone, event);
    }

    /// Sends an event to these peers. Where this peer is among them, its observers run at once.
    ///
    /// An event of a type that was not added goes to the app's error handler: [`EventNotAdded`].
    fn net_trigger_to<E: NetEvent>(&mut self, target: Target, event: E);
}

impl NetCommandsExt for Commands<'_, '_> {
    fn net_trigger_to<E: NetEvent>(&mut self, target: Target, event: E) {
        self.queue(move |world: &mut World| trigger(world, target, event).map_err(BevyError::from));
    }
}

/// The type of an event was never added by [`add_net`](crate::AppNetExt::add_net).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("N0007: the event `{0}` is not known to the peers: add it by `app.add_net::<..>()` while the app is built")]
pub struct EventNotAdded(&'static str);

fn trigger<E: NetEvent>(world: &mut World, target: Target, event: E) -> Result<(), EventNotAdded> {
    let table = registry::table(world);
    let place = table.place(TypeId::of::<E>());
    let place = place.ok_or_else(|| EventNotAdded(core::any::type_name::<E>()))?;
    let room = world.resource::<Room>();
    let from = room.me();
    let here = match target {
        Target::Everyone => true,
        Target::Others => false,
        Target::Host => room.is_leader(),
        Target::Peer(peer) => peer == from,
    };
    if world.resource::<Net>().is_admitted() && (!here || target == Target::Everyone) {
        collect::announce(world);
        match to_bytes(&event, world.resource::<Refs>()) {
            Ok(value) => send(world, &table, target, place, value),
            Err(error) => tracing::error!("the event `{}` is not sent: {error}", table.name(place)),
        }
    }
    if here {
        world.trigger(Received { event, from });
    }
    Ok(())
}

fn send(world: &mut World, table: &Table, target: Target, place: Type, value: Bytes) {
    let Some(session) = &mut world.resource_mut::<Net>().session else { return };
    // What comes back to this peer from the session is left out by `arrived`: it is delivered without the detour.
    // It goes with the frames at the end of this one.
    match session.send(target, place, value) {
        Ok(()) => {}
        Err(SendError::NoMember(peer)) => tracing::debug!("`{}` is not sent, {peer} is not here", table.name(place)),
        Err(error) => tracing::error!("the event `{}` is not sent: {error}", table.name(place)),
    }
}

/// Events that wait for an entity, and those of the same peer behind them.
#[derive(Resource, Default)]
pub(crate) struct Parked {
    peers: BTreeMap<PeerId, VecDeque<Arrived>>,
}

struct Arrived {
    event: Type,
    value: Bytes,
    until: Duration,
}

/// An event has come.
pub(crate) fn arrived(world: &mut World, table: &Arc<Table>, from: PeerId, event: Type, value: Bytes) {
    let Some(shape) = table.event(event) else { return };
    if from == world.resource::<Room>().me() {
        return;
    }
    let until = world.resource::<Clock>().now + PATIENCE;
    let waits = world.resource::<Parked>().peers.contains_key(&from) || !shape.missing(world, &value).is_empty();
    if waits {
        let queue = world.resource_mut::<Parked>();
        let queue = queue.into_inner().peers.entry(from).or_default();
        queue.push_back(Arrived { event, value, until });
        if queue.len() > MAX_PARKED {
            first(world, table, from);
        }
    } else {
        shape.deliver(world, from, &value);
    }
}

/// Delivers what has waited long enough, or waits no more.
pub(crate) fn deliver(world: &mut World, table: &Arc<Table>) {
    let now = world.resource::<Clock>().now;
    for peer in world.resource::<Parked>().peers.keys().copied().collect::<Vec<_>>() {
        while let Some(queue) = world.resource::<Parked>().peers.get(&peer)
            && let Some(next) = queue.front()
            && (next.until <= now
                || table.event(next.event).is_none_or(|shape| shape.missing(world, &next.value).is_empty()))
        {
            first(world, table, peer);
        }
    }
}

fn first(world: &mut World, table: &Arc<Table>, from: PeerId) {
    let peers = &mut world.resource_mut::<Parked>().into_inner().peers;
    let Some(queue) = peers.get_mut(&from) else { return };
    let next = queue.pop_front();
    if queue.is_empty() {
        peers.remove(&from);
    }
    if let Some(Arrived { event, value, .. }) = next
        && let Some(shape) = table.event(event)
    {
        shape.deliver(world, from, &value);
    }
}
