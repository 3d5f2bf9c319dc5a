//! What is done with an event of a shared type? Between the game's observers and the bytes that the session carries.

use core::{marker::PhantomData, sync::atomic::AtomicBool};
use std::sync::Arc;

use bevy_ecs::world::World;
use coplay_proto::{NetId, PeerId};

use crate::{
    component::{decode, unreadable},
    events::Received,
    net_type::NetEvent,
};

/// An event that has arrived, whatever its type is.
pub(crate) trait EventType: Send + Sync {
    /// The entities that it names and that are not here yet.
    fn missing(&self, world: &World, value: &[u8]) -> Vec<NetId>;

    /// Tells the game.
    fn deliver(&self, world: &mut World, from: PeerId, value: &[u8]);
}

/// `derive(NetEvent)`.
pub(crate) struct Event<T> {
    name: Arc<str>,
    complained: AtomicBool,
    event: PhantomData<fn() -> T>,
}

impl<T: NetEvent> Event<T> {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self { name, complained: AtomicBool::new(false), event: PhantomData }
    }
}

impl<T: NetEvent> EventType for Event<T> {
    fn missing(&self, world: &World, value: &[u8]) -> Vec<NetId> {
        decode::<T>(world, value).map_or_else(|_| Vec::new(), |(_, missing)| missing)
    }

    fn deliver(&self, world: &mut World, from: PeerId, value: &[u8]) {
        match decode::<T>(world, value) {
            Ok((event, _)) => world.trigger(Received { event, from }),
            Err(error) => unreadable(&self.name, &self.complained, &error),
        }
    }
}
