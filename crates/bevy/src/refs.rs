//! Which entity of this world is which entity of the room?

use std::collections::BTreeMap;

use bevy_ecs::{
    entity::{Entity, EntityHashMap},
    resource::Resource,
    world::World,
};
use coplay_proto::NetId;

use crate::{net::Net, net_type::EntityRefs, registry::Type};

/// The most references that wait for the entity that they name. The oldest name is given up for a new one.
const MAX_WAITING: usize = 4096;

/// Both directions of the map, and what waits for an entity to come.
#[derive(Resource, Debug, Default)]
pub(crate) struct Refs {
    names: EntityHashMap<NetId>,
    entities: BTreeMap<NetId, Entity>,
    /// Components that name an entity which is not here yet: the missing one, then who refers to it.
    waiting: BTreeMap<NetId, Vec<(NetId, Type)>>,
    waits: usize,
}

impl Refs {
    /// The entity with this name.
    pub(crate) fn entity(&self, id: NetId) -> Option<Entity> {
        self.entities.get(&id).copied()
    }

    /// The name of this entity.
    pub(crate) fn name(&self, entity: Entity) -> Option<NetId> {
        self.names.get(&entity).copied()
    }

    /// Every entity with its name, in the order of the names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NetId, Entity)> {
        self.entities.iter().map(|(id, entity)| (*id, *entity))
    }

    /// From now on this entity has this name.
    pub(crate) fn insert(&mut self, id: NetId, entity: Entity) {
        self.names.insert(entity, id);
        self.entities.insert(id, entity);
    }

    /// From now on this entity has no name.
    pub(crate) fn forget(&mut self, entity: Entity) -> Option<NetId> {
        let id = self.names.remove(&entity)?;
        self.entities.remove(&id);
        Some(id)
    }

    /// From now on no entity has this name.
    pub(crate) fn remove(&mut self, id: NetId) -> Option<Entity> {
        let entity = self.entities.remove(&id)?;
        self.names.remove(&entity);
        Some(entity)
    }

    /// Notes that a component names entities which are not here yet.
    pub(crate) fn wait(&mut self, referrer: NetId, component: Type, missing: &[NetId]) {
        for id in missing {
            if self.waiting.get(id).is_some_and(|waiting| waiting.contains(&(referrer, component))) {
                continue;
            }
            while self.waits >= MAX_WAITING
                && let Some((_, given_up)) = self.waiting.pop_first()
            {
                self.waits -= given_up.len();
            }
            self.waiting.entry(*id).or_default().push((referrer, component));
            self.waits += 1;
        }
    }

    /// What waited for this entity: it is here now, or will never be.
    pub(crate) fn take_waiting(&mut self, id: NetId) -> Vec<(NetId, Type)> {
        let waiting = self.waiting.remove(&id).unwrap_or_default();
        self.waits -= waiting.len();
        waiting
    }
}

impl EntityRefs for Refs {
    fn to_net(&self, entity: Entity) -> Option<NetId> {
        self.name(entity)
    }

    fn to_entity(&mut self, id: NetId) -> Option<Entity> {
        self.entity(id)
    }
}

/// Looks names up for a value that has arrived, and notes those that may still come.
pub(crate) struct Resolver<'w> {
    refs: &'w Refs,
    net: &'w Net,
    /// Names without an entity so far.
    pub(crate) missing: Vec<NetId>,
}

impl<'w> Resolver<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        Self { refs: world.resource::<Refs>(), net: world.resource::<Net>(), missing: Vec::new() }
    }
}

impl EntityRefs for Resolver<'_> {
    fn to_net(&self, entity: Entity) -> Option<NetId> {
        self.refs.name(entity)
    }

    fn to_entity(&mut self, id: NetId) -> Option<Entity> {
        let entity = self.refs.entity(id);
        if entity.is_none() && !self.net.is_gone(id) && !self.missing.contains(&id) {
            self.missing.push(id);
        }
        entity
    }
}

#[cfg(test)]
mod tests {
    use coplay_proto::MemberId;

    use super::*;

    fn name(counter: u32) -> NetId {
        NetId { creator: MemberId::default(), counter }
    }

    #[test]
    fn both_directions_agree() {
        let mut refs = Refs::default();
        let [a, b] = World::new().spawn_batch([(), ()]).collect::<Vec<_>>().try_into().unwrap();
        refs.insert(name(1), a);
        refs.insert(name(2), b);
        assert_eq!((refs.entity(name(1)), refs.name(b)), (Some(a), Some(name(2))));
        assert_eq!(refs.forget(a), Some(name(1)));
        assert_eq!(refs.remove(name(2)), Some(b));
        assert_eq!((refs.entity(name(1)), refs.name(b), refs.iter().count()), (None, None, 0));
    }

    #[test]
    fn what_waits_is_bounded_and_comes_once() {
        let mut refs = Refs::default();
        for counter in 0..2 * u32::try_from(MAX_WAITING).unwrap() {
            refs.wait(name(0), Type(0), &[name(counter)]);
            refs.wait(name(0), Type(0), &[name(counter)]);
        }
        assert_eq!(refs.waits, MAX_WAITING);
        assert_eq!(refs.waiting.values().map(Vec::len).sum::<usize>(), MAX_WAITING);
        let last = name(2 * u32::try_from(MAX_WAITING).unwrap() - 1);
        assert_eq!(refs.take_waiting(last), [(name(0), Type(0))]);
        assert_eq!(refs.take_waiting(last), []);
        assert_eq!(refs.waits, MAX_WAITING - 1);
    }
}
