//! What a frame that came changes here: each record is applied, or refused by a rule that both sides share.

use bytes::Bytes;

use super::{
    Denied, Fact, MAX_STATE_BYTES, MAX_VALUE, Session, TypeId,
    config::STATE_SLACK,
    frame::{self, Meta, PartRecord, Record},
    inbox,
    membership::Known,
    ownership::Proof,
    store::{Entity, Handoff, Stamp},
};
use crate::{MemberId, NetId, PeerId, Tick, schema::TypeKind};

/// How many frames later an entity's end is remembered for the sake of frames that were overtaken: more than those
/// that are taken at all.
const OVERTAKEN: u32 = 2048;
/// The most of these that are remembered of one peer.
const MAX_OVERTAKEN: usize = 16_384;

/// Whence a record comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct From {
    pub(super) peer: PeerId,
    pub(super) member: MemberId,
    seq: u32,
    stamp: Stamp,
}

/// A state record in our own words.
#[derive(Debug)]
struct State {
    entity: NetId,
    epoch: u32,
    meta: Option<Meta>,
    parts: Vec<(TypeId, Option<Bytes>, Tick)>,
}

impl Session {
    pub(super) fn frame(&mut self, peer: PeerId, bytes: &[u8]) {
        let (header, records) = match frame::read(bytes) {
            Ok(frame) => frame,
            Err(what) => return self.misbehaves(peer, what),
        };
        if Some(header.tag) != self.tag_from(peer) {
            // Of a session that is over, or of a former member.
            return;
        }
        let Some(link) = self.peers.get_mut(&peer) else { return };
        let (Some(pair), rtt) = (&mut link.pair, link.rtt) else { return };
        let Some(seq) = pair.inbox.expand(header.seq) else { return };
        let from = From { peer, member: pair.member, seq, stamp: Stamp::new(link.generation, seq) };
        for block in header.acks {
            for acked in inbox::acked(block, pair.outbox.sent()) {
                pair.outbox.acked(acked);
            }
        }
        if records.iter().any(|record| self.names_a_stranger(record)) {
            // It was told of a member before us. Not acked, so that it comes again.
            return;
        }
        if let Some(pair) = self.peers.get_mut(&peer).and_then(|link| link.pair.as_mut()) {
            pair.inbox.note(seq, header.eliciting);
        }
        self.met(peer);
        if let Some(fraction) = header.fraction
            && self.leader() == Some(peer)
        {
            let ticks = f64::from(header.tick.0) + f64::from(fraction) / 256.0;
            self.clock.sample(self.now, ticks, rtt / 2);
        }
        // Inputs come first in a frame, and may be lawful only by what else is in it.
        let (inputs, states): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| matches!(record, Record::Input { .. }));
        for record in states.into_iter().chain(inputs) {
            if self.peers.get(&peer).is_none_or(|link| link.pair.is_none()) {
                return;
            }
            match record {
                Record::State { entity, epoch, meta, parts } => {
                    if let Some(parts) = self.shared(peer, parts) {
                        self.state(from, State { entity, epoch, meta, parts });
                        self.weigh(from, entity);
                    }
                }
                Record::End { entity, epoch } => self.ended(from, entity, epoch),
                Record::Input { entity, input, values } => self.controlled(from, entity, input, values),
            }
        }
    }

    pub(super) fn deny(&mut self, from: From, denied: Denied) {
        self.fact(Fact::Denied(from.peer, denied));
    }

    /// Whether the record names a member that we have not heard of.
    fn names_a_stranger(&self, record: &Record) -> bool {
        let stranger = |member: MemberId| self.roster.known(member) == Known::NotYet;
        match record {
            Record::State { entity, meta, .. } => {
                let by_meta = meta.is_some_and(|meta| stranger(meta.owner) || meta.controller.is_some_and(stranger));
                by_meta || stranger(entity.creator)
            }
            Record::End { entity, .. } | Record::Input { entity, .. } => stranger(entity.creator),
        }
    }

    /// The components that we know, by our names for them. None if the record is not of this protocol.
    fn shared(&mut self, peer: PeerId, parts: Vec<PartRecord>) -> Option<Vec<(TypeId, Option<Bytes>, Tick)>> {
        let types = self.peers.get(&peer)?.types.as_ref()?;
        let mut shared = Vec::with_capacity(parts.len());
        for PartRecord { component, value, tick } in parts {
            let ours = types.ours(component);
            let event =
                ours.and_then(|ours| self.config.schema.get(ours)).is_some_and(|ours| ours.kind == TypeKind::Event);
            if !types.contains(component) || event || value.as_ref().is_some_and(|value| value.len() > MAX_VALUE) {
                self.misbehaves(peer, "a component that cannot be one");
                return None;
            }
            shared.extend(ours.map(|ours| (ours, value, tick)));
        }
        Some(shared)
    }

    fn state(&mut self, from: From, state: State) {
        if self.store.tombstones.contains(state.entity) {
            return;
        }
        let Some(known) = self.store.get(state.entity) else { return self.spawned(from, state) };
        let (entity, me) = (state.entity, self.member());
        let handing = |handoff: &Handoff| handoff.from == from.member && handoff.epoch == state.epoch;
        if known.handoff.as_ref().is_some_and(handing) {
            return self.handed(from, entity, state.parts);
        }
        match state.epoch.cmp(&known.epoch) {
            core::cmp::Ordering::Less => {}
            core::cmp::Ordering::Equal => {
                if known.owner == from.member || (self.is_guest() && Some(known.owner) != me) {
                    self.update(from, state);
                } else if known.previous != Some(from.member) && !self.is_guest() {
                    self.deny(from, Denied::NotOwner(entity));
                }
            }
            core::cmp::Ordering::Greater => self.claimed(from, state),
        }
    }

    /// An entity that we do not know.
    fn spawned(&mut self, from: From, state: State) {
        let State { entity, epoch, meta, parts } = state;
        let overtaken = self.pair_of(from).and_then(|pair| pair.ended.get(&entity)).is_some_and(|seq| *seq > from.seq);
        let orphan = self.store.orphan(entity).is_some_and(|orphan| epoch <= orphan.epoch);
        // Without its meta it is one that we have refused before.
        let (Some(meta), false) = (meta, overtaken || orphan) else { return };
        let handoff = self.handoff(from, &meta, epoch);
        let own = meta.owner == from.member;
        let lawful = if self.is_guest() {
            handoff.is_some() || Some(meta.owner) != self.member()
        } else if epoch == 0 {
            own && entity.creator == from.member
        } else if self.is_host() {
            handoff.is_some() && entity.creator == from.member
        } else {
            own || handoff.is_some()
        };
        if !lawful {
            let denied = if epoch == 0 { Denied::NotCreator(entity) } else { Denied::NotOwner(entity) };
            return self.deny(from, denied);
        }
        let owner = if handoff.is_some() { from.member } else { meta.owner };
        let Known::Alive(owner_peer) = self.roster.known(owner) else { return };
        if self.store.full(owner) {
            return self.misbehaves(from.peer, "more entities than a member can own");
        }
        let controller = self.alive(meta.controller);
        let mut known = Entity::new(owner, epoch - u32::from(handoff.is_some()), controller);
        known.stamp = from.stamp;
        self.store.insert(entity, known);
        self.resolved(entity, epoch);
        let controller = controller.and_then(|controller| self.roster.peer(controller));
        self.fact(Fact::Spawned { entity, owner: owner_peer, controller });
        match handoff {
            Some(handoff) => {
                self.begin_handoff(entity, handoff);
                self.handed(from, entity, parts);
            }
            None => self.write_parts(from, entity, &parts),
        }
        self.relay(entity, from);
    }

    /// More of an entity, from its owner, or from the host.
    fn update(&mut self, from: From, state: State) {
        let State { entity, meta, parts, .. } = state;
        let controller = self.alive(meta.and_then(|meta| meta.controller));
        if let (Some(meta), Some(known)) = (meta, self.store.get_mut(entity))
            && from.stamp > known.stamp
        {
            known.stamp = from.stamp;
            if known.set_controller(controller) {
                self.controller_changed(entity);
            }
            self.reowned(entity, meta);
            self.expect(entity, meta);
        }
        self.write_parts(from, entity, &parts);
        self.settle(entity);
        self.relay(entity, from);
    }

    /// The host named another owner for the epoch that we know.
    fn reowned(&mut self, entity: NetId, meta: Meta) {
        let Some(known) = self.store.get(entity) else { return };
        let differs = meta.owner != known.owner && Some(meta.owner) != self.member();
        if differs
            && self.is_guest()
            && let Known::Alive(owner) = self.roster.known(meta.owner)
        {
            let (epoch, stamp) = (known.epoch, known.stamp);
            if let Some(known) = self.store.own(entity, meta.owner, epoch) {
                known.stamp = stamp;
            }
            self.fact(Fact::Owner(entity, owner));
            self.inputs_changed(entity);
        }
    }

    /// A later epoch than we know: another owner, or the same once more.
    fn claimed(&mut self, from: From, state: State) {
        let State { entity, epoch, meta, parts } = state;
        // Without its meta it is one that we have refused before.
        let (Some(meta), Some(known)) = (meta, self.store.get(entity)) else { return };
        let handoff = self.handoff(from, &meta, epoch);
        let proof = if self.is_guest() {
            Proof::Proven
        } else if self.is_host() {
            if known.owner == from.member && handoff.is_some() { Proof::Proven } else { Proof::Forged }
        } else if handoff.is_some() || meta.owner == from.member {
            self.proof(from.member, entity, epoch)
        } else {
            Proof::Forged
        };
        match proof {
            Proof::Stale => {}
            Proof::Unproven => self.claim(from.member, entity, epoch),
            Proof::Forged => self.deny(from, Denied::NotOwner(entity)),
            Proof::Proven => match handoff {
                Some(handoff) => {
                    self.begin_handoff(entity, handoff);
                    self.handed(from, entity, parts);
                }
                None => self.other_owner(from, State { entity, epoch, meta: Some(meta), parts }),
            },
        }
    }

    /// An entity has another owner, and that is not us.
    fn other_owner(&mut self, from: From, state: State) {
        let State { entity, epoch, meta, parts } = state;
        let Some(meta) = meta.filter(|meta| Some(meta.owner) != self.member()) else { return };
        let Known::Alive(owner) = self.roster.known(meta.owner) else {
            return self.orphan(entity, super::store::Orphan { epoch, owner: meta.owner });
        };
        let controller = self.alive(meta.controller);
        let Some(known) = self.store.own(entity, meta.owner, epoch) else { return };
        known.stamp = from.stamp;
        let (news, controlled) = (known.previous != Some(meta.owner), known.set_controller(controller));
        self.resolved(entity, epoch);
        if news {
            self.fact(Fact::Owner(entity, owner));
        }
        if controlled {
            self.controller_changed(entity);
        }
        self.inputs_changed(entity);
        self.expect(entity, meta);
        self.write_parts(from, entity, &parts);
        self.settle(entity);
        self.relay(entity, from);
    }

    /// The host says how much there is of an entity that has another owner.
    fn expect(&mut self, entity: NetId, meta: Meta) {
        if self.is_guest()
            && let Some(known) = self.store.get_mut(entity)
        {
            known.whole = meta.handoff;
        }
    }

    /// Once the host has told us all of an entity that has another owner: what else we wrote while we owned it, or
    /// thought so, the host did not take, and nobody else has it.
    fn settle(&mut self, entity: NetId) {
        let Some(known) = self.store.get_mut(entity) else { return };
        let heard = known.parts.values().filter(|part| part.stamp > Stamp::default()).count();
        if known.whole.take_if(|whole| heard >= *whole as usize).is_none() {
            return;
        }
        for (component, part) in &mut known.parts {
            if part.stamp == Stamp::default() && part.value.take().is_some() {
                part.version += 1;
                self.out.push_back(super::Output::Fact(Fact::Removed(entity, *component)));
            }
        }
    }

    /// Counts what came. Guests leave it to the host to see to the limit, and only check the host itself.
    fn weigh(&mut self, from: From, entity: NetId) {
        self.store.weigh(entity);
        let Some(owner) = self.store.get(entity).map(|known| known.owner) else { return };
        let slack = if self.is_guest() { 2 * STATE_SLACK } else { STATE_SLACK };
        if self.store.bytes(owner) > MAX_STATE_BYTES + slack {
            self.misbehaves(from.peer, "more state than a member can own");
        }
    }

    /// Components of an entity that is being given to us, or, as the host sees it, to another.
    fn handed(&mut self, from: From, entity: NetId, parts: Vec<(TypeId, Option<Bytes>, Tick)>) {
        self.write_parts(from, entity, &parts);
        if let Some(handoff) = self.store.get_mut(entity).and_then(|known| known.handoff.as_mut()) {
            handoff.parts.extend(parts.into_iter().map(|(component, ..)| component));
        }
        self.relay(entity, from);
        self.complete_handoff(entity);
    }

    /// A handoff that concerns us: as the new owner, or as the host that passes it on.
    fn handoff(&self, from: From, meta: &Meta, epoch: u32) -> Option<Handoff> {
        let count = meta.handoff.filter(|_| epoch > 0 && (self.is_host() || Some(meta.owner) == self.member()))?;
        let controller = self.alive(meta.controller);
        Some(Handoff { from: from.member, to: meta.owner, epoch, count, controller, parts: Default::default() })
    }

    fn write_parts(&mut self, from: From, entity: NetId, parts: &[(TypeId, Option<Bytes>, Tick)]) {
        let Some(known) = self.store.get_mut(entity) else { return };
        for (component, value, tick) in parts {
            let part = known.parts.entry(*component).or_default();
            if from.stamp <= part.stamp {
                continue;
            }
            part.stamp = from.stamp;
            part.tick = *tick;
            let same = part.value == *value;
            if same && part.version > 0 {
                continue;
            }
            // That a component is gone counts even if we never had it: others may, and hear of it from us.
            part.version += 1;
            part.value.clone_from(value);
            let fact = match value {
                Some(value) => Fact::Written { entity, component: *component, value: value.clone(), tick: *tick },
                None if same => continue,
                None => Fact::Removed(entity, *component),
            };
            self.out.push_back(super::Output::Fact(fact));
        }
    }

    /// An entity is gone, says a peer.
    fn ended(&mut self, from: From, entity: NetId, epoch: u32) {
        if self.store.tombstones.contains(entity) {
            return;
        }
        let orphan = self.store.orphan(entity);
        let proof = match self.store.get(entity) {
            _ if self.is_guest() => Proof::Proven,
            Some(known) if known.owner == from.member => {
                if epoch >= known.epoch {
                    Proof::Proven
                } else {
                    Proof::Stale
                }
            }
            Some(known) if known.previous == Some(from.member) && epoch <= known.epoch => Proof::Stale,
            // Of an epoch that is over, like any other record: a guest ends what it gave to a leaver, who had given it on.
            Some(known) if epoch < known.epoch => Proof::Stale,
            Some(known) if self.is_host() || epoch <= known.epoch => Proof::Forged,
            Some(_) => self.proof(from.member, entity, epoch),
            None if entity.creator == from.member || orphan.is_some_and(|orphan| epoch > orphan.epoch) => Proof::Proven,
            None if self.is_host() => Proof::Forged,
            None => return self.overtakes(from, entity),
        };
        match proof {
            Proof::Stale => {}
            Proof::Unproven => self.claim(from.member, entity, epoch),
            Proof::Forged => self.deny(from, Denied::NotOwner(entity)),
            Proof::Proven => {
                if self.end(entity) {
                    self.fact(Fact::Despawned(entity));
                }
                // Also of what never came here: an event about it may be waiting elsewhere.
                if self.is_host() {
                    self.tell_end(entity, epoch, Some(from.peer));
                }
            }
        }
    }

    /// The end of an entity that we do not know, from a peer that did not make it: what this peer said of it earlier
    /// may still come, and does not count.
    fn overtakes(&mut self, from: From, entity: NetId) {
        let Some(pair) = self.peers.get_mut(&from.peer).and_then(|link| link.pair.as_mut()) else { return };
        if pair.ended.len() >= MAX_OVERTAKEN {
            pair.ended.retain(|_, seq| from.seq.saturating_sub(*seq) < OVERTAKEN);
        }
        if pair.ended.len() >= MAX_OVERTAKEN {
            return self.misbehaves(from.peer, "more ends of entities that nobody knows than can be kept");
        }
        pair.ended.insert(entity, from.seq);
    }

    /// As the host: what came is for the others, too.
    fn relay(&mut self, entity: NetId, from: From) {
        if self.is_host() {
            self.changed(entity, Some(from.peer));
        }
    }

    pub(super) fn controller_changed(&mut self, entity: NetId) {
        self.inputs_changed(entity);
        let controller = self.controller(entity);
        self.fact(Fact::Controller(entity, controller));
    }

    /// The member, if it is still one.
    fn alive(&self, member: Option<MemberId>) -> Option<MemberId> {
        member.filter(|member| matches!(self.roster.known(*member), Known::Alive(_)))
    }

    fn pair_of(&self, from: From) -> Option<&super::links::Pair> {
        self.peers.get(&from.peer)?.pair.as_ref()
    }
}
