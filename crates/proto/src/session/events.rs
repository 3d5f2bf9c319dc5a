//! Which way an event goes, and when it is delivered: to each member directly in a mesh, through the host under one.
//!
//! A link delivers each message exactly once and in the order of its channel, the host passes on in the order in which it
//! receives, and so each member's events of one channel arrive exactly once and in order everywhere. An event that is
//! about entities waits where it arrives until they are there, as they were known where it was sent.

use bytes::Bytes;

use super::{
    Astray, Denied, Fact, MAX_ABOUT, MAX_EVENT, MAX_UNRELIABLE_EVENT, SendError, Session, Target, TypeId,
    envelope::{self, About, Envelope, MAX_PARTS, Route},
    membership::Known,
    parking::{Arrived, Line, PATIENCE},
};
use crate::{Channel, MemberId, NetId, PeerId, Tick, link::MAX_UNRELIABLE, schema::TypeKind};

/// How many seconds ago a component of an entity that we do not tell of was written, at the most, for its value to be
/// waited for. What is older the others have, or they are about to be told of all of it.
const RECENT: f64 = 5.0;

/// An event to be written for several peers.
#[derive(Clone, Copy)]
struct Outgoing<'a> {
    event: TypeId,
    about: &'a [About<TypeId>],
    seen: bool,
    value: &'a Bytes,
}

/// What keeps an event from being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// We have not heard of the member that it is from.
    Origin,
    /// The entity, or what it was when the event was sent.
    Entity(NetId),
}

impl Session {
    pub(super) fn send_event(
        &mut self,
        target: Target,
        event: TypeId,
        value: Bytes,
        about: &[NetId],
    ) -> Result<(), SendError> {
        let (Some(me), Some(_)) = (self.me, self.member()) else { return Err(SendError::NotAdmitted) };
        let channel = self.channel(event);
        let limit = if channel == Channel::Unreliable { MAX_UNRELIABLE_EVENT } else { MAX_EVENT };
        let size = value.len();
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        let mut named = Vec::new();
        let seen = if let Target::Seeing(entity) = target { Some(entity) } else { None };
        for entity in seen.iter().chain(about) {
            if named.len() < MAX_ABOUT && !named.iter().any(|named: &About<TypeId>| named.entity == *entity) {
                named.push(About { entity: *entity, parts: Vec::new() });
            }
        }
        let outgoing = Outgoing { event, about: &named, seen: seen.is_some(), value: &value };
        let mut messages = Vec::new();
        let mut add = |peer, route| messages.extend(self.written(peer, route, outgoing).map(|message| (peer, message)));
        let here = match target {
            Target::Everyone | Target::Others => {
                let route = if self.is_guest() { Route::Others } else { Route::Direct };
                self.paired(None).into_iter().for_each(|peer| add(peer, route));
                target == Target::Everyone
            }
            Target::Seeing(entity) => {
                if !self.contains(entity) {
                    return Err(SendError::Gone(entity));
                }
                let route = if self.is_guest() { Route::Seers } else { Route::Direct };
                self.seers(entity, None).into_iter().for_each(|peer| add(peer, route));
                true
            }
            Target::Host | Target::Peer(_) => {
                let to = if let Target::Peer(peer) = target { Some(peer) } else { self.leader() };
                let to = to.ok_or(SendError::NotAdmitted)?;
                if to != me {
                    let member = self.roster.member(to).filter(|_| self.joined.contains(&to));
                    let member = member.ok_or(SendError::NoMember(to))?;
                    match self.leader() {
                        Some(host) if self.is_guest() && host != to => add(host, Route::To(member)),
                        _ => add(to, Route::Direct),
                    }
                }
                to == me
            }
        };
        // All of them or none, so that what is refused can be sent again.
        for (peer, message) in &messages {
            self.has_room(*peer, channel, message.len())?;
        }
        for (peer, message) in messages {
            self.hand(peer, channel, message);
        }
        if here {
            self.fact(Fact::Event { from: me, event, value });
        }
        Ok(())
    }

    /// A message of a channel of events.
    pub(super) fn event(&mut self, peer: PeerId, channel: Channel, message: &[u8]) {
        let Ok(Envelope { tag, route, seen, about, event, value, .. }) = envelope::read(message) else {
            return self.misbehaves(peer, "an event that cannot be read");
        };
        if Some(tag) != self.tag_from(peer) {
            // Of a session that is over, or of a former member.
            return;
        }
        let Some(types) = self.peers.get(&peer).and_then(|link| link.types.as_ref()) else { return };
        let ours = types.ours(event);
        let kind = ours.and_then(|ours| self.config.schema.get(ours)).map_or(TypeKind::Event, |shared| shared.kind);
        if kind != TypeKind::Event || types.channel(event) != Some(channel) {
            return self.misbehaves(peer, "an event that cannot be one");
        }
        let about: Vec<About<TypeId>> = about
            .into_iter()
            .map(|About { entity, parts }| {
                let parts = parts.into_iter().filter_map(|(component, tick)| Some((types.ours(component)?, tick)));
                About { entity, parts: parts.collect() }
            })
            .collect();
        let (Some(sender), Some(event)) = (self.roster.member(peer), ours) else { return };
        let value = Bytes::copy_from_slice(value);
        let may = match route {
            Route::Direct => true,
            Route::Of(_) => self.is_guest(),
            Route::Others | Route::Seers | Route::To(_) => self.is_host(),
        };
        if !may {
            return self.fact(Fact::Denied(peer, Denied::NotHost));
        }
        let outgoing = Outgoing { event, about: &about, seen, value: &value };
        let ours = self.channel(event);
        for other in self.passed_on_to(peer, route, &about) {
            if let Some(message) = self.written(other, Route::Of(sender), outgoing)
                && (ours != Channel::Unreliable || self.has_room(other, ours, message.len()).is_ok())
            {
                self.hand(other, ours, message);
            }
        }
        let origin = match route {
            Route::To(_) => return,
            Route::Of(member) => member,
            Route::Direct | Route::Others | Route::Seers => sender,
        };
        // Who has left is not heard any more.
        if self.roster.known(origin) != Known::Dead {
            let until = self.now + PATIENCE;
            self.arrived(peer, Arrived { origin, channel, seen, about, event, value, until });
        }
    }

    pub(super) fn event_relays(&self, peer: PeerId, message: &[u8]) -> Vec<PeerId> {
        let paired = self.peers.get(&peer).is_some_and(|link| link.pair.is_some());
        match envelope::read(message) {
            Ok(Envelope { route, about, .. }) if paired && self.is_host() => self.passed_on_to(peer, route, &about),
            _ => Vec::new(),
        }
    }

    /// Whom the host passes an event of this peer on to.
    fn passed_on_to<T>(&self, peer: PeerId, route: Route, about: &[About<T>]) -> Vec<PeerId> {
        match route {
            Route::Others => self.paired(Some(peer)),
            Route::Seers => about.first().map_or_else(Vec::new, |about| self.seers(about.entity, Some(peer))),
            // Whoever has left meanwhile does not hear it.
            Route::To(member) => self.roster.peer(member).filter(|to| *to != peer).into_iter().collect(),
            Route::Direct | Route::Of(_) => Vec::new(),
        }
    }

    /// Delivers what waits for nothing more, or has waited for long enough.
    pub(super) fn release_events(&mut self) {
        for (peer, line) in self.parked(None) {
            self.release(peer, line);
        }
    }

    /// Delivers all that waits of what this member said, or came over this link: nothing more comes of it.
    pub(super) fn release_all(&mut self, over: Option<PeerId>, of: Option<MemberId>) {
        for (peer, line) in self.parked(over) {
            if of.is_some_and(|of| of != line.0) {
                continue;
            }
            while let Some(first) = self.take_first(peer, line) {
                self.deliver(first);
            }
        }
    }

    /// What waits, and the link that it came over: of this link, or of all.
    fn parked(&self, over: Option<PeerId>) -> Vec<(PeerId, Line)> {
        let links = self.peers.iter().filter(|(peer, _)| over.is_none_or(|over| over == **peer));
        let pairs = links.filter_map(|(peer, link)| Some((*peer, link.pair.as_ref()?)));
        pairs.flat_map(|(peer, pair)| pair.parking.lines().map(move |line| (peer, line))).collect()
    }

    fn arrived(&mut self, peer: PeerId, arrived: Arrived) {
        let Some(pair) = self.peers.get(&peer).and_then(|link| link.pair.as_ref()) else { return };
        let held_up = pair.parking.holds_up(arrived.origin, arrived.channel);
        if !held_up && self.missing(&arrived).is_none() {
            return self.deliver(arrived);
        }
        let Some(pair) = self.peers.get_mut(&peer).and_then(|link| link.pair.as_mut()) else { return };
        let line = pair.parking.push(arrived);
        let full = |session: &Self| session.peers.get(&peer)?.pair.as_ref()?.parking.overflow(line);
        while let Some(first) = full(self).and_then(|full| self.take_first(peer, full)) {
            if self.missing(&first) == Some(Missing::Origin) {
                return self.misbehaves(peer, "too many events of members that nobody knows");
            }
            self.deliver(first);
        }
    }

    fn release(&mut self, peer: PeerId, line: Line) {
        loop {
            let Some(pair) = self.peers.get(&peer).and_then(|link| link.pair.as_ref()) else { return };
            let Some(first) = pair.parking.first(line) else { return };
            match self.missing(first) {
                Some(Missing::Origin) => return,
                Some(Missing::Entity(_)) if self.now < first.until => return,
                _ => {}
            }
            if let Some(first) = self.take_first(peer, line) {
                self.deliver(first);
            }
        }
    }

    fn take_first(&mut self, peer: PeerId, line: Line) -> Option<Arrived> {
        self.peers.get_mut(&peer)?.pair.as_mut()?.parking.take_first(line)
    }

    /// What an event waits for.
    fn missing(&self, arrived: &Arrived) -> Option<Missing> {
        if self.roster.known(arrived.origin) == Known::NotYet {
            return Some(Missing::Origin);
        }
        let missing = arrived.about.iter().find(|about| !self.is_as_known(about));
        missing.map(|about| Missing::Entity(about.entity))
    }

    /// Whether we know of the entity what there is to be known of it first. What is gone, or our own, needs no waiting.
    fn is_as_known(&self, about: &About<TypeId>) -> bool {
        if self.is_gone(about.entity) {
            return true;
        }
        let Some(known) = self.store.get(about.entity) else { return false };
        let as_new = |(component, tick): &(TypeId, Tick)| {
            known.parts.get(component).is_some_and(|part| tick.since(part.tick) <= 0)
        };
        Some(known.owner) == self.member() || about.parts.iter().all(as_new)
    }

    /// Tells the game of an event, and of what it comes without.
    fn deliver(&mut self, arrived: Arrived) {
        let missing = self.missing(&arrived);
        let Arrived { origin, seen, about, event, value, .. } = arrived;
        let Some(from) =
            self.roster.peer(origin).or_else(|| self.leaving.filter(|(seat, _)| *seat == origin).map(|(_, peer)| peer))
        else {
            return;
        };
        let first = about.first().map(|about| about.entity);
        if let Some(entity) = first.filter(|entity| seen && !self.contains(*entity)) {
            return self.fact(Fact::Astray { from, event, entity, astray: Astray::Unseen });
        }
        if let Some(Missing::Entity(entity)) = missing {
            self.fact(Fact::Astray { from, event, entity, astray: Astray::Early });
        }
        self.fact(Fact::Event { from, event, value });
    }

    /// An event as it goes over one link, if the peer there knows its type.
    fn written(&self, peer: PeerId, route: Route, outgoing: Outgoing<'_>) -> Option<Bytes> {
        let Outgoing { event, about, seen, value } = outgoing;
        let link = self.peers.get(&peer)?;
        let (me, pair, types) = (self.member()?, link.pair.as_ref()?, link.types.as_ref()?);
        types.theirs(event)?;
        let passed_on = matches!(route, Route::Others | Route::Seers | Route::To(_));
        let about = about.iter().enumerate().filter_map(|(place, named)| {
            let keeps = passed_on || (seen && place == 0);
            let parts = match self.awaited(peer, named) {
                Some(parts) => parts,
                None if keeps => Vec::new(),
                None => return None,
            };
            let parts = parts.into_iter().filter(|(component, _)| types.theirs(*component).is_some());
            Some(About { entity: named.entity, parts: parts.map(|(component, tick)| (component.0, tick)).collect() })
        });
        let mut envelope = Envelope {
            tag: self.roster.id.pair_tag(me, pair.member),
            route,
            seen,
            about: about.collect(),
            tick: self.tick_now(),
            event: event.0,
            value,
        };
        let mut message = envelope.write();
        if self.channel(event) == Channel::Unreliable && message.len() > MAX_UNRELIABLE {
            envelope.about.iter_mut().for_each(|about| about.parts.clear());
            message = envelope.write();
        }
        Some(message)
    }

    /// What the peer may not know yet of an entity that an event is about, as we know it, and as who sent the event did.
    /// None if there is nothing to wait for.
    fn awaited(&self, peer: PeerId, named: &About<TypeId>) -> Option<Vec<(TypeId, Tick)>> {
        let About { entity, parts: before } = named;
        let pair = self.peers.get(&peer)?.pair.as_ref()?;
        let Some(known) = self.store.get(*entity) else {
            // That it is gone the peer may be yet to hear.
            let gone = self.is_gone(*entity).then(Vec::new);
            return gone.or_else(|| self.is_host().then(|| before.clone()));
        };
        let handing = pair.outbox.handing(*entity);
        if known.owner == pair.member && !handing {
            return None;
        }
        let mut parts = if self.tells(pair.member, known, handing) {
            pair.outbox.unknown(*entity, known)
        } else if self.is_guest() {
            // The host knows best.
            None
        } else {
            let (now, rate) = (self.tick_now(), self.config.tick_rate());
            let recent = |tick: Tick| f64::from(now.since(tick)) < RECENT * rate;
            let parts = known.parts.iter().filter(|(_, part)| part.version > 0 && recent(part.tick));
            Some(parts.map(|(component, part)| (*component, part.tick)).collect())
        };
        for (component, tick) in before {
            if known.parts.get(component).is_none_or(|part| tick.since(part.tick) > 0) {
                let parts = parts.get_or_insert_default();
                parts.retain(|(other, _)| other != component);
                parts.push((*component, *tick));
            }
        }
        if let Some(parts) = &mut parts {
            // The newest matter most.
            parts.sort_unstable_by_key(|(component, tick)| (core::cmp::Reverse(tick.0), *component));
            parts.truncate(MAX_PARTS);
        }
        parts
    }

    /// The channel that an event of ours takes.
    fn channel(&self, event: TypeId) -> Channel {
        self.channels.get(usize::from(event.0)).copied().unwrap_or(Channel::Events)
    }

    /// Those whom we are paired with, but for one.
    pub(super) fn paired(&self, but: Option<PeerId>) -> Vec<PeerId> {
        let paired = self.peers.iter().filter(|(peer, link)| link.pair.is_some() && Some(**peer) != but);
        paired.map(|(peer, _)| *peer).collect()
    }

    /// Those whom we are paired with who see an entity, as far as we know: who owns it, and whom we tell of it. Where
    /// others tell of it, whoever it comes to finds out. Of a guest, the host finds out.
    fn seers(&self, entity: NetId, but: Option<PeerId>) -> Vec<PeerId> {
        if self.is_gone(entity) {
            return Vec::new();
        }
        let mut peers = self.paired(but);
        let Some(known) = self.store.get(entity).filter(|_| !self.is_guest()) else { return peers };
        peers.retain(|peer| {
            let pair = self.peers.get(peer).and_then(|link| link.pair.as_ref());
            pair.is_some_and(|pair| {
                let told = self.tells(pair.member, known, pair.outbox.handing(entity));
                known.owner == pair.member || !told || pair.outbox.tells_of(entity)
            })
        });
        peers
    }
}

/// An event as the host would pass it on.
#[cfg(test)]
pub(super) fn forge(tag: u16, origin: MemberId, event: TypeId, value: &[u8]) -> Bytes {
    let (route, about) = (Route::Of(origin), Vec::new());
    Envelope { tag, route, seen: false, about, tick: Tick(0), event: event.0, value }.write()
}
