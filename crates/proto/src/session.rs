//! A room as one peer sees it: who is in it, who owns what, and the newest value of everything.
//!
//! [`Session::handle`] takes what happens, [`Session::poll`] gives what is to be done; the other methods are what the
//! game does. The rules that hold are in `docs/SESSION.md`, the bytes in `docs/WIRE.md`.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::{Channel, MemberId, NetId, PeerId, Term, Tick, Topology, link::LinkEvent, signal::Leader};

mod apply;
mod clock;
mod config;
mod control;
mod envelope;
mod events;
mod facts;
mod frame;
mod handshake;
#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by it")]
mod hostile;
mod inbox;
mod inputs;
mod joining;
mod leaving;
mod links;
mod membership;
mod outbox;
mod ownership;
mod parking;
mod reasons;
mod send_queue;
mod store;
mod succession;
mod tombstones;

pub use config::{
    HANDSHAKE_TIMEOUT, JOIN_TIMEOUT, MAX_ABOUT, MAX_ENTITIES, MAX_EVENT, MAX_INPUT, MAX_LINKS, MAX_MEMBERS,
    MAX_STATE_BYTES, MAX_UNRELIABLE_EVENT, MAX_VALUE, SessionConfig,
};
pub use facts::{Astray, Fact, Input, Output, Target};
pub use reasons::{Denied, DisconnectReason, SendError, WriteError};

use clock::Clock;
use inputs::Inputs;
use links::Peer;
use membership::{Known, Roster};
use ownership::Claims;
use store::{Entity, Store};
use succession::Succession;

/// Index of a type in this peer's own [`crate::schema::Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u16);

/// Whether we are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Signaling did not let us in yet.
    Away,
    /// We look for a session, or for nobody having one.
    Seeking {
        since: Duration,
        asked: Option<PeerId>,
    },
    In(MemberId),
    Closed,
}

/// The room as this peer sees it. See the [module](self).
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    /// By type: the channel that it takes.
    channels: Vec<Channel>,
    now: Duration,
    out: VecDeque<Output>,
    me: Option<PeerId>,
    /// Who leads, as signaling says.
    named: Option<Leader>,
    /// Who leads the session that ours was absorbed by.
    into: Option<PeerId>,
    /// How many sessions we founded.
    founded: u16,
    standing: Standing,
    roster: Roster,
    succession: Succession,
    clock: Clock,
    store: Store,
    /// The counter of our next entity.
    counter: u32,
    claims: Claims,
    inputs: Inputs,
    /// By link.
    peers: BTreeMap<PeerId, Peer>,
    /// How many links there were.
    generations: u32,
    /// Of whom the game was told.
    joined: BTreeSet<PeerId>,
    /// Whose last events are being delivered.
    leaving: Option<(MemberId, PeerId)>,
}

impl Session {
    /// A session in which nobody is yet: [`Input::Entered`] begins it.
    pub fn new(now: Duration, config: SessionConfig) -> Self {
        let clock = Clock::new(now, config.tick_rate());
        let channels = config.schema.channels();
        Self {
            config,
            channels,
            now,
            out: VecDeque::new(),
            me: None,
            named: None,
            into: None,
            founded: 0,
            standing: Standing::Away,
            roster: Roster::default(),
            succession: Succession::default(),
            clock,
            store: Store::default(),
            counter: 0,
            claims: Claims::default(),
            inputs: Inputs::default(),
            peers: BTreeMap::new(),
            generations: 0,
            joined: BTreeSet::new(),
            leaving: None,
        }
    }

    /// Something happens. Then take what [`Self::poll`] gives, until it gives nothing.
    pub fn handle(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        if self.standing == Standing::Closed {
            if let Input::Link(peer, LinkEvent::Opened) = input {
                self.out.push_back(Output::Disconnect(peer, DisconnectReason::Local));
            }
            return;
        }
        let (flush, elapsed) = (matches!(input, Input::Flush), matches!(input, Input::Flush | Input::Elapsed));
        match input {
            Input::Entered { me, leader } => self.entered(me, leader),
            Input::Leader(leader) => self.named = Some(leader),
            Input::Link(peer, event) => self.link(peer, event),
            Input::Waiting(peer, bytes) => self.waits(peer, bytes),
            Input::Overflow(peer) => self.too_slow(peer),
            Input::Flush | Input::Elapsed => self.elapsed(),
        }
        self.seek();
        if elapsed {
            // Not whenever something comes, so that what waits costs the same however much does.
            self.release_events();
        }
        if flush {
            self.flush();
        }
    }

    /// What is to be done next. Bounded by what was handled since it last gave nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Makes an entity that we own. None while we are not admitted, and at [`MAX_ENTITIES`]. A controller that is no
    /// member counts as none.
    pub fn spawn(&mut self, controller: Option<PeerId>) -> Option<NetId> {
        let creator = self.member()?;
        let next = self.counter.checked_add(1).filter(|_| !self.store.full(creator))?;
        let entity = NetId { creator, counter: core::mem::replace(&mut self.counter, next) };
        let controller = controller.and_then(|peer| self.roster.member(peer));
        self.store.insert(entity, Entity::new(creator, 0, controller));
        self.changed(entity, None);
        Some(entity)
    }

    /// Gives a component of an entity that we own a value; inserts the component if it has none. At most
    /// [`MAX_VALUE`] bytes, and [`MAX_STATE_BYTES`] with all others of ours. Nothing is sent if the value is the one it has.
    pub fn write(&mut self, entity: NetId, component: TypeId, value: Bytes) -> Result<(), WriteError> {
        let size = value.len();
        if size > MAX_VALUE {
            return Err(WriteError::TooLarge { size, limit: MAX_VALUE });
        }
        self.set(entity, component, Some(value))
    }

    /// Takes a component off an entity that we own. Nothing happens if it has none.
    pub fn remove(&mut self, entity: NetId, component: TypeId) -> Result<(), WriteError> {
        self.set(entity, component, None)
    }

    /// Ends an entity that we own, or, as the host, any. It never comes back.
    pub fn despawn(&mut self, entity: NetId) -> Result<(), WriteError> {
        let known = self.store.get(entity).ok_or(WriteError::Gone(entity))?;
        let epoch = known.epoch;
        if !self.is_host() {
            self.owned(entity)?;
        }
        self.end(entity);
        self.tell_end(entity, epoch, None);
        Ok(())
    }

    /// Names the member whose input moves an entity that we own.
    pub fn set_controller(&mut self, entity: NetId, controller: Option<PeerId>) -> Result<(), WriteError> {
        let controller = match controller {
            Some(peer) => Some(self.roster.member(peer).ok_or(WriteError::NoMember(peer))?),
            None => None,
        };
        if self.owned(entity)?.set_controller(controller) {
            self.inputs_changed(entity);
            self.changed(entity, None);
        }
        Ok(())
    }

    /// Gives an entity that we own (as the host, any) to another member, or back to the host. From now on we do not
    /// own it; the new owner does as soon as it has heard everything of it.
    pub fn grant(&mut self, entity: NetId, to: PeerId) -> Result<(), WriteError> {
        self.give(entity, to)
    }

    /// Another value of an input of an entity that we control, as of now. At most [`MAX_INPUT`] bytes. Goes to the
    /// owner, repeatedly until it is acked, the last three distinct values at a time. Nothing is sent if the value is
    /// the last one, or if we own the entity ourselves.
    pub fn input(&mut self, entity: NetId, input: TypeId, value: Bytes) -> Result<(), WriteError> {
        self.control_entity(entity, input, value)
    }

    /// Sends an event. At most [`MAX_EVENT`] bytes, [`MAX_UNRELIABLE_EVENT`] if it is of an unreliable type. It comes back
    /// as [`Fact::Event`] at once if it is for us, too.
    ///
    /// # Errors
    /// Nothing was sent, to nobody. After [`SendError::QueueFull`] it can be sent again later: the link stays.
    pub fn send(&mut self, target: Target, event: TypeId, value: Bytes) -> Result<(), SendError> {
        self.send_event(target, event, value, &[])
    }

    /// The same for an event that is about entities, the first [`MAX_ABOUT`] of which are waited for: it is delivered once
    /// whoever it comes to knows of them what we know now, or that they are gone, or two seconds after it came
    /// ([`Fact::Astray`]).
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_about(
        &mut self,
        target: Target,
        event: TypeId,
        value: Bytes,
        about: &[NetId],
    ) -> Result<(), SendError> {
        self.send_event(target, event, value, about)
    }

    /// Bytes of messages that wait for a peer, as far as we know.
    pub fn queued(&self, peer: PeerId) -> usize {
        self.peers.get(&peer).map_or(0, |link| link.queue.waiting())
    }

    /// To whom a message of a channel of events from this peer will be passed on. The owner of the links is to hand it
    /// over only when there is room for more with all of them, and to let the peer wait meanwhile: so that whoever
    /// sends too much is slowed down, and nobody else is cut off for it.
    pub fn relays(&self, peer: PeerId, message: &[u8]) -> Vec<PeerId> {
        self.event_relays(peer, message)
    }

    /// Sends a member away. Only the leader can; otherwise, and if the peer is no other member, nothing happens.
    pub fn kick(&mut self, peer: PeerId) {
        if self.is_leader()
            && Some(peer) != self.me
            && let Some(member) = self.roster.member(peer)
        {
            self.declare(member, &DisconnectReason::Kicked);
        }
    }

    /// From now on so many are members at most, this one included, if this peer leads. Who is one stays.
    pub fn set_max_players(&mut self, players: u16) {
        self.config.max_players = players;
    }

    /// Leaves the room: closes all links. [`Fact::Closed`] follows, and then nothing more.
    pub fn leave(&mut self) {
        if self.standing != Standing::Closed {
            self.close(DisconnectReason::Local);
        }
    }

    /// Our id and our seat, once we are admitted.
    pub fn me(&self) -> Option<(PeerId, MemberId)> {
        Some((self.me?, self.member()?))
    }

    /// Who leads the session: the host, in a host topology.
    pub fn leader(&self) -> Option<PeerId> {
        self.member().and_then(|_| self.roster.leader())
    }

    /// Whether that is us.
    pub fn is_leader(&self) -> bool {
        self.me.is_some() && self.leader() == self.me
    }

    /// Whether we are out, and nothing more will come ([`Fact::Closed`]).
    pub const fn is_closed(&self) -> bool {
        matches!(self.standing, Standing::Closed)
    }

    /// The leader's term.
    pub fn term(&self) -> Option<Term> {
        self.member().map(|_| self.roster.term)
    }

    /// Which session we are in: who founded it, and how many it had founded before. Ids of entities are unique within it.
    pub fn founder(&self) -> Option<(PeerId, u16)> {
        Some((self.roster.id.founder?, self.roster.id.count))
    }

    /// All members in the order of their slots, us included, also those that have not joined yet.
    pub fn members(&self) -> impl Iterator<Item = (PeerId, MemberId)> {
        self.roster.seats().map(|seat| (seat.peer, seat.member))
    }

    /// The room's clock in ticks since the founding; 0 until we are admitted.
    pub fn tick(&self, now: Duration) -> f64 {
        self.member().map_or(0.0, |_| self.clock.ticks(now))
    }

    /// Who has the authority over a living entity.
    pub fn owner(&self, entity: NetId) -> Option<PeerId> {
        self.roster.peer(self.store.get(entity)?.owner)
    }

    /// Who controls a living entity, if anyone.
    pub fn controller(&self, entity: NetId) -> Option<PeerId> {
        self.roster.peer(self.store.get(entity)?.controller?)
    }

    /// All living entities, in the order of their ids.
    pub fn entities(&self) -> impl Iterator<Item = NetId> {
        self.store.iter().map(|(entity, _)| entity)
    }

    /// Whether the entity is alive, as far as we know.
    pub fn contains(&self, entity: NetId) -> bool {
        self.store.get(entity).is_some()
    }

    /// Whether the entity is gone for good, so that it need not be waited for: despawned, or of a former member and
    /// not alive.
    pub fn is_gone(&self, entity: NetId) -> bool {
        let alone = || !self.contains(entity) && self.roster.known(entity.creator) == Known::Dead;
        self.store.tombstones.contains(entity) || alone()
    }

    /// The newest value of a component.
    pub fn value(&self, entity: NetId, component: TypeId) -> Option<&Bytes> {
        self.store.get(entity)?.parts.get(&component)?.value.as_ref()
    }

    /// The newest values of all components of an entity, in the order of their types.
    pub fn values(&self, entity: NetId) -> impl Iterator<Item = (TypeId, &Bytes)> {
        let parts = self.store.get(entity).into_iter().flat_map(|known| &known.parts);
        parts.filter_map(|(component, part)| Some((*component, part.value.as_ref()?)))
    }

    /// How the session was set up.
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    fn member(&self) -> Option<MemberId> {
        match self.standing {
            Standing::In(member) => Some(member),
            _ => None,
        }
    }

    /// Whether we are the host of a host topology.
    fn is_host(&self) -> bool {
        self.config.topology == Topology::Host && self.is_leader()
    }

    /// Whether our only partner is the host.
    fn is_guest(&self) -> bool {
        self.config.topology == Topology::Host && !self.is_leader()
    }

    fn tag(&self) -> u16 {
        self.roster.id.tag()
    }

    fn tick_now(&self) -> Tick {
        Tick(self.clock.ticks(self.now) as u32)
    }

    fn fact(&mut self, fact: Fact) {
        self.out.push_back(Output::Fact(fact));
    }

    /// An entity that we are in charge of.
    fn owned(&mut self, entity: NetId) -> Result<&mut Entity, WriteError> {
        let me = self.member();
        let known = self.store.get_mut(entity).ok_or(WriteError::Gone(entity))?;
        if Some(known.owner) == me { Ok(known) } else { Err(WriteError::NotOwner(entity)) }
    }

    fn set(&mut self, entity: NetId, component: TypeId, value: Option<Bytes>) -> Result<(), WriteError> {
        let tick = self.tick_now();
        self.owned(entity)?;
        if let Some(value) = &value
            && !self.store.takes(entity, component, value.len())
        {
            return Err(WriteError::StateFull { limit: MAX_STATE_BYTES });
        }
        if self.owned(entity)?.set(component, value, tick) {
            self.store.weigh(entity);
            self.changed(entity, None);
        }
        Ok(())
    }

    /// Something of the entity is to be told to the peers, but to the one that it came from.
    fn changed(&mut self, entity: NetId, from: Option<PeerId>) {
        for (peer, link) in &mut self.peers {
            if Some(*peer) != from
                && let Some(pair) = &mut link.pair
            {
                pair.outbox.touch(entity);
            }
        }
    }

    /// Takes the entity off for good, here. Says whether it lived.
    fn end(&mut self, entity: NetId) -> bool {
        self.inputs.forget(entity);
        self.claims.forget(entity);
        for link in self.peers.values_mut() {
            if let Some(pair) = &mut link.pair {
                pair.outbox.forget(entity);
            }
        }
        self.store.end(entity)
    }

    /// Tells the peers that the entity is gone, but the one that it came from.
    fn tell_end(&mut self, entity: NetId, epoch: u32, from: Option<PeerId>) {
        for (peer, link) in &mut self.peers {
            if Some(*peer) != from
                && let Some(pair) = &mut link.pair
            {
                pair.outbox.end(entity, epoch);
            }
        }
    }
}
