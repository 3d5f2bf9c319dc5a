//! What a peer has still to be told, what is on its way, and what goes into the next frames.
//!
//! For each entity there is a view: which version of its meta and of each component was sent last, and which is
//! acked. What differs from the store is due. A version is sent once, and again only if its frame is known lost and
//! nothing newer was sent since. Only entities with something due are queued, so that a quiet world costs nothing.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    TypeId,
    frame::{FrameWriter, Header, MAX_REDUNDANCY, Meta},
    inbox::Inbox,
    store::{Entity, Store},
};
use crate::{NetId, Tick, link::MAX_STATE, schema::TypeMap};

/// A frame is lost when one that was sent so many frames later is acked.
const REORDER: u32 = 3;
/// A frame is lost when it is not acked for four round trips, and at the earliest after this.
const LOSS_TIMEOUT: Duration = Duration::from_millis(500);
/// The most frames that wait for their ack; then no more are sent.
const MAX_IN_FLIGHT: usize = 1024;
/// The most frames of one flush: a link takes so many at a time.
const MAX_FRAMES: usize = 16;
/// Unused budget is kept for so many seconds.
const BURST: f64 = 0.1;
/// The leader lets this much time go by between two frames at the most, for the clocks.
const CLOCK_INTERVAL: Duration = Duration::from_millis(500);

/// What a frame is made from.
pub(super) struct Source<'a> {
    pub(super) now: Duration,
    pub(super) store: &'a Store,
    pub(super) types: &'a TypeMap,
    /// Whether the peer is to hear of the entity from us at all; the flag says whether it is being given it.
    pub(super) tells: &'a dyn Fn(&Entity, bool) -> bool,
    pub(super) tag: u16,
    pub(super) tick: Tick,
    pub(super) fraction: Option<u8>,
    /// Bytes a second.
    pub(super) budget: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// The version that was sent last, 0 for none.
    version: u32,
    acked: u32,
    /// The frame by which it was sent.
    seq: u32,
}

impl Sent {
    fn send(&mut self, version: u32, seq: u32) {
        self.version = version;
        self.seq = seq;
    }

    /// Whether it has to be sent again.
    fn lose(&mut self, seq: u32) -> bool {
        let last = self.seq == seq && self.version != self.acked;
        if last {
            self.version = self.acked;
        }
        last
    }
}

#[derive(Clone, Debug, Default)]
struct View {
    /// Which view of the entity this is: acks for an earlier one do not count.
    generation: u32,
    meta: Sent,
    parts: BTreeMap<TypeId, Sent>,
    /// The flush in which something of it was sent last; 0 for none.
    last: u64,
    /// Whether the peer is told of how many components it has to hear: as it is given the entity, or because another
    /// owner than it knows has less than it may have.
    handing: bool,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Meta(NetId, u32, u32),
    Part(NetId, u32, TypeId, u32),
    End(NetId),
    Input(NetId, TypeId, Tick),
}

#[derive(Debug)]
struct Flight {
    sent: Duration,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    epoch: u32,
    /// The frame by which it was sent last.
    seq: Option<u32>,
}

/// The sending side of one link's frames.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    sent: u32,
    flights: BTreeMap<u32, Flight>,
    newest_acked: Option<u32>,
    views: BTreeMap<NetId, View>,
    generations: u32,
    /// Entities with something due of which the peer was told nothing yet.
    fresh: BTreeSet<NetId>,
    /// The others with something due: by the flush in which they were sent last, so that who waits longest is first.
    live: BTreeSet<(u64, NetId)>,
    ends: BTreeMap<NetId, End>,
    ends_due: BTreeSet<NetId>,
    inputs: BTreeMap<(NetId, TypeId), VecDeque<(Tick, Bytes)>>,
    flush: u64,
    tokens: f64,
    refilled: Option<Duration>,
    last_frame: Option<Duration>,
}

impl Outbox {
    /// Frames sent so far.
    pub(super) const fn sent(&self) -> u32 {
        self.sent
    }

    /// Something of the entity has changed, or is to be told.
    pub(super) fn touch(&mut self, entity: NetId) {
        match self.views.get(&entity).map_or(0, |view| view.last) {
            0 => self.fresh.insert(entity),
            last => self.live.insert((last, entity)),
        };
    }

    /// The peer is to be told everything of the entity anew. `handing`: and how much that is.
    pub(super) fn renew(&mut self, entity: NetId, handing: bool) {
        // An entity that the peer knows does not queue up behind those that it has never heard of.
        let last = self.drop_view(entity);
        self.generations += 1;
        self.views.insert(entity, View { generation: self.generations, handing, last, ..View::default() });
        self.touch(entity);
    }

    /// Whether the peer is given the entity by the view that it has.
    pub(super) fn handing(&self, entity: NetId) -> bool {
        self.views.get(&entity).is_some_and(|view| view.handing)
    }

    /// Whether the peer was told of the entity, or is about to be.
    pub(super) fn tells_of(&self, entity: NetId) -> bool {
        self.views.contains_key(&entity) || self.fresh.contains(&entity)
    }

    /// The components of an entity that we tell of, of which the peer is not known to have the newest value, with the
    /// owner's ticks. None if it is known to have all.
    pub(super) fn unknown(&self, id: NetId, entity: &Entity) -> Option<Vec<(TypeId, Tick)>> {
        let view = self.views.get(&id);
        let acked = |component: &TypeId| view.and_then(|view| view.parts.get(component)).map_or(0, |sent| sent.acked);
        let parts = entity.parts.iter().filter(|(component, part)| part.version > acked(component));
        let parts: Vec<_> = parts.map(|(component, part)| (*component, part.tick)).collect();
        let unheard = view.is_none_or(|view| view.meta.acked != entity.version);
        (unheard || !parts.is_empty()).then_some(parts)
    }

    /// The entity is gone, and the peer is to be told so.
    pub(super) fn end(&mut self, entity: NetId, epoch: u32) {
        self.forget(entity);
        self.ends.insert(entity, End { epoch, seq: None });
        self.ends_due.insert(entity);
    }

    /// The entity is gone, and the peer knows, or finds out by itself.
    pub(super) fn forget(&mut self, entity: NetId) {
        self.drop_view(entity);
        self.forget_inputs(entity);
    }

    /// Another value of an input, for the peer.
    pub(super) fn input(&mut self, entity: NetId, input: TypeId, tick: Tick, value: Bytes) {
        let values = self.inputs.entry((entity, input)).or_default();
        values.push_back((tick, value));
        if values.len() > MAX_REDUNDANCY {
            values.pop_front();
        }
    }

    /// The entity's inputs go elsewhere now.
    pub(super) fn forget_inputs(&mut self, entity: NetId) {
        let range = (entity, TypeId(0))..=(entity, TypeId(u16::MAX));
        let inputs: Vec<_> = self.inputs.range(range).map(|(key, _)| *key).collect();
        for input in inputs {
            self.inputs.remove(&input);
        }
    }

    /// The peer has acked this frame.
    pub(super) fn acked(&mut self, seq: u32) {
        let Some(flight) = self.flights.remove(&seq) else { return };
        self.newest_acked = self.newest_acked.max(Some(seq));
        for item in flight.items {
            match item {
                Item::Meta(entity, generation, version) => {
                    if let Some(view) = self.view_of(entity, generation) {
                        view.meta.acked = view.meta.acked.max(version);
                    }
                }
                Item::Part(entity, generation, component, version) => {
                    if let Some(sent) = self.view_of(entity, generation).and_then(|view| view.parts.get_mut(&component))
                    {
                        sent.acked = sent.acked.max(version);
                    }
                }
                Item::End(entity) => {
                    self.ends.remove(&entity);
                    self.ends_due.remove(&entity);
                }
                Item::Input(entity, input, tick) => {
                    if let Some(values) = self.inputs.get_mut(&(entity, input)) {
                        values.retain(|(later, _)| later.since(tick) > 0);
                        if values.is_empty() {
                            self.inputs.remove(&(entity, input));
                        }
                    }
                }
            }
        }
    }

    /// Makes due again what is known lost.
    pub(super) fn judge(&mut self, now: Duration, rtt: Duration) {
        let timeout = LOSS_TIMEOUT.max(rtt * 4);
        let passed = self.newest_acked.and_then(|newest| newest.checked_sub(REORDER));
        while let Some(entry) = self.flights.first_entry() {
            let seq = *entry.key();
            if passed.is_none_or(|passed| seq > passed) && entry.get().sent + timeout > now {
                break;
            }
            let flight = entry.remove();
            self.lose(seq, flight);
        }
    }

    /// Makes the frames of this flush: as many as there is something for, within the budget.
    pub(super) fn flush(&mut self, source: &Source<'_>, inbox: &mut Inbox) -> Vec<Bytes> {
        self.flush += 1;
        self.refill(source.now, source.budget);
        let mut frames = Vec::new();
        let mut balance = Balance::default();
        loop {
            let first = frames.is_empty();
            let owed = inbox.owes();
            let header = Header {
                seq: self.sent as u16,
                tag: source.tag,
                tick: source.tick,
                fraction: source.fraction,
                eliciting: true,
                acks: if first || owed { inbox.acks() } else { Vec::new() },
            };
            let mut writer = FrameWriter::new(&header);
            let mut items = Vec::new();
            if self.flights.len() < MAX_IN_FLIGHT {
                if first {
                    self.write_inputs(source, &mut writer, &mut items);
                }
                if self.tokens > 0.0 {
                    self.write_ends(&mut writer, &mut items);
                    self.write_states(source, &mut writer, &mut items, &mut balance);
                }
            }
            let empty = items.is_empty();
            let frame = if !empty {
                self.flights.insert(self.sent, Flight { sent: source.now, items });
                writer.finish()
            } else if owed || (first && self.clock_due(source)) {
                FrameWriter::new(&Header { eliciting: false, ..header }).finish()
            } else {
                break;
            };
            self.sent = self.sent.wrapping_add(1);
            self.tokens -= frame.len() as f64;
            self.last_frame = Some(source.now);
            frames.push(frame);
            if (empty && !inbox.owes()) || frames.len() == MAX_FRAMES {
                break;
            }
        }
        frames
    }

    fn write_inputs(&self, source: &Source<'_>, writer: &mut FrameWriter, items: &mut Vec<Item>) {
        for ((entity, input), values) in &self.inputs {
            if source.types.theirs(*input).is_none() {
                continue;
            }
            let written = writer.input(*entity, input.0, values.iter().map(|(tick, value)| (*tick, value)));
            if let (true, Some((newest, _))) = (written, values.back()) {
                items.push(Item::Input(*entity, *input, *newest));
            }
        }
    }

    fn write_ends(&mut self, writer: &mut FrameWriter, items: &mut Vec<Item>) {
        while let Some(entity) = self.ends_due.first().copied() {
            if let Some(end) = self.ends.get_mut(&entity) {
                if !writer.end(entity, end.epoch) {
                    break;
                }
                end.seq = Some(self.sent);
                items.push(Item::End(entity));
            }
            self.ends_due.remove(&entity);
        }
    }

    fn write_states(
        &mut self,
        source: &Source<'_>,
        writer: &mut FrameWriter,
        items: &mut Vec<Item>,
        balance: &mut Balance,
    ) {
        loop {
            let (fresh, next) = match (self.fresh.first(), self.live.first()) {
                (Some(fresh), Some(_)) if balance.fresh <= balance.live => (true, *fresh),
                (_, Some((_, live))) => (false, *live),
                (Some(fresh), None) => (true, *fresh),
                (None, None) => break,
            };
            let before = items.len();
            let told = source.store.get(next).filter(|entity| (source.tells)(entity, self.handing(next)));
            let written = told.map(|entity| self.write_state(source, writer, items, next, entity));
            if written == Some(Written::Full) {
                break;
            }
            let last = self.views.get(&next).map_or(0, |view| view.last);
            if fresh {
                self.fresh.remove(&next);
            } else {
                self.live.remove(&(last, next));
            }
            if items.len() > before {
                let sent = if fresh { &mut balance.fresh } else { &mut balance.live };
                *sent += items.len() - before;
                if let Some(view) = self.views.get_mut(&next) {
                    view.last = self.flush;
                }
            }
            if written == Some(Written::Partly) {
                self.touch(next);
                break;
            }
        }
    }

    /// Writes what is due of the entity.
    fn write_state(
        &mut self,
        source: &Source<'_>,
        writer: &mut FrameWriter,
        items: &mut Vec<Item>,
        id: NetId,
        entity: &Entity,
    ) -> Written {
        let generations = &mut self.generations;
        let view = self.views.entry(id).or_insert_with(|| {
            *generations += 1;
            View { generation: *generations, ..View::default() }
        });
        let mut shared = entity
            .parts
            .iter()
            .filter(|(component, part)| part.version > 0 && source.types.theirs(**component).is_some());
        let due: Vec<_> = shared
            .clone()
            .filter(|(component, part)| view.parts.get(*component).is_none_or(|sent| sent.version != part.version))
            .collect();
        if due.is_empty() && view.meta.version == entity.version {
            return Written::All;
        }
        // What is new goes with its components in one piece where that fits, as does what is given away.
        let with_meta = view.meta.acked != entity.version;
        let meta = with_meta.then(|| Meta {
            owner: entity.owner,
            controller: entity.controller,
            handoff: view.handing.then(|| shared.by_ref().count() as u32),
        });
        let whole = !writer.is_empty();
        let records = due.iter().map(|(component, part)| (component.0, part.value.as_ref(), part.tick));
        let Some(count) = writer.state(id, entity.epoch, meta, records, whole) else { return Written::Full };
        if with_meta {
            view.meta.send(entity.version, self.sent);
            items.push(Item::Meta(id, view.generation, entity.version));
        }
        for (component, part) in due.iter().take(count) {
            view.parts.entry(**component).or_default().send(part.version, self.sent);
            items.push(Item::Part(id, view.generation, **component, part.version));
        }
        if count == due.len() { Written::All } else { Written::Partly }
    }

    fn lose(&mut self, seq: u32, flight: Flight) {
        for item in flight.items {
            match item {
                Item::Meta(entity, generation, _) => {
                    if self.view_of(entity, generation).is_some_and(|view| view.meta.lose(seq)) {
                        self.touch(entity);
                    }
                }
                Item::Part(entity, generation, component, _) => {
                    let view = self.view_of(entity, generation);
                    if view.and_then(|view| view.parts.get_mut(&component)).is_some_and(|sent| sent.lose(seq)) {
                        self.touch(entity);
                    }
                }
                Item::End(entity) => {
                    if let Some(end) = self.ends.get_mut(&entity)
                        && end.seq == Some(seq)
                    {
                        end.seq = None;
                        self.ends_due.insert(entity);
                    }
                }
                // Goes with every frame until it is acked.
                Item::Input(..) => {}
            }
        }
    }

    fn view_of(&mut self, entity: NetId, generation: u32) -> Option<&mut View> {
        self.views.get_mut(&entity).filter(|view| view.generation == generation)
    }

    /// Forgets what the peer was told. Says in which flush it was told something last.
    fn drop_view(&mut self, entity: NetId) -> u64 {
        let last = self.views.remove(&entity).map_or(0, |view| view.last);
        self.live.remove(&(last, entity));
        self.fresh.remove(&entity);
        last
    }

    fn refill(&mut self, now: Duration, budget: f64) {
        let most = (budget * BURST).max(2.0 * MAX_STATE as f64);
        let since = self.refilled.map(|before| now.saturating_sub(before).as_secs_f64());
        self.tokens = since.map_or(most, |since| (self.tokens + since * budget).min(most));
        self.refilled = Some(now);
    }

    fn clock_due(&self, source: &Source<'_>) -> bool {
        source.fraction.is_some() && self.last_frame.is_none_or(|last| last + CLOCK_INTERVAL <= source.now)
    }
}

/// How much of a flush went to which queue: neither starves the other.
#[derive(Debug, Default)]
struct Balance {
    fresh: usize,
    live: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    All,
    Partly,
    /// Nothing: the frame is full.
    Full,
}
