//! How do events travel? Said by a command, heard by observers: once, in order, on every peer that they are for.

use core::{any::TypeId, cell::RefCell, ops::Deref};

use bevy_ecs::{entity::Entity, error::BevyError, event::Event, system::Commands, world::World};
use coplay_proto::{
    NetId, PeerId,
    session::{MAX_ABOUT, SendError},
};

use crate::{
    collect,
    event_counts::EventCounts,
    net::{Clock, Net},
    net_type::{EncodeError, EntityRefs, NetEvent, to_bytes},
    refs::Refs,
    registry::{self, Table, Type},
    room::Room,
    target::Target,
};

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
    /// Entities that it names may be brand-new: their spawn goes along. Whoever it comes to hears of it once the entities
    /// that it names, the first eight of them, are there as they are here now; or that they are gone; or after two and a
    /// half seconds, if that takes longer.
    ///
    /// How it travels, its type says: [`NetEvent`]. Events that a peer has not taken yet wait for it, 1 MiB at the most.
    /// What does not fit is not sent, to nobody, and comes back as [`Unsent`]: to be sent later, or not at all. The link
    /// stays; but whoever takes nothing at all for 10 s is cut off
    /// ([`DisconnectReason::TooSlow`](crate::DisconnectReason::TooSlow)). What a host passes on between guests waits for
    /// room: while half a MiB waits for one of them, those who send to it have to wait. So events are for what happens,
    /// and components for what is; what is large goes by [`send_blob`](crate::BlobCommandsExt::send_blob).
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

/// An event was not sent, to nobody, and here it is again. It can be sent later; in the observer itself it would come back
/// at once.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_coplay::{Unsent, UnsentError, prelude::*};
/// # #[derive(NetEvent, Clone)]
/// # struct Honk { loudness: f32 }
/// # #[derive(Resource, Default)]
/// # struct Later(Vec<Honk>);
/// fn keep(honk: On<Unsent<Honk>>, mut later: ResMut<Later>) {
///     if let UnsentError::Refused(full) = &honk.error {
///         println!("{full}");
///         later.0.push(honk.event.clone());
///     }
/// }
/// ```
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct Unsent<E: Send + Sync + 'static> {
    /// What was to be sent.
    pub event: E,
    /// To whom.
    pub target: Target,
    /// Why it was not.
    pub error: UnsentError,
}

/// Why an event is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsentError {
    /// There is no room for it now, it is too large, or there is nobody whom it is for.
    #[error(transparent)]
    Refused(#[from] SendError),
    /// It cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It is for who sees an entity that no other peer knows.
    #[error("entity {0} is not shared, so that nobody else sees it: give it `Shared`")]
    NotShared(Entity),
}

fn trigger<E: NetEvent>(world: &mut World, target: Target, event: E) -> Result<(), EventNotAdded> {
    let table = registry::table(world);
    let place = table.place(TypeId::of::<E>());
    let place = place.ok_or_else(|| EventNotAdded(core::any::type_name::<E>()))?;
    let room = world.resource::<Room>();
    let from = room.me();
    let here = match target {
        Target::Everyone | Target::Seeing(_) => true,
        Target::Others => false,
        Target::Host => room.is_leader(),
        Target::Peer(peer) => peer == from,
    };
    let alone = here && matches!(target, Target::Host | Target::Peer(_));
    if world.resource::<Net>().is_admitted()
        && !alone
        && let Err(error) = send(world, &table, target, place, &event)
    {
        let now = world.resource::<Clock>().now;
        world.resource_mut::<EventCounts>().unsent(now, table.name(place), &error);
        world.trigger(Unsent { event, target, error });
    } else if here {
        world.trigger(Received { event, from });
    }
    Ok(())
}

fn send<E: NetEvent>(
    world: &mut World,
    table: &Table,
    target: Target,
    place: Type,
    event: &E,
) -> Result<(), UnsentError> {
    collect::announce(world);
    let naming = Naming { refs: world.resource::<Refs>(), named: RefCell::default() };
    let value = to_bytes(event, &naming)?;
    let named = naming.named.into_inner();
    let target = target.resolve(world.resource::<Refs>()).map_err(UnsentError::NotShared)?;
    // What the others wait for is what there is here now, and not at the end of the last tick.
    for id in &named {
        collect::collect_one(world, table, *id);
    }
    let Some(session) = &mut world.resource_mut::<Net>().session else { return Ok(()) };
    // What comes back to this peer from the session is left out by `parked::arrived`: it is delivered without the detour.
    // It goes with the frames at the end of this one.
    Ok(session.send_about(target, place, value, &named)?)
}

/// Notes which entities an event names.
struct Naming<'w> {
    refs: &'w Refs,
    named: RefCell<Vec<NetId>>,
}

impl EntityRefs for Naming<'_> {
    fn to_net(&self, entity: Entity) -> Option<NetId> {
        let id = self.refs.name(entity)?;
        let mut named = self.named.borrow_mut();
        if named.len() < MAX_ABOUT && !named.contains(&id) {
            named.push(id);
        }
        Some(id)
    }

    fn to_entity(&mut self, id: NetId) -> Option<Entity> {
        self.refs.entity(id)
    }
}
