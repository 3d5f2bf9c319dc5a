//! What is known of the peer at the other end of a link, and what comes and goes over it.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{
    DisconnectReason, Fact, Output, SendError, Session, Standing,
    config::{HANDSHAKE_TIMEOUT, HELD_OVERHEAD, MAX_HELD_BYTES, MAX_HELD_FRAMES, MAX_LINKS},
    control::{self, Control},
    inbox::Inbox,
    membership::SessionInfo,
    outbox::{Outbox, Source},
    parking::Parking,
    send_queue::SendQueue,
    store::Entity,
};
use crate::{
    Channel, MemberId, NetId, PeerId, Topology,
    link::{CloseReason, FIRST_RATE, LinkEvent, UNRELIABLE_QUEUE},
    schema::TypeMap,
};

/// The other end of a link.
#[derive(Debug)]
pub(super) struct Peer {
    /// The how-manieth link of ours this is.
    pub(super) generation: u32,
    opened: Duration,
    /// How it names what both share: known once it has greeted.
    pub(super) types: Option<TypeMap>,
    /// The session that it says it is in.
    pub(super) info: Option<SessionInfo>,
    /// The session that we told it we are in.
    pub(super) told: Option<SessionInfo>,
    pub(super) rtt: Duration,
    /// Bytes of state a second that its path has room for.
    budget: u32,
    pub(super) silent: bool,
    pub(super) queue: SendQueue,
    /// There once both are members and know it.
    pub(super) pair: Option<Pair>,
    held: VecDeque<Held>,
    held_bytes: usize,
    held_frames: usize,
}

/// What two members tell each other over their link.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) member: MemberId,
    /// Whether the peer has shown that it knows of us as well.
    pub(super) met: bool,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    /// Entities that we do not know, and that the peer says are gone, with the frame in which it said so: what it
    /// said of them earlier may come later.
    pub(super) ended: BTreeMap<NetId, u32>,
    /// Events that wait for members or entities, and what is to come after them.
    pub(super) parking: Parking,
}

/// What came from a member before we knew that it is one.
#[derive(Debug)]
enum Held {
    Frame(Bytes),
    Control(u16, Control),
    Event(Channel, Bytes),
}

/// Who tells whom of what.
#[derive(Clone, Copy, Debug)]
struct Teller {
    me: Option<MemberId>,
    host: bool,
    guest: bool,
}

impl Teller {
    /// Whether we tell this member of the entity; `handing`: it is being given it.
    fn tells(self, member: MemberId, entity: &Entity, handing: bool) -> bool {
        if self.host {
            entity.owner != member || handing
        } else {
            Some(entity.owner) == self.me || (entity.released && (self.guest || entity.owner == member))
        }
    }
}

impl Session {
    pub(super) fn link(&mut self, peer: PeerId, event: LinkEvent) {
        if matches!(event, LinkEvent::Opened) {
            return self.opened(peer);
        }
        let host = self.is_host();
        let Some(link) = self.peers.get_mut(&peer) else {
            if let LinkEvent::Closed(reason) = event {
                self.unreachable(peer, reason);
            }
            return;
        };
        let paired = link.pair.is_some();
        match event {
            LinkEvent::Opened => {}
            LinkEvent::State(frame) if paired => self.frame(peer, &frame),
            LinkEvent::State(frame) => self.hold(peer, frame.len(), Held::Frame(frame)),
            LinkEvent::Message(Channel::Control, message) => self.control(peer, &message),
            LinkEvent::Message(channel, message) if paired => self.event(peer, channel, &message),
            // A host lets in whom it pairs with, in one: what came before cannot be for this session.
            LinkEvent::Message(..) if host => {}
            LinkEvent::Message(channel, message) => self.hold(peer, message.len(), Held::Event(channel, message)),
            LinkEvent::Unresponsive | LinkEvent::Responsive => {
                let silent = matches!(event, LinkEvent::Unresponsive);
                link.silent = silent;
                if paired {
                    self.fact(Fact::Responsive(peer, !silent));
                }
            }
            LinkEvent::Figures(figures) => {
                link.rtt = figures.rtt;
                link.budget = figures.budget;
            }
            LinkEvent::Closed(reason) => self.link_closed(peer, reason),
        }
    }

    /// Sends what is due over all links.
    pub(super) fn flush(&mut self) {
        let Some(me) = self.member() else { return };
        let (leads, teller) = (self.is_leader(), self.teller());
        let ticks = self.clock.ticks(self.now);
        for (peer, link) in &mut self.peers {
            let (Some(pair), Some(types)) = (&mut link.pair, &link.types) else { continue };
            if link.silent {
                continue;
            }
            pair.outbox.judge(self.now, link.rtt);
            let member = pair.member;
            let tells = move |entity: &Entity, handing: bool| teller.tells(member, entity, handing);
            let source = Source {
                now: self.now,
                store: &self.store,
                types,
                tells: &tells,
                tag: self.roster.id.pair_tag(me, member),
                tick: crate::Tick(ticks as u32),
                fraction: leads.then(|| (ticks.fract() * 256.0) as u8),
                budget: f64::from(self.config.budget.min(link.budget)),
            };
            let frames = pair.outbox.flush(&source, &mut pair.inbox);
            self.out.extend(frames.into_iter().map(|frame| Output::State(*peer, frame)));
        }
    }

    /// Says something on the control channel.
    pub(super) fn say(&mut self, peer: PeerId, control: &Control) {
        let tag = match (control, self.member(), self.roster.member(peer)) {
            (
                Control::Lost(_) | Control::Tombstones(_) | Control::Grant(..) | Control::Want(_),
                Some(me),
                Some(member),
            ) => self.roster.id.pair_tag(me, member),
            _ => self.tag(),
        };
        let message = control::encode(tag, control);
        self.hand(peer, Channel::Control, message.into());
    }

    /// Gives a message to the link.
    pub(super) fn hand(&mut self, peer: PeerId, channel: Channel, message: Bytes) {
        if let Some(link) = self.peers.get_mut(&peer) {
            if channel == Channel::Unreliable {
                link.queue.handed_fleeting(message.len());
            } else {
                link.queue.handed(message.len());
            }
        }
        self.out.push_back(Output::Message(peer, channel, message));
    }

    /// Whether a message of the game finds room in the queue of this peer.
    pub(super) fn has_room(&self, peer: PeerId, channel: Channel, size: usize) -> Result<(), SendError> {
        let Some(link) = self.peers.get(&peer) else { return Ok(()) };
        if channel == Channel::Unreliable {
            let full = SendError::QueueFull { peer, limit: UNRELIABLE_QUEUE };
            return if link.queue.fits_fleeting(size) { Ok(()) } else { Err(full) };
        }
        let limit = self.config.send_queue;
        if link.queue.fits(size, limit) { Ok(()) } else { Err(SendError::QueueFull { peer, limit }) }
    }

    /// So many bytes wait for the peer.
    pub(super) fn waits(&mut self, peer: PeerId, bytes: usize) {
        let now = self.now;
        // While little waits nobody is held up, and its game may only be in the background.
        let pressed = bytes > self.config.send_queue / 2;
        let Some(link) = self.peers.get_mut(&peer) else { return };
        link.queue.report(now, bytes, pressed && !link.silent);
        if link.queue.is_stalled() {
            self.too_slow(peer);
        }
    }

    /// Whether it is we who tell this member of the entity; `handing`: it is being given it.
    pub(super) fn tells(&self, member: MemberId, entity: &Entity, handing: bool) -> bool {
        self.teller().tells(member, entity, handing)
    }

    fn teller(&self) -> Teller {
        Teller { me: self.member(), host: self.is_host(), guest: self.is_guest() }
    }

    /// Says something to all members that we are paired with, but to this one.
    pub(super) fn say_all(&mut self, control: &Control, but: Option<PeerId>) {
        for peer in self.paired(but) {
            self.say(peer, control);
        }
    }

    /// Both are members: from now on state and events flow. Does nothing until all that it takes is there.
    pub(super) fn pair(&mut self, peer: PeerId) {
        let (Some(_), Some(member)) = (self.member(), self.roster.member(peer)) else { return };
        let partners = self.config.topology == Topology::Mesh || self.is_leader() || self.leader() == Some(peer);
        let Some(link) = self.peers.get_mut(&peer) else { return };
        if !partners || link.types.is_none() || link.pair.is_some() {
            return;
        }
        let mut outbox = Outbox::default();
        for (entity, known) in self.store.iter() {
            if known.released && known.owner == member {
                // It did not hear of everything that it was given when the link was lost.
                outbox.renew(entity, true);
            } else {
                outbox.touch(entity);
            }
        }
        link.pair = Some(Pair {
            member,
            met: false,
            outbox,
            inbox: Inbox::default(),
            ended: BTreeMap::new(),
            parking: Parking::default(),
        });
        let again = self.joined.contains(&peer);
        self.joined(peer, member);
        if let Some(roster) = self.roster.to_wire().filter(|_| again && self.is_leader()) {
            self.say(peer, &Control::Roster(roster));
        }
        // At least one, though it may be empty: it shows that we know of the peer.
        let mut pieces = self.store.tombstones.pieces(control::MAX_TOMBSTONES);
        pieces.resize(pieces.len().max(1), Vec::new());
        for piece in pieces {
            self.say(peer, &Control::Tombstones(piece));
        }
        self.want_granted(peer, member);
        self.take_held(peer);
    }

    /// The tag of what this peer says to us as a member to another.
    pub(super) fn tag_from(&self, peer: PeerId) -> Option<u16> {
        let pair = self.peers.get(&peer)?.pair.as_ref()?;
        Some(self.roster.id.pair_tag(pair.member, self.member()?))
    }

    /// The peer has shown that it knows of us as a member.
    pub(super) fn met(&mut self, peer: PeerId) {
        if let Some(pair) = self.peers.get_mut(&peer).and_then(|link| link.pair.as_mut())
            && !pair.met
        {
            pair.met = true;
            self.succession.linked(pair.member);
        }
    }

    pub(super) fn has_met(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).and_then(|link| link.pair.as_ref()).is_some_and(|pair| pair.met)
    }

    /// Tells the game of a member, once.
    pub(super) fn joined(&mut self, peer: PeerId, member: MemberId) {
        let fact = if self.joined.insert(peer) { Fact::Joined { peer, member } } else { Fact::Responsive(peer, true) };
        self.fact(fact);
    }

    /// Takes what came from the peer before it joined.
    pub(super) fn take_held(&mut self, peer: PeerId) {
        let Some(link) = self.peers.get_mut(&peer) else { return };
        (link.held_bytes, link.held_frames) = (0, 0);
        for held in core::mem::take(&mut link.held) {
            if self.peers.get(&peer).is_none_or(|link| link.pair.is_none()) {
                return;
            }
            match held {
                Held::Frame(frame) => self.frame(peer, &frame),
                Held::Control(tag, control) => self.pair_control(peer, tag, control),
                Held::Event(channel, message) => self.event(peer, channel, &message),
            }
        }
    }

    /// Keeps a message of a peer that is about to join.
    pub(super) fn hold_control(&mut self, peer: PeerId, size: usize, tag: u16, control: Control) {
        self.hold(peer, size, Held::Control(tag, control));
    }

    fn hold(&mut self, peer: PeerId, size: usize, held: Held) {
        let Some(link) = self.peers.get_mut(&peer) else { return };
        if matches!(held, Held::Frame(_)) {
            if link.held_frames == MAX_HELD_FRAMES {
                // Not acked, so that it is sent again.
                return;
            }
            link.held_frames += 1;
        }
        link.held_bytes += size + HELD_OVERHEAD;
        link.held.push_back(held);
        if link.held_bytes > MAX_HELD_BYTES {
            self.misbehaves(peer, "more than can be kept of a peer that is no member");
        }
    }

    /// The peer is turned away, or has left: nothing that it says counts any more. What it was told before it still
    /// hears; the link sees to that.
    pub(super) fn end_link(&mut self, peer: PeerId, reason: DisconnectReason) {
        if self.peers.remove(&peer).is_some() {
            self.out.push_back(Output::Disconnect(peer, reason));
        }
    }

    /// The peer broke the protocol: its link is closed at once.
    pub(super) fn misbehaves(&mut self, peer: PeerId, what: &'static str) {
        if self.peers.contains_key(&peer) {
            self.drop_link(peer, DisconnectReason::Malformed(what));
        }
    }

    /// What is due by time on the links.
    pub(super) fn links_elapsed(&mut self) {
        let late = |link: &Peer| link.types.is_none() && link.opened + HANDSHAKE_TIMEOUT <= self.now;
        let silent: Vec<PeerId> = self.peers.iter().filter(|(_, link)| late(link)).map(|(peer, _)| *peer).collect();
        for peer in silent {
            self.drop_link(peer, DisconnectReason::NoHandshake);
        }
    }

    fn opened(&mut self, peer: PeerId) {
        if self.peers.contains_key(&peer) {
            // Opened anew, and nobody said that it closed.
            self.link_closed(peer, CloseReason::Failed("the link was opened anew".into()));
        }
        if self.standing == Standing::Closed || self.peers.len() >= MAX_LINKS || Some(peer) == self.me {
            return self.out.push_back(Output::Disconnect(peer, DisconnectReason::Local));
        }
        let told = self.member().and_then(|_| self.roster.info());
        self.generations += 1;
        let link = Peer {
            generation: self.generations,
            opened: self.now,
            types: None,
            info: None,
            told,
            rtt: Duration::ZERO,
            budget: FIRST_RATE,
            silent: false,
            queue: SendQueue::new(self.now),
            pair: None,
            held: VecDeque::new(),
            held_bytes: 0,
            held_frames: 0,
        };
        self.peers.insert(peer, link);
        self.greet(peer, told);
    }

    /// Closes a link from here, for a reason that lies with the peer.
    pub(super) fn drop_link(&mut self, peer: PeerId, reason: DisconnectReason) {
        if self.roster.member(peer).is_none() {
            self.fact(Fact::Refused(peer, reason.clone()));
        }
        self.out.push_back(Output::Disconnect(peer, reason.clone()));
        self.lost(peer, false, reason);
    }

    /// A link could not be opened at all.
    fn unreachable(&mut self, peer: PeerId, reason: CloseReason) {
        if matches!(self.standing, Standing::Seeking { .. }) && self.depends_on(peer) {
            self.close(DisconnectReason::Link(reason));
        }
    }

    fn link_closed(&mut self, peer: PeerId, reason: CloseReason) {
        let goodbye = reason == CloseReason::Goodbye;
        let reason = if goodbye { DisconnectReason::Goodbye } else { DisconnectReason::Link(reason) };
        self.lost(peer, goodbye, reason);
    }
}
