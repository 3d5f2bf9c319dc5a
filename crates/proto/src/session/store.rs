//! The newest value of everything: entities with owner, epoch and controller, and their components.

use core::ops::RangeInclusive;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{MAX_ENTITIES, MAX_STATE_BYTES, TypeId, tombstones::Tombstones};
use crate::{MemberId, NetId, Tick};

/// The most orphans that are remembered; older ones become tombstones.
const MAX_ORPHANS: usize = 65_536;

/// The most former controllers of an entity that are remembered.
const MAX_FORMER: usize = 16;

/// When something was said on one link: the link's generation and the frame's sequence. The later one is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(u64);

impl Stamp {
    pub(super) const fn new(generation: u32, seq: u32) -> Self {
        // One up, so that what was never heard is older than the first frame.
        Self(((generation as u64) << 32 | seq as u64) + 1)
    }
}

/// A component of an entity. No value: it was removed, which is remembered so that older values do not come back.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) value: Option<Bytes>,
    /// Counts changes here; starts at 1.
    pub(super) version: u32,
    /// The owner's tick at which it was so.
    pub(super) tick: Tick,
    /// By which frame it came. Of use only while the owner's link stays the same.
    pub(super) stamp: Stamp,
}

/// An entity that is being given to another owner: to us, or as the host sees it. It has another owner once everything
/// has come.
#[derive(Clone, Debug)]
pub(super) struct Handoff {
    pub(super) from: MemberId,
    pub(super) to: MemberId,
    pub(super) epoch: u32,
    /// Of how many components it has to hear.
    pub(super) count: u32,
    pub(super) controller: Option<MemberId>,
    /// Those that have come.
    pub(super) parts: BTreeSet<TypeId>,
}

/// An entity.
#[derive(Clone, Debug)]
pub(super) struct Entity {
    pub(super) owner: MemberId,
    /// Counts owners; the creator's is 0.
    pub(super) epoch: u32,
    pub(super) controller: Option<MemberId>,
    /// Who controlled it before, the latest last: what they sent until they knew is no offence.
    pub(super) former: Vec<MemberId>,
    /// Counts changes of what is above; starts at 1.
    pub(super) version: u32,
    pub(super) stamp: Stamp,
    pub(super) parts: BTreeMap<TypeId, Part>,
    /// Who owned it before: what it sent until it knew is no offence.
    pub(super) previous: Option<MemberId>,
    /// We gave it away with its present epoch, and see to it that the new owner gets it.
    pub(super) released: bool,
    pub(super) handoff: Option<Handoff>,
    /// Bytes of all values, as they count for the owner.
    bytes: usize,
    /// Of how many components the host has: what it has not told us of then is no more.
    pub(super) whole: Option<u32>,
}

impl Entity {
    pub(super) const fn new(owner: MemberId, epoch: u32, controller: Option<MemberId>) -> Self {
        Self {
            owner,
            epoch,
            controller,
            former: Vec::new(),
            version: 1,
            stamp: Stamp(0),
            parts: BTreeMap::new(),
            previous: None,
            released: false,
            handoff: None,
            bytes: 0,
            whole: None,
        }
    }

    /// Gives a component another value, or none. Says whether that is a change.
    pub(super) fn set(&mut self, component: TypeId, value: Option<Bytes>, tick: Tick) -> bool {
        let part = self.parts.entry(component).or_default();
        if part.value == value {
            return false;
        }
        part.version += 1;
        part.value = value;
        part.tick = tick;
        true
    }

    /// What comes next is newer, by whatever link it comes.
    pub(super) fn forget_stamps(&mut self) {
        self.stamp = Stamp(0);
        for part in self.parts.values_mut() {
            part.stamp = Stamp(0);
        }
    }

    fn size(&self) -> usize {
        self.parts.values().filter_map(|part| part.value.as_ref()).map(Bytes::len).sum()
    }

    /// Changes who controls it. Says whether that is a change.
    pub(super) fn set_controller(&mut self, controller: Option<MemberId>) -> bool {
        if self.controller == controller {
            return false;
        }
        self.former.retain(|former| Some(*former) != self.controller);
        self.former.extend(self.controller);
        if self.former.len() > MAX_FORMER {
            self.former.remove(0);
        }
        self.controller = controller;
        self.version += 1;
        true
    }
}

/// What became of an entity whose owner has left: it comes back if a later epoch of it turns up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orphan {
    pub(super) epoch: u32,
    pub(super) owner: MemberId,
}

/// How much a member owns.
#[derive(Clone, Copy, Debug, Default)]
struct Holding {
    entities: usize,
    /// Bytes of all values.
    bytes: usize,
}

/// All entities of the session, the living and the dead.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    entities: BTreeMap<NetId, Entity>,
    by_owner: BTreeMap<MemberId, Holding>,
    orphans: BTreeMap<NetId, Orphan>,
    pub(super) tombstones: Tombstones,
}

impl Store {
    pub(super) fn get(&self, entity: NetId) -> Option<&Entity> {
        self.entities.get(&entity)
    }

    pub(super) fn get_mut(&mut self, entity: NetId) -> Option<&mut Entity> {
        self.entities.get_mut(&entity)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NetId, &Entity)> {
        self.entities.iter().map(|(entity, known)| (*entity, known))
    }

    /// In the order of their ids.
    pub(super) fn range(&self, range: RangeInclusive<NetId>) -> impl Iterator<Item = (NetId, &Entity)> {
        self.entities.range(range).map(|(entity, known)| (*entity, known))
    }

    /// Whether the member has as many living entities as it may.
    pub(super) fn full(&self, owner: MemberId) -> bool {
        self.by_owner.get(&owner).is_some_and(|holding| holding.entities >= MAX_ENTITIES)
    }

    /// How many bytes the values of the member's living entities have.
    pub(super) fn bytes(&self, owner: MemberId) -> usize {
        self.by_owner.get(&owner).map_or(0, |holding| holding.bytes)
    }

    /// Whether the owner may write a value of this size.
    pub(super) fn takes(&self, entity: NetId, component: TypeId, size: usize) -> bool {
        let Some(known) = self.get(entity) else { return false };
        let former = known.parts.get(&component).and_then(|part| part.value.as_ref()).map_or(0, Bytes::len);
        size <= former || self.bytes(known.owner) - former.min(known.bytes) + size <= MAX_STATE_BYTES
    }

    /// Whether the member may be given the entity.
    pub(super) fn fits(&self, entity: NetId, owner: MemberId) -> bool {
        self.bytes(owner) + self.get(entity).map_or(0, |known| known.bytes) <= MAX_STATE_BYTES
    }

    /// Counts the entity's values anew. Due when they have changed.
    pub(super) fn weigh(&mut self, entity: NetId) {
        let Some(known) = self.entities.get_mut(&entity) else { return };
        let bytes = known.size();
        let former = core::mem::replace(&mut known.bytes, bytes);
        let holding = self.by_owner.entry(known.owner).or_default();
        holding.bytes = (holding.bytes + bytes).saturating_sub(former);
    }

    pub(super) fn orphan(&self, entity: NetId) -> Option<Orphan> {
        self.orphans.get(&entity).copied()
    }

    /// Adds an entity that is not there. The caller has seen to tombstones and orphans.
    pub(super) fn insert(&mut self, entity: NetId, mut known: Entity) {
        self.orphans.remove(&entity);
        known.bytes = known.size();
        self.count(known.owner, known.bytes, true);
        if let Some(former) = self.entities.insert(entity, known) {
            self.count(former.owner, former.bytes, false);
        }
    }

    /// Gives an entity another owner, whose link the values come from now on.
    pub(super) fn own(&mut self, entity: NetId, owner: MemberId, epoch: u32) -> Option<&mut Entity> {
        let Entity { owner: former, bytes, .. } = *self.entities.get(&entity)?;
        self.count(former, bytes, false);
        self.count(owner, bytes, true);
        let known = self.entities.get_mut(&entity)?;
        known.previous = Some(former);
        known.owner = owner;
        known.epoch = epoch;
        known.version += 1;
        known.released = false;
        known.handoff = None;
        known.whole = None;
        known.forget_stamps();
        Some(known)
    }

    /// Takes an entity off for good. Says whether it lived.
    pub(super) fn end(&mut self, entity: NetId) -> bool {
        self.tombstones.insert(entity);
        self.orphans.remove(&entity);
        self.take(entity)
    }

    /// Takes an entity off whose owner has left, but for a later epoch. Says whether it lived.
    pub(super) fn orphaned(&mut self, entity: NetId, orphan: Orphan) -> bool {
        self.orphans.insert(entity, orphan);
        if self.orphans.len() > MAX_ORPHANS
            && let Some((entity, _)) = self.orphans.pop_first()
        {
            self.tombstones.insert(entity);
        }
        self.take(entity)
    }

    fn take(&mut self, entity: NetId) -> bool {
        let Some(known) = self.entities.remove(&entity) else { return false };
        self.count(known.owner, known.bytes, false);
        true
    }

    /// Counts an entity with so many bytes in or out.
    fn count(&mut self, owner: MemberId, bytes: usize, one_more: bool) {
        let Holding { entities, bytes: before } = self.by_owner.get(&owner).copied().unwrap_or_default();
        let holding = if one_more {
            Holding { entities: entities + 1, bytes: before + bytes }
        } else {
            Holding { entities: entities.saturating_sub(1), bytes: before.saturating_sub(bytes) }
        };
        self.by_owner.insert(owner, holding);
        if holding.entities == 0 {
            self.by_owner.remove(&owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATOR: MemberId = MemberId { slot: 1, incarnation: 0 };

    fn net(counter: u32) -> NetId {
        NetId { creator: CREATOR, counter }
    }

    #[test]
    fn a_value_that_stays_is_no_change() {
        let mut entity = Entity::new(CREATOR, 0, None);
        let value = || Some(Bytes::from_static(b"x"));
        assert!(entity.set(TypeId(1), value(), Tick(1)));
        assert!(!entity.set(TypeId(1), value(), Tick(2)));
        assert!(entity.set(TypeId(1), None, Tick(3)));
        assert!(!entity.set(TypeId(2), None, Tick(3)), "what was never there cannot go");
        assert_eq!(entity.parts.get(&TypeId(1)).map(|part| part.version), Some(2));
    }

    #[test]
    fn the_living_are_counted_by_owner() {
        let mut store = Store::default();
        for counter in 0..MAX_ENTITIES as u32 {
            assert!(!store.full(CREATOR));
            store.insert(net(counter), Entity::new(CREATOR, 0, None));
        }
        assert!(store.full(CREATOR));
        assert!(store.end(net(5)));
        assert!(!store.end(net(5)));
        assert!(!store.full(CREATOR));
        store.insert(net(5), Entity::new(CREATOR, 0, None));
        assert!(store.full(CREATOR));
        store.own(net(6), MemberId { slot: 2, incarnation: 0 }, 1);
        assert!(!store.full(CREATOR));
    }

    #[test]
    fn orphans_stay_bounded_by_dying_for_good() {
        let mut store = Store::default();
        let orphan = Orphan { epoch: 0, owner: CREATOR };
        for counter in 0..=MAX_ORPHANS as u32 {
            store.orphaned(net(counter), orphan);
        }
        assert!(store.tombstones.contains(net(0)));
        assert_eq!(store.orphan(net(1)), Some(orphan));
    }
}
