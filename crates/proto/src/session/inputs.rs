//! How the input of an entity's controller gets to its owner: the last three distinct values, until they are acked.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Denied, Fact, MAX_INPUT, Session, TypeId, WriteError, apply::From};
use crate::{NetId, PeerId, Tick, schema::TypeKind};

/// The inputs of all entities.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// Our own last ones.
    latest: BTreeMap<(NetId, TypeId), (Tick, Bytes)>,
    /// The ticks of the newest that came.
    seen: BTreeMap<(NetId, TypeId), Tick>,
}

impl Inputs {
    /// The entity is gone.
    pub(super) fn forget(&mut self, entity: NetId) {
        for input in keys(&self.latest, entity) {
            self.latest.remove(&input);
        }
        self.forget_seen(entity);
    }

    /// The entity has another controller: its ticks start anew.
    pub(super) fn forget_seen(&mut self, entity: NetId) {
        for input in keys(&self.seen, entity) {
            self.seen.remove(&input);
        }
    }
}

impl Session {
    pub(super) fn control_entity(&mut self, entity: NetId, input: TypeId, value: Bytes) -> Result<(), WriteError> {
        let size = value.len();
        if size > MAX_INPUT {
            return Err(WriteError::TooLarge { size, limit: MAX_INPUT });
        }
        let me = self.member();
        let known = self.store.get(entity).ok_or(WriteError::Gone(entity))?;
        if me.is_none() || known.controller != me {
            return Err(WriteError::NotController(entity));
        }
        let now = self.tick_now();
        let last = self.inputs.latest.get(&(entity, input));
        if last.is_some_and(|(_, last)| *last == value) {
            return Ok(());
        }
        // Two values of one tick are two, the later one newer.
        let tick = last.map_or(now, |(last, _)| Tick(now.0.max(last.0.wrapping_add(1))));
        self.inputs.latest.insert((entity, input), (tick, value.clone()));
        self.pass_input(entity, input, tick, value);
        Ok(())
    }

    /// Values of an input from a peer: for us as the owner, or to be passed on by us as the host.
    pub(super) fn controlled(&mut self, from: From, entity: NetId, input: u16, values: Vec<(Tick, Bytes)>) {
        let Some(types) = self.peers.get(&from.peer).and_then(|link| link.types.as_ref()) else { return };
        let ours = types.ours(input);
        let kind = ours.and_then(|ours| self.config.schema.get(ours)).map_or(TypeKind::Input, |shared| shared.kind);
        let large = values.iter().any(|(_, value)| value.len() > MAX_INPUT);
        if !types.contains(input) || kind != TypeKind::Input || large {
            return self.misbehaves(from.peer, "an input that cannot be one");
        }
        let (Some(input), Some(known)) = (ours, self.store.get(entity)) else { return };
        let owned = Some(known.owner) == self.member();
        if !owned && !self.is_host() {
            // For an owner before us, or after.
            return;
        }
        if known.controller != Some(from.member) && !self.is_guest() {
            // Who owned it just before may have named itself, and we have not heard of that yet.
            let owns = known.owner == from.member || known.previous == Some(from.member);
            if !owns && !known.former.contains(&from.member) {
                self.deny(from, Denied::NotController(entity));
            }
            return;
        }
        for (tick, value) in values {
            let seen = self.inputs.seen.get(&(entity, input));
            if seen.is_some_and(|seen| tick.since(*seen) <= 0) {
                continue;
            }
            self.inputs.seen.insert((entity, input), tick);
            if owned {
                self.fact(Fact::Controlled { entity, input, value, tick });
            } else {
                self.pass_input(entity, input, tick, value);
            }
        }
    }

    /// The entity has another owner or controller: if that controls it is still us, the owner is to hear our last
    /// inputs, and a former one no more.
    pub(super) fn inputs_changed(&mut self, entity: NetId) {
        self.inputs.forget_seen(entity);
        if self.controller(entity) != self.me {
            self.inputs.forget(entity);
        }
        for link in self.peers.values_mut() {
            if let Some(pair) = &mut link.pair {
                pair.outbox.forget_inputs(entity);
            }
        }
        for (entity, input) in keys(&self.inputs.latest, entity) {
            if let Some((tick, value)) = self.inputs.latest.get(&(entity, input)).cloned() {
                self.pass_input(entity, input, tick, value);
            }
        }
    }

    /// Sends a value to the owner, or towards it. Nothing happens if that is us.
    fn pass_input(&mut self, entity: NetId, input: TypeId, tick: Tick, value: Bytes) {
        let owner = self.owner(entity);
        let hop: Option<PeerId> = if self.is_guest() { self.leader() } else { owner };
        if owner == self.me {
            return;
        }
        if let Some(pair) = hop.and_then(|hop| self.peers.get_mut(&hop)?.pair.as_mut()) {
            pair.outbox.input(entity, input, tick, value);
        }
    }
}

fn keys<T>(map: &BTreeMap<(NetId, TypeId), T>, entity: NetId) -> Vec<(NetId, TypeId)> {
    map.range((entity, TypeId(0))..=(entity, TypeId(u16::MAX))).map(|(key, _)| *key).collect()
}
