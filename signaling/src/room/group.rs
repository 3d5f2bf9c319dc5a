//! Who is in a room together, who leads, and who is told what when that changes?
//!
//! A room has one group, or with `?next=N` one for each N peers that came. A group is no task and knows no socket: it
//! changes in one turn, and what it has to say goes into the [`Outbox`]es of its members.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use coplay_proto::{
    PeerId, Term, Topology,
    signal::{
        IceServer, Leader, ServerMessage, SignalError, Welcome,
        lobby::Lobby,
        relay::{FrameKind, RelayOffer},
    },
};
use tokio::time::Instant;

use crate::{
    firewall::{Dropped, Handshakes, Kind},
    identity::IdSecret,
    peer::outbox::Outbox,
    relay::{self, Unrelayed},
    wire,
};

/// The highest term that a peer is believed to have led in. Room is left for as many leaders more.
const MAX_LED: Term = Term(u32::MAX / 2);

/// Where a newcomer has its id from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identity {
    /// From here: the secret of it is to be told, to the peer alone.
    Drawn(IdSecret),
    /// It had it before, which it has proven.
    Proven {
        /// The term in which it led this room, before the server began, if that still counts.
        led: Option<Term>,
    },
}

/// A peer that wants to come in.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) peer: PeerId,
    pub(crate) identity: Identity,
    /// Whether it asked for coplay's subprotocol.
    pub(crate) coplay: bool,
    /// Whether it takes relayed frames, of a server that passes them on.
    pub(crate) relays: bool,
    /// What its welcome is to say about ICE servers.
    pub(crate) ice_servers: Vec<IceServer>,
    /// The topology it insists on.
    pub(crate) topology: Option<Topology>,
    /// From where it comes, if that is known.
    pub(crate) from: Option<IpAddr>,
    pub(crate) outbox: Outbox,
}

/// What a welcome says besides who is there.
#[derive(Debug, Default)]
pub(crate) struct Greeting<'a> {
    pub(crate) room: &'a str,
    pub(crate) lobby: Option<Lobby>,
    pub(crate) resume: Option<String>,
    pub(crate) secret: Option<String>,
    pub(crate) resumed: bool,
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) relay: Option<RelayOffer>,
}

impl Newcomer {
    /// The id that it has proven.
    pub(crate) fn proven(&self) -> Option<PeerId> {
        matches!(self.identity, Identity::Proven { .. }).then_some(self.peer)
    }
}

#[derive(Debug)]
struct Member {
    peer: PeerId,
    /// Tells this membership from one that the same peer had before. See [`Seat`](super::Seat).
    arrival: u32,
    coplay: bool,
    relays: bool,
    from: Option<IpAddr>,
    outbox: Outbox,
    /// Whether it was made an offer or made one, or whatever else connects two.
    met: bool,
}

impl Member {
    fn say(&self, message: &ServerMessage, slow: &mut Vec<PeerId>) {
        self.push(wire::say(message), slow);
    }

    fn push(&self, frame: Utf8Bytes, slow: &mut Vec<PeerId>) {
        if self.outbox.push(frame).is_err() {
            slow.push(self.peer);
        }
    }
}

/// The members in the order of arrival, but for one that led before and leads again; the first leads.
#[derive(Debug)]
pub(crate) struct Group {
    topology: Topology,
    /// How many were asked for at most.
    max: Option<u32>,
    /// How many there can be.
    capacity: u32,
    /// How many there could be at first: so many seats are given to others, whatever the leader says later.
    size: u32,
    members: Vec<Member>,
    term: Term,
    /// In which term the leader led before the server began, by its own word; 0 if it did not say so.
    led: Term,
    handshakes: Handshakes,
    /// The pairs that relay, the lower id first.
    relayed: BTreeSet<(PeerId, PeerId)>,
    /// Those who did not keep up; they are gone before the turn ends.
    slow: Vec<PeerId>,
    /// How many went before they met anybody, and were not replaced.
    lost: u32,
    /// When members began to connect, or after that somebody came last.
    begun: Option<Instant>,
}

impl Group {
    pub(crate) fn new(topology: Topology, max: Option<u32>, capacity: u32) -> Self {
        Self {
            topology,
            max,
            capacity,
            size: capacity,
            members: Vec::new(),
            term: Term(1),
            led: Term(0),
            handshakes: Handshakes::default(),
            relayed: BTreeSet::new(),
            slow: Vec::new(),
            lost: 0,
            begun: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.members.len() >= self.capacity as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn has(&self, peer: PeerId) -> bool {
        self.members.iter().any(|member| member.peer == peer)
    }

    /// Whether a peer is a member since that arrival of it.
    pub(crate) fn has_since(&self, peer: PeerId, arrival: u32) -> bool {
        self.members.iter().any(|member| member.peer == peer && member.arrival == arrival)
    }

    /// Whether a member takes relayed frames.
    pub(crate) fn relays(&self, peer: PeerId) -> bool {
        self.members.iter().any(|member| member.peer == peer && member.relays)
    }

    /// Since which arrival of it a peer is a member.
    pub(crate) fn arrival(&self, peer: PeerId) -> u32 {
        self.members.iter().find(|member| member.peer == peer).map_or(0, |member| member.arrival)
    }

    pub(crate) fn is_led_by(&self, peer: PeerId) -> bool {
        self.members.first().is_some_and(|member| member.peer == peer)
    }

    pub(crate) fn topology(&self) -> Topology {
        self.topology
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many there can be from now on. Who is in stays.
    pub(crate) fn set_max(&mut self, max: u32) {
        (self.max, self.capacity) = (Some(max), max);
    }

    /// How many seats are free because somebody went before they met anybody: with who gets them there are no more than
    /// there could be at first. `kept` is for how long that counts once others have met.
    pub(crate) fn vacant(&self, now: Instant, kept: Duration) -> u32 {
        let is_late = self.begun.is_some_and(|begun| now.saturating_duration_since(begun) >= kept);
        if is_late { 0 } else { self.lost.min(self.free()).min(self.short()) }
    }

    /// Nobody who is gone is to be replaced.
    pub(crate) fn forget_lost(&mut self) {
        self.lost = 0;
    }

    /// Members connect, from now on.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.begun.get_or_insert(now);
    }

    /// Somebody came.
    pub(crate) fn came(&mut self, now: Instant) {
        self.begun = self.begun.map(|_| now);
    }

    /// Whether a peer fits in, if need be in the place that it has.
    fn has_room_for(&self, newcomer: &Newcomer) -> Result<(), SignalError> {
        if let Some(asked) = newcomer.topology
            && asked != self.topology
        {
            return Err(SignalError::TopologyDiffers { room: self.topology, asked });
        }
        let others = self.members.iter().filter(|member| member.peer != newcomer.peer).count();
        if others >= self.capacity as usize {
            return Err(SignalError::RoomFull { max: self.capacity });
        }
        Ok(())
    }

    /// Takes a peer in and greets it; those it is to be connected with hear of it, and make the offers. One that leads again
    /// makes them itself.
    pub(crate) fn admit(
        &mut self,
        newcomer: Newcomer,
        arrival: u32,
        greeting: Greeting<'_>,
    ) -> Result<(), SignalError> {
        self.has_room_for(&newcomer)?;
        // One that is here already, and keeps no seat, may be thought to be well on the WebSocket that it had before.
        self.dismiss(newcomer.peer, SignalError::SeatGone);
        let Newcomer { peer: me, identity, coplay, relays, ice_servers, from, outbox, .. } = newcomer;
        self.members.push(Member { peer: me, arrival, coplay, relays, from, outbox, met: false });
        self.lost = self.lost.saturating_sub(1).min(self.free()).min(self.short());
        let (secret, led) = match identity {
            Identity::Drawn(secret) => (Some(secret.text()), None),
            Identity::Proven { led } => (None, led.map(|led| led.min(MAX_LED)).filter(|led| *led > self.led)),
        };
        if let Some(led) = led {
            (self.led, self.term) = (led, Term(self.term.max(led).0.saturating_add(1)));
            self.members.rotate_right(1);
        }
        let greeting = match coplay {
            true => self.welcome(me, Greeting { ice_servers, secret, ..greeting }),
            false => ServerMessage::IdAssigned(me),
        };
        if led.is_some() {
            self.lead_again(&greeting);
            self.drop_slow();
            return Ok(());
        }
        let last = self.members.len() - 1;
        for (at, member) in self.members.iter().enumerate() {
            if at == last {
                member.say(&greeting, &mut self.slow);
            } else if self.paired(at, last) {
                member.say(&ServerMessage::NewPeer(me), &mut self.slow);
            }
        }
        self.drop_slow();
        Ok(())
    }

    /// How a member with the subprotocol is received.
    pub(crate) fn welcome(&self, me: PeerId, greeting: Greeting<'_>) -> ServerMessage {
        let Greeting { room, lobby, resume, secret, resumed, ice_servers, relay } = greeting;
        ServerMessage::Welcome(Box::new(Welcome {
            me,
            room: room.to_owned(),
            topology: self.topology,
            members: self.members.iter().map(|member| member.peer).collect(),
            leader: self.leader().unwrap_or(Leader { peer: me, term: self.term }),
            max: self.max,
            ice_servers,
            resume,
            secret,
            resumed,
            lobby: lobby.map(Box::new),
            relay,
        }))
    }

    /// Says something to one member, if it has the subprotocol.
    pub(crate) fn tell(&mut self, peer: PeerId, message: &ServerMessage) {
        if let Some(member) = self.members.iter().find(|member| member.peer == peer && member.coplay) {
            member.say(message, &mut self.slow);
        }
        self.drop_slow();
    }

    /// Says something to all members that have the subprotocol.
    pub(crate) fn tell_all(&mut self, message: &ServerMessage) {
        let frame = wire::say(message);
        for member in self.members.iter().filter(|member| member.coplay) {
            member.push(frame.clone(), &mut self.slow);
        }
        self.drop_slow();
    }

    /// Removes a member and tells it why, and the others that it did not go by itself; but not the leader, who had that
    /// done, and may have something to say to the member before it closes its link. Returns from where it came; `None`
    /// if it is no member.
    pub(crate) fn kick(&mut self, peer: PeerId, why: SignalError) -> Option<Option<IpAddr>> {
        let member = self.members.iter_mut().find(|member| member.peer == peer)?;
        member.outbox.dismiss(why);
        // The leader wants nobody else for it.
        member.met = true;
        let from = member.from;
        for member in self.members.iter().skip(1).filter(|member| member.coplay && member.peer != peer) {
            member.say(&ServerMessage::Kicked(peer), &mut self.slow);
        }
        self.remove(peer);
        self.drop_slow();
        Some(from)
    }

    /// Lets a member go, and tells it why.
    fn dismiss(&mut self, peer: PeerId, why: SignalError) {
        if let Some(member) = self.members.iter_mut().find(|member| member.peer == peer) {
            member.outbox.dismiss(why);
            self.leave(peer);
        }
    }

    /// Lets a member go. If it led, the longest member leads from now on; in a host room that one then meets the others.
    pub(crate) fn leave(&mut self, peer: PeerId) {
        self.remove(peer);
        self.drop_slow();
    }

    /// Passes a frame on between two members that are to be connected, if it is one's turn to send such a one. Otherwise
    /// it is dropped without a word: the other may just have left, and who is in which room is nobody else's business.
    pub(crate) fn forward(&mut self, from: PeerId, to: PeerId, kind: Kind, frame: Utf8Bytes) -> Result<(), Dropped> {
        let place = |peer| self.members.iter().position(|member| member.peer == peer);
        let introduced = place(from).zip(place(to)).filter(|(from, to)| self.paired(*from, *to));
        let (from_at, to_at) = introduced.ok_or(Dropped::Stranger)?;
        // Who came first was told of the other, and makes the offer.
        self.handshakes.admit(from, to, from_at < to_at, kind)?;
        if matches!(kind, Kind::Offer | Kind::Opaque) {
            self.meet(from_at, to_at);
        }
        let Some(member) = self.members.get(to_at) else { return Err(Dropped::Stranger) };
        let passed = match kind {
            Kind::Candidate => member.outbox.push_if_ample(frame).map_err(|_| Dropped::Slow),
            _ => {
                member.push(frame, &mut self.slow);
                Ok(())
            }
        };
        self.drop_slow();
        passed
    }

    /// Relays a frame between two members that are to be connected and take such. Returns how many of the receiver's were
    /// dropped for it, this one perhaps, and whether it is the first of the pair.
    pub(crate) fn relay(
        &mut self,
        from: PeerId,
        to: PeerId,
        kind: FrameKind,
        frame: Bytes,
    ) -> Result<(usize, bool), Unrelayed> {
        let place = |peer| self.members.iter().position(|member| member.peer == peer && member.relays);
        let paired = place(from).zip(place(to)).filter(|(from, to)| self.paired(*from, *to));
        match paired.and_then(|(from_at, to_at)| Some((from_at, to_at, self.members.get(to_at)?))) {
            Some((from_at, to_at, member)) => {
                let first = kind != FrameKind::Hello && self.relayed.insert((from.min(to), from.max(to)));
                let dropped = member.outbox.relayed.push(kind, frame);
                if first {
                    self.meet(from_at, to_at);
                }
                Ok((dropped, first))
            }
            None => {
                // Who asks learns that it is of no use, whatever the reason is.
                if let Some(member) = place(from).and_then(|at| self.members.get(at))
                    && kind == FrameKind::Hello
                {
                    member.outbox.relayed.push(FrameKind::Refused, relay::refused(to));
                }
                Err(Unrelayed::Stranger)
            }
        }
    }

    /// The first is new, and leads. In a host room those who were connected with the leader before are that no more; whom
    /// it is to be connected with, it offers to.
    fn lead_again(&mut self, greeting: &ServerMessage) {
        let (Some(leader), [first, others @ ..]) = (self.leader(), self.members.as_slice()) else { return };
        first.say(greeting, &mut self.slow);
        tracing::debug!(leader = %leader.peer, term = leader.term.0, "a peer that led before leads again");
        if let ([before, rest @ ..], Topology::Host) = (others, self.topology) {
            for member in rest {
                before.say(&ServerMessage::PeerLeft(member.peer), &mut self.slow);
                member.say(&ServerMessage::PeerLeft(before.peer), &mut self.slow);
            }
        }
        for member in others {
            if member.coplay {
                member.say(&ServerMessage::Leader(leader), &mut self.slow);
            }
            first.say(&ServerMessage::NewPeer(member.peer), &mut self.slow);
        }
    }

    fn leader(&self) -> Option<Leader> {
        self.members.first().map(|member| Leader { peer: member.peer, term: self.term })
    }

    fn free(&self) -> u32 {
        self.capacity.saturating_sub(u32::try_from(self.members.len()).unwrap_or(u32::MAX))
    }

    /// How many fewer there are than there could be at first.
    fn short(&self) -> u32 {
        self.size.saturating_sub(u32::try_from(self.members.len()).unwrap_or(u32::MAX))
    }

    /// The members at two places have met.
    fn meet(&mut self, one: usize, other: usize) {
        for at in [one, other] {
            if let Some(member) = self.members.get_mut(at) {
                member.met = true;
            }
        }
    }

    /// Whether the members at two places are to be connected.
    fn paired(&self, one: usize, other: usize) -> bool {
        one != other && (self.topology == Topology::Mesh || one == 0 || other == 0)
    }

    fn remove(&mut self, peer: PeerId) {
        let Some(place) = self.members.iter().position(|member| member.peer == peer) else { return };
        for (at, member) in self.members.iter().enumerate() {
            if self.paired(at, place) {
                member.say(&ServerMessage::PeerLeft(peer), &mut self.slow);
            }
        }
        let gone = self.members.remove(place);
        // A seat that the leader added is none that somebody waits for.
        self.lost = self.lost.saturating_add(u32::from(!gone.met && self.short() > 0));
        self.handshakes.forget(peer);
        self.relayed.retain(|(one, other)| *one != peer && *other != peer);
        if place > 0 {
            return;
        }
        (self.term.0, self.led) = (self.term.0.saturating_add(1), Term(0));
        let Some(leader) = self.leader() else { return };
        tracing::debug!(leader = %leader.peer, term = leader.term.0, "another leads");
        for member in self.members.iter().filter(|member| member.coplay) {
            member.say(&ServerMessage::Leader(leader), &mut self.slow);
        }
        if self.topology == Topology::Host
            && let [leader, others @ ..] = self.members.as_slice()
        {
            for member in others {
                leader.say(&ServerMessage::NewPeer(member.peer), &mut self.slow);
            }
        }
    }

    /// Lets those go who did not keep up, which may be too much for the next.
    fn drop_slow(&mut self) {
        while let Some(peer) = self.slow.pop() {
            tracing::debug!(%peer, "a peer does not read what it is sent");
            self.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests;
